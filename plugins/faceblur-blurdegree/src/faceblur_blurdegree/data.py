"""Read a set of ``faceblur dataset blur``: ``labels.csv`` and the pictures that it names."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_blurdegree.crop import MARGIN, SIZE
from faceblur_core.errors import FaceblurError
from faceblur_core.options import read_yaml
from faceblur_core.training.data import Pictures, for_each, read_square
from faceblur_core.types import Floats
from faceblur_core.weights import sha256_of

LABELS, RECIPE = "labels.csv", "dataset.yaml"
NEEDED = ("path", "split", "method", "degree")


@dataclass(frozen=True)
class Labelled:
    """The faces of one split with their labels, in the order of the file."""

    faces: Pictures  #: N x 112 x 112 x 3, RGB, uint8
    degrees: Floats  #: N, 0..1
    rows: Sequence[dict[str, str]]  #: of the file

    def __len__(self) -> int:
        return len(self.rows)


def read_labels(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a set's ``labels.csv``, with column names.

    :raises FaceblurError: if it is missing or damaged; names the line
    """
    path = folder / LABELS
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True)
        rows = list(reader)
    except OSError as error:
        raise FaceblurError(f"{path}: {error.strerror}; faceblur dataset blur makes such a set") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise FaceblurError(f"{path} is no CSV file ({error})") from None
    if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
        raise FaceblurError(f"{path} has no column {missing[0]!r}; faceblur dataset blur makes such a file")
    for number, row in enumerate(rows, 2):
        if not _fine(row):
            raise FaceblurError(f"{path}, line {number}: a path within the folder and a degree in 0..1 should stand there")
    return rows


def _fine(row: dict[str, str]) -> bool:
    if any(row[name] is None for name in NEEDED):  # a short line
        return False
    try:
        degree = float(row["degree"])
    except ValueError:
        return False
    path = Path(row["path"])
    return math.isfinite(degree) and 0 <= degree <= 1 and not path.is_absolute() and ".." not in path.parts


def load_split(folder: Path, split: str) -> Labelled:
    """Return one split, such as ``train``, decoded.

    :raises FaceblurError: if the split is empty, or a picture cannot be read or has another size
    """
    rows = [row for row in read_labels(folder) if row["split"] == split]
    if not rows:
        raise FaceblurError(f"{folder / LABELS} names no picture of the split {split!r}")
    faces = np.empty((len(rows), SIZE, SIZE, 3), np.uint8)

    def load(index: int) -> None:
        path = folder / rows[index]["path"]
        if not path.is_file():
            raise FaceblurError(f"{path} is missing; {LABELS} names it")
        faces[index] = read_square(path, SIZE)

    for_each(len(rows), load)
    return Labelled(faces, np.array([float(row["degree"]) for row in rows], np.float32), rows)


def identity(folder: Path, **splits: Labelled) -> dict[str, Any]:
    """Return what tells one set from another: SHA-256 of its labels, recipe and pixels, and the number of pictures per split."""
    pixels = hashlib.sha256()
    for split in splits.values():
        pixels.update(split.faces)
    recipe = folder / RECIPE
    return {
        "labels_sha256": sha256_of(folder / LABELS),
        "dataset_sha256": sha256_of(recipe) if recipe.is_file() else None,
        "pixels_sha256": pixels.hexdigest(),
        **{name: len(split) for name, split in splits.items()},
    }


def facts(folder: Path) -> tuple[float, float]:
    """Return what a set's ``dataset.yaml`` says: the degree from which faces are protected (nan: none), and the margin.

    :raises FaceblurError: if one of them is there and can be none
    """
    path = folder / RECIPE
    said = read_yaml(path, "data set") if path.is_file() else {}
    threshold, margin = said.get("protected_from"), said.get("margin", MARGIN)
    for name, value, least, most in (("protected_from", threshold, 0, 1), ("margin", margin, 1, 4)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and least <= value <= most):
            raise FaceblurError(f"{path}: {name} should be a number from {least} to {most}, not {value!r}")
    return math.nan if threshold is None else float(threshold), MARGIN if margin is None else float(margin)
