"""From detections to hidden faces: masks, tiles, unions of detectors, and the class that joins them to an obfuscator."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from faceblur_core.closeups import joined
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.tiling import check_tile_size, tiles_of
from faceblur_core.types import (
    Anonymized,
    Detections,
    Detector,
    Floats,
    HasModelFiles,
    HasNetwork,
    Image,
    Mask,
    Obfuscator,
    box_iou,
    option,
)

TILE_EDGE = 0.15  #: a box within this share of its size of a tile's side may be a face that the tile cuts
LARGE = 0.5  #: longer side of a box from which on it counts in the look with a border, as a share of the image's
SAME_FACE = 0.3  #: boxes of the two looks that overlap more than this (intersection over union) are one face
BORDER_GREY = 114  #: value of the border, about the middle
MOST = 4_000_000  #: pixels of an image with its border
EDGE = 0.02  #: a box within this share of its size of the image's edge belongs to a face that is cut off there


@dataclass(frozen=True)
class MaskShape:
    """How boxes become a mask.

    A box of width w and height h about (cx, cy) becomes the ellipse (or rectangle) about the same centre with the
    axes ``grow * w`` and ``grow * h``. Inside it the mask is 1; outside it falls to 0 over ``feather / 2`` times the
    axes. Where a box ends at the image's edge, the face goes on beyond it: there the outline runs straight to the edge.
    One that ends at two adjoining edges becomes a rectangle: an ellipse would leave the image's corner open.
    A detector's pixel mask is taken as it is.
    """

    shape: Literal["ellipse", "rectangle"] = option("ellipse", "outline of what is hidden")
    grow: Annotated[float, Ge(1), Le(5)] = option(1.4, "1.4 hides 1.4 times the box's width and height")
    feather: Annotated[float, Ge(0), Le(1)] = option(0.1, "soft edge outside that, as a share of the grown size")

    def __call__(self, detections: Detections, height: int, width: int) -> Mask:
        """Return the H x W mask of all detections."""
        mask = np.zeros((height, width), np.float32) if detections.mask is None else detections.mask.copy()
        if detections.mask is None:
            for box in detections.boxes:
                self._add(mask, box)
        return mask

    def _add(self, mask: Mask, box: Floats) -> None:
        height, width = mask.shape
        x1, y1, x2, y2 = (float(value) for value in box)
        if x2 - x1 < 1e-3 or y2 - y1 < 1e-3:
            return
        cx, cy, rx, ry = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2 * self.grow, (y2 - y1) / 2 * self.grow
        soft = 1 + self.feather
        left, right = (max(0, int(np.floor(cx - rx * soft))), min(width, int(np.ceil(cx + rx * soft))))
        top, bottom = (max(0, int(np.floor(cy - ry * soft))), min(height, int(np.ceil(cy + ry * soft))))
        if left >= right or top >= bottom:
            return
        dx: Floats = ((np.arange(left, right) + 0.5 - cx) / rx).astype(np.float32)
        dy: Floats = ((np.arange(top, bottom) + 0.5 - cy) / ry).astype(np.float32)
        near_x, near_y = EDGE * (x2 - x1), EDGE * (y2 - y1)
        cut_x, cut_y = (x1 <= near_x, x2 >= width - near_x), (y1 <= near_y, y2 >= height - near_y)
        dx, dy = _towards_edges(dx, *cut_x), _towards_edges(dy, *cut_y)
        round_ = self.shape == "ellipse" and not (any(cut_x) and any(cut_y))
        alpha = np.sqrt(np.add.outer(dy**2, dx**2)) if round_ else np.maximum.outer(np.abs(dy), np.abs(dx))
        feather = max(self.feather, 1e-6)  # 0 means a hard edge
        np.subtract(1 + feather, alpha, out=alpha)  # in place from here on: a face can fill a large photo
        alpha /= feather
        np.clip(alpha, 0, 1, out=alpha)
        region = mask[top:bottom, left:right]
        np.maximum(region, alpha, out=region)


def _towards_edges(offsets: Floats, cut_low: bool, cut_high: bool) -> Floats:
    """Return the offsets from the centre with those on a cut-off side set to 0: the outline does not close there."""
    if cut_low:
        offsets = np.maximum(offsets, 0)
    if cut_high:
        offsets = np.minimum(offsets, 0)
    return offsets


@dataclass(frozen=True)
class Tiling:
    """How a large image is cut up for a detector, so that small faces in it are found."""

    size: Annotated[int, Ge(0)] = option(0, "side of the tiles in pixels, beside the whole image; 0: no tiles")
    overlap: Annotated[float, Ge(0), Lt(0.9)] = option(0.25, "overlap of neighbouring tiles, as a share of their side")
    iou: Annotated[float, Gt(0), Le(1)] = option(0.3, "boxes that overlap more than this are one face")

    def __post_init__(self) -> None:
        check_tile_size(self.size, "tile.size")

    def tiles(self, height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield x1, y1, x2, y2 of tiles that cover the image; none if it is no larger than one tile."""
        return tiles_of(height, width, self.size, self.overlap)


