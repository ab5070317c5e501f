"""The end-to-end U-Net of faceblur: a photo in, the same photo with its faces blurred out."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl

_KERAS = "MIT AND Apache-2.0"  #: the licences of our code, and of Keras and TensorFlow


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
