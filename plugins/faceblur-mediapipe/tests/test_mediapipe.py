"""BlazeFace, both ranges, on real photos and against the contract."""

import subprocess
import sys

import numpy as np
import pytest
from skimage import data

from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import DetectorContract
from faceblur_core.types import box_iou

FACE = np.float32([[178, 65, 269, 176]])  # of the astronaut


class TestFullRange(DetectorContract):
    name = "mediapipe"
    photo = data.astronaut()


class TestShortRange(DetectorContract):
    name = "mediapipe"
    options = {"range": "short"}
    photo = data.astronaut()


@pytest.mark.parametrize("reach", ["full", "short"])
def test_the_box_is_the_whole_face(reach):
    """BlazeFace's own box ends at the brows; ours goes up to the forehead as WIDER FACE's does."""
    detector = installed_plugins().make("detector", "mediapipe", {"range": reach})
    found = detector(data.astronaut())
    assert box_iou(FACE, found.boxes[:1])[0, 0] > 0.7
    assert len(detector(data.coffee())) == 0
    close(detector)


def test_the_confidence_is_used():
    detector = installed_plugins().make("detector", "mediapipe", {"min_detection_confidence": 0.99})
    assert len(detector(data.astronaut())) == 0
    close(detector)


def test_a_second_detector_can_be_used_after_the_first_is_closed():
    for _ in range(3):
        detector = installed_plugins().make("detector", "mediapipe")
        assert len(detector(data.astronaut())) == 1
        close(detector)


def test_tensorflow_is_not_imported():
    code = "import faceblur_mediapipe.detector as d, sys; d.MediaPipeDetector().close(); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True).returncode == 0
