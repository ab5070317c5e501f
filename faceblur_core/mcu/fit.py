"""Which networks fit which boards, and how fast they may be there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faceblur_core.errors import FaceblurError
from faceblur_core.mcu.board import SIMULATED_BY_DEFAULT, STACK_BYTES, NotSimulated, missing_tools, simulate
from faceblur_core.mcu.boards import Board
from faceblur_core.mcu.codegen import arena_bytes, generate
from faceblur_core.mcu.graph import parse, self_contained
from faceblur_core.mcu.plan import Plan, plans, smallest_that_fits
from faceblur_core.mcu.source import Int8Network
from faceblur_core.mcu.vela import estimate

_ROOM = 64 << 20  # flash for measuring what a network needs


@dataclass(frozen=True, slots=True)
class Fit:
    """One network on one board."""

    network: str
    board: str
    recompute: str
    ram_bytes: int | None  #: frame, arena and stack; None: the network cannot be exported
    flash_bytes: int | None  #: None: not known for this processor
    fits: bool
    instructions: int | None  #: of one picture, counted in QEMU
    fps: tuple[float, float] | None  #: by the assumption about the processor
    ethos: str = ""  #: Vela's estimate for the board's Ethos-U
    note: str = ""  #: why something is not known


def fits(networks: Sequence[Int8Network], boards: Sequence[Board]) -> Iterator[Fit]:
    """Yield how each network fits each board; each plan is simulated once for each processor."""
    for network in networks:
        try:
            rows = list(_fits(network, boards))
        except FaceblurError as error:
            rows = [Fit(network.name, board.name, "", None, None, False, None, None, note=error.message) for board in boards]
        yield from rows


def _fits(network: Int8Network, boards: Sequence[Board]) -> Iterator[Fit]:
    candidates = plans(parse(self_contained(network.model)))
    known: dict[tuple[str, str], tuple[int | None, int | None, int, str]] = {}
    for board in boards:
        plan = smallest_that_fits(candidates, board.ram_bytes, STACK_BYTES)
        core = board.simulated_as or ""
        if (core, plan.recompute) not in known:
            known[core, plan.recompute] = _measured(network, plan, core)
        flash, instructions, stack, note = known[core, plan.recompute]
        ram = arena_bytes(plan) + plan.frame_bytes + stack
        fitting = ram <= board.ram_bytes and (flash or len(network.model)) <= board.flash_bytes
        rates = board.frame_rates(instructions) if instructions else None
        ethos = _ethos(network, board)
        yield Fit(network.name, board.name, plan.recompute, ram, flash, fitting, instructions, rates, ethos, note)


def _measured(network: Int8Network, plan: Plan, core: str) -> tuple[int | None, int | None, int, str]:
    """Return flash, instructions and stack of a plan on a processor that is simulated quickly enough, and why not."""
    if core not in SIMULATED_BY_DEFAULT:
        return None, None, STACK_BYTES, ""
    if line := missing_tools():
        return None, None, STACK_BYTES, line
    try:
        found = simulate(generate(plan, network.name), plan, network.frames[:1], core, _ROOM, _ROOM)
    except NotSimulated as error:
        return None, None, STACK_BYTES, error.message
    return found.flash_bytes, sum(found.instructions.values()), found.stack_bytes, ""


def _ethos(network: Int8Network, board: Board) -> str:
    if board.ethos is None:
        return ""
    try:
        found = estimate(self_contained(network.model), board.ethos)
    except FaceblurError as error:
        return error.message
    return (
        f"{board.ethos}: {found.cycles:,} cycles, SRAM {found.sram_bytes / 1024:.0f} KiB, "
        f"{found.cpu_operators} operators left to the processor"
    )
