"""YOLO's text labels, as Ultralytics reads them: one file of rows per picture, in shares of the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faceblur_core.datasets.labels import (
    BadRow,
    BadRows,
    Face,
    LabelledPhoto,
    box_ellipse,
    check_folder,
    each,
    numbers,
    own_lines,
    pictures_under,
    size_of,
)
from faceblur_core.types import option


@dataclass(frozen=True)
class YoloText:
    """Rows ``class cx cy w h``, in shares of width and height from 0 to 1; a box becomes its inscribed ellipse.

    A picture without a text file, or with an empty one, has no face. Numbers after the fifth (key points) are passed over.
    """

    images: Path = option(..., "folder of the pictures")
    labels: Path = option(..., "folder of the text files, with the subfolders of the pictures")
    classes: list[int] = option([0], "numbers of the classes that are faces")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        pictures = pictures_under(self.images)
        names = {path.relative_to(self.images).with_suffix("") for path in pictures}
        check_folder(self.labels)
        for file in sorted(self.labels.rglob("*.txt")):
            if file.relative_to(self.labels).with_suffix("") not in names and file.name != "classes.txt":
                bad(file, 1, f"there is no picture for it in {self.images}")
        for path in pictures:
            file = self.labels / path.relative_to(self.images).with_suffix(".txt")
            try:
                height, width = size_of(path)
                rows = own_lines(file) if file.exists() or file.is_symlink() else []  # a link to nothing is no empty file
                faces = each(rows, self._face, height, width)
            except BadRow as error:
                bad(file if error.line else path, error.line, str(error))
                continue
            kept = tuple(face for face in faces if face)
            yield LabelledPhoto(path, path.relative_to(self.images).as_posix(), height, width, kept)

    def _face(self, text: str, height: int, width: int) -> Face | None:
        values = numbers(text)
        if values is None or len(values) < 5:
            raise BadRow(f"a row should be five numbers, class cx cy w h: {text[:60]}")
        kind, cx, cy, w, h = values[:5]
        if not kind.is_integer():
            raise BadRow(f"{kind:g} is no number of a class")
        if max(abs(cx), abs(cy), w, h) > 2:
            raise BadRow(f"a box {cx:g} {cy:g} {w:g} {h:g} in pixels; YOLO's are in shares of the picture, from 0 to 1")
        corners = (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height
        ellipse = box_ellipse(*corners, height, width)
        return Face(ellipse) if int(kind) in self.classes else None
