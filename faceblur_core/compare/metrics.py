"""Metrics that need more of faceblur than the results: a detector as judge, the targets of training sets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Le

from faceblur_core.builtin.metrics import SMALL_SIDE, Per, Values, reduced, truth_boxes
from faceblur_core.datasets.crops import soft_mask
from faceblur_core.errors import UnknownName, UsageMistake
from faceblur_core.pipeline import model_files
from faceblur_core.plugins import Registered, installed_plugins
from faceblur_core.types import Anonymized, Detector, Image, Sample, box_iou, option

JUDGES = ("yunet", "mediapipe", "yolo")  #: those of them that are not installed are passed over
SEEN = 0.4  #: intersection over union at which the judge has found a face


@dataclass(frozen=True)
class Fidelity:
    """Difference from the blurred target on 128 x 128 pixels in 0..1: what end-to-end networks are trained for.

    The image is reduced with black bars to a square; the target hides the truth ellipses as the training sets do, those of
    ignored faces too.
    """

    measure: Literal["mse", "mae", "ssim", "psnr"] = option("mse", "which difference")
    sigma: Annotated[float, Gt(0), Le(1)] = option(0.3, "the target's Gaussian, as a share of the hidden region's longer side")
    grow: Annotated[float, Gt(0)] = option(1.25, "the target hides ellipses grown by this")
    feather: Annotated[float, Gt(0)] = option(0.06, "and softly as much again, as a share of them")

    group: ClassVar[str] = "fidelity"
    unit: ClassVar[str] = "of values in 0..1"
    per: ClassVar[Per] = "image"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    citation: ClassVar[str] = "defined here; the target as in configs/datasets/faces12k.yaml"

    def __call__(self, sample: Sample, result: Anonymized) -> Values:
        """Return one value."""
        from skimage.metrics import structural_similarity

        from faceblur_core.builtin.filters import gaussian, hide

        small, image = reduced(sample, result.image)
        height, width = small.image.shape[:2]
        faces = (*small.faces, *small.ignored)
        mask = soft_mask(faces, height, width, self.grow, self.feather)
        target = hide(small.image, mask, lambda crop, _: gaussian(crop, self.sigma)) if faces else small.image
        a, b = (_square(picture) / 255.0 for picture in (target, image))
        if self.measure == "ssim":
            return np.array([float(structural_similarity(a, b, channel_axis=2, data_range=1.0))])
        if self.measure == "mae":
            return np.array([float(np.abs(a - b).mean())])
        error = float(np.square(a - b).mean())
        return np.array([error if self.measure == "mse" else math.inf if error == 0 else -10 * math.log10(error)])


def _square(picture: Image) -> Image:
    """Return the picture in the middle of a black square of SMALL_SIDE pixels."""
    height, width = picture.shape[:2]
    side = max(SMALL_SIDE, height, width)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


@dataclass(frozen=True)
class FidelityMae(Fidelity):
    """Mean absolute error to the blurred target."""

    measure: Literal["mse", "mae", "ssim", "psnr"] = option("mae", "which difference")


@dataclass(frozen=True)
class FidelitySsim(Fidelity):
    """SSIM to the blurred target."""

    measure: Literal["mse", "mae", "ssim", "psnr"] = option("ssim", "which difference")
    unit: ClassVar[str] = "SSIM"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)


@dataclass(frozen=True)
class FidelityPsnr(Fidelity):
    """PSNR to the blurred target."""

    measure: Literal["mse", "mae", "ssim", "psnr"] = option("psnr", "which difference")
    unit: ClassVar[str] = "dB"
    higher_is_better: ClassVar[bool] = True
    statistics: ClassVar[tuple[str, ...]] = ("mean<=100",)


def _networks(detector: Registered) -> set[str]:
    """Return the names of a detector's model files without their endings: one network may be in files of several kinds."""
    return {Path(item.file).stem for item in detector.component.weights}


@dataclass(frozen=True)
class StillDetected:
    """Whether a judge, a detector that is none of the method's own, finds a face in the anonymized image at an IoU >= 0.4."""

    judges: list[str] = option([*JUDGES], "detectors; the first here that is none of the method's is it")
    avoid: list[str] = option([], "the method's own detectors")
    group: ClassVar[str] = "privacy"
    unit: ClassVar[str] = "share of faces"
    per: ClassVar[Per] = "face"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "defined here"
    _judge: list[Detector] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        installed = installed_plugins().names("detector")
        if not self.judges:
            raise UsageMistake("judges of still-detected names no detector")
        for name in (*self.judges, *self.avoid):
            if name not in installed and name not in JUDGES:
                raise UnknownName("detector", name, installed)

    @property
    def judge(self) -> str:
        """The judge's name; empty if all that are installed are the method's own, or have a network of these."""
        plugins = installed_plugins()
        installed = plugins.names("detector")
        own = {network for name in self.avoid if name in installed for network in _networks(plugins.get("detector", name))}
        free = (name for name in self.judges if name in installed and name not in self.avoid)
        return next((name for name in free if not own & _networks(plugins.get("detector", name))), "")

    @property
    def model_files(self) -> list[Path]:
        """The judge's, once it was asked."""
        return [path for judge in self._judge for path in model_files(judge)]

    def __call__(self, sample: Sample, result: Anonymized) -> Values:
        """Return 1 or 0 per face; nan if there is no judge."""
        if not self.judge:
            return np.full(len(sample.faces), np.nan)
        if not self._judge:
            self._judge.append(installed_plugins().make("detector", self.judge))
        if not sample.faces:
            return np.zeros(0)
        boxes = self._judge[0](result.image).boxes
        return np.asarray((box_iou(truth_boxes(sample.faces), boxes) >= SEEN).any(axis=1), np.float64)
