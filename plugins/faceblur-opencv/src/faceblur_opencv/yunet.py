"""YuNet: Wu, Peng and Yu, YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research, 2023."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from faceblur_core.types import Detections, Image, option
from faceblur_core.weights import locate
from faceblur_opencv import YUNET

SMALLEST = 64  #: pixels; smaller sides get a border, for OpenCV computes garbage where a feature map is one cell wide


@dataclass
class YuNetDetector:
    """Faces with five landmarks, through ``cv2.FaceDetectorYN``; scores from 0 to 1."""

    score_threshold: Annotated[float, Ge(0), Le(1)] = option(0.6, "weakest face to report")
    nms_threshold: Annotated[float, Gt(0), Le(1)] = option(0.3, "boxes that overlap more are one face")
    top_k: Annotated[int, Ge(1), Le(100_000)] = option(5000, "boxes kept before non-maximum suppression")
    max_side: Annotated[int, Ge(32)] = option(1280, "larger images are reduced to this longer side to find faces")
    model_files: list[Path] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import cv2

        self.model_files = [locate(YUNET)]
        self._net = cv2.FaceDetectorYN.create(
            str(self.model_files[0]), "", (320, 320), self.score_threshold, self.nms_threshold, self.top_k
        )

    def __call__(self, image: Image) -> Detections:
        import cv2

        height, width = image.shape[:2]
        factor = min(1.0, self.max_side / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
        right, below = max(0, SMALLEST - size[0]), max(0, SMALLEST - size[1])
        framed = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT) if right or below else small
        self._net.setInputSize(framed.shape[1::-1])
        _, rows = self._net.detect(cv2.cvtColor(framed, cv2.COLOR_RGB2BGR))
        if rows is None:
            return Detections.none()
        rows = rows[(rows[:, 0] < size[0]) & (rows[:, 1] < size[1])]
        xy, wh, points, scores = rows[:, :2], rows[:, 2:4], rows[:, 4:14], rows[:, 14]
        found = Detections(np.concatenate([xy, xy + np.maximum(wh, 0)], axis=1), scores, points.reshape(-1, 5, 2))
        return found.scaled(width / size[0], height / size[1])
