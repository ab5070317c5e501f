from faceblur_core import Component, hookimpl


@hookimpl
def faceblur_detectors():
    yield Component(name="needy", summary="needs a package", factory="missingplug_detector:Needy")
    yield Component(name="vanished", summary="its class is gone", factory="missingplug:Vanished")
