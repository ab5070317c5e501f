"""The generated C compiled for this machine: to check it, and as the backend ``mcu``."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.mcu.plan import Plan

Bytes = NDArray[np.int8]
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion")  #: generated C passes without a warning


class HostNetwork:
    """A network's generated C, loaded into this process."""

    def __init__(self, sources: Mapping[str, str], plan: Plan, flags: Sequence[str] = ("-O3", "-march=native")) -> None:
        """Compile it.

        :param sources: by file name, as :func:`faceblur_core.mcu.codegen.generate` gives them
        :raises MissingDependency: if there is no C compiler, or programs may not run from the temporary folder
        :raises FaceblurError: if the compiler does not take it
        """
        self.plan = plan
        with tempfile.TemporaryDirectory(prefix="faceblur-mcu-") as name:
            folder = Path(name)
            write_sources(folder, sources)
            library = folder / "net.so"
            run_tool([host_compiler(), *STRICT, *flags, "-shared", "-fPIC", str(folder / "net.c"), "-o", str(library)])
            try:
                self._run = ctypes.CDLL(str(library)).net_run  # stays loaded when the file is gone
            except OSError as error:
                raise MissingDependency(
                    f"generated C cannot be run from {folder.parent} ({error}): set TMPDIR to a folder that programs may run from"
                ) from None
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._run.restype = None

    def __call__(self, frame: Bytes) -> Bytes:
        """Return the output bytes for one frame of input bytes; in the same memory where the plan allows it."""
        program = self.plan.program
        memory = np.zeros(max(program.input_bytes, program.output_bytes), np.int8)
        memory[: program.input_bytes] = np.ascontiguousarray(frame, np.int8).ravel()
        out = memory if self.plan.in_place else np.empty(program.output_bytes, np.int8)
        self._run(memory.ctypes.data, out.ctypes.data)
        return out[: program.output_bytes].copy()


def host_compiler() -> str:
    """Return the path of this machine's C compiler. :raises MissingDependency: if there is none"""
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return path
    raise MissingDependency("running generated C needs a C compiler: install gcc or clang")


def run_tool(command: Sequence[str], *, cwd: Path | None = None, timeout: float = 600) -> str:
    """Run a compiler or simulator and return what it wrote to stdout.

    :raises FaceblurError: if it fails or takes longer than ``timeout`` seconds, with the first lines of what it said
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise FaceblurError(f"{name} did not end within {timeout:.0f} s") from None
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())[:600]
        raise FaceblurError(f"{name} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout


def write_sources(folder: Path, sources: Mapping[str, str]) -> None:
    """Write files by their names."""
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
