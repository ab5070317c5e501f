"""Batches of pairs, shuffled and augmented: the same for the same seed, epoch and index, in whatever order they are asked for."""

from __future__ import annotations

from typing import Any

import cv2
import keras
import numpy as np

from faceblur_core.types import Floats
from faceblur_unet.config import TrainConfig
from faceblur_unet.data import Pairs, Pictures


class Batches(keras.utils.PyDataset):
    """Batches (photos, truths), float32 in 0..1: N x S x S x 3, and N x S x S x 4 or, with a teacher, 7 (see ``losses``).

    Set ``epoch`` before each epoch: with the configuration's seed it decides the order and the augmentation. Without
    ``augment`` the pairs come in their order as they are.
    """

    def __init__(self, pairs: Pairs, config: TrainConfig, *, augment: bool) -> None:
        super().__init__()
        self.pairs, self.config, self.augment = pairs, config, augment
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.pairs) // self.config.batch_size)

    @property
    def epoch(self) -> int:
        """Which epoch the batches are for, from 0."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        count = len(self.pairs)
        self._order = np.random.default_rng([self.config.seed, epoch]).permutation(count) if self.augment else np.arange(count)

    def __getitem__(self, index: int) -> tuple[Floats, Floats]:
        chosen = self._order[index * self.config.batch_size :][: self.config.batch_size]
        pictures = [self.pairs.photos[chosen], self.pairs.truths[chosen]]
        if self.pairs.teacher is not None:
            pictures.append(self.pairs.teacher[chosen])
        tables = np.broadcast_to(_identity_table(), (len(chosen), 1, 256, 4))
        if self.augment:
            rng = np.random.default_rng([self.config.seed, self.epoch, index])
            _flip(pictures, self.config, rng)
            _warp(pictures, self.config, rng)
            tables = _light(len(chosen), self.config, rng)
        photos, *truths = (_to_float(array, tables) for array in pictures)
        return photos, truths[0] if len(truths) == 1 else np.concatenate(truths, axis=-1)


def _flip(pictures: list[Pictures], config: TrainConfig, rng: np.random.Generator) -> None:
    flipped = rng.random(len(pictures[0])) < config.flip
    for array in pictures:
        array[flipped] = array[flipped, :, ::-1]


def _warp(pictures: list[Pictures], config: TrainConfig, rng: np.random.Generator) -> None:
    count, size = pictures[0].shape[:2]
    moved = rng.random(count) < config.warp
    draws = rng.uniform(-1, 1, (count, 4)) * [config.zoom, config.rotation, config.shift * size, config.shift * size]
    for index in np.flatnonzero(moved):
        zoom, angle, right, down = draws[index]
        matrix = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), angle, 1 + zoom)
        matrix[:, 2] += right, down
        for array in pictures:
            array[index] = cv2.warpAffine(array[index], matrix, (size, size))


def _light(count: int, config: TrainConfig, rng: np.random.Generator) -> Floats:
    """Return what each of the 256 values becomes: count x 1 x 256 x 4, the fourth for the mask, which no light changes.

    Straight lines: a blurred photo in another light is the photo in that light, blurred, but for what is clipped.
    """
    changed = (rng.random(count) < config.light)[:, None, None, None]
    gain = (1 + config.gain * rng.uniform(-1, 1, (count, 1, 1, 1))) * (1 + config.tint * rng.uniform(-1, 1, (count, 1, 1, 3)))
    bias = config.bias * rng.uniform(-1, 1, (count, 1, 1, 1))
    tables = np.repeat(_identity_table()[None], count, axis=0)
    lit = np.clip(tables[..., :3] * gain + bias, 0, 1)
    tables[..., :3] = np.where(changed, lit, tables[..., :3])
    return tables


def _identity_table() -> Floats:
    return np.repeat(np.arange(256, dtype=np.float32)[None, :, None] / 255, 4, axis=2)


def _to_float(pictures: Pictures, tables: Floats) -> Floats:
    """Return N x S x S x C uint8 values as float32, each looked up; cv2.LUT takes a tenth of NumPy's time for that."""
    result: Any = np.empty(pictures.shape, np.float32)
    for picture, table, out in zip(pictures, tables[..., : pictures.shape[-1]], result, strict=True):
        cv2.LUT(picture, np.ascontiguousarray(table), dst=out)
    return np.asarray(result, np.float32)
