"""YOLO face models in ONNX files as a detector for faceblur."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl
from faceblur_core.hookspecs import Weights

DEFAULT = "yolo-face"  #: the network in ``SHIPPED`` that is used when none is named

#: networks that ``weights=`` knows by name, files in this package's folder ``weights``
SHIPPED = {
    DEFAULT: Weights(
        file="yolo-face.onnx",
        sha256=("60bc610df48ae085a32d9300f80c6d45d2180dcc0dbb170cd02e73fd146b22de",),
        licence="AGPL-3.0-only; trained on photos that are for research only, see the model card",
        size=5_557_725,
        package="faceblur_yolo_onnx",
        source="faceblur-yolo-onnx",
    )
}


@hookimpl
def faceblur_detectors() -> Iterable[Component]:
    yield Component(
        name="yolo-onnx",
        summary="A YOLO face model in an ONNX file, on ONNX Runtime",
        factory="faceblur_yolo_onnx.detector:YoloOnnxDetector",
        licence="MIT AND AGPL-3.0-only",
        weights=tuple(SHIPPED.values()),
    )
