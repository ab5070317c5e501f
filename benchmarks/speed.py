"""How fast ``faceblur run`` is beside deface and beside plain decoding and encoding: writes results/speed-v1--<machine>.csv.

Speeds of one machine mean little elsewhere, so each is also given as a ratio to a contestant of the same round on the
same photos: 2 means twice as fast. All command lines run with default settings; their start-up counts, warm file and
bytecode caches are assumed. deface encodes at quality 75, faceblur and the floor with each photo's own tables.

- Photo sets: ``wider``, 300 WIDER FACE photos (416 or 512 px); ``12mp``, 30 of them enlarged to 12 megapixels.
- ``deface``: one call for all files, and one call per file, which is slow and so measured on 40 and 3 photos.
- ``floor``: Pillow reads, decodes and encodes to memory, no start-up and nothing written; in 1 thread, and in a pool of
  as many as faceblur uses.
- Overhead: the share of the time per file outside the stages that its manifest names, in runs with ``--workers 1``. What
  faceblur adds to Pillow within decode and encode shows in the ratio to the floor only.
- Every value is the median of all rounds, followed by [lowest, highest]; every other round goes in reverse order.
- ``faceblur --help``: its processor time less that of ``python -c pass``, ten times.

Usage: python benchmarks/speed.py MACHINE --deface PATH [--rounds N] [--photos N]; deface in an environment of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean, median

import numpy as np
from PIL import Image
from tables import write_rows

from truth import SHARED, wider

PHOTOS, LARGE, SEED = {"wider": 300, "12mp": 30}, 12e6, 0
ONE_BY_ONE = {"wider": 40, "12mp": 3}  #: photos that deface gets in calls of their own
METHODS = ["mediapipe", "mediapipe,detector.range=short", "yunet", "yolo-onnx", "yolo"]
STAGES = ("read", "decode", "detect", "obfuscate", "encode", "write")
STARTS = 10
WORKERS = min(8, os.cpu_count() or 1)  #: faceblur's default
FACEBLUR = Path(sys.executable).with_name("faceblur")
ONE_CALL, CALL_EACH, FLOOR, POOL = "deface, one call", "deface, call per file", "floor, 1 thread", f"floor, {WORKERS} threads"
OURS = ("faceblur-core", "mediapipe", "opencv-python-headless", "pillow")
THEIRS = ("deface", "opencv-python", "onnxruntime", "pillow")
ENVIRONMENT = {"FACEBLUR_MODELS": str(SHARED / "models")} | os.environ
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)

Run = Callable[[], int]  #: does the work once and returns for how many photos


def clean(root: Path) -> None:
    """Remove what the last contestant wrote: to ``output``, or to ``copy`` beside what it read, as deface does."""
    for name in ("copy", "output"):
        shutil.rmtree(root / name, ignore_errors=True)
    shutil.copytree(root / "photos", root / "copy")


def call(*command: object) -> str:
    """Run a command and return what it printed; one that fails ends the benchmark, for its time means nothing."""
    done = subprocess.run([str(part) for part in command], env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))[:300]}\nfailed with exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def written(count: int, folder: Path, pattern: str) -> int:
    """Return ``count`` if the folder has that many outputs, else end the benchmark: deface passes over what it cannot read."""
    found = len(list(folder.glob(pattern)))
    return count if found == count else sys.exit(f"{folder}: {found} outputs {pattern} for {count} photos")


def make_photos(name: str, folder: Path, limit: int | None) -> None:
    """Fill a folder with a photo set; those of 12 megapixels are smoother, so cheaper to code, than a camera's."""
    paths = [path for path, _ in wider("val") + wider("train")]
    order = np.random.default_rng(SEED).permutation(len(paths))
    folder.mkdir()
    for index in order[: min(PHOTOS[name], limit or PHOTOS[name])]:
        shutil.copy(paths[index], folder)
    for path in folder.iterdir() if name == "12mp" else ():
        with Image.open(path) as photo:
            size = [round(side * (LARGE / (photo.width * photo.height)) ** 0.5) for side in photo.size]
            large = photo.resize(size, Image.Resampling.LANCZOS)
        large.save(path, quality=92)


def run_faceblur(method: str, root: Path, *options: object) -> int:
    """Anonymize the photos with a method written as ``NAME[,SETTING…]``."""
    name, *settings = method.split(",")
    options += tuple(part for setting in settings for part in ("--set", setting))
    call(FACEBLUR, "run", "--method", name, *options, root / "photos", "--output", root / "output")
    return written(len(list((root / "photos").iterdir())), root / "output", "**/*.jpg")


