"""The end-to-end U-Net of faceblur: a photo in, the same photo with its faces blurred out."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl


@hookimpl
def faceblur_commands() -> Iterable[Component]:
    yield Component(
        name="train",
        summary="Train a network on a data set of photos and their blurred twins",
        factory="faceblur_unet.cli:train",
        licence="MIT AND Apache-2.0",
    )
