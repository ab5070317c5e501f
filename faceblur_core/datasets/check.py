"""``faceblur dataset check``: is a data set whole, are its splits apart, and how are its faces spread?"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.datasets.builder import BLUR, MANIFEST, MASK, read_manifest
from faceblur_core.datasets.duplicates import Fingerprint, fingerprint, near_duplicates
from faceblur_core.datasets.labels import ellipse_of
from faceblur_core.datasets.survey import Advance, in_order, pixels_of
from faceblur_core.errors import UnreadableImage, UsageMistake
from faceblur_core.types import Ellipse, Image

GRID = 32  #: cells on each side of the map of face positions
LOW, HIGH = 0.2, 0.9  #: face heights that should dominate, shares of the picture's
BLACK = 16  #: brightest value in a black bar, which JPEG does not keep at 0
MOST_LISTED = 20  #: faults of one kind that are written out


@dataclass(frozen=True, slots=True)
class Spread:
    """The faces of one split."""

    pictures: int
    heights: NDArray[np.float64]  #: of every face, as a share of its picture's height
    counts: NDArray[np.int64]  #: faces of every picture
    places: NDArray[np.float64]  #: GRID x GRID: mean number of faces that cover a cell
    sources: Mapping[str, int]  #: pictures by source; empty without a manifest
    repeats: int  #: pictures that are equal to one before them, byte for byte

    @property
    def dominant(self) -> float:
        """The share of faces with a height between LOW and HIGH."""
        return float(((self.heights >= LOW) & (self.heights <= HIGH)).mean()) if len(self.heights) else float("nan")

    @property
    def centre(self) -> tuple[float, float]:
        """The mean position of covered cells, x and y, shares of the picture."""
        total = self.places.sum()
        middle = (np.arange(GRID) + 0.5) / GRID
        if not total:
            return float("nan"), float("nan")
        return float((self.places.sum(axis=0) * middle).sum() / total), float((self.places.sum(axis=1) * middle).sum() / total)


@dataclass(slots=True)
class Checked:
    """What was found."""

    folder: Path
    faults: list[str] = field(default_factory=list)
    spreads: dict[str, Spread] = field(default_factory=dict)  #: by split
    against: list[str] = field(default_factory=list)  #: test sets that it was compared with
    digest: str = ""  #: SHA-256 over the names and contents of all pictures


@dataclass(frozen=True, slots=True)
class Known:
    """The photos of a test set, to be found again."""

    title: str
    names: Sequence[str]
    fingerprints: Sequence[Fingerprint]
    checksums: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Look:
    fault: str = ""
    fingerprint: Fingerprint | None = None
    faces: tuple[Ellipse, ...] = ()
    size: tuple[int, int] = (0, 0)  #: height, width
    digests: tuple[str, ...] = ()


def check_dataset(folder: Path, known: Iterable[Known] = (), workers: int = 2, advance: Advance | None = None) -> Checked:
    """Look at every picture of a set.

    A set is a folder with ``NAME/``, ``NAME_blur/`` and ``NAME_mask/`` for each split; with a manifest the faces come from
    there, without one they are the connected regions of the masks.

    :raises UsageMistake: if the folder holds no such splits
    """
    rows = _manifest(folder)
    splits = sorted(_splits(folder) | {split for split, _ in rows or ()})
    if not splits:
        raise UsageMistake(f"{folder} holds no data set: no folder such as train/ beside train{BLUR}/ and train{MASK}/")
    checked = Checked(folder)
    prints: dict[str, list[tuple[str, Fingerprint]]] = {}
    overall = hashlib.sha256()
    for split in splits:
        names = _pairs(folder, split, rows, checked)
        looks = list(in_order(lambda n, s=split: _look(folder, s, n, rows), names, workers, advance))  # type: ignore[misc]
        _list(checked, [look.fault for look in looks if look.fault])
        for name, look in zip(names, looks, strict=True):
            overall.update(f"{split}/{name}:{look.digests}".encode())
        prints[split] = [(f"{split}/{n}", look.fingerprint) for n, look in zip(names, looks, strict=True) if look.fingerprint]
        checked.spreads[split] = _spread(
            looks, Counter(str(rows[split, n]["source"]) for n in names if (split, n) in rows) if rows else {}
        )
    if not any(prints.values()):
        checked.faults.append(f"{folder} holds no complete picture")
    checked.digest = overall.hexdigest()
    _apart(prints, rows, checked)
    for testset in known:
        _apart_from(testset, prints, rows, checked)
    return checked


def _manifest(folder: Path) -> dict[tuple[str, str], dict[str, Any]] | None:
    if not (folder / MANIFEST).is_file():
        return None
    return {(row["split"], row["name"]): row for row in read_manifest(folder)}


def _splits(folder: Path) -> set[str]:
    """Return the names of the splits, also of those with a folder missing."""
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return {name.removesuffix(ending) for ending in (BLUR, MASK) for name in names if name.endswith(ending)}


def _list(checked: Checked, faults: Sequence[str]) -> None:
    checked.faults += faults[:MOST_LISTED]
    if len(faults) > MOST_LISTED:
        checked.faults.append(f"… and {len(faults) - MOST_LISTED} more like the last one")


def _pairs(folder: Path, split: str, rows: Mapping[tuple[str, str], Any] | None, checked: Checked) -> list[str]:
    """Return the names that are complete; whatever else there is, or is not, is a fault."""
    found: dict[tuple[str, str], set[str]] = {}
    for ending, suffix in (("", ".jpg"), (BLUR, ".jpg"), (MASK, ".png")):
        part = f"{split}{ending}"
        files = [p for p in (folder / part).iterdir() if p.name[0] != "."] if (folder / part).is_dir() else []
        found[part, suffix] = {p.stem for p in files if p.suffix == suffix}
        _list(checked, [f"{part}/{p.name} is no picture of the set" for p in sorted(files) if p.suffix != suffix])
    every = set().union(*found.values())
    for (part, suffix), names in found.items():
        _list(checked, [f"{part}/{name}{suffix} is missing" for name in sorted(every - names)])
    if rows is not None:
        listed = {name for of, name in rows if of == split}
        _list(checked, [f"{split}/{name} is in the manifest and not there" for name in sorted(listed - every)])
        _list(checked, [f"{split}/{name} is not in the manifest" for name in sorted(every - listed)])
    return sorted(set.intersection(*found.values()))


def _look(folder: Path, split: str, name: str, rows: Mapping[tuple[str, str], Any] | None) -> _Look:
    files = [f"{split}/{name}.jpg", f"{split}{BLUR}/{name}.jpg", f"{split}{MASK}/{name}.png"]
    contents, pictures = [], []
    for file in files:
        try:
            contents.append((folder / file).read_bytes())
            pictures.append(pixels_of(contents[-1]))
        except UnreadableImage as error:
            return _Look(fault=f"{file}: {error.message}")
        except OSError as error:
            return _Look(fault=f"{file}: {error.strerror}")
    if len({picture.shape for picture in pictures}) > 1:
        return _Look(fault=f"{split}/{name}: photo, target and mask differ in size")
    digests = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    row = rows.get((split, name)) if rows is not None else None
    changed = [file for file, digest in zip(files, digests, strict=True) if row and row["sha256"].get(file) != digest]
    fault = f"{changed[0]} is not the file of the manifest" if changed else ""
    faces = tuple(map(ellipse_of, row["faces"])) if row else _mask_faces(pictures[2])
    return _Look(fault, fingerprint(_without_bars(pictures[0])), faces, pictures[0].shape[:2], digests)


def _without_bars(picture: Image) -> Image:
    """Return what is within the black bars: on little else two pictures would look alike."""
    lit = picture.max(axis=2) > BLACK
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    return np.ascontiguousarray(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]) if len(rows) else picture


def _mask_faces(mask: Image) -> tuple[Ellipse, ...]:
    import cv2

    count, _, stats, _ = cv2.connectedComponentsWithStats((mask[..., 0] >= 128).astype(np.uint8))
    return tuple(Ellipse(x + w / 2, y + h / 2, w / 2, h / 2) for x, y, w, h, _ in stats[1:count].tolist())


def _spread(looks: Sequence[_Look], sources: Mapping[str, int]) -> Spread:
    heights, places = [], np.zeros((GRID, GRID))
    for look in looks:
        for face in look.faces:
            heights.append(2 * face.half_extent()[1] / look.size[0])
            fx, fy = GRID / look.size[1], GRID / look.size[0]
            scaled = Ellipse(
                face.cx * fx, face.cy * fy, face.rx * fx, face.ry * fy, face.angle
            )  # close to exact: pictures are squares
            places += scaled.inside(GRID, GRID)
    counts = np.array([len(look.faces) for look in looks], np.int64)
    contents = [look.digests[0] for look in looks if look.digests]
    repeats = len(contents) - len(set(contents))
    return Spread(len(looks), np.array(heights), counts, places / max(1, len(looks)), dict(sorted(sources.items())), repeats)


def _apart(
    prints: Mapping[str, Sequence[tuple[str, Fingerprint]]], rows: Mapping[tuple[str, str], Any] | None, checked: Checked
) -> None:
    """Add the faults of pictures, photos and people that are in two splits."""
    splits = list(prints)
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            pairs = near_duplicates([p for _, p in prints[one]], [p for _, p in prints[other]])
            _list(checked, [f"{prints[one][a][0]} and {prints[other][b][0]} are near-duplicates" for a, b in pairs])
    for key, what in (("photo_sha256", "the photo"), ("identity", "the person")):
        where: dict[str, set[str]] = defaultdict(set)
        called: dict[str, str] = {}
        for (split, _), row in (rows or {}).items():
            if row[key]:
                where[row[key]].add(split)
                called.setdefault(row[key], f"{row['source']}/{row['photo']}" if key == "photo_sha256" else row[key])
        both = sorted((called[same], " and ".join(sorted(splits))) for same, splits in where.items() if len(splits) > 1)
        _list(checked, [f"{what} {name} is in {splits}" for name, splits in both])


def _apart_from(
    testset: Known,
    prints: Mapping[str, Sequence[tuple[str, Fingerprint]]],
    rows: Mapping[tuple[str, str], Any] | None,
    checked: Checked,
) -> None:
    checked.against.append(testset.title)
    for found in prints.values():
        pairs = near_duplicates([p for _, p in found], testset.fingerprints)
        _list(checked, [f"{found[a][0]} is a near-duplicate of {testset.names[b]} in test set {testset.title}" for a, b in pairs])
    sums = set(testset.checksums)
    same = [f"{split}/{name}" for (split, name), row in (rows or {}).items() if row["photo_sha256"] in sums]
    _list(checked, [f"{name} is made from a photo of test set {testset.title}" for name in sorted(same)])
