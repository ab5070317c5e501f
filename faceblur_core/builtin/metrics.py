"""Metrics that the core brings. Exact definitions: docs/metrics.md."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from faceblur_core.types import Anonymized, Detections, Ellipse, Floats, Image, Observation, Sample, box_iou, option

Values = NDArray[np.float64]
Per = Literal["face", "image"]

OUTSIDE = 1.3  #: utility is measured outside the truth ellipses grown by this
WINDOW = 7  #: pixels, side of SSIM's windows
SMALL_SIDE = 128  #: pixels, longer side of the reduced images
MATCH = 0.5  #: intersection over union at which a detection is a face's


@dataclass(frozen=True)
class Coverage:
    """Share of the pixels in a face's truth ellipse at which the method's mask is at least one half."""

    group: ClassVar[str] = "privacy"
    unit: ClassVar[str] = "share"
    per: ClassVar[Per] = "face"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "defined here; ellipses as in Jain and Learned-Miller, FDDB, 2010"
    statistics: ClassVar[tuple[str, ...]] = ("mean", "p5", "share>=0.95", "share<0.5")

    def __call__(self, sample: Sample, result: Anonymized) -> Values:
        """Return one share per face; nan for a face whose ellipse holds no pixel of the image."""
        hidden = result.mask >= 0.5
        shares = []
        for face in sample.faces:
            inside = face.inside(*sample.image.shape[:2])
            shares.append(hidden[inside].mean() if inside.any() else np.nan)
        return np.array(shares, np.float64)


@dataclass(frozen=True)
class ImageMissed:
    """Whether at least one face of an image is covered by less than a half: the legal unit."""

    group: ClassVar[str] = "privacy"
    unit: ClassVar[str] = "share of images"
    per: ClassVar[Per] = "image"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "defined here"

    def __call__(self, sample: Sample, result: Anonymized) -> Values:
        """Return 1 or 0; nan for an image without a face."""
        shares = Coverage()(sample, result)
        return np.array([float((shares < 0.5).any()) if (~np.isnan(shares)).any() else np.nan])


def outside(sample: Sample, grow: float = OUTSIDE) -> NDArray[np.bool_]:
    """Return where an image shows no face, H x W: outside all its ellipses, the ignored ones too, grown by ``grow``."""
    height, width = sample.image.shape[:2]
    free = np.ones((height, width), bool)
    for face in (*sample.faces, *sample.ignored):
        free &= ~face.inside(height, width, grow)
    return free


def reduced(sample: Sample, image: Image) -> tuple[Sample, Image]:
    """Return the sample and a result with their longer side reduced to SMALL_SIDE, ellipses too; smaller ones as they are."""
    import cv2

    height, width = sample.image.shape[:2]
    scale = SMALL_SIDE / max(height, width)
    if scale >= 1:
        return sample, image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    fx, fy = size[0] / width, size[1] / height

    def smaller(picture: Image) -> Image:
        return np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA), np.uint8)

    def moved(faces: Sequence[Ellipse]) -> tuple[Ellipse, ...]:
        return tuple(Ellipse(f.cx * fx, f.cy * fy, f.rx * scale, f.ry * scale, f.angle) for f in faces)

    small = Sample(sample.id, smaller(sample.image), moved(sample.faces), ignored=moved(sample.ignored))
    return small, smaller(image)


def _psnr(before: Image, after: Image, where: NDArray[np.bool_]) -> float:
    """Return 10 log10(255² / mean squared error) over the pixels marked; inf where nothing differs; nan where there are none."""
    if not where.any():
        return math.nan
    error = float(np.square(before[where].astype(np.float64) - after[where]).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _ssim(before: Image, after: Image, where: NDArray[np.bool_]) -> float:
    """Return the mean of scikit-image's SSIM map over the pixels marked; nan where there are none or the image is tiny.

    The map is 1 away from what has changed, so it is computed only where a window meets a change.
    """
    from skimage.metrics import structural_similarity

    height, width = before.shape[:2]
    if not where.any() or min(height, width) < WINDOW:
        return math.nan
    changed = (before != after).any(axis=2)
    rows, columns = (_reached(changed.any(axis=axis), length) for axis, length in ((1, height), (0, width)))
    if rows.start == rows.stop:
        return 1.0
    full = structural_similarity(before[rows, columns], after[rows, columns], channel_axis=2, data_range=255, full=True)[1]
    marked = where[rows, columns]
    rest = int(where.sum()) - int(marked.sum())
    return float((full.mean(axis=2)[marked].sum() + rest) / where.sum())


def _reached(changed: NDArray[np.bool_], length: int) -> slice:
    """Return the span that holds all changes and the windows that see them, twice a window at least; empty without one."""
    found = np.flatnonzero(changed)
    if not len(found):
        return slice(0, 0)
    return slice(max(0, int(found[0]) - 2 * WINDOW), min(length, int(found[-1]) + 2 * WINDOW + 1))


class _Outside(ABC):
    """What PSNR and SSIM outside faces share, at full size and reduced."""

    group: ClassVar[str] = "utility"
    per: ClassVar[Per] = "image"
    higher_is_better: ClassVar[bool] = True
    small: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def measure(before: Image, after: Image, where: NDArray[np.bool_]) -> float:
        """Compare the pixels marked."""

    def __call__(self, sample: Sample, result: Anonymized) -> Values:
        """Return one value; PSNR is inf if nothing outside the faces has changed."""
        seen, image = reduced(sample, result.image) if self.small else (sample, result.image)
        return np.array([self.measure(seen.image, image, outside(seen))])


@dataclass(frozen=True)
class PsnrOutside(_Outside):
    """PSNR over the pixels outside the truth ellipses grown by 1.3."""

    unit: ClassVar[str] = "dB"
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    citation: ClassVar[str] = "peak signal-to-noise ratio, as in scikit-image; region defined here"
    statistics: ClassVar[tuple[str, ...]] = ("mean<=100", "median")
    measure = staticmethod(_psnr)


@dataclass(frozen=True)
class PsnrOutside128(PsnrOutside):
    """The same on images whose longer side is reduced to 128 pixels, so that 128-pixel networks compare."""

    small: ClassVar[bool] = True


@dataclass(frozen=True)
class SsimOutside(_Outside):
    """Mean of the SSIM map over the pixels outside the truth ellipses grown by 1.3."""

    unit: ClassVar[str] = "SSIM"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    citation: ClassVar[str] = "Wang et al., IEEE TIP 2004, as in scikit-image (7 x 7 windows)"
    measure = staticmethod(_ssim)


@dataclass(frozen=True)
class SsimOutside128(SsimOutside):
    """The same on images whose longer side is reduced to 128 pixels."""

    small: ClassVar[bool] = True


@dataclass(frozen=True)
class OverBlur:
    """Share of the pixels outside the truth ellipses grown by 1.3 at which the method's mask is at least one half."""

    group: ClassVar[str] = "utility"
    unit: ClassVar[str] = "share of pixels"
    per: ClassVar[Per] = "image"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "defined here"

    def __call__(self, sample: Sample, result: Anonymized) -> Values:
        """Return one share; nan if the faces fill the image."""
        free = outside(sample)
        return np.array([float((result.mask[free] >= 0.5).mean()) if free.any() else np.nan])


