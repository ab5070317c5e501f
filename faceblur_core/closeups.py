"""A second, coarser look at an image, so that faces which fill it are found."""

from __future__ import annotations

from collections.abc import Callable

from faceblur_core.types import Detections

LARGE = 240  #: pixels in the first look, from which on a face counts in the second
CLEAR = 0.4  #: score that it then has at least: a face that large is clear, or none


def with_closeups(look: Callable[[int], Detections], imgsz: int, close: int, longer: int, iou: float, most: int) -> Detections:
    """Return the faces that a network finds at ``imgsz`` pixels, and the large ones that it finds at ``close``.

    A network that learned from photos with many faces knows few that are larger than some 400 pixels, and misses these; in a
    smaller picture it finds them. ``LARGE`` and ``CLEAR`` were chosen for the network yolo-face on the validation part of its
    training set (see its model card).

    :param look: gives what is found when the image's longer side is scaled to so many pixels; boxes in the image's own pixels,
        scores from 0 to 1, the best first
    :param close: pixels of the second look; there is none if it is 0, or not below ``imgsz``
    :param longer: the image's longer side, pixels
    :param iou: boxes that overlap more are one face
    :param most: faces to return, the best
    """
    found = look(imgsz)
    if not 0 < close < imgsz:
        return found
    second = look(close)
    large = second.select((second.longer_sides() >= LARGE * longer / imgsz) & (second.scores >= CLEAR))
    if not len(large):
        return found
    merged = Detections.concat([found, large]).nms(iou)
    return merged.select(range(min(len(merged), most)))
