"""From a file or a method to a folder for a board: parsing, planning, artefacts, reports, the command, the backend."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import TensorType
from hypothesis import given
from hypothesis import strategies as st
from mcu_models import NONE, VALID, ModelBuilder, small_unet
from mcu_reference import run

from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake
from faceblur_core.mcu import board as board_module
from faceblur_core.mcu.arena import Need, pack
from faceblur_core.mcu.boards import Board, boards, find_board
from faceblur_core.mcu.codegen import generate
from faceblur_core.mcu.export import Options, export
from faceblur_core.mcu.fit import fits
from faceblur_core.mcu.graph import UnsupportedOperator, parse, self_contained
from faceblur_core.mcu.halves import quantizable
from faceblur_core.mcu.host import HostNetwork, host_compiler
from faceblur_core.mcu.modeldata import model_data
from faceblur_core.mcu.oracle import Oracle
from faceblur_core.mcu.pictures import frames, pixels
from faceblur_core.mcu.plan import plan, plans, smallest_that_fits, verify
from faceblur_core.mcu.source import Int8Network, float_model, from_component, from_file
from faceblur_core.mcu.vela import estimate
from faceblur_core.plugins import installed_plugins

QUICK = ("-Werror", "-O1")


@pytest.fixture(scope="module")
def unet() -> bytes:
    return small_unet()


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)


# --- parsing


def test_the_graph_of_a_file(unet: bytes) -> None:
    graph = parse(unet)
    assert graph.is_int8() and graph.counted()["TRANSPOSE_CONV"] == 2
    assert graph.tensors[graph.inputs[0]].shape == (1, 16, 16, 3) and graph.operators[0].kind == "CONV_2D"


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x1c\0\0\0TFL3" + bytes(40), small_unet()[:3000]])
def test_damaged_files_are_one_line(content: bytes) -> None:
    with pytest.raises(FaceblurError, match=r"no .tflite file|damaged"):
        parse(content)


def test_no_byte_makes_a_traceback() -> None:
    content, rng = small_unet(8, (4,)), np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        wrong = bytearray(content)
        wrong[int(rng.integers(len(wrong)))] = int(rng.integers(256))
        try:
            generate(plan(parse(bytes(wrong))), "x")
        except FaceblurError:
            refused += 1
    assert 0 < refused < 60


def test_constants_behind_the_flatbuffer_are_found_and_put_inside(unet: bytes) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(unet, 0)
    outside = max((buffer for buffer in model.buffers if buffer.data is not None), key=lambda buffer: len(buffer.data))
    data = bytes(bytearray(outside.data))
    outside.data, outside.offset, outside.size = None, 2, len(data)

    def packed() -> bytes:
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    outside.offset = len(packed())
    moved = packed() + data
    inside = self_contained(moved)
    frame = noise((16, 16, 3))
    for content in (moved, inside):
        np.testing.assert_array_equal(run(parse(content), frame), run(parse(unet), frame))
    np.testing.assert_array_equal(Oracle(inside)(frame), run(parse(unet), frame))
    assert self_contained(unet) is unet


# --- planning


@pytest.mark.parametrize("recompute", ["r0", "r1"])
def test_plans_compute_each_row_before_it_is_read(unet: bytes, recompute: str) -> None:
    made = plan(parse(unet), recompute)
    verify(made)
    assert made.in_place and made.frame_bytes == 16 * 16 * 3


@given(st.lists(st.builds(lambda size, first, length: Need(size, first, first + length), *[st.integers(1, 99)] * 3), min_size=1))
def test_nothing_is_placed_on_top_of_another(needs: list[Need]) -> None:
    places, whole = pack(needs)
    for a in range(len(needs)):
        assert places[a] % 16 == 0 and places[a] + needs[a].bytes <= whole
        for b in range(a):
            together = needs[a].first <= needs[b].last and needs[b].first <= needs[a].last
            apart = places[a] + needs[a].bytes <= places[b] or places[b] + needs[b].bytes <= places[a]
            assert apart or not together


def test_a_faulty_plan_is_noticed(unet: bytes) -> None:
    made = plan(parse(unet))
    wrong = type(made)(**{**made.__dict__, "schedule": (*made.schedule[5:], *made.schedule[:5])})
    with pytest.raises(FaceblurError, match="faulty plan"):
        verify(wrong)


def test_recomputation_takes_less_memory_and_more_time(unet: bytes) -> None:
    graph = parse(small_unet(64, (8, 8, 8)))
    kept, recomputed = plans(graph)
    assert recomputed.arena_bytes < kept.arena_bytes and recomputed.macs > kept.macs
    assert [item.recompute for item in plans(graph, "r1")] == ["r1"]
    needed = kept.planned_bytes + 100
    assert kept.planned_bytes == kept.arena_bytes + 16 + kept.frame_bytes  # 16 bytes lie behind the arena
    assert smallest_that_fits([kept, recomputed], needed, 100) is kept
    assert smallest_that_fits([kept, recomputed], needed - 1, 100) is recomputed
    assert smallest_that_fits([kept, recomputed], 100, 100) is recomputed


@pytest.mark.parametrize("kind", ["RELU", "QUANTIZE"])
def test_a_skip_that_a_table_makes_can_be_computed_twice(kind: str) -> None:
    rng, model = np.random.default_rng(0), ModelBuilder()
    photo = model.tensor((1, 32, 32, 3), 1 / 255, -128)
    skip = model.like(kind, model.conv(rng, photo, 8, activation=NONE, scale=0.02), 0.02, -128)
    x = model.pool("MAX_POOL_2D", model.conv(rng, skip, 8, scale=0.05))
    x = model.transpose_conv(rng, model.conv(rng, x, 8, scale=0.05), 8, scale=0.02, zero=-128)
    graph = parse(model.build([photo], [model.conv(rng, model.concatenate([x, skip]), 3, activation=NONE, scale=0.05)]))
    kept, recomputed = plans(graph)
    assert recomputed.arena_bytes < kept.arena_bytes
    frame = noise((32, 32, 3))
    network = HostNetwork(generate(recomputed, "twice"), recomputed, QUICK)
    np.testing.assert_array_equal(network(frame), run(graph, frame))


def test_a_chain_has_nothing_to_recompute() -> None:
    model = ModelBuilder()
    photo = model.tensor((1, 8, 8, 4), 0.1, 0)
    content = model.build([photo], [model.conv(np.random.default_rng(0), photo, 4)])
    with pytest.raises(UsageMistake, match="nothing to compute twice"):
        plan(parse(content), "r1")
    assert len(plans(parse(content))) == 1


# --- generated C


@pytest.mark.parametrize("recompute", ["r0", "r1"])
@pytest.mark.parametrize(("seed", "residual"), [(0, False), (1, False), (2, False), (0, True)])
def test_a_unet_is_right_to_the_byte(recompute: str, seed: int, *, residual: bool) -> None:
    content = small_unet(24, (5, 8), seed, residual=residual)
    graph, oracle = parse(content), Oracle(content)
    made = plan(graph, recompute)
    network = HostNetwork(generate(made, "unet"), made, QUICK)
    for frame in frames(graph, [], 9):
        expected = run(graph, frame)
        np.testing.assert_array_equal(oracle(frame), expected)
        np.testing.assert_array_equal(network(frame), expected)


def test_joined_outputs_of_two_scales_as_detectors_have_them() -> None:
    rng = np.random.default_rng(2)
    model = ModelBuilder()
    photo = model.tensor((1, 16, 16, 3), 0.01, 3)
    large = model.conv(rng, photo, 6, stride=(2, 2))
    small = model.conv(rng, large, 8, stride=(2, 2))
    added = model.tensor(model.graph.tensors[large].shape, 0.2, 1)
    model.op("ADD", [large, model.depthwise(rng, large, scale=0.05)], added, "AddOptions")
    parts = []
    for source, count in ((added, 4), (small, 8)):
        head = model.conv(rng, source, count, (1, 1), activation=NONE, scale=0.1 * count, zero=count)
        height = model.graph.tensors[head].shape[1]
        flat = model.op("RESHAPE", [head], model.tensor((1, height * height * count // 2, 2), 0.1 * count, count))
        parts.append(flat if count == 4 else model.like("QUANTIZE", flat, 0.4, 4, "QuantizeOptions"))
    content = model.build([photo], [model.concatenate(parts, axis=1), small])
    graph = parse(content)
    made = plan(graph)
    network = HostNetwork(generate(made, "detector"), made, (*QUICK, "-fsanitize=undefined", "-static-libubsan"))
    frame = noise((16, 16, 3))
    np.testing.assert_array_equal(Oracle(content)(frame), run(graph, frame))
    np.testing.assert_array_equal(network(frame), run(graph, frame))


_MAIN = """
#include <stdio.h>
#include "net.h"
static int8_t in[NET_INPUT_BYTES], out[NET_OUTPUT_BYTES];
int main(void)
{
    while (fread(in, 1, sizeof in, stdin) == sizeof in) {
        net_run(in, out);
        fwrite(out, 1, sizeof out, stdout);
    }
    return 0;
}
"""


@pytest.mark.parametrize("recompute", ["r0", "r1"])
def test_sanitizers_find_nothing(unet: bytes, recompute: str, tmp_path: Path) -> None:
    graph = parse(unet)
    for name, text in {**generate(plan(graph, recompute), "unet"), "main.c": _MAIN}.items():
        (tmp_path / name).write_text(text)
    flags = ["-std=c99", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([host_compiler(), *flags, "main.c", "net.c", "-o", "main"], cwd=tmp_path, check=True)
    given = frames(graph, [], 6)
    joined = b"".join(frame.tobytes() for frame in given)
    said = subprocess.run([tmp_path / "main"], input=joined, capture_output=True, check=True)
    assert said.stderr == b""
    np.testing.assert_array_equal(np.frombuffer(said.stdout, np.int8), np.concatenate([run(graph, frame) for frame in given]))


def test_a_temporary_folder_that_nothing_may_run_from_is_named(
    unet: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr("faceblur_core.mcu.host.ctypes.CDLL", refused)
    report = export("small", unet, find_board("esp32-s3"), frames(parse(unet), [], 1), tmp_path, Options())
    assert report.mismatches is None and "set TMPDIR to a folder" in report.notes[0]


def test_a_network_too_deep_to_plan_is_one_line() -> None:
    model, rng = ModelBuilder(), np.random.default_rng(0)
    photo = x = model.tensor((1, 6, 6, 4), 0.1, 0)
    for _ in range(400):
        x = model.conv(rng, x, 4, (1, 1))
    with pytest.raises(FaceblurError, match="400 operators follow one another"):
        plan(parse(model.build([photo], [x])))


def test_generated_code_calls_nothing(unet: bytes, tmp_path: Path) -> None:
    for name, text in generate(plan(parse(unet)), "unet").items():
        (tmp_path / name).write_text(text)
    subprocess.run([host_compiler(), "-std=c99", "-O3", "-c", "net.c"], cwd=tmp_path, check=True)
    missing = subprocess.run(["nm", "-u", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in missing if name not in ("U", "_GLOBAL_OFFSET_TABLE_")] == []


def test_a_program_in_cpp_can_call_it(unet: bytes, tmp_path: Path) -> None:
    main = '#include "net.h"\nstatic int8_t frame[NET_INPUT_BYTES];\nint main() { net_run(frame, frame); }\n'
    for name, text in {**generate(plan(parse(unet)), "unet"), "main.cpp": main}.items():
        (tmp_path / name).write_text(text)
    subprocess.run([host_compiler(), "-std=c99", "-c", "net.c"], cwd=tmp_path, check=True)
    subprocess.run(["c++", "main.cpp", "net.o", "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)


def test_names_come_from_the_graph(unet: bytes) -> None:
    text = generate(plan(parse(unet), "r1"), "unet")["net.c"]
    assert "run_encoder0_conv1(" in text and "run_encoder0_conv1_again(" in text and "decoder1_conv_weights" in text


def test_any_name_of_a_layer_will_do() -> None:
    rng = np.random.default_rng(0)
    model = ModelBuilder()
    photo = x = model.tensor((1, 6, 6, 3), 0.1, 0, name="int")
    names = ("add", "copy", "net", "net", "7 x", "größe/*/", "PartitionedCall:0", "schedule;row", "conv")
    for name in (*names, "net_2", "net", "load_int", "t"):
        x = model.conv(rng, x, 4, name=name)
    made = plan(parse(model.build([photo], [x])))
    network = HostNetwork(generate(made, "*/ title"), made, QUICK)
    frame = noise((6, 6, 3))
    np.testing.assert_array_equal(network(frame), run(parse(model.build([photo], [x])), frame))


def test_a_weight_of_minus_128_is_refused() -> None:
    model = ModelBuilder()
    photo = model.tensor((1, 4, 4, 4), 0.1, 0)
    weights = np.full((2, 1, 1, 4), -128, np.int8)
    constants = model.weights_and_bias(np.random.default_rng(0), weights, photo, 2, 0)
    out = model.tensor((1, 4, 4, 2))
    model.op("CONV_2D", [photo, *constants], out, "Conv2DOptions", strideH=1, strideW=1)
    with pytest.raises(UnsupportedOperator, match="-128"):
        generate(plan(parse(model.build([photo], [out]))), "x")


# --- the export


@pytest.mark.skipif(bool(board_module.missing_tools()), reason=board_module.missing_tools())
def test_an_export_has_everything_and_says_so(unet: bytes, tmp_path: Path) -> None:
    given = frames(parse(unet), [], 3)
    report = export("small", unet, find_board("stm32h743"), given, tmp_path, Options())
    assert {path.name for path in tmp_path.iterdir()} == {
        *("model_int8.tflite", "model_data.c", "model_data.h", "net.c", "net.h", "main.c", "CMakeLists.txt"),
        *("report.md", "report.json", "plan.svg"),
    }
    assert report.mismatches == 0 and report.fits and report.notes == ()
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["pictures"] == content["simulated_pictures"] == 3 and content["recompute"] == "r0"
    assert content["board"] == "stm32h743" and content["machine"] == "mps2-an500" and content["mismatches"] == 0
    assert content["ram_bytes"] == content["arena_bytes"] + content["frame_bytes"] + content["stack_bytes"]
    assert content["instructions"] == sum(content["layers"].values()) > 1e5
    assert 10_000 < content["flash_bytes"] < 60_000 and len(content["fps_range"]) == 2
    text = (tmp_path / "report.md").read_text()
    assert "bytes that differ from tflite-micro | 0" in text and "assumed, not measured" in text
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-c"]
    for name in ("main.c", "model_data.c", "net.c"):
        subprocess.run([host_compiler(), *flags, name], cwd=tmp_path, check=True)
    assert (tmp_path / "model_data.h").read_text().count("(resolver).Add") == 6


def test_operators_that_no_resolver_has_are_left_to_people() -> None:
    model = ModelBuilder()
    photo = model.tensor((1, 8, 8, 4), 0.1, 0)
    x = model.op("L2_POOL_2D", [photo], model.tensor((1, 8, 8, 4), 0.1, 0))
    out = model.op("CUSTOM", [x], model.tensor((1, 8, 8, 4), 0.1, 0))
    model.model.operatorCodes[-1].customCode = b"TFLite_*/PostProcess"
    content = model.build([photo], [out])
    header = model_data(content, parse(content))["model_data.h"]
    assert "(resolver).AddL2Pool2D();" in header and "/* add CUSTOM TFLite_??PostProcess yourself */" in header


def test_an_export_without_a_simulation_says_why(unet: bytes, tmp_path: Path) -> None:
    given = frames(parse(unet), [], 2)
    report = export("small", unet, find_board("esp32-s3"), given, tmp_path, Options())
    assert report.mismatches == 0 and report.instructions is None and "Xtensa" in report.notes[0]
    left_out = export("small", unet, find_board("stm32h743"), given, tmp_path, Options(simulation=False))
    assert left_out.notes == ("the simulation was left out",) and left_out.simulated_pictures == 0
    assert "stack not measured" in (text := (tmp_path / "report.md").read_text()) and "None" not in text


def test_what_does_not_fit_leaves_an_earlier_export_alone_without_a_simulation_too(unet: bytes, tmp_path: Path) -> None:
    board, quick = find_board("esp32-s3"), Options(simulation=False)
    tiny = dataclasses.replace(board, ram_kib=1)
    with pytest.raises(FaceblurError, match=r"does not fit: it needs [\d,]+ bytes of RAM and some 1024 for .*only model_int8"):
        export("small", unet, tiny, [], tmp_path / "new", quick)
    export("small", unet, board, [], tmp_path / "old", quick)
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    with pytest.raises(FaceblurError, match="does not fit.*the earlier export in .* is unchanged"):
        export("small", unet, tiny, [], tmp_path / "old", quick)
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_an_export_on_top_of_another_keeps_what_people_changed(unet: bytes, tmp_path: Path) -> None:
    def once(model: bytes = unet) -> tuple[str, ...]:
        return export("small", model, find_board("esp32-s3"), [], tmp_path, Options()).notes[:-1]

    assert once() == once() == ()
    (tmp_path / "main.c").write_text("mine")
    assert once() == (f"main.c in {tmp_path} stayed as before; what is deleted there is written anew",)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert before[tmp_path / "main.c"] == b"mine"
    with pytest.raises(UnsupportedOperator, match=r"TANH.*; the earlier export in .* is unchanged"):
        once(unsupported())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_export_that_cannot_be_written_leaves_the_earlier_one(
    unet: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(title: str) -> None:
        export(title, unet, find_board("esp32-s3"), [], tmp_path, Options())

    once("first")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "net.h":
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FaceblurError, match=f"{tmp_path} cannot be written .No space left on device"):
        once("second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    for name in ("report.json", "net.h"):  # as when the machine stopped
        (tmp_path / name).unlink()
    once("third")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(before)


@pytest.mark.parametrize("name", ["main.c", "report.json"])
def test_a_folder_with_something_else_is_left_alone(name: str, unet: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(UsageMistake, match="choose a new folder"):
        export("small", unet, find_board("esp32-s3"), [], tmp_path, Options())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_nothing_is_said_to_be_equal_that_was_not_compared(unet: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    report = export("small", unet, find_board("stm32h743"), frames(parse(unet), [], 1), tmp_path, Options())
    assert report.mismatches is None and report.pictures == 0 and "needs a C compiler" in report.notes[0]


@pytest.mark.skipif(bool(board_module.missing_tools()), reason=board_module.missing_tools())
def test_what_the_simulated_machine_has_no_room_for_is_exported_all_the_same(
    unet: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(board_module.M7, ram_size=1024)
    monkeypatch.setitem(board_module.CORES, "cortex-m7", (small, board_module.CORES["cortex-m7"][1]))
    report = export("small", unet, find_board("stm32h743"), [], tmp_path, Options())
    assert report.notes == ("not simulated: QEMU's mps2-an500 has only 1 KiB of RAM",) and report.fits is None
    assert (tmp_path / "net.c").exists()


def test_missing_tools_are_named(unet: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module.shutil, "which", lambda tool: None if tool == "qemu-system-arm" else f"/usr/bin/{tool}")
    report = export("small", unet, find_board("rp2350"), frames(parse(unet), [], 1), tmp_path, Options())
    assert report.notes == ("no simulation: install qemu-system-arm (Debian: apt install qemu-system-arm)",)


def unsupported() -> bytes:
    model = ModelBuilder()
    photo = model.tensor((1, 8, 8, 4), 0.1, 0)
    x = model.conv(np.random.default_rng(0), photo, 4)
    return model.build([photo], [model.like("TANH", x, 1 / 128, 0)])


def test_an_unknown_operator_is_named_and_the_model_is_written_all_the_same(tmp_path: Path) -> None:
    content = unsupported()
    with pytest.raises(UnsupportedOperator, match=r"operator 1 \(TANH\) has no kernel"):
        export("odd", content, find_board("rp2350"), [], tmp_path, Options())
    assert {path.name for path in tmp_path.iterdir()} == {"model_int8.tflite", "model_data.c", "model_data.h"}
    assert (tmp_path / "model_int8.tflite").read_bytes() == content


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("dilated", r"operator 0 \("),
        ("grouped", r"operator 0 \("),
        ("overlapping", "windows that overlap"),
        ("wider", "windows that overlap"),
        ("cut off", "cuts off instead of padding"),
        ("reshaped", "not at the network's end"),
        ("two inputs", "2 inputs"),
        ("constant", "joins a constant"),
    ],
)
def test_forms_of_operators_that_have_no_kernel_are_named(kind: str, message: str) -> None:
    rng = np.random.default_rng(0)
    model = ModelBuilder()
    inputs = [model.tensor((1, 8, 8, 4), 0.1, 0)]
    out = model.conv(rng, inputs[0], 4)
    operator = model.graph.operators[-1]
    if kind == "dilated":
        operator.builtinOptions.dilationHFactor = 2
    elif kind == "grouped":
        model.graph.tensors[operator.inputs[1]].shape = np.array((8, 3, 3, 2), np.int32)
    elif kind == "overlapping":
        out = model.transpose_conv(rng, out, 4)
        model.graph.operators[-1].builtinOptions.strideH = 1
    elif kind == "wider":
        out = model.transpose_conv(rng, out, 4)
        model.graph.tensors[out].shape = np.array((1, 16, 17, 4), np.int32)
    elif kind == "cut off":
        amounts = model.tensor((4, 2), data=np.array([(0, 0), (-1, 0), (0, 0), (0, 0)], np.int32))
        out = model.op("PAD", [out, amounts], model.tensor((1, 7, 8, 4), 0.1, -128), "PadOptions")
    elif kind == "reshaped":
        flat = model.op("RESHAPE", [out], model.tensor((1, 4, 16, 4), 0.1, -128))
        out = model.conv(rng, flat, 2)
    elif kind == "constant":
        constant = model.tensor((1, 8, 8, 4), 0.1, -128, data=np.zeros((1, 8, 8, 4), np.int8))
        out = model.concatenate([out, constant])
    else:
        inputs.append(model.tensor((1, 8, 8, 4), 0.1, 0))
    error = FaceblurError if kind == "two inputs" else UnsupportedOperator
    with pytest.raises(error, match=message):
        plan(parse(model.build(inputs, [out])))


def test_channels_alone_can_be_joined_within_a_network() -> None:
    rng, model = np.random.default_rng(0), ModelBuilder()
    photo = model.tensor((1, 8, 8, 4), 0.1, 0)
    joined = model.concatenate([photo, photo], axis=1)
    with pytest.raises(UnsupportedOperator, match="joins along axis 1"):
        plan(parse(model.build([photo], [model.conv(rng, joined, 4)])))


@pytest.mark.parametrize("itself", [True, False])
def test_a_tensor_that_nothing_computes_is_not_read_from_the_camera(*, itself: bool) -> None:
    model = ModelBuilder()
    photo, out = (model.tensor((1, 8, 8, 4), 0.1, 0) for _ in range(2))
    model.op("ADD", [photo, out if itself else model.tensor((1, 8, 8, 4), 0.1, 0)], out, "AddOptions")
    with pytest.raises(UnsupportedOperator, match=r"operator 0 \(ADD\) works on a tensor that no operator before it computes"):
        plan(parse(model.build([photo], [out])))


# --- networks


@dataclasses.dataclass
class Component:
    """A method around one network, as far as the export is concerned."""

    network_file: Path
    quantized_file: Path | None = None

    def network_inputs(self, image: np.ndarray) -> np.ndarray:
        return pixels(image, (16, 16, 3))


def photos(count: int = 2) -> list[np.ndarray]:
    return [np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8) for number in range(count)]


@pytest.mark.parametrize("names", [("network.tflite", None), ("network.keras", "network.tflite")])
def test_a_methods_int8_file_is_taken_as_it_is(names: tuple[str, str | None], unet: bytes, tmp_path: Path) -> None:
    (tmp_path / "network.tflite").write_bytes(unet)
    component = Component(tmp_path / names[0], tmp_path / names[1] if names[1] else None)
    network = from_component("mine", component, photos(), 9)
    assert network.model == unet and len(network.frames) == 9
    expected = np.rint(pixels(photos()[1], (16, 16, 3))[0] * 255 - 128)
    np.testing.assert_array_equal(network.frames[1], expected)
    assert {int(frame.min()) for frame in network.frames[2:5]} == {-128, 0, 127}


def test_blazeface_is_quantized_and_right_to_the_byte(shared: Path) -> None:
    network = from_file(shared / "models" / "blaze_face_short_range.tflite", photos(), 4)
    graph, oracle = parse(network.model), Oracle(network.model)
    made = plan(graph)
    compiled = HostNetwork(generate(made, "BlazeFace"), made, QUICK)
    for frame in network.frames:
        np.testing.assert_array_equal(compiled(frame), oracle(frame))


@pytest.mark.parametrize(("shape", "signature"), [((1, 1, 1, 3), (-1, -1, -1, 3)), ((1, 0, 8, 3), None), ((1, -1, 8, 3), None)])
def test_a_picture_of_no_fixed_size_is_refused(shape: tuple[int, ...], signature: tuple[int, ...] | None, tmp_path: Path) -> None:
    model = ModelBuilder()
    photo = model.tensor(shape)
    model.graph.tensors[photo].shapeSignature = None if signature is None else np.array(signature, np.int32)
    content = model.build([photo], [model.op("QUANTIZE", [photo], model.tensor((1, 1, 1, 3), 0.2), "QuantizeOptions")])
    (tmp_path / "any.tflite").write_bytes(content)
    with pytest.raises(UsageMistake, match=r"any\.tflite does not take one picture of a fixed size"):
        from_file(tmp_path / "any.tflite", photos(), 1)
    with pytest.raises(FaceblurError, match="make the file anew with a fixed size"):
        plan(parse(content))


def test_a_batch_of_any_size_is_taken_as_one_picture() -> None:
    model = ModelBuilder()
    photo = model.tensor((1, 4, 4, 3))
    model.graph.tensors[photo].shapeSignature = np.array((-1, 4, 4, 3), np.int32)
    assert parse(model.build([photo], [model.conv(np.random.default_rng(0), photo, 2)])).only_input().shape == (1, 4, 4, 3)


# --- boards and estimates


def test_every_board_has_a_source_and_a_processor_that_is_known() -> None:
    assert len(boards()) == 12
    for board in boards().values():
        assert board.source and board.ram_kib and board.clock_mhz
        assert board.simulated_as is None or board.simulated_as in board_module.CORES
    with pytest.raises(UnknownName, match="stm32h743"):
        find_board("stm32h74")
    slow, fast = find_board("stm32h743").frame_rates(480_000_000) or (0, 0)
    assert 0 < slow < 1 < fast < 2


def test_vela_leaves_nothing_to_the_processor(unet: bytes) -> None:
    found = estimate(unet, "ethos-u55-128")
    assert found.cpu_operators == 0 and found.npu_operators > 5 and found.cycles > 1000 and found.milliseconds > 0


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_network_that_is_quantized_but_for_its_ends_is_named(dtype: str, tmp_path: Path) -> None:
    model = ModelBuilder()
    photo = model.tensor((1, 16, 16, 3), 1 / 255, -128)
    x = model.conv(np.random.default_rng(0), photo, 4)
    kind = getattr(TensorType, dtype.upper())
    ends = []
    for tensor in (photo, x):
        end = model.tensor(model.graph.tensors[tensor].shape, 1 / 255, 0)
        model.graph.tensors[end].type = kind
        ends.append(end)
    model.op("QUANTIZE", [ends[0]], photo, "QuantizeOptions")
    model.op("DEQUANTIZE" if dtype == "float32" else "QUANTIZE", [x], ends[1])
    path = tmp_path / "ends.tflite"
    path.write_bytes(model.build(ends[:1], ends[1:]))
    for read in (lambda: from_file(path, photos(), 2), lambda: float_model(Component(path))):
        with pytest.raises(FaceblurError, match=f"quantized already, with input or output of {dtype}; convert it anew"):
            read()


def test_constants_of_16_bits_are_not_kept_beside_those_of_32(shared: Path) -> None:
    content = (shared / "models" / "blaze_face_short_range.tflite").read_bytes()
    wide = quantizable(content)
    used = {index for operator in parse(wide).operators for index in (*operator.inputs, *operator.outputs)}
    kept = sum(t.data.nbytes for index, t in enumerate(parse(wide).tensors) if t.data is not None and index not in used)
    assert kept < 100 and len(wide) < 2.1 * len(content)


# --- the command


def test_the_command_exports_a_file(unet: bytes, tmp_path: Path, cli) -> None:
    (tmp_path / "mine.tflite").write_bytes(unet)
    result = cli(
        "export-mcu", "--tflite", tmp_path / "mine.tflite", "--board", "rp2350", "-o", tmp_path / "out", "--no-simulation"
    )
    assert result.code == 0 and "0 on 1 pictures" in result.out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["network"] == "mine"
    code = re.sub(r"/\*.*?\*/", "", (tmp_path / "out" / "net.c").read_text(), flags=re.DOTALL)
    assert "net_run" in code and not re.search(r"\b(float|double)\b", code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--method", "haar", "--board", "rp2350", "-o", "x"),
            "method 'haar' has no network that could be exported (it runs haarcascade_frontal",
        ),
        (("--board", "rp2350", "-o", "x"), "name a network"),
        (("--tflite", "none.tflite", "--board", "rp2350", "-o", "x"), "none.tflite: No such file"),
        (("--tflite", "mine.tflite", "--board", "rp2351", "-o", "x"), "no board named"),
        (("--tflite", "mine.tflite", "-o", "x"), "needs one network, --board and -o"),
        (("--tflite", "odd.tflite", "--board", "rp2350", "-o", "x"), "operator 1 (TANH)"),
        (("--tflite", "cut.tflite", "--board", "rp2350", "-o", "x"), "cut.tflite: this .tflite file is damaged"),
        (("--tflite", "mine.tflite", "--set", "a=b", "--board", "rp2350", "-o", "x"), "--set is for options of a --method"),
        (("--fit", "--tflite", "mine.tflite", "-o", "x"), "--fit writes nothing"),
        (("--fit", "--tflite", "mine.tflite", "--no-simulation"), "--fit writes nothing"),
        (("--fit", "--tflite", "mine.tflite", "--recompute", "r1"), "--fit writes nothing"),
    ],
)
def test_mistakes_are_one_line(
    unet: bytes, arguments: tuple[str, ...], message: str, tmp_path: Path, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.tflite").write_bytes(unet)
    Path("odd.tflite").write_bytes(unsupported())
    Path("cut.tflite").write_bytes(unet[: len(unet) // 2])
    result = cli("export-mcu", *arguments)
    assert result.code in (1, 2) and message in result.err and result.err.count("\n") == 1


def test_a_folder_or_a_board_that_will_not_do_is_told_before_the_work_begins(tmp_path: Path, cli) -> None:
    (mine := tmp_path / "notes.txt").write_text("mine")
    for board, folder, message in (
        ("rp2350", tmp_path, "choose a new folder"),
        ("rp2350", mine / "new", f"{mine} is no folder"),
        ("rp2351", tmp_path / "new", "no board named"),
    ):
        result = cli("export-mcu", "--tflite", tmp_path / "not-there.tflite", "--board", board, "-o", folder)
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1


def test_the_boards_are_listed(cli) -> None:
    assert "STM32H743" not in cli("export-mcu", "--boards").err
    assert len(json.loads(cli("export-mcu", "--boards", "--json").out)) == 12


@pytest.mark.skipif(bool(board_module.missing_tools()), reason=board_module.missing_tools())
def test_fits_are_printed_with_their_assumption(unet: bytes, tmp_path: Path, cli) -> None:
    (tmp_path / "mine.tflite").write_bytes(unet)
    table = cli("export-mcu", "--fit", "--tflite", tmp_path / "mine.tflite", "--board", "himax-we2").out
    assert "yes" in table and "ethos-u55-64" in table and "0 operators left" in table and "assumed, not measured" in table


@pytest.mark.skipif(bool(board_module.missing_tools()), reason=board_module.missing_tools())
def test_what_fits_can_be_exported(unet: bytes, tmp_path: Path) -> None:
    network = Int8Network("small", unet, frames(parse(unet), [], 1))
    needed = min(made.planned_bytes for made in plans(parse(unet))) + board_module.STACK_BYTES

    def sized(ram: int) -> Board:
        class Sized(Board):
            ram_bytes = ram

        return Sized(**vars(find_board("stm32h743")))

    assert [row.fits for row in fits([network], [sized(needed), sized(needed - 1)])] == [True, False]
    export("small", unet, sized(needed), network.frames, tmp_path / "fits", Options())
    with pytest.raises(FaceblurError, match="RAM is"):
        export("small", unet, sized(needed - 8), network.frames, tmp_path / "does not", Options())


@pytest.mark.skipif(bool(board_module.missing_tools()), reason=board_module.missing_tools())
def test_what_one_processor_cannot_run_others_can() -> None:
    model = ModelBuilder()
    photo = model.tensor((1, 60, 16, 3), 1 / 255, -128)
    tall = model.conv(np.random.default_rng(0), photo, 8, (50, 1), padding=VALID, scale=1.0)  # needs much stack on Cortex-M55
    content = model.build([photo], [tall])
    network = Int8Network("tall", content, frames(parse(content), [], 1))
    stm32, alif = fits([network], [find_board("stm32h743"), find_board("alif-e3")])
    assert stm32.fits and not stm32.note and stm32.flash_bytes
    assert not alif.fits and "1024 bytes of stack" in alif.note


def test_a_network_that_cannot_be_exported_is_a_row(unet: bytes, tmp_path: Path, cli) -> None:
    (tmp_path / "mine.tflite").write_bytes(unet)
    (tmp_path / "odd.tflite").write_bytes(unsupported())
    files = [argument for name in ("odd", "mine") for argument in ("--tflite", tmp_path / f"{name}.tflite")]
    result = cli("export-mcu", "--fit", *files, "--board", "esp32-s3")
    assert [line.split()[:3] for line in result.out.splitlines()[2:4]] == [["odd", "esp32-s3", "no"], ["mine", "esp32-s3", "yes"]]
    assert result.code == 1 and result.err.startswith("faceblur: odd: operator 1 (TANH)") and result.err.count("\n") == 1


# --- the backend


def test_the_backend_computes_what_the_board_computes(unet: bytes, tmp_path: Path) -> None:
    path = tmp_path / "small.tflite"
    path.write_bytes(unet)
    graph = parse(unet)
    batch = np.random.default_rng(0).random((2, 16, 16, 3)).astype(np.float32)
    outputs = [installed_plugins().make("backend", "mcu", {"recompute": r}).load(path)(batch) for r in ("r0", "r1")]
    np.testing.assert_array_equal(*outputs)
    frame = np.clip(np.rint(batch[1] * 255 - 128), -128, 127).astype(np.int8)
    expected = (run(graph, frame).reshape(16, 16, 3).astype(np.float32) + 128) / 256
    np.testing.assert_allclose(outputs[0][1], expected, atol=1e-6)
    with pytest.raises(FaceblurError, match="takes N x 16 x 16 x 3"):
        installed_plugins().make("backend", "mcu").load(path)(batch[:, :8])


def test_the_backend_is_chosen_by_name_alone(unet: bytes, tmp_path: Path) -> None:
    from faceblur_core.backends import make_backend
    from faceblur_core.mcu.backend import Mcu

    assert not isinstance(make_backend(Path("x.tflite")), Mcu)
    assert isinstance(make_backend(Path("x.tflite"), "mcu"), Mcu)
    with pytest.raises(UsageMistake, match="reads .tflite files"):
        make_backend(Path("x.onnx"), "mcu")
    with pytest.raises(FaceblurError, match="quantized already"):
        Mcu().to_tflite(Path("x.tflite"))
