"""Pixel masks beside the pictures, such as CelebAMask-HQ's (Lee et al., CVPR 2020) with the parts of the face merged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceblur_core.datasets.labels import (
    BadRow,
    BadRows,
    Face,
    LabelledPhoto,
    check_ellipse,
    moments_ellipse,
    pictures_by_name,
    size_of,
)
from faceblur_core.types import Ellipse, option


@dataclass(frozen=True)
class PixelMasks:
    """A grey mask per picture, by the same name up to the suffix: white is face. The face is the mask's hull as an ellipse."""

    images: Path = option(..., "folder of the pictures")
    masks: Path = option(..., "folder of the masks")
    unmasked: bool = option(False, "take the pictures without a mask too, unlabelled: for detectors to label")
    pixels: bool = option(
        False, "in training sets the truth is the mask itself, not the ellipse; grow and feather leave it alone"
    )

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        pictures, masks = pictures_by_name(self.images, bad), pictures_by_name(self.masks, bad)
        for name in masks:
            if name not in pictures:
                bad(masks[name], None, f"there is no picture for it in {self.images}")
        for name, path in pictures.items():
            mask = masks.get(name)
            if mask is None and not self.unmasked:
                continue
            try:
                height, width = size_of(path)
                ellipses = [check_ellipse(mask_ellipse(mask, height, width), height, width)] if mask else []
            except BadRow as error:
                bad(mask or path, None, str(error))
                continue
            faces = tuple(Face(ellipse, pixels=mask if self.pixels else None) for ellipse in ellipses)
            yield LabelledPhoto(path, path.relative_to(self.images).as_posix(), height, width, faces)


def mask_ellipse(path: Path, height: int, width: int) -> Ellipse:
    """Return the ellipse with the area moments of the hull of a mask's white pixels.

    :raises BadRow: if the file is no picture, is not H x W, or holds no white
    """
    import cv2

    pixels = read_mask(path, height, width)
    points = cv2.findNonZero((pixels >= 128).astype(np.uint8))
    if points is None:
        raise BadRow(f"the mask is empty: white is 128 and more, and its brightest pixel is {pixels.max()}")
    hull = cv2.convexHull(points)
    filled = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), hull, 1)
    ellipse = moments_ellipse(cv2.moments(filled, binaryImage=True))
    return Ellipse(ellipse.cx + 0.5, ellipse.cy + 0.5, ellipse.rx, ellipse.ry, ellipse.angle)  # OpenCV counts pixel centres


def read_mask(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Return the grey picture in a file. :raises BadRow: if it is no picture, or not H x W"""
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    except OSError as error:
        raise BadRow(str(error.strerror)) from None
    except cv2.error:  # an empty file, or too many pixels
        pixels = None
    if pixels is None:
        raise BadRow("no picture, or damaged")
    if pixels.shape != (height, width):
        raise BadRow(f"the mask has {pixels.shape[1]} x {pixels.shape[0]} pixels, its picture {width} x {height}")
    return np.asarray(pixels, np.uint8)
