"""``faceblur dataset export-yolo``: a data set as Ultralytics wants it, faces as boxes.

The folder holds ``images/train/00001.jpg`` (the set's own files), ``labels/train/00001.txt`` (a row ``0 cx cy w h`` per face,
in shares of the picture), the same of every other split, ``data.yaml`` and ``manifest.jsonl`` (one row per picture: where it
comes from, its boxes in pixels).
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from faceblur_core.datasets.builder import MANIFEST, read_manifest
from faceblur_core.datasets.labels import BadRow, ellipse_of, size_of
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.media.files import check_new_folder, whole_folder
from faceblur_core.types import Ellipse

DATA, IMAGES, LABELS = "data.yaml", "images", "labels"
NAMES = {0: "face"}
NEEDED = ("train", "val")  #: splits without which Ultralytics trains nothing
KEPT = ("name", "split", "source", "photo", "photo_sha256")  #: what a row keeps of the set's own

Box = tuple[float, float, float, float]  #: x1 y1 x2 y2, pixels


@dataclass
class Exported:
    """What became of one split."""

    pictures: int = 0
    boxes: int = 0
    empty: int = 0  #: pictures without a box
    cut: int = 0  #: boxes left out because too little of them is in the picture
    small: int = 0  #: boxes left out because a side is too short


def export_yolo(folder: Path, out_dir: Path, *, least: float = 6.0, shown: float = 0.3) -> dict[str, Exported]:
    """Write the set in ``folder`` to ``out_dir``, whole or not at all; return what was done, by split.

    :param least: boxes with a side shorter than so many pixels are left out
    :param shown: boxes with less than this share of their area in the picture are left out
    :raises UsageMistake: if ``folder`` holds no set with train and val, or its manifest is none or tells a picture
        twice, or ``out_dir`` is there and not empty
    :raises FaceblurError: if a picture is missing or unreadable, or the folder cannot be written
    """
    check_new_folder(out_dir)
    if not (folder / MANIFEST).is_file():
        raise UsageMistake(f"{folder} holds no {MANIFEST}; give the folder of a set that faceblur dataset build made")
    rows = read_manifest(folder)
    done = {str(row["split"]): Exported() for row in rows}
    if missing := [split for split in NEEDED if split not in done]:
        raise UsageMistake(f"{folder} has no split {missing[0]}; Ultralytics wants {' and '.join(NEEDED)}")
    twice = [name for name, count in Counter((row["split"], row["name"]) for row in rows).items() if count > 1]
    if twice:
        raise UsageMistake(f"{folder / MANIFEST} holds {'/'.join(twice[0])} twice; build the set again")
    try:
        with whole_folder(out_dir) as unfinished:
            _write(folder, unfinished, rows, done, least, shown)
    except OSError as error:
        raise FaceblurError(f"{error.filename or out_dir}: {error.strerror or error}") from None
    return done


def _write(
    folder: Path, out_dir: Path, rows: Sequence[Mapping[str, Any]], done: Mapping[str, Exported], least: float, shown: float
) -> None:
    for split in done:
        for part in (IMAGES, LABELS):
            (out_dir / part / split).mkdir(parents=True)
    with (out_dir / MANIFEST).open("w", encoding="utf-8") as manifest:
        for row in rows:
            split, name = row["split"], row["name"]
            picture = folder / split / f"{name}.jpg"
            height, width = _size_of(picture)
            boxes = _boxes([ellipse_of(face) for face in row["faces"]], height, width, done[split], least, shown)
            _link(picture, out_dir / IMAGES / split / picture.name)
            (out_dir / LABELS / split / f"{name}.txt").write_text("".join(label(box, height, width) for box in boxes))
            kept = [[round(value, 2) for value in box] for box in boxes]
            manifest.write(json.dumps({**{key: row[key] for key in KEPT}, "boxes": kept}) + "\n")
    # No path: Ultralytics then takes the folder of this file, wherever that is moved.
    (out_dir / DATA).write_text(
        yaml.safe_dump({**{split: f"{IMAGES}/{split}" for split in done}, "names": NAMES}, sort_keys=False)
    )


def _size_of(picture: Path) -> tuple[int, int]:
    try:
        return size_of(picture)
    except BadRow as error:
        raise FaceblurError(str(error)) from None


def _boxes(faces: Sequence[Ellipse], height: int, width: int, done: Exported, least: float, shown: float) -> list[Box]:
    """Return the boxes that stay, and count all in ``done``."""
    boxes = []
    for face in faces:
        box, share = clipped(face, height, width)
        if share < shown:
            done.cut += 1
        elif min(box[2] - box[0], box[3] - box[1]) < least:
            done.small += 1
        else:
            boxes.append(box)
    done.pictures += 1
    done.boxes += len(boxes)
    done.empty += not boxes
    return boxes


def clipped(face: Ellipse, height: int, width: int) -> tuple[Box, float]:
    """Return the part of a face's bounding box that is in an H x W picture, and its share of the box's area."""
    x1, y1, x2, y2 = face.bounds()
    area = (x2 - x1) * (y2 - y1)
    x1, x2 = (min(max(x, 0.0), float(width)) for x in (x1, x2))
    y1, y2 = (min(max(y, 0.0), float(height)) for y in (y1, y2))
    return (x1, y1, x2, y2), (x2 - x1) * (y2 - y1) / area if area > 0 else 0.0


def label(box: Box, height: int, width: int) -> str:
    """Return the row of a box in an H x W picture: class 0, centre and size in shares of the picture."""
    x1, y1, x2, y2 = box
    return f"0 {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} {(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that cannot be."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
