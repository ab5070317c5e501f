"""From Ultralytics' checkpoint to files that can be given away: a .pt without paths of this machine, an .onnx file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from faceblur_core.training.onnx_files import save_compact
from faceblur_core.training.report import replace

OPSET = 17
WHOLE = 16_384  #: values of a kernel below which it stays in 32 bits: costs little, and boxes stay within 0.04 pixels
KEPT = ("task", "imgsz", "single_cls")  #: of the arguments of a training, what a user of the weights needs
SAID = ("names", "stride", "task", "imgsz", "batch", "channels", "head", "end2end", "args", "license", "version")


def save_weights(path: Path) -> None:
    """Write a checkpoint anew with its network alone: 16 bits, no optimizer, no names of folders."""
    import torch

    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    network = (checkpoint.get("ema") or checkpoint["model"]).half()
    arguments = network.args if isinstance(network.args, dict) else vars(network.args)
    network.args = {name: arguments[name] for name in KEPT if name in arguments}
    network.criterion = None
    if file := network.yaml.get("yaml_file"):
        network.yaml["yaml_file"] = network.yaml_file = Path(file).name
    for one in network.parameters():
        one.requires_grad = False
    told = {name: checkpoint[name] for name in ("version", "license", "docs") if name in checkpoint}
    clean = {"model": network, "ema": None, "optimizer": None, "epoch": -1, "train_args": network.args, **told}
    replace(path, lambda partial: torch.save(clean, partial))


def save_onnx(weights: Path, path: Path, imgsz: int) -> None:
    """Write the network in a checkpoint as an ONNX file: N x 3 x H x W in 0..1, any H and W that 32 divides, to N x 5 x A.

    :param imgsz: side of the pictures that it was trained on, pixels; the file says it
    """
    import onnx
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copyfile(weights, Path(folder) / "model.pt"))
        made = YOLO(str(copy), task="detect").export(
            format="onnx", imgsz=imgsz, dynamic=True, simplify=False, opset=OPSET, device="cpu", verbose=False
        )
        model = onnx.load(made)
    said = {entry.key: entry.value for entry in model.metadata_props if entry.key in SAID}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, said)
    save_compact(model, path, least=WHOLE)
