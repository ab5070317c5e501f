"""The backbone of YOLOv5n (release 6; Jocher et al., 2020), written anew from its description: CSP blocks, pooling pyramid.

CSP: cross stage partial networks, Wang et al., CVPR Workshops 2020. SPPF: spatial pyramid pooling, He et al., ECCV 2014, as
three poolings in a row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256)  #: channels after each halving of the picture
DEPTHS = (1, 2, 3, 1)  #: bottlenecks of the four stages


class Convolution(nn.Sequential):
    """A convolution without bias, batch normalisation and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int | None = None) -> None:
        padding = kernel // 2 if padding is None else padding
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03), nn.SiLU(inplace=True))


class Bottleneck(nn.Module):
    """A 1 x 1 and a 3 x 3 convolution, added to what they were given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Convolution(channels, channels), Convolution(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class CSP(nn.Module):
    """Half of the channels go through bottlenecks, half past them."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        half = channels // 2
        self.through = nn.Sequential(Convolution(channels, half), *(Bottleneck(half) for _ in range(depth)))
        self.past = Convolution(channels, half)
        self.joined = Convolution(2 * half, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(torch.cat([self.through(x), self.past(x)], dim=1))


class Pyramid(nn.Module):
    """Three 5 x 5 poolings in a row and what they were given, joined (SPPF)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduced = Convolution(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.joined = Convolution(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.reduced(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.joined(torch.cat(parts, dim=1))


def yolov5n(width: float = 1.0) -> nn.Sequential:
    """Return the backbone, N x 3 x H x W to N x 256 ``width`` x H/32 x W/32.

    :param width: factor of all channels; 0.5 for half
    """
    widths = [int(count * width) for count in WIDTHS]
    layers: list[nn.Module] = [Convolution(3, widths[0], 6, 2, padding=2)]
    for inputs, outputs, depth in zip(widths, widths[1:], DEPTHS, strict=False):
        layers += [Convolution(inputs, outputs, 3, 2), CSP(outputs, depth)]
    return nn.Sequential(*layers, Pyramid(widths[-1]))
