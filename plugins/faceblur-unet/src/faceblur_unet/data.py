"""A data set folder in memory: ``train/00001.jpg``, its target ``train_blur/00001.jpg``, its mask ``train_mask/00001.png``."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError
from faceblur_unet.config import SIZE

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Pairs:
    """The photos of one split with what the network should make of them, all uint8, in the order of their names."""

    photos: Pictures  #: N x S x S x 3, RGB
    truths: Pictures  #: N x S x S x 4: the target's RGB and the mask, 255 = hidden face; one array, for it is warped as one
    teacher: Pictures | None = None  #: N x S x S x 3, what the teacher makes of the photos

    def __len__(self) -> int:
        return len(self.photos)


def load_split(folder: Path, split: str, size: int = SIZE) -> Pairs:
    """Return one split, such as ``train``, decoded.

    :raises FaceblurError: if a folder is missing or empty, a file has no partner, or a picture cannot be read or has another size
    """
    parts = {f"{split}{part}": suffix for part, suffix in (("", ".jpg"), ("_blur", ".jpg"), ("_mask", ".png"))}
    names = {part: _names(folder / part, suffix) for part, suffix in parts.items()}
    every = sorted(set().union(*names.values()))
    for part, found in names.items():
        if missing := [name for name in every if name not in found]:
            other = next(other for other in parts if missing[0] in names[other])
            raise FaceblurError(
                f"{folder / other / (missing[0] + parts[other])} has no partner {missing[0] + parts[part]} in {folder / part}"
            )
    if not every:
        raise FaceblurError(f"{folder / split} holds no .jpg files; is it a data set?")
    photos = np.empty((len(every), size, size, 3), np.uint8)
    truths = np.empty((len(every), size, size, 4), np.uint8)

    def load(index: int) -> None:
        photo, target, mask = (folder / part / (every[index] + suffix) for part, suffix in parts.items())
        photos[index] = _read(photo, size, grey=False)
        truths[index, ..., :3] = _read(target, size, grey=False)
        truths[index, ..., 3] = _read(mask, size, grey=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(load, range(len(every))))
    return Pairs(photos, truths)


def _names(folder: Path, suffix: str) -> set[str]:
    if not folder.is_dir():
        raise FaceblurError(f"no folder {folder}; a data set has train, train_blur, train_mask and val, val_blur, val_mask")
    return {path.stem for path in folder.glob(f"*{suffix}")}


def _read(path: Path, size: int, *, grey: bool) -> Pictures:
    import cv2

    data = np.frombuffer(path.read_bytes(), np.uint8)
    picture: Any = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB) if data.size else None
    if picture is None:
        raise FaceblurError(f"{path} is no picture that can be read")
    if picture.shape[:2] != (size, size):
        raise FaceblurError(f"{path} is {picture.shape[1]} x {picture.shape[0]} pixels, not {size} x {size}")
    return np.asarray(picture)


def identity(folder: Path, **splits: Pairs) -> dict[str, Any]:
    """Return what tells one data set from another: the number of pairs per split, the manifest's SHA-256 (or None)."""
    manifest = folder / "manifest.jsonl"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else None
    return {"manifest_sha256": digest, **{name: len(pairs) for name, pairs in splits.items()}}
