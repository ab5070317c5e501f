"""``faceblur assess``: how blurred each face is that is found in pictures, without their originals.

The degrees come from the metric ``blur-degree`` of faceblur-blurdegree, which looks at results alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core.datasets.labels import Face, pictures_under
from faceblur_core.datasets.survey import Advance, DetectorPool, in_order
from faceblur_core.errors import UnreadableImage, UsageMistake
from faceblur_core.media.images import read_photo
from faceblur_core.plugins import installed_plugins
from faceblur_core.types import Anonymized, Image, Metric, Sample

METRIC = "blur-degree"


@dataclass(frozen=True, slots=True)
class AssessedFace:
    """A face and how blurred it is."""

    frame: int  #: from 0
    box: tuple[float, float, float, float]  #: x1 y1 x2 y2, pixels
    degree: float  #: 0 sharp, 1 nothing of the identity is left
    protected: bool | None  #: whether the degree reaches the threshold; None: there is none


@dataclass
class Assessed:
    """One picture."""

    path: Path
    faces: list[AssessedFace] = field(default_factory=list)
    fault: str = ""  #: why it cannot be read


class Assessor:
    """Finds faces and judges them."""

    def __init__(self, detectors: Sequence[str], options: Mapping[str, Any]) -> None:
        """Load what is needed.

        :param options: of the metric
        :raises UsageMistake: if the metric is not installed, an option does not fit, or a detector is unknown
        :raises MissingWeights: if no network ships and none is named
        """
        plugins = installed_plugins()
        if METRIC not in plugins.names("metric"):
            raise UsageMistake("what judges faces is not installed: install faceblur-blurdegree")
        self.metric: Metric = plugins.make("metric", METRIC, options)
        self.threshold = float(next(iter(self.metric.calibrate([]).values())))
        self.pool = DetectorPool(detectors)

    def __call__(self, path: Path) -> Assessed:
        """Return a picture with the faces that are found in its frames, from top to bottom."""
        assessed = Assessed(path)
        try:
            photo = read_photo(path.read_bytes())
        except (UnreadableImage, OSError) as error:
            assessed.fault = error.message if isinstance(error, UnreadableImage) else error.strerror or str(error)
            return assessed
        for number, frame in enumerate(photo.frames):
            assessed.faces += self._frame(number, frame.rgb())
        return assessed

    def _frame(self, number: int, image: Image) -> list[AssessedFace]:
        faces = sorted(self.pool(image), key=lambda face: (face.ellipse.cy, face.ellipse.cx))
        sample = Sample("", image, tuple(face.ellipse for face in faces))
        degrees = self.metric(sample, Anonymized(image, np.ones(image.shape[:2], np.float32)))
        return [self._judged(number, face, float(degree)) for face, degree in zip(faces, degrees, strict=True)]

    def _judged(self, number: int, face: Face, degree: float) -> AssessedFace:
        protected = None if math.isnan(self.threshold) else degree >= self.threshold
        return AssessedFace(number, face.ellipse.bounds(), degree, protected)

    def close(self) -> None:
        self.pool.close()


def pictures(inputs: Sequence[Path]) -> list[Path]:
    """Return the picture files that are named, and those in folders, each once. :raises UsageMistake: if there is none"""
    found = [path for item in inputs for path in (pictures_under(item) if item.is_dir() else [item])]
    if not found:
        raise UsageMistake(f"no pictures in {' '.join(map(str, inputs))}")
    return list(dict.fromkeys(found))


def assess(paths: Sequence[Path], assessor: Assessor, workers: int, advance: Advance | None = None) -> Iterator[Assessed]:
    """Yield the pictures in order, judged."""
    return in_order(assessor, paths, workers, advance)
