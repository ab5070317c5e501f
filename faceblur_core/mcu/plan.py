"""When each row is made and where it lies: the schedule, places in one arena, and what is worth computing twice.

Rows are pulled from the output upwards: before a row is made, the rows that it reads are. A row stays as long as
something still reads it; so of each tensor only a few rows are in memory at a time, and each row has a place of its own.
The output may overwrite the input frame where the rows that it overwrites have been read for the last time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.mcu.arena import ALIGNMENT, Need, pack
from faceblur_core.mcu.graph import Graph
from faceblur_core.mcu.kernels import Conv, Load, TransposeConv
from faceblur_core.mcu.rows import Buffer, Edge, RowProgram, Step, row_program

AUTO = "auto"
RECOMPUTE = ("r0", "r1")  #: keep everything; compute the tensor of which most is kept a second time
SLACK = 16  #: bytes behind the arena and each array that the kernels may read and never use
COLUMNS = 4  #: pixels that the DSP kernel works on at a time


@dataclass(frozen=True, slots=True)
class KeptRows:
    """The rows of a buffer in the arena."""

    most: int  #: how many there are at the same time
    bytes: int  #: of so many
    places: tuple[int, ...]  #: of each row, bytes


@dataclass(frozen=True, eq=False)
class Plan:
    """How a network runs within its arena."""

    program: RowProgram
    schedule: tuple[int, ...]  #: steps by their index, in the order of their runs
    rows: Mapping[Buffer, KeptRows]
    scratch: Mapping[Step, tuple[int, ...]]  #: places of the memory that the DSP kernel needs besides, for each run of a step
    arena_bytes: int  #: without the frame
    in_place: bool  #: whether the output may overwrite the input
    recompute: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of the input and output frames; of the larger one if they are one."""
        sizes = self.program.input_bytes, self.program.output_bytes
        return max(sizes) if self.in_place else sum(sizes)

    @property
    def linked_bytes(self) -> int:
        """Bytes of ``net_arena`` in the C code: the arena, and what is behind its last row and may be read."""
        return self.arena_bytes + SLACK

    @property
    def planned_bytes(self) -> int:
        """Bytes of RAM that the arena and the frames take."""
        return self.linked_bytes + self.frame_bytes

    @property
    def macs(self) -> int:
        """Multiplications for one picture, those done twice included."""
        return sum(step.macs for step in self.program.steps)


def plan(graph: Graph, recompute: str = "r0") -> Plan:
    """Return the plan of a network.

    :param recompute: one of ``RECOMPUTE``
    :raises UsageMistake: if there is nothing to compute twice
    :raises FaceblurError: if the network cannot be exported, see :func:`faceblur_core.mcu.rows.row_program`
    """
    kept = _planned(row_program(graph), "r0")
    if recompute == "r0":
        return kept
    edge = _costliest_edge(graph, kept)
    if edge is None:
        raise UsageMistake("no tensor of this network is kept for a second reader; there is nothing to compute twice: use r0")
    return _planned(row_program(graph, [edge]), recompute)


def plans(graph: Graph, recompute: str = AUTO) -> list[Plan]:
    """Return the plans to choose from, r0 first; with ``AUTO`` r1 only where it makes the arena smaller.

    :raises FaceblurError: as :func:`plan`
    """
    if recompute != AUTO:
        return [plan(graph, recompute)]
    found = [plan(graph)]
    with contextlib.suppress(UsageMistake):
        found += [smaller for smaller in [plan(graph, "r1")] if smaller.arena_bytes < found[0].arena_bytes]
    return found


def smallest_that_fits(candidates: Sequence[Plan], ram: int, reserve: int) -> Plan:
    """Return the first plan whose arena, frame and ``reserve`` bytes fit into ``ram`` bytes; else the smallest."""
    for candidate in candidates:
        if candidate.planned_bytes + reserve <= ram:
            return candidate
    return min(candidates, key=lambda item: item.planned_bytes)


def _costliest_edge(graph: Graph, kept: Plan) -> Edge | None:
    """Return which input of which operator to compute twice: the last reader of the tensor of which most is kept."""
    best: tuple[int, Edge] | None = None
    for operator in graph.operators:
        readers = [
            (other.index, slot)
            for other in graph.operators
            for slot, index in enumerate(other.inputs)
            if index in operator.outputs
        ]
        rows = [kept.rows[made] for made in map(kept.program.tensors.get, operator.outputs) if made is not None]
        if len(readers) < 2 or not rows:
            continue
        if best is None or rows[0].bytes > best[0]:
            best = rows[0].bytes, max(readers)
    return best[1] if best else None


