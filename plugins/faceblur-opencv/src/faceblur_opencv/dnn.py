"""ONNX networks on OpenCV's DNN module."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from faceblur_core.errors import FaceblurError
from faceblur_core.types import Floats, Predictor


@dataclass
class OpenCVDnn:
    """Runs ONNX networks with one image-like input and output, whose own layout is N x C x H x W."""

    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def load(self, path: Path) -> Predictor:
        """Return the network as a function of N x H x W x C float32 arrays.

        :raises FaceblurError: if the file is missing or OpenCV cannot read it
        """
        import cv2

        if not Path(path).is_file():
            raise FaceblurError(f"no model file {path}")
        try:
            net = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise FaceblurError(f"{path} is no ONNX model that OpenCV can read: {_first_line(error)}") from None
        return _Network(net, Path(path))

    def to_tflite(self, path: Path) -> bytes:
        """Refuse. :raises FaceblurError: always; OpenCV cannot write TensorFlow Lite."""
        raise FaceblurError(f"backend opencv-dnn cannot turn {path} into TensorFlow Lite; use a backend that trains")


@dataclass
class _Network:
    net: Any
    path: Path

    def __call__(self, batch: Floats) -> Floats:
        import cv2

        self.net.setInput(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
        try:
            output = self.net.forward()
        except cv2.error as error:
            raise FaceblurError(f"{self.path} does not take an input of {batch.shape}: {_first_line(error)}") from None
        return np.ascontiguousarray(np.asarray(output, np.float32).transpose(0, 2, 3, 1))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
