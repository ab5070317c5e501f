"""What an export found, as ``report.json`` for programs and ``report.md`` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from faceblur_core.mcu.boards import Board, assumption
from faceblur_core.mcu.vela import VelaEstimate


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures of one export. None: not found out, and ``notes`` says why."""

    network: str  #: method or file
    board: str
    recompute: str
    ram_bytes: int  #: frame, arena and everything else; with the stack if that was measured
    arena_bytes: int
    frame_bytes: int
    stack_bytes: int | None  #: measured in the simulation
    flash_bytes: int | None  #: code, constants and initial data, as linked
    instructions: int | None  #: of one picture
    pictures: int  #: on which the generated C was compared with tflite-micro
    mismatches: int | None  #: bytes that differ, on this machine and on the simulated board together
    simulated_pictures: int
    machine: str | None  #: QEMU's
    macs: int
    fits: bool | None  #: None: it fits without its flash and stack, which were not measured
    layers: Mapping[str, int] = field(default_factory=dict)  #: instructions of each step
    rows: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  #: of each tensor: most rows at a time, rows, bytes
    operators: Mapping[str, int] = field(default_factory=dict)
    vela: VelaEstimate | None = None
    notes: tuple[str, ...] = ()

    def as_json(self, board: Board) -> str:
        """Return ``report.json``."""
        rates = board.frame_rates(self.instructions) if self.instructions else None
        more = {"board_ram_bytes": board.ram_bytes, "board_flash_bytes": board.flash_bytes, "fps_range": rates}
        return json.dumps(asdict(self) | more | {"fps_assumption": assumption(board.core)}, indent=2) + "\n"

    def as_markdown(self, board: Board) -> str:
        """Return ``report.md``."""
        counted = f"counted in QEMU ({self.machine}), one picture" if self.machine else "one picture"
        rows = [
            (
                "RAM",
                _of(self.ram_bytes, board.ram_bytes),
                "frame, arena" + (", stack" if self.stack_bytes else "; stack not measured"),
            ),
            ("of it frame", _kib(self.frame_bytes), ""),
            ("of it arena", _kib(self.arena_bytes), f"recomputation {self.recompute}"),
            ("of it stack", _kib(self.stack_bytes), "measured in the simulation"),
            ("flash", _of(self.flash_bytes, board.flash_bytes), "code, weights, constants, start-up code, as linked"),
            ("multiplications", f"{self.macs:,}", "planned"),
            ("instructions", _count(self.instructions), counted),
            ("frames per second", _rates(board, self.instructions), assumption(board.core)),
            ("pictures compared", str(self.pictures), f"{self.simulated_pictures} of them on the simulated board too"),
            ("bytes that differ from tflite-micro", _count(self.mismatches), ""),
        ]
        if self.vela:
            v = self.vela
            rows += [
                (
                    f"{v.accelerator}: cycles",
                    f"{v.cycles:,} ({v.milliseconds:.1f} ms at {v.clock_hz / 1e6:.0f} MHz)",
                    "estimate of Vela",
                ),
                (f"{v.accelerator}: SRAM", _kib(v.sram_bytes), "estimate of Vela"),
                (f"{v.accelerator}: operators left to the processor", str(v.cpu_operators), "Vela"),
            ]
        parts = [
            f"# {self.network} on {board.title}\n",
            f"{board.core}, {board.clock_mhz:g} MHz; figures of the board: {board.source}.\n",
        ]
        parts += [f"- {note}" for note in self.notes] + ["" for _ in self.notes[:1]]
        parts.append(_table(("", "", "how"), rows))
        if self.layers:
            total = sum(self.layers.values())
            parts.append("## Instructions by step\n")
            parts.append(
                _table(("step", "instructions", "share"), [(n, f"{c:,}", f"{c / total:.1%}") for n, c in self.layers.items()])
            )
        parts.append("## Rows kept\n")
        parts.append("![Which rows of each tensor are in memory, from the first step to the last](plan.svg)\n")
        parts.append(_table(("tensor", "rows", "of", "bytes"), [(n, *(f"{v:,}" for v in kept)) for n, kept in self.rows.items()]))
        return "\n".join(parts)


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (columns, tuple("---" for _ in columns), *rows)]
    return "\n".join(lines) + "\n"


def _kib(count: int | None) -> str:
    return "not known" if count is None else f"{count:,} B ({count / 1024:.1f} KiB)"


def _of(count: int | None, limit: int) -> str:
    return _kib(count) + (f" of {limit / 1024:,.0f} KiB" if count is not None else "")


def _count(count: int | None) -> str:
    return "not known" if count is None else f"{count:,}"


def _rates(board: Board, instructions: int | None) -> str:
    rates = board.frame_rates(instructions) if instructions else None
    return f"{rates[0]:.2f} to {rates[1]:.2f}" if rates else "not known"
