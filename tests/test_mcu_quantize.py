"""Int8 from float: equalization keeps what a network computes, and the int8 network is near the float one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from mcu_models import NONE, RELU, RELU6, ModelBuilder, small_unet
from PIL import Image

from conftest import spawn
from faceblur_core.errors import FaceblurError
from faceblur_core.mcu import quantize as quantize_module
from faceblur_core.mcu.equalize import equalized
from faceblur_core.mcu.graph import parse, with_constants
from faceblur_core.mcu.quantize import quantize

pytestmark = pytest.mark.filterwarnings("ignore:.*preserve_all_tensors:UserWarning")


def photos(count: int = 4, size: int = 16) -> list[np.ndarray]:
    return [np.random.default_rng(seed).random((1, size, size, 3), np.float32) for seed in range(count)]


def outputs(model: bytes, inputs: list[np.ndarray], tensor: int | None = None) -> np.ndarray:
    interpreter = Interpreter(model_content=model, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    results = []
    for values in inputs:
        if given["dtype"] == np.int8:
            scale, zero = given["quantization"]
            values = np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(given["index"], values)
        interpreter.invoke()
        result = interpreter.get_tensor(made["index"] if tensor is None else tensor).astype(np.float32)
        if made["dtype"] == np.int8 and tensor is None:
            scale, zero = made["quantization"]
            result = (result - zero) * scale
        results.append(result)
    return np.concatenate(results)


def uneven_unet() -> bytes:
    """A float U-Net in which the channels of every convolution have ranges from 1 to 1000."""
    model = small_unet(floats=True)
    graph = parse(model)
    constants = {}
    for operator in graph.operators:
        if operator.kind in ("CONV_2D", "TRANSPOSE_CONV") and operator.outputs[0] != graph.operators[-1].inputs[0]:
            weights, bias = (operator.inputs[index] for index in ((1, 3) if operator.kind == "TRANSPOSE_CONV" else (1, 2)))
            factors = np.geomspace(0.01, 1, graph.tensors[weights].shape[0])
            constants[weights] = graph.tensors[weights].data * factors[:, None, None, None] * 0.3
            constants[bias] = graph.tensors[bias].data * factors
    return with_constants(model, constants)


def largest(model: bytes, kind: str) -> list[np.ndarray]:
    """The largest absolute value of each channel that the operators of a kind put out."""
    indices = [operator.outputs[0] for operator in parse(model).operators if operator.kind == kind]
    return [np.abs(outputs(model, photos(), index)).max(axis=(0, 1, 2)) for index in indices]


def test_an_equalized_network_computes_the_same() -> None:
    model = uneven_unet()
    stretched = equalized(model, photos())
    assert stretched != model
    assert len(stretched) <= len(model) + 2000
    np.testing.assert_allclose(outputs(stretched, photos(9)), outputs(model, photos(9)), atol=1e-5)


def test_channels_that_meet_have_one_range() -> None:
    before, after = (largest(model, "CONCATENATION") for model in (uneven_unet(), equalized(uneven_unet(), photos())))
    for ranges, stretched in zip(before, after, strict=True):
        alive = ranges > 1e-4 * ranges.max()
        assert ranges[alive].max() > 20 * ranges[alive].min()
        np.testing.assert_allclose(stretched[alive], ranges.max(), rtol=1e-4)


def test_int8_loses_less_than_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def error() -> float:
        return float(np.mean(np.square(outputs(quantize(model, photos()), photos(9)) - outputs(model, photos(9)))))

    even = chain()
    graph = parse(even)
    first, second = graph.operators
    factors = np.geomspace(0.01, 1, 4)  # what the second convolution needs is in channels of very different ranges
    constants = {index: graph.tensors[index].data.T * factors for index in first.inputs[1:]}
    constants[second.inputs[1]] = graph.tensors[second.inputs[1]].data / factors
    model = with_constants(even, {index: values.T if index in first.inputs else values for index, values in constants.items()})
    with_it = error()
    monkeypatch.setattr(quantize_module, "equalized", lambda content, inputs: content)
    assert with_it < 0.1 * error()


def test_the_inputs_whole_range_is_kept() -> None:
    inputs = [np.full((1, 16, 16, 3), value, np.float32) for value in (0.5, 0, 1, 0.5, 0.5)]
    graph = parse(quantize(small_unet(floats=True), inputs))
    photo = graph.tensors[graph.inputs[0]]
    assert photo.zero_point == -128
    assert photo.scale == pytest.approx(1 / 255)


def chain(activation: int = RELU, *, read_by: str = "CONV_2D") -> bytes:
    """Two convolutions; what the first one puts out goes through ``read_by`` to the second."""
    rng = np.random.default_rng(0)
    model = ModelBuilder()
    photo = model.tensor((1, 16, 16, 3), 1 / 255, -128)
    x = model.conv(rng, photo, 4, activation=activation)
    if read_by == "LOGISTIC":
        x = model.like("LOGISTIC", x, 1 / 256, -128)
    x = model.conv(rng, x, 3, activation=NONE)
    model.to_float()
    return model.build([photo], [x])


@pytest.mark.parametrize(("model", "touched"), [(chain(), True), (chain(RELU6), False), (chain(read_by="LOGISTIC"), False)])
def test_only_what_commutes_with_a_factor_is_stretched(model: bytes, touched: bool) -> None:
    assert (equalized(model, photos()) != model) is touched
    np.testing.assert_allclose(outputs(equalized(model, photos()), photos()), outputs(model, photos()), rtol=1e-4, atol=1e-4)


def test_a_grouped_convolution_is_quantized_and_left_as_it_is() -> None:
    rng, model = np.random.default_rng(0), ModelBuilder()
    photo = model.tensor((1, 16, 16, 3), 1 / 255, -128)
    x = model.conv(rng, photo, 8)
    weights = rng.integers(-127, 128, (8, 3, 3, 4), np.int8)  # two groups
    out = model.tensor((1, 16, 16, 8), 0.1, -128)
    constants = model.weights_and_bias(rng, weights, x, 8, 0)
    model.op("CONV_2D", [x, *constants], out, "Conv2DOptions", padding=0, strideH=1, strideW=1, fusedActivationFunction=RELU)
    y = model.conv(rng, out, 3, activation=NONE)
    model.to_float()
    content = model.build([photo], [y])
    assert equalized(content, photos()) == content
    assert parse(quantize(content, photos())).is_int8()


def test_weights_that_two_convolutions_share_stay() -> None:
    rng = np.random.default_rng(0)
    model = ModelBuilder()
    photo = model.tensor((1, 16, 16, 3), 1 / 255, -128)
    x = model.conv(rng, photo, 3)
    x = model.conv(rng, x, 3)
    first, second = model.graph.operators
    second.inputs = np.array([second.inputs[0], *first.inputs[1:]], np.int32)
    model.to_float()
    shared = model.build([photo], [x])
    assert equalized(shared, photos()) == shared


COMMAND = ("quantize", "-m", "mediapipe", "--set", "detector.range=short", "-c", "list.yaml")


@pytest.mark.parametrize("option", ["-o", "--float"])
def test_a_file_that_cannot_be_written_is_told_before_the_work(option: str, tmp_path: Path, cli) -> None:
    (tmp_path / "notes.txt").write_text("notes of mine")
    result = cli(*COMMAND, "-o", tmp_path / "out.tflite", option, tmp_path / "notes.txt" / "x.tflite")
    assert result.code == 2 and "notes.txt is no folder" in result.err and result.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("shared")
def test_a_network_with_several_outputs_is_quantized_without_a_comparison(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("pictures: [a.png]")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "out.tflite").write_bytes(chain())  # replaced, for it is a network too
    done = spawn(*COMMAND, "-o", "out.tflite", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("; not compared with the float network, for it has 2 outputs\n")
    assert len(parse((tmp_path / "out.tflite").read_bytes()).outputs) == 2


@pytest.mark.parametrize("option", ["-o", "--float"])
def test_no_other_file_is_replaced_by_a_network(option: str, tmp_path: Path, cli) -> None:
    mine = tmp_path / "notes.txt"
    mine.write_text("notes of mine")
    result = cli(*COMMAND, "-o", tmp_path / "out.tflite", option, mine)
    assert result.code == 2 and result.err == f"faceblur: {mine} is there and is no .tflite model; choose another name\n"
    assert mine.read_text() == "notes of mine"


@pytest.mark.usefixtures("shared")
def test_the_network_itself_is_not_replaced_by_what_is_made_of_it(tmp_path: Path, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    same = cli(*COMMAND, "-o", tmp_path / "out.tflite", "--float", tmp_path / "." / "out.tflite")
    assert same.code == 2 and "-o and --float name the same file" in same.err and same.err.count("\n") == 1
    (tmp_path / "list.yaml").write_text("pictures: [a.png]")
    shutil.copytree(os.environ["FACEBLUR_MODELS"], tmp_path / "models")
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path / "models"))
    mine = tmp_path / "models" / "blaze_face_short_range.tflite"
    before = mine.read_bytes()
    for option in ("-o", "--float"):
        result = cli(*COMMAND[:-1], tmp_path / "list.yaml", "-o", tmp_path / "out.tflite", option, mine)
        assert result.code == 2 and result.err == f"faceblur: {mine} is the network itself; choose another name\n"
    assert mine.read_bytes() == before and not (tmp_path / "out.tflite").exists()


def test_constants_of_another_shape_are_refused() -> None:
    model = small_unet(floats=True)
    with pytest.raises(ValueError, match="no float32 constant"):
        with_constants(model, {parse(model).operators[0].inputs[1]: np.zeros((1, 2))})
    with pytest.raises(FaceblurError, match=r"no \.tflite file"):
        with_constants(b"not one", {})
