"""Face recognisers: from an aligned face to a unit vector whose cosine says how alike two faces are."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from faceblur_core.errors import MissingDependency, UnknownName
from faceblur_core.types import Embedder, Faces, Floats
from faceblur_core.weights import locate
from faceblur_identity import MOBILEFACENET, SFACE

#: Of the pictures that MobileFaceNet was trained on, per channel.
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


@functools.lru_cache(maxsize=4)
def embedder(name: str) -> Embedder:
    """Return a recogniser by name: one for the process, however many metrics use it.

    :raises UnknownName: if there is none of that name
    :raises MissingWeights: if its weights are not there
    """
    if name not in EMBEDDERS:
        raise UnknownName("embedder", name, EMBEDDERS)
    return EMBEDDERS[name]()


def of_originals(name: str, faces: Faces) -> Floats:
    """Return N x D unit vectors of original faces; the last ones are remembered, for many versions of one may come."""
    return np.concatenate([_of_original(name, face.shape, face.tobytes()) for face in faces])


@functools.lru_cache(maxsize=64)
def _of_original(name: str, shape: tuple[int, ...], pixels: bytes) -> Floats:
    return embedder(name)(np.frombuffer(pixels, np.uint8).reshape(1, *shape))


def _unit(vectors: Any) -> Floats:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


@dataclass
class MobileFaceNet:
    """MobileFaceNet (Chen et al., 2018) trained with ArcFace, by foamliu; 128 values; on ONNX Runtime."""

    model_files: list[Path] = field(init=False, repr=False)

    threshold: ClassVar[float | None] = 0.4
    different: ClassVar[float | None] = 0.1
    origin: ClassVar[str] = (
        "61 people of YouTube Faces, faces seen well: 4 of 50,943 pairs of two people are above, "
        "2 of 487 pairs of one person below (benchmarks/people.py)"
    )

    def __post_init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the same sums in the same order on every machine
        self.model_files = [locate(MOBILEFACENET)]
        self._session = onnxruntime.InferenceSession(str(self.model_files[0]), options, providers=["CPUExecutionProvider"])

    def __call__(self, faces: Faces) -> Floats:
        inputs = ((faces.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
        return _unit([self._session.run(None, {"input0": np.ascontiguousarray(one[None])})[0][0] for one in inputs])


@dataclass
class SFace:
    """SFace (Zhong et al., IEEE TIP 2021) from the OpenCV zoo; 128 values; on OpenCV."""

    model_files: list[Path] = field(init=False, repr=False)

    threshold: ClassVar[float | None] = None
    different: ClassVar[float | None] = None
    origin: ClassVar[str] = ""

    def __post_init__(self) -> None:
        import cv2

        self.model_files = [locate(SFACE)]
        self._recognizer = cv2.FaceRecognizerSF.create(str(self.model_files[0]), "")

    def __call__(self, faces: Faces) -> Floats:
        return _unit([self._recognizer.feature(np.ascontiguousarray(face[..., ::-1]))[0] for face in faces])


@dataclass
class Buffalo:
    """ArcFace's ResNet-50 of insightface's model pack ``buffalo_l``, if the user has installed insightface.

    Its weights are for non-commercial research only, as their authors state.
    """

    threshold: ClassVar[float | None] = None
    different: ClassVar[float | None] = None
    origin: ClassVar[str] = ""

    def __post_init__(self) -> None:
        try:
            from insightface.app import FaceAnalysis
        except ImportError as error:
            raise MissingDependency("embedder buffalo_l needs insightface: pip install insightface") from error
        app = FaceAnalysis("buffalo_l", allowed_modules=["detection", "recognition"], providers=["CPUExecutionProvider"])
        self._model = app.models["recognition"]

    def __call__(self, faces: Faces) -> Floats:
        return _unit(self._model.get_feat([np.ascontiguousarray(face[..., ::-1]) for face in faces]))


EMBEDDERS: dict[str, type[Embedder]] = {"mobilefacenet": MobileFaceNet, "sface": SFace, "buffalo_l": Buffalo}
