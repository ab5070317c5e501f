"""Set faces, cut out of photos, into other pictures, and know where they are then."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from faceblur_core.datasets.labels import Face
from faceblur_core.types import Ellipse, Image, Mask

Matrix = NDArray[np.float64]  #: 2 x 3, from the pixels of one picture to those of another
SHARP = 0.8  #: a piece that is reduced further is smoothed first, against aliasing


def placing(face: Ellipse, scale: float, degrees: float, x: float, y: float, *, mirrored: bool = False) -> Matrix:
    """Return the similarity that puts the middle of a face at (x, y), turned and scaled."""
    angle = math.radians(degrees)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    flip = -1.0 if mirrored else 1.0
    linear = np.array([[cos * flip, -sin], [sin * flip, cos]])
    return np.column_stack([linear, np.array([x, y]) - linear @ [face.cx, face.cy]])


def moved(face: Face, matrix: Matrix) -> Face:
    """Return a face where a similarity (perhaps mirrored) puts it."""
    linear, shift = matrix[:, :2], matrix[:, 2]
    scale, outline = math.sqrt(abs(np.linalg.det(linear))), face.ellipse
    centre = linear @ [outline.cx, outline.cy] + shift
    axis = linear @ [math.cos(outline.angle), math.sin(outline.angle)]
    angle = math.atan2(axis[1], axis[0]) % math.pi
    ellipse = Ellipse(float(centre[0]), float(centre[1]), outline.rx * scale, outline.ry * scale, angle)
    if face.landmarks is None:
        return dataclasses.replace(face, ellipse=ellipse)
    points = face.landmarks @ linear.T + shift
    if np.linalg.det(linear) < 0:  # in a mirror the right eye is the left one
        points = points[[1, 0, 2, 4, 3]]
    return dataclasses.replace(face, ellipse=ellipse, landmarks=points.astype(np.float32))


def pasted(image: Image, piece: Image, weight: Mask, matrix: Matrix) -> tuple[Image, Mask]:
    """Return the image with a piece set into it, and where the piece is now, H x W of the image.

    :param weight: of each pixel of the piece, 0 to 1: its edge is soft
    """
    import cv2

    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    reduced = cv2.GaussianBlur(piece, (0, 0), 0.4 / scale) if scale < SHARP else piece
    size = (image.shape[1], image.shape[0])
    warped = cv2.warpAffine(reduced, matrix, size, flags=cv2.INTER_LINEAR)
    there = np.asarray(cv2.warpAffine(weight, matrix, size, flags=cv2.INTER_LINEAR), np.float32)
    return np.rint(image * (1 - there[..., None]) + warped * there[..., None]).astype(np.uint8), there
