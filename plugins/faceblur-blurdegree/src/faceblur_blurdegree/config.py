"""What a training run of a blur-degree network is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, Predicate

from faceblur_core.training.config import Share, TrainingConfig
from faceblur_core.types import option

Backbone = Literal[
    "resnet18",
    "resnet34",
    "edgenext-xxs",
    "yolov5n",
    "yolov5n-half",
    "mobilenetv2-025",
    "mobilenetv2-050",
    "efficientnet-lite0",
    "squeezenet11",
    "mobilefacenet",
]
Loss = Literal["mse", "mae", "cmse", "wmse"]


def twenty_or_forty(count: int) -> bool:
    """Return whether 0..1 can be cut into so many bins."""
    return count in (20, 40)


@dataclass(frozen=True)
class TrainConfig(TrainingConfig):
    """One training run; its best epoch is the one with the lowest ``val_mae``."""

    may_change: ClassVar[frozenset[str]] = TrainingConfig.may_change | {"threads"}

    data: str = option("", "data set, a folder made by faceblur dataset blur")
    backbone: Backbone = option("mobilenetv2-025", "what finds the features")
    head: Literal["linear", "deep"] = option("linear", "linear: one layer; deep: a hidden layer and dropout before it")
    loss: Loss = option("mse", "mse, mae: regression; cmse, wmse: bins, with the cross entropy; see losses.py")
    bins: Annotated[int, Predicate(twenty_or_forty)] = option(20, "cmse and wmse: 20 or 40 equal parts of 0..1")
    error_weight: Annotated[float, Ge(0), Le(1000)] = option(10.0, "cmse and wmse: weight of the squared error")
    hidden: Annotated[int, Ge(1), Le(4096)] = option(128, "deep: units of the hidden layer")
    dropout: Annotated[float, Ge(0), Lt(1)] = option(0.2, "deep: share of them that is left out in training")
    start: str = option(
        "",
        "begin with: a network that ships, a run's model.pt; mobilefacenet: also ONNX, ours or a recogniser's; empty: at random",
    )
    frozen: Annotated[int, Ge(0), Le(18)] = option(0, "mobilefacenet: so many of its first layers stay as they are")
    device: Literal["cpu", "cuda"] = option("cpu", "where to train; only on cpu is a resumed run the same to the bit")
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "bfloat16 computes in 16 bits, keeps 32; not on x86 without AVX-512"
    )
    threads: Annotated[int, Ge(0), Le(256)] = option(0, "of the CPU; 0: as PyTorch likes. Another number is another rounding")
    clip: Annotated[float, Gt(0), Le(1e6)] = option(5.0, "greatest norm of the gradient")

    flip: Share = option(0.5, "share of faces that are mirrored")
    shift: Annotated[int, Ge(0), Le(28)] = option(
        6, "moved by up to so many whole pixels each way; zooming would change the blur"
    )
    gain: Annotated[float, Ge(0), Lt(1)] = option(0.3, "all values times 1 ± gain")
    gamma: Annotated[float, Ge(0), Lt(1)] = option(0.3, "all values, of 1, to the power of 1 ± gamma")
    grey: Share = option(0.1, "share of faces that lose their colours")
