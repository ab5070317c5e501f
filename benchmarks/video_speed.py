"""How fast ``faceblur run`` is on a video beside deface: writes results/video-speed-v1--<machine>.csv.

Speeds of one machine mean little elsewhere, so each is also given as a ratio to a contestant of the same round on the same
clip: 2 means twice as fast. All command lines run with default settings; their start-up counts, warm file and bytecode caches
are assumed. Both encode with x264 and its preset medium, faceblur with CRF 18, deface with CRF 25, which is less work.

- The clip: 1,000 pictures of 1280 x 720 pixels, 25 a second, H.264: two faces of FDDB cross before a photo without a face, as
  ``faceblur testset build`` makes it.
- ``floor``: PyAV decodes the clip and encodes it again, with x264 as faceblur does, in one process and with no start-up.
- deface finds faces at full size, faceblur's detectors at a reduced one; faceblur follows faces from picture to picture.
- Every value is the median of all rounds, followed by [lowest, highest]; every other round goes in reverse order.

Usage: python benchmarks/video_speed.py MACHINE --deface PATH [--rounds N] [--pictures N]; deface in an environment of its own.
With --pictures, to try the script, nothing is written.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import yaml
from speed import FACEBLUR, Run, call, over_rounds, versions
from tables import write_rows

from faceblur_core.datasets.labels import BadRows
from faceblur_core.testsets.build import build_testset
from truth import SHARED

ROOT = Path(__file__).parents[1]
PICTURES, HEIGHT, WIDTH = 1000, 720, 1280
METHODS = ["mediapipe", "mediapipe,detector.range=short", "yunet"]
DEFACE, FLOOR = "deface", "floor"
OURS = ("faceblur-core", "av", "mediapipe", "opencv-python-headless")
THEIRS = ("deface", "opencv-python", "onnxruntime", "imageio-ffmpeg")


def make_clip(folder: Path, pictures: int) -> Path:
    """Make the clip in a folder and return it."""
    config = yaml.safe_load((ROOT / "configs" / "testsets" / "moving.yaml").read_text())
    config |= {"clips": {"crossing": 1}, "pictures": pictures, "height": HEIGHT, "width": WIDTH, "landmarks": ""}
    (folder / "clip.yaml").write_text(yaml.safe_dump(config))
    made = build_testset(folder / "clip.yaml", SHARED / "data", folder / "set", BadRows()).testset
    return made.folder / str(made.rows[0]["file"])


def pictures_in(path: Path) -> int:
    """Return how many pictures a video holds; they are decoded."""
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def run_faceblur(method: str, clip: Path, target: Path) -> int:
    """Anonymize the clip with a method written as ``NAME[,SETTING…]``."""
    name, *settings = method.split(",")
    call(FACEBLUR, "run", "--method", name, *(part for item in settings for part in ("--set", item)), clip, "--output", target)
    return 1


def run_deface(deface: Path, clip: Path, target: Path) -> int:
    """Anonymize the clip with deface."""
    call(deface, clip, "--output", target)
    return 1


def run_floor(clip: Path, target: Path) -> int:
    """Decode the clip and encode it again, on as many threads as the libraries take."""
    import av

    with av.open(str(clip)) as source, av.open(str(target), "w") as container:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        coded = container.add_stream("libx264", rate=stream.average_rate, options={"crf": "18", "preset": "medium"})
        coded.height, coded.width, coded.pix_fmt = stream.height, stream.width, "yuv420p"
        for frame in source.decode(stream):
            frame.pict_type = 0
            container.mux(coded.encode(frame))
        container.mux(coded.encode(None))
    return 1


def one_round(runs: Mapping[str, Run], target: Path, pictures: int, *, backwards: bool) -> dict[str, dict[str, float]]:
    """Run each contestant once; return what was measured, by contestant. An output that lacks pictures ends the benchmark."""
    found: dict[str, dict[str, float]] = {}
    for name in list(runs)[:: -1 if backwards else 1]:
        target.unlink(missing_ok=True)
        started = time.perf_counter()
        runs[name]()
        seconds = time.perf_counter() - started
        if (there := pictures_in(target)) != pictures:
            sys.exit(f"{name}: {there} pictures written of {pictures}")
        found[name] = {"wall s": seconds, "pictures/s": pictures / seconds, "output MB": target.stat().st_size / 1e6}
    for row in found.values():
        row |= {f"/ {other}": row["pictures/s"] / found[other]["pictures/s"] for other in (DEFACE, FLOOR)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure faceblur's speed on a video beside deface's.")
    parser.add_argument("machine", help="its name in the result file")
    parser.add_argument("--deface", type=Path, required=True, help="the command deface, in an environment of its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, help="so many, at least 40, to try the script; nothing is written then")
    given = parser.parse_args()
    deface = given.deface.absolute()  # not resolved: a link lies where its environment is
    pictures = given.pictures or PICTURES
    with tempfile.TemporaryDirectory() as folder:
        clip, target = make_clip(Path(folder), pictures), Path(folder) / "out.mp4"
        runs: dict[str, Run] = {f"faceblur {method}": partial(run_faceblur, method, clip, target) for method in METHODS}
        runs |= {DEFACE: partial(run_deface, deface, clip, target), FLOOR: partial(run_floor, clip, target)}
        print(f"{clip.stat().st_size / 1e6:.1f} MB, {pictures} pictures of {WIDTH} x {HEIGHT}", flush=True)
        found = [one_round(runs, target, pictures, backwards=number % 2 == 1) for number in range(given.rounds)]
        size = clip.stat().st_size / 1e6
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    machine = {"nproc": str(os.cpu_count()), "cpu": cpu.partition(":")[2].strip()}
    machine |= {"versions": versions(sys.executable, OURS), "versions of deface": versions(deface.with_name("python"), THEIRS)}
    rows = [
        {"contestant": name, "rounds": str(given.rounds), "pictures": str(pictures), "clip MB": f"{size:.3g}"}
        | {quantity: over_rounds([values[name][quantity] for values in found]) for quantity in found[0][name]}
        | machine
        for name in runs
    ]
    for row in rows:
        print(
            *(f"{key} {row[key]}" for key in ("contestant", "wall s", "pictures/s", "/ deface", "/ floor", "output MB")),
            sep="   ",
        )
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    if given.pictures:
        return
    write_rows(ROOT / "results" / f"video-speed-v1--{given.machine}.csv", rows)


if __name__ == "__main__":
    main()
