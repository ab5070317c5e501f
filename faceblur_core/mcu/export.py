"""From an int8 network to a folder for a board: the model, C code, and a report of what it needs and whether it is right."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError, MissingDependency, UsageMistake
from faceblur_core.mcu.board import STACK_BYTES, NotSimulated, Simulated, missing_tools, simulate
from faceblur_core.mcu.boards import Board
from faceblur_core.mcu.codegen import TEMPLATES, generate
from faceblur_core.mcu.draw import drawing
from faceblur_core.mcu.graph import Graph, parse, self_contained
from faceblur_core.mcu.host import HostNetwork
from faceblur_core.mcu.modeldata import model_data
from faceblur_core.mcu.oracle import Oracle
from faceblur_core.mcu.plan import AUTO, Plan, plans, smallest_that_fits
from faceblur_core.mcu.report import Report
from faceblur_core.mcu.vela import VelaEstimate, estimate
from faceblur_core.media.files import check_folder_above

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

    The folder is empty, or holds an earlier export, of which ``main.c`` and ``CMakeLists.txt`` stay as they are.

    :param name: of the network, for titles
    :param model: full-int8 .tflite file
    :param frames: input frames on which the C code is compared with tflite-micro, on this machine and on the simulated board
    :param say: told what is done next
    :raises UsageMistake: if the folder holds something else
    :raises UnsupportedOperator: if no C can be generated; an earlier export stays whole, else the model's files are written
    :raises FaceblurError: if the network does not fit the board or is no full-int8 network; as above
    """
    earlier = holds_export(folder)
    model = self_contained(model)
    graph = parse(model)
    files = {"model_int8.tflite": model} | {file: text.encode() for file, text in model_data(model, graph).items()}
    notes: list[str] = []
    try:
        plan = smallest_that_fits(plans(graph, options.recompute), board.ram_bytes, STACK_BYTES)
        sources = generate(plan, f"{name} for {board.title}")
        kept = [file for file in _YOURS if (folder / file).exists()]
        if changed := [file for file in kept if (folder / file).read_bytes() != (TEMPLATES / file).read_bytes()]:
            notes.append(f"{' and '.join(changed)} in {folder} stayed as before; what is deleted there is written anew")
        report = _checked(name, model, graph, plan, sources, board, frames, options, notes, say)
    except FaceblurError as error:
        if earlier:
            raise type(error)(f"{error.message}; the earlier export in {folder} is unchanged") from None
        _save(folder, files)
        raise type(error)(f"{error.message}; only model_int8.tflite and model_data.c are in {folder}") from None
    files |= {file: text.encode() for file, text in sources.items()}
    files |= {file: (TEMPLATES / file).read_bytes() for file in _YOURS if file not in kept}
    files["plan.svg"] = drawing(plan).encode()
    files["report.json"], files["report.md"] = report.as_json(board).encode(), report.as_markdown(board).encode()
    _save(folder, files)
    return report


_YOURS = ("main.c", "CMakeLists.txt")  # written once, for people to go on with
_PARTIAL = ".faceblur-"  # how the folder begins in which files are before all are written
_WRITTEN = {*_YOURS, "model_int8.tflite", "model_data.c", "model_data.h", "net.c", "net.h", "plan.svg", "report.md"}


def holds_export(folder: Path) -> bool:
    """Return whether a whole export is in a folder, which need not exist.

    :raises UsageMistake: if something else is, or it can be no folder
    """
    check_folder_above(folder)
    found = {path.name for path in folder.iterdir() if not path.name.startswith(_PARTIAL)} if folder.is_dir() else set()
    with contextlib.suppress(OSError, ValueError, RecursionError):
        report = json.loads((folder / "report.json").read_bytes())
        if isinstance(report, dict) and "arena_bytes" in report:
            return True
    if found and not {"model_int8.tflite"} <= found <= _WRITTEN:  # these are of an export that failed
        raise UsageMistake(f"{folder} holds files and no report.json of an earlier export; choose a new folder")
    return False


def _save(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files, then put them in their places; the report is gone before any other is another's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=folder) as partial:
            for name, content in files.items():
                (Path(partial) / name).write_bytes(content)
            (folder / "report.json").unlink(missing_ok=True)
            for name in files:
                (Path(partial) / name).replace(folder / name)
    except OSError as error:
        raise FaceblurError(f"{folder} cannot be written ({error.strerror})") from None


def _checked(
    name: str,
    model: bytes,
    graph: Graph,
    plan: Plan,
    sources: dict[str, str],
    board: Board,
    frames: Sequence[Bytes],
    options: Options,
    notes: list[str],
    say: Say,
) -> Report:
    expected = _expected(model, frames, notes)
    mismatches: int | None = None
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
    if not simulated and plan.planned_bytes + STACK_BYTES > board.ram_bytes:
        raise FaceblurError(
            f"the network does not fit: it needs {plan.planned_bytes:,} bytes of RAM and some {STACK_BYTES} for the stack, "
            f"{board.title} has {board.ram_bytes:,}; --fit shows what fits where"
        )
    ram = simulated.ram_bytes + simulated.stack_bytes if simulated else plan.planned_bytes
    return Report(
        network=name,
        board=board.name,
        recompute=plan.recompute,
        ram_bytes=ram,
        arena_bytes=plan.linked_bytes,
        frame_bytes=plan.frame_bytes,
        stack_bytes=simulated.stack_bytes if simulated else None,
        flash_bytes=simulated.flash_bytes if simulated else None,
        instructions=sum(simulated.instructions.values()) if simulated else None,
        pictures=len(frames) if mismatches is not None else 0,
        mismatches=mismatches,
        simulated_pictures=len(simulated.outputs) if simulated else 0,
        machine=simulated.machine if simulated else None,
        macs=plan.macs,
        fits=True if simulated else None,
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
    try:
        return simulate(sources, plan, frames, board.simulated_as, board.ram_bytes, board.flash_bytes, timeout=options.timeout)
    except NotSimulated as error:
        notes.append(error.message)
        return None


def _vela(model: bytes, board: Board, notes: list[str]) -> VelaEstimate | None:
    if board.ethos is None:
        return None
    try:
        return estimate(model, board.ethos)
    except FaceblurError as error:
        notes.append(error.message)
        return None
