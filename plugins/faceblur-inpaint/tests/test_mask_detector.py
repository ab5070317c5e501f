"""The detector: thresholds, regions, the mask at full size, whole methods; the backends' contracts.

The network here is made by hand: it calls a face what is finely textured, and it is as good at that as a trained one.
"""

import json
import subprocess
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from faceblur_core.errors import FaceblurError, MissingDependency, UnknownName, UsageMistake
from faceblur_core.media.images import read_photo
from faceblur_core.methods import find_method
from faceblur_core.pipeline import network_of
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import BackendContract, DetectorContract, flat_images
from faceblur_core.types import Ellipse, HasNetwork
from faceblur_inpaint import SHIPPED, backends
from faceblur_inpaint.network import MaskUNet, save_network
from faceblur_inpaint.refine import guided, paint
from faceblur_inpaint.threshold import Region, cut_level, otsu_level, regions


def texture_network(path, channels=1):
    """Write a network that gives the probability of fine texture: the variance in 5 x 5 pixels, eroded by 9 x 9."""
    scalars = {"minus": -1.0, "steep": 400.0, "middle": -4.0, "grey": np.full((1, channels, 1, 1), 1 / channels)}
    nodes = [
        helper.make_node("Conv", ["photo", "grey"], ["x"]),
        helper.make_node("Mul", ["x", "x"], ["x2"]),
        *(
            helper.make_node("AveragePool", [one], [f"{one}_mean"], kernel_shape=[5, 5], pads=[2] * 4, count_include_pad=0)
            for one in ("x", "x2")
        ),
        helper.make_node("Mul", ["x_mean", "x_mean"], ["mean2"]),
        helper.make_node("Sub", ["mean2", "x2_mean"], ["negative"]),
        helper.make_node("MaxPool", ["negative"], ["eroded"], kernel_shape=[9, 9], pads=[4] * 4, strides=[1, 1]),
        helper.make_node("Mul", ["eroded", "minus"], ["variance"]),
        helper.make_node("Mul", ["variance", "steep"], ["steeper"]),
        helper.make_node("Add", ["steeper", "middle"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", count, 256, 256])
        for name, count in (("photo", channels), ("probability", 1))
    ]
    constants = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in scalars.items()]
    graph = helper.make_graph(nodes, "texture", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def portrait(height=600, width=900, faces=((300, 260, 110, 150),), grain=None):
    """Return a smooth photo with ellipses (cx, cy, rx, ry) of squares of ``grain`` pixels, and where they are."""
    grain = grain or max(1, max(height, width) // 128)
    y, x = np.mgrid[:height, :width]
    photo = np.stack([60 + 100 * x / width, 90 + 80 * y / height, 0 * x + 120], 2)
    inside = np.zeros((height, width), bool)
    for cx, cy, rx, ry in faces:
        inside |= np.hypot((x + 0.5 - cx) / rx, (y + 0.5 - cy) / ry) <= 1
    coarse = np.random.default_rng(0).integers(0, 2, (height // grain + 1, width // grain + 1, 1)) * 255
    texture = np.kron(coarse, np.ones((grain, grain, 1)))[:height, :width]
    return np.where(inside[..., None], texture, photo).astype(np.uint8), inside


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return texture_network(tmp_path_factory.mktemp("weights") / "texture.onnx")


def make(weights, **options):
    return installed_plugins().make("detector", "mask-unet", {"weights": str(weights), **options})


class TestMaskUNet(DetectorContract):
    name = "mask-unet"
    photo = portrait()[0]

    @pytest.fixture(autouse=True)
    def _give_weights(self, weights):
        type(self).options = {"weights": str(weights)}


class TestOnnx(BackendContract):
    name = "onnx"
    input_shape = (256, 256, 1)

    @pytest.fixture(autouse=True)
    def _give_model(self, weights):
        type(self).model = weights


class TestTorch(BackendContract):
    name = "torch"
    input_shape = (256, 256, 1)

    @pytest.fixture(autouse=True)
    def _give_model(self, tmp_path):
        type(self).model = tmp_path / "model.pt"
        save_network(MaskUNet(2), self.model)


# --- thresholds


def two_levels(share, low, high, size=40):
    probability = np.full((size, size), low, np.float32)
    probability[: round(share * size)] = high
    return probability


def test_known_levels():
    sure, unsure, none = two_levels(0.3, 0.02, 0.98), two_levels(0.3, 0.05, 0.45), two_levels(0.3, 0.01, 0.06)
    level = {"threshold": 0.5, "floor": 0.3}
    assert [cut_level(one, "fixed", **level) for one in (sure, unsure, none)] == [0.5, 0.5, 0.5]
    assert [cut_level(one, "histogram", **level) for one in (sure, unsure, none)] == pytest.approx([0.596, 0.29, 0.04])
    for one in (sure, unsure, none):
        assert one.min() <= cut_level(one, "otsu", **level) < one.max()
        assert 0.3 <= cut_level(one, "floored", **level) <= 0.5


maps = arrays.arrays(np.float32, (24, 30), elements=st.floats(0, 1, width=32))


@given(maps)
@settings(max_examples=40)
def test_histogram_marks_something_in_every_picture_that_is_not_flat(probability):
    level = cut_level(probability, "histogram", threshold=0.5, floor=0.3)
    assert (probability > level).any() == (np.ptp(probability) > 0)


@given(maps, st.floats(0.01, 0.6), st.floats(0, 0.39))
@settings(max_examples=40)
def test_floored_stays_within_its_limits_and_leaves_a_picture_without_faces_alone(probability, floor, more):
    threshold = floor + more
    level = cut_level(probability, "floored", threshold=threshold, floor=floor)
    assert floor <= level <= threshold
    faint = probability * np.float32(floor)
    assert not list(regions(faint, cut_level(faint, "floored", threshold=threshold, floor=floor), least=0, sure=0))


@given(maps)
@settings(max_examples=40)
def test_otsu_parts_the_values_with_the_greatest_variance_between(probability):
    values = np.rint(probability * 255)

    def between(level):
        low, high = values[values <= level], values[values > level]
        return low.size * high.size * (low.mean() - high.mean()) ** 2 if low.size and high.size else 0

    assert between(otsu_level(probability) * 255) == pytest.approx(max(map(between, range(256))), rel=1e-3)


@given(maps, st.floats(0.1, 0.9), st.integers(0, 60), st.floats(0, 1))
@settings(max_examples=40)
def test_regions(probability, level, least, sure):
    """They are apart, without holes, of at least that size, and hold all that is marked and large and sure enough."""
    drawn = np.zeros(probability.shape, int)
    for region in regions(probability, level, least=least, sure=sure):
        height, width = region.filled.shape
        box = drawn[region.top : region.top + height, region.left : region.left + width]
        values = probability[region.top : region.top + height, region.left : region.left + width][region.filled > 0]
        assert region.filled.sum() >= least and values.max() >= sure
        assert level - 1e-6 < region.score <= values.max() + 1e-6
        box += region.filled
    assert drawn.max() <= 1
    if least <= 1:
        assert (drawn[probability > max(level, sure)] == 1).all()
    background, labels = cv2.connectedComponents((drawn == 0).astype(np.uint8), connectivity=4)
    edge = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
    assert set(range(1, background)) <= edge


def test_a_hole_is_filled_and_counts():
    ring = np.zeros((40, 40), np.float32)
    cv2.circle(ring, (20, 18), 10, 0.9, 2)
    (region,) = regions(ring, 0.5, least=300, sure=0.8)
    assert region.filled[region.filled.shape[0] // 2, region.filled.shape[1] // 2] == 1
    assert region.score == pytest.approx(0.9)
    assert not list(regions(ring, 0.5, least=500, sure=0.8)) and not list(regions(ring, 0.5, least=0, sure=0.95))


# --- the mask at full size


def disc(size=64, radius=16):
    y, x = np.mgrid[:size, :size] + 0.5
    filled = (np.hypot(x - size / 2, y - size / 2) <= radius).astype(np.uint8)
    rows = slice(size // 2 - radius, size // 2 + radius)
    return Region(rows.start, rows.start, filled[rows, rows], 0.9)


@pytest.mark.parametrize("scale", [1, 3, 20])
@pytest.mark.parametrize("grow", [1, 1.5])
def test_the_region_is_covered_and_far_pixels_are_not(scale, grow):
    image = np.random.default_rng(0).integers(0, 256, (64 * scale, 64 * scale, 3), np.uint8)
    mask = np.zeros(image.shape[:2], np.float32)
    paint(mask, image, disc(), (64, 64), grow=grow, band=0.25)
    y, x = (np.mgrid[: 64 * scale, : 64 * scale] + 0.5) / scale - 32
    reach = np.hypot(x, y)
    assert mask[reach <= 16 * grow - 1].min() > 0.95 and mask[reach <= 16 * grow - 2].min() == 1
    assert mask[reach >= 16 * grow + 4 + 1.5].max() == 0


def test_the_band_follows_the_pictures_edge():
    """The photo has a step 1.5 pixels of the map outside the region: the mask goes on up to the step, not beyond."""
    image = np.full((640, 640, 3), 60, np.uint8)
    y, x = (np.mgrid[:640, :640] + 0.5) / 10 - 32
    image[np.hypot(x, y) <= 17.5] = 200
    mask = np.zeros((640, 640), np.float32)
    paint(mask, image, disc(), (64, 64), grow=1, band=0.25)
    reach = np.hypot(x, y)
    inside, outside = mask[(reach > 16.7) & (reach < 17.3)].mean(), mask[(reach > 17.7) & (reach < 18.3)].mean()
    assert inside > 2 * outside


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_any_region_of_any_photo_gives_a_mask(size, shape, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    mask = before = (rng.random(size) * 0.5).astype(np.float32)
    before = mask.copy()
    for region in regions(rng.random(shape, np.float32), 0.5, least=0, sure=0):
        paint(mask, image, region, shape, grow=1 + rng.random(), band=rng.random())
    assert mask.min() >= 0 and mask.max() <= 1 and (mask >= before).all()


def test_the_guided_filter_is_its_definition():
    """Pixel by pixel: the mean over all windows around it of what a ridge regression in each window says of it."""
    rng = np.random.default_rng(0)
    guide, values = rng.random((20, 22), np.float32), rng.random((20, 22), np.float32)
    slope, offset = guided(values, guide, 2)

    def window(array, y, x):
        return array[y - 2 : y + 3, x - 2 : x + 3].astype(float)

    def fitted(y, x):
        one, other = window(guide, y, x), window(values, y, x)
        a = np.mean((one - one.mean()) * (other - other.mean())) / (one.var() + 1e-3)
        return a, other.mean() - a * one.mean()

    expected = np.mean([fitted(y, x) for y in range(8, 13) for x in range(9, 14)], axis=0)
    assert (slope[10, 11], offset[10, 11]) == pytest.approx(tuple(expected), abs=1e-4)


# --- the detector


@pytest.mark.parametrize("size", [(600, 900), (900, 600), (100, 130), (256, 256)])
def test_a_face_is_marked_where_it_is(weights, size):
    height, width = size
    ellipse = (width * 0.4, height * 0.45, width * 0.15, height * 0.22)
    photo, inside = portrait(height, width, [ellipse])
    found = make(weights, grow=1.2)(photo)
    assert len(found) == 1 and found.scores[0] > 0.8
    assert found.mask[inside].mean() > 0.9 and found.mask[~inside].mean() < 0.05
    cx, cy, rx, ry = ellipse
    np.testing.assert_allclose(found.boxes[0], (cx - rx, cy - ry, cx + rx, cy + ry), atol=0.04 * max(size))


def test_two_faces_and_none(weights):
    photo, _ = portrait(faces=[(200, 300, 90, 120), (650, 280, 80, 110)])
    assert len(make(weights)(photo)) == 2
    for image in flat_images():
        found = make(weights)(image)
        assert len(found) == 0 and found.mask is None


def test_options(weights):
    photo, _ = portrait()
    area = {grow: make(weights, grow=grow)(photo).mask.sum() for grow in (1.0, 1.3)}
    assert 1.4 < area[1.3] / area[1.0] < 1.8
    assert len(make(weights, least=0.5)(photo)) == 0
    hard, soft = (make(weights, band=band)(photo).mask for band in (0, 0.4))
    assert ((hard > 0) & (hard < 1)).sum() < ((soft > 0) & (soft < 1)).sum()
    smooth = np.repeat(np.linspace(0, 255, 300, dtype=np.uint8)[None, :, None], 200, 0).repeat(3, 2)
    smooth[::7, ::7] += 30
    assert len(make(weights, rule="histogram", least=0)(smooth)) > 0 and len(make(weights)(smooth)) == 0
    with pytest.raises(UsageMistake, match="floor=0.7 must not be above threshold=0.5"):
        make(weights, floor=0.7)


def test_colour_networks_see_colour(tmp_path):
    photo, inside = portrait()
    made = make(texture_network(tmp_path / "rgb.onnx", 3))
    assert made.network_inputs(photo).shape == (1, 256, 256, 3)
    assert made(photo).mask[inside].mean() > 0.7


def test_the_network_can_be_exported(weights):
    made = make(weights)
    assert isinstance(made, HasNetwork) and made.network_file == weights
    assert made.quantized_file is None and made.parameters is None
    photo, _ = portrait(256, 128, [])
    batch = made.network_inputs(photo)
    assert batch.shape == (1, 256, 256, 1) and batch.dtype == np.float32
    assert not batch[0, :, :64].any() and not batch[0, :, 192:].any()
    np.testing.assert_allclose(batch[0, :, 64:192, 0] * 255, cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), atol=1e-3)


def test_methods_tiles_and_unions(weights):
    photo, inside = portrait()
    given = {"detector.weights": str(weights), "detector.grow": 1.3}
    method = find_method("mask-unet+inpaint", given, installed_plugins()).make()
    assert network_of(method) is method.detector
    whole = method(photo)
    assert whole.mask[inside].mean() > 0.8 and np.array_equal(whole.image[whole.mask == 0], photo[whole.mask == 0])
    both = {"detector.mask-unet.weights": str(weights)}
    assert find_method("haar|mask-unet", both, installed_plugins()).make()(photo).mask[inside].mean() > 0.5


def test_tiles_find_small_faces(weights):
    photo, inside = portrait(900, 1200, [(1000, 700, 30, 36)], grain=2)
    given = {"detector.weights": str(weights), "detector.grow": 1.3}
    assert not find_method("mask-unet+solid", given, installed_plugins()).make()(photo).mask.any()
    tiled = find_method("mask-unet+solid", {**given, "tile": 300}, installed_plugins()).make()(photo)
    assert tiled.mask[inside].mean() > 0.8 and tiled.mask[~inside].mean() < 0.01
    assert not tiled.image[tiled.mask == 1].any()


def test_bad_weights_are_one_line(tmp_path):
    with pytest.raises(UnknownName, match="no mask U-Net weights named 'none.onnx'"):
        make("none.onnx")
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "relu.onnx")
    with pytest.raises(FaceblurError, match="relu.onnx is no mask U-Net"):
        make(tmp_path / "relu.onnx")


# --- backends


def test_onnx_takes_channels_where_the_file_has_them(tmp_path):
    for name, shape in (("first", [1, 3, 8, 9]), ("last", [1, 8, 9, 3])):
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, shape) for end in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], name, ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, tmp_path / f"{name}.onnx")
        batch = np.random.default_rng(0).standard_normal((1, 8, 9, 3)).astype(np.float32)
        predict = backends.Onnx(threads=2).load(tmp_path / f"{name}.onnx")
        np.testing.assert_array_equal(predict(batch), np.maximum(batch, 0))
        with pytest.raises(FaceblurError, match="does not take an input of"):
            predict(batch[:, :4])


def test_ways_to_tflite_end_in_one_line(tmp_path, weights, monkeypatch):
    with pytest.raises(FaceblurError, match="has no way to .tflite; give the .pt file"):
        backends.Onnx().to_tflite(weights)
    save_network(MaskUNet(2), tmp_path / "m.pt")
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(MissingDependency, match="lowering m.pt needs litert-torch"):
        backends.Torch().to_tflite(tmp_path / "m.pt")


if find_spec("litert_torch"):  # no dependency: it asks for an older torch than the rest

    def test_tflite_says_what_torch_says(tmp_path):
        from ai_edge_litert.interpreter import Interpreter

        save_network(MaskUNet(4), tmp_path / "m.pt")
        interpreter = Interpreter(model_content=backends.Torch().to_tflite(tmp_path / "m.pt"))
        interpreter.allocate_tensors()
        batch = np.random.default_rng(0).random((1, 256, 256, 1), np.float32)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
        interpreter.invoke()
        made = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(made, backends.Torch().load(tmp_path / "m.pt")(batch), atol=1e-4)


def test_detection_needs_no_torch(weights):
    """And without it the backend torch says what to install."""
    code = f"""
import sys
sys.modules["torch"] = None
import numpy as np
from pathlib import Path
from faceblur_core.plugins import installed_plugins
from faceblur_core.errors import MissingDependency
installed_plugins().make("detector", "mask-unet", {{"weights": {str(weights)!r}}})(np.zeros((40, 50, 3), np.uint8))
try:
    installed_plugins().make("backend", "torch", {{}}).load(Path("m.pt"))
except MissingDependency as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "running m.pt needs torch: install faceblur-inpaint[train]" in done.stdout


# The network that ships


def portraits(shared, count):
    for path in sorted((shared / "data" / "celebahq" / "test" / "images").glob("*"))[:count]:
        yield read_photo(path.read_bytes()).frames[0].rgb()


def test_what_ships_is_small():
    assert all(weights.size <= 16_000_000 for weights in SHIPPED.values())


def test_faces_of_portraits_are_hidden_whole(shared):
    """The middle of YuNet's box, an ellipse that holds no hair; measured on all portraits: results/inpaint-celebahq-*."""
    find, mark = installed_plugins().make("detector", "yunet"), installed_plugins().make("detector", "mask-unet")
    hidden = []
    for photo in portraits(shared, 60):
        x1, y1, x2, y2 = find(photo).boxes[0]
        face = Ellipse((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2).inside(*photo.shape[:2], 0.8)
        mask = mark(photo).mask
        hidden.append(0.0 if mask is None else mask[face].mean())
    assert np.mean(np.array(hidden) > 0.95) >= 0.9


def test_pictures_without_a_face_stay_as_they_are(shared):
    mark = installed_plugins().make("detector", "mask-unet")
    paths = sorted((shared / "data" / "negatives" / "test").glob("*"))
    touched = [len(mark(read_photo(path.read_bytes()).frames[0].rgb())) > 0 for path in paths]
    assert len(touched) > 40 and np.mean(touched) <= 0.15


def test_the_int8_network_marks_what_the_float_one_marks(shared):
    float_, int8 = (installed_plugins().make("detector", "mask-unet", {"weights": name}) for name in SHIPPED)
    assert float_.quantized_file == int8.network_file and int8.parameters is None
    alike = []
    for photo in portraits(shared, 20):
        a, b = (one(photo).mask >= 0.5 for one in (float_, int8))
        alike.append((a & b).sum() / (a | b).sum())
    assert np.mean(alike) > 0.9


def test_it_goes_onto_a_board(tmp_path):
    """A network born in PyTorch, as C, byte by byte what TensorFlow Lite for Microcontrollers gives."""
    command = [sys.executable, "-m", "faceblur_core", "export-mcu", "--method", "mask-unet", "--board", "stm32n6"]
    done = subprocess.run(
        [*command, "--no-simulation", "-o", str(tmp_path / "board")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "board" / "report.json").read_text())
    assert (report["pictures"], report["mismatches"], report["recompute"]) == (1, 0, "r0")
    assert report["ram_bytes"] < 1 << 20
