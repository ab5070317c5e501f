"""The mask U-Net in PyTorch: the U-Net of Ronneberger, Fischer and Brox (MICCAI 2015), and its files.

As in the paper: four steps down, each two 3 x 3 convolutions and a 2 x 2 max pooling of stride 2 that doubles the channels
next, four steps up, each a 2 x 2 transposed convolution, the concatenation with the level's encoder and two 3 x 3
convolutions, and a 1 x 1 convolution at the end. Unlike it: same padding, so that the output has the input's size, and batch
normalisation (Ioffe and Szegedy, ICML 2015) after every 3 x 3 convolution, before its ReLU.

**The layers are counted so:** a pair of 3 x 3 convolutions with all that belongs to it is one, and so is each pooling,
transposed convolution and concatenation: 9 + 4 + 4 + 4 = 21. The 1 x 1 convolution that reads the mask off the last of them
is the output, not counted. They are the module's children, by name: :data:`LAYERS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceblur_core.errors import FaceblurError
from faceblur_core.training.run import replace
from faceblur_inpaint.config import SIZE

LEVELS = (1, 2, 3, 4)
LAYERS = (
    *(f"{part}{level}" for level in LEVELS for part in ("encoder", "pool")),
    "bottleneck",
    *(f"{part}{level}" for level in LEVELS[::-1] for part in ("up", "skip", "decoder")),
)
KIND = "faceblur mask-unet"  #: what a file of ours says it is


class Convolutions(nn.Sequential):
    """Two 3 x 3 convolutions without bias, each with batch normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        parts: list[nn.Module] = []
        for count in (inputs, outputs):
            parts += [nn.Conv2d(count, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        super().__init__(*parts)


class Concatenation(nn.Module):
    """The encoder's channels, then those that came up."""

    def forward(self, skipped: Tensor, x: Tensor) -> Tensor:
        return torch.cat([skipped, x], dim=1)


class MaskUNet(nn.Module):
    """N x channels x H x W in 0..1 in, N x 1 x H x W logits out; H and W multiples of 16, 256 in use.

    :param base: channels of the first level, doubled by each level below
    :param channels: 1 for grey, 3 for RGB
    """

    def __init__(self, base: int = 64, channels: int = 1) -> None:
        super().__init__()
        self.base, self.channels = base, channels
        counts = [base * 2 ** (level - 1) for level in LEVELS]
        for level, inputs, outputs in zip(LEVELS, [channels, *counts], counts, strict=False):
            self.add_module(f"encoder{level}", Convolutions(inputs, outputs))
            self.add_module(f"pool{level}", nn.MaxPool2d(2))
        self.add_module("bottleneck", Convolutions(counts[-1], 2 * counts[-1]))
        for level, count in zip(LEVELS[::-1], counts[::-1], strict=True):
            self.add_module(f"up{level}", nn.ConvTranspose2d(2 * count, count, 2, stride=2))
            self.add_module(f"skip{level}", Concatenation())
            self.add_module(f"decoder{level}", Convolutions(2 * count, count))
        self.add_module("mask", nn.Conv2d(base, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        layer = self.get_submodule
        encoded = {}
        for level in LEVELS:
            encoded[level] = layer(f"encoder{level}")(x)
            x = layer(f"pool{level}")(encoded[level])
        x = layer("bottleneck")(x)
        for level in LEVELS[::-1]:
            x = layer(f"decoder{level}")(layer(f"skip{level}")(encoded[level], layer(f"up{level}")(x)))
        mask: Tensor = layer("mask")(x)
        return mask


class Probability(nn.Module):
    """A mask U-Net whose output is the probability of a face, 0..1, not its logit."""

    def __init__(self, network: MaskUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.network(x))


def save_network(network: MaskUNet, path: Path) -> None:
    """Write a network to a ``.pt`` file: a dictionary of its shape and its ``state_dict``, float32."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    content = {"kind": KIND, "base": network.base, "channels": network.channels, "size": SIZE, "weights": weights}
    replace(path, lambda partial: torch.save(content, partial))


def load_network(path: Path) -> MaskUNet:
    """Return the network in a ``.pt`` file that :func:`save_network` wrote, ready to run, not to train. Runs no code from it.

    :raises FaceblurError: if the file is missing or is no such file
    """
    if not path.is_file():
        raise FaceblurError(f"no model file {path}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each have their own
        raise FaceblurError(f"{path} is no PyTorch file that can be read safely ({type(error).__name__})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("size") != SIZE:
        raise FaceblurError(f"{path} is a PyTorch file, but no mask U-Net written by faceblur train mask-unet")
    try:
        network = MaskUNet(content["base"], content["channels"])
        network.load_state_dict(content["weights"])
    except Exception as error:
        raise FaceblurError(f"{path} holds a mask U-Net whose weights do not fit it ({type(error).__name__})") from None
    return network.eval()
