"""Write a mask U-Net as an ONNX file, node by node: nothing but Conv, Relu, MaxPool, ConvTranspose, Concat, Sigmoid, Cast.

Written here rather than traced, so that the file depends on no exporter: batch normalisation is folded into the convolutions,
weights are stored as float16 and cast to float32 when the file is loaded. ONNX Runtime and OpenCV read it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from faceblur_core.training.report import replace
from faceblur_inpaint.config import SIZE
from faceblur_inpaint.network import LEVELS, MaskUNet

OPSET, IR = 13, 8  #: as low as serves, for old runtimes


def save_onnx(network: MaskUNet, path: Path, *, half: bool = True) -> None:
    """Write the network: ``photo``, N x channels x 256 x 256 in 0..1, to ``probability``, N x 1 x 256 x 256.

    :param half: store the weights in 16 bits; the network still computes in 32
    """
    model = _Graph(half=half).model(network)
    onnx.checker.check_model(model)
    replace(path, lambda partial: onnx.save_model(model, partial))


class _Graph:
    """Nodes and weights as they are added; each method returns the name of its output."""

    def __init__(self, *, half: bool) -> None:
        self.half = half
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def model(self, network: MaskUNet) -> Any:
        last = self._network(network, "photo")
        self._node("Sigmoid", [last], "probability")
        shapes = {"photo": network.channels, "probability": 1}
        photo, probability = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", count, SIZE, SIZE]) for name, count in shapes.items()
        )
        graph = helper.make_graph(self.nodes, "mask-unet", [photo], [probability], self.weights)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="faceblur")
        helper.set_model_props(model, {"parameters": str(sum(one.numel() for one in network.parameters()))})
        return model

    def _network(self, network: MaskUNet, x: str) -> str:
        layer: Callable[[str], Any] = network.get_submodule
        encoded = {}
        for level in LEVELS:
            encoded[level] = self._convolutions(layer(f"encoder{level}"), x, f"encoder{level}")
            x = self._node("MaxPool", [encoded[level]], f"pool{level}", kernel_shape=[2, 2], strides=[2, 2])
        x = self._convolutions(layer("bottleneck"), x, "bottleneck")
        for level in LEVELS[::-1]:
            up = layer(f"up{level}")
            x = self._weighted("ConvTranspose", x, f"up{level}", up.weight, up.bias, kernel_shape=[2, 2], strides=[2, 2])
            x = self._node("Concat", [encoded[level], x], f"skip{level}", axis=1)
            x = self._convolutions(layer(f"decoder{level}"), x, f"decoder{level}")
        head = layer("mask")
        return self._weighted("Conv", x, "mask", head.weight, head.bias, kernel_shape=[1, 1])

    def _convolutions(self, pair: Any, x: str, name: str) -> str:
        for number, start in enumerate((0, 3), 1):
            weight, bias = folded(pair[start], pair[start + 1])
            x = self._weighted("Conv", x, f"{name}_{number}", weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            x = self._node("Relu", [x], f"{name}_{number}_relu")
        return x

    def _weighted(self, kind: str, x: str, name: str, weight: Tensor, bias: Tensor, **attributes: Any) -> str:
        return self._node(kind, [x, self._constant(weight, f"{name}_w"), self._constant(bias, f"{name}_b")], name, **attributes)

    def _constant(self, value: Tensor, name: str) -> str:
        array = value.detach().cpu().numpy().astype(np.float32)
        if not self.half:
            self.weights.append(numpy_helper.from_array(array, name))
            return name
        self.weights.append(numpy_helper.from_array(array.astype(np.float16), f"{name}_16"))
        return self._node("Cast", [f"{name}_16"], name, to=TensorProto.FLOAT)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))
        return output


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that does what these two do, in evaluation.

    :raises ValueError: if the convolution has a bias, or the normalisation has no statistics or no scale of its own
    """
    if convolution.bias is not None or norm.running_var is None or norm.running_mean is None or not norm.affine:
        raise ValueError("can fold only a convolution without bias and a trained batch normalisation")
    with torch.no_grad():
        factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * factor
        return (convolution.weight.double() * factor[:, None, None, None]).float(), bias.float()