@dataclass(frozen=True)
class Touched:
    """Whether a method hides anything, by more than ``least`` of the image, in an image without a face."""

    least: Annotated[float, Ge(0), Le(1)] = option(0.0, "share of the image that may be hidden without counting")
    group: ClassVar[str] = "utility"
    unit: ClassVar[str] = "share of images"
    per: ClassVar[Per] = "image"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "defined here"

    def __call__(self, sample: Sample, result: Anonymized) -> Values:
        """Return 1 or 0; nan for an image with a face."""
        if sample.faces or sample.ignored:
            return np.array([np.nan])
        return np.array([float((result.mask >= 0.5).mean() > self.least)])


def truth_boxes(faces: Sequence[Ellipse]) -> Floats:
    """Return the boxes around ellipses, N x 4, x1 y1 x2 y2."""
    return np.array([face.bounds() for face in faces], np.float32).reshape(-1, 4)


@dataclass(frozen=True, slots=True)
class Matched:
    """Detections of one image against its truth."""

    scores: Values  #: of the detections that count, best first
    correct: NDArray[np.bool_]  #: which of them found a face
    found: NDArray[np.bool_]  #: which faces were found


def match(detections: Detections, sample: Sample, iou: float = MATCH) -> Matched:
    """Match detections to faces as COCO does: best score first, each to the free face it overlaps most, at ``iou`` or more.

    A detection that fits no free face but a free ignored one does not count; so an ignored face, too, is found but once.
    """
    order = np.argsort(-detections.scores, kind="mergesort")
    boxes = detections.boxes[order]
    faces, ignored = (_Free(box_iou(boxes, truth_boxes(truth)), iou) for truth in (sample.faces, sample.ignored))
    scores, correct = [], []
    for index in range(len(order)):
        hit = faces.take(index)
        if hit or not ignored.take(index):
            correct.append(hit)
            scores.append(float(detections.scores[order[index]]))
    return Matched(np.array(scores), np.array(correct, bool), faces.taken)


