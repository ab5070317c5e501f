"""A blur-degree network in an ONNX file, on ONNX Runtime: faces in, degrees out. Needs no PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_blurdegree import SHIPPED
from faceblur_blurdegree.crop import MARGIN, SIZE
from faceblur_core import weights as core_weights
from faceblur_core.errors import FaceblurError

Faces = NDArray[np.uint8]  #: N x 112 x 112 x 3, RGB
KIND = "faceblur blur-degree"  #: what a model file of ours says it is
BATCH = 64  #: faces at once


@dataclass
class Meter:
    """Tells the degree of blur of faces: 0 sharp, 1 nothing of the identity is left."""

    path: Path
    threshold: float  #: degree from which a face is protected; nan: the file says none
    margin: float  #: of the squares; see ``crop.face_square``
    parameters: int | None
    session: Any

    def __call__(self, faces: Faces) -> NDArray[np.float64]:
        """Return N degrees in 0..1."""
        parts = [self._batch(faces[start : start + BATCH]) for start in range(0, len(faces), BATCH)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _batch(self, faces: Faces) -> NDArray[np.float64]:
        x = np.ascontiguousarray(faces.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        degrees = self.session.run(None, {self.session.get_inputs()[0].name: x})[0]
        return np.clip(np.asarray(degrees, np.float64).reshape(len(faces)), 0, 1)


def load_meter(path: Path, *, threads: int = 1) -> Meter:
    """Return the network in a file that ``faceblur train blur-degree`` wrote.

    :raises FaceblurError: if the file is missing or no such model
    """
    import onnxruntime

    if not path.is_file():
        raise FaceblurError(f"no model file {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a dozen kinds of its own
        raise FaceblurError(f"{path} is no ONNX model: {' '.join(str(error).split())[:150]}") from None
    said = session.get_modelmeta().custom_metadata_map
    if said.get("kind") != KIND or list(session.get_inputs()[0].shape[1:]) != [3, SIZE, SIZE]:
        raise FaceblurError(f"{path} is an ONNX model, but none of faceblur train blur-degree")
    threshold, margin = _number(said, "protected_from", math.nan), _number(said, "margin", MARGIN)
    if not 1 <= margin < math.inf or math.isinf(threshold) or list(session.get_outputs()[0].shape[1:]) != [1]:
        raise FaceblurError(f"{path} is no network that faceblur train blur-degree made whole: train it again")
    return Meter(
        path=path,
        threshold=threshold,
        margin=margin,
        parameters=int(said["parameters"]) if said.get("parameters", "").isdecimal() else None,
        session=session,
    )


def _number(said: dict[str, str], key: str, default: float) -> float:
    try:
        return float(said[key])
    except (KeyError, ValueError):
        return default


def weights_file(text: str) -> Path:
    """Return the model file that ``text`` names: one that ships, or a path.

    :raises UnknownName: if it is neither
    """
    return core_weights.weights_file(text, SHIPPED, "blur-degree weights")
