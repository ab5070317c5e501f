"""A detector: a dataclass whose fields are its options, called with an image, returning Detections."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from faceblur_core.types import Detections, Image, option


@dataclass
class CatDetector:
    """Finds frontal cat faces. Scores are the cascade's own, unbounded."""

    scale_factor: Annotated[float, Ge(1.01), Le(3)] = option(1.05, "step between the sizes that are searched")
    min_neighbors: Annotated[int, Ge(0), Le(100_000)] = option(3, "how many overlapping hits make a face")

    def __post_init__(self) -> None:
        import cv2  # here, not above: `faceblur methods cat` lists the options and should stay fast

        self._cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalcatface.xml")

    def __call__(self, image: Image) -> Detections:
        import cv2

        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        boxes, _, scores = self._cascade.detectMultiScale3(
            grey, scaleFactor=self.scale_factor, minNeighbors=self.min_neighbors, outputRejectLevels=True
        )
        xywh = np.reshape(boxes, (-1, 4)).astype(np.float32)
        return Detections(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1), np.reshape(scores, -1))
