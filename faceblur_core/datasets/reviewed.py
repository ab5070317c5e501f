"""Pictures labelled by ``faceblur dataset label`` and, perhaps, looked at by a person: a JSONL file of boxes, a file of marks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from faceblur_core.datasets.labels import (
    BadRow,
    BadRows,
    Face,
    LabelledPhoto,
    as_floats,
    box_ellipse,
    numbered_lines,
    size_of,
)
from faceblur_core.errors import FaceblurError
from faceblur_core.media.files import read_rows
from faceblur_core.types import option

Mark = Literal["accept", "reject", "redo"]


@dataclass(frozen=True)
class Reviewed:
    """Rows as ``faceblur dataset label`` and ``faceblur run --manifest`` write them: ``input`` and ``detections``.

    Without marks every picture counts as accepted; with marks only those that are marked ``accept``.
    """

    images: Path = option(..., "folder that the names of the pictures are relative to")
    labels: Path = option(..., "the JSONL file")
    marks: Path | None = option(None, "file of marks from the review")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        marks = read_marks(self.marks) if self.marks else None
        for number, row in read_rows(self.labels):
            name = row.get("input")
            if marks is not None and marks.get(str(name)) != "accept":
                continue
            try:
                if not isinstance(name, str):
                    raise BadRow("needs 'input', the picture's name")
                height, width = size_of(self.images / name)
                faces = _faces(row.get("detections"), height, width)
            except BadRow as error:
                bad(self.labels, number, str(error))
                continue
            yield LabelledPhoto(self.images / name, name, height, width, faces)


def _faces(items: Any, height: int, width: int) -> tuple[Face, ...]:
    if not isinstance(items, list):
        raise BadRow("needs a list 'detections'; an empty one says that there is no face")
    faces = []
    for item in items:
        box = as_floats(item.get("box")) if isinstance(item, dict) else None
        if box is None or len(box) != 4:
            raise BadRow("a detection needs 'box': [x1, y1, x2, y2] in pixels")
        points = item.get("landmarks")
        score = item.get("score")
        faces.append(
            Face(
                box_ellipse(box[0], box[1], box[2], box[3], height, width),
                landmarks=np.array(points, np.float32).reshape(5, 2) if points else None,
                score=float(score) if isinstance(score, (int, float)) else None,
            )
        )
    return tuple(faces)


def read_marks(path: Path) -> dict[str, Mark]:
    """Return the mark of each picture from a file of lines ``mark name``; ``#`` begins a comment line.

    :raises FaceblurError: with the line, if a line is something else or marks a picture again and differently
    """
    marks: dict[str, Mark] = {}
    for number, line in numbered_lines(path):
        word, _, name = line.strip().partition(" ")
        name = name.strip()
        if not word or word.startswith("#"):
            continue
        if word not in get_args(Mark) or not name:
            raise FaceblurError(f"{path}, line {number}: a line is accept, reject or redo, a blank, and a picture's name")
        if marks.get(name, word) != word:
            raise FaceblurError(f"{path}, line {number}: {name} is marked {marks[name]} above and {word} here")
        marks[name] = word  # type: ignore[assignment]
    return marks
