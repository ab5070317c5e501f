"""The anonymizer ``unet``: any photo through a 128-pixel network, and back without touching what the network left alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from faceblur_core.backends import load_network
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.letterbox import inner, letterboxed
from faceblur_core.tiling import check_tile_size, tiles_of
from faceblur_core.types import Anonymized, Floats, Image, Mask, option
from faceblur_core.weights import locate, weights_file
from faceblur_unet import SHIPPED
from faceblur_unet.config import PARAMETERS, SIZE

CHANGED = np.float32(0.004)  #: mask of pixels that only ``composite=false`` changes: more than 0, far from hidden
FAINT = np.float32(6e-4)  #: variance of detail, of values in 0..1, that counts for little
SURE = 10  #: pixels
OBLONG = 1.15  #: longer by shorter side, from which a photo is looked at in squares too: it would be seen that much larger
STRIP = 8  #: longer by shorter side, up to which squares are of the shorter side; of a strip they are of this part of the longer


@dataclass(frozen=True, slots=True)
class Square:
    """A part of a photo that goes through the network: a rectangle, reduced and put into the middle of a black square."""

    top: int
    left: int
    height: int
    width: int

    def inner(self) -> tuple[slice, slice]:
        """Return the rows and columns of the network's square that show the rectangle."""
        return inner(self.height, self.width, SIZE)