def _planned(program: RowProgram, recompute: str) -> Plan:
    order = schedule(program)
    lives = row_lives(program, order)
    needs = [Need(buffer.row_bytes, life.written, life.read) for buffer in program.buffers for life in lives[buffer]]
    runs = {step: [time for time, number in enumerate(order) if program.steps[number] is step] for step in program.steps}
    working = [step for step in program.steps if scratch_bytes(step)]
    needs += [Need(scratch_bytes(step), time, time) for step in working for time in runs[step]]
    places, arena = pack(needs)
    left = iter(places)
    rows = {buffer: _kept(buffer, lives[buffer], tuple(next(left) for _ in lives[buffer])) for buffer in program.buffers}
    scratch = {step: tuple(next(left) for _ in runs[step]) for step in working}
    found = Plan(program, tuple(order), rows, scratch, arena, _in_place(program, order), recompute)
    verify(found)
    return found


def _kept(buffer: Buffer, lives: Sequence[RowLife], places: tuple[int, ...]) -> KeptRows:
    most = max(sum(other.written <= life.written <= other.read for other in lives) for life in lives)
    return KeptRows(most, most * buffer.row_bytes, places)


def schedule(program: RowProgram) -> list[int]:
    """Return the steps, by index, in the order of their runs: what makes the next row of the output with the least before it."""
    numbers = {step: number for number, step in enumerate(program.steps)}
    done = dict.fromkeys(program.steps, 0)
    order: list[int] = []

    def run(step: Step) -> None:
        for buffer, _, last in step.reads(done[step]):
            make(buffer, last)
        order.append(numbers[step])
        done[step] += 1

    def make(buffer: Buffer, row: int) -> None:
        for step in buffer.writers:
            while done[step] <= row:
                run(step)

    shares = [
        ((row + 1) / buffer.height, index, row) for index, buffer in enumerate(program.outputs) for row in range(buffer.height)
    ]
    for _, index, row in sorted(shares):
        make(program.outputs[index], row)
    return order


@dataclass(slots=True)
class RowLife:
    """When a row is needed, in runs of steps from the schedule's beginning."""

    written: int  #: first run that writes it
    read: int  #: last run that writes or reads it


def row_lives(program: RowProgram, order: Iterable[int]) -> dict[Buffer, list[RowLife]]:
    """Return the life of every row that a schedule makes."""
    lives: dict[Buffer, list[RowLife]] = {buffer: [] for buffer in (*program.buffers, *program.outputs)}
    done = [0] * len(program.steps)
    for time, number in enumerate(order):
        step, row = program.steps[number], done[number]
        done[number] += 1
        for buffer, first, last in step.reads(row):
            for life in lives[buffer][first : last + 1]:
                life.read = time
        rows = lives[step.output]
        if row == len(rows):
            rows.append(RowLife(time, time))
        rows[row].read = time
    return lives


CHUNK = 288  #: inputs of one pixel that the DSP kernel takes in at a time; a multiple of 4, at most 512


def scratch_bytes(step: Step) -> int:
    """Return the bytes that the DSP kernel needs: the 16-bit inputs and the sums of ``COLUMNS`` pixels of a convolution."""
    if not isinstance(step.kernel, (Conv, TransposeConv)):
        return 0
    return 2 * COLUMNS * CHUNK + 4 * COLUMNS * (step.channels + step.channels % 2)


def _in_place(program: RowProgram, order: Iterable[int]) -> bool:
    """Return whether no byte of the input frame is overwritten before it is read for the last time."""
    row_bytes = program.input_bytes // program.input.shape[1]
    done = [0] * len(program.steps)
    written = 0  # how far from the frame's beginning
    for number in order:
        step, row = program.steps[number], done[number]
        done[number] += 1
        if isinstance(step.kernel, Load) and row * row_bytes < written:
            return False
        if step.output.frame_offset is not None:
            written = max(written, step.output.frame_offset + (row + 1) * step.output.row_bytes)
    return True


def verify(made: Plan) -> None:
    """Run the plan with names of rows instead of values. :raises FaceblurError: if a step would read a row that is not there"""
    memory: list[object] = [None] * (made.arena_bytes // ALIGNMENT)
    done = [0] * len(made.program.steps)
    for number in made.schedule:
        step, row = made.program.steps[number], done[number]
        done[number] += 1
        if step in made.scratch:
            place = made.scratch[step][row] // ALIGNMENT
            length = -(-scratch_bytes(step) // ALIGNMENT)
            memory[place : place + length] = [None] * length
        needed = [(buffer, index) for buffer, first, last in step.reads(row) for index in range(first, last + 1)]
        if step.output in made.rows:
            if step is step.output.writers[0]:
                units = _units(made, step.output, row)
                memory[units] = [(step.output, row)] * (units.stop - units.start)
            needed.append((step.output, row))
        for buffer, index in needed:
            if any(unit != (buffer, index) for unit in memory[_units(made, buffer, index)]):
                raise FaceblurError(f"faulty plan: {step.name} misses row {index} of {buffer.name}")


def _units(made: Plan, buffer: Buffer, row: int) -> slice:
    """Return where a row lies, in units of ``ALIGNMENT``."""
    place = made.rows[buffer].places[row] // ALIGNMENT
    return slice(place, place - (-buffer.row_bytes // ALIGNMENT))
