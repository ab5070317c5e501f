"""What every importer yields, and how it says that a row of an annotation file is bad."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from faceblur_core.errors import FaceblurError, UnreadableImage
from faceblur_core.media.images import FORMAT_OF, photo_size
from faceblur_core.types import Detections, Ellipse, Floats

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Face:
    """A labelled face."""

    ellipse: Ellipse
    flags: frozenset[str] = frozenset()  #: see FLAGS
    landmarks: Floats | None = None  #: 5 x 2 pixels, in the order of ``Detections.landmarks``
    score: float | None = None  #: of the detector that found it; None for a label made by people

    @property
    def height(self) -> float:
        """The height of the ellipse's bounding box, pixels."""
        return 2 * half_extent(self.ellipse)[1]


#: What a face can be flagged with: WIDER FACE's attributes, and ``ignore`` for faces that no method can be held to.
FLAGS = ("blur", "heavy-blur", "expression", "illumination", "occlusion", "heavy-occlusion", "pose", "ignore")


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """A photo and the faces that are known in it."""

    path: Path
    name: str  #: relative to the source's folder, with forward slashes: unique within the source
    height: int  #: pixels, upright
    width: int
    faces: tuple[Face, ...] = ()
    identity: str | None = None  #: of the labelled face, where there is one
    groups: Mapping[str, str] = field(default_factory=dict)  #: such as ``{"gender": "female"}``


@dataclass(slots=True)
class BadRows:
    """What happens to rows that cannot be used: an error at once, or with ``skip`` a line in ``skipped``.

    A photo with a bad row is left out as a whole: without the row it would hold a face that nobody labelled.
    """

    skip: bool = False
    skipped: list[str] = field(default_factory=list)

    def __call__(self, path: Path, line: int | None, message: str) -> None:
        """:raises FaceblurError: with file and line, unless such rows are skipped."""
        where = f"{path}, line {line}" if line else f"{path}"
        if not self.skip:
            raise FaceblurError(f"{where}: {message} (--skip-bad leaves out photos with such rows)")
        self.skipped.append(f"{where}: {message}")


