"""FDDB's ellipse folds (Jain and Learned-Miller, "FDDB: A Benchmark for Face Detection in Unconstrained Settings", 2010)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faceblur_core.datasets.labels import BadRow, BadRows, Face, LabelledPhoto, check_ellipse, counted_blocks, each, size_of
from faceblur_core.errors import FaceblurError
from faceblur_core.types import Ellipse, option


@dataclass(frozen=True)
class Fddb:
    """Rows ``major minor angle x y 1``: half axes in pixels, and the angle in radians from the x axis to the major one.

    The angle turns as seen on screen, clockwise, for y points down.
    """

    images: Path = option(..., "folder originalPics")
    folds: Path = option(..., "folder with FDDB-fold-*-ellipseList.txt, or one such file")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        files = sorted(self.folds.glob("*ellipseList.txt")) if self.folds.is_dir() else [self.folds]
        if not files:
            raise FaceblurError(f"folder {self.folds} holds no *ellipseList.txt")
        for file in files:
            for number, name, rows in counted_blocks(file, bad, (6, 5), "major minor angle x y 1"):
                picture = f"{name}.jpg"
                try:
                    height, width = size_of(self.images / picture)
                    faces = each(rows, _face, height, width)
                except BadRow as error:
                    bad(file, error.line or number, str(error))
                    continue
                yield LabelledPhoto(self.images / picture, picture, height, width, faces)


def _face(values: list[float], height: int, width: int) -> Face:
    major, minor, angle, cx, cy = values[:5]
    return Face(check_ellipse(Ellipse(cx, cy, major, minor, angle), height, width))
