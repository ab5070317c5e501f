"""Hold a plugin's method to its contract before anything is written: a broken one costs its file, never a face."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from faceblur_core.contracts import anonymized_fault
from faceblur_core.errors import FaceblurError
from faceblur_core.types import Anonymized, Image, Mask

HIDDEN = 0.5  #: from this value of the mask on a pixel counts as hidden
LINES = 16  #: rows of a box that are looked at, evenly spread
EDGE = 16  #: levels of 255 between neighbours from which on an edge is seen
LEAST = 16  #: pixels, shorter side of a box; a smaller one may look the same when it is hidden, as cells of a mosaic do


def checked_share(before: Image, result: Anonymized) -> float:
    """Return the mean of the mask.

    :raises FaceblurError: if a plugin's method broke its contract; nothing is written then
    """
    import cv2

    if fault := anonymized_fault(result, before):
        raise FaceblurError(f"the method {fault}")
    share = float(result.mask.mean())
    lowest, highest, _, _ = cv2.minMaxLoc(result.mask)
    if not (lowest >= 0 and highest <= 1 and np.isfinite(share)):  # the search passes over nan, the mean does not
        raise FaceblurError("the method returned a mask that is not within 0..1")
    _check_hidden(before, result, highest)
    return share


def hides(mask: Mask) -> bool:
    """Return whether a mask hides anything: a value below 0.5 says that a pixel has changed a little, as whole networks do it."""
    return bool(mask.size and mask.max() >= HIDDEN)


def _check_hidden(before: Image, result: Anonymized, highest: float) -> None:
    """:raises FaceblurError: if a face was found and not hidden, or the picture is unchanged where the mask says otherwise."""
    found, mask = result.detections, result.mask
    boxes = found.boxes.tolist() if found is not None and found.mask is None else []
    to_hide = 0 if found is None else len(found) - sum(_outside(box, *mask.shape) for box in boxes)
    if to_hide and highest < HIDDEN:
        raise FaceblurError(f"the method found {to_hide} faces and hid nothing")
    changed = [_changed(box, before, result.image, mask) for box in boxes]
    for box in (box for box, done in zip(boxes, changed, strict=True) if not done):
        if _left_as_it_was(box, before, result.image, mask):
            raise FaceblurError(f"the method found a face at {_text(box)} and left it as it was")
    for box in boxes:
        if _mostly_left(box, before, result.image, mask):
            raise FaceblurError(f"the method found a face at {_text(box)} and left most of it as it was")
    if any(changed) or highest < HIDDEN:
        return
    inside = before[mask >= HIDDEN]
    if np.array_equal(result.image, before) and np.ptp(inside, axis=0).any():  # what is flat may well stay as it is
        raise FaceblurError("the method says that it hid something, but the picture is unchanged")


def _outside(box: Sequence[float], height: int, width: int) -> bool:
    """Return whether a box lies outside the picture, where there is nothing to hide: a face that has just left a video."""
    x1, y1, x2, y2 = box
    return x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height


def _changed(box: Sequence[float], before: Image, after: Image, mask: Mask) -> bool:
    """Return whether the middle row of a box was changed. :raises FaceblurError: if the mask leaves the whole box open."""
    x1, y1, x2, y2 = box
    height, width = mask.shape
    rows, columns = inside = _pixels_of(box, height, width)
    flat = min(x2 - x1, y2 - y1) < 1e-3 or max(x2 - x1, y2 - y1) < 1  # shares of the picture's side, in place of pixels
    if not flat and _outside(box, height, width):
        return False
    row, column = min((rows.start + rows.stop) // 2, height - 1), min((columns.start + columns.stop) // 2, width - 1)
    if flat or (mask[row, column] < HIDDEN and not (mask[inside] >= HIDDEN).any()):
        raise FaceblurError(f"the method found a face at {_text(box)} and did not hide it")
    return bool((after[row, columns] != before[row, columns]).any())


def _left_as_it_was(box: Sequence[float], before: Image, after: Image, mask: Mask) -> bool:
    """Return whether no pixel of a box was changed, though there is something to see in what the mask hides of it."""
    inside = _pixels_of(box, *mask.shape)
    hidden = before[inside][mask[inside] >= HIDDEN]
    if min(mask[inside].shape) < LEAST or not len(hidden) or not np.ptp(hidden, axis=0).any():
        return False
    return np.array_equal(before[inside], after[inside])


def _mostly_left(box: Sequence[float], before: Image, after: Image, mask: Mask) -> bool:
    """Return whether most of what can be seen in a box, in LINES of its rows, was left as it was where the mask hides it.

    What is seen are edges: where there are none, a method may well leave a pixel as it was.
    """
    rows, columns = _pixels_of(box, *mask.shape)
    if min(rows.stop - rows.start, columns.stop - columns.start) < LEAST:
        return False
    lines = np.linspace(rows.start, rows.stop - 1, LINES).astype(int)
    one, other = before[lines, columns].astype(np.int16), after[lines, columns]
    seen = np.abs(np.diff(one, axis=1, prepend=one[:, :1])).max(axis=2) >= EDGE
    seen &= mask[lines, columns] >= HIDDEN
    return int(seen.sum()) >= LEAST and float((one != other).any(axis=2)[seen].mean()) < 0.5


def _pixels_of(box: Sequence[float], height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a picture that a box touches; none of one outside."""
    x1, y1, x2, y2 = box
    rows = slice(max(0, int(y1)), max(0, min(height, math.ceil(y2))))
    return rows, slice(max(0, int(x1)), max(0, min(width, math.ceil(x2))))


def _text(box: Sequence[float]) -> str:
    return str([round(side, 1) for side in box])
