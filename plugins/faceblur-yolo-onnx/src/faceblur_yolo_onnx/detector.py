"""The detector ``yolo-onnx``: a YOLO face model in an ONNX file, without PyTorch and without Ultralytics.

Written from the published description of the format (https://docs.ultralytics.com): the network gives, for each of A places,
a box (centre and size, pixels of its picture) and the score of each class.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from faceblur_core.closeups import with_closeups
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.types import Detections, Floats, Image, option
from faceblur_core.weights import weights_file
from faceblur_yolo_onnx import DEFAULT, SHIPPED
from faceblur_yolo_onnx.frame import STRIDE, Frame, fitted, fixed

MOST = 3000  #: boxes that suppression looks at, the best first


@dataclass
class YoloOnnxDetector:
    """Reports faces. Scores are the network's, from 0 to 1."""

    weights: str = option(DEFAULT, "a network that ships, or an ONNX file such as faceblur train yolo makes")
    conf: Annotated[float, Ge(0), Le(1)] = option(0.25, "weakest face to report")
    iou: Annotated[float, Gt(0), Le(1)] = option(0.5, "boxes that overlap more are one face")
    imgsz: Annotated[int, Ge(32), Le(8192)] = option(480, "longer side in pixels at which the network looks, if its file allows")
    closeup: Annotated[int, Ge(0), Le(8192)] = option(
        256, "the same in a second look, for faces that fill the image; 0: no such look"
    )
    max_det: Annotated[int, Ge(1)] = option(300, "most faces per image")
    threads: Annotated[int, Ge(1), Le(64)] = option(1, "of ONNX Runtime")
    model_files: list[Path] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        path = weights_file(self.weights, SHIPPED, "YOLO face weights")
        self.model_files = [path]
        self._session = _session(path, self.threads)
        given = self._session.get_inputs()[0]
        if given.type != "tensor(float)" or len(given.shape) != 4 or given.shape[1] not in (3, "3"):
            raise FaceblurError(f"{path} takes {given.type} of shape {given.shape}, no RGB pictures in float32")
        self._input = given.name
        rows, columns = given.shape[2:]
        self._fixed = (rows, columns) if isinstance(rows, int) and isinstance(columns, int) else None
        said = self._session.get_modelmeta().custom_metadata_map
        self._stride = max(STRIDE, int(said["stride"])) if said.get("stride", "").isdecimal() else STRIDE
        self._faces, self._classes = self._find_classes(path, _names(said.get("names", "")))

    def _find_classes(self, path: Path, names: dict[int, str]) -> tuple[list[int], int]:
        """Return which classes are faces, and how many there are."""
        blank = np.zeros((1, 3, *(self._fixed or (self._stride, self._stride))), np.float32)
        try:
            shape = self._session.run(None, {self._input: blank})[0].shape
        except Exception as error:  # the runtime has a dozen kinds of its own
            raise FaceblurError(f"{path} does not take a picture of {blank.shape[2:]} pixels: {_short(error)}") from None
        if len(shape) != 3 or shape[0] != 1 or shape[1] < 5 + max(names, default=0):
            raise FaceblurError(f"{path} is no YOLO detector: it makes {shape}, not 1 x (4 + classes) x places")
        if shape[2] == 6 < shape[1]:
            raise FaceblurError(f"{path} suppresses boxes itself; export it without that (end2end=False, nms=False)")
        if not names and shape[1] == 5:
            return [0], 1
        faces = [index for index, name in names.items() if "face" in name.lower()]
        if not faces:
            known = ", ".join(list(names.values())[:10]) or "it names none"
            raise UsageMistake(f"{path} has no class face ({known}); the method yolo also hides the heads of persons")
        return faces, max(names) + 1

    def __call__(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        if self._fixed:
            return self._look(image, fixed(height, width, self._fixed))
        return with_closeups(
            lambda side: self._look(image, fitted(height, width, side, self._stride)),
            self.imgsz,
            self.closeup,
            max(height, width),
            self.iou,
            self.max_det,
        )

    def _look(self, image: Image, frame: Frame) -> Detections:
        picture = frame.paint(image).transpose(2, 0, 1)[None] / np.float32(255)
        output = self._session.run(None, {self._input: np.ascontiguousarray(picture, np.float32)})[0][0]
        return self.decoded(output, frame)

    def decoded(self, output: Floats, frame: Frame) -> Detections:
        """Return the faces in what the network gives for one picture, (4 + classes) x A."""
        scores = output[4 : 4 + self._classes]
        best = scores.argmax(axis=0)
        score = scores[best, np.arange(scores.shape[1])]
        chosen = np.flatnonzero((score > self.conf) & np.isin(best, self._faces))
        chosen = chosen[np.argsort(-score[chosen], kind="stable")][:MOST]
        centre, half = output[:2, chosen].T, output[2:4, chosen].T / 2
        found = Detections(np.concatenate([centre - half, centre + half], axis=1), score[chosen]).nms(self.iou)
        kept = found.select(range(min(len(found), self.max_det)))
        return Detections(frame.to_photo(kept.boxes), kept.scores).with_area()  # some lay in the bars


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a dozen kinds of its own
        raise FaceblurError(f"{path} is no ONNX model: {_short(error)}") from None


def _names(text: str) -> dict[int, str]:
    """Return the classes that a file names, as ``{0: 'face'}``; none if it names them otherwise."""
    try:
        named = ast.literal_eval(text)
        return {int(index): str(name) for index, name in named.items()}
    except (ValueError, SyntaxError, AttributeError, TypeError):
        return {}


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:150]
