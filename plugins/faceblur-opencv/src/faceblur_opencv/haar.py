"""The Haar cascades that ship with OpenCV 4: Viola and Jones, Rapid Object Detection, CVPR 2001."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from faceblur_core.errors import FaceblurError
from faceblur_core.types import Detections, Floats, Image, option

FRONTAL, PROFILE = "haarcascade_frontalface_default.xml", "haarcascade_profileface.xml"
#: Of each cascade: the weight at which half of its hits are faces, and the width of the logistic curve that tells their share at
#: others; fitted to WIDER FACE's training photos by benchmarks/haar_score.py.
SHARES = {FRONTAL: (2.14, 1.67), PROFILE: (0.20, 2.89)}


def logistic(weights: Floats, middle: float, width: float) -> Floats:
    """Return the share of faces, 0..1, among hits of such weights."""
    share: Floats = 1 / (1 + np.exp((middle - weights) / width))
    return share


@dataclass
class HaarDetector:
    """Frontal faces and profiles to either side; the profile cascade knows one side, so it also sees the mirrored image.

    A score is the share of hits with such a weight that are faces, 0..1; see SHARES.
    """

    scale_factor: Annotated[float, Ge(1.01), Le(3)] = option(1.1, "step between the sizes that are searched")
    min_neighbors: Annotated[int, Ge(0), Le(100_000)] = option(5, "how many overlapping hits make a face")
    min_size: Annotated[int, Ge(0), Le(100_000)] = option(20, "smallest face, pixels")
    max_size: Annotated[int, Ge(0), Le(100_000)] = option(0, "largest face, pixels; 0: no limit")
    profile: bool = option(True, "look for profiles too")
    nms_threshold: Annotated[float, Gt(0), Le(1)] = option(0.3, "hits of two cascades that overlap more are one face")
    model_files: list[Path] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import cv2

        folder = Path(cv2.data.haarcascades)
        names = [FRONTAL, PROFILE] if self.profile else [FRONTAL]
        self.model_files = [folder / name for name in names]
        self._cascades = [cv2.CascadeClassifier(str(path)) for path in self.model_files]
        if any(cascade.empty() for cascade in self._cascades):
            raise FaceblurError(f"detector 'haar': OpenCV {cv2.__version__} has no cascades in {folder}; install opencv<5")

    def __call__(self, image: Image) -> Detections:
        found = []
        for name, hits in self.hits(image).items():
            found.append(Detections(hits.boxes, logistic(hits.scores, *SHARES[name])))
        return Detections.concat(found).nms(self.nms_threshold)

    def hits(self, image: Image) -> dict[str, Detections]:
        """Return what each cascade finds in an image, H x W x 3, by its name; scores are the last stage's weights, summed."""
        import cv2

        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found = {FRONTAL: self._search(self._cascades[0], grey)}
        if self.profile:
            mirrored = self._search(self._cascades[1], np.ascontiguousarray(grey[:, ::-1]))
            flipped = image.shape[1] - mirrored.boxes[:, [2, 1, 0, 3]]
            flipped[:, [1, 3]] = mirrored.boxes[:, [1, 3]]
            found[PROFILE] = Detections.concat([self._search(self._cascades[1], grey), Detections(flipped, mirrored.scores)])
        return found

    def _search(self, cascade: Any, grey: np.ndarray) -> Detections:
        boxes, _, weights = cascade.detectMultiScale3(
            grey,
            scaleFactor=self.scale_factor,
            minNeighbors=self.min_neighbors,
            minSize=(self.min_size, self.min_size),
            maxSize=(self.max_size, self.max_size),
            outputRejectLevels=True,
        )
        xywh = np.reshape(boxes, (-1, 4)).astype(np.float32)
        return Detections(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1), np.reshape(weights, -1))
