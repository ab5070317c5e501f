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

FAR = 1e6  #: pixels: no picture is as large

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Face:
    """A labelled face."""

    ellipse: Ellipse
    flags: frozenset[str] = frozenset()  #: WIDER FACE's attributes, and ``ignore`` for a face that no method can be held to
    landmarks: Floats | None = None  #: 5 x 2 pixels, in the order of ``Detections.landmarks``
    score: float | None = None  #: of the detector that found it; None for a label made by people
    pixels: Path | None = None  #: a grey picture as large as the photo, white where the face is, if that is to be its truth

    @property
    def height(self) -> float:
        """The height of the ellipse's bounding box, pixels."""
        return 2 * self.ellipse.half_extent()[1]


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

    skip: bool | None = None  #: what ``--skip-bad`` says; None: there is no such option here
    skipped: list[str] = field(default_factory=list)

    def __call__(self, path: Path, line: int | None, message: str) -> None:
        """:raises FaceblurError: with file and line, unless such rows are skipped."""
        message = message.removeprefix(f"picture {path}: ")  # it would be named twice
        text = f"{path}, line {line}: {message}" if line else f"{path}: {message}"
        text = "".join(letter if letter.isprintable() else "?" for letter in text)  # names in JSON can hold line ends
        if not self.skip:
            raise FaceblurError(text + ("" if self.skip is None else " (--skip-bad leaves out photos with such rows)"))
        self.skipped.append(text)


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
    """Return (line number, text without blanks around it) of every line that is not blank.

    Windows line ends, a byte order mark and a missing end of the last line are no matter.

    :raises FaceblurError: if the file cannot be read or is no text
    """
    return _numbered(read_text(path))


def own_lines(path: Path) -> list[tuple[int, str]]:
    """Return :func:`numbered_lines` of a file that is about one photo.

    :raises BadRow: with the line, if the file cannot be read or is no text
    """
    try:
        return _numbered(_text(path))
    except BadRow as error:
        raise BadRow(str(error), error.line or 1) from None


