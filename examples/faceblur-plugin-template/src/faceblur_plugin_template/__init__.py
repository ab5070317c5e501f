"""What the plugin offers. faceblur imports this module at every start, so it imports nothing but faceblur_core."""

from collections.abc import Iterable

from faceblur_core import Component, hookimpl


@hookimpl
def faceblur_detectors() -> Iterable[Component]:
    yield Component(
        name="cat",
        summary="Faces of cats, by the cascade that ships with OpenCV",
        factory="faceblur_plugin_template.cat:CatDetector",
        licence="MIT AND Apache-2.0",
    )


@hookimpl
def faceblur_obfuscators() -> Iterable[Component]:
    yield Component(
        name="stripes",
        summary="Diagonal stripes, black and white",
        factory="faceblur_plugin_template.stripes:Stripes",
    )
