"""The metric ``blur-degree``: how much of a face's identity is gone, without looking at the original."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from faceblur_blurdegree import DEFAULT
from faceblur_blurdegree.crop import face_square
from faceblur_blurdegree.meter import Meter, load_meter, weights_file
from faceblur_core.types import Anonymized, Sample, option

LEAST = 40  #: pixels; what is said of lower faces cannot be trusted, as the network's card shows


@dataclass
class BlurDegree:
    """Degree of blur of each face in the anonymized picture, at its true place; see ``faceblur train blur-degree``.

    A face's true box says where to look; of the original nothing else is used. A low face looks blurred as it is, so that the
    degree tells nothing: it has none.
    """

    weights: str = option(DEFAULT, "a network that ships, or a model file of faceblur train blur-degree")
    threshold: Annotated[float, Ge(0), Le(1)] | None = option(None, "degree from which a face is protected; none: the file's own")
    least: Annotated[int, Ge(0)] = option(LEAST, "pixels; a lower face has no degree")
    threads: Annotated[int, Ge(1), Le(64)] = option(1, "of ONNX Runtime")
    model_files: list[Path] = field(init=False, repr=False)
    protected_from: float = field(init=False, repr=False)  #: the threshold in force; nan if there is none

    group: ClassVar[str] = "privacy"
    unit: ClassVar[str] = "degree of blur"
    per: ClassVar[Literal["face", "image"]] = "face"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "defined here: 1 - cosine of ArcFace embeddings (Deng et al., CVPR 2019), told by a network"
    statistics: ClassVar[tuple[str, ...]] = ("mean", "p5", "share>=protected")

    def __post_init__(self) -> None:
        self._meter: Meter = load_meter(weights_file(self.weights), threads=self.threads)
        self.model_files = [self._meter.path]
        self.protected_from = self._meter.threshold if self.threshold is None else self.threshold

    @property
    def note(self) -> str:
        """What a table says beside the figure."""
        return f"network {self._meter.path.name}"

    def __call__(self, sample: Sample, result: Anonymized) -> NDArray[np.float64]:
        """Return one degree per face, 0..1; nan for a face that is too low."""
        boxes = np.array([face.bounds() for face in sample.faces]).reshape(-1, 4)
        judged = boxes[:, 3] - boxes[:, 1] >= self.least
        degrees = np.full(len(boxes), np.nan)
        if judged.any():
            squares = [face_square(result.image, box, self._meter.margin) for box in boxes[judged]]
            degrees[judged] = self._meter(np.array(squares, np.uint8))
        return degrees

    def calibrate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        """Return ``protected``: the threshold that was given, or that the data set found and the model file says; else nan."""
        return {"protected": math.nan if math.isnan(self.protected_from) else float(self.protected_from)}
