"""What photos show and Ultralytics' augmentation does not: faces out of focus, faces partly hidden, faces that lie on their
side or hang upside down, pictures of mere colours.

The first two happen to chosen faces, and to what is beside them, so that one picture shows sharp ones and such ones, as photos
do; the boxes stay as they are. The third happens to whole pictures, by right angles, so that the boxes stay as tight as they
are: turned by others, as ``degrees`` does it, a box has to grow. The last one happens to pictures without a face: a network that
learns to find blurred faces finds them also in smooth fields of colour, as a sky, a wall or a strong blur has them, unless it is
shown some.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Boxes = NDArray[np.floating]
LEAST = 12  #: height of the smallest face that is chosen, pixels
HEAD = 1.2  #: half axes of what goes out of focus with a face, in widths and heights of its box
SIGMAS = (0.015, 0.07)  #: standard deviation of the blur, in heights of the face
TRIES = 16  #: places where a piece without a face is looked for
FIELDS = (2, 24)  #: along each side of a picture that becomes smooth: how many colours stay


def add_effects(dataset: Any, *, defocus: float, cover: float, turn: float, smooth: float) -> None:
    """Put ours into the transforms of a data set of Ultralytics, before the last one, which makes tensors.

    :param defocus, cover, turn: in what share of the pictures it happens
    :param smooth: the same, of those without a face
    """
    effects = Effects(defocus, cover, turn, smooth)
    dataset.transforms = _with(effects, dataset.transforms)
    dataset.build_transforms = partial(_built, dataset.build_transforms, effects)  # called again when mosaics end


def _built(build: Callable[..., Any], effects: Effects, *args: Any, **options: Any) -> Any:
    """Return the transforms that a data set builds, with ours."""
    return _with(effects, build(*args, **options))


def _with(effects: Effects, transforms: Any) -> Any:
    """Return Ultralytics' chain of transforms with ours before its last one."""
    transforms.insert(-1, effects)
    return transforms


