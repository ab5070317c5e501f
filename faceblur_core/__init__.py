"""The faceblur core: contracts, composition and the command line. No detector and no network lives here.

A whole plugin is one module, named in the ``faceblur`` entry-point group of its distribution::

    from faceblur_core import Component, hookimpl

    @hookimpl
    def faceblur_detectors():
        yield Component(name="mine", summary="Finds faces my way", factory="my_module:MyDetector")
"""

import os

from faceblur_core.hookspecs import Component, Weights, hookimpl

# ONNX Runtime would tell its maker of every session and leave an identity of the machine in the home folder. It must be said
# before it is imported, by any plugin.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Component", "Weights", "__version__", "hookimpl"]
