"""Which networks fit which boards, and how fast they may be there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faceblur_core.errors import FaceblurError
from faceblur_core.mcu.board import SIMULATED_BY_DEFAULT, STACK_BYTES, NotSimulated, missing_tools, simulate
from faceblur_core.mcu.boards import Board
from faceblur_core.mcu.codegen import generate
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
    ram_bytes: int | None  #: frame, arena and what is kept free for the stack; None: the network cannot be exported
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
    known: dict[tuple[str, str], _Measured] = {}
    for board in boards:
        plan = smallest_that_fits(candidates, board.ram_bytes, STACK_BYTES)
        core = board.simulated_as or ""
        if (core, plan.recompute) not in known:
            known[core, plan.recompute] = _measured(network, plan, core)
        found = known[core, plan.recompute]
        ram = plan.planned_bytes + STACK_BYTES
        small = ram <= board.ram_bytes and (found.flash or len(network.model)) <= board.flash_bytes
        rates = board.frame_rates(found.instructions) if found.instructions else None
        yield Fit(
            network.name,
            board.name,
            plan.recompute,
            ram,
            found.flash,
            small and found.works,
            found.instructions,
            rates,
            _ethos(network, board),
            found.note,
        )


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a plan needs on a processor; None: not known, and ``note`` may say why."""

    flash: int | None = None
    instructions: int | None = None
    note: str = ""
    works: bool = True  #: False: no board with this processor runs it


def _measured(network: Int8Network, plan: Plan, core: str) -> _Measured:
    """Return what a plan needs on a processor, if that is simulated quickly enough."""
    if core not in SIMULATED_BY_DEFAULT:
        return _Measured()
    if line := missing_tools():
        return _Measured(note=line)
    sources = generate(plan, network.name)
    try:
        found = simulate(sources, plan, network.frames[:1], core, _ROOM, _ROOM)
    except FaceblurError as error:
        return _Measured(note=error.message, works=isinstance(error, NotSimulated))
    return _Measured(found.flash_bytes, sum(found.instructions.values()))


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
