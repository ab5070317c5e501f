"""YOLO face models in ONNX files as a detector for faceblur."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl
from faceblur_core.hookspecs import Weights

DEFAULT = "yolo-face"  #: the network in ``SHIPPED`` that is used when none is named

#: networks that ``weights=`` knows by name, files in this package's folder ``weights``
SHIPPED: dict[str, Weights] = {}


@hookimpl
def faceblur_detectors() -> Iterable[Component]:
    yield Component(
        name="yolo-onnx",
        summary="A YOLO face model in an ONNX file, on ONNX Runtime",
        factory="faceblur_yolo_onnx.detector:YoloOnnxDetector",
        weights=tuple(SHIPPED.values()),
    )
