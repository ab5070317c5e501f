"""Write files and folders so that a name never stands for half of one; read files of one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_core.machine import UMASK


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[str]:
    """Yield the name of an empty file beside ``path``, to be written; then rename it. On any failure nothing is left behind.

    :raises OSError: as the system reports it
    """
    descriptor, name = tempfile.mkstemp(prefix=".faceblur-", suffix=".part", dir=path.parent)
    os.close(descriptor)
    try:
        yield name
        os.chmod(name, 0o666 & ~UMASK)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``, to be filled; then give it that name. On any failure nothing is left behind.

    ``path`` may be an empty folder; folders above it are made.

    :raises OSError: as the system reports it
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield unfinished
        unfinished.chmod(0o777 & ~UMASK)
        if path.exists():
            path.rmdir()
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def check_folder_above(folder: Path) -> None:
    """:raises UsageMistake: if it, or the nearest of its parents that exists, is a file, or its name is none for a folder"""
    for path in (folder, *folder.parents):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageMistake(f"-o {folder}: {error.strerror}") from None
        if not path.is_dir():
            raise UsageMistake(f"-o {folder}: {path} is no folder")
        return


def check_new_folder(path: Path) -> None:
    """:raises UsageMistake: if the path is there and no empty folder, or none can be made there"""
    check_folder_above(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageMistake(f"{path} is there; choose a new folder")


def check_kind(path: Path, start: bytes, kind: str) -> None:
    """:raises UsageMistake: if a file would take the place of another kind of file

    :param start: how files of its kind begin, in lower case
    """
    try:
        with path.open("rb") as file:
            found = file.read(len(start))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageMistake(f"{path}: {error.strerror}") from None
    if found.lower() != start:
        raise UsageMistake(f"{path} is there and is no {kind}; choose another name")


def check_regular(path: Path) -> None:
    """:raises UnreadableImage: for a pipe, which would be waited for without end"""
    if path.exists() and not path.is_file():
        raise UnreadableImage("not a regular file")


def read_regular(path: Path) -> bytes:
    """Return what is in a file. :raises UnreadableImage: for a pipe"""
    check_regular(path)
    return path.read_bytes()


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path`` and rename it; on any failure nothing is left behind.

    :raises OSError: as the system reports it, for example when the disk is full
    """
    with whole_file(path) as name, open(name, "wb") as file:
        file.write(data)


def save(path: Path, data: bytes) -> None:
    """Write a file that a user named, its folder too. :raises FaceblurError: if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise FaceblurError(f"{path} cannot be written ({error.strerror})") from error


def read_rows(path: Path, *, cut_off: str = "") -> list[tuple[int, dict[str, Any]]]:
    """Return (line number, object) for every line of a JSONL file that is not blank.

    :param cut_off: how rows begin: a last line that is the beginning of such a row and no JSON is passed over
    :raises UsageMistake: if the file cannot be read or a line is no JSON object; names the line
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
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
        except (ValueError, RecursionError) as error:
            if cut_off and number == len(lines) > 1 and line.startswith(cut_off[: len(line)]):
                break
            raise UsageMistake(f"{path}, line {number}: no JSON ({error})") from None
        if not isinstance(row, dict):
            raise UsageMistake(f"{path}, line {number}: not a JSON object")
        rows.append((number, row))
    return rows
