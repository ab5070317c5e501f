"""Photos and masks in memory, shuffled and augmented: the same batch for the same seed, epoch and index."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from faceblur_core.training.data import Pictures, batches_ahead, for_each, partnered, read_square
from faceblur_core.types import Floats
from faceblur_inpaint.config import SIZE, TrainConfig


@dataclass(frozen=True)
class Pairs:
    """The photos of one split with their masks, uint8, in the order of their names."""

    photos: Pictures  #: N x 256 x 256 x channels
    masks: Pictures  #: N x 256 x 256, 255 = face

    def __len__(self) -> int:
        return len(self.photos)


def load_split(folder: Path, split: str, channels: int) -> Pairs:
    """Return one split, such as ``train``, decoded.

    :raises FaceblurError: if a folder is missing or empty, a file has no partner, or a picture cannot be read or has another size
    """
    names = partnered(folder, split, {"": ".jpg", "_mask": ".png"})
    photos = np.empty((len(names), SIZE, SIZE, channels), np.uint8)
    masks = np.empty((len(names), SIZE, SIZE), np.uint8)

    def load(index: int) -> None:
        photo = read_square(folder / split / f"{names[index]}.jpg", SIZE, grey=channels == 1)
        photos[index] = photo.reshape(photos.shape[1:])
        masks[index] = read_square(folder / f"{split}_mask" / f"{names[index]}.png", SIZE, grey=True)

    for_each(len(names), load)
    return Pairs(photos, masks)


class Batches:
    """Batches (photos, truths) of an epoch: N x channels x S x S and N x 1 x S x S, float32 in 0..1, for PyTorch.

    With ``augment`` the seed, the epoch and the batch's index decide what is in it and how it is changed; without, the
    pairs come in their order as they are. S is 256, and 128 in the first ``half_size_epochs`` of what is augmented.
    """

    def __init__(self, pairs: Pairs, config: TrainConfig, *, augment: bool) -> None:
        self.pairs, self.config, self.augment = pairs, config, augment

    def __len__(self) -> int:
        return -(-len(self.pairs) // self.config.batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[Floats, Floats]]:
        """Return the batches of an epoch, counted from 0; another thread makes the next one meanwhile."""
        count = len(self.pairs)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(count) if self.augment else np.arange(count)
        return batches_ahead(order, self.config.batch_size, functools.partial(self._batch, epoch))

    def _batch(self, epoch: int, index: int, chosen: np.ndarray) -> tuple[Floats, Floats]:
        half = self.augment and epoch < self.config.half_size_epochs
        side = SIZE // 2 if half else SIZE
        photos = np.empty((len(chosen), side, side, self.pairs.photos.shape[-1]), np.float32)
        truths = np.empty((len(chosen), 1, side, side), np.float32)
        rng = np.random.default_rng([self.config.seed, epoch, index])
        for place, number in enumerate(chosen):
            photo, mask = self.pairs.photos[number], self.pairs.masks[number]
            if self.augment:
                photo, mask = augmented(photo, mask, self.config, rng)
            if half:
                photo, mask = (cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA) for part in (photo, mask))
            photos[place] = photo.reshape(photos.shape[1:])
            truths[place, 0] = mask
        photos *= np.float32(1 / 255)
        truths *= np.float32(1 / 255)
        return np.ascontiguousarray(photos.transpose(0, 3, 1, 2)), truths


def augmented(photo: Pictures, mask: Pictures, config: TrainConfig, rng: np.random.Generator) -> tuple[Pictures, Pictures]:
    """Return a photo, H x W x C, and its mask, H x W, changed by chance; what is done at random is always drawn alike."""
    happens = rng.random(4) < [config.flip, config.warp, config.light, config.worsen]
    draws = rng.uniform(-1, 1, 6)
    if happens[0]:
        photo, mask = photo[:, ::-1], mask[:, ::-1]
    if happens[1]:
        photo, mask = _moved(photo, mask, config, draws[:4])
    if happens[2]:
        levels = np.linspace(0, 1, 256) ** (1 + config.gamma * draws[4]) * (1 + config.gain * draws[5])
        photo = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)[photo]
    if happens[3]:
        photo = _worse(photo, config, rng)
    return photo, mask


def _moved(photo: Pictures, mask: Pictures, config: TrainConfig, draws: np.ndarray) -> tuple[Pictures, Pictures]:
    side = mask.shape[0]
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), config.rotation * draws[0], 1 + config.zoom * draws[1])
    matrix[:, 2] += config.shift * side * draws[2:]
    photo, mask = (np.ascontiguousarray(part) for part in (photo, mask))
    moved = cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return np.asarray(moved).reshape(photo.shape), np.asarray(cv2.warpAffine(mask, matrix, (side, side), flags=cv2.INTER_LINEAR))


def _worse(photo: Pictures, config: TrainConfig, rng: np.random.Generator) -> Pictures:
    """Return the photo blurred and with noise, as small or dark faces of large photos are."""
    sigma, deviation = config.blur * rng.random(), config.noise * rng.random()
    blurred = np.ascontiguousarray(photo) if sigma < 0.3 else cv2.GaussianBlur(np.ascontiguousarray(photo), (0, 0), sigma)
    noise = rng.standard_normal(photo.shape, np.float32) * np.float32(255 * deviation)
    return np.asarray(np.clip(np.rint(blurred.reshape(photo.shape) + noise), 0, 255), np.uint8)
