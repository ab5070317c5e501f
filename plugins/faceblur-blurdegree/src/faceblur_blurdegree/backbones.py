"""The backbones by name: N x 3 x 112 x 112 in, feature maps out; from timm and torchvision, untrained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from faceblur_blurdegree.mobilefacenet import FEATURES, MobileFaceNet
from faceblur_blurdegree.yolo import WIDTHS, yolov5n


def _timm(name: str) -> tuple[nn.Module, int]:
    import timm

    network: Any = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
    return network, int(network.num_features)


def _mobilenet(width: float) -> tuple[nn.Module, int]:
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2(width_mult=width)
    return network.features, network.last_channel


def _squeezenet() -> tuple[nn.Module, int]:
    from torchvision.models import squeezenet1_1

    return squeezenet1_1().features, 512


#: Each returns a backbone and the channels of its feature maps.
BACKBONES: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "resnet18": lambda: _timm("resnet18"),  # He et al., CVPR 2016
    "resnet34": lambda: _timm("resnet34"),
    "edgenext-xxs": lambda: _timm("edgenext_xx_small"),  # Maaz et al., ECCV Workshops 2022
    "yolov5n": lambda: (yolov5n(), WIDTHS[-1]),
    "yolov5n-half": lambda: (yolov5n(0.5), WIDTHS[-1] // 2),
    "mobilenetv2-025": lambda: _mobilenet(0.25),  # Sandler et al., CVPR 2018
    "mobilenetv2-050": lambda: _mobilenet(0.5),
    "efficientnet-lite0": lambda: _timm("efficientnet_lite0"),  # Tan and Le, ICML 2019; without attention and swish
    "squeezenet11": _squeezenet,  # Iandola et al., 2016
    "mobilefacenet": lambda: (MobileFaceNet(), FEATURES),
}
