"""BlazeFace through MediaPipe Tasks: Bazarevsky et al., BlazeFace, CVPR workshop on computer vision for AR/VR, 2019."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from faceblur_core.errors import MissingDependency
from faceblur_core.letterbox import letterboxed
from faceblur_core.types import Detections, Floats, Image, option
from faceblur_core.weights import locate
from faceblur_mediapipe import FULL, SHORT

# BlazeFace draws its square from the brows down. These corrections (centre x and y, width, height, in box sizes)
# are the medians against the truth boxes of WIDER FACE's training photos: benchmarks/box_convention.py.
REFRAME = {"short": (0.0, -0.10, 0.84, 1.12), "full": (0.0, -0.04, 0.91, 1.21)}

SIDE = {"short": 128, "full": 192}  #: pixels, of the networks' input


@dataclass
class MediaPipeDetector:
    """Faces within about two metres (short range) or five (full range); scores from 0 to 1.

    The network sees the image reduced to 128 or 192 pixels: for small faces in large photos use ``tile.size``.
    """

    range: Literal["full", "short"] = option("full", "which network: faces up to about 5 m, or up to about 2 m")
    min_detection_confidence: Annotated[float, Ge(0), Le(1)] = option(0.5, "weakest face to report")
    min_suppression_threshold: Annotated[float, Gt(0), Le(1)] = option(0.3, "boxes that overlap more are one face")
    model_files: list[Path] = field(init=False, repr=False)
    network_file: Path = field(init=False, repr=False)
    quantized_file: None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self.network_file = locate(FULL if self.range == "full" else SHORT)
        self.model_files = [self.network_file]
        try:
            self._detector = self._load()
        except OSError as error:
            raise MissingDependency(
                f"mediapipe cannot load a system library ({error}); try: apt install libegl1 libgles2"
            ) from error

    def _load(self) -> Any:
        with _without_tensorflow():
            from mediapipe.tasks.python import BaseOptions, vision

        return vision.FaceDetector.create_from_options(
            vision.FaceDetectorOptions(
                base_options=BaseOptions(model_asset_path=str(self.model_files[0])),
                min_detection_confidence=self.min_detection_confidence,
                min_suppression_threshold=self.min_suppression_threshold,
            )
        )

    def close(self) -> None:
        """Free the network. MediaPipe can hang when the interpreter ends before this."""
        self._detector.close()

    def __call__(self, image: Image) -> Detections:
        import mediapipe as mp  # again, and so at once

        data = np.ascontiguousarray(image)
        faces = self._detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=data)).detections
        if not faces:
            return Detections.none()
        boxes = [(b.origin_x, b.origin_y, b.origin_x + b.width, b.origin_y + b.height) for b in (f.bounding_box for f in faces)]
        scores = [face.categories[0].score for face in faces]
        return Detections(np.float32(boxes), np.float32(scores)).reframed(*REFRAME[self.range])

    def network_inputs(self, image: Image) -> Floats:
        """Return about what MediaPipe gives the network for an image: 1 x 128 x 128 x 3 or 1 x 192 x 192 x 3, in -1..1."""
        return letterboxed(image, SIDE[self.range])[None] / np.float32(127.5) - 1


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Keep MediaPipe from importing TensorFlow, if it is installed, only to open files with it.

    That takes seconds, and a process that has TensorFlow dies when it imports PyTorch with Triton: both bring LLVM.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # what Python takes for an import that fails
    try:
        yield
    finally:
        del sys.modules["tensorflow"]
