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
        ("student-v1-int8", 517_344, "c06ea0a5fd1ede702911589896eb1c9c55e71b39a2d7e4549d367436cfa2e1b7"),  # the default
        ("teacher", 7_713_740, "e2f910ed881aee28b72e4c2bfe3f5465197403cd3a5fe24ce62ef3c53ec9bc56"),
        ("teacher-int8", 1_982_976, "80bb39f9da01876aca089329279e0e3c3f97037459e9516e1fe6548c30d50499"),
        ("student-v2", 4_345_772, "914fd289a59985fdc6744184fad595db586a8b42258905693ef2eb1bd28eef91"),
        ("student-v2-int8", 1_129_968, "04ebe5d87c4a05a004dc9d16b78648dd49d2ec44ade451176ecb748c541d0777"),
        ("student-v1", 1_939_340, "69e44597eff218aeeb6a145624575b07c6cffa88098a8a87a01ddace40c4281f"),
        ("student-v0", 494_444, "89db89615f5f2dc6c282827cbec16d21526b10f2aa56736a61b4036b59e0288a"),
        ("student-v0-int8", 145_104, "18f228f8cf96a552e35f329727ff5ee5f8f877f9a56c96661f3942163f7fe47c"),
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