class BadRow(Exception):
    """A row that cannot be used; the importer knows the file."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def each(rows: Iterable[tuple[int, T]], make: Callable[[T, int, int], R], height: int, width: int) -> tuple[R, ...]:
    """Return ``make(row, height, width)`` for every (line, row). :raises BadRow: as ``make`` does, with the line."""
    results = []
    for line, row in rows:
        try:
            results.append(make(row, height, width))
        except BadRow as error:
            raise BadRow(str(error), line) from None
    return tuple(results)


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, text without its end) of every line; Windows line ends and a byte order mark are no matter.

    :raises FaceblurError: if the file cannot be read or is no text
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    return list(enumerate(text.removesuffix("\n").split("\n"), start=1))


def read_text(path: Path) -> str:
    """:raises FaceblurError: if the file cannot be read or is no text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FaceblurError(f"annotation file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise FaceblurError(f"{path}, line {line}: no UTF-8 text") from None


def numbers(text: str) -> list[float] | None:
    """Return the numbers of a row separated by blanks or commas, or None if one of its words is none."""
    try:
        return [float(word) for word in text.replace(",", " ").split()] or None
    except ValueError:
        return None


def counted_blocks(path: Path, bad: BadRows) -> Iterator[tuple[int, str, list[tuple[int, list[float]]]]]:
    """Yield (line, name, rows) from a file of blocks: a picture's name, the number of its rows, the rows of numbers.

    This is the form of WIDER FACE and of FDDB. A picture with 0 faces may have no row or one row, which is left out.
    """
    lines = [(number, text.strip()) for number, text in numbered_lines(path) if text.strip()]
    at = 0
    while at < len(lines):
        number, name = lines[at]
        at += 1
        if numbers(name) is not None:
            bad(path, number, f"a row of numbers where the name of a picture should be; the count above it is wrong: {name[:60]}")
            continue
        count = numbers(lines[at][1]) if at < len(lines) else None
        if count is None or len(count) != 1 or count[0] < 0 or count[0] != int(count[0]):
            bad(path, number, f"no number of faces after {name}")
            continue
        at += 1
        rows: list[tuple[int, list[float]]] = []
        while at < len(lines) and (values := numbers(lines[at][1])) is not None and len(rows) < max(1, count[0]):
            rows.append((lines[at][0], values))
            at += 1
        if count[0] == 0:
            yield number, name, []
        elif len(rows) < count[0]:
            at_line = lines[at][0] if at < len(lines) else lines[-1][0]
            bad(path, at_line, f"{name} should have {count[0]:g} rows of numbers and has {len(rows)}")
        else:
            yield number, name, rows


def size_of(path: Path) -> tuple[int, int]:
    """Return (height, width) of a picture. :raises BadRow: if it is missing or no picture."""
    try:
        return photo_size(path)
    except OSError as error:
        raise BadRow(f"picture {path}: {error.strerror}") from None
    except UnreadableImage as error:
        raise BadRow(f"picture {path}: {error.message}") from None


def box_ellipse(x1: float, y1: float, x2: float, y2: float, height: int, width: int) -> Ellipse:
    """Return the ellipse inscribed in a box.

    :raises BadRow: if the box is not finite, has no area, or lies outside the picture
    """
    box = f"box {x1:g} {y1:g} {x2:g} {y2:g} (x1 y1 x2 y2)"
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise BadRow(f"{box} holds a value that is no number")
    if x2 <= x1 or y2 <= y1:
        raise BadRow(f"{box} has a width or height that is not positive")
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise BadRow(f"{box} lies outside the picture of {width} x {height} pixels")
    return Ellipse((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2)


def check_ellipse(ellipse: Ellipse, height: int, width: int) -> Ellipse:
    """Return it. :raises BadRow: if it is not finite, has no area, or lies outside the picture."""
    values = (ellipse.cx, ellipse.cy, ellipse.rx, ellipse.ry, ellipse.angle)
    if not all(map(math.isfinite, values)):
        raise BadRow("an ellipse with a value that is no number")
    if min(ellipse.rx, ellipse.ry) <= 0:
        raise BadRow(f"an ellipse with the half axes {ellipse.rx:g} and {ellipse.ry:g}; both must be positive")
    x1, y1, x2, y2 = bounds(ellipse)
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise BadRow(f"an ellipse about ({ellipse.cx:g}, {ellipse.cy:g}) outside the picture of {width} x {height} pixels")
    return ellipse


def half_extent(ellipse: Ellipse) -> tuple[float, float]:
    """Return half the width and half the height of an ellipse's bounding box, pixels."""
    cos, sin = math.cos(ellipse.angle), math.sin(ellipse.angle)
    return math.hypot(ellipse.rx * cos, ellipse.ry * sin), math.hypot(ellipse.rx * sin, ellipse.ry * cos)


def bounds(ellipse: Ellipse) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 of an ellipse's bounding box, pixels."""
    dx, dy = half_extent(ellipse)
    return ellipse.cx - dx, ellipse.cy - dy, ellipse.cx + dx, ellipse.cy + dy


def faces_of(found: Detections) -> tuple[Face, ...]:
    """Return detections as faces: each box its inscribed ellipse."""
    points: Sequence[Floats | None] = found.landmarks if found.landmarks is not None else [None] * len(found)  # type: ignore[assignment]
    return tuple(
        Face(Ellipse((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2), landmarks=point, score=float(score))
        for (x1, y1, x2, y2), score, point in zip(found.boxes.astype(float).tolist(), found.scores, points, strict=True)
        if x2 > x1 and y2 > y1
    )


def moments_ellipse(moments: Mapping[str, float]) -> Ellipse:
    """Return the ellipse with the area moments that OpenCV found: of a filled ellipse, that ellipse itself.

    :raises BadRow: if the area is 0
    """
    area = moments["m00"]
    if area <= 0:
        raise BadRow("an outline without an area")
    covariance = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]) / area
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= 0:
        raise BadRow("an outline without an area")
    short, long = 2 * np.sqrt(values)
    angle = math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
    return Ellipse(moments["m10"] / area, moments["m01"] / area, float(long), float(short), angle)


def pictures_under(folder: Path) -> list[Path]:
    """Return the picture files in a folder and its subfolders, sorted.

    :raises FaceblurError: if there is no such folder
    """
    if not folder.is_dir():
        raise FaceblurError(f"folder {folder}: {'not a folder' if folder.exists() else 'No such file or directory'}")

    def unreadable(error: OSError) -> NoReturn:
        raise FaceblurError(f"folder {error.filename}: {error.strerror}") from None

    found = [Path(root) / name for root, _, names in os.walk(folder, onerror=unreadable) for name in names]
    return sorted(path for path in found if path.suffix.lower() in FORMAT_OF)


Importer = Callable[[BadRows], Iterator[LabelledPhoto]]


def as_floats(values: Any) -> list[float] | None:
    """Return a list of JSON numbers as floats, or None if it is something else."""
    if not isinstance(values, list) or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return None
    return [float(value) for value in values]
