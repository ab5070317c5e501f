"""``faceblur assess``: how blurred each face is that is found in pictures, without their originals.

The degrees come from the metric ``blur-degree`` of faceblur-blurdegree, which looks at results alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core.datasets.survey import Advance, DetectorPool, in_order, why_refused
from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake, pass_on
from faceblur_core.media.files import read_regular
from faceblur_core.media.images import DEFAULT_MAX_PIXELS, read_photo
from faceblur_core.media.video import is_video
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.jobs import list_files
from faceblur_core.types import Anonymized, Ellipse, Image, Metric, Sample

METRIC = "blur-degree"


@dataclass(frozen=True, slots=True)
class AssessedFace:
    """A face and how blurred it is."""

    frame: int  #: from 0
    box: tuple[float, float, float, float]  #: x1 y1 x2 y2, pixels
    degree: float  #: 0 sharp, 1 nothing of the identity is left; nan: the face is too small to say
    protected: bool | None  #: whether the degree reaches the threshold; None: there is none


@dataclass
class Assessed:
    """One picture."""

    path: Path
    faces: list[AssessedFace] = field(default_factory=list)
    fault: str = ""  #: why it cannot be read or judged


class BlindMeter:
    """Tells how blurred faces are, by the picture alone."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Load the network.

        :param options: of the metric
        :raises UsageMistake: if the metric is not installed, or an option does not fit
        :raises MissingWeights: if the network is not there
        """
        plugins = installed_plugins()
        if METRIC not in plugins.names("metric"):
            raise UsageMistake("what judges faces without their originals is not installed: install faceblur-blurdegree")
        self._metric: Metric = plugins.make("metric", METRIC, options)
        self.threshold = float(next(iter(self._metric.calibrate([]).values())))  #: degree of protected faces; nan: none is known

    def __call__(self, image: Image, faces: Sequence[Ellipse]) -> list[float]:
        """Return the degree of each face, 0..1; nan for a face that is too small to say."""
        sample = Sample("", image, tuple(faces))
        return [float(degree) for degree in self._metric(sample, Anonymized(image, np.ones(image.shape[:2], np.float32)))]

    def protected(self, degree: float) -> bool | None:
        """Return whether a face of that degree is protected; None without a threshold. A face that is too small is not."""
        return None if math.isnan(self.threshold) else degree >= self.threshold


class Assessor:
    """Finds faces and judges them."""

    def __init__(self, detectors: Sequence[str], options: Mapping[str, Any], max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        """Load what is needed.

        :param options: of the metric
        :param max_pixels: of a picture that is read
        :raises UsageMistake: if the metric is not installed, an option does not fit, or a detector is unknown
        :raises MissingWeights: if a file of weights is not there
        """
        self.meter = BlindMeter(options)
        self.pool = DetectorPool(detectors)
        self._max_pixels = max_pixels

    def __call__(self, assessed: Assessed) -> Assessed:
        """Return a picture with the faces that are found in its frames, from top to bottom, or its fault."""
        if assessed.fault:
            return assessed
        try:
            for number, frame in enumerate(read_photo(read_regular(assessed.path), self._max_pixels).frames):
                assessed.faces += self._frame(number, frame.rgb())
        except (UnreadableImage, OSError) as error:
            assessed.fault = why_refused(error)
        except FaceblurError:
            raise
        except BaseException as error:  # whatever a stranger's detector or network raises
            pass_on(error)
            assessed.fault = unjudged(error)
        return assessed

    def _frame(self, number: int, image: Image) -> list[AssessedFace]:
        faces = sorted((face.ellipse for face in self.pool(image)), key=lambda face: (face.cy, face.cx))
        return [
            AssessedFace(number, face.bounds(), degree, self.meter.protected(degree))
            for face, degree in zip(faces, self.meter(image, faces), strict=True)
        ]

    def close(self) -> None:
        self.pool.close()


def unjudged(error: BaseException) -> str:
    """Return what is said of a picture that somebody's code failed on: one line."""
    return f"could not be judged: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


@dataclass
class Listed:
    """What is to be assessed."""

    pictures: list[Assessed]
    passed_over: Counter[str]  #: in folders: by suffix, or of BY_SIGHT


def listed(inputs: Sequence[Path]) -> Listed:
    """Return the picture files that are named, and those in folders, each once; folders that cannot be listed, with the fault.

    :raises UsageMistake: if a folder holds no picture
    """
    plans = [list_files(source, videos=False) for source in inputs]
    found = {job.source: Assessed(job.source, fault=_fault(job.source)) for plan in plans for job in plan.jobs}
    found |= {folder: Assessed(folder, fault=reason) for plan in plans for folder, reason in plan.unreadable}
    return Listed(list(found.values()), sum((plan.passed_over for plan in plans), Counter()))


def _fault(path: Path) -> str:
    return "a video, which faceblur verify looks at" if is_video(path) else ""


def assess(items: Sequence[Assessed], assessor: Assessor, workers: int, advance: Advance | None = None) -> Iterator[Assessed]:
    """Yield the pictures in order, judged. :raises FaceblurError: if a detector cannot start"""
    return in_order(assessor, items, workers, advance)
