"""OpenCV's face detectors and its network runtime, for faceblur."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, Weights, hookimpl

YUNET = Weights(
    file="yunet.onnx",
    sha256=("25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31",),
    licence="Apache-2.0",
    size=317_466,
    url="https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
    "0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx/yunet_n_640_640.onnx",
)


@hookimpl
def faceblur_detectors() -> Iterable[Component]:
    yield Component(
        name="haar",
        summary="Haar cascades, frontal and both profiles (Viola and Jones, 2001)",
        factory="faceblur_opencv.haar:HaarDetector",
        licence="MIT AND Apache-2.0",
    )
    yield Component(
        name="yunet",
        summary="YuNet, a 76,000-parameter network with landmarks (Wu et al., 2023)",
        factory="faceblur_opencv.yunet:YuNetDetector",
        licence="MIT AND Apache-2.0",
        weights=(YUNET,),
    )


@hookimpl
def faceblur_backends() -> Iterable[Component]:
    yield Component(
        name="opencv-dnn",
        summary="ONNX networks on OpenCV's own runtime",
        factory="faceblur_opencv.dnn:OpenCVDnn",
        licence="MIT AND Apache-2.0",
    )
