"""The generated C on a simulated board: QEMU with the board's RAM and flash as the linker's limits.

QEMU counts instructions and knows no cycles: figures from here are instructions of the processor's code, not time.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.mcu.codegen import TEMPLATES
from faceblur_core.mcu.host import STRICT, run_tool, write_sources
from faceblur_core.mcu.plan import Plan

Bytes = NDArray[np.int8]
STACK_BYTES = 1024  #: kept free for the stack by the linker script; interrupts of a real program need their own

COMPILER, SIMULATOR, SIZE = "arm-none-eabi-gcc", "qemu-system-arm", "arm-none-eabi-size"
_PACKAGES = {COMPILER: "gcc-arm-none-eabi", SIZE: "binutils-arm-none-eabi", SIMULATOR: "qemu-system-arm"}


_OPTIONS = (  # one nanosecond for each instruction; what the program prints goes to stdout
    *("-icount", "shift=0", "-display", "none", "-monitor", "none", "-serial", "none", "-chardev", "stdio,id=said"),
    *("-semihosting-config", "enable=on,target=native,chardev=said"),
)


class NotSimulated(FaceblurError):
    """The network needs more memory than QEMU's machine has, which has less than the board."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One of QEMU's machines, and where its memories lie."""

    name: str  #: QEMU's
    code: int  #: where the vectors and the code go
    code_size: int
    constants: int  #: the same as ``code``: both are in one memory
    constants_size: int
    ram: int
    ram_size: int
    harness: int  #: 64 KiB for what measures
    per_tick: Fraction  #: instructions in one tick of SysTick


_MB = 1 << 20
_MPS2 = (0, 4 * _MB, 0, 4 * _MB, 0x2000_0000, 3 * _MB, 0x2030_0000, Fraction(40))
_MPS3 = (0, 512 << 10, 0x7000_0000, 16 * _MB, 0x2100_0000, 2 * _MB, 0x2000_0000, Fraction(125, 4))
M3 = Machine("mps2-an385", *_MPS2)
M4 = Machine("mps2-an386", *_MPS2)
M7 = Machine("mps2-an500", *_MPS2)
M55 = Machine("mps3-an547", *_MPS3)

#: core: the machine that simulates it and the compiler's flags
CORES: dict[str, tuple[Machine, tuple[str, ...]]] = {
    "cortex-m0plus": (M3, ("-mcpu=cortex-m0plus",)),
    "cortex-m3": (M3, ("-mcpu=cortex-m3",)),
    "cortex-m4": (M4, ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")),
    "cortex-m7": (M7, ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16")),
    "cortex-m55": (M55, ("-mcpu=cortex-m55", "-mfloat-abi=hard")),
}
SIMULATED_BY_DEFAULT = ("cortex-m4", "cortex-m7", "cortex-m55")  #: for fit tables; the others take minutes
OPTIMIZE = ("-O2", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-mthumb", "-fno-tree-loop-distribute-patterns")


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What a network did on a simulated board."""

    machine: str
    outputs: tuple[Bytes, ...]
    instructions: Mapping[str, int]  #: of each step, in one picture
    stack_bytes: int
    flash_bytes: int  #: code, constants and initial data, start-up code and what measures included
    ram_bytes: int  #: data, frame and arena, without the stack


def missing_tools() -> str:
    """Return what to install for the simulation, as a line; empty if everything is there."""
    missing = [package for tool, package in _PACKAGES.items() if shutil.which(tool) is None]
    return f"no simulation: install {' and '.join(missing)} (Debian: apt install {' '.join(missing)})" if missing else ""


