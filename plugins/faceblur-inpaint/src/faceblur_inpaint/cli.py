"""``faceblur train mask-unet``."""

from __future__ import annotations

import os
from typing import Any

import click

from faceblur_core.errors import MissingDependency
from faceblur_core.training.command import given_config, trainer_options
from faceblur_inpaint.config import TrainConfig


@click.command()
@trainer_options
def mask_unet(**given: Any) -> None:
    """Train the U-Net that marks the pixels of faces.

    The folder of the run gets model.onnx, model.pt, best.pt, log.csv, run.json, config.yaml and curves.

    \b
    faceblur train mask-unet -c configs/train/mask-unet.yaml --data masks256 -o runs/train/mask-unet
    """
    config = given_config(TrainConfig, given)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin as they wait stand still where others work too
    try:
        from faceblur_inpaint import training
    except ImportError as error:
        raise MissingDependency(f"training needs {error.name or error}: install faceblur-inpaint[train]") from None
    training.train(config, given["out_dir"], resume=given["resume"])
