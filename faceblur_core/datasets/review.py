"""Label a plain folder with detectors, and have a person look at it: a page of all pictures, a file of marks read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceblur_core.datasets.folder import Folder
from faceblur_core.datasets.labels import BadRows, Face, LabelledPhoto
from faceblur_core.datasets.reviewed import Mark, Reviewed, read_marks
from faceblur_core.datasets.survey import NO_UTF8, Advance, DetectorPool, in_order, is_utf8, pixels_of
from faceblur_core.errors import UnreadableImage, UsageMistake
from faceblur_core.media.files import read_rows, save
from faceblur_core.media.sheets import COUNTED, outlined
from faceblur_core.pages import picture, write_page

THUMB = 256  #: pixels


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a labelling did."""

    photos: int
    without: int  #: photos in which nothing was found
    unreadable: list[str]


def label_folder(
    images: Path,
    labels: Path,
    methods: Sequence[str],
    marks: Path | None = None,
    workers: int = 2,
    advance: Advance | None = None,
) -> Labelled:
    """Write one JSON object per picture: ``input``, ``input_sha256``, ``methods``, ``detections``.

    Each method is asked about every picture and adds the faces that those before it missed. With ``marks`` only the
    pictures that are marked ``redo`` are labelled again, and the others' rows stay.

    :raises UsageMistake: if the labels are there and no marks say which to do again, or are not there and marks do
    """
    if labels.exists() and marks is None:
        raise UsageMistake(f"{labels} is there; --redo MARKS labels some of its pictures again, or choose another -o")
    kept = {str(row.get("input")): row for _, row in read_rows(labels)} if marks else {}
    again = {name for name, mark in read_marks(marks).items() if mark == "redo"} if marks else None
    if again is not None and (unknown := sorted(again - set(kept))):
        raise UsageMistake(f"{marks} names {unknown[0]}, which is not in {labels}")
    pool = DetectorPool(methods)
    bad = BadRows(skip=True)
    photos = [photo for photo in Folder(images)(bad) if again is None or photo.name in again]
    if not photos and marks is None and not bad.skipped:
        raise UsageMistake(f"no pictures in {images}")
    missing = {images / name for name in again or () if not (images / name).exists()}
    unreadable = [f"{path}: is marked redo and is not there" for path in missing]
    unreadable += [line for line in bad.skipped if again is None or any(line.startswith(f"{images / name}:") for name in again)]

    unreadable += [f"{photo.path}: {NO_UTF8}" for photo in photos if not is_utf8(photo.name)]
    photos = [photo for photo in photos if is_utf8(photo.name)]  # a file of marks could not name the others

    def work(photo: LabelledPhoto) -> dict[str, Any] | None:
        data = photo.path.read_bytes()
        try:
            faces = pool(pixels_of(data))
        except UnreadableImage as error:
            unreadable.append(f"{photo.path}: {error.message}")
            return None
        return {
            "input": photo.name,
            "input_sha256": hashlib.sha256(data).hexdigest(),
            "methods": list(methods),
            "detections": [_detection(face) for face in faces],
        }

    try:
        new = {row["input"]: row for row in in_order(work, photos, workers, advance) if row}
    finally:
        pool.close()
    rows = [row for _, row in sorted({**kept, **new}.items())]
    save(labels, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return Labelled(len(new), sum(not row["detections"] for row in new.values()), sorted(unreadable))


def _detection(face: Face) -> dict[str, Any]:
    row: dict[str, Any] = {"box": [round(value, 2) for value in face.ellipse.bounds()], "score": round(face.score or 0.0, 4)}
    if face.landmarks is not None:
        row["landmarks"] = [[round(float(value), 2) for value in point] for point in face.landmarks]
    return row


def write_review(images: Path, labels: Path, page: Path, marks: Path, workers: int = 2, advance: Advance | None = None) -> int:
    """Write the page, and the file of marks if there is none: every picture ``accept``, those without a face ``reject``.

    :return: the number of pictures
    :raises FaceblurError: if a picture or a row cannot be read
    """
    photos = sorted(Reviewed(images, labels)(BadRows()), key=lambda photo: (_certainty(photo), photo.name))
    if not photos:
        raise UsageMistake(f"{labels} holds no picture")
    if unnamed := [photo.path for photo in photos if not is_utf8(photo.name)]:
        raise UsageMistake(f"{unnamed[0]}: {NO_UTF8}, and label it again")
    if not marks.exists():
        head = f"# accept, reject or redo, a blank, and the picture; the least certain first. See {page.name}.\n"
        lines = [f"{'accept' if photo.faces else 'reject'} {photo.name}\n" for photo in photos]
        save(marks, (head + "".join(lines)).encode())
    current = read_marks(marks)
    cells = list(in_order(lambda photo: _cell(photo, current), photos, workers, advance))
    write_page(page, "review.html", title=f"Review of {labels.name}", cells=cells, marks=marks.name)
    return len(photos)


def _certainty(photo: LabelledPhoto) -> float:
    """Return the lowest score in a photo; below all of them if nothing was found."""
    return min((face.score or 0.0 for face in photo.faces), default=-1.0)


def _cell(photo: LabelledPhoto, marks: Mapping[str, Mark]) -> dict[str, str]:
    image = pixels_of(photo.path.read_bytes())
    scores = ", ".join(f"{face.score or 0:.2f}" for face in photo.faces)
    return {
        "src": picture(outlined(image, [(face.ellipse, COUNTED) for face in photo.faces], THUMB)),
        "name": photo.name,
        "mark": marks.get(photo.name, "not marked:"),
        "note": f"scores {scores}" if scores else "no face found",
    }
