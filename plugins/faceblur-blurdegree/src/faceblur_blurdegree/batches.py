"""Faces in memory, shuffled and augmented: the same batch for the same seed, epoch and index."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from faceblur_blurdegree.config import TrainConfig
from faceblur_blurdegree.data import Labelled
from faceblur_core.training.data import Pictures, batches_ahead
from faceblur_core.types import Floats


class Batches:
    """Batches (faces, degrees) of an epoch: N x 3 x 112 x 112 in 0..1 and N, float32, for PyTorch.

    With ``augment`` the seed, the epoch and the batch's index decide what is in it and how it is changed; without, the
    faces come in their order as they are.
    """

    def __init__(self, labelled: Labelled, config: TrainConfig, *, augment: bool) -> None:
        self.labelled, self.config, self.augment = labelled, config, augment

    def __len__(self) -> int:
        return -(-len(self.labelled) // self.config.batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[Floats, Floats]]:
        """Return the batches of an epoch, counted from 0; another thread makes the next one meanwhile."""
        count = len(self.labelled)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(count) if self.augment else np.arange(count)
        return batches_ahead(order, self.config.batch_size, functools.partial(self._batch, epoch))

    def _batch(self, epoch: int, index: int, chosen: np.ndarray) -> tuple[Floats, Floats]:
        faces = self.labelled.faces[chosen]
        if self.augment:
            rng = np.random.default_rng([self.config.seed, epoch, index])
            faces = np.stack([augmented(face, self.config, rng) for face in faces])
        x = np.ascontiguousarray(faces.transpose(0, 3, 1, 2), np.float32) * np.float32(1 / 255)
        return x, self.labelled.degrees[chosen]


def augmented(face: Pictures, config: TrainConfig, rng: np.random.Generator) -> Pictures:
    """Return a face, H x W x 3, changed by chance in ways that leave its blur alone; what is at random is always drawn alike."""
    flip, grey = rng.random(2) < [config.flip, config.grey]
    dx, dy = rng.integers(-config.shift, config.shift + 1, 2)
    gain, gamma = rng.uniform(-1, 1, 2)
    if flip:
        face = face[:, ::-1]
    if dx or dy:
        wide = np.pad(face, ((config.shift, config.shift), (config.shift, config.shift), (0, 0)), mode="edge")
        top, left = config.shift + dy, config.shift + dx
        face = wide[top : top + face.shape[0], left : left + face.shape[1]]
    if grey:
        face = np.broadcast_to(np.rint(face @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None], face.shape)
    levels = np.linspace(0, 1, 256) ** (1 + config.gamma * gamma) * (1 + config.gain * gain)
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)[face]
