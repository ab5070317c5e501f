"""``faceblur train yolo``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import click

from faceblur_core.errors import MissingDependency
from faceblur_core.training.command import given_config, trainer_options
from faceblur_yolo.config import TrainConfig


@click.command()
@trainer_options
@click.option("--verbose", is_flag=True, help="Show what Ultralytics says, and the traceback of an error.")
def yolo(**given: Any) -> None:
    """Train a YOLO face model by Ultralytics' own trainer.

    The data is a folder that faceblur dataset export-yolo made. The folder of the run gets model.onnx, best.pt, log.csv,
    run.json, config.yaml and curves.

    \b
    faceblur dataset export-yolo sets/faces416 -o sets/faces416-yolo
    faceblur train yolo -c configs/train/yolo-face-first.yaml --data sets/faces416-yolo -o runs/train/yolo-face-first
    """
    config = given_config(TrainConfig, given)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin as they wait stand still where others work too
    if find_spec("onnx") is None:
        raise MissingDependency("training needs onnx: install faceblur-yolo[train]")
    from faceblur_yolo import training

    training.train(config, given["out_dir"], resume=given["resume"], verbose=given["verbose"])
