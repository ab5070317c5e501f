"""The options of ``faceblur train NAME``, the same for every trainer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from faceblur_core.errors import UsageMistake
from faceblur_core.options import parse_settings
from faceblur_core.training.config import C, load_config


def trainer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all trainers share, in the order of their help: config, data, output, set, resume.

    The command is given them as ``file``, ``data``, ``out_dir``, ``settings`` and ``resume``.
    """
    options = [
        click.option("-c", "--config", "file", required=True, type=click.Path(path_type=Path), help="YAML; see configs/train."),
        click.option("--data", help="Folder of the data set, in place of the file's."),
        click.option("-o", "--output", "out_dir", required=True, type=click.Path(path_type=Path), help="Folder of the run."),
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="In place of the file's value. Repeatable."),
        click.option("--resume", is_flag=True, help="Go on after the last whole epoch in the folder of the run."),
    ]
    return functools.reduce(lambda made, add: add(made), reversed(options), command)


def given_config(cls: type[C], given: Mapping[str, Any]) -> C:
    """Return the configuration that the options of :func:`trainer_options` describe.

    :raises UsageMistake: if the file or a setting is not as it should be, or no data set is named
    """
    settings = parse_settings(given["settings"])
    if given["data"] is not None:
        settings["data"] = given["data"]
    config = load_config(cls, given["file"], settings)
    if not config.data:
        raise UsageMistake("no data set: name its folder with --data")
    return config
