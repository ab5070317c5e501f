"""YOLO in ONNX files: the frame against Ultralytics' own, boxes beside those of the method yolo, decoding by hand, refusals."""

import ast
import os
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from faceblur_core.builtin.metrics import match
from faceblur_core.datasets.labels import BadRows
from faceblur_core.datasets.wider import WiderFace
from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import DetectorContract, noise_image
from faceblur_core.types import Sample, box_iou
from faceblur_core.weights import locate
from faceblur_yolo_onnx import DEFAULT, SHIPPED
from faceblur_yolo_onnx import frame as frames

PEAKS = np.float32([[16, 20, 8, 12, 0.9, 0.1], [17, 20, 8, 12, 0.8, 0.1], [48, 40, 10, 10, 0.6, 0.1], [30, 50, 6, 6, 0.1, 0.9]])


def network(path, places=PEAKS, names="{0: 'face', 1: 'hand'}", size=("H", "W"), stride="32"):
    """Write a network that gives the same places (cx cy w h and scores) for every picture that is not flat."""
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("ReduceMin", ["images"], ["least"], keepdims=0),
        helper.make_node("Sub", ["most", "least"], ["range"]),
        helper.make_node("Ceil", ["range"], ["one"]),
        helper.make_node("Mul", ["places", "one"], ["output0"]),
    ]
    values = np.ascontiguousarray(places.T[None])
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, *size])
    made = helper.make_tensor_value_info("output0", TensorProto.FLOAT, values.shape)
    graph = helper.make_graph(nodes, "places", [given], [made], [numpy_helper.from_array(values, "places")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if names:
        helper.set_model_props(model, {"names": names, "stride": stride})
    onnx.save(model, path)
    return path


def make(weights, **options):
    return installed_plugins().make("detector", "yolo-onnx", {"weights": str(weights), **options})


class TestYoloOnnx(DetectorContract):
    name = "yolo-onnx"

    @pytest.fixture(autouse=True)
    def _give_photo(self, astronaut):
        type(self).photo = astronaut


# --- the network that ships


@pytest.fixture(scope="module")
def wider_photos(shared):
    """100 photos of WIDER FACE's validation set with their boxes, from all of its list."""
    importer = WiderFace(shared / "data/wider/images", shared / "data/wider/wider_face_split/wider_face_val_bbx_gt.txt")
    photos = list(importer(BadRows()))
    return [(cv2.imread(str(photo.path))[..., ::-1], photo) for photo in photos[:: len(photos) // 100][:100]]


def test_the_boxes_of_yolo_on_100_photos(wider_photos):
    ours, theirs = (installed_plugins().make("detector", name, {}) for name in ("yolo-onnx", "yolo"))
    both = 0
    for image, photo in wider_photos:
        a, b = ours(image), theirs(image)
        assert abs(len(a) - len(b)) <= 1  # a score at the threshold
        overlap = box_iou(a.boxes, b.boxes)
        for index in range(len(a)):
            match = int(overlap[index].argmax()) if len(b) else -1
            if abs(a.scores[index] - 0.25) < 0.01 and (match < 0 or overlap[index, match] < 0.8):
                continue
            np.testing.assert_allclose(a.boxes[index], b.boxes[match], atol=1, err_msg=photo.path.name)
            assert a.scores[index] == pytest.approx(b.scores[match], abs=0.01)
            both += 1
    assert both > 200


def test_it_finds_most_faces_of_a_tenth_of_the_height_and_little_else(wider_photos):
    """Floors are below what was measured: see the model card."""
    detector = installed_plugins().make("detector", "yolo-onnx", {})
    faces = hits = boxes = 0
    for image, photo in wider_photos:
        tall = [2 * face.ellipse.half_extent()[1] >= 0.1 * len(image) and "ignore" not in face.flags for face in photo.faces]
        counted, rest = (
            tuple(f.ellipse for f, t in zip(photo.faces, tall, strict=True) if t == wanted) for wanted in (True, False)
        )
        found = detector(image)
        matched = match(
            found.select(found.boxes[:, 3] - found.boxes[:, 1] >= 0.1 * len(image)), Sample("", image, counted, ignored=rest)
        )
        faces, hits, boxes = faces + len(counted), hits + int(matched.correct.sum()), boxes + len(matched.correct)
    assert hits / faces >= 0.7 and hits / boxes >= 0.8


def test_faces_that_fill_the_picture_are_found_in_a_second_look(shared):
    """Photos of UTKFace, 200 x 200 pixels. Measured: all of the faces with it, half without."""
    paths = sorted((shared / "data/utkface/test").glob("*.jpg"))[::10]
    onnx_, once, yolo = (
        installed_plugins().make("detector", name, options)
        for name, options in (("yolo-onnx", {}), ("yolo-onnx", {"closeup": 0}), ("yolo", {}))
    )
    found = []
    for path in paths:
        image = cv2.imread(str(path))[..., ::-1]
        ours = onnx_(image).boxes
        np.testing.assert_allclose(ours, yolo(image).boxes, atol=1, err_msg=path.name)
        found.append([bool((boxes[:, 3] - boxes[:, 1] > 120).any()) for boxes in (ours, once(image).boxes)])
    twice, alone = np.mean(found, axis=0)
    assert len(paths) >= 50 and twice >= 0.95 and alone <= 0.8


def test_it_finds_hardly_a_face_where_only_smooth_colours_are_left(shared):
    """Of photos of places and things; networks that know blurred faces see them there. Measured: 5 of 47."""
    detector = installed_plugins().make("detector", "yolo-onnx", {})
    paths = sorted((shared / "data/negatives/test").glob("*.jpg"))
    boxes = []
    for number, path in enumerate(paths):
        image = cv2.imread(str(path))[..., ::-1]
        few = cv2.resize(image, (2 + number % 15,) * 2, interpolation=cv2.INTER_AREA)
        boxes.append(len(detector(cv2.resize(few, image.shape[1::-1], interpolation=cv2.INTER_LINEAR))))
    assert len(paths) > 40 and np.mean(np.array(boxes) > 0) <= 0.13


def test_the_file_is_small_and_names_nobody():
    path = locate(SHIPPED[DEFAULT])
    assert SHIPPED[DEFAULT].size <= 6_000_000
    model = onnx.load(path)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert ast.literal_eval(said["names"]) == {0: "face"} and said["stride"] == "32" and "AGPL-3.0" in said["license"]
    assert model.opset_import[0].version == 17 and model.producer_name == "faceblur"
    assert b"site-packages" not in path.read_bytes() and b".py" not in path.read_bytes()


# --- the frame


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([32, 320, 416, 600, 640]))
@settings(max_examples=200)
def test_the_frame_is_that_of_ultralytics(height, width, imgsz):
    from ultralytics.data.augment import LetterBox

    frame = frames.fitted(height, width, imgsz)
    side = -(-imgsz // 32) * 32
    there = LetterBox((side, side), auto=True, stride=32).get_params({"img": np.empty((height, width, 0))})
    assert frame.inner[::-1] == there["new_unpad"] and (frame.top, frame.left) == (there["top"], there["left"])
    assert frame.outer[0] == frame.inner[0] + there["top"] + there["bottom"]
    assert frame.outer[1] == frame.inner[1] + there["left"] + there["right"]
    fixed = frames.fixed(height, width, (side, side))
    there = LetterBox((side, side), auto=False).get_params({"img": np.empty((height, width, 0))})
    assert fixed.inner == frame.inner and fixed.outer == (side, side) and (fixed.top, fixed.left) == (there["top"], there["left"])


def test_the_picture_is_that_of_ultralytics():
    from ultralytics.data.augment import LetterBox

    for shape in ((100, 333), (333, 100), (64, 64), (37, 640), (1, 1)):
        image = noise_image(*shape)
        there = LetterBox((320, 320), auto=True, stride=32)(image=image)
        assert np.array_equal(frames.fitted(*shape, 320).paint(image), there)


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([64, 416, 640]), st.data())
def test_boxes_come_back(height, width, imgsz, data):
    frame = frames.fitted(height, width, imgsz)
    assert frame.outer[0] % 32 == frame.outer[1] % 32 == 0 and max(frame.inner) <= imgsz
    xs = sorted(data.draw(st.tuples(st.floats(0, width), st.floats(0, width))))
    ys = sorted(data.draw(st.tuples(st.floats(0, height), st.floats(0, height))))
    box = np.float64([[xs[0], ys[0], xs[1], ys[1]]])
    scale = np.array([frame.inner[1] / width, frame.inner[0] / height] * 2)
    there = box * scale + [frame.left, frame.top, frame.left, frame.top]
    assert (there[0, 2:] <= np.array(frame.outer[::-1]) + 1e-6).all()
    np.testing.assert_allclose(frame.to_photo(there.astype(np.float32)), box, atol=0.01 * max(height, width) / imgsz + 0.001)


# --- decoding


def test_known_places(tmp_path):
    detector = make(network(tmp_path / "n.onnx"), imgsz=64)
    found = detector(noise_image(128, 128))  # seen at half its size
    assert found.boxes.tolist() == [[24, 28, 40, 52], [86, 70, 106, 90]] and found.scores == pytest.approx([0.9, 0.6])
    assert len(make(tmp_path / "n.onnx", imgsz=64, iou=0.95)(noise_image(128, 128))) == 3
    assert len(make(tmp_path / "n.onnx", imgsz=64, conf=0.7)(noise_image(128, 128))) == 1
    assert make(tmp_path / "n.onnx", imgsz=64, max_det=1)(noise_image(128, 128)).scores == pytest.approx([0.9])
    assert len(detector(np.zeros((64, 64, 3), np.uint8))) == 0


def test_a_file_of_one_size(tmp_path):
    found = make(network(tmp_path / "n.onnx", size=(64, 96)), imgsz=640)(noise_image(64, 64))
    assert found.boxes[0].tolist() == [0, 14, 4, 26]  # 16 columns of grey on the left


def test_a_second_look_for_what_is_large(tmp_path):
    """The network gives the same places at any size: boxes of 8 x 12, 10 x 10 in 512 pixels, and twice that in 256."""
    near = np.float32([[100, 100, 130, 120, 0.39, 0.1], [100, 100, 120, 130, 0.5, 0.1], [100, 100, 20, 20, 0.9, 0.1]])
    path, image = network(tmp_path / "n.onnx", near), noise_image(512, 512)
    twice, once = make(path, imgsz=512)(image), make(path, imgsz=512, closeup=0)(image)
    assert once.scores == pytest.approx([0.9, 0.5]) and once.boxes[1].tolist() == [40, 35, 160, 165]
    assert twice.scores == pytest.approx([0.9, 0.5, 0.5]) and twice.boxes[2].tolist() == [80, 70, 320, 330]
    assert len(make(path, imgsz=512, max_det=2)(image)) == 2
    assert len(make(path, imgsz=256)(noise_image(256, 256))) == 2  # the second look would be no coarser


def test_a_file_with_coarser_cells(tmp_path):
    found = make(network(tmp_path / "n.onnx", stride="64"), imgsz=96)(noise_image(128, 96))  # 128 x 96 in 128 x 128
    assert found.boxes[0].tolist() == [0, 14, 4, 26]
    assert make(network(tmp_path / "n.onnx", stride="8"), imgsz=64)(noise_image(64, 33)).boxes[0].tolist() == [0, 14, 5, 26]


def test_a_file_that_names_no_classes_and_has_one(tmp_path):
    assert len(make(network(tmp_path / "n.onnx", PEAKS[:, :5], names=""), imgsz=64)(noise_image(64, 64))) == 2


def test_a_file_whose_classes_do_not_begin_at_0(tmp_path):
    assert make(network(tmp_path / "n.onnx", names="{1: 'face'}"), imgsz=64)(noise_image(64, 64)).scores == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"places": np.zeros((6, 300), np.float32)}, FaceblurError, "suppresses boxes itself; export it without that"),
        ({"names": "{0: 'person', 1: 'car'}"}, UsageMistake, r"has no class face \(person, car\); the method yolo also"),
        ({"names": ""}, UsageMistake, r"has no class face \(it names none\)"),
        ({"names": "{0: 'face', 1: 'hand', 2: 'foot'}"}, FaceblurError, r"is no YOLO detector: it makes \(1, 6, 4\)"),
    ],
)
def test_models_of_something_else_are_one_line(tmp_path, options, error, message):
    with pytest.raises(error, match=message) as caught:
        make(network(tmp_path / "n.onnx", **options))
    assert "\n" not in caught.value.message


