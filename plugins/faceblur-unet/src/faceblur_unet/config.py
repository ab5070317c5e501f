"""What a training run is told: a YAML file, with options of the command line on top."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from faceblur_core.errors import UsageMistake
from faceblur_core.options import made, read_yaml
from faceblur_core.types import option

SIZE = 128  #: pixels, the side of every picture that the network sees

Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(0), Le(100_000)]
Weight = Annotated[float, Ge(0), Le(1000)]


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Paths are relative to the folder that the command runs in."""

    data: str = option("", "data set, a folder made by faceblur dataset build")
    variant: Literal["teacher", "student-v0", "student-v1", "student-v2"] = option("student-v1", "which network")
    weights: str = option("", "start from this .keras or .weights.h5 file; empty: from random weights")
    teacher: str = option("", "distillation: the teacher's .keras or .weights.h5 file")
    alpha: Share = option(0.7, "distillation: weight of the loss to the truth; the rest is the loss to the teacher")

    epochs: Annotated[int, Ge(1), Le(100_000)] = option(25, "how often the training photos are seen")
    batch_size: Annotated[int, Ge(1), Le(4096)] = option(32, "photos per step")
    optimizer: Literal["adam", "adamw"] = option("adamw", "adamw is adam with weight_decay")
    learning_rate: Annotated[float, Gt(0), Le(10)] = option(1.5e-3, "the highest learning rate")
    weight_decay: Share = option(4e-3, "of adamw, per step and learning rate")
    schedule: Literal["cosine", "constant", "plateau"] = option("cosine", "how the learning rate falls")
    warmup_epochs: Annotated[float, Ge(0), Le(1000)] = option(0.0, "the rate rises linearly at first; cosine and constant")
    plateau_patience: Annotated[int, Ge(1), Le(100_000)] = option(3, "plateau: epochs without a better val_mse before a fall")
    plateau_factor: Annotated[float, Gt(0), Lt(1)] = option(0.5, "plateau: what the rate is multiplied by")
    early_stopping: Count = option(0, "stop after so many epochs without a better val_mse; 0: never")
    precision: Literal["float32", "mixed_bfloat16"] = option("float32", "mixed_bfloat16 computes in 16 bits, keeps 32")
    seed: Annotated[int, Ge(0), Lt(2**32)] = option(1, "of the first weights, the order of the photos, the augmentation")

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


def load_config(path: Path, settings: Mapping[str, Any] | None = None) -> TrainConfig:
    """Return the configuration in a YAML file, with ``settings`` in place of what they name.

    :raises UsageMistake: if the file cannot be read, or a key or a value is not as it should be
    """
    return checked({**read_yaml(path, "config"), **(settings or {})}, f"config {path}")


def checked(options: Mapping[str, Any], what: str) -> TrainConfig:
    """Return the configuration with these options. :raises UsageMistake: if one is unknown, misfits, or two contradict."""
    config = made(TrainConfig, options, what)
    if config.schedule == "plateau" and config.warmup_epochs:
        raise UsageMistake(f"{what}: schedule plateau has no warm-up; set warmup_epochs to 0")
    if config.schedule == "cosine" and config.warmup_epochs >= config.epochs:
        raise UsageMistake(f"{what}: warmup_epochs ({config.warmup_epochs:g}) must be fewer than epochs ({config.epochs})")
    return config


def as_yaml(config: TrainConfig) -> str:
    """Return the text of a YAML file that :func:`load_config` reads back to the same configuration."""
    import yaml

    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