class _Free:
    """The faces of an image that no detection has taken yet."""

    def __init__(self, overlap: Floats, iou: float) -> None:
        self.overlap, self.iou = overlap, iou  # detections x faces
        self.taken = np.zeros(overlap.shape[1], bool)

    def take(self, detection: int) -> bool:
        """Take the free face that a detection overlaps most, if any enough; of equals the last, as COCO does."""
        free = np.where(self.taken, -1.0, self.overlap[detection])
        if not free.size or free.max() < self.iou:
            return False
        self.taken[free.size - 1 - int(free[::-1].argmax())] = True
        return True


@dataclass(frozen=True)
class Recall:
    """Whether the method's own detector finds a face: a box with an IoU of at least 0.5, matched as COCO does."""

    group: ClassVar[str] = "detection"
    unit: ClassVar[str] = "share of faces"
    per: ClassVar[Per] = "face"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "Lin et al., COCO, 2014"

    def __call__(self, sample: Sample, result: Anonymized) -> Values:
        """Return 1 or 0 per face; nan if the method names no detections."""
        if result.detections is None:
            return np.full(len(sample.faces), np.nan)
        return match(result.detections, sample).found.astype(np.float64)


class _Boxes:
    """What precision and AP50 share: the matched detections of every image."""

    group: ClassVar[str] = "detection"
    per: ClassVar[Literal["set"]] = "set"
    unit: ClassVar[str] = "share"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "Lin et al., COCO, 2014; equal to pycocotools"

    def observe(self, sample: Sample, result: Anonymized) -> Observation:
        """Return scores, hits and the number of faces; nothing if the method names no detections."""
        if result.detections is None:
            return {}
        matched = match(result.detections, sample)
        return {"scores": matched.scores, "correct": matched.correct, "faces": np.array(len(sample.faces))}

    def prepare(self, observations: Sequence[Observation], training: Sequence[Observation]) -> _AllBoxes | None:
        """Return all detections, best first; None if there are no observations."""
        if not any(observations):
            return None
        image = np.concatenate([np.full(len(seen["scores"]), i) for i, seen in enumerate(observations) if seen])
        scores = np.concatenate([seen["scores"] for seen in observations if seen])
        correct = np.concatenate([seen["correct"] for seen in observations if seen])
        faces = np.array([float(seen["faces"]) if seen else 0.0 for seen in observations])
        order = np.argsort(-scores, kind="mergesort")
        return _AllBoxes(image[order].astype(np.intp), correct[order].astype(bool), faces)


@dataclass(frozen=True, slots=True)
class _AllBoxes:
    image: NDArray[np.intp]
    correct: NDArray[np.bool_]
    faces: Values  #: per image


@dataclass(frozen=True)
class Precision(_Boxes):
    """Share of the method's detections that are faces."""

    def figures(self, prepared: _AllBoxes | None, weights: Values) -> Mapping[str, float]:
        """Return ``precision``; nan without a detection."""
        if prepared is None:
            return {"precision": math.nan}
        each = weights[prepared.image]
        return {"precision": float(each[prepared.correct].sum() / each.sum()) if each.sum() else math.nan}


@dataclass(frozen=True)
class Ap50(_Boxes):
    """Average precision at an IoU of 0.5, interpolated at 101 recalls as COCO does."""

    points: ClassVar[Values] = np.linspace(0, 1, 101)

    def figures(self, prepared: _AllBoxes | None, weights: Values) -> Mapping[str, float]:
        """Return ``ap50``; nan without a face."""
        total = float(prepared.faces @ weights) if prepared is not None else 0.0
        if prepared is None or total == 0:
            return {"ap50": math.nan}
        each = weights[prepared.image]
        hits, misses = np.cumsum(each * prepared.correct), np.cumsum(each * ~prepared.correct)
        recall = hits / total
        precision = np.divide(hits, hits + misses, out=np.zeros_like(hits), where=hits + misses > 0)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, self.points, side="left")
        values = np.append(envelope, 0.0)[np.minimum(places, len(envelope))]
        return {"ap50": float(values.mean())}
