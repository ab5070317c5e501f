"""The mask U-Net of faceblur: a detector that finds the pixels of faces, for any obfuscator, inpainting above all."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl
from faceblur_core.hookspecs import Weights

DEFAULT = "mask-unet"  #: the network in ``SHIPPED`` that is used when none is named

#: networks that ``weights=`` knows by name, files in this package's folder ``weights``; NAME-int8 is NAME as an int8 .tflite
SHIPPED: dict[str, Weights] = {}


@hookimpl
def faceblur_detectors() -> Iterable[Component]:
    yield Component(
        name="mask-unet",
        summary="Mask U-Net: the pixels of faces, outlined along the picture's edges",
        factory="faceblur_inpaint.detector:MaskUNetDetector",
        weights=tuple(SHIPPED.values()),
    )


@hookimpl
def faceblur_backends() -> Iterable[Component]:
    yield Component(name="onnx", summary="ONNX models, on ONNX Runtime", factory="faceblur_inpaint.backends:Onnx")
    yield Component(
        name="torch",
        summary="Mask U-Nets as PyTorch checkpoints",
        factory="faceblur_inpaint.backends:Torch",
        licence="MIT AND BSD-3-Clause",
    )


@hookimpl
def faceblur_trainers() -> Iterable[Component]:
    yield Component(
        name="mask-unet",
        summary="The U-Net that marks the pixels of faces",
        factory="faceblur_inpaint.cli:mask_unet",
        licence="MIT AND BSD-3-Clause",
    )
