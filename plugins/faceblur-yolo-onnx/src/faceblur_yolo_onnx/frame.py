"""The picture that a YOLO network sees: the photo scaled to fit, grey bars around, both sides multiples of the stride.

It is the picture that Ultralytics makes, to the pixel, so that a network finds the same here as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from faceblur_core.types import Floats, Image

STRIDE = 32  #: pixels of a network's coarsest cells, at least
GREY = 114  #: value of the bars


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a photo lies in the picture; all in pixels."""

    photo: tuple[int, int]  #: height and width of the photo
    inner: tuple[int, int]  #: of the scaled photo
    outer: tuple[int, int]  #: of the picture
    top: int
    left: int

    def paint(self, image: Image) -> Image:
        """Return the picture of a photo, H x W x 3."""
        import cv2

        if image.shape[:2] != self.inner:
            image = cv2.resize(np.ascontiguousarray(image), self.inner[::-1], interpolation=cv2.INTER_LINEAR)
        picture = np.full((*self.outer, 3), GREY, np.uint8)
        picture[self.top : self.top + self.inner[0], self.left : self.left + self.inner[1]] = image
        return picture

    def to_photo(self, boxes: Floats) -> Floats:
        """Return N x 4 boxes in the picture as boxes in the photo, cut off at its edges."""
        rows, columns = (inner / side for inner, side in zip(self.inner, self.photo, strict=True))
        moved = (boxes - np.float32([self.left, self.top] * 2)) / np.float32([columns, rows] * 2)
        return np.clip(moved, 0, np.float32([*self.photo[::-1]] * 2))


def fitted(height: int, width: int, imgsz: int, stride: int = STRIDE) -> Frame:
    """Return the frame of an H x W photo whose longer side becomes ``imgsz`` pixels; bars only up to multiples of the stride.

    An ``imgsz`` that the stride does not divide is rounded up.
    """
    side = _up(imgsz, stride)
    inner = _inner(height, width, side, side)
    return _around((height, width), inner, (_up(inner[0], stride), _up(inner[1], stride)))


def fixed(height: int, width: int, outer: tuple[int, int]) -> Frame:
    """Return the frame of an H x W photo in a picture of the given height and width."""
    return _around((height, width), _inner(height, width, *outer), outer)


def _inner(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    scale = min(rows / height, columns / width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _up(length: int, stride: int) -> int:
    return math.ceil(length / stride) * stride


def _around(photo: tuple[int, int], inner: tuple[int, int], outer: tuple[int, int]) -> Frame:
    """Return the frame with bars of the same width on both sides; an odd pixel goes below or to the right."""
    return Frame(photo, inner, outer, (outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2)
