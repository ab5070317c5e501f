"""Loss and metrics of the mask U-Net: one value per picture, of N x 1 x H x W logits and truths in 0..1."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from faceblur_inpaint.config import TrainConfig

_AXES = (1, 2, 3)


def loss(logits: Tensor, truth: Tensor, config: TrainConfig) -> Tensor:
    """Return binary cross entropy + ``overlap_weight`` x (1 - soft overlap), N."""
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    entropy = ((1 + config.face_weight * truth) * entropy).mean(_AXES)
    return entropy + config.overlap_weight * (1 - soft_overlap(logits.sigmoid(), truth, config.overlap))


def soft_overlap(probability: Tensor, truth: Tensor, kind: str) -> Tensor:
    """Return soft Dice (Milletari et al., 3DV 2016) or soft IoU (Rahman and Wang, ISVC 2016), N, 1 is best.

    A pixel is added above and below, so that it is 1 where nothing is to be found and nothing is.
    """
    both, total = (probability * truth).sum(_AXES), probability.sum(_AXES) + truth.sum(_AXES)
    return (2 * both + 1) / (total + 1) if kind == "dice" else (both + 1) / (total - both + 1)


def metrics(logits: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return IoU, Dice, precision and recall of the pixels at 0.5, each N; 0 of 0 is 1: nothing there, and nothing said."""
    found, there = logits > 0, truth > 0.5
    right, wrong, missed = (area.sum(_AXES).double() for area in (found & there, found & ~there, ~found & there))
    return {
        "iou": _share(right, right + wrong + missed),
        "dice": _share(2 * right, 2 * right + wrong + missed),
        "precision": _share(right, right + wrong),
        "recall": _share(right, right + missed),
    }


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return (part / whole).nan_to_num(nan=1.0)
