"""What Arm's compiler Vela says of a network on an Ethos-U: cycles and memory by its own model, nothing measured."""

from __future__ import annotations

import csv
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.mcu.host import run_tool


@dataclass(frozen=True, slots=True)
class VelaEstimate:
    """Vela's estimate for one network on one accelerator."""

    accelerator: str
    cycles: int
    clock_hz: float  #: of Vela's default system for that accelerator
    sram_bytes: int
    flash_bytes: int
    cpu_operators: int  #: those that the accelerator leaves to the processor
    npu_operators: int

    @property
    def milliseconds(self) -> float:
        """Time for one picture at that clock."""
        return self.cycles / self.clock_hz * 1e3


def estimate(model: bytes, accelerator: str) -> VelaEstimate:
    """Return Vela's estimate.

    :param model: full-int8 .tflite file
    :param accelerator: such as ``ethos-u55-256``
    :raises MissingDependency: if Vela is not installed
    :raises FaceblurError: if it fails
    """
    vela = shutil.which("vela", path=str(Path(sys.executable).parent)) or shutil.which("vela")
    if vela is None:
        raise MissingDependency("figures for Ethos-U need Vela: install faceblur-core[mcu]")
    with tempfile.TemporaryDirectory(prefix="faceblur-vela-") as name:
        folder = Path(name)
        (folder / "network.tflite").write_bytes(model)
        said = run_tool(
            [vela, "network.tflite", "--accelerator-config", accelerator, "--output-dir", ".", "--verbose-performance"],
            cwd=folder,
        )
        summaries = list(folder.glob("*_summary_*.csv"))
        if len(summaries) != 1:
            raise FaceblurError(f"Vela wrote no summary for {accelerator}")
        with summaries[0].open(newline="") as file:
            row = list(csv.DictReader(file))[-1]
    counts = {kind: re.search(rf"{kind} operators = (\d+)", said) for kind in ("CPU", "NPU")}
    if not all(counts.values()):
        raise FaceblurError("Vela did not say how many operators it leaves to the processor")
    numbers = {kind: int(match[1]) for kind, match in counts.items() if match}
    return VelaEstimate(
        accelerator,
        int(float(row["cycles_total"])),
        float(row["core_clock"]),
        round(float(row["sram_memory_used"]) * 1024),
        round((float(row["off_chip_flash_memory_used"]) + float(row["on_chip_flash_memory_used"])) * 1024),
        numbers["CPU"],
        numbers["NPU"],
    )
