"""A photo of any shape in the middle of a square, as networks take it."""

from __future__ import annotations

import numpy as np

from faceblur_core.types import Image


def inner(height: int, width: int, size: int) -> tuple[slice, slice]:
    """Return the rows and columns of a square of ``size`` pixels that show a photo; black bars are around them."""
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - rows) // 2, (size - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def letterboxed(image: Image, size: int) -> Image:
    """Return a photo, H x W x 3, reduced or enlarged to size x size x 3, black around."""
    import cv2

    rows, columns = inner(image.shape[0], image.shape[1], size)
    method = cv2.INTER_AREA if max(image.shape[:2]) > size else cv2.INTER_LINEAR
    square = np.zeros((size, size, 3), np.uint8)
    shape = columns.stop - columns.start, rows.stop - rows.start
    square[rows, columns] = cv2.resize(np.ascontiguousarray(image), shape, interpolation=method)
    return square
