"""The faceblur core: contracts, composition and the command line. No detector and no network lives here.

A whole plugin is one module, named in the ``faceblur`` entry-point group of its distribution::

    from faceblur_core import Component, hookimpl

    @hookimpl
    def faceblur_detectors():
        yield Component(name="mine", summary="Finds faces my way", factory="my_module:MyDetector")
"""

from faceblur_core.hookspecs import Component, Weights, hookimpl

__version__ = "0.1.0"
__all__ = ["Component", "Weights", "__version__", "hookimpl"]
