"""68 key points per face (iBUG's order, Sagonas et al., 2013): ``.pts`` files beside the pictures, or rows of a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceblur_core.datasets.labels import (
    BadRow,
    BadRows,
    Face,
    LabelledPhoto,
    check_ellipse,
    each,
    moments_ellipse,
    numbers,
    own_lines,
    pictures_by_name,
    read_text,
    sane,
    size_of,
)
from faceblur_core.errors import FaceblurError
from faceblur_core.media.images import FORMAT_OF
from faceblur_core.types import Ellipse, Floats, option

COUNT = 68
CHIN, NOSE_TIP = 8, 30
BROWS, RIGHT_EYE, LEFT_EYE = slice(17, 27), slice(36, 42), slice(42, 48)  #: right is the person's, left in the picture
MOUTH_CORNERS = [48, 54]
FOREHEAD = 0.5  #: from brows to hairline, in heights from brows to chin: the face's upper of three equal parts


@dataclass(frozen=True)
class Pts:
    """One ``.pts`` file per labelled picture, with the picture's name; a picture without one is left out."""

    images: Path = option(..., "folder of the pictures and the .pts files, with subfolders")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        pictures = pictures_by_name(self.images, bad)
        files = sorted(self.images.rglob("*.pts"))
        if not files:
            raise FaceblurError(f"folder {self.images} holds no *.pts")
        for file in files:
            picture = pictures.get(file.relative_to(self.images).with_suffix(""))
            if picture is None:
                bad(file, 1, "there is no picture of that name beside it")
                continue
            try:
                line, points = _read_pts(file)
                height, width = size_of(picture)
                faces = each([(line, points)], face_of, height, width)
            except BadRow as error:
                bad(file, error.line or 1, str(error))
                continue
            yield LabelledPhoto(picture, picture.relative_to(self.images).as_posix(), height, width, faces)


def _read_pts(path: Path) -> tuple[int, Floats]:
    """Return the line of the first point and the points. :raises BadRow: if it is no file of 68 points."""
    lines = own_lines(path)
    rows, end = lines, lines[-1][0] if lines else 1
    if any(text == "{" or ":" in text for _, text in lines):  # with its header; many copies go without
        braces = [index for index, (_, text) in enumerate(lines) if text in ("{", "}")]
        if [lines[index][1] for index in braces] != ["{", "}"]:
            raise BadRow("the points should stand between { and }; the file is cut off", end)
        rows, end = lines[braces[0] + 1 : braces[1]], lines[braces[1]][0]
    points = []
    for number, text in rows:
        values = numbers(text)
        if values is None or len(values) != 2 or not all(map(math.isfinite, values)):
            raise BadRow(f"a point should be two numbers: {text[:60]}", number)
        points.append(values)
    if len(points) != COUNT:
        raise BadRow(f"{len(points)} points; there should be {COUNT}", end)
    return rows[0][0], _points(points)


@dataclass(frozen=True)
class PointsCsv:
    """Rows of a picture's name and 136 numbers, x and y of each point; several rows are several faces. A header may be above."""

    images: Path = option(..., "folder that the names of the pictures are relative to")
    annotations: Path = option(..., "the CSV file")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        reader = csv.reader(io.StringIO(read_text(self.annotations), newline=""), strict=True)
        rows: dict[str, list[tuple[int, list[str]]]] = defaultdict(list)
        try:
            for row in reader:
                if any(map(str.strip, row)) and (reader.line_num > 1 or Path(row[0]).suffix.lower() in FORMAT_OF):
                    rows[row[0]].append((reader.line_num, row[1:]))
        except csv.Error as error:
            raise FaceblurError(f"{self.annotations}, line {reader.line_num}: no CSV ({error})") from None
        for name, items in rows.items():
            try:
                height, width = size_of(self.images / name)
                faces = each(items, _face, height, width)
            except BadRow as error:
                bad(self.annotations, error.line or items[0][0], str(error))
                continue
            yield LabelledPhoto(self.images / name, name, height, width, faces)


def _face(cells: list[str], height: int, width: int) -> Face:
    values = numbers(" ".join(cells))
    if values is None:
        raise BadRow("a cell that is no number")
    if len(values) != 2 * COUNT:
        raise BadRow(f"{len(values)} numbers after the name; there should be {2 * COUNT}, x and y of {COUNT} points")
    return face_of(_points(values), height, width)


def _points(values: list[float] | list[list[float]]) -> Floats:
    with np.errstate(over="ignore"):  # a number too large for them becomes infinite, and face_of says so
        return np.array(values, np.float32).reshape(COUNT, 2)


def face_of(points: Floats, height: int, width: int) -> Face:
    """Return the face with 68 points (68 x 2 pixels, iBUG's order): its ellipse and five landmarks.

    :raises BadRow: if a point is not finite, or the face has no size or lies outside the picture
    """
    if not sane(points.ravel().tolist()):
        raise BadRow("a point with a value that is no number, or that lies far outside every picture")
    landmarks = np.stack([points[RIGHT_EYE].mean(0), points[LEFT_EYE].mean(0), points[NOSE_TIP], *points[MOUTH_CORNERS]])
    return Face(check_ellipse(hairline_ellipse(points), height, width), landmarks=landmarks.astype(np.float32))


def hairline_ellipse(points: Floats) -> Ellipse:
    """Return the ellipse with the area moments of the points' hull, grown to the hairline.

    The points end at the brows. The forehead is added as the brows moved along the line from the chin to their middle,
    by FOREHEAD times its length.

    :raises BadRow: if the points have no area
    """
    import cv2

    brows = points[BROWS]
    up = (brows.mean(axis=0) - points[CHIN]) * FOREHEAD
    hull = cv2.convexHull(np.concatenate([points, brows + up]).astype(np.float32))
    ellipse = moments_ellipse(cv2.moments(hull))
    if not all(map(math.isfinite, (ellipse.cx, ellipse.cy))):
        raise BadRow("an outline without an area")
    return ellipse
