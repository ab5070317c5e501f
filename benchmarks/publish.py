"""Take the tables of a comparison into results/: one CSV file per test set, and what they were measured with.

Usage: python benchmarks/publish.py RUN MACHINE [PREFIX], then python benchmarks/tables.py. With a prefix, such as unet-, the
files stand beside those of another comparison on the same test sets.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tables import rows_of, write_rows

RESULTS = Path(__file__).parents[1] / "results"
SLICED = ("coverage", "cosine", "still-detected", "reidentified", "psnr-outside-128")  # metrics published per slice too


def publish(run: Path, machine: str, prefix: str = "") -> None:
    """Write results/PREFIX+TESTSET--MACHINE.csv and .json for every test set of the run."""
    facts = json.loads((run / "run.json").read_text())
    rows = rows_of(run / "table.csv")
    costs = {row["method"]: row for row in rows_of(run / "cost.csv")}
    for testset in facts["testsets"]:
        title = f"{testset['name']}-v{testset['version']}"
        mine = [row for row in rows if row["testset"] == title and (row["slice"] == "all" or row["metric"] in SLICED)]
        path = RESULTS / f"{prefix}{title}--{machine}.csv"
        write_rows(path, mine)
        kept = {key: facts[key] for key in ("created", "faceblur", "git", "python", "machine", "threads", "seed", "resamples")}
        about = {
            **kept,
            "config": facts["config"],
            "testset": testset,
            "thresholds": facts["thresholds"],
            "methods": facts["methods"],
        }
        text = json.dumps({**about, "cost": costs}, indent=1, sort_keys=True)
        path.with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    publish(Path(sys.argv[1]), *sys.argv[2:4])
