"""Each kernel of the generated C against NumPy, and NumPy against tflite-micro, with random shapes, scales and zero points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mcu_models import NONE, RELU, RELU6, SAME, VALID, ModelBuilder
from mcu_reference import run

from faceblur_core.mcu.codegen import generate
from faceblur_core.mcu.graph import UnsupportedOperator, parse
from faceblur_core.mcu.host import HostNetwork
from faceblur_core.mcu.oracle import Oracle
from faceblur_core.mcu.plan import plan

SANITIZED = ("-Werror", "-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan")
QUICK = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

scales = st.floats(0.002, 0.2)
zeros = st.integers(-128, 127)
kernels = st.sampled_from([(1, 1), (3, 3), (5, 5), (2, 3), (1, 4)])
strides = st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 1)])
paddings = st.sampled_from([SAME, VALID])
activations = st.sampled_from([NONE, RELU, RELU6])


def check(model: bytes, seed: int, flags: Sequence[str] = SANITIZED) -> None:
    """Compare C, NumPy and tflite-micro on noise, and on what lies at the ends of the range."""
    graph = parse(model)
    oracle, made = Oracle(model), plan(graph)
    network = HostNetwork(generate(made, "test"), made, flags)
    shape = graph.tensors[graph.inputs[0]].shape
    rng = np.random.default_rng(seed)
    for frame in (rng.integers(-128, 128, shape, np.int8), rng.choice(np.array([-128, 127], np.int8), shape)):
        expected = run(graph, frame)
        np.testing.assert_array_equal(oracle(frame), expected)
        np.testing.assert_array_equal(network(frame), expected)


def start(data: st.DataObject, channels: int | None = None) -> tuple[ModelBuilder, np.random.Generator, int]:
    """Return a model with an input of random shape and quantization."""
    model = ModelBuilder()
    height, width = data.draw(st.integers(5, 9), "height"), data.draw(st.integers(5, 11), "width")
    channels = channels or data.draw(st.integers(1, 19), "channels")
    source = model.tensor((1, height, width, channels), data.draw(scales, "scale"), data.draw(zeros, "zero"))
    return model, np.random.default_rng(data.draw(st.integers(0, 99), "seed")), source


@QUICK
@given(st.data())
def test_convolution(data: st.DataObject) -> None:
    model, rng, source = start(data)
    out = model.conv(
        rng,
        source,
        data.draw(st.integers(1, 9)),
        data.draw(kernels),
        data.draw(strides),
        data.draw(paddings),
        data.draw(activations),
        data.draw(scales),
        data.draw(zeros),
    )
    check(model.build([source], [out]), 1)


@QUICK
@given(st.data())
def test_depthwise_convolution(data: st.DataObject) -> None:
    model, rng, source = start(data)
    out = model.depthwise(
        rng,
        source,
        data.draw(st.integers(1, 3)),
        data.draw(kernels),
        data.draw(strides.filter(lambda step: step[0] == step[1])),
        data.draw(paddings),
        data.draw(activations),
        data.draw(scales),
        data.draw(zeros),
    )
    check(model.build([source], [out]), 2)


@QUICK
@given(st.data())
def test_transposed_convolution(data: st.DataObject) -> None:
    model, rng, source = start(data)
    factor, bias = data.draw(st.integers(2, 3)), data.draw(st.booleans())
    out = model.transpose_conv(rng, source, data.draw(st.integers(1, 7)), factor, data.draw(scales), data.draw(zeros), bias=bias)
    check(model.build([source], [out]), 3)


@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
@QUICK
@given(data=st.data())
def test_pooling(kind: str, data: st.DataObject) -> None:
    model, _, source = start(data)
    out = model.pool(kind, source, data.draw(kernels), data.draw(strides), data.draw(paddings), data.draw(activations))
    check(model.build([source], [out]), 4)


@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pooling_of_single_rows_passes_an_optimizing_compiler(kind: str) -> None:
    model = ModelBuilder()
    source = model.tensor((1, 9, 8, 4))
    check(model.build([source], [model.pool(kind, source, (1, 3), (2, 1), SAME)]), 10, ("-Werror", "-O3"))


@QUICK
@given(st.data())
def test_addition(data: st.DataObject) -> None:
    model, rng, source = start(data, channels=4)
    other = model.depthwise(rng, source, scale=data.draw(scales), zero=data.draw(zeros))
    out = model.tensor(model.graph.tensors[source].shape, data.draw(scales), data.draw(zeros))
    model.op("ADD", [source, other], out, "AddOptions", fusedActivationFunction=data.draw(activations))
    check(model.build([source], [out]), 5)


@pytest.mark.parametrize("kind", ["QUANTIZE", "RELU"])
@QUICK
@given(data=st.data())
def test_tables(kind: str, data: st.DataObject) -> None:
    model, _, source = start(data)
    check(model.build([source], [model.like(kind, source, data.draw(scales), data.draw(zeros))]), 6)


@QUICK
@given(st.data())
def test_relu6_keeps_the_scale(data: st.DataObject) -> None:
    model, _, source = start(data)
    record = model.graph.tensors[source].quantization
    out = model.like("RELU6", source, float(record.scale[0]), int(record.zeroPoint[0]))
    check(model.build([source], [out]), 7)


@QUICK
@given(scale=st.floats(0.0005, 0.5), zero=zeros)
@example(scale=0.028859011828899384, zero=58)  # two of its values are so near a half that integers round otherwise
def test_logistic_of_all_values(scale: float, zero: int) -> None:
    model = ModelBuilder()
    source = model.tensor((1, 1, 256, 1), scale, zero)
    content = model.build([source], [model.like("LOGISTIC", source, 1 / 256, -128)])
    made = plan(parse(content))
    frame = np.arange(-128, 128).astype(np.int8)
    np.testing.assert_array_equal(HostNetwork(generate(made, "test"), made, SANITIZED)(frame), Oracle(content)(frame))


def test_logistic_of_another_scale_than_tflite_micro_takes_is_refused() -> None:
    model = ModelBuilder()
    source = model.tensor((1, 2, 2, 1))
    with pytest.raises(UnsupportedOperator, match=r"\(LOGISTIC\) has an output whose scale .* not 1/256 and -128"):
        plan(parse(model.build([source], [model.like("LOGISTIC", source, 1 / 128, -128)])))


@QUICK
@given(st.data())
def test_padding(data: st.DataObject) -> None:
    model, _, source = start(data)
    record = model.graph.tensors[source]
    amounts = np.array([(0, 0), *(data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in range(3))], np.int32)
    shape = [int(size) + int(more.sum()) for size, more in zip(record.shape, amounts, strict=True)]
    quantization = float(record.quantization.scale[0]), int(record.quantization.zeroPoint[0])
    inputs = [source, model.tensor((4, 2), data=amounts)]
    value = data.draw(st.none() | zeros)
    if value is not None:
        inputs.append(model.tensor((1,), *quantization, np.array([value], np.int8)))
    out = model.tensor(shape, *quantization)
    model.op("PAD" if value is None else "PADV2", inputs, out, "PadOptions" if value is None else "PadV2Options")
    check(model.build([source], [out]), 8)


@pytest.mark.parametrize("target", [83, 95])  # one position is just below a half
def test_nearest_neighbour_of_positions_near_a_half(target: int) -> None:
    model = ModelBuilder()
    source = model.tensor((1, 2, 1, 1), 0.1, 0)
    sizes = model.tensor((2,), data=np.array((target, 1), np.int32))
    out = model.tensor((1, target, 1, 1), 0.1, 0)
    model.op("RESIZE_NEAREST_NEIGHBOR", [source, sizes], out, "ResizeNearestNeighborOptions", alignCorners=True)
    content = model.build([source], [out])
    frame = np.array([10, 20], np.int8).reshape(2, 1, 1)
    made = plan(parse(content))
    np.testing.assert_array_equal(HostNetwork(generate(made, "near"), made)(frame), Oracle(content)(frame))


@QUICK
@given(st.data())
def test_nearest_neighbour(data: st.DataObject) -> None:
    model, _, source = start(data)
    record = model.graph.tensors[source]
    target = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    mode = data.draw(st.sampled_from([(False, False), (True, False), (False, True)]))
    sizes = model.tensor((2,), data=np.array(target, np.int32))
    out = model.tensor((1, *target, record.shape[3]), float(record.quantization.scale[0]), int(record.quantization.zeroPoint[0]))
    options = {"alignCorners": mode[0], "halfPixelCenters": mode[1]}
    model.op("RESIZE_NEAREST_NEIGHBOR", [source, sizes], out, "ResizeNearestNeighborOptions", **options)
    check(model.build([source], [out]), 9)