class AroundDetector:
    """What is a detector by another one: their files are the same, and they are closed together."""

    detector: Detector

    @property
    def model_files(self) -> list[Path]:
        return model_files(self.detector)

    def close(self) -> None:
        close(self.detector)


@dataclass(frozen=True)
class TiledDetector(AroundDetector):
    """A detector run on the whole image and on overlapping tiles of it, merged by non-maximum suppression."""

    detector: Detector
    tiling: Tiling
    mask: MaskShape = field(default_factory=MaskShape)  #: for boxes, where another tile gives pixels

    def __call__(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        whole = self.detector(image)
        tiles = list(self.tiling.tiles(height, width))
        if not tiles:
            return whole
        parts = [self.detector(np.ascontiguousarray(image[y1:y2, x1:x2])) for x1, y1, x2, y2 in tiles]
        found = [part.shifted(tile[0], tile[1]) for part, tile in zip(parts, tiles, strict=True)]
        cut = [_cut_by_tile(part.boxes, tile, height, width) for part, tile in zip(found, tiles, strict=True)]
        everything = Detections.concat([dataclasses.replace(whole, mask=None), *found])
        merged = _merge(everything, np.concatenate([np.zeros(len(whole), bool), *cut]), self.tiling.iou)
        if whole.mask is None and all(part.mask is None for part in parts):
            return merged
        mask = self.mask(whole, height, width)
        for part, (x1, y1, x2, y2) in zip(parts, tiles, strict=True):
            np.maximum(mask[y1:y2, x1:x2], self.mask(part, y2 - y1, x2 - x1), out=mask[y1:y2, x1:x2])
        return dataclasses.replace(merged, mask=mask)


def _cut_by_tile(boxes: Floats, tile: tuple[int, int, int, int], height: int, width: int) -> NDArray[np.bool_]:
    """Return which boxes end at or close to a side of the tile that is inside the image: perhaps half of a face."""
    x1, y1, x2, y2 = tile
    inner = np.array([x1 > 0, y1 > 0, x2 < width, y2 < height])
    near = TILE_EDGE * (boxes[:, 2:] - boxes[:, :2])
    beyond = np.concatenate([boxes[:, :2] - near <= [x1, y1], boxes[:, 2:] + near >= [x2, y2]], axis=1)
    return np.asarray((beyond & inner).any(axis=1))


def _merge(found: Detections, cut: NDArray[np.bool_], iou: float) -> Detections:
    """Return whole faces after suppression, and of the cut ones those that no whole face covers at least by half."""
    whole, parts = found.select(~cut).nms(iou), found.select(cut).nms(iou)
    low = np.maximum(parts.boxes[:, None, :2], whole.boxes[None, :, :2])
    high = np.minimum(parts.boxes[:, None, 2:], whole.boxes[None, :, 2:])
    area = np.prod(parts.boxes[:, 2:] - parts.boxes[:, :2], axis=1)[:, None]
    covered = (np.prod(np.maximum(high - low, 0), axis=2) >= 0.5 * area).any(axis=1)
    return Detections.concat([whole, parts.select(~covered)])


@dataclass(frozen=True)
class Border:
    """A border around an image for a second look, so that faces which fill it are found: many networks need surroundings."""

    share: Annotated[float, Ge(0), Le(2)] = option(
        0.0, "width of the border in a second look, for faces that fill the image, as a share of its longer side; 0: no such look"
    )


@dataclass(frozen=True)
class BorderedDetector(AroundDetector):
    """A detector run on the image and on the image in a grey border; of the second look the large faces count, and pixels.

    A large image is reduced for the second look: a face that fills it stays large enough. On tiles the border is around the tile.
    """

    detector: Detector
    border: Border
    mask: MaskShape = field(default_factory=MaskShape)  #: for boxes, where the other look gives pixels

    def __call__(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        whole, (large, pixels) = self.detector(image), self._framed(image)
        merged = joined(dataclasses.replace(whole, mask=None), large, SAME_FACE)
        if whole.mask is None and pixels is None:
            return merged
        other = self.mask(large, height, width) if pixels is None else pixels
        return dataclasses.replace(merged, mask=np.maximum(self.mask(whole, height, width), other))

    def _framed(self, image: Image) -> tuple[Detections, Mask | None]:
        """Return the large faces found in the look with a border, and the mask if the detector finds pixels."""
        import cv2

        height, width = image.shape[:2]
        around = self.border.share * max(height, width)
        scale = min(1.0, math.sqrt(MOST / ((height + 2 * around) * (width + 2 * around))))
        rows, columns, edge = max(1, round(height * scale)), max(1, round(width * scale)), round(around * scale)
        inside = slice(edge, edge + rows), slice(edge, edge + columns)
        framed = np.full((rows + 2 * edge, columns + 2 * edge, 3), BORDER_GREY, np.uint8)
        reduced = cv2.resize(np.ascontiguousarray(image), (columns, rows), interpolation=cv2.INTER_AREA) if scale < 1 else image
        framed[inside] = reduced
        found = self.detector(framed)
        large = found.shifted(-edge, -edge).scaled(width / columns, height / rows)
        large = large.select(large.longer_sides() >= LARGE * max(height, width))
        if found.mask is None:
            return large, None
        pixels: Mask = np.ascontiguousarray(found.mask[inside])
        if scale < 1:
            pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        return large, pixels


@dataclass(frozen=True)
class UnionDetector:
    """Several detectors: a face is what at least ``votes`` of them find, its box large enough for all their boxes."""

    detectors: Mapping[str, Detector]
    votes: int = 1
    iou: float = 0.3
    mask: MaskShape = field(default_factory=MaskShape)  #: for boxes, where another detector gives pixels

    def __post_init__(self) -> None:
        check_votes(self.votes, len(self.detectors))

    @property
    def model_files(self) -> list[Path]:
        return [path for detector in self.detectors.values() for path in model_files(detector)]

    def close(self) -> None:
        for detector in self.detectors.values():
            close(detector)

    def __call__(self, image: Image) -> Detections:
        results = [detector(image) for detector in self.detectors.values()]
        if any(result.mask is not None for result in results):
            return self._pixels(results, image)
        found = Detections.concat(results)
        voter = np.repeat(np.arange(len(results)), [len(result) for result in results])
        boxes, scores = [], []
        for members in _clusters(found, self.iou):
            if len(set(voter[members])) >= self.votes:
                low, high = found.boxes[members, :2].min(axis=0), found.boxes[members, 2:].max(axis=0)
                boxes.append(np.concatenate([low, high]))
                scores.append(found.scores[members].max())
        return Detections(np.reshape(boxes, (-1, 4)), np.array(scores))

    def _pixels(self, results: Sequence[Detections], image: Image) -> Detections:
        """Vote pixel by pixel, as soon as one of the detectors gives pixels; the others' boxes become ellipses."""
        for name, result in zip(self.detectors, results, strict=True):
            if len(result) and result.mask is not None and result.mask.max() < 0.5:
                raise FaceblurError(f"detector {name!r} found {len(result)} faces and hid nothing: its mask is empty")
        masks = [self.mask(result, *image.shape[:2]) for result in results]
        mask = np.sort(np.stack(masks), axis=0)[-self.votes]
        found = Detections.concat([Detections(result.boxes, result.scores) for result in results])
        voted = [_meets(box, mask) for box in found.boxes]
        return dataclasses.replace(found.select(np.array(voted, bool)), mask=mask)


def check_votes(votes: int, detectors: int) -> None:
    """:raises UsageMistake: if that many detectors can never agree, or none has to."""
    if not 1 <= votes <= detectors:
        raise UsageMistake(f"detector.votes={votes} must be from 1 to {detectors}, the detectors named")


def _meets(box: Floats, mask: Mask) -> bool:
    """Return whether any pixel in the box is marked."""
    x1, y1, x2, y2 = np.clip(np.rint(box), 0, None).astype(int)
    return bool(mask[y1:y2, x1:x2].any())


def _clusters(found: Detections, iou: float) -> list[list[int]]:
    """Return groups of boxes: each is led by the best score that is left and takes what overlaps it by more than iou."""
    groups: list[list[int]] = []
    left = list(np.argsort(-found.scores, kind="stable"))
    while left:
        overlap = box_iou(found.boxes[[left[0]]], found.boxes[left])[0]
        overlap[0] = 1
        groups.append([index for index, value in zip(left, overlap, strict=True) if value > iou])
        left = [index for index, value in zip(left, overlap, strict=True) if value <= iou]
    return groups


@dataclass(frozen=True)
class DetectAndObfuscate:
    """Any detector with any obfuscator: every pair is made by this one class."""

    detector: Detector
    obfuscator: Obfuscator
    mask: MaskShape = field(default_factory=MaskShape)

    @property
    def model_files(self) -> list[Path]:
        return model_files(self.detector) + model_files(self.obfuscator)

    def close(self) -> None:
        close(self.detector)
        close(self.obfuscator)

    def __call__(self, image: Image) -> Anonymized:
        started = time.perf_counter()
        detections = self.detector(image)
        detected = time.perf_counter()
        mask = self.mask(detections, *image.shape[:2])
        hidden = self.obfuscator(image, mask) if len(detections) or detections.mask is not None else image
        done = time.perf_counter()
        ms = {"detect": (detected - started) * 1e3, "obfuscate": (done - detected) * 1e3}
        return Anonymized(hidden, mask, detections, {"ms": ms})


def model_files(component: object) -> list[Path]:
    """Return the files that a component says it loaded."""
    return [Path(path) for path in component.model_files] if isinstance(component, HasModelFiles) else []


def close(component: object) -> None:
    """Free what a component holds, if it says how: some runtimes hang when the interpreter ends first."""
    release = getattr(component, "close", None)
    if callable(release):
        release()


def network_of(component: object) -> HasNetwork | None:
    """Return the component around a network: a method itself, or its detector; None if there is no network to export."""
    if isinstance(component, HasNetwork):
        return component
    detector = getattr(component, "detector", None)
    return None if detector is None else network_of(detector)
