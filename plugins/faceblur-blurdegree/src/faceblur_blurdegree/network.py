"""A blur-degree network in PyTorch: a backbone, the mean over its feature maps, a head; and its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceblur_blurdegree.backbones import BACKBONES
from faceblur_blurdegree.config import TrainConfig
from faceblur_blurdegree.meter import KIND
from faceblur_core.errors import FaceblurError
from faceblur_core.training.run import replace

SHAPE = ("backbone", "head", "loss", "bins", "hidden", "dropout")  #: fields of the config that decide what the network is
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  #: of ImageNet, as the backbones expect


class DegreeNetwork(nn.Module):
    """N x 3 x 112 x 112 RGB in 0..1 in; out N x 1, the degree as it is, or N x bins logits.

    Mean pooling instead of flattening: a blur is of the whole face.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.shape = {name: getattr(config, name) for name in SHAPE}
        self.backbone, channels = BACKBONES[config.backbone]()
        outputs = 1 if config.loss in ("mse", "mae") else config.bins
        last = nn.Linear(config.hidden if config.head == "deep" else channels, outputs)
        if outputs == 1:
            nn.init.constant_(last.bias, 0.5)  # the mean of labels that are spread evenly
        deep = [nn.Linear(channels, config.hidden), nn.ReLU(inplace=True), nn.Dropout(config.dropout)]
        self.head = nn.Sequential(*(deep if config.head == "deep" else []), last)
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone((x - self.mean) / self.deviation)
        return self.head(features.mean(dim=(2, 3)))


def centres(bins: int) -> Tensor:
    """Return the middles of that many equal parts of 0..1."""
    return (torch.arange(bins) + 0.5) / bins


def degree_of(output: Tensor) -> Tensor:
    """Return the degrees, N in 0..1, that a network's output stands for: of bins, the expectation of their middles."""
    if output.shape[1] == 1:
        return output[:, 0].clamp(0, 1)
    return output.softmax(dim=1) @ centres(output.shape[1]).to(output)


class Degree(nn.Module):
    """A network whose output is the degree, N x 1 in 0..1."""

    def __init__(self, network: DegreeNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return degree_of(self.network(x))[:, None]


def save_network(network: DegreeNetwork, path: Path) -> None:
    """Write a network to a ``.pt`` file: a dictionary of its shape and its ``state_dict``."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    replace(path, lambda partial: torch.save({"kind": KIND, "shape": network.shape, "weights": weights}, partial))


def load_network(path: Path) -> DegreeNetwork:
    """Return the network in a ``.pt`` file that :func:`save_network` wrote, ready to run, not to train. Runs no code from it.

    :raises FaceblurError: if the file is missing or is no such file
    """
    if not path.is_file():
        raise FaceblurError(f"no model file {path}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each have their own
        raise FaceblurError(f"{path} is no PyTorch file that can be read safely ({type(error).__name__})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise FaceblurError(f"{path} is a PyTorch file, but no network of faceblur train blur-degree")
    try:
        network = DegreeNetwork(dataclasses.replace(TrainConfig(), **content["shape"]))
        network.load_state_dict(content["weights"])
    except Exception as error:
        raise FaceblurError(f"{path} holds a blur-degree network whose weights do not fit it ({type(error).__name__})") from None
    return network.eval()


def take_weights(network: DegreeNetwork, weights: Mapping[str, Tensor], path: Path) -> None:
    """Give a network its weights, by name, among those that were read from ``path``.

    :raises FaceblurError: if they are those of a network with other layers
    """
    try:
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
    except (RuntimeError, KeyError):
        raise FaceblurError(f"{path} holds a blur-degree network with other layers than this backbone and head") from None
