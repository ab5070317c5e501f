"""What a network's bytes should be: TensorFlow Lite for Microcontrollers' reference kernels on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.mcu.graph import parse, self_contained

Bytes = NDArray[np.int8]


class Oracle:
    """A full-int8 network, run by tflite-micro."""

    def __init__(self, model: bytes) -> None:
        """Load a .tflite file.

        :raises MissingDependency: if the package tflite-micro is not installed
        :raises FaceblurError: if it does not run the network
        """
        try:
            from tflite_micro.python.tflite_micro import runtime
        except ImportError as error:
            raise MissingDependency(f"checking the generated C needs {error.name or error}: install faceblur-core[mcu]") from None
        graph = parse(model)
        self.shape = graph.tensors[graph.inputs[0]].shape
        self._outputs = len(graph.outputs)
        largest = sum(int(np.prod(tensor.shape)) for tensor in graph.tensors if tensor.data is None)
        try:
            self._interpreter: Any = runtime.Interpreter.from_bytes(self_contained(model), arena_size=largest + (4 << 20))
        except RuntimeError as error:
            raise FaceblurError(f"tflite-micro does not run this network: {' '.join(str(error).split())[:200]}") from None

    def __call__(self, frame: Bytes) -> Bytes:
        """Return the bytes of all outputs, one after another, for one frame of input bytes."""
        self._interpreter.set_input(np.ascontiguousarray(frame, np.int8).reshape(self.shape), 0)
        self._interpreter.invoke()
        return np.concatenate([np.asarray(self._interpreter.get_output(index)).ravel() for index in range(self._outputs)])
