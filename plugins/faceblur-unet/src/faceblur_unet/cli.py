"""``faceblur train unet`` and ``faceblur train distill``."""

from __future__ import annotations

from typing import Any

import click

from faceblur_core.errors import MissingDependency, UsageMistake
from faceblur_core.training.command import given_config, trainer_options
from faceblur_unet.config import TrainConfig


@click.command()
@trainer_options
def unet(**given: Any) -> None:
    """Train the U-Net on the truth alone.

    The folder of the run gets model.keras, best.weights.h5, log.csv, run.json, config.yaml and curves.

    \b
    faceblur train unet -c configs/train/teacher.yaml --data faces12k -o runs/train/teacher
    """
    config = given_config(TrainConfig, given)
    if config.teacher:
        raise UsageMistake("the config names a teacher: use faceblur train distill, or train without it with --set teacher=")
    _train(config, given)


@click.command()
@trainer_options
def distill(**given: Any) -> None:
    """Train the U-Net on the truth and on what a larger network, the teacher, makes of the photos.

    \b
    faceblur train distill -c configs/train/student-v1.yaml --data faces12k -o runs/train/student-v1
    """
    config = given_config(TrainConfig, given)
    if not config.teacher:
        raise UsageMistake("distillation needs a teacher: --set teacher=teacher, which ships, or a model file")
    _train(config, given)


def _train(config: TrainConfig, given: dict[str, Any]) -> None:
    try:
        from faceblur_unet import training
    except ImportError as error:
        raise MissingDependency(
            f"training needs {error.name or error}: install faceblur-unet[train], or set KERAS_BACKEND to what is installed"
        ) from None
    training.train(config, given["out_dir"], resume=given["resume"])
