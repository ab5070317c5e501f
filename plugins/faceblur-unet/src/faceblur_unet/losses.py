"""Losses and metrics as functions of (truth, output), one value per picture; keras.ops only, for any backend.

``truth`` is N x S x S x 4, the target's RGB and the mask, or x 7 with the teacher's RGB behind; ``output`` N x S x S x 3;
all in 0..1. One array, so that ``Model.fit`` carries masks and teacher without a training step of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from faceblur_unet.config import TrainConfig

Tensor = Any  #: the backend's own
PerPicture = Callable[[Tensor, Tensor], Tensor]


def difference(reference: Tensor, mask: Tensor, output: Tensor, face_weight: float, edge_weight: float) -> Tensor:
    """Return the loss of each picture: the mean of (1 + face_weight x mask) x squared error, and with ``edge_weight`` edges.

    The second term is the mean squared difference of the horizontal and vertical gradients where both pixels are
    masked: detail of a face that is still in the output though not in the reference, and a smooth error costs little.
    """
    residual = output - reference
    loss = ops.mean((1 + face_weight * mask) * ops.square(residual), axis=(1, 2, 3))
    if edge_weight:
        across = ops.square(residual[:, :, 1:] - residual[:, :, :-1]) * mask[:, :, 1:] * mask[:, :, :-1]
        down = ops.square(residual[:, 1:] - residual[:, :-1]) * mask[:, 1:] * mask[:, :-1]
        loss = loss + edge_weight * (ops.mean(across, axis=(1, 2, 3)) + ops.mean(down, axis=(1, 2, 3)))
    return loss


def loss_parts(config: TrainConfig) -> dict[str, PerPicture]:
    """Return the loss to the truth and, for distillation, the loss to the teacher, by name."""

    def to_truth(truth: Tensor, output: Tensor) -> Tensor:
        return difference(truth[..., :3], truth[..., 3:4], output, config.face_weight, config.edge_weight)

    def to_teacher(truth: Tensor, output: Tensor) -> Tensor:
        return difference(truth[..., 4:7], truth[..., 3:4], output, config.face_weight, config.edge_weight)

    return {"loss_truth": to_truth, "loss_teacher": to_teacher} if config.teacher else {"loss_truth": to_truth}


def make_loss(config: TrainConfig) -> PerPicture:
    """Return what is minimised: the loss to the truth, for distillation alpha x that + (1 - alpha) x the one to the teacher."""
    parts = loss_parts(config)
    if not config.teacher:
        return parts["loss_truth"]

    def distillation(truth: Tensor, output: Tensor) -> Tensor:
        return config.alpha * parts["loss_truth"](truth, output) + (1 - config.alpha) * parts["loss_teacher"](truth, output)

    return distillation


def make_metrics(config: TrainConfig) -> list[keras.metrics.Metric]:
    """Return the metrics of a run: means over the pictures of mse, mae, ssim, psnr; for distillation the loss's parts too."""
    functions: dict[str, PerPicture] = {"mse": mse, "mae": mae, "ssim": ssim, "psnr": psnr}
    if config.teacher:
        functions |= loss_parts(config)
    return [keras.metrics.MeanMetricWrapper(function, name=name) for name, function in functions.items()]


def mse(truth: Tensor, output: Tensor) -> Tensor:
    """Return the mean squared error to the target, N."""
    return ops.mean(ops.square(output - truth[..., :3]), axis=(1, 2, 3))


def mae(truth: Tensor, output: Tensor) -> Tensor:
    """Return the mean absolute error to the target, N."""
    return ops.mean(ops.abs(output - truth[..., :3]), axis=(1, 2, 3))


def psnr(truth: Tensor, output: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio to the target, N, decibels; 100 where nothing differs."""
    return -10 * ops.log10(ops.maximum(mse(truth, output), 1e-10))


def ssim(truth: Tensor, output: Tensor) -> Tensor:
    """Return the structural similarity to the target, N: Wang et al., IEEE TIP 2004, where the 11 x 11 Gaussian window fits."""
    x, y = truth[..., :3], output
    blurred = _gaussian(ops.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    mean_x, mean_y, square_x, square_y, product = (blurred[..., first : first + 3] for first in range(0, 15, 3))
    variances = square_x - mean_x * mean_x + square_y - mean_y * mean_y
    covariance = product - mean_x * mean_y
    low, high = 0.01**2, 0.03**2  # Wang's constants for values in 0..1
    similarity = (2 * mean_x * mean_y + low) * (2 * covariance + high)
    similarity = similarity / ((mean_x * mean_x + mean_y * mean_y + low) * (variances + high))
    return ops.mean(similarity, axis=(1, 2, 3))


def _gaussian(images: Tensor) -> Tensor:
    """Return each channel under a Gaussian of sigma 1.5 in an 11 x 11 window, where the window fits; across, then down."""
    values = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    line = np.repeat((values / values.sum())[:, None, None], images.shape[-1], axis=1).astype(np.float32)
    across = ops.depthwise_conv(images, line[None], padding="valid", data_format="channels_last")
    return ops.depthwise_conv(across, line[:, None], padding="valid", data_format="channels_last")
