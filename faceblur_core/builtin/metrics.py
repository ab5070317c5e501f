"""Metrics that the core brings. Exact definitions: docs/metrics.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from faceblur_core.types import Anonymized, Sample


@dataclass(frozen=True)
class Coverage:
    """Share of the pixels in a face's truth ellipse at which the method's mask is at least one half."""

    unit: ClassVar[str] = "share"
    per: ClassVar[Literal["face", "image"]] = "face"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "defined here; ellipses as in Jain and Learned-Miller, FDDB, 2010"

    def __call__(self, sample: Sample, result: Anonymized) -> NDArray[np.float64]:
        """Return one share per face; nan for a face whose ellipse holds no pixel of the image."""
        hidden = result.mask >= 0.5
        shares = []
        for face in sample.faces:
            inside = face.inside(*sample.image.shape[:2])
            shares.append(hidden[inside].mean() if inside.any() else np.nan)
        return np.array(shares, np.float64)
