"""Learning rates of a run, from its configuration alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from faceblur_core.training.config import TrainingConfig
from faceblur_core.types import Floats


def step_rates(config: TrainingConfig, steps_per_epoch: int) -> Floats:
    """Return the learning rate of each step of a run and one for after it: steps + 1 values.

    Linearly up for ``warmup_epochs``, then constant or down a half cosine to 0 (Loshchilov and Hutter, ICLR 2017, without
    restarts). ``plateau`` is no matter of steps: see :func:`plateau_rate`.
    """
    warmup, total = config.warmup_epochs * steps_per_epoch, config.epochs * steps_per_epoch
    step = np.arange(total + 1)
    rates = config.learning_rate * np.minimum(1, (step + 1) / (warmup + 1))
    if config.schedule == "cosine":
        rates *= 0.5 * (1 + np.cos(math.pi * np.clip((step - warmup) / (total - warmup), 0, 1)))
    return np.asarray(rates, np.float32)


def plateau_rate(config: TrainingConfig, losses: Sequence[float]) -> float:
    """Return the learning rate after epochs with these losses: it falls after ``plateau_patience`` without a lower one."""
    rate, best, waited = config.learning_rate, math.inf, 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == config.plateau_patience:
            rate, waited = rate * config.plateau_factor, 0
    return rate
