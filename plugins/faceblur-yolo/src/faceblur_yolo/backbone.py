"""A backbone of torchvision's in a YOLO: what it learned on ImageNet, and which of its layers stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faceblur_core.errors import FaceblurError, UsageMistake

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  #: of ImageNet's pictures, RGB in 0..1
EPSILON = 1e-5  #: of torchvision's batch normalisation; Ultralytics has 1e-3, far more than many a variance in a MobileNet
NAME = "TorchVision"  #: Ultralytics' module


def check_backbone(model: str, *, begins: bool) -> None:
    """Raise :class:`UsageMistake` if a model, a .yaml or .pt file, has no such backbone.

    :param begins: the backbone gets weights, which a .pt file has already
    :raises Exception: whatever Ultralytics raises for a file that is no model
    """
    from ultralytics import YOLO
    from ultralytics.nn.tasks import yaml_model_load

    trained = Path(model).suffix == ".pt"
    if trained and begins:
        raise UsageMistake(f"backbone is for a .yaml, which has no weights yet, not for {Path(model).name}")
    shape = YOLO(model, task="detect").model.yaml if trained else yaml_model_load(model)
    _, _, module, arguments = next(iter(shape["backbone"]), (0, 0, "", []))
    if module != NAME or False in arguments[3:4]:  # its argument unwrap
        raise UsageMistake(
            f"backbone and frozen are for a model whose first layer is {NAME}, unwrapped, not for {Path(model).name}"
        )


def layers(count: int) -> list[str]:
    """Return the first ``count`` layers of the backbone, as Ultralytics calls what is frozen."""
    return [f"0.m.{layer}" for layer in range(count)]


def load_backbone(network: Any, path: Path) -> None:
    """Give a network's backbone the weights in a file, a ``state_dict`` that begins as the backbone's does.

    They expect pictures less the mean of ImageNet, by its deviation, and torchvision's batch normalisation; the network gets
    pictures in 0..1 and has Ultralytics'. Both differences go into the weights.

    :raises FaceblurError: if the file is none, or of another network, or the backbone does not begin with a convolution without
        bias and batch normalisation, as MobileNets, EfficientNets and ResNets do
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        given = [value for value in state.values() if value.is_floating_point()]
    except Exception as error:  # zip, pickle and torch each have their own
        raise FaceblurError(f"{path} is no file of PyTorch weights that can be read safely ({type(error).__name__})") from None
    backbone = network.model[0].m
    wanted = [value for value in backbone.state_dict().values() if value.is_floating_point()]
    if [value.shape for value in given[: len(wanted)]] != [value.shape for value in wanted]:
        raise FaceblurError(f"{path} holds another network than the model's backbone")
    first, *_ = (layer for layer in backbone.modules() if isinstance(layer, torch.nn.Conv2d))
    normalisations = [layer for layer in backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    if first.bias is not None or not normalisations:
        raise FaceblurError("a backbone can begin with weights if it is like a MobileNet, an EfficientNet or a ResNet")
    with torch.no_grad():
        for target, source in zip(wanted, given, strict=False):
            target.copy_(source)
        for layer in normalisations:
            layer.weight *= ((layer.running_var + layer.eps) / (layer.running_var + EPSILON)).sqrt()
        first.weight /= torch.tensor(DEVIATION).reshape(1, 3, 1, 1)
        normalisations[0].running_mean += (first.weight * torch.tensor(MEAN).reshape(1, 3, 1, 1)).sum(dim=(1, 2, 3))
