"""Generated C on simulated boards: every kernel of every processor, byte by byte, within the board's memory."""

from __future__ import annotations

import numpy as np
import pytest
from mcu_models import NONE, RELU, ModelBuilder, small_unet
from mcu_reference import run

from faceblur_core.errors import FaceblurError
from faceblur_core.mcu import board as board_module
from faceblur_core.mcu.board import NotSimulated, missing_tools, simulate
from faceblur_core.mcu.codegen import generate
from faceblur_core.mcu.graph import parse
from faceblur_core.mcu.plan import plan

pytestmark = pytest.mark.skipif(bool(missing_tools()), reason=missing_tools())

ROOM = 1 << 20
CORES = ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m55"]


@pytest.fixture(autouse=True)
def _no_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "STRICT", (*board_module.STRICT, "-Werror"))


def frames(shape: tuple[int, ...], count: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(-128, 128, shape, np.int8) for _ in range(count)]


def odd_network() -> bytes:
    """Return a network of odd sizes: rows, columns, channels and kernels that no vector register divides."""
    rng = np.random.default_rng(5)
    model = ModelBuilder()
    photo = x = model.tensor((1, 13, 11, 3), 1 / 255, -128, name="photo")
    x = model.conv(rng, x, 7, (5, 5), scale=0.01)
    x = model.conv(rng, x, 21, scale=0.05)
    x = model.conv(rng, x, 34, (3, 2), stride=(2, 1), scale=0.08, zero=-100, activation=NONE)
    x = model.pool("MAX_POOL_2D", x, (3, 2), (2, 2), padding=0)
    x = model.transpose_conv(rng, x, 17, scale=0.1)
    x = model.conv(rng, x, 150, (1, 1), scale=0.2)
    x = model.conv(rng, x, 5, (3, 3), scale=0.9, activation=RELU)  # takes more inputs than the DSP kernel at a time
    x = model.depthwise(rng, x, 2, scale=0.3)
    x = model.pool("AVERAGE_POOL_2D", x, (3, 3), (1, 1), padding=0)
    return model.build([photo], [x])


@pytest.mark.parametrize("core", CORES)
def test_odd_sizes_are_right_on_every_processor(core: str) -> None:
    graph = parse(odd_network())
    made = plan(graph)
    given = frames((13, 11, 3))
    found = simulate(generate(made, "odd"), made, given, core, ROOM, ROOM)
    for frame, output in zip(given, found.outputs, strict=True):
        np.testing.assert_array_equal(output, run(graph, frame))
    assert all(count > 0 for count in found.instructions.values())
    assert 100 < found.stack_bytes < 1024


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_shifts_to_the_left_are_right(core: str) -> None:
    rng = np.random.default_rng(1)
    model = ModelBuilder()
    photo = model.tensor((1, 6, 6, 4), 1.0, 0)
    source = model.graph.tensors[photo]
    weights = rng.integers(-2, 3, (4, 3, 3, 4), np.int8)
    constants = model.weights_and_bias(rng, weights, photo, 4, 0)
    model.graph.tensors[constants[0]].quantization.scale = np.array([0.2, 0.5, 1.0, 2.5], np.float32)
    out = model.tensor(source.shape, 0.5, 3)
    model.op("CONV_2D", [photo, *constants], out, "Conv2DOptions", padding=0, strideH=1, strideW=1)
    graph = parse(model.build([photo], [out]))
    made = plan(graph)
    frame = rng.integers(-5, 6, (6, 6, 4), np.int8)
    found = simulate(generate(made, "left"), made, [frame], core, ROOM, ROOM)
    np.testing.assert_array_equal(found.outputs[0], run(graph, frame))


@pytest.mark.parametrize("recompute", ["r0", "r1"])
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m55"])
def test_unet(core: str, recompute: str) -> None:
    graph = parse(small_unet())
    made = plan(graph, recompute)
    given = frames((16, 16, 3), 3)
    found = simulate(generate(made, "unet"), made, given, core, ROOM, ROOM)
    for frame, output in zip(given, found.outputs, strict=True):
        np.testing.assert_array_equal(output, run(graph, frame))


def test_counts_are_the_same_every_time() -> None:
    made = plan(parse(small_unet(8, (4,))))
    sources = generate(made, "unet")
    first, second = (simulate(sources, made, frames((8, 8, 3)), "cortex-m7", ROOM, ROOM) for _ in range(2))
    assert first.instructions == second.instructions


@pytest.mark.parametrize(("ram", "flash", "region"), [(4000, ROOM, "RAM"), (ROOM, 9000, "FLASH")])
@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m55"])
def test_what_does_not_fit_does_not_link(core: str, ram: int, flash: int, region: str) -> None:
    made = plan(parse(small_unet()))
    with pytest.raises(FaceblurError, match=f"does not fit: {region} is ([1-9][\\d,]* bytes )?too small; --fit"):
        simulate(generate(made, "unet"), made, frames((16, 16, 3)), core, ram, flash)


@pytest.mark.parametrize(
    ("ram", "flash", "refused"), [(8 << 20, 8 << 20, "not simulated: QEMU's"), (8 << 20, 2000, r"(CODE|FLASH) is")]
)
@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m55"])
def test_what_does_not_fit_the_simulated_machine_alone_is_told_apart(core: str, ram: int, flash: int, refused: str) -> None:
    model = ModelBuilder()
    photo = model.tensor((1, 1200, 1200, 3))
    made = plan(parse(model.build([photo], [model.like("QUANTIZE", photo, 0.2, 0, "QuantizeOptions")])))
    with pytest.raises(FaceblurError, match=refused) as caught:
        simulate(generate(made, "large"), made, [], core, ram, flash)
    assert isinstance(caught.value, NotSimulated) == refused.startswith("not")


def test_ram_is_what_the_plan_says() -> None:
    made = plan(parse(small_unet()))
    found = simulate(generate(made, "unet"), made, frames((16, 16, 3)), "cortex-m4", ROOM, ROOM)
    assert made.arena_bytes + made.frame_bytes <= found.ram_bytes <= made.arena_bytes + made.frame_bytes + 64
