"""Which square of a photo becomes a training picture, and where its faces are then."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from faceblur_core.datasets.labels import Face, LabelledPhoto
from faceblur_core.types import Ellipse, Image, Mask, option

Weight = Annotated[float, Ge(0), Le(1e6)]
TRIES = 20  #: squares that are tried for one without a face
CUT = 0.4  #: most of a face's width or height that a crop may cut off
LIKE = 3.0  #: faces in one crop around several differ in height by at most this factor


@dataclass(frozen=True)
class Crops:
    """How squares are chosen. The weights say how often each kind is; a photo that cannot give one kind gives another."""

    face: Weight = option(1.0, "weight of squares about one face, off the centre as often as not")
    several: Weight = option(0.0, "weight of squares about two or more faces of like size")
    whole: Weight = option(0.0, "weight of whole photos, with black bars to a square; each is taken once")
    empty: Weight = option(0.0, "weight of squares without a face")
    least: Annotated[float, Gt(0), Le(1)] = option(0.22, "least height of the face, as a share of the side")
    most: Annotated[float, Gt(0), Le(1.5)] = option(0.85, "greatest height of the face, as a share of the side")
    cut: Annotated[float, Ge(0), Le(1)] = option(0.1, "share of squares about one face that may cut some of it off")
    least_pixels: Annotated[float, Ge(1)] = option(24.0, "least height in the photo of a face that a square is made for, pixels")
    beyond: Annotated[float, Ge(1), Le(4)] = option(1.0, "greatest side of a square about a face, in longer sides of its photo")
    per_photo: Annotated[int, Ge(1)] = option(4, "most squares of one photo")


@dataclass(frozen=True, slots=True)
class Crop:
    """A square of a photo, in its pixels; it may reach beyond the photo, where it is black."""

    x: int
    y: int
    side: int


def plan_crop(photo: LabelledPhoto, crops: Crops, rng: np.random.Generator, taken: Container[Crop] = ()) -> Crop | None:
    """Return a square of the photo, of a kind drawn by the weights; None if the photo can give no kind that has a weight.

    :param taken: squares that it is not to be: a kind that gives one of them gives way to another, as the whole photo does
    """
    makers = {"face": _about_one, "several": _about_several, "whole": _whole, "empty": _without_face}
    weights = {kind: getattr(crops, kind) for kind in makers}
    while total := sum(weights.values()):
        kind = str(rng.choice(list(weights), p=[weight / total for weight in weights.values()]))
        crop = makers[kind](photo, crops, rng)
        if crop is not None and crop not in taken:
            return crop
        del weights[kind]
    return None


def _large_enough(photo: LabelledPhoto, crops: Crops) -> list[Face]:
    return [face for face in photo.faces if face.height >= crops.least_pixels and "ignore" not in face.flags]


def _about_one(photo: LabelledPhoto, crops: Crops, rng: np.random.Generator) -> Crop | None:
    faces = _large_enough(photo, crops)
    if not faces:
        return None
    face = faces[rng.integers(len(faces))]
    side = face.height / rng.uniform(crops.least, crops.most)
    allowed = CUT if rng.random() < crops.cut else 0.0
    return _place(photo, face.ellipse.bounds(), side, crops.beyond, rng, allowed)


def _about_several(photo: LabelledPhoto, crops: Crops, rng: np.random.Generator) -> Crop | None:
    faces = _large_enough(photo, crops)
    if len(faces) < 2:
        return None
    first = faces[rng.integers(len(faces))]
    others = [face for face in faces if face is not first and 1 / LIKE <= face.height / first.height <= LIKE]
    if not others:
        return None
    others.sort(key=lambda face: math.hypot(face.ellipse.cx - first.ellipse.cx, face.ellipse.cy - first.ellipse.cy))
    chosen = [first, *others[: rng.integers(1, min(len(others), 3) + 1)]]
    while len(chosen) > 1:
        boxes = np.array([face.ellipse.bounds() for face in chosen])
        box = (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))
        side = max(box[2] - box[0], box[3] - box[1]) * rng.uniform(1.05, 1.5)
        if min(face.height for face in chosen) >= crops.least / 2 * side:
            return _place(photo, box, side, 1.0, rng)
        chosen.pop()
    return None


def _whole(photo: LabelledPhoto, _: Crops, __: np.random.Generator) -> Crop:
    side = max(photo.height, photo.width)
    return Crop((photo.width - side) // 2, (photo.height - side) // 2, side)


def _without_face(photo: LabelledPhoto, _: Crops, rng: np.random.Generator) -> Crop | None:
    boxes = np.array([face.ellipse.bounds() for face in photo.faces]).reshape(-1, 4)
    margin = 0.15 * (boxes[:, 2:] - boxes[:, :2])
    boxes = np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)
    shorter = min(photo.height, photo.width)
    for _try in range(TRIES):
        side = max(1, round(shorter * rng.uniform(0.35, 1.0)))
        x, y = int(rng.integers(photo.width - side + 1)), int(rng.integers(photo.height - side + 1))
        apart = (boxes[:, 0] >= x + side) | (boxes[:, 2] <= x) | (boxes[:, 1] >= y + side) | (boxes[:, 3] <= y)
        if apart.all():
            return Crop(x, y, side)
    return None


def _place(
    photo: LabelledPhoto, box: Sequence[float], side: float, beyond: float, rng: np.random.Generator, cut: float = 0.0
) -> Crop:
    """Return a square of about that side anywhere about the box; inside the photo, as far as it fits there."""
    size = min(round(side), round(beyond * max(photo.height, photo.width)))
    x = _start(float(box[0]), float(box[2]), size, cut, photo.width, rng)
    y = _start(float(box[1]), float(box[3]), size, cut, photo.height, rng)
    return Crop(x, y, size)


def _start(low: float, high: float, size: int, cut: float, length: int, rng: np.random.Generator) -> int:
    """Return where on one axis a span of ``size`` begins that holds low..high, up to the share ``cut`` of it."""
    slack = cut * (high - low)
    first, last = sorted((high - size - slack, low + slack))
    start = round(rng.uniform(first, last))
    return int(np.clip(start, min(0, length - size), max(0, length - size)))


def render(image: Image, crop: Crop, size: int) -> Image:
    """Return the square, resized to ``size`` x ``size`` x 3; black where it reaches beyond the image."""
    import cv2

    height, width = image.shape[:2]
    square = np.zeros((crop.side, crop.side, 3), np.uint8)
    left, top = max(crop.x, 0), max(crop.y, 0)
    right, bottom = min(crop.x + crop.side, width), min(crop.y + crop.side, height)
    if right > left and bottom > top:
        square[top - crop.y : bottom - crop.y, left - crop.x : right - crop.x] = image[top:bottom, left:right]
    method = cv2.INTER_AREA if crop.side >= size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (size, size), interpolation=method), np.uint8)


def shown_part(crop: Crop, height: int, width: int, size: int) -> tuple[slice, slice]:
    """Return the rows and columns of the resized square that show an H x W photo; around them it is black."""
    scale = size / crop.side

    def span(start: int, length: int) -> slice:
        return slice(round(max(0, -start) * scale), round(min(crop.side, length - start) * scale))

    return span(crop.y, height), span(crop.x, width)


def faces_in(faces: Sequence[Face], crop: Crop, size: int, least: float) -> tuple[Ellipse, ...]:
    """Return the ellipses of the faces that show in a square, in the pixels of the resized square.

    Faces lower than ``least`` pixels there are left out, as is what lies outside.
    """
    scale = size / crop.side
    shown = []
    for face in faces:
        e = face.ellipse
        moved = Ellipse((e.cx - crop.x) * scale, (e.cy - crop.y) * scale, e.rx * scale, e.ry * scale, e.angle)
        x1, y1, x2, y2 = moved.bounds()
        if y2 - y1 >= least and x1 < size and y1 < size and x2 > 0 and y2 > 0:
            shown.append(moved)
    return tuple(shown)


def soft_mask(faces: Sequence[Ellipse], height: int, width: int, grow: float, feather: float) -> Mask:
    """Return the H x W mask that is 1 in the ellipses grown by ``grow`` and falls to 0 over ``feather`` of their size outside."""
    mask = np.zeros((height, width), np.float32)
    for face in faces:
        falling = (1 + feather - face.reach(height, width) / grow) / max(feather, 1e-6)
        np.maximum(mask, np.clip(falling, 0, 1).astype(np.float32), out=mask)
    return mask
