"""Haar, YuNet and the DNN backend on real photos and against their contracts."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skimage import data

from faceblur_core.errors import FaceblurError
from faceblur_core.media.images import read_photo
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import BackendContract, DetectorContract, noise_image
from faceblur_core.types import Detections, box_iou
from faceblur_opencv.haar import FRONTAL, PROFILE, HaarDetector

FACE = np.float32([[178, 65, 269, 176]])  # of the astronaut


class TestHaar(DetectorContract):
    name = "haar"
    photo = data.astronaut()


class TestYuNet(DetectorContract):
    name = "yunet"
    photo = data.astronaut()


KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1)


def convolution(path):
    """Write a 1 x 1 convolution by hand."""
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 5, 6])
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(KERNEL, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


CONVOLUTION = convolution(Path(tempfile.mkdtemp()) / "net.onnx")


class TestOpenCVDnn(BackendContract):
    name = "opencv-dnn"
    model = CONVOLUTION
    input_shape = (5, 6, 3)


def make(name, **options):
    return installed_plugins().make("detector", name, options)


@pytest.mark.parametrize("name", ["haar", "yunet"])
def test_the_astronauts_face_is_found_where_it_is(name):
    found = make(name)(data.astronaut())
    assert box_iou(FACE, found.boxes[:1])[0, 0] > 0.5


@pytest.mark.parametrize("name", ["haar", "yunet"])
def test_there_is_no_face_in_coffee(name):
    assert len(make(name)(data.coffee())) == 0


def test_profiles_to_both_sides_are_found(shared):
    """A face seen from the left and its mirror image are both found, at mirrored places, and only with the profile cascade."""
    chosen = sorted((shared / "data" / "fddb" / "originalPics").rglob("*.jpg"))[:60]
    photos = [read_photo(path.read_bytes()).frames[0].rgb() for path in chosen]
    frontal, every = make("haar", profile=False), make("haar")
    more = [image for image in photos if len(every(image)) > len(frontal(image))]
    assert len(more) >= 3
    for image in more[:3]:
        width = image.shape[1]
        mirrored = every(np.ascontiguousarray(image[:, ::-1])).boxes
        back = np.stack([width - mirrored[:, 2], mirrored[:, 1], width - mirrored[:, 0], mirrored[:, 3]], axis=1)
        assert box_iou(every(image).boxes, back).max(axis=1).max() > 0.7


def test_a_score_of_haar_is_the_share_of_hits_with_such_a_weight_that_are_faces(monkeypatch):
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], np.float32)
    hits = {
        FRONTAL: Detections(boxes[:2], np.array([2.14, 2.14 + 1.67 * np.log(3)])),
        PROFILE: Detections(boxes[2:], np.array([0.20 - 2.89 * np.log(9)])),
    }
    monkeypatch.setattr(HaarDetector, "hits", lambda self, image: hits)
    assert make("haar")(noise_image()).scores == pytest.approx([0.75, 0.5, 0.1], abs=1e-6), "sorted by score"


def test_yunet_finds_landmarks_in_place():
    found = make("yunet")(data.astronaut())
    right_eye, left_eye, nose, right_mouth, left_mouth = found.landmarks[0]
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])


def test_yunet_reduces_large_photos_and_gives_boxes_of_the_original():
    large = np.asarray(np.kron(data.astronaut(), np.ones((4, 4, 1), np.uint8)))
    found = make("yunet", max_side=512)(large)
    assert box_iou(FACE * 4, found.boxes[:1])[0, 0] > 0.6


def test_the_threshold_is_used():
    scores = make("yunet", score_threshold=0.3)(data.astronaut()).scores
    assert len(make("yunet", score_threshold=float(scores.max()) + 0.01)(data.astronaut())) == 0


def test_tiny_pictures_give_no_garbage():
    """OpenCV's FaceDetectorYN answers pictures of one feature cell with boxes of 1e26 pixels; ours must not."""
    detector = make("yunet")
    for height, width in ((32, 3000), (32, 320), (1, 64), (64, 1), (320, 32)):
        image = noise_image(height, width)
        for box in detector(image).boxes:
            assert np.abs(box).max() < 4 * max(height, width)


def test_the_backend_refuses_an_input_of_another_shape(shared):
    predict = installed_plugins().make("backend", "opencv-dnn").load(shared / "models" / "mobilefacenet.onnx")
    with pytest.raises(FaceblurError, match="does not take an input"):
        predict(np.zeros((1, 7, 9, 2), np.float32))


def test_the_backend_gives_what_numpy_gives():
    """Batch, height, width and channels come out in the order that is promised."""
    batch = np.random.default_rng(0).random((1, 5, 6, 3), np.float32)
    backend = installed_plugins().make("backend", "opencv-dnn")
    np.testing.assert_allclose(backend.load(CONVOLUTION)(batch), batch @ KERNEL[:, :, 0, 0].T, rtol=1e-5)
    with pytest.raises(FaceblurError, match="cannot turn"):
        backend.to_tflite(CONVOLUTION)
