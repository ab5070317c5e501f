"""Ultralytics YOLO models as face detectors for faceblur."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, Weights, hookimpl

DEFAULT = Weights(
    file="yolov8p-face-v2.pt",
    sha256=("aa25b4d94ed32b97d8ed2d8841988cd0a72e449f07f4e3d6ca0efc0e850bbc93",),
    licence="AGPL-3.0-only",
    size=1_484_747,
    source="or name any face or person model with detector.weights=FILE",
)


@hookimpl
def faceblur_detectors() -> Iterable[Component]:
    yield Component(
        name="yolo",
        summary="Any Ultralytics face or person model, .pt or .onnx",
        factory="faceblur_yolo.detector:YoloDetector",
        licence="MIT AND AGPL-3.0-only",
        weights=(DEFAULT,),
    )


@hookimpl
def faceblur_trainers() -> Iterable[Component]:
    yield Component(
        name="yolo",
        summary="A YOLO face model, by Ultralytics' own trainer",
        factory="faceblur_yolo.cli:yolo",
        licence="MIT AND AGPL-3.0-only",
    )
