"""The format of a test set: a folder with ``testset.yaml``, ``manifest.jsonl`` and ``photos/``, or ``clips/``.

``testset.yaml`` holds name, version, what it is, the licence of its photos, how it was made, and ``checksum``: the
SHA-256 of the manifest. The manifest has one JSON object per photo, sorted by ``id``: ``id``, ``file``, ``sha256``,
``height``, ``width``, ``faces`` (each ``cx cy rx ry angle``, its ``flags`` and, where known, ``landmarks``; a face flagged
``ignore`` counts for nothing), ``identity``, ``groups`` and ``categories``. So the checksum vouches for every photo too.

A test set of clips has format 2 and ``clips/``: one JSON object per video file, the same but for ``pictures`` in place of
``faces``, which holds ``faces`` for each picture in order. Such a face also has ``track``, a number that is the same in all
pictures of the clip that show this face, and ``visible``, the share of its ellipse that is in the picture and not behind
something.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import yaml

from faceblur_core.datasets.labels import ellipse_of, is_face, misfits
from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake
from faceblur_core.media.files import read_rows, write_whole
from faceblur_core.media.images import read_photo
from faceblur_core.media.video import Picture, VideoReader
from faceblur_core.options import read_yaml
from faceblur_core.types import Image, Sample

HEAD, MANIFEST, PHOTOS, CLIPS = "testset.yaml", "manifest.jsonl", "photos", "clips"
FORMAT, CLIP_FORMAT = 1, 2  #: of the folder, with photos and with clips; a reader refuses later ones
#: what every row of a manifest holds
ROW_TYPES = {
    "id": str, "file": str, "sha256": str, "height": int, "width": int, "identity": (str, NoneType), "groups": dict,
    "categories": list,
}  # fmt: skip
MOST_PIXELS = 10**8  #: of a clip's picture
FOLDER = "FACEBLUR_TESTSETS"


@dataclass(frozen=True, slots=True)
class TestSet:
    """A test set on disk, its head and manifest read, no photo yet."""

    __test__ = False  # for pytest

    name: str
    version: int
    checksum: str  #: SHA-256 of the manifest
    folder: Path
    head: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]  #: one per photo, or per picture of a clip: with ``clip`` and ``frame``

    @property
    def title(self) -> str:
        """The name and the version, as tables print it: ``fddb-v1``."""
        return f"{self.name}-v{self.version}"

    @property
    def of_clips(self) -> bool:
        """Whether its files are videos."""
        return bool(self.head["format"] == CLIP_FORMAT)

    @property
    def extent(self) -> str:
        """How much it holds, in words: ``40 photos``, ``24 clips of 1200 pictures``."""
        return f"{len(self.files())} clips of {len(self.rows)} pictures" if self.of_clips else f"{len(self.rows)} photos"

    def files(self) -> list[list[Mapping[str, Any]]]:
        """Return the rows of each file, in order: one of a photo, one per picture of a clip."""
        return [list(rows) for _, rows in itertools.groupby(self.rows, key=lambda row: row["file"])]

    def samples(self) -> Iterator[Sample]:
        """Yield every photo, or every picture of every clip, with its truth, in the order of the manifest."""
        for rows in self.files():
            for row, image in zip(rows, self._images(rows[0]), strict=True):
                yield known(row, image)

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """Return one photo, or one picture of a clip, with its truth.

        :raises FaceblurError: if the file is missing, damaged or another one than the manifest says
        """
        return known(row, next(itertools.islice(self._images(row), row.get("frame", 0), None)))

    def _images(self, row: Mapping[str, Any]) -> Iterator[Image]:
        """Yield a photo, or all pictures of a clip."""
        data, path = self._read(row)
        if not self.of_clips:
            yield read_photo(data).frames[0].rgb()
            return
        with VideoReader(path, MOST_PIXELS) as reader:
            for item in reader:
                if isinstance(item, Picture):
                    yield item.rgb()

    def open_clip(self, row: Mapping[str, Any]) -> VideoReader:
        """Return the clip of a row. :raises FaceblurError: as :meth:`sample`"""
        return VideoReader(self._read(row)[1], MOST_PIXELS)

    def _read(self, row: Mapping[str, Any]) -> tuple[bytes, Path]:
        path = self.folder / row["file"]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FaceblurError(f"test set {self.title}: {path}: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            what = "clip" if self.of_clips else "photo"
            raise FaceblurError(f"test set {self.title}: {path} is not the {what} of the manifest; see faceblur testset verify")
        return data, path

    def sizes(self) -> Counter[str]:
        """Return the number of photos, or pictures, in each category."""
        return Counter(category for row in self.rows for category in row["categories"])

    def face_count(self) -> int:
        """Return the number of faces that count."""
        return sum(len(counted_faces(row)) for row in self.rows)


def counted_faces(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return those faces of a manifest's row that a method is held to."""
    return [face for face in row["faces"] if "ignore" not in face["flags"]]


