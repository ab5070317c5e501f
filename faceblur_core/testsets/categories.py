"""The rules by which a photo of a test set gets its category, from the truth, its flags, landmarks and pixels.

A photo is in one category:

* ``face-free``: no face at all;
* ``difficult``: a face that is occluded, in profile or strongly turned, in extreme light, blurred, or lower than
  10 % of the picture;
* ``multiple``: two or more faces, each at least 10 % of the picture's height;
* ``frontal``: one face, at least 30 % of the picture's height;
* ``medium``: one face, from 10 % to 30 %.

The first that fits is taken, in this order. Faces to be ignored (see ``least_face`` in the config) do not count, unless
there are no others: then the photo is ``difficult``. Glasses and hats show in no label of the sets that we have; a config
names such photos in ``overrides``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from faceblur_core.datasets.labels import Face
from faceblur_core.types import Ellipse, Floats, Image

CATEGORIES = ("frontal", "medium", "multiple", "difficult", "face-free")
SMALL, LARGE = 0.10, 0.30  #: of the picture's height
PROFILE = 0.35  #: distance of the nose from the middle of the eyes, along their line, in eye distances
TILTED = math.radians(30)  #: of the eyes' line, or of the ellipse's longer axis against the upright
ROUND = 1.15  #: an ellipse whose axes differ by less says nothing of a tilt
DARK, BRIGHT = 35, 190  #: mean grey level of a face, 0 to 255
SOFT = 120.0  #: variance of the Laplacian of a face reduced to FACE_SIDE pixels: below it is blurred
FACE_SIDE = 48  #: pixels
#: What makes a face difficult: flags of the labels, and those that are found here.
DIFFICULT = frozenset(
    {"heavy-blur", "occlusion", "heavy-occlusion", "illumination", "pose"}
    | {"profile", "tilted", "dark", "bright", "soft", "small"}
)


def found_flags(face: Face, image: Image) -> frozenset[str]:
    """Return the flags that a face's size, landmarks and pixels give it."""
    height = image.shape[0]
    flags = {"small"} if face.height < SMALL * height else set()
    flags |= _pose_flags(face)
    patch = _patch(face.ellipse, image)
    if patch is not None:
        flags |= _pixel_flags(patch)
    return frozenset(flags)


def _pose_flags(face: Face) -> set[str]:
    flags = set()
    long, short = max(face.ellipse.rx, face.ellipse.ry), min(face.ellipse.rx, face.ellipse.ry)
    if long > ROUND * short:
        axis = face.ellipse.angle if face.ellipse.rx > face.ellipse.ry else face.ellipse.angle + math.pi / 2
        if abs((axis % math.pi) - math.pi / 2) > TILTED:
            flags.add("tilted")
    if face.landmarks is not None:
        right, left, nose = (point.astype(float) for point in face.landmarks[:3])
        line = left - right
        distance = float(np.hypot(*line))
        if distance > 0:
            off = abs(float(np.dot(nose - (right + left) / 2, line))) / distance**2
            flags |= {"profile"} if off > PROFILE else set()
            flags |= {"tilted"} if abs(math.atan2(line[1], line[0])) > TILTED else set()
    return flags


def _patch(ellipse: Ellipse, image: Image) -> Floats | None:
    """Return the grey levels of the ellipse's box, reduced so that its longer side is FACE_SIDE; None outside the image."""
    import cv2

    height, width = image.shape[:2]
    x1, y1, x2, y2 = ellipse.bounds()
    left, top, right, bottom = max(0, round(x1)), max(0, round(y1)), min(width, round(x2)), min(height, round(y2))
    if right - left < 2 or bottom - top < 2:
        return None
    grey = cv2.cvtColor(np.ascontiguousarray(image[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
    scale = FACE_SIDE / max(grey.shape)
    size = max(2, round(grey.shape[1] * scale)), max(2, round(grey.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, size, interpolation=method), np.float32)


def _pixel_flags(patch: Floats) -> set[str]:
    import cv2

    mean = float(patch.mean())
    if mean < DARK:
        return {"dark"}  # whether it is sharp cannot be told
    flags = {"bright"} if mean > BRIGHT else set()
    return flags | ({"soft"} if float(cv2.Laplacian(patch, cv2.CV_32F).var()) < SOFT else set())


def category_of(faces: Sequence[Face], height: int) -> str:
    """Return the category of a photo of that height with these faces, their flags complete."""
    counted = [face for face in faces if "ignore" not in face.flags]
    if not counted:
        return "difficult" if faces else "face-free"
    if any(face.flags & DIFFICULT for face in counted):
        return "difficult"
    if len(counted) > 1:
        return "multiple"
    return "frontal" if counted[0].height >= LARGE * height else "medium"
