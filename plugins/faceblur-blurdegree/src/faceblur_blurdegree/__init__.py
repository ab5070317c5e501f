"""How blurred is this face, without the original? A network that tells how much of an identity is lost, and its training."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl
from faceblur_core.hookspecs import Weights

DEFAULT = "blur-degree"  #: the network in ``SHIPPED`` that is used when none is named

#: networks that ``weights=`` knows by name, files in this package's folder ``weights``
SHIPPED = {
    DEFAULT: Weights(
        file="blur-degree.onnx",
        sha256=("b4bff44961943c19f3d23040e4564ddf57a898098f4a370c30e019269db30c6f",),
        licence="MIT AND Apache-2.0; trained on photos that are for research only, see the model card",
        size=2_098_024,
        package="faceblur_blurdegree",
        source="faceblur-blurdegree",
    )
}


@hookimpl
def faceblur_metrics() -> Iterable[Component]:
    yield Component(
        name="blur-degree",
        summary="How much of each face's identity is gone, judged by the anonymized picture alone",
        factory="faceblur_blurdegree.metrics:BlurDegree",
        weights=tuple(SHIPPED.values()),
    )


@hookimpl
def faceblur_trainers() -> Iterable[Component]:
    yield Component(
        name="blur-degree",
        summary="A network that tells how blurred a face is",
        factory="faceblur_blurdegree.cli:train_blur_degree",
        licence="MIT AND BSD-3-Clause AND Apache-2.0",
    )


@hookimpl
def faceblur_commands() -> Iterable[Component]:
    yield Component(
        name="blur-degree",
        summary="Score networks that tell how blurred a face is on a labelled set",
        factory="faceblur_blurdegree.cli:score",
    )
