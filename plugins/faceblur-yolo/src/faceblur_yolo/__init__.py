"""Ultralytics YOLO models as face detectors for faceblur."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, Weights, hookimpl

DEFAULT = "yolo-face"  #: the network in ``SHIPPED`` that is used when none is named

#: networks that ``weights=`` knows by name, files in this package's folder ``weights``
SHIPPED = {
    DEFAULT: Weights(
        file="yolo-face.pt",
        sha256=("414c7b9a37a72358ac9de8e42bc4cf9b8508e54fe2fcaddad7ccf28be9b0ba3e",),
        licence="AGPL-3.0-only; trained on photos that are for research only, see the model card",
        size=5_254_807,
        package="faceblur_yolo",
        source="faceblur-yolo",
    )
}


@hookimpl
def faceblur_detectors() -> Iterable[Component]:
    yield Component(
        name="yolo",
        summary="Any Ultralytics face or person model, .pt or .onnx",
        factory="faceblur_yolo.detector:YoloDetector",
        licence="MIT AND AGPL-3.0-only",
        weights=tuple(SHIPPED.values()),
    )


@hookimpl
def faceblur_trainers() -> Iterable[Component]:
    yield Component(
        name="yolo",
        summary="A YOLO face model, by Ultralytics' own trainer",
        factory="faceblur_yolo.cli:yolo",
        licence="MIT AND AGPL-3.0-only",
    )
