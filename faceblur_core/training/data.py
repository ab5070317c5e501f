"""Read a data set's folder: ``train/00001.jpg`` and its partners, such as ``train_mask/00001.png``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError

Pictures = NDArray[np.uint8]

T = TypeVar("T")


def partnered(folder: Path, split: str, parts: Mapping[str, str]) -> list[str]:
    """Return the names of the pictures of one split, without their endings, in order.

    :param parts: which folders a picture lies in, ``split`` plus each key, and the ending of its files there, such as
        ``{"": ".jpg", "_mask": ".png"}``
    :raises FaceblurError: if a folder is missing or empty, or a file has no partner
    """
    names = {f"{split}{part}": _names(folder, f"{split}{part}", suffix) for part, suffix in parts.items()}
    suffixes = {f"{split}{part}": suffix for part, suffix in parts.items()}
    every = sorted(set().union(*names.values()))
    for part, found in names.items():
        if missing := [name for name in every if name not in found]:
            other = next(other for other in names if missing[0] in names[other])
            alone, partner = missing[0] + suffixes[other], missing[0] + suffixes[part]
            raise FaceblurError(f"{folder / other / alone} has no partner {partner} in {folder / part}")
    if not every:
        raise FaceblurError(f"{folder / split} holds no {next(iter(parts.values()))} files; is it a data set?")
    return every


def _names(folder: Path, part: str, suffix: str) -> set[str]:
    if not (folder / part).is_dir():
        raise FaceblurError(f"no folder {folder / part}; a data set has train, train_blur, train_mask, and the same of val")
    return {path.stem for path in (folder / part).glob(f"*{suffix}")}


def read_square(path: Path, size: int, *, grey: bool = False) -> Pictures:
    """Return a picture of size x size pixels: S x S x 3 RGB, or S x S if ``grey``; uint8.

    :raises FaceblurError: if it cannot be read or has another size
    """
    import cv2

    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise FaceblurError(f"{path}: {error.strerror}") from None
    picture: Any = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB) if data.size else None
    if picture is None:
        raise FaceblurError(f"{path} is no picture that can be read")
    if picture.shape[:2] != (size, size):
        raise FaceblurError(f"{path} is {picture.shape[1]} x {picture.shape[0]} pixels, not {size} x {size}")
    return np.asarray(picture)


def for_each(count: int, load: Callable[[int], None]) -> None:
    """Call ``load`` with 0 to ``count`` - 1, as many at once as there are cores; raise what the first that fails raises."""
    import cv2  # noqa: F401 (two threads that import it first at the same time break it)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(load, range(count)))


def batches_ahead(order: NDArray[np.intp], batch_size: int, make: Callable[[int, NDArray[np.intp]], T]) -> Iterator[T]:
    """Yield ``make(index, chosen)`` for every ``batch_size`` of an order; another thread makes the next batch meanwhile."""
    chosen = np.split(order, range(batch_size, len(order), batch_size))
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, 0, chosen[0])
        for index in range(len(chosen)):
            batch = coming.result()
            if index + 1 < len(chosen):
                coming = pool.submit(make, index + 1, chosen[index + 1])
            yield batch


def identity(folder: Path, *parts: str, **counts: int) -> dict[str, Any]:
    """Return what tells one data set from another: the number of pictures per split, the manifest's SHA-256 (or None).

    Without a manifest it is told by the names and contents of its files.

    :param parts: the set's folders that hold them; by default one of each split and those beside it, such as ``train_blur``
    """
    manifest = folder / "manifest.jsonl"
    if manifest.is_file():
        return {"manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(), **counts}
    folders = [folder / part for part in parts] or [
        path for split in counts for path in (folder / split, *folder.glob(f"{split}_*"))
    ]
    return {"manifest_sha256": None, "content_sha256": content_digest(folder, folders), **counts}


def content_digest(root: Path, folders: Iterable[Path], suffix: str = "") -> str:
    """Return the SHA-256 of names and contents of all files in folders below ``root``, but hidden ones.

    :param suffix: how a file's name must end to count
    :raises FaceblurError: if one cannot be read
    """
    digest = hashlib.sha256()
    files = {path for folder in folders for path in folder.rglob(f"*{suffix}") if path.name[0] != "." and path.is_file()}
    for path in sorted(files):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise FaceblurError(f"{path}: {error.strerror}") from None
        digest.update(b"%b\0%d\0" % (os.fsencode(path.relative_to(root)), len(content)))
        digest.update(content)
    return digest.hexdigest()