def run_deface(deface: Path, root: Path, one_by_one: int | None = None) -> int:
    """Anonymize all photos in one call, or a few from all over the set in a call each."""
    paths = sorted((root / "copy").iterdir())
    if one_by_one:
        paths = paths[:: max(1, len(paths) // one_by_one)][:one_by_one]
    for files in [[path] for path in paths] if one_by_one else [paths]:
        call(deface, *files)
    return written(len(paths), root / "copy", "*_anonymized.jpg")


def recode(path: Path) -> None:
    """Decode a JPEG and encode it to memory with its own tables and subsampling."""
    with Image.open(path) as photo:
        photo.save(io.BytesIO(), "JPEG", quality="keep")


def run_floor(threads: int, root: Path) -> int:
    """Recode all photos in this process, on one thread beside the waiting main one, or on several."""
    paths = list((root / "photos").iterdir())
    with ThreadPoolExecutor(threads) as pool:
        return len(list(pool.map(recode, paths)))


def contestants(deface: Path, root: Path, one_by_one: int) -> Mapping[str, Run]:
    """Return what is measured on one photo set, by name."""
    return {f"faceblur {method}": partial(run_faceblur, method, root) for method in METHODS} | {
        ONE_CALL: partial(run_deface, deface, root),
        CALL_EACH: partial(run_deface, deface, root, one_by_one),
        FLOOR: partial(run_floor, 1, root),
        POOL: partial(run_floor, WORKERS, root),
    }


def stage_times(method: str, root: Path) -> dict[str, float]:
    """Return the share of our own overhead in a run with one worker, and the mean milliseconds of each stage."""
    manifest = root / "output" / "manifest.jsonl"
    run_faceblur(method, root, "--workers", 1, "--manifest", manifest)
    rows = [json.loads(line)["ms"] for line in manifest.read_text().splitlines()]
    spent = {stage: fmean(row.get(stage, 0.0) for row in rows) for stage in (*STAGES, "total")}
    share = 1 - sum(spent[stage] for stage in STAGES) / spent["total"]
    return {"overhead share": share} | {f"{stage} ms": value for stage, value in spent.items()}


def one_round(runs: Mapping[str, Run], root: Path, *, backwards: bool) -> dict[str, dict[str, float]]:
    """Run each contestant once, then faceblur once more for its stages; return what was measured, by contestant."""
    found: dict[str, dict[str, float]] = {}
    for name in list(runs)[:: -1 if backwards else 1]:
        clean(root)
        started = time.perf_counter()
        count = runs[name]()
        seconds = time.perf_counter() - started
        found[name] = {"photos": count, "wall s": seconds, "photos/s": count / seconds}
    for row in found.values():
        row |= {f"/ {other}": row["photos/s"] / found[other]["photos/s"] for other in (ONE_CALL, CALL_EACH, FLOOR, POOL)}
    for method in METHODS:
        clean(root)
        found[f"faceblur {method}"] |= stage_times(method, root)
    return found


def over_rounds(values: Sequence[float]) -> str:
    """Return ``median [lowest, highest]``, or the value if it is the same every time."""
    spread = f" [{min(values):.4g}, {max(values):.4g}]" if min(values) < max(values) else ""
    return f"{median(values):.4g}{spread}"


def set_rows(name: str, deface: Path, rounds: int, limit: int | None) -> list[dict[str, str]]:
    """Return one row per contestant on a photo set."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_photos(name, root / "photos", limit)
        runs = contestants(deface, root, ONE_BY_ONE[name])
        found = [one_round(runs, root, backwards=number % 2 == 1) for number in range(rounds)]
    return [
        {"set": name, "contestant": key, "rounds": str(rounds)}
        | {quantity: over_rounds([values[key][quantity] for values in found]) for quantity in found[0][key]}
        for key in runs
    ]


def processor_ms(*command: object) -> float:
    """Return the user and system time of a command in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call(*command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def start_row() -> dict[str, str]:
    """Measure what ``faceblur --help`` takes over a bare interpreter, after one call that fills the bytecode caches."""
    call(FACEBLUR, "--help")
    spent = [processor_ms(FACEBLUR, "--help") - processor_ms(sys.executable, "-c", "pass") for _ in range(STARTS)]
    return {"set": "start", "contestant": "faceblur --help", "rounds": str(STARTS), "cpu ms": over_rounds(spent)}


def versions(python: str | Path, names: Sequence[str]) -> str:
    """Return the versions of distributions as an interpreter's own environment has them."""
    ask = "import importlib.metadata as m; print(*(d.name.lower() + '=' + d.version for d in m.distributions()))"
    found = dict(part.split("=", 1) for part in call(python, "-c", ask).split())
    return " ".join(f"{name}={found.get(name, 'absent')}" for name in names)


def show(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Print a table of medians: the rows that have all the columns."""
    print(f"\n{'':<48}", *columns, sep="   ")
    for row in rows:
        if all(key in row for key in columns):
            cells = (f"{row[key].partition(' ')[0]:>{len(key)}}" for key in columns)
            print(f"{row['set']:<6} {row['contestant']:<41}", *cells, sep="   ")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure faceblur's speed beside deface's.")
    parser.add_argument("machine", help="its name in the result file")
    parser.add_argument("--deface", type=Path, required=True, help="the command deface, in an environment of its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=int, help="at most so many of each set, to try the script")
    given = parser.parse_args()
    deface = given.deface.absolute()  # not resolved: a link lies where its environment is
    set_rows("wider", deface, 1, 1)  # one photo first, for the caches of every contestant
    rows = [start_row(), *(row for name in PHOTOS for row in set_rows(name, deface, given.rounds, given.photos))]
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    machine = {"nproc": str(os.cpu_count()), "cpu": cpu.partition(":")[2].strip()}
    machine |= {"versions": versions(sys.executable, OURS), "versions of deface": versions(deface.with_name("python"), THEIRS)}
    columns = list(dict.fromkeys(key for row in (*rows[::-1], *rows, machine) for key in row))
    for part in (list(rows[-1])[2:], [key for key in rows[1] if key not in rows[-1]], ["cpu ms"]):
        show(rows, part)
    print(*(f"{key}: {value}" for key, value in machine.items()), sep="\n")
    path = Path(__file__).parents[1] / "results" / f"speed-v1--{given.machine}.csv"
    write_rows(path, [row | machine for row in rows], columns)


if __name__ == "__main__":
    main()
