"""Pictures labelled by ``faceblur dataset label`` and, perhaps, looked at by a person: a JSONL file of boxes, a file of marks."""

from __future__ import annotations

import json
import math
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
    sane,
    size_of,
)
from faceblur_core.errors import FaceblurError
from faceblur_core.types import Floats, option

Mark = Literal["accept", "reject", "redo"]


@dataclass(frozen=True)
class Reviewed:
    """Rows as ``faceblur dataset label`` and ``faceblur run --manifest`` write them: ``input`` and ``detections``.

    Of an animation the boxes of its first frame count; of several rows about one picture the last one does.

    Without marks every picture counts as accepted; with marks only those that are marked ``accept``.
    """

    images: Path = option(..., "folder that the names of the pictures are relative to")
    labels: Path = option(..., "the JSONL file")
    marks: Path | None = option(None, "file of marks from the review")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        marks = read_marks(self.marks) if self.marks else None
        for name, (number, row) in self._rows(bad).items():
            if marks is not None and marks.get(name) != "accept":
                continue
            try:
                if row.get("outcome") == "error":
                    raise BadRow(f"the run failed on {name}, so its faces are not known")
                if row.get("left_open"):
                    raise BadRow(f"the run left faces open in {name}, which its row does not list")
                height, width = size_of(self.images / name)
                faces = _faces(row.get("detections"), height, width)
            except BadRow as error:
                bad(self.labels, number, str(error))
                continue
            yield LabelledPhoto(self.images / name, name, height, width, faces)

    def _rows(self, bad: BadRows) -> dict[str, tuple[int, dict[str, Any]]]:
        """Return each picture's last row with its line: a run that was resumed tried again what had failed."""
        rows = {}
        for number, text in numbered_lines(self.labels):
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                bad(self.labels, number, f"no JSON ({error})")
                continue
            name = row.get("input") if isinstance(row, dict) else None
            if isinstance(name, str):
                rows[name] = (number, row)
            else:
                bad(self.labels, number, "needs 'input', the picture's name")
        return rows


def _faces(items: Any, height: int, width: int) -> tuple[Face, ...]:
    if not isinstance(items, list):
        raise BadRow("needs a list 'detections'; an empty one says that there is no face")
    faces = []
    for item in items:
        box = as_floats(item.get("box")) if isinstance(item, dict) else None
        if box is None or len(box) != 4:
            raise BadRow("a detection needs 'box': [x1, y1, x2, y2] in pixels")
        if item.get("frame", 0) == 0:  # of an animation, the first is the picture
            ellipse = box_ellipse(box[0], box[1], box[2], box[3], height, width)
            faces.append(Face(ellipse, landmarks=_landmarks(item.get("landmarks")), score=_score(item.get("score"))))
    return tuple(faces)


def _landmarks(points: Any) -> Floats | None:
    if points is None:
        return None
    rows = [as_floats(point) or [] for point in points] if isinstance(points, list) else []
    if len(rows) != 5 or not all(len(row) == 2 and sane(row) for row in rows):
        raise BadRow("'landmarks' should be five points, [x, y] in pixels")
    return np.array(rows, np.float32)


def _score(value: Any) -> float | None:
    score = as_floats([0 if value is None else value])
    if score is None or not math.isfinite(score[0]):
        raise BadRow("'score' should be a number")
    return None if value is None else score[0]


def read_marks(path: Path) -> dict[str, Mark]:
    """Return the mark of each picture from a file of lines ``mark name``; ``#`` begins a comment line.

    :raises FaceblurError: with the line, if a line is something else or marks a picture again and differently
    """
    marks: dict[str, Mark] = {}
    for number, line in numbered_lines(path):
        word, _, name = line.partition(" ")
        name = name.strip()
        if word.startswith("#"):
            continue
        if word not in get_args(Mark) or not name:
            raise FaceblurError(f"{path}, line {number}: a line is accept, reject or redo, a blank, and a picture's name")
        if marks.get(name, word) != word:
            raise FaceblurError(f"{path}, line {number}: {name} is marked {marks[name]} above and {word} here")
        marks[name] = word  # type: ignore[assignment]
    return marks
