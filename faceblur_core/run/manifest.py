"""The manifest: one JSON object per file, one per line. Written while a run goes on, read by ``--resume`` and by
``--detections``, edited by hand in between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.media.files import read_rows
from faceblur_core.types import Detections

ROW_START = '{"input":'
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
    detections: list[dict[str, Any]] | None = field(default_factory=list)  #: ``detections_to_json``; None: no boxes known
    left_open: int = 0  #: faces left open by --keep or --only, those of every frame
    video: dict[str, Any] | None = None  #: of a video: what tracking did; its boxes are in the file of ``--export-detections``
    notes: list[str] = field(default_factory=list)  #: what of the file could not be read or kept
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


class RowFile:
    """A file that rows are added to, each written out at once, so that a run that is cut off loses none. For many threads.

    A run that cannot start leaves it as it was: an old one is emptied by :meth:`begin` or the first row.
    """

    called = ""  #: what messages say before its name

    def __init__(self, path: Path, *, resume: bool, overwrite: bool) -> None:
        """:raises UsageMistake: if it exists and neither ``resume`` nor ``overwrite`` is given, or another run writes it"""
        old = path.exists()
        if old and not (resume or overwrite):
            raise UsageMistake(f"{self.called}{path} exists; continue it with --resume, or replace it with --overwrite")
        self.path = path
        self._lock = threading.Lock()
        self._begun, self._new, self._replace = False, not old, not resume
        with self._named_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = path.open("a", encoding="utf-8")
        if path.is_file() and _is_taken(self._file):
            self._file.close()
            raise UsageMistake(f"{self.called}{path} is being written by another run; wait for it, or name another file")

    def begin(self) -> None:
        """Empty an old file that is to be replaced, once it is known that the run can start."""
        with self._lock, self._named_errors():
            self._begin()

    def _begin(self) -> None:
        if not self._begun and self._replace and self.path.is_file():
            self._file.truncate(0)
        self._begun = True

    def _add(self, lines: Iterable[str]) -> None:
        """:raises FaceblurError: if the file cannot be written, for example because the disk is full."""
        with self._lock, self._named_errors():
            self._begin()
            self._file.writelines(lines)
            self._file.flush()

    def close(self) -> None:
        """Close the file; one that was made for nothing is removed."""
        with self._named_errors():
            self._file.close()
            if self._new and not self._begun:
                self.path.unlink()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FaceblurError(f"{self.called}{self.path}: {error.strerror}") from None


def _is_taken(file: TextIO) -> bool:
    """Take a file for this process alone, until it is closed; return whether another one has it. Where there are no locks: no."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without them
        return False
    return False


class ManifestWriter(RowFile):
    """Adds a row for each file."""

    called = "manifest "

    def write(self, row: Row) -> None:
        """:raises FaceblurError: if the file cannot be written, for example because the disk is full."""
        self._add([json.dumps(asdict(row), default=str) + "\n"])  # options can be of any type


class DetectionsWriter(RowFile):
    """Adds the faces of a file, one row per picture: what ``--detections`` reads."""

    def __init__(self, path: Path, *, resume: bool, overwrite: bool) -> None:
        """:raises UsageMistake: as :class:`RowFile`, and if rows of a run that is resumed cannot be read"""
        super().__init__(path, resume=resume, overwrite=overwrite)
        rows = _earlier_rows(path) if resume and path.is_file() else []
        self._before = {(row.get("input"), row.get("input_sha256")): row.get("settings") for row in rows}

    def has(self, row: Row) -> bool:
        """Return whether the run that is resumed wrote the faces of a file, with these settings."""
        return self._before.get((row.input, row.input_sha256)) == row.settings

    @contextlib.contextmanager
    def file(self, of: Row) -> Iterator[Callable[[int | None, float | None, list[dict[str, Any]]], None]]:
        """Yield a function that takes a picture's number, its time in seconds and its faces; all or nothing is written."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as waiting:

            def write(frame: int | None, time: float | None, detections: list[dict[str, Any]]) -> None:
                row: dict[str, Any] = {"input": of.input, "input_sha256": of.input_sha256, "settings": of.settings}
                if frame is not None:
                    row |= {"frame": frame, "time": round(time or 0.0, 4)}
                waiting.write(json.dumps({**row, "detections": detections}) + "\n")

            yield write
            waiting.seek(0)
            self._add(waiting)


def finished(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last row of each input in a manifest; a last line that was cut off in writing is passed over."""
    if not path.exists():
        return {}
    return {row["input"]: row for row in _earlier_rows(path) if isinstance(row.get("input"), str)}


