"""``faceblur dataset rename``: pictures of any folder to zero-padded numbers, their partners with them."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from faceblur_core.datasets.blur_files import LABELS
from faceblur_core.datasets.builder import BLUR, MANIFEST, MASK
from faceblur_core.datasets.export_yolo import DATA
from faceblur_core.datasets.labels import pictures_under
from faceblur_core.errors import FaceblurError, UsageMistake


@dataclass(frozen=True, slots=True)
class Move:
    """One file's new name."""

    source: Path
    target: Path


def plan_rename(folder: Path, digits: int | None = None, start: int = 1) -> list[Move]:
    """Return the moves that number the pictures of a folder, in the natural order of their names.

    The files of ``FOLDER_blur/`` and ``FOLDER_mask/`` beside it go with the picture of their name.

    :param digits: of each number; by default as many as the last number needs, and at least 5
    :raises UsageMistake: if the folder belongs to a data set that faceblur made, two pictures have one name up to the
        suffix, two files beside it do, or the numbers do not fit
    """
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    _refuse_set(folder)
    pictures = sorted((path for path in pictures_under(folder) if path.parent == folder), key=lambda path: _natural(path.name))
    if not pictures:
        raise UsageMistake(f"{folder} holds no pictures")
    last = start + len(pictures) - 1
    digits = max(5, len(str(last))) if digits is None else digits
    if len(str(last)) > digits:
        raise UsageMistake(f"{last} does not fit into {digits} digits")
    stems = [path.stem for path in pictures]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None) if len(set(stems)) < len(stems) else None
    if twice is not None:
        raise UsageMistake(f"{folder} holds two pictures named {twice}; their partners could not be told apart")
    moves = []
    partners = [folder.with_name(f"{folder.name}{ending}") for ending in (BLUR, MASK)]
    others = _by_stem(partners)
    for number, path in enumerate(pictures, start):
        name = f"{number:0{digits}d}"
        group = [path, *(others[partner, path.stem] for partner in partners if (partner, path.stem) in others)]
        moves += [Move(one, one.with_name(f"{name}{one.suffix.lower()}")) for one in group]
    moving = {move.source for move in moves}
    taken = [move.target for move in moves if move.target not in moving and os.path.lexists(move.target)]
    if taken:
        raise UsageMistake(f"{taken[0]} is there and is no picture of the folder; nothing was renamed")
    return [move for move in moves if move.source != move.target]


def _refuse_set(folder: Path) -> None:
    """:raises UsageMistake: if a list of a data set's pictures lies in the folder or up to two above it: it has their names"""
    for near in (folder, folder.parent, *folder.resolve().parents[:2]):  # the list of a set for Ultralytics lies two above
        for name in (MANIFEST, LABELS, DATA):
            if (near / name).exists():
                raise UsageMistake(f"{folder} belongs to the data set in {near}, whose {name} goes by its names")


def _by_stem(folders: list[Path]) -> dict[tuple[Path, str], Path]:
    """Return the files of the folders that are there. :raises UsageMistake: if two differ only in the suffix."""
    found: dict[tuple[Path, str], Path] = {}
    for path in sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        if (path.parent, path.stem) in found:
            raise UsageMistake(f"{path.parent} holds two files named {path.stem}; which one belongs to the picture?")
        found[path.parent, path.stem] = path
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which img2 comes before img10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name) if part] + [
        (0, name)
    ]


def rename(moves: list[Move]) -> None:
    """Make the moves; if one fails, all are taken back.

    :raises FaceblurError: if a file cannot be renamed
    """
    marker = uuid.uuid4().hex
    steps = [(move.source, move.source.with_name(f".{marker}-{move.source.name}")) for move in moves]
    steps += [(move.source.with_name(f".{marker}-{move.source.name}"), move.target) for move in moves]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in steps:
            os.rename(source, target)
            done.append((source, target))
    except BaseException as error:
        for source, target in reversed(done):
            with contextlib.suppress(OSError):
                os.rename(target, source)
        if isinstance(error, OSError):
            raise FaceblurError(f"{error.filename}: {error.strerror}; nothing was renamed") from None
        raise
