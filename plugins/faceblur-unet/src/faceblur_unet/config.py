"""What a training run of the U-Net is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, Lt

from faceblur_core.training.config import Share, TrainingConfig
from faceblur_core.types import option

SIZE = 128  #: pixels, the side of every picture that the network sees

#: of each network that there is; the layers are in ``architecture``
PARAMETERS = {"teacher": 1_925_667, "student-v0": 120_843, "student-v1": 482_067, "student-v2": 1_083_675}

Weight = Annotated[float, Ge(0), Le(1000)]


@dataclass(frozen=True)
class TrainConfig(TrainingConfig):
    """One training run; its best epoch is the one with the lowest ``val_mse``."""

    variant: Literal["teacher", "student-v0", "student-v1", "student-v2"] = option("student-v1", "which network")
    weights: str = option("", "start from one that ships, such as teacher, or a .keras, .weights.h5 or float .tflite file")
    teacher: str = option("", "distillation: a network that ships, such as teacher, or the teacher's model file")
    alpha: Share = option(0.7, "distillation: weight of the loss to the truth; the rest is the loss to the teacher")
    copy_start: bool = option(False, "a new network begins as one that copies its input")
    batch_norm: bool = option(False, "batch normalization below full size while training; the saved network has it folded in")
    optimizer: Literal["adam", "adamw"] = option("adamw", "adamw is adam with weight_decay")
    precision: Literal["float32", "mixed_bfloat16"] = option(
        "float32", "mixed_bfloat16 computes in 16 bits, keeps 32; not on x86 without AVX-512"
    )

    face_weight: Weight = option(0.0, "squared errors count 1 + face_weight times in faces; 0: plain MSE")
    edge_weight: Weight = option(0.0, "weight of the squared error of the gradients in faces, against detail that is left")

    flip: Share = option(0.5, "share of photos that are mirrored")
    light: Share = option(0.5, "share of photos whose light is changed, by the next three")
    gain: Share = option(0.25, "all values times 1 ± gain")
    tint: Share = option(0.05, "each channel times 1 ± tint")
    bias: Share = option(0.05, "all values ± bias, of 1")
    warp: Share = option(0.3, "share of photos that are moved, by the next three; black comes in at the edges")
    zoom: Annotated[float, Ge(0), Lt(1)] = option(0.15, "size times 1 ± zoom")
    shift: Share = option(0.1, "moved by ± shift, of the side, each way")
    rotation: Annotated[float, Ge(0), Le(180)] = option(10.0, "turned by ± rotation, degrees")