def simulate(
    sources: Mapping[str, str], plan: Plan, frames: Sequence[Bytes], core: str, ram: int, flash: int, *, timeout: float = 600
) -> Simulated:
    """Run frames through generated C on a simulated board.

    :param sources: ``net.c`` and ``net.h``
    :param core: one of ``CORES``
    :param ram: the board's RAM, bytes; frame, arena and stack must fit
    :param flash: the board's flash, bytes; code and constants must fit
    :raises MissingDependency: if the simulator or the compiler is not installed
    :raises NotSimulated: if the network needs more memory than QEMU's machine has, and the board has more
    :raises FaceblurError: if the network does not fit, or its program fails
    """
    if line := missing_tools():
        raise MissingDependency(line)
    machine, flags = CORES[core]
    with tempfile.TemporaryDirectory(prefix="faceblur-board-") as name:
        folder = Path(name)
        program = _build(folder, sources, machine, flags, ram, flash)
        sizes = _sizes(program)
        (folder / "in.bin").write_bytes(b"".join(np.ascontiguousarray(frame, np.int8).tobytes() for frame in frames))
        said = run_tool(
            [SIMULATOR, "-M", machine.name, *_OPTIONS, "-kernel", str(program)],
            cwd=folder,
            timeout=timeout,
        )
        values = np.fromfile(folder / "out.bin", np.int8)
    figures = [line.split() for line in said.splitlines()]
    ticks = [int(value) for key, value in figures if key == "ticks"]
    stack = [int(value) for key, value in figures if key == "stack"]
    if len(values) != len(frames) * plan.program.output_bytes or len(ticks) != len(plan.program.steps) or len(stack) != 1:
        raise FaceblurError(f"the simulated board stopped early: {' '.join(said.split())[-200:] or 'it said nothing'}")
    if stack[0] >= STACK_BYTES:
        raise FaceblurError(f"the network's program needs more than {STACK_BYTES} bytes of stack")
    names = [step.name for step in plan.program.steps]
    return Simulated(
        machine.name,
        tuple(values.reshape(len(frames), -1)),
        {name: int(count * machine.per_tick) for name, count in zip(names, ticks, strict=True)},
        stack[0],
        sizes[".text"] + sizes[".rodata"] + sizes[".data"],
        sizes[".data"] + sizes[".bss"],
    )


def _build(folder: Path, sources: Mapping[str, str], machine: Machine, flags: Sequence[str], ram: int, flash: int) -> Path:
    templates = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in ("startup.c", "harness.c", "board.h")}
    write_sources(folder, {**sources, **templates, "board.ld": _linker_script(machine, ram, flash)})
    program = folder / "net.elf"
    files = [str(folder / name) for name in ("startup.c", "harness.c", "net.c")]
    linking = ("-nostartfiles", "-nodefaultlibs", "-Wl,--gc-sections", "-T", str(folder / "board.ld"), "-lgcc")
    try:
        run_tool([COMPILER, *flags, *OPTIMIZE, *STRICT, "-DNET_PROFILE", *files, *linking, "-o", str(program)])
    except FaceblurError as error:
        found = dict(re.findall(r"region [`']?(\w+)'? overflowed(?: by (\d+) bytes)?", error.message))  # not all say by how much
        if not found:
            raise
        if short := _short_of(machine, ram, flash, found):
            raise NotSimulated(f"not simulated: QEMU's {machine.name} has only {short}") from None
        said = ", ".join(f"{region} is {f'{int(count):,} bytes ' if count else ''}too small" for region, count in found.items())
        raise FaceblurError(f"the network does not fit: {said}; --fit shows what fits where") from None
    return program


def _short_of(machine: Machine, ram: int, flash: int, regions: Iterable[str]) -> str:
    """Return what a machine has of some of its memories; empty if the board has no more of one of them."""
    in_one = machine.code == machine.constants
    sizes = {"RAM": machine.ram_size, "CODE": machine.code_size, "CONSTANTS": machine.constants_size}
    sizes["FLASH"] = machine.code_size if in_one else flash  # in two parts: what the script checks is the board's
    if any(sizes.get(region, flash) >= (ram if region == "RAM" else flash) for region in regions):
        return ""
    return " and ".join(f"{sizes[region] >> 10:,} KiB of {region}" for region in regions)


def _linker_script(machine: Machine, ram: int, flash: int) -> str:
    values = {
        "CODE": machine.code,
        "CODE_SIZE": min(machine.code_size, flash),
        "CONSTANTS": machine.constants,
        "CONSTANTS_SIZE": min(machine.constants_size, flash),
        "RAM": machine.ram,
        "RAM_SIZE": min(machine.ram_size, ram),
        "HARNESS": machine.harness,
        "STACK_SIZE": STACK_BYTES,
        "FLASH_SIZE": flash,
    }
    script = (TEMPLATES / "board.ld").read_text(encoding="utf-8")
    if machine.code == machine.constants:
        lines = [line for line in script.splitlines() if not line.strip().startswith("CONSTANTS (")]
        script = (
            "\n".join(lines).replace("> CONSTANTS", "> FLASH").replace("> CODE", "> FLASH").replace("CODE (", "FLASH (") + "\n"
        )
    for name, value in values.items():
        script = script.replace(f"@{name}@", hex(value))
    return script


def _sizes(program: Path) -> dict[str, int]:
    rows = [line.split() for line in run_tool([SIZE, "-A", str(program)]).splitlines()]
    return dict.fromkeys((".text", ".rodata", ".data", ".bss"), 0) | {
        row[0]: int(row[1]) for row in rows if row and row[0].startswith(".")
    }
