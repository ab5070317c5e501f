from faceblur_core import Component, hookimpl


@hookimpl
def faceblur_detectors():
    yield Component(name="corner", summary="another corner", factory="goodplug:Corner")