class Effects:
    """A transform in Ultralytics' chain."""

    def __init__(self, defocus: float, cover: float, turn: float, smooth: float) -> None:
        self.defocus, self.cover, self.turn, self.smooth = defocus, cover, turn, smooth

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Change ``labels["img"]``, H x W x 3 uint8, where its turn comes."""
        blurs, covers = random.random() < self.defocus, random.random() < self.cover
        smooths = self.smooth > 0 and random.random() < self.smooth  # without it no draw: runs from before it stay the same
        turns = self.turn > 0 and random.random() < self.turn
        instances = labels["instances"]
        if blurs or covers or turns:
            instances.convert_bbox("xyxy")
            instances.denormalize(*labels["img"].shape[1::-1])
        if smooths and not len(instances):
            labels["img"] = smoothed(np.ascontiguousarray(labels["img"]))
        elif blurs or covers:
            picture, boxes = np.ascontiguousarray(labels["img"]), instances.bboxes
            if covers:
                picture = covered(picture, boxes)
            labels["img"] = defocused(picture, boxes) if blurs else picture
        if turns:
            labels["img"], boxes = turned(labels["img"], instances.bboxes)
            instances.update(boxes)
        return labels


def defocused(picture: Picture, boxes: Boxes) -> Picture:
    """Return the picture with some heads out of focus, at least one; where there is no face, a place of a head's size.

    :param picture: H x W x 3 uint8
    :param boxes: N x 4, x1 y1 x2 y2 in pixels
    """
    import cv2

    height, width = picture.shape[:2]
    chosen = [box for box in boxes if box[3] - box[1] >= LEAST]
    if not len(boxes):
        side = random.uniform(0.1, 0.4) * height
        x, y = random.uniform(0, width - side), random.uniform(0, height - side)
        chosen = [np.array([x, y, x + side, y + side])]
    if not chosen:
        return picture
    random.shuffle(chosen)
    out = picture.copy()
    for box in chosen[: random.randint(1, len(chosen))]:
        face_width, face_height = box[2] - box[0], box[3] - box[1]
        sigma = float(random.uniform(*SIGMAS) * face_height)
        centre, axes = (box[:2] + box[2:]) / 2, np.array([face_width, face_height]) * HEAD
        reach = axes + 3 * sigma
        x1, y1 = np.clip(np.floor(centre - reach), 0, (width, height)).astype(int)
        x2, y2 = np.clip(np.ceil(centre + reach), 0, (width, height)).astype(int)
        part = out[y1:y2, x1:x2]
        if not part.size:
            continue
        alpha = np.zeros(part.shape[:2], np.float32)
        middle = (int(centre[0] - x1), int(centre[1] - y1))
        cv2.ellipse(alpha, middle, (int(axes[0]), int(axes[1])), 0, 0, 360, 1.0, -1)
        alpha = cv2.GaussianBlur(alpha, (0, 0), sigma)[..., None]
        blurred = cv2.GaussianBlur(part, (0, 0), sigma)
        out[y1:y2, x1:x2] = np.rint(alpha * blurred + (1 - alpha) * part).astype(np.uint8)
    return out


def smoothed(picture: Picture) -> Picture:
    """Return what is left of the picture's colours when a few of them are kept and all between them is interpolated.

    In half of the cases they are stretched, so that each channel goes from 0 to 255.

    :param picture: H x W x 3 uint8
    """
    import cv2

    height, width = picture.shape[:2]
    wide, high = (round(FIELDS[0] * (FIELDS[1] / FIELDS[0]) ** random.random()) for _ in range(2))  # log-uniform
    few = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA).astype(np.float32)
    if random.random() < 0.5:
        least, most = few.min((0, 1)), few.max((0, 1))
        few = (few - least) * (255 / np.maximum(most - least, 1))
    way = random.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC))
    return np.clip(np.rint(cv2.resize(few, (width, height), interpolation=way)), 0, 255).astype(np.uint8)


def turned(picture: Picture, boxes: Boxes) -> tuple[Picture, Boxes]:
    """Return the picture turned by a right angle or two, as often upside down as on its side, and the boxes with it.

    :param picture: H x W x 3 uint8; only a square one is put on its side, for all pictures of a batch have one size
    :param boxes: N x 4, x1 y1 x2 y2 in pixels
    """
    height, width = picture.shape[:2]
    quarters = random.choice((1, 2, 2, 3))
    if quarters == 2 or height != width:
        return np.ascontiguousarray(picture[::-1, ::-1]), np.array([width, height] * 2, boxes.dtype) - boxes[:, [2, 3, 0, 1]]
    x1, y1, x2, y2 = boxes.T
    corners = (y1, width - x2, y2, width - x1) if quarters == 1 else (height - y2, x1, height - y1, x2)
    return np.ascontiguousarray(np.rot90(picture, quarters)), np.stack(corners, axis=1)


def covered(picture: Picture, boxes: Boxes) -> Picture:
    """Return the picture with one face hidden in part, from one side, by a piece of the picture without faces, if it has one.

    :param picture: H x W x 3 uint8
    :param boxes: N x 4, x1 y1 x2 y2 in pixels
    """
    chosen = [box for box in boxes if box[3] - box[1] >= LEAST]
    if not chosen:
        return picture
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = (float(value) for value in random.choice(chosen))
    share, beyond = random.uniform(0.2, 0.5), random.uniform(0.0, 0.5)
    side = random.randrange(4)
    if side < 2:
        middle, out = (x2 - x1) * share, (x2 - x1) * beyond
        x1, x2 = (x1 - out, x1 + middle) if side == 0 else (x2 - middle, x2 + out)
    else:
        middle, out = (y2 - y1) * share, (y2 - y1) * beyond
        y1, y2 = (y1 - out, y1 + middle) if side == 2 else (y2 - middle, y2 + out)
    left, top, right, bottom = max(round(x1), 0), max(round(y1), 0), min(round(x2), width), min(round(y2), height)
    wide, high = right - left, bottom - top
    if wide < 1 or high < 1:
        return picture
    for _ in range(TRIES):
        x, y = random.randint(0, width - wide), random.randint(0, height - high)
        if not _overlaps(boxes, x, y, x + wide, y + high):
            result = picture.copy()
            result[top:bottom, left:right] = picture[y : y + high, x : x + wide]
            return result
    return picture


def _overlaps(boxes: Boxes, x1: int, y1: int, x2: int, y2: int) -> bool:
    """Return whether any of the boxes shares a pixel with the given one."""
    return bool(((boxes[:, 0] < x2) & (boxes[:, 2] > x1) & (boxes[:, 1] < y2) & (boxes[:, 3] > y1)).any())
