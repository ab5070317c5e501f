"""MediaPipe's face detectors for faceblur."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, Weights, hookimpl

SHORT = Weights(
    file="blaze_face_short_range.tflite",
    sha256=(
        "b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",  # the same network, other metadata
    ),
    licence="Apache-2.0",
    size=229_746,
    url="https://storage.googleapis.com/mediapipe-models/face_detector/blaze_face_short_range/float16/1/"
    "blaze_face_short_range.tflite",
)
FULL = Weights(
    file="blaze_face_full_range_sparse.tflite",
    sha256=("2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",),
    licence="Apache-2.0",
    size=676_746,
    url="https://storage.googleapis.com/mediapipe-assets/face_detection_full_range_sparse.tflite?generation=1674261618323821",
)


@hookimpl
def faceblur_detectors() -> Iterable[Component]:
    yield Component(
        name="mediapipe",
        summary="BlazeFace, full or short range (Bazarevsky et al., 2019)",
        factory="faceblur_mediapipe.detector:MediaPipeDetector",
        licence="MIT AND Apache-2.0",
        weights=(FULL, SHORT),
    )
