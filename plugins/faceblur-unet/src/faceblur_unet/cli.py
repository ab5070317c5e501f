"""``faceblur train unet`` and ``faceblur train distill``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from faceblur_core.errors import MissingDependency, UsageMistake
from faceblur_unet.config import TrainConfig, load_config


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all trainers share, in the order of their help."""
    options = [
        click.option("-c", "--config", "file", required=True, type=click.Path(path_type=Path), help="YAML; see configs/train."),
        click.option("--data", help="Folder of the data set, in place of the file's."),
        click.option("-o", "--output", "out_dir", required=True, type=click.Path(path_type=Path), help="Folder of the run."),
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="In place of the file's value. Repeatable."),
        click.option("--resume", is_flag=True, help="Go on after the last whole epoch in the folder of the run."),
    ]
    return functools.reduce(lambda made, add: add(made), reversed(options), command)


@click.command()
@_options
def unet(**given: Any) -> None:
    """Train the U-Net on the truth alone.

    The folder of the run gets model.keras, best.weights.h5, log.csv, run.json, config.yaml and curves.

    \b
    faceblur train unet -c configs/train/teacher.yaml --data faces12k -o runs/train/teacher
    """
    config = _config(given)
    if config.teacher:
        raise UsageMistake("the config names a teacher: use faceblur train distill, or train without it with --set teacher=")
    _train(config, given)


@click.command()
@_options
def distill(**given: Any) -> None:
    """Train the U-Net on the truth and on what a larger network, the teacher, makes of the photos.

    \b
    faceblur train distill -c configs/train/student-v1.yaml --data faces12k -o runs/train/student-v1
    """
    config = _config(given)
    if not config.teacher:
        raise UsageMistake("distillation needs a teacher: --set teacher=runs/train/teacher/model.keras")
    _train(config, given)


def _config(given: dict[str, Any]) -> TrainConfig:
    settings: dict[str, Any] = {}
    for text in given["settings"]:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageMistake(f"--set {text}: write NAME=VALUE")
        settings[name.strip()] = value.strip()
    if given["data"] is not None:
        settings["data"] = given["data"]
    config = load_config(given["file"], settings)
    if not config.data:
        raise UsageMistake("no data set: name its folder with --data")
    return config


def _train(config: TrainConfig, given: dict[str, Any]) -> None:
    try:
        from faceblur_unet import training
    except ImportError as error:
        raise MissingDependency(
            f"training needs {error.name or error}: install faceblur-unet[train], or set KERAS_BACKEND to what is installed"
        ) from None
    training.train(config, given["out_dir"], resume=given["resume"])
