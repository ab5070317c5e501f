"""The manifest: one JSON object per file, one per line. Written while a run goes on, read by ``--resume`` and by
``--detections``, edited by hand in between.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.media.files import write_whole
from faceblur_core.types import Detections

Outcome = Literal["faces", "no-face", "error"]


@dataclass(kw_only=True)
class Row:
    """What happened to one file. The fields are the schema; units are in their comments."""

    input: str  #: path of the source as the job names it
    outcome: Outcome
    error: str = ""  #: one line, if the outcome is ``error``
    input_sha256: str = ""
    output: str = ""  #: path of what was written; empty if nothing was
    output_sha256: str = ""
    width: int = 0  #: pixels, upright
    height: int = 0
    frames: int = 1
    detections: list[dict[str, Any]] = field(default_factory=list)  #: see ``detections_to_json``
    masked_share: float = 0.0  #: of all pixels of all frames, 0 to 1
    ms: dict[str, float] = field(default_factory=dict)  #: milliseconds by stage, and ``total``
    method: str = ""
    options: dict[str, Any] = field(default_factory=dict)  #: every option with the value in force
    weights: dict[str, str] = field(default_factory=dict)  #: sha256 of every model file, by name
    versions: dict[str, str] = field(default_factory=dict)
    settings: str = ""  #: sha256 over all that decides the output; ``--resume`` compares it


def detections_to_json(detections: Sequence[Detections | None]) -> list[dict[str, Any]]:
    """Return the faces of all frames as ``{"frame", "box": [x1, y1, x2, y2], "score", "landmarks"}``."""
    rows = []
    for frame, found in enumerate(detections):
        for index in range(len(found) if found else 0):
            assert found is not None
            row: dict[str, Any] = {"frame": frame} if len(detections) > 1 else {}
            row["box"] = np.round(found.boxes[index].astype(float), 2).tolist()
            row["score"] = round(float(found.scores[index]), 4)
            if found.landmarks is not None:
                row["landmarks"] = np.round(found.landmarks[index].astype(float), 2).tolist()
            rows.append(row)
    return rows


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a mapping of plain values, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


class ManifestWriter:
    """Appends rows to a file, each written out at once, so that a run that is cut off loses none."""

    def __init__(self, path: Path, *, resume: bool, overwrite: bool) -> None:
        """:raises UsageMistake: if the file exists and neither ``resume`` nor ``overwrite`` says what to do."""
        if path.exists() and not (resume or overwrite):
            raise UsageMistake(f"manifest {path} exists; continue it with --resume, or replace it with --overwrite")
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = path.open("a" if resume else "w", encoding="utf-8")
        except OSError as error:
            raise FaceblurError(f"manifest {path}: {error.strerror}") from None

    def write(self, row: Row) -> None:
        """:raises FaceblurError: if the file cannot be written, for example because the disk is full."""
        try:
            self._file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise FaceblurError(f"manifest {self.path}: {error.strerror}") from None

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise FaceblurError(f"manifest {self.path}: {error.strerror}") from None


def read_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return (line number, object) for every line of a JSONL file that is not blank.

    :raises UsageMistake: if the file cannot be read or a line is no JSON object; names the line
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageMistake(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageMistake(f"{path} is no UTF-8 text") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageMistake(f"{path}, line {number}: no JSON ({error})") from None
        if not isinstance(row, dict):
            raise UsageMistake(f"{path}, line {number}: not a JSON object")
        rows.append((number, row))
    return rows


def finished(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last row of each input in a manifest; a last line that was cut off in writing is passed over."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_whole(path, whole.encode())
    return {row["input"]: row for _, row in read_rows(path) if isinstance(row.get("input"), str)}


@dataclass
class GivenDetections:
    """Boxes from a file in place of a detector: a manifest, edited or not, or rows from another tool.

    A row needs ``input`` (or ``file``), the photo's path as the manifest names it, or ``input_sha256``; and
    ``detections``, a list of ``{"box": [x1, y1, x2, y2], "score": 0.9, "frame": 0}`` in pixels of the upright photo;
    score and frame may be left out. An empty list says that the photo has no face.
    """

    path: Path
    by_name: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)
    by_sha256: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, row in read_rows(self.path):
            where = f"{self.path}, line {number}"
            if row.get("outcome") == "error":
                continue
            found = row.get("detections")
            if not isinstance(found, list):
                raise UsageMistake(f"{where}: needs a list 'detections'")
            for item in found:
                _check_detection(item, where)
            name = row.get("input", row.get("file"))
            digest = row.get("input_sha256") or None
            if not isinstance(name, str) and not isinstance(digest, str):
                raise UsageMistake(f"{where}: needs 'input', the photo's path, or 'input_sha256'")
            if isinstance(name, str):
                self.by_name.setdefault(name, []).append(found)
            if isinstance(digest, str):
                self.by_sha256[digest] = found

    def find(self, name: str, source: Path, sha256: str) -> list[dict[str, Any]]:
        """Return the given faces of a photo: by its content, else by its path.

        :raises FaceblurError: if there is no row for it, or several
        """
        if sha256 in self.by_sha256:
            return self.by_sha256[sha256]
        for key in (name, source.as_posix()):
            rows = self.by_name.get(key, [])
            if len(rows) > 1:
                raise FaceblurError(f"{self.path} has {len(rows)} rows for {key}")
            if rows:
                return rows[0]
        raise FaceblurError(f"{self.path} has no row for it; an empty list of detections says that there is no face")


def _check_detection(item: Any, where: str) -> None:
    box = item.get("box") if isinstance(item, dict) else None
    if not isinstance(box, list) or len(box) != 4:
        box = []
    numbers = [*box, item.get("score", 1.0)] if box else []
    if not box or not all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e7 for n in numbers):
        raise UsageMistake(f"{where}: a detection needs 'box': [x1, y1, x2, y2] in pixels, and a score is a number")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise UsageMistake(f"{where}: box {box} is empty; it is x1, y1, x2, y2 with x1 < x2 and y1 < y2")
    if not isinstance(item.get("frame", 0), int) or item.get("frame", 0) < 0:
        raise UsageMistake(f"{where}: 'frame' is the number of a frame, from 0")


def detections_of(items: Sequence[Mapping[str, Any]], frame: int) -> Detections:
    """Return the given faces of one frame."""
    mine = [item for item in items if item.get("frame", 0) == frame]
    if not mine:
        return Detections.none()
    return Detections(np.array([item["box"] for item in mine]), np.array([item.get("score", 1.0) for item in mine]))