def _earlier_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that is to be continued; a last line that was cut off is dropped."""
    rows = read_rows(path, cut_off=ROW_START)
    _end_last_line(path)
    return [row for _, row in rows]


def _end_last_line(path: Path) -> None:
    """Drop a last line that was cut off in writing; end one that only lacks its line end."""
    data = path.read_bytes()
    last = data[data.rfind(b"\n") + 1 :]
    if not last:
        return
    with path.open("r+b") as file:  # in its place: it may be open, and taken
        try:
            json.loads(last)
        except ValueError:  # read_rows has seen that it is the beginning of a row
            file.truncate(len(data) - len(last))
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


@dataclass(frozen=True)
class GivenRow:
    """The faces that were given for one file."""

    name: str | None
    sha256: str | None
    detections: list[dict[str, Any]]
    frames: frozenset[int] | None = None  #: the pictures that were spoken of one by one; None: all are
    known: bool = True  #: False: null in place of a list, as the manifest has it for a video


@dataclass
class GivenDetections:
    """Boxes from a file in place of a detector: a manifest, edited or not, or rows from another tool.

    A row needs ``input`` (or ``file``), the photo's path as the manifest names it, or ``input_sha256``, or both, which
    must then fit; and ``detections``, a list of ``{"box": [x1, y1, x2, y2], "score": 0.9, "frame": 0}`` in pixels of the
    upright photo. Without ``frame`` a box counts for every frame. An empty list says that the photo has no face, null that
    its boxes are not known. Of the rows of one photo in one version, by name and checksum, the last counts.

    The rows of a video, as ``--export-detections`` writes them, have ``frame`` beside ``detections``: one row per picture,
    and none may be missing. Where one picture has two, the later counts.
    """

    path: Path
    _rows: list[GivenRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        whole: dict[tuple[object, ...], GivenRow] = {}
        frames: dict[tuple[str | None, str | None], dict[int, list[dict[str, Any]]]] = {}
        for number, row in read_rows(self.path):
            where = f"{self.path}, line {number}"
            found = row.get("detections")
            if row.get("outcome") == "error" and not found:
                continue
            known = found is not None or "detections" not in row or "frame" in row
            if not known:
                found = []
            if not isinstance(found, list):
                raise UsageMistake(f"{where}: needs a list 'detections'")
            for item in found:
                _check_detection(item, where)
            name = row.get("input", row.get("file"))
            digest = row.get("input_sha256") or None
            if not isinstance(name, str | None) or not isinstance(digest, str | None) or not (name or digest):
                raise UsageMistake(f"{where}: needs 'input', the photo's path, or 'input_sha256'")
            if "frame" in row:
                _check_frame(row["frame"], where)
                frames.setdefault((name, digest), {})[row["frame"]] = found
            else:
                again = (name, digest) if name and digest else (number,)
                whole[again] = GivenRow(name, digest, found, known=known)
        for (name, digest), given in frames.items():
            items = [{**item, "frame": frame} for frame, found in given.items() for item in found]
            whole[name, digest] = GivenRow(name, digest, items, frozenset(given))
        self._rows = list(whole.values())

    def find(self, name: str, source: Path, sha256: str) -> list[dict[str, Any]]:
        """Return the given faces of a photo; see :meth:`row_of`."""
        return self.row_of(name, source, sha256).detections

    def row_of(self, name: str, source: Path, sha256: str) -> GivenRow:
        """Return what was given for a file: the row with its path, else the row with its content.

        :raises FaceblurError: if there is no row for it, or one without boxes, if rows disagree, or if the photo is not
            the one of its row
        """
        names = {os.path.normpath(name), os.path.normpath(source), os.path.abspath(source)}
        named = [row for row in self._rows if row.name is not None and os.path.normpath(row.name) in names]
        rows = [row for row in named if row.sha256 in (None, sha256)]
        if named and not rows:
            raise FaceblurError(f"the row for it in {self.path} was made from another version of the photo (input_sha256)")
        rows = rows or [row for row in self._rows if row.sha256 == sha256]
        if not rows:
            raise FaceblurError(f"{self.path} has no row for it; an empty list of detections says that there is no face")
        if any((row.detections, row.known) != (rows[0].detections, rows[0].known) for row in rows):
            raise FaceblurError(f"{self.path} has {len(rows)} rows for it that differ")
        if not rows[0].known:
            raise FaceblurError(f"{self.path} has no boxes for it, only null; --export-detections writes those of every picture")
        return rows[0]


def _check_detection(item: Any, where: str) -> None:
    box = item.get("box") if isinstance(item, dict) else None
    if not isinstance(box, list) or len(box) != 4:
        box = []
    numbers = [*box, item.get("score", 1.0)] if box else []
    if not box or not all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e7 for n in numbers):
        raise UsageMistake(f"{where}: a detection needs 'box': [x1, y1, x2, y2] in pixels, and a score is a number")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise UsageMistake(f"{where}: box {box} is empty; it is x1, y1, x2, y2 with x1 < x2 and y1 < y2")
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise UsageMistake(f"{where}: box {box} is smaller than a pixel; boxes are in pixels of the photo, not in shares of it")
    _check_frame(item.get("frame", 0), where)


def _check_frame(frame: Any, where: str) -> None:
    if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
        raise UsageMistake(f"{where}: 'frame' is the number of a frame, from 0")


def detections_of(items: Sequence[Mapping[str, Any]], frame: int, height: int, width: int) -> Detections:
    """Return the given faces of one frame of that size.

    :raises FaceblurError: if a box lies outside the picture, where it would hide nothing
    """
    mine = [item for item in items if item.get("frame", frame) == frame]
    for x1, y1, x2, y2 in (item["box"] for item in mine):
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            raise FaceblurError(f"the given box {[x1, y1, x2, y2]} lies outside the picture of {width} x {height} pixels")
    if not mine:
        return Detections.none()
    return Detections(np.array([item["box"] for item in mine]), np.array([item.get("score", 1.0) for item in mine]))
