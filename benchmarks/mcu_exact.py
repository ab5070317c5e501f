"""Compare the C code of every U-Net that ships with tflite-micro, byte by byte, on this machine and in QEMU.

Usage: python benchmarks/mcu_exact.py PHOTOS [NETWORK ...]; writes results/mcu-v1.csv. PHOTOS is a folder of photos, of which
160 are taken, such as the val folder of faces12k; constants, extremes and noise follow to 200 frames on this machine, for r0 and
r1. On the simulated M4, M7 and M55: 20 frames for the two small networks, 3 for the others, 8 of the 20 no photos, with the RAM
limit of LIMITS, which the linker enforces. Rows of the file whose network has not changed are kept and not measured again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tables import rows_of, write_rows

from faceblur_core.mcu.board import simulate
from faceblur_core.mcu.codegen import generate
from faceblur_core.mcu.export import differing
from faceblur_core.mcu.graph import parse, self_contained
from faceblur_core.mcu.host import HostNetwork
from faceblur_core.mcu.oracle import Oracle
from faceblur_core.mcu.pictures import Bytes, frames
from faceblur_core.mcu.plan import plan
from faceblur_core.media.images import read_photo
from faceblur_core.weights import locate
from faceblur_unet import SHIPPED
from faceblur_unet.anonymizer import UNet

RESULT = Path(__file__).parents[1] / "results/mcu-v1.csv"
COLUMNS = ["network", "sha256", "machine", "recompute", "frames", "differing bytes", "RAM", "flash", "stack", "instructions"]
#: network: RAM limits in KiB by plan, frame and stack included
LIMITS = {
    "student-v0": {"r0": 180, "r1": 140},
    "student-v1": {"r0": 304, "r1": 190},
    "student-v2": {"r1": 305},
    "teacher": {"r1": 390},
}
PROCESSORS = ("cortex-m4", "cortex-m7", "cortex-m55")
FLASH = 8 << 20


def rows(name: str, photos: list[Path], known: set[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """Yield what is not known yet of one network."""
    model = self_contained(locate(SHIPPED[f"{name}-int8"]).read_bytes())
    graph, oracle = parse(model), Oracle(model)
    network = UNet(weights=f"{name}-int8", squares=False)
    pictures = [network.network_inputs(read_photo(path.read_bytes()).frames[0].rgb()) for path in photos]
    few = 20 if name in ("student-v0", "student-v1") else 3

    @functools.cache  # the oracle takes most of the time, and the plans share what it says
    def tried(count: int) -> tuple[list[Bytes], list[Bytes]]:
        given = frames(graph, pictures if count == 200 else pictures[: max(few - 8, 2)], count)
        return given, [oracle(frame) for frame in given]

    common = {"network": name, "sha256": SHIPPED[f"{name}-int8"].sha256[0][:12]}
    for machine, limits in [("host", {"r0": 0, "r1": 0}), *((processor, LIMITS[name]) for processor in PROCESSORS)]:
        for recompute, limit in limits.items():
            if (name, common["sha256"], machine, recompute) in known:
                continue
            planned = plan(graph, recompute)
            sources = generate(planned, name)
            row = {**common, "machine": machine, "recompute": recompute}
            if machine == "host":
                given, expected = tried(200)
                host = HostNetwork(sources, planned)
                wrong = differing([host(frame) for frame in given], expected)
                yield {**row, "frames": len(given), "differing bytes": wrong}
                continue
            given, expected = tried(few)
            seen = simulate(sources, planned, given, machine, limit * 1024, FLASH, timeout=3600)
            yield {
                **row,
                "frames": len(given),
                "differing bytes": differing(seen.outputs, expected),
                "RAM": seen.ram_bytes + seen.stack_bytes,
                "flash": seen.flash_bytes,
                "stack": seen.stack_bytes,
                "instructions": sum(seen.instructions.values()),
            }


def main(folder: Path, names: list[str]) -> None:
    kept = []
    if RESULT.exists():
        current = {(name, SHIPPED[f"{name}-int8"].sha256[0][:12]) for name in LIMITS}
        kept = [row for row in rows_of(RESULT) if (row["network"], row["sha256"]) in current]
    known = {(row["network"], row["sha256"], row["machine"], row["recompute"]) for row in kept}
    photos = sorted(folder.glob("*.jpg"))[:160]
    for name in names:
        for row in rows(name, photos, known):
            print(*row.values(), flush=True)
            kept.append(row)
            write_rows(RESULT, sorted(kept, key=lambda row: list(LIMITS).index(row["network"])), COLUMNS)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:] or list(LIMITS))
