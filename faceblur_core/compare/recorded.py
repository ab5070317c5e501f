"""A run's folder, read back: for the report and for ``compare diff``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceblur_core.compare.record import FORMAT
from faceblur_core.errors import UsageMistake

NUMBERS = ("value", "low", "high", "count", "missing")  #: columns of table.csv
COST = "cost"  #: stands for a metric where a figure is a column of cost.csv

Row = dict[str, Any]  #: of table.csv; what is empty there is None in a number's column
Key = tuple[str, str, str, str, str]  #: test set, method, slice, metric, statistic


@dataclass(frozen=True)
class Recorded:
    """A run."""

    folder: Path
    facts: Mapping[str, Any]  #: run.json
    rows: Sequence[Row]  #: table.csv
    costs: Mapping[str, Mapping[str, str]]  #: cost.csv, by method
    figures: Mapping[Key, Row]  #: the rows that have a value
    errors: Mapping[tuple[str, str], str]  #: why there are none, by test set and method
    metric_errors: Mapping[tuple[str, str, str], str]  #: why some or all of a metric's are missing, by its name too

    @property
    def methods(self) -> list[str]:
        """Names, in the order of the config."""
        return [method["name"] for method in self.facts["methods"]]

    @property
    def testsets(self) -> dict[str, Mapping[str, Any]]:
        """What run.json says of each, by the name that the tables use."""
        return {f"{item['name']}-v{item['version']}": item for item in self.facts["testsets"]}

    def figure(self, testset: str, method: str, metric: str, statistic: str, part: str = "all") -> Row | None:
        """Return the row of a figure, if there is one."""
        if metric == COST:
            value = _number(self.costs.get(method, {}).get(statistic, ""))
            return None if value is None else {"value": value, "low": None, "high": None, "better": "lower", "note": ""}
        return self.figures.get((testset, method, part, metric, statistic))

    def each(self, per: str) -> Iterator[dict[str, str]]:
        """Yield the rows of faces.csv or images.csv, of which there may be very many; none if it is not there."""
        path = self.folder / f"{per}s.csv"
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                yield from csv.DictReader(file)


def read_run(folder: Path) -> Recorded:
    """:raises UsageMistake: if the folder holds no whole run."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        rows: list[Row] = [{**row, **{name: _number(row[name]) for name in NUMBERS}} for row in _csv(folder / "table.csv")]
        costs = {row["method"]: row for row in _csv(folder / "cost.csv")} if (folder / "cost.csv").is_file() else {}
        figures = {_key(row): row for row in rows if row["value"] is not None}
        errors = {(row["testset"], row["method"]): row["error"] for row in rows if row["error"] and not row["metric"]}
        failed = {(row["testset"], row["method"], row["metric"]): row["error"] for row in rows if row["error"] and row["metric"]}
        run = Recorded(folder, facts, rows, costs, figures, errors, failed)
        known = (facts["format"], bool(run.methods), bool(run.testsets))
    except OSError as error:
        raise UsageMistake(f"{folder} is no run: {Path(error.filename or folder).name}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageMistake(f"{folder} is no run, or a damaged one: {type(error).__name__}: {error}") from None
    if known != (FORMAT, True, True):
        raise UsageMistake(f"{folder} is a run of format {known[0]}, or an empty one; this faceblur reads format {FORMAT}")
    return run


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _key(row: Row) -> Key:
    return row["testset"], row["method"], row["slice"], row["metric"], row["statistic"]


def direction(row: Row) -> int:
    """Return 1 if a higher value of this row's statistic is better, -1 if a lower one is, 0 if neither."""
    return {"higher": 1, "lower": -1}.get(row["better"], 0)
