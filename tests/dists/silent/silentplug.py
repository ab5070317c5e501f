from faceblur_core import Component


def faceblur_detectors():  # without @hookimpl
    yield Component(name="unheard", summary="nobody asks for it", factory="goodplug:Corner")
