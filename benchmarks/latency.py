"""How long each U-Net takes for one photo, as a ratio to MediaPipe's detector on the same photo, one thread each.

Usage: python benchmarks/latency.py MACHINE [PHOTO]; writes results/latency-v1--MACHINE.csv. Without a photo: NASA's portrait
of an astronaut, 512 x 512, from scikit-image. Whole calls are timed: reducing the photo, the network, mask and compositing; for
MediaPipe the detection alone. Each is called in turn, so that all see the machine in the same state; medians of the rounds.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
from tables import write_rows

from faceblur_core.media.images import read_photo
from faceblur_core.methods import find_method
from faceblur_core.plugins import installed_plugins
from faceblur_unet import SHIPPED

RESULTS = Path(__file__).parents[1] / "results"
NETWORKS = [f"unet-{name}" for name in SHIPPED]
ROUNDS = 41


def milliseconds(call, photo: np.ndarray) -> float:
    started = time.perf_counter()
    call(photo)
    return (time.perf_counter() - started) * 1e3


def main(machine: str, photo: np.ndarray) -> None:
    plugins = installed_plugins()
    calls = {"mediapipe": plugins.make("detector", "mediapipe")}
    calls |= {name: find_method(name, {}, plugins).make() for name in NETWORKS}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 3):
        for name, call in calls.items():
            value = milliseconds(call, photo)
            if number >= 3:
                times[name].append(value)
    calls["mediapipe"].close()
    rows = []
    for name, values in times.items():
        ratios = sorted(value / peer for value, peer in zip(values, times["mediapipe"], strict=True))
        middle, low, high = (f"{ratios[round(share * (ROUNDS - 1))]:.2f}" for share in (0.5, 0.05, 0.95))
        row = {"network": name, "ms": f"{statistics.median(values):.2f}", "/ mediapipe": middle, "low": low, "high": high}
        rows.append({**row, "photo": f"{photo.shape[1]} x {photo.shape[0]}", "rounds": ROUNDS})
        print(*rows[-1].values())
    write_rows(RESULTS / f"latency-v1--{machine}.csv", rows)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        picture = read_photo(Path(sys.argv[2]).read_bytes()).frames[0].rgb()
    else:
        from skimage import data

        picture = data.astronaut()
    main(sys.argv[1], picture)
