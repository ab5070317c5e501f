"""The end-to-end U-Net of faceblur: a photo in, the same photo with its faces blurred out."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl
from faceblur_core.hookspecs import Weights

_KERAS = "MIT AND Apache-2.0"  #: the licences of our code, and of Keras and TensorFlow
_PHOTOS = "MIT; trained on photos that are for research only, see the model card"


def _shipped(name: str, size: int, sha256: str) -> Weights:
    file = f"unet-{name}.tflite"
    return Weights(file=file, sha256=(sha256,), licence=_PHOTOS, size=size, package="faceblur_unet", source="faceblur-unet")


#: weights that ``weights=`` knows by name
SHIPPED = {
    name: _shipped(name, size, sha256)
    for name, size, sha256 in (
        ("student-v1-int8", 517_344, "312dd83940dfa0740cad45325239d4f9988a1a75872073e0a57cc9cb2b5a54d9"),
        ("teacher-int8", 1_982_976, "eb3d1fe5742fc60ab9aeda1fb41863e7601f92ff01034a6914de197f6cea28bb"),
    )
}


@hookimpl
def faceblur_anonymizers() -> Iterable[Component]:
    yield Component(
        name="unet",
        summary="End-to-end U-Net: 128 pixels in, the same with blurred faces out",
        factory="faceblur_unet.anonymizer:UNet",
        licence="MIT AND Apache-2.0",
        weights=tuple(SHIPPED.values()),
    )


@hookimpl
def faceblur_backends() -> Iterable[Component]:
    yield Component(
        name="tflite",
        summary="TensorFlow Lite models, float or int8, on LiteRT",
        factory="faceblur_unet.backends:TFLite",
        licence="MIT AND Apache-2.0",
    )
    yield Component(name="keras", summary="Keras 3 models", factory="faceblur_unet.backends:Keras", licence=_KERAS)


@hookimpl
def faceblur_trainers() -> Iterable[Component]:
    yield Component(
        name="unet",
        summary="The U-Net that turns a photo into the photo with blurred faces",
        factory="faceblur_unet.cli:unet",
        licence=_KERAS,
    )
    yield Component(
        name="distill",
        summary="The same, a student that also learns from a larger network",
        factory="faceblur_unet.cli:distill",
        licence=_KERAS,
    )