def _numbered(text: str) -> list[tuple[int, str]]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_text(path: Path) -> str:
    """:raises FaceblurError: if the file cannot be read or is no text."""
    try:
        return _text(path)
    except BadRow as error:
        where = f"{path}, line {error.line}" if error.line else f"annotation file {path}"
        raise FaceblurError(f"{where}: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadRow(str(error.strerror)) from None
    except UnicodeDecodeError as error:
        raise BadRow("no UTF-8 text", error.object.count(b"\n", 0, error.start) + 1) from None


def numbers(text: str) -> list[float] | None:
    """Return the numbers of a row separated by blanks or commas, or None if one of its words is none."""
    try:
        return [float(word) for word in text.replace(",", " ").split()] if "_" not in text else None
    except ValueError:
        return None


Rows = list[tuple[int, list[float]]]  #: (line number, numbers)


def counted_blocks(path: Path, bad: BadRows, lengths: Sequence[int], columns: str) -> Iterator[tuple[int, str, Rows]]:
    """Yield (line, name, rows) from a file of blocks: a picture's name, the number of its rows, the rows of numbers.

    This is the form of WIDER FACE and of FDDB. A picture with 0 faces may have no row or one row of zeros, which is left out.

    :param lengths: how many numbers a row may have; in one file they all have as many, so that a row cut off shows
    :param columns: what they are, for messages
    """
    for block in _blocks(numbered_lines(path)):
        try:
            rows = block.checked()
            for line, values in rows:
                if len(values) not in lengths:
                    raise BadRow(f"a row of {len(values)} numbers, not {' or '.join(map(str, lengths))}: {columns}", line)
                lengths = (len(values),)
        except BadRow as error:
            bad(path, error.line or block.line, str(error))
            continue
        yield block.line, block.name, rows


@dataclass(slots=True)
class _Block:
    line: int
    name: str
    count: list[float]  #: the number in the line after the name; empty if there is none
    rows: Rows
    after: int  #: the line where a further row would be

    def checked(self) -> Rows:
        """Return the rows of the faces. :raises BadRow: if they are not as many as the count."""
        if len(numbers(self.name) or ()) > 1:
            raise BadRow(f"a row of numbers where the name of a picture should be: {self.name[:60]}")
        if not self.count or self.count[0] < 0 or not self.count[0].is_integer():
            raise BadRow(f"no number of faces after {self.name[:200]}")
        wanted = int(self.count[0])
        if wanted == 0 and len(self.rows) == 1 and not any(self.rows[0][1][:4]):
            return []
        if len(self.rows) != wanted:
            line = self.rows[wanted][0] if len(self.rows) > wanted else self.after
            raise BadRow(f"{self.name[:200]} should have {self.count[0]:g} rows of numbers and has {len(self.rows)}", line)
        return self.rows


def _blocks(lines: Sequence[tuple[int, str]]) -> Iterator[_Block]:
    """Yield blocks, right or wrong: each goes on up to the line that is no row of numbers."""
    parsed = [numbers(text) or [] for _, text in lines]
    at = 0
    while at < len(lines):
        line, name = lines[at]
        at += 1
        count: list[float] = []
        if at < len(lines) and len(parsed[at]) == 1:
            count = parsed[at]
            at += 1
        begin = at
        while at < len(lines) and len(parsed[at]) > 1:
            at += 1
        rows = [(lines[index][0], parsed[index]) for index in range(begin, at)]
        yield _Block(line, name, count, rows, lines[min(at, len(lines) - 1)][0])


def size_of(path: Path) -> tuple[int, int]:
    """Return (height, width) of a picture. :raises BadRow: if it is missing or no picture."""
    try:
        return photo_size(path)
    except UnreadableImage as error:
        raise BadRow(f"picture {path}: {error.message}") from None
    except OSError as error:  # Pillow's own have no strerror
        raise BadRow(f"picture {path}: {error.strerror or error}") from None
    except Exception as error:  # too many pixels, a name that no file can have; what a decoder raises is anybody's guess
        raise BadRow(f"picture {path}: {' '.join(str(error).split())}") from None


def sane(values: Iterable[float]) -> bool:
    """Return whether all values are numbers, and such as a place in a picture can have."""
    return all(abs(value) < FAR for value in values)  # not so for NaN


def box_ellipse(x1: float, y1: float, x2: float, y2: float, height: int, width: int) -> Ellipse:
    """Return the ellipse inscribed in a box.

    :raises BadRow: if the box is not finite, has no area, or lies outside the picture
    """
    box = f"box {x1:g} {y1:g} {x2:g} {y2:g} (x1 y1 x2 y2)"
    if not sane((x1, y1, x2, y2)):
        raise BadRow(f"{box} holds a value that is no number, or that lies far outside every picture")
    if x2 <= x1 or y2 <= y1:
        raise BadRow(f"{box} has a width or height that is not positive")
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise BadRow(f"{box} lies outside the picture of {width} x {height} pixels")
    return Ellipse((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2)


def check_ellipse(ellipse: Ellipse, height: int, width: int) -> Ellipse:
    """Return it. :raises BadRow: if it is not finite, has no area, or lies outside the picture."""
    values = (ellipse.cx, ellipse.cy, ellipse.rx, ellipse.ry, ellipse.angle)
    if not sane(values):
        raise BadRow("an ellipse with a value that is no number, or that lies far outside every picture")
    if min(ellipse.rx, ellipse.ry) <= 0:
        raise BadRow(f"an ellipse with the half axes {ellipse.rx:g} and {ellipse.ry:g}; both must be positive")
    x1, y1, x2, y2 = ellipse.bounds()
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise BadRow(f"an ellipse about ({ellipse.cx:g}, {ellipse.cy:g}) outside the picture of {width} x {height} pixels")
    return ellipse


def ellipse_row(ellipse: Ellipse) -> dict[str, float]:
    """Return an ellipse as JSON: pixels, radians, rounded to 0.01 and 0.0001."""
    return {key: round(getattr(ellipse, key), 4 if key == "angle" else 2) for key in ("cx", "cy", "rx", "ry", "angle")}


def face_row(face: Face) -> dict[str, Any]:
    """Return a face as JSON: its ellipse, flags and, where known, landmarks and score."""
    row: dict[str, Any] = {**ellipse_row(face.ellipse), "flags": sorted(face.flags)}
    if face.landmarks is not None:
        row["landmarks"] = np.round(face.landmarks.astype(float), 2).tolist()
    if face.score is not None:
        row["score"] = round(face.score, 4)  # it was found by a detector, not labelled by people
    return row


def ellipse_of(row: Mapping[str, Any]) -> Ellipse:
    """Return the ellipse of such a row."""
    return Ellipse(*(float(row[key]) for key in ("cx", "cy", "rx", "ry", "angle")))


def is_face(row: Any) -> bool:
    """Return whether what a file holds is such a row."""
    numbers = [row.get(key) for key in ("cx", "cy", "rx", "ry", "angle")] if isinstance(row, dict) else [None]
    return all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers)


def misfits(row: Mapping[str, Any], types: Mapping[str, Any]) -> list[str]:
    """Return the keys that a row lacks, or whose values are of another type."""
    return [key for key, kind in types.items() if key not in row or not isinstance(row[key], kind)]


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


def check_folder(folder: Path) -> None:
    """:raises FaceblurError: if there is no such folder."""
    if not folder.is_dir():
        raise FaceblurError(f"folder {folder}: {'not a folder' if folder.exists() else 'No such file or directory'}")


def pictures_under(folder: Path) -> list[Path]:
    """Return the picture files in a folder and its subfolders, sorted.

    :raises FaceblurError: if there is no such folder
    """
    check_folder(folder)

    def unreadable(error: OSError) -> NoReturn:
        raise FaceblurError(f"folder {error.filename}: {error.strerror}") from None

    found = [Path(root) / name for root, _, names in os.walk(folder, onerror=unreadable) for name in names]
    return sorted(path for path in found if path.suffix.lower() in FORMAT_OF and path.is_file())  # a pipe is none


def pictures_by_name(folder: Path, bad: BadRows) -> dict[Path, Path]:
    """Return the picture files in a folder and its subfolders by their names without the suffix, relative to the folder.

    Two pictures of one name are bad: nobody knows which of them the labels of that name belong to.

    :raises FaceblurError: if there is no such folder, or as ``bad`` does
    """
    pictures: dict[Path, Path] = {}
    twice = set()
    for path in pictures_under(folder):
        name = path.relative_to(folder).with_suffix("")
        if name in pictures:
            bad(path, None, f"{pictures[name].name} is there too; labels by the name {name.name} fit both")
            twice.add(name)
        pictures[name] = path
    return {name: path for name, path in pictures.items() if name not in twice}


Importer = Callable[[BadRows], Iterator[LabelledPhoto]]


def as_floats(values: Any) -> list[float] | None:
    """Return a list of JSON numbers as floats, or None if it is something else."""
    if not isinstance(values, list) or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return None
    try:
        return [float(value) for value in values]
    except OverflowError:  # JSON's whole numbers have no limit
        return None