@dataclass
class UNet:
    """Blurs faces by the end-to-end U-Net (Ronneberger et al., 2015, trained here to output the photo with blurred faces).

    The photo is reduced to 128 pixels and comes back changed. A soft mask is made of where the network took its detail away
    (see :func:`lost_detail` and :func:`change_mask`), and only there the photo is replaced by the enlarged output, smoothed
    (see :func:`without_residue`): every other pixel stays, to the bit. Squares of an oblong photo go through the network as
    well, as high or wide as its shorter side, and tiles of a size to choose: faces are larger there. What is hidden in one is
    hidden.
    """

    weights: str = option("student-v1-int8", "a network that ships, such as teacher or student-v0-int8; or a model file")
    backend: str = option("auto", "what runs the network, see faceblur plugins; auto: by the file's ending")
    threads: Annotated[int, Ge(1), Le(64)] = option(1, "of the backend, if it can use more than one")
    composite: bool = option(True, "false: the whole enlarged output of the network, as it is; no squares, no tiles")
    squares: bool = option(True, "look at overlapping squares of an oblong photo too, where its faces are larger")
    tiles: Annotated[int, Ge(0)] = option(0, "side in pixels of tiles that go through the network too, for small faces; 0: none")
    overlap: Annotated[float, Ge(0), Lt(0.9)] = option(0.2, "overlap of squares and tiles, as a share of their side")
    low: Annotated[float, Gt(0), Lt(1)] = option(0.35, "share of lost detail from which a pixel can be hidden")
    high: Annotated[float, Gt(0), Lt(1)] = option(0.9, "share of lost detail that a hidden region must reach somewhere")
    least: Annotated[float, Ge(0), Lt(1)] = option(0.0025, "smallest region that counts, as a share of the network's square")
    smooth: Annotated[float, Ge(0), Le(1)] = option(0.2, "Gaussian over what a hidden region still shows, as a share of its size")
    model_files: list[Path] = field(init=False, repr=False)
    network_file: Path = field(init=False, repr=False)
    quantized_file: Path | None = field(init=False, repr=False)
    parameters: int | None = field(init=False, repr=False)  #: None: of a file that is not ours

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise UsageMistake(f"high={self.high:g} must not be below low={self.low:g}")
        check_tile_size(self.tiles, "tiles")
        self.network_file = weights_file(self.weights, SHIPPED, "U-Net weights")
        self.model_files = [self.network_file]
        variant = self.weights.removesuffix("-int8")
        self.quantized_file = locate(SHIPPED[f"{variant}-int8"]) if self.weights in SHIPPED else None
        self.parameters = PARAMETERS[variant] if self.weights in SHIPPED else None
        self._network = load_network(self.network_file, self.backend, threads=self.threads)

    def __call__(self, image: Image) -> Anonymized:
        started = time.perf_counter()
        height, width = image.shape[:2]
        mask, output = np.zeros((height, width), np.float32), np.array(image)
        for square in self._squares(height, width):
            before, after = self._see(image, square)
            self._apply(image, square, before, after, mask, output)
        if not self.composite:  # there was one square, the whole
            output = _enlarged(after, height, width)
            np.maximum(mask, CHANGED * (output != image).any(axis=2), out=mask)
        return Anonymized(output, mask, None, {"ms": {"network": (time.perf_counter() - started) * 1e3}})

    def _squares(self, height: int, width: int) -> Iterator[Square]:
        yield Square(0, 0, height, width)
        if not self.composite:
            return
        shorter, longer = sorted((height, width))
        side = max(shorter, longer // STRIP) if self.squares and longer >= OBLONG * shorter else 0
        sides = {side, self.tiles}
        for side in sorted(sides, reverse=True):
            for x1, y1, x2, y2 in tiles_of(height, width, side, self.overlap):
                yield Square(y1, x1, y2 - y1, x2 - x1)

    def network_inputs(self, image: Image) -> Floats:
        """Return what the network is given for an image: N x 128 x 128 x 3 in 0..1, the whole first, then squares and tiles."""
        return np.concatenate([_reduced(image, square) for square in self._squares(*image.shape[:2])])

    def _see(self, image: Image, square: Square) -> tuple[Floats, Floats]:
        """Return what the network sees of a square and what it makes of it, h x w x 3 in 0..1, without the bars."""
        batch = _reduced(image, square)
        result = self._network(batch)
        if result.shape != batch.shape:
            raise FaceblurError(f"{self.network_file} gives {result.shape} for {batch.shape}; it is no U-Net of faceblur")
        return batch[0][square.inner()], np.clip(result[0][square.inner()], 0, 1)

    def _apply(self, image: Image, square: Square, before: Floats, after: Floats, mask: Mask, output: Image) -> None:
        """Put what the network changes in a square into the mask and the output, where it hides more than is hidden yet."""
        import cv2

        small = change_mask(lost_detail(before, after), self.low, self.high, self.least)
        if not small.any():
            return
        rows = slice(square.top, square.top + square.height)
        columns = slice(square.left, square.left + square.width)
        size = square.width, square.height
        alpha = np.clip(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), 0, 1)
        alpha[alpha < 1 / 255] = 0
        used = alpha > mask[rows, columns]
        box = _span(used.any(axis=1)), _span(used.any(axis=0))
        enlarged = np.clip(
            cv2.resize(without_residue(after, small, self.smooth), size, interpolation=cv2.INTER_CUBIC)[box] * np.float32(255),
            0,
            255,
        )
        weight = alpha[box][..., None]
        blended = np.rint(image[rows, columns][box] * (1 - weight) + enlarged * weight).astype(np.uint8)
        np.copyto(output[rows, columns][box], blended, where=used[box][..., None])
        np.maximum(mask[rows, columns], alpha, out=mask[rows, columns])


def _enlarged(after: Floats, height: int, width: int) -> Image:
    """Return a network's output, h x w x 3 in 0..1, as a picture of that size."""
    import cv2

    enlarged = cv2.resize(after, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(enlarged * 255), 0, 255).astype(np.uint8)


def _span(marked: NDArray[np.bool_]) -> slice:
    """Return the slice from the first marked place to the last, empty without one."""
    found = np.flatnonzero(marked)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def _reduced(image: Image, square: Square) -> Floats:
    """Return a square of an image as the network takes it: 1 x 128 x 128 x 3 in 0..1."""
    part = image[square.top : square.top + square.height, square.left : square.left + square.width]
    return letterboxed(part, SIZE)[None] / np.float32(255)