def test_files_that_are_no_models_are_one_line(tmp_path):
    with pytest.raises(UnknownName, match="no YOLO face weights named 'nothing.onnx'"):
        make("nothing.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    with pytest.raises(FaceblurError, match="is no ONNX model"):
        make(tmp_path / "noise.onnx")


def test_what_lies_in_the_bars_is_no_face(tmp_path):
    detector, frame = make(network(tmp_path / "n.onnx"), imgsz=64), frames.fitted(64, 50, 64)
    assert frame.left > 3
    boxes = np.float32([[1, 30, 2, 10], [32, 30, 20, 20]])  # centres and sizes, the first in the bar on the left
    output = np.concatenate([boxes.T, np.full((detector._classes, 2), 0.9, np.float32)])
    assert len(detector.decoded(output, frame)) == 1


def test_nothing_is_told_to_the_runtimes_maker(tmp_path):
    """ONNX Runtime would queue events in the home folder, with an identity of the machine, and send them."""
    weights, home = network(tmp_path / "n.onnx"), tmp_path / "home"
    home.mkdir()
    code = (
        "from faceblur_yolo_onnx.detector import YoloOnnxDetector; import numpy as np\n"
        f"print(len(YoloOnnxDetector(weights={str(weights)!r}, imgsz=64)(np.zeros((64, 64, 3), np.uint8))))"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
    environment = {**kept, "HOME": str(home), "TMPDIR": str(home)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert not list(home.rglob("*"))


def test_it_needs_neither_torch_nor_ultralytics(tmp_path):
    weights = network(tmp_path / "n.onnx")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'ultralytics', 'faceblur_yolo')))\n"
        "import numpy as np; from faceblur_yolo_onnx.detector import YoloOnnxDetector\n"
        f"d = YoloOnnxDetector(weights={str(weights)!r}, imgsz=64)\n"
        "print(len(d(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
