"""What a training run is told: a YAML file, with options of the command line on top."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt

from faceblur_core.errors import UsageMistake
from faceblur_core.options import made, read_yaml
from faceblur_core.types import option

Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(0), Le(100_000)]


@dataclass(frozen=True)
class TrainingConfig:
    """What every trainer is told; each adds fields of its own. Paths are relative to the folder that the command runs in."""

    may_change: ClassVar[frozenset[str]] = frozenset({"data"})  #: what a resumed run may be told anew; the data's content may not

    data: str = option("", "data set, a folder made by faceblur dataset build")
    epochs: Annotated[int, Ge(1), Le(100_000)] = option(25, "how often the training photos are seen")
    batch_size: Annotated[int, Ge(1), Le(4096)] = option(32, "photos per step")
    learning_rate: Annotated[float, Gt(0), Le(10)] = option(1.5e-3, "the highest learning rate")
    weight_decay: Share = option(4e-3, "of adamw, per step and learning rate")
    schedule: Literal["cosine", "constant", "plateau"] = option("cosine", "how the learning rate falls")
    warmup_epochs: Annotated[float, Ge(0), Le(1000)] = option(0.0, "the rate rises linearly at first; cosine and constant")
    plateau_patience: Annotated[int, Ge(1), Le(100_000)] = option(3, "plateau: epochs without a better one before a fall")
    plateau_factor: Annotated[float, Gt(0), Lt(1)] = option(0.5, "plateau: what the rate is multiplied by")
    early_stopping: Count = option(0, "stop after so many epochs without a better one; 0: never")
    seed: Annotated[int, Ge(0), Lt(2**32)] = option(1, "of the first weights, the order of the photos, the augmentation")


C = TypeVar("C", bound=TrainingConfig)


def load_config(cls: type[C], path: Path, settings: Mapping[str, Any] | None = None) -> C:
    """Return the configuration in a YAML file, with ``settings`` in place of what they name.

    :raises UsageMistake: if the file cannot be read, or a key or a value is not as it should be
    """
    return checked(cls, {**read_yaml(path, "config"), **(settings or {})}, f"config {path}")


def checked(cls: type[C], options: Mapping[str, Any], what: str) -> C:
    """Return the configuration with these options. :raises UsageMistake: if one is unknown, misfits, or two contradict."""
    config = made(cls, options, what)
    if config.schedule == "plateau" and config.warmup_epochs:
        raise UsageMistake(f"{what}: schedule plateau has no warm-up; set warmup_epochs to 0")
    if config.schedule == "cosine" and config.warmup_epochs >= config.epochs:
        raise UsageMistake(f"{what}: warmup_epochs ({config.warmup_epochs:g}) must be fewer than epochs ({config.epochs})")
    return config


def as_yaml(config: TrainingConfig) -> str:
    """Return the text of a YAML file that :func:`load_config` reads back to the same configuration."""
    import yaml

    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