def lost_detail(before: Floats, after: Floats) -> Floats:
    """Return, h x w, which share of a picture's detail a network took away around each pixel: 0 none, 1 all.

    Detail is what a Gaussian of sigma 2.5 pixels removes. The share is 1 - cov(detail before, detail after) / var(detail
    before), over the channels and a Gaussian window of sigma 2; where there is hardly any detail it is 0. Unlike the plain
    difference it does not see a change of colour, and sees a blur of dark faces as well as one of bright ones.

    :param before: h x w x 3 in 0..1
    :param after: the same shape
    """
    detail = [picture - _smooth(picture, 2.5) for picture in (before, after)]
    common, whole = (_smooth((detail[0] * other).sum(axis=2), 2) for other in (detail[1], detail[0]))
    return np.asarray(1 - np.clip((common + FAINT) / (whole + FAINT), 0, 1), np.float32)


def _smooth(values: Floats, sigma: float) -> Floats:
    import cv2

    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)


def change_mask(lost: Floats, low: float, high: float, least: float) -> Mask:
    """Return, h x w, a soft mask of where a network hid something.

    Pixels where more than ``low`` of the detail is lost form regions; those with fewer than ``SURE`` pixels above ``high``
    are left alone. What is left is closed (9 x 9 ellipse), opened (3 x 3), its holes are filled, regions smaller than
    ``least`` of the square are dropped, the others become their convex hulls, for a face is convex and its smooth
    parts have no detail to lose, and grow by a pixel. The edge falls off outside, over about 3 pixels.

    :param lost: h x w, of :func:`lost_detail`
    """
    import cv2

    count, labels = cv2.connectedComponents((lost > low).astype(np.uint8))
    sure = np.bincount(labels[lost > high], minlength=count) >= SURE
    sure[0] = False
    kept = sure[labels].astype(np.uint8)
    kept = cv2.morphologyEx(kept, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
    kept = cv2.morphologyEx(kept, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3)))
    hard = np.zeros(kept.shape, np.uint8)
    outlines, _ = cv2.findContours(kept, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        filled = cv2.drawContours(np.zeros(kept.shape, np.uint8), [outline], -1, 1, cv2.FILLED)
        if int(filled.sum()) >= least * SIZE * SIZE:
            cv2.fillConvexPoly(hard, cv2.convexHull(outline), 1)
    if not hard.any():
        return np.zeros(hard.shape, np.float32)
    grown = cv2.dilate(hard, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))).astype(np.float32)
    soft = cv2.GaussianBlur(cv2.dilate(grown, np.ones((3, 3), np.uint8)), (0, 0), 1.0)
    soft[soft < 0.02] = 0
    return np.maximum(grown, soft).astype(np.float32)


def without_residue(after: Floats, mask: Mask, smooth: float) -> Floats:
    """Return a network's output without the faint eyes and glasses that it can leave in a region that it hides.

    A network is taught to leave no detail there. So each region of the mask is averaged, under a Gaussian of ``smooth`` times the
    square root of its area, over its own pixels alone: nothing comes in from around it, before the output is enlarged.

    :param after: h x w x 3 in 0..1
    :param mask: h x w, of :func:`change_mask`
    """
    import cv2

    result = after.copy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8))
    for label in range(1, count) if smooth else ():
        left, top, width, height, area = (int(value) for value in stats[label])
        box = slice(top, top + height), slice(left, left + width)
        inside = labels[box] == label
        weight = np.where(inside, mask[box], 0)
        weighted = np.dstack([after[box] * weight[..., None], weight])
        summed = cv2.GaussianBlur(weighted, (0, 0), smooth * area**0.5, borderType=cv2.BORDER_CONSTANT)
        result[box][inside] = summed[inside][:, :3] / summed[inside][:, 3:]
    return result