def known(row: Mapping[str, Any], image: Image) -> Sample:
    """Return the sample of a row: the image with its truth."""
    counted = counted_faces(row)
    return Sample(
        id=row["id"],
        image=image,
        faces=tuple(ellipse_of(face) for face in counted),
        landmarks=tuple(np.array(face["landmarks"], np.float32) if "landmarks" in face else None for face in counted),
        identity=row["identity"],
        categories=frozenset(row["categories"]),
        groups=dict(row["groups"]),
        ignored=tuple(ellipse_of(face) for face in row["faces"] if "ignore" in face["flags"]),
        clip=row.get("clip", ""),
        frame=row.get("frame", 0),
        tracks=tuple(face["track"] for face in counted if "track" in face),
    )


def testsets_folder() -> Path:
    """Return where test sets are kept: ``FACEBLUR_TESTSETS``, else the user's data folder."""
    from platformdirs import user_data_path

    return Path(os.environ[FOLDER]) if os.environ.get(FOLDER) else user_data_path("faceblur", appauthor=False) / "testsets"


def write_testset(folder: Path, head: Mapping[str, Any], items: Iterable[tuple[dict[str, Any], bytes]]) -> TestSet:
    """Write a test set whole, or nothing; a set that is there is replaced, unless it is the same and was written meanwhile.

    :param head: name, version, summary, licence and how it was made
    :param items: row (without ``file`` and ``sha256``, with ``suffix``) and file of every photo, or of every clip: all rows
        have ``pictures``, or none
    :raises FaceblurError: if the folder cannot be written
    """
    folder = folder.resolve()  # '.' has no name and is gone when it is replaced; a link is to be kept
    before = _made(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(unfinished, head, items)
            unfinished.chmod(0o755)
            if _made(folder) == before or not _same(folder, unfinished):
                _replace(folder, unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise FaceblurError(f"test set {error.filename or folder}: {error.strerror}") from None
    return read_testset(folder)


def _made(folder: Path) -> int:
    """Return when the test set in a folder was written; 0 if there is none."""
    try:
        return (folder / HEAD).stat().st_mtime_ns
    except OSError:
        return 0


def _same(folder: Path, other: Path) -> bool:
    return (folder / HEAD).is_file() and (folder / HEAD).read_bytes() == (other / HEAD).read_bytes()


def _replace(folder: Path, new: Path) -> None:
    """Put a folder in the place of another, which is deleted only then."""
    if not folder.exists():
        try:
            new.rename(folder)
        except OSError:
            if not _same(folder, new):  # another process was faster
                raise
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            old.rename(folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _write(folder: Path, head: Mapping[str, Any], items: Iterable[tuple[dict[str, Any], bytes]]) -> None:
    rows: list[dict[str, Any]] = []
    ids = set()
    for row, data in items:
        if row["id"] in ids:
            raise FaceblurError(f"test set {head['name']}: two photos are named {row['id']} up to the suffix; drop one of them")
        ids.add(row["id"])
        file = f"{CLIPS if 'pictures' in row else PHOTOS}/{row['id']}{row.pop('suffix')}"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / file, data)
        rows.append({"id": row["id"], "file": file, "sha256": hashlib.sha256(data).hexdigest(), **row})
    rows.sort(key=lambda row: str(row["id"]))
    manifest = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    write_whole(folder / MANIFEST, manifest)
    clips = any("pictures" in row for row in rows)
    size = {CLIPS: len(rows), "pictures": sum(len(row["pictures"]) for row in rows)} if clips else {PHOTOS: len(rows)}
    kind = {"format": CLIP_FORMAT if clips else FORMAT}
    full = {**kind, **head, **size, "checksum": hashlib.sha256(manifest).hexdigest()}
    write_whole(folder / HEAD, yaml.safe_dump(full, sort_keys=False, allow_unicode=True).encode())


def read_testset(folder: Path) -> TestSet:
    """Return the test set in a folder; the photos are read later, each checked then.

    :raises UsageMistake: if there is none, or it is of a later format
    :raises FaceblurError: if its manifest is not the one of its checksum
    """
    if not (folder / HEAD).is_file():
        raise UsageMistake(f"{folder} is no test set: it holds no {HEAD}")
    head = read_yaml(folder / HEAD, "test set")
    missing = [key for key in ("format", "name", "version", "checksum") if key not in head]
    if missing:
        raise UsageMistake(f"test set {folder / HEAD} has no {missing[0]!r}")
    wanted = CLIP_FORMAT if CLIPS in head else FORMAT
    if head["format"] != wanted:
        raise UsageMistake(f"test set {folder} has format {head['format']}; this faceblur reads format {wanted}")
    if not isinstance(head["version"], int):
        raise UsageMistake(f"test set {folder / HEAD}: version {head['version']!r} is no whole number")
    try:
        manifest = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise FaceblurError(f"test set {folder / MANIFEST}: {error.strerror}; build the set again") from None
    if hashlib.sha256(manifest).hexdigest() != head["checksum"]:
        raise FaceblurError(f"test set {folder}: {MANIFEST} is not the one of the checksum in {HEAD}; build the set again")
    rows = [_row(folder, number, row, clips=head["format"] == CLIP_FORMAT) for number, row in read_rows(folder / MANIFEST)]
    if again := [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]:
        raise UsageMistake(f"{folder / MANIFEST} has two rows of {again[0]!r}; build the set again")
    if head["format"] == CLIP_FORMAT:
        rows = [picture for row in rows for picture in _pictures(row)]
    return TestSet(str(head["name"]), head["version"], str(head["checksum"]), folder, head, tuple(rows))


def _row(folder: Path, number: int, row: dict[str, Any], *, clips: bool) -> dict[str, Any]:
    """Return a row of the manifest. :raises UsageMistake: if it is none of a test set of this kind"""
    pictures = row.get("pictures") if clips else [row]
    whole = not misfits(row, ROW_TYPES) and min(row["height"], row["width"]) > 0 and _are_words(row["categories"])
    if not whole or "\0" in row["file"] or not isinstance(pictures, list) or not all(_is_picture(one) for one in pictures):
        kind = "clips" if clips else "photos"
        raise UsageMistake(f"{folder / MANIFEST}, line {number}: no row of a test set of {kind}; build the set again")
    return row


def _is_picture(picture: Any) -> bool:
    faces = picture.get("faces") if isinstance(picture, dict) else None
    return isinstance(faces, list) and all(is_face(face) and _has_marks(face) for face in faces)


def _has_marks(face: Mapping[str, Any]) -> bool:
    """Return whether a face that a file holds has flags, and five landmarks if any."""
    points = face.get("landmarks", [(0, 0)] * 5)
    pairs = isinstance(points, (list, tuple)) and all(isinstance(point, (list, tuple)) and len(point) == 2 for point in points)
    numbers = [number for point in points for number in point] if pairs else []
    finite = all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers)
    return len(numbers) == 10 and finite and min(face["rx"], face["ry"]) > 0 and _are_words(face.get("flags"))


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _pictures(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the row of each picture of a clip, from the clip's row in the manifest."""
    same = {key: value for key, value in row.items() if key != "pictures"}
    for frame, picture in enumerate(row["pictures"]):
        yield {**same, "id": f"{row['id']}/{frame:05}", "clip": row["id"], "frame": frame, **picture}


def installed_testsets() -> dict[str, Path]:
    """Return the folders of the test sets that have been built, by name."""
    found = testsets_folder()
    folders = sorted(found.iterdir()) if found.is_dir() else []
    return {path.name: path for path in folders if path.name[0] != "." and (path / HEAD).is_file()}  # a dot: half written


def open_testset(text: str) -> TestSet:
    """Return the test set that ``text`` names: a folder, or the name of one that has been built; ``samples`` is always there.

    :raises UnknownName: if there is none
    :raises UsageMistake: if the folder holds no test set
    """
    from faceblur_core.testsets.samples import NAME, VERSION, build_samples

    if text == NAME:
        folder = testsets_folder() / NAME
        if (folder / HEAD).is_file() and read_yaml(folder / HEAD, "test set").get("version") == VERSION:
            return read_testset(folder)
        return build_samples(folder)
    built = installed_testsets()
    if Path(text).is_dir() and ((Path(text) / HEAD).is_file() or text not in built):
        return read_testset(Path(text))
    if text not in built:
        hint = " faceblur testset build makes it." if text in shipped_names() else ""
        raise UnknownName("test set", text, {NAME, *built}, hint)
    return read_testset(built[text])


def shipped_names() -> list[str]:
    """Return the names of the configs of test sets that ship with faceblur."""
    from faceblur_core.options import shipped_configs

    return list(shipped_configs("testsets"))


def faults(testset: TestSet) -> list[str]:
    """Return what is wrong with a test set's files: missing, changed, or in the folder and not in the manifest."""
    found = []
    for row, *_ in testset.files():
        path = testset.folder / str(row["file"])
        if not path.is_file():
            found.append(f"{row['file']} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            found.append(f"{row['file']} has changed")
    files = {str(row["file"]) for row in testset.rows}
    folder = testset.folder / (CLIPS if testset.of_clips else PHOTOS)
    there = (path.relative_to(testset.folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return found + [f"{name} is not in the manifest" for name in sorted(there) if name not in files]


def check_name(name: str) -> str:
    """Return it. :raises UsageMistake: if it cannot be the name of a folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageMistake(f"test set name {name!r} should be letters, digits, dots and dashes")
    return name
