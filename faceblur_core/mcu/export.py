"""From an int8 network to a folder for a board: the model, C code, and a report of what it needs and whether it is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.mcu.board import STACK_BYTES, Simulated, missing_tools, simulate
from faceblur_core.mcu.boards import Board
from faceblur_core.mcu.codegen import TEMPLATES, arena_bytes, generate
from faceblur_core.mcu.draw import drawing
from faceblur_core.mcu.graph import Graph, UnsupportedOperator, parse, self_contained
from faceblur_core.mcu.host import HostNetwork
from faceblur_core.mcu.modeldata import model_data
from faceblur_core.mcu.oracle import Oracle
from faceblur_core.mcu.plan import AUTO, Plan, plans, smallest_that_fits
from faceblur_core.mcu.report import Report
from faceblur_core.mcu.vela import VelaEstimate, estimate
from faceblur_core.media.files import save

Bytes = NDArray[np.int8]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a network is exported."""

    recompute: str = AUTO  #: or one of :data:`faceblur_core.mcu.plan.RECOMPUTE`
    simulation: bool = True
    timeout: float = 3600  #: seconds for the simulation


def export(
    name: str, model: bytes, board: Board, frames: Sequence[Bytes], folder: Path, options: Options, say: Say = lambda _: None
) -> Report:
    """Write everything that a network needs on a board into a folder, and return the report.

    :param name: of the network, for titles
    :param model: full-int8 .tflite file
    :param frames: input frames on which the C code is compared with tflite-micro, on this machine and on the simulated board
    :param say: told what is done next
    :raises UnsupportedOperator: if no C can be generated; the model's files are written nevertheless
    :raises FaceblurError: if the network does not fit the board or is no full-int8 network; as above
    """
    model = self_contained(model)
    graph = parse(model)
    save(folder / "model_int8.tflite", model)
    for file, text in model_data(model, graph).items():
        save(folder / file, text.encode())
    try:
        plan = smallest_that_fits(plans(graph, options.recompute), board.ram_bytes, STACK_BYTES)
        sources = generate(plan, f"{name} for {board.title}")
    except UnsupportedOperator as error:
        raise UnsupportedOperator(f"{error.message}; only model_int8.tflite and model_data.c are in {folder}") from None
    for file, text in sources.items():
        save(folder / file, text.encode())
    save(folder / "plan.svg", drawing(plan).encode())
    for file in ("main.c", "CMakeLists.txt"):
        save(folder / file, (TEMPLATES / file).read_bytes())
    report = _checked(name, model, graph, plan, sources, board, frames, options, say)
    save(folder / "report.json", report.as_json(board).encode())
    save(folder / "report.md", report.as_markdown(board).encode())
    return report


def _checked(
    name: str,
    model: bytes,
    graph: Graph,
    plan: Plan,
    sources: dict[str, str],
    board: Board,
    frames: Sequence[Bytes],
    options: Options,
    say: Say,
) -> Report:
    notes: list[str] = []
    expected = _expected(model, frames, notes)
    mismatches = 0 if expected is not None else None
    if expected is not None:
        say(f"comparing {len(frames)} pictures on this machine")
        try:
            network = HostNetwork(sources, plan)
            mismatches = differing([network(frame) for frame in frames], expected)
        except MissingDependency as error:
            notes.append(error.message)
    simulated = _simulated(plan, sources, board, frames, options, notes, say)
    if simulated and expected is not None:
        mismatches = (mismatches or 0) + differing(simulated.outputs, expected)
    planned = arena_bytes(plan) + plan.frame_bytes
    ram = simulated.ram_bytes + simulated.stack_bytes if simulated else planned
    return Report(
        network=name,
        board=board.name,
        recompute=plan.recompute,
        ram_bytes=ram,
        arena_bytes=arena_bytes(plan),
        frame_bytes=plan.frame_bytes,
        stack_bytes=simulated.stack_bytes if simulated else None,
        flash_bytes=simulated.flash_bytes if simulated else None,
        instructions=sum(simulated.instructions.values()) if simulated else None,
        pictures=len(frames) if expected is not None else 0,
        mismatches=mismatches,
        simulated_pictures=len(simulated.outputs) if simulated else 0,
        machine=simulated.machine if simulated else None,
        macs=plan.macs,
        fits=True if simulated else None if planned + STACK_BYTES <= board.ram_bytes else False,
        layers=simulated.instructions if simulated else {},
        rows={buffer.name: (kept.most, buffer.height, kept.bytes) for buffer, kept in plan.rows.items()},
        operators=graph.counted(),
        vela=_vela(model, board, notes),
        notes=tuple(notes),
    )


def differing(outputs: Sequence[Bytes], expected: Sequence[Bytes]) -> int:
    """Return the number of bytes that differ."""
    return sum(int((a != b).sum()) for a, b in zip(outputs, expected, strict=True))


def _expected(model: bytes, frames: Sequence[Bytes], notes: list[str]) -> list[Bytes] | None:
    try:
        oracle = Oracle(model)
    except MissingDependency as error:
        notes.append(error.message)
        return None
    return [oracle(frame) for frame in frames]


def _simulated(
    plan: Plan, sources: dict[str, str], board: Board, frames: Sequence[Bytes], options: Options, notes: list[str], say: Say
) -> Simulated | None:
    if not options.simulation:
        notes.append("the simulation was left out")
        return None
    if board.simulated_as is None:
        notes.append(f"no simulation: QEMU's machines have no {board.core}")
        return None
    if line := missing_tools():
        notes.append(line)
        return None
    if board.simulated_as != board.core.lower().replace("+", "plus"):
        notes.append(f"simulated with the instructions of {board.simulated_as}, for QEMU has no machine with {board.core}")
    say(f"running {len(frames)} pictures on the simulated {board.title}")
    return simulate(sources, plan, frames, board.simulated_as, board.ram_bytes, board.flash_bytes, timeout=options.timeout)


def _vela(model: bytes, board: Board, notes: list[str]) -> VelaEstimate | None:
    if board.ethos is None:
        return None
    try:
        return estimate(model, board.ethos)
    except FaceblurError as error:
        notes.append(error.message)
        return None
