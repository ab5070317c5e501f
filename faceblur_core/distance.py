"""Distances in a picture, the same each time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceblur_core.types import Floats


def distance_to_zero(mask: NDArray[np.uint8]) -> Floats:
    """Return how far each pixel is from the nearest one that is 0, in pixels; there must be one.

    :param mask: H x W, a side of at most 4096 pixels
    """
    import cv2

    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.sqrt(np.rint(np.square(distance)))  # a root of a whole number, of which OpenCV may change the last bit
