"""A data set folder in memory: ``train/00001.jpg``, its target ``train_blur/00001.jpg``, its mask ``train_mask/00001.png``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceblur_core.training.data import Pictures, for_each, partnered, read_square
from faceblur_unet.config import SIZE


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
    names = partnered(folder, split, {"": ".jpg", "_blur": ".jpg", "_mask": ".png"})
    photos = np.empty((len(names), size, size, 3), np.uint8)
    truths = np.empty((len(names), size, size, 4), np.uint8)

    def load(index: int) -> None:
        name = names[index]
        photos[index] = read_square(folder / split / f"{name}.jpg", size)
        truths[index, ..., :3] = read_square(folder / f"{split}_blur" / f"{name}.jpg", size)
        truths[index, ..., 3] = read_square(folder / f"{split}_mask" / f"{name}.png", size, grey=True)

    for_each(len(names), load)
    return Pairs(photos, truths)
