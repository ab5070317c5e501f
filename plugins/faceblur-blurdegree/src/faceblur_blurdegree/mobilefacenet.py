"""MobileFaceNet (Chen et al., 2018) as a backbone, written anew from its description, and the weights of a face recogniser in it.

Batch normalisation is in the convolutions, as in the ONNX file of a trained recogniser. The network sees the middle of the
square, enlarged, so that a face is about as large in it as the aligned faces that the recogniser was trained on.
"""

from __future__ import annotations

from pathlib import Path

import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from faceblur_core.errors import FaceblurError
from faceblur_core.training.onnx_files import load_model

FEATURES = 128  #: of the recogniser, not of unit length: how long they are tells much
#: expansion, channels, blocks, stride of the first block
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
MIDDLE = 0.8  #: share of the square's side that is seen


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2 if kernel < 7 else 0, groups=groups)


class Bottleneck(nn.Module):
    """Wider, a 3 x 3 depthwise convolution, narrower; added to what it was given where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            _convolution(inputs, wide),
            nn.ReLU6(inplace=True),
            _convolution(wide, wide, 3, stride, groups=wide),
            nn.ReLU6(inplace=True),
            _convolution(wide, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class MobileFaceNet(nn.Module):
    """N x 3 x 112 x 112 to N x 128 x 1 x 1."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            _convolution(3, 64, 3, 2),
            nn.ReLU6(inplace=True),
            _convolution(64, 64, 3, groups=64),
            nn.ReLU(inplace=True),
            _convolution(64, 64),
            nn.ReLU(inplace=True),
        ]
        inputs = 64
        for expansion, outputs, blocks, stride in STAGES:
            for index in range(blocks):
                layers.append(Bottleneck(inputs, outputs, expansion, stride if index == 0 else 1))
                inputs = outputs
        layers += [_convolution(inputs, 512), nn.ReLU6(inplace=True), _convolution(512, 512, 7, groups=512)]
        self.layers = nn.Sequential(*layers, _convolution(512, FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        edge = round(side * (1 - MIDDLE) / 2)
        middle = x[..., edge : side - edge, edge : side - edge]
        return self.layers(functional.interpolate(middle, (side, side), mode="bilinear", align_corners=False))


def load_recogniser(network: MobileFaceNet, path: Path) -> None:
    """Give a network the weights of a recogniser in an ONNX file.

    :raises FaceblurError: if the file is none, or of another network
    """
    graph = load_model(path).graph
    stored = {item.name: item for item in graph.initializer}
    given = [numpy_helper.to_array(stored[name]) for node in graph.node if node.op_type == "Conv" for name in node.input[1:]]
    wanted = [value for layer in network.modules() if isinstance(layer, nn.Conv2d) for value in (layer.weight, layer.bias)]
    if [value.shape for value in given] != [tuple(value.shape) for value in wanted]:  # type: ignore[union-attr]
        raise FaceblurError(f"{path} holds another network than the MobileFaceNet of 128 features")
    with torch.no_grad():
        for target, source in zip(wanted, given, strict=True):
            target.copy_(torch.from_numpy(source.copy()))  # type: ignore[union-attr]
