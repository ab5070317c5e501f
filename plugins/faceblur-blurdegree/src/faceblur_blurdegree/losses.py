"""Losses of a blur-degree network: one value per face, of its output (N x 1 or N x bins) and degrees (N in 0..1).

``mse``: the squared error. ``mae``: the absolute error. ``cmse``: the cross entropy of the bin, and ``error_weight`` times the
squared error of the expected degree. ``wmse``: the cross entropy, and as much of the squared errors of all bins' middles,
weighted by the bins' probabilities; so mass far from the truth costs, where ``cmse`` lets errors on both sides cancel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from faceblur_blurdegree.config import TrainConfig
from faceblur_blurdegree.network import centres


def loss(output: Tensor, degrees: Tensor, config: TrainConfig) -> Tensor:
    """Return the loss of each face, N."""
    if config.loss == "mse":
        return (output[:, 0] - degrees).square()
    if config.loss == "mae":
        return absolute_error(output[:, 0], degrees)
    bins = (degrees * config.bins).long().clamp(max=config.bins - 1)
    middles, probability = centres(config.bins).to(output), output.softmax(dim=1)
    if config.loss == "cmse":
        error = (probability @ middles - degrees).square()
    else:
        error = (probability * (middles[None] - degrees[:, None]).square()).sum(dim=1)
    return functional.cross_entropy(output, bins, reduction="none") + config.error_weight * error


def absolute_error(predicted: Tensor, degrees: Tensor) -> Tensor:
    """Return how far each prediction is from the truth, N."""
    return torch.abs(predicted - degrees)
