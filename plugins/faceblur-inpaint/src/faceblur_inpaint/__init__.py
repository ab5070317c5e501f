"""The mask U-Net of faceblur: a detector that finds the pixels of faces, for any obfuscator, inpainting above all."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl
from faceblur_core.hookspecs import Weights

DEFAULT = "mask-unet"  #: the network in ``SHIPPED`` that is used when none is named


def _shipped(file: str, size: int, sha256: str) -> Weights:
    licence = "MIT; trained on photos that are for research only, see the model card"
    return Weights(file=file, sha256=(sha256,), licence=licence, size=size, package="faceblur_inpaint", source="faceblur-inpaint")


#: networks that ``weights=`` knows by name, files in this package's folder ``weights``; NAME-int8 is NAME as an int8 .tflite
SHIPPED = {
    DEFAULT: _shipped("mask-unet.onnx", 3_890_562, "5cc1ea5de15a0835d02fa00da9fb1604096ce277e0c389b434da792bce91a679"),
    f"{DEFAULT}-int8": _shipped(
        "mask-unet-int8.tflite", 2_046_496, "bff42e5a6255dd06042547231a7f0b75fca79bd7c3ce7a92f712a269d3094f0d"
    ),
}


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
