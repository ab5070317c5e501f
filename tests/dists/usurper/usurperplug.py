from faceblur_core import Component, hookimpl


@hookimpl
def faceblur_anonymizers():
    yield Component(name="corner", summary="a whole method by a detector's name", factory="goodplug:Wipe")
