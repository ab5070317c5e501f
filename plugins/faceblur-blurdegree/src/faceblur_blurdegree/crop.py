"""The square of a picture that the network sees of a face: as ``faceblur dataset blur`` cuts it out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceblur_core.types import Image

SIZE = 112  #: pixels, the side of what the network sees
MARGIN = 1.2  #: side of the square, in longer sides of the face's box, where the model file says nothing else


def face_square(image: Image, box: Sequence[float], margin: float = MARGIN) -> Image:
    """Return the square about a box (x1 y1 x2 y2, pixels) of an image, H x W x 3, as 112 x 112 x 3; black beyond the image."""
    import cv2

    x1, y1, x2, y2 = (float(value) for value in box)
    side = max(1, round(margin * max(x2 - x1, y2 - y1)))
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    height, width = image.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    if rows.start < rows.stop and columns.start < columns.stop:
        inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        square[inside] = image[rows, columns]
    method = cv2.INTER_AREA if side >= SIZE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (SIZE, SIZE), interpolation=method), np.uint8)
