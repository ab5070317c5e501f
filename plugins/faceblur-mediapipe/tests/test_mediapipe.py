"""BlazeFace, both ranges, on real photos and against the contract."""

import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from skimage import data

from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import DetectorContract
from faceblur_core.types import HasNetwork, box_iou

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


@pytest.mark.parametrize(("reach", "side"), [("full", 192), ("short", 128)])
def test_the_network_can_be_exported(reach, side):
    """What is said of the network fits its file, and the network finds the face in it."""
    detector = installed_plugins().make("detector", "mediapipe", {"range": reach})
    assert isinstance(detector, HasNetwork) and detector.quantized_file is None
    given = detector.network_inputs(data.astronaut())
    close(detector)
    interpreter = Interpreter(model_path=str(detector.network_file))
    interpreter.allocate_tensors()
    (taken,), made = interpreter.get_input_details(), interpreter.get_output_details()
    assert given.shape == tuple(taken["shape"]) == (1, side, side, 3) and given.dtype == np.float32
    assert given.min() >= -1 and given.max() <= 1
    interpreter.set_tensor(taken["index"], given)
    interpreter.invoke()
    logits = next(values for values in (interpreter.get_tensor(one["index"]) for one in made) if values.shape[-1] == 1)
    assert logits.max() > 2, "a face, by far"


def test_tensorflow_is_not_imported():
    code = "import faceblur_mediapipe.detector as d, sys; d.MediaPipeDetector().close(); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True).returncode == 0
