"""The boards that networks are exported for: ``boards.yaml`` as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from faceblur_core.errors import UnknownName
from faceblur_core.options import made, read_yaml
from faceblur_core.types import option

#: processor: least and most cycles for one instruction, if code and data come from memory without wait states or from caches
CYCLES: dict[str, tuple[float, float]] = {
    "Cortex-M0+": (1.2, 2.0),
    "Cortex-M4": (1.0, 1.6),
    "Cortex-M33": (1.0, 1.6),
    "Cortex-M7": (0.7, 1.4),
    "Cortex-M55": (1.2, 2.4),  # a Helium instruction takes two
}


@dataclass(frozen=True)
class Board:
    """A board, as far as a network is concerned."""

    name: str = option(..., "what --board takes")
    title: str = option(..., "what people call it")
    core: str = option(..., "its processor")
    simulated_as: str | None = option(..., "the processor that QEMU simulates, see board.CORES; none: not simulated")
    clock_mhz: float = option(..., "highest clock, MHz")
    ram_kib: int = option(..., "largest contiguous RAM, KiB")
    ram: str = option(..., "what that RAM is")
    flash_kib: int = option(..., "flash, KiB")
    flash: str = option(..., "where the flash is")
    source: str = option(..., "where the figures are from")
    ethos: str | None = option(None, "its Ethos-U, as Vela calls it")

    @property
    def ram_bytes(self) -> int:
        """RAM in bytes."""
        return self.ram_kib * 1024

    @property
    def flash_bytes(self) -> int:
        """Flash in bytes."""
        return self.flash_kib * 1024

    def frame_rates(self, instructions: int) -> tuple[float, float] | None:
        """Return the least and the most frames per second by ``CYCLES``; None for a processor without an assumption."""
        if self.core not in CYCLES:
            return None
        fast, slow = CYCLES[self.core]
        return self.clock_mhz * 1e6 / (instructions * slow), self.clock_mhz * 1e6 / (instructions * fast)


@cache
def boards() -> Mapping[str, Board]:
    """Return all boards by name."""
    content = read_yaml(Path(__file__).with_name("boards.yaml"), "board table")
    return {name: made(Board, {"name": name, **row}, f"board {name}") for name, row in content.items()}


def find_board(name: str) -> Board:
    """Return the board of that name. :raises UnknownName: if there is none"""
    if name not in boards():
        raise UnknownName("board", name, boards())
    return boards()[name]


def assumption(core: str) -> str:
    """Return the sentence that has to stand beside frame rates."""
    if core not in CYCLES:
        return f"no assumption about {core}"
    fast, slow = CYCLES[core]
    return f"{fast:g} to {slow:g} cycles per instruction on {core}, without wait states; assumed, not measured"
