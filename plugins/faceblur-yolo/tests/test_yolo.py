"""Ultralytics models: the face model on real photos, person models by their head part, class filters, ONNX."""

import subprocess
import sys

import numpy as np
import pytest
from skimage import data

from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import DetectorContract
from faceblur_core.types import box_iou
from faceblur_yolo import SHIPPED
from faceblur_yolo.detector import choose_classes, head_part

FACE = np.float32([[178, 65, 269, 176]])  # of the astronaut


class TestYolo(DetectorContract):
    name = "yolo"
    photo = data.astronaut()


def make(**options):
    return installed_plugins().make("detector", "yolo", options)


def test_the_astronauts_face_is_found_where_it_is():
    found = make()(data.astronaut())
    assert box_iou(FACE, found.boxes[:1])[0, 0] > 0.6
    assert len(make()(data.coffee())) == 0  # a cup


def test_what_ships_is_small():
    assert all(weights.size <= 6_000_000 for weights in SHIPPED.values())


def test_a_model_in_the_folder_of_models(shared, monkeypatch):
    monkeypatch.setenv("FACEBLUR_MODELS", str(shared / "models"))
    detector = make(weights="yolov8p-face-v2.pt")
    assert detector.model_files == [shared / "models" / "yolov8p-face-v2.pt"]
    assert box_iou(FACE, detector(data.astronaut()).boxes[:1])[0, 0] > 0.7


def test_pillow_stays_as_it_was(tmp_path):
    """In a process of its own: Ultralytics is imported once."""
    (tmp_path / "no.jpg").write_text("no picture")
    command = [sys.executable, "-m", "faceblur_core", "run", "-m", "yolo", "no.jpg", "-o", "out.jpg"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("faceblur: no.jpg: not a picture")


def test_the_confidence_is_used():
    assert len(make(conf=0.99)(data.astronaut())) == 0


COCO = {0: "person", 1: "bicycle", 2: "car"}


def test_faces_come_before_persons():
    assert choose_classes({0: "face"}, None) == ([0], [])
    assert choose_classes({0: "person", 1: "Human face"}, None) == ([1], [])
    assert choose_classes(COCO, None) == ([0], [0])
    assert choose_classes(COCO, ["car", "person"]) == ([0, 2], [0])
    with pytest.raises(UsageMistake, match="no class face or person"):
        choose_classes({0: "cat"}, None)
    with pytest.raises(UsageMistake, match="no class 'lorry'; it has: person, bicycle, car"):
        choose_classes(COCO, ["lorry"])
    with pytest.raises(UsageMistake, match="name one class or more"):
        choose_classes(COCO, [])


def test_a_device_that_is_not_there():
    with pytest.raises(UsageMistake, match="^device=abacus: PyTorch finds no such device here$"):
        make(device="abacus")


def test_the_head_part_of_a_person():
    boxes = np.float32([[100, 50, 200, 350], [100, 50, 300, 150]])  # standing; arms stretched out
    assert head_part(boxes, 0.6).tolist() == [[100, 50, 200, 110], [100, 50, 300, 110]]


@pytest.fixture(scope="module")
def person_model(tmp_path_factory):
    """An untrained network with COCO's classes, small, saved as a checkpoint: persons where it looks closest, else things."""
    import torch
    from ultralytics import YOLO

    path = tmp_path_factory.mktemp("yolo") / "persons.pt"
    torch.manual_seed(1)
    model = YOLO("yolov8n.yaml", task="detect")
    with torch.no_grad():
        for index, level in enumerate(model.model.model[-1].cv3):
            level[-1].bias[min(index, 1)] = -3.0  # of a level all cells have one class, more likely than all others (about -11)
    model.model.names = {index: "person" if index == 0 else f"thing {index}" for index in range(80)}
    model.save(path)
    return path


def test_a_person_model_loads_and_reports_persons_only(person_model):
    detector = make(weights=str(person_model), conf=0.0, max_det=50, imgsz=64, head=0.2)
    found = detector(data.astronaut())
    assert detector.model_files == [person_model]
    wish = {"conf": 0.0, "max_det": 50, "imgsz": 64, "iou": 0.7, "verbose": False}
    everything, persons = (
        detector._model.predict(data.astronaut()[..., ::-1], classes=classes, **wish)[0].boxes for classes in (None, [0])
    )
    assert (everything.cls != 0).any() and (persons.cls == 0).all() and len(persons) > 5
    heads, whole = found.boxes, persons.xyxy.numpy()
    np.testing.assert_allclose(heads, head_part(whole, 0.2), atol=1e-3)
    assert (heads[:, 3] < whole[:, 3] - 1).any()


def test_faces_may_overlap_less_than_persons(person_model):
    faces, more = make(conf=0.001)(data.astronaut()), make(conf=0.001, iou=0.7)(data.astronaut())
    assert len(faces) < len(more) and np.triu(box_iou(faces.boxes, faces.boxes), 1).max() <= 0.5
    persons = [
        make(weights=str(person_model), conf=0.0, imgsz=64, **wish)(data.astronaut()) for wish in ({}, {"iou": 0.7}, {"iou": 0.5})
    ]
    assert len(persons[0]) == len(persons[1]) > len(persons[2])


@pytest.mark.filterwarnings("ignore")  # torch's exporter and tracer
def test_an_onnx_file_gives_the_boxes_of_its_checkpoint(tmp_path, shared):
    import shutil

    from onnx import load, save
    from ultralytics import YOLO

    copy = tmp_path / "face.pt"
    shutil.copy(shared / "models" / "yolov8p-face-v2.pt", copy)
    onnx = YOLO(str(copy)).export(format="onnx", imgsz=480, simplify=False, verbose=False)
    ours, theirs = (make(weights=str(file))(data.astronaut()) for file in (copy, onnx))
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1)
    assert theirs.scores[0] == pytest.approx(ours.scores[0], abs=0.01)
    untold = load(onnx)  # of one size, and it does not say so
    del untold.metadata_props[[entry.key for entry in untold.metadata_props].index("imgsz")]
    save(untold, tmp_path / "untold.onnx")
    same = make(weights=str(tmp_path / "untold.onnx"))(data.astronaut())
    np.testing.assert_allclose(same.boxes, theirs.boxes, atol=0.01)


def test_files_that_are_no_models_are_one_line(tmp_path):
    with pytest.raises(UnknownName, match="no YOLO weights named 'nothing.pt'"):
        make(weights="nothing.pt")
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(FaceblurError, match="is no model that Ultralytics can load") as caught:
        make(weights=str(tmp_path / "noise.pt"))
    assert "\n" not in caught.value.message
