"""What a training run of a YOLO face model is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, MultipleOf

from faceblur_core.errors import UsageMistake
from faceblur_core.training.config import Count, Share, TrainingConfig
from faceblur_core.types import option

Gain = Annotated[float, Ge(0), Le(100)]


@dataclass(frozen=True)
class TrainConfig(TrainingConfig):
    """One training run; its best epoch is the one with the highest fitness, which is Ultralytics' own measure."""

    may_change: ClassVar[frozenset[str]] = TrainingConfig.may_change | {"device", "workers", "threads"}

    schedule: Literal["cosine", "constant"] = option("cosine", "how the learning rate falls")
    weight_decay: Share = option(5e-4, "of all weights but biases and normalisation, at step_size pictures per step")
    warmup_epochs: Annotated[float, Ge(0), Le(1000)] = option(0.0, "the rate rises linearly at first; not in the last epoch")

    model: str = option("yolo-face-p.yaml", "ours or one of Ultralytics' as .yaml, from scratch; a .pt file to start from")
    backbone: str = option(
        "",
        "weights for a .yaml whose first layer is TorchVision: a state_dict file, here or in FACEBLUR_MODELS; empty: at random",
    )
    frozen: Annotated[int, Ge(0), Le(200)] = option(0, "so many first layers of such a backbone stay as they are")
    imgsz: Annotated[int, Ge(32), Le(4096), MultipleOf(32)] = option(416, "side of the pictures that the network sees, pixels")
    optimizer: Literal["auto", "SGD", "Adam", "AdamW", "MuSGD"] = option("AdamW", "auto chooses, and its own learning rate")
    momentum: Share = option(0.9, "of SGD; the first beta of the others")
    final_rate: Share = option(0.01, "cosine: the last learning rate as a share of learning_rate")
    step_size: Annotated[int, Ge(1), Le(4096)] = option(64, "pictures per step of the optimizer: that many batches are added up")
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "bfloat16 computes in 16 bits, keeps 32; not on x86 without AVX-512"
    )
    device: str = option("cpu", "where to train: cpu, cuda:0, mps")
    workers: Annotated[int, Ge(0), Le(64)] = option(4, "processes that load pictures; on cpu Ultralytics uses none")
    threads: Annotated[int, Ge(0), Le(256)] = option(0, "of the CPU; 0: as many as it has cores")
    cache: Literal["none", "ram"] = option("none", "ram keeps all pictures decoded in memory")

    mosaic: Share = option(1.0, "share of pictures that are made of four")
    close_mosaic: Count = option(10, "so many last epochs see no mosaics")
    mixup: Share = option(0.0, "share of pictures that are laid over another")
    scale: Share = option(0.5, "size times 1 ± scale")
    translate: Share = option(0.1, "moved by ± translate, of the side, each way")
    degrees: Annotated[float, Ge(0), Le(180)] = option(0.0, "turned by ± degrees")
    fliplr: Share = option(0.5, "share of pictures that are mirrored")
    hsv_h: Share = option(0.015, "hue changed by ± hsv_h, of the circle")
    hsv_s: Share = option(0.7, "saturation times 1 ± hsv_s")
    hsv_v: Share = option(0.4, "brightness times 1 ± hsv_v")
    defocus: Share = option(0.0, "share of pictures in which some of the faces are out of focus")
    cover: Share = option(0.0, "share of pictures in which one face is hidden in part")
    turn: Share = option(0.0, "share of pictures turned upside down or, half as often to each side, on their side")
    smooth: Share = option(0.0, "share of pictures without a face of which smooth fields of colour are left")
    multi_scale: Annotated[float, Ge(0), Le(0.9)] = option(0.0, "each batch has its own side: imgsz times 1 ± multi_scale")

    box: Gain = option(7.5, "weight of the loss of the boxes' overlap")
    cls: Gain = option(0.5, "weight of the loss of the class")
    dfl: Gain = option(1.5, "weight of the loss of the boxes' sides")

    def __post_init__(self) -> None:
        if self.warmup_epochs > self.epochs - 1:  # Ultralytics would warm up shorter, and say nothing
            raise UsageMistake(
                f"warmup_epochs ({self.warmup_epochs:g}) must be at most {self.epochs - 1}: the last of the epochs has no warm-up"
            )
