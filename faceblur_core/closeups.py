"""A second, coarser look at an image, so that faces which fill it are found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from faceblur_core.types import Detections, box_iou

LARGE = 240  #: pixels in the first look, from which on a face counts in the second
CLEAR = 0.4  #: score that it then has at least: a face that large is clear, or none


def with_closeups(look: Callable[[int], Detections], imgsz: int, closeup: int, longer: int, iou: float, most: int) -> Detections:
    """Return the faces that a network finds at ``imgsz`` pixels, and the large ones that it finds at ``closeup``.

    A network that learned from photos with many faces knows few that are larger than some 400 pixels, and misses these; in a
    smaller picture it finds them. ``LARGE`` and ``CLEAR`` were chosen for the network yolo-face on the validation part of its
    training set (see its model card).

    :param look: gives what is found when the image's longer side is scaled to so many pixels; boxes in the image's own pixels,
        scores from 0 to 1, the best first
    :param closeup: pixels of the second look; there is none if it is 0, or not below ``imgsz``
    :param longer: the image's longer side, pixels
    :param iou: boxes that overlap more are one face
    :param most: faces to return, the best
    """
    found = look(imgsz)
    if not 0 < closeup < imgsz:
        return found
    second = look(closeup)
    large = second.select((second.longer_sides() >= LARGE * longer / imgsz) & (second.scores >= CLEAR))
    if not len(large):
        return found
    merged = joined(found, large, iou)
    return merged.select(range(min(len(merged), most)))


def joined(found: Detections, large: Detections, iou: float) -> Detections:
    """Return the faces of two looks at an image; one that both found gets a box that holds both of its boxes.

    The better score alone would not do: the first look may have seen a part of a large face clearly, and the second the whole.

    :param found: the faces of the first look
    :param large: those of the second
    :param iou: boxes that overlap more are one face
    """
    merged = Detections.concat([found, large]).nms(iou)
    boxes = merged.boxes.copy()
    for box in large.boxes:
        same = int(box_iou(box[None], merged.boxes)[0].argmax())
        boxes[same] = [*np.minimum(boxes[same, :2], box[:2]), *np.maximum(boxes[same, 2:], box[2:])]
    return dataclasses.replace(merged, boxes=boxes)
