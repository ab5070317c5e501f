"""``report.html``: one self-contained page of a run, made from nothing but the run's folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core.compare.plots import Point, histograms, pareto, scatter
from faceblur_core.compare.recorded import COST, Recorded, Row, direction, read_run
from faceblur_core.compare.table import ATTACKS, CHANCE, GAP, LEAST_IN_GAP, LEAST_PEOPLE, WITHOUT_OUTPUT
from faceblur_core.errors import UnreadableImage
from faceblur_core.media.images import read_photo
from faceblur_core.media.sheets import thumbnail
from faceblur_core.methods import flatten
from faceblur_core.pages import picture, write_page

LIMIT = 0.4  #: the fixed threshold of cosines
PICTURES, PAIR, QUALITY = 120, 400, 62  #: pairs in the gallery at most; pixels, width of one; of its JPEG
NAMED, LONGEST = 8, 18  #: up to so many methods with names up to so long are named in plots, else they are numbered
SIGNIFICANT = -1  #: in place of a number of digits after the point: three significant ones


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: which figure, and how it is written."""

    heading: str
    metric: str
    statistic: str
    digits: int = 3
    scale: float = 1.0
    part: str = "all"  #: slice
    group: str = ""  #: what stands above it


SUMMARY = (
    Column("coverage ≥ .95", "coverage", "share>=0.95", group="privacy"),
    Column("missed faces / 1000", "coverage", "share<0.5", 1, 1000, group="privacy"),
    Column("photos with a miss", "image-missed", "mean", group="privacy"),
    Column("gap frames / 1000", "gap-frames", "mean", 1, 1000, group="privacy"),
    Column("still detected", "still-detected", "mean", group="privacy"),
    Column("cosine < 0.4", "cosine", "share<0.4", group="privacy"),
    Column("protected, by the result alone", "blur-degree", "share>=protected", group="privacy"),
    Column("re-identified, worst attack", "reidentified", "rank-1", group="privacy"),
    Column("PSNR outside, 128 px", "psnr-outside-128", "mean<=100", 1, group="utility"),
    Column("over-blur", "over-blur", "mean", 4, group="utility"),
    Column("jitter", "jitter", "mean", 4, group="utility"),
    Column("precision", "precision", "precision", group="detection"),
    Column("recall", "recall", "mean", group="detection"),
    Column("AP50", "ap50", "ap50", group="detection"),
    Column("ms per photo, p50", COST, "ms p50", SIGNIFICANT, group="cost"),
    Column("model, MB", COST, "model bytes", SIGNIFICANT, 1e-6, group="cost"),
)
DETECTION = (
    *(
        Column(f"recall, {size} ({height})", "recall", "mean", part=f"size={size}")
        for size, height in (
            ("small", "<\u00a010\u00a0%"),
            ("medium", "10\u00a0to\u00a030\u00a0%"),
            ("large", ">\u00a030\u00a0%"),
        )
    ),
    Column("recall, all", "recall", "mean"),
    Column("precision", "precision", "precision"),
    Column("AP50", "ap50", "ap50"),
)
FIDELITY = (
    Column("MSE, 10⁻⁴", "fidelity-mse", "mean", 2, 1e4),
    Column("MAE", "fidelity-mae", "mean", 4),
    Column("SSIM", "fidelity-ssim", "mean"),
    Column("PSNR, dB", "fidelity-psnr", "mean<=100", 1),
)
ATTACK = (
    *(
        Column(f"{attack}, {rank}".replace("-", "\u2011"), f"{ATTACKS}{attack}", rank)
        for attack in ("naive", "parrot", "restoration")
        for rank in ("rank-1", "rank-5")
    ),
    Column("chance", f"{ATTACKS}naive", "chance"),
    Column("worst, rank\u20111", "reidentified", "rank-1"),
)
COSTS = (
    Column("ms p50", COST, "ms p50", SIGNIFICANT),
    Column("ms p95", COST, "ms p95", SIGNIFICANT),
    Column("threads", COST, "threads", 0),
    Column("to load, ms", COST, "load ms", SIGNIFICANT),
    Column("peak memory, MB", COST, "peak rss bytes", SIGNIFICANT, 1e-6),
    Column("parameters, million", COST, "parameters", SIGNIFICANT, 1e-6),
    Column("model, MB", COST, "model bytes", SIGNIFICANT, 1e-6),
)
SLICED = (
    Column("faces with coverage ≥ .95", "coverage", "share>=0.95"),
    Column("faces with cosine < 0.4", "cosine", "share<0.4"),
    Column("over-blur", "over-blur", "mean"),
)
UTILITY = Column("PSNR outside the faces at 128 px, dB", "psnr-outside-128", "mean<=100")
SPEED = Column("milliseconds per photo, median", COST, "ms p50")


@dataclass
class Cell:
    """A figure as it is written."""

    text: str = "-"
    interval: str = ""
    value: float | None = None
    best: bool = False
    note: str = ""
    bar: float = 0.0  #: share of the cell that is filled


@dataclass
class Line:
    """A row of a table: a method's cells, or why there are none."""

    number: int
    name: str
    cells: list[Cell] = field(default_factory=list)
    error: str = ""


@dataclass
class Table:
    """A table of methods."""

    title: str
    columns: list[Column]
    directions: list[int]
    lines: list[Line]
    groups: list[tuple[str, int]] = field(default_factory=list)  #: headings above the headings, and their widths
    notes: list[str] = field(default_factory=list)
    few: list[bool] = field(default_factory=list)  #: which columns have few values


@dataclass(frozen=True, slots=True)
class Failed:
    """Something that went wrong."""

    testset: str  #: empty: all
    method: str  #: empty: all
    what: str
    why: str


def write_report(folder: Path) -> None:
    """Write ``report.html`` of the run in a folder.

    :raises UsageMistake: if it holds no run
    :raises FaceblurError: if the page cannot be written
    """
    run = read_run(folder)
    tests = list(run.testsets)
    plots = [one for title in tests if (one := _plots(run, title))]
    write_page(
        folder / "report.html",
        "report.html",
        title=f"Comparison of face anonymizers: {run.facts['name']}",
        facts=run.facts,
        testsets=run.testsets,
        methods=[(number, method, _settings(run, number - 1)) for number, method in enumerate(run.facts["methods"], 1)],
        summaries=[_table(run, title, SUMMARY) for title in tests],
        plots=plots,
        numbered=bool(plots) and _labels(run) != run.methods,
        slices=[(title, kind, found) for title in tests for kind, found in _slices(run, title)],
        least=LEAST_IN_GAP,
        least_people=LEAST_PEOPLE,
        cosines=_histograms(run),
        limit=LIMIT,
        calibrated=_calibrated(run),
        detection=_tables(run, DETECTION),
        fidelity=_tables(run, FIDELITY),
        attacks=_tables(run, ATTACK),
        costs=_tables(run, COSTS)[:1],
        cost_facts=next((row for row in run.costs.values() if row.get("photos")), {}),
        gallery=_gallery(run),
        failed=_failed(run),
        missing=list(_missing(run)),
        notes=_notes(run),
        versions=_versions(run),
    )


def _tables(run: Recorded, columns: Sequence[Column]) -> list[Table]:
    """Return a table for each test set that has figures of these columns."""
    return [table for title in run.testsets if (table := _table(run, title, columns)).columns]


def _table(run: Recorded, title: str, columns: Sequence[Column]) -> Table:
    """Return the methods' figures; only columns that hold any."""
    rows = {
        column: [run.figure(title, name, column.metric, column.statistic, column.part) for name in run.methods]
        for column in columns
    }
    shown = [column for column in columns if any(rows[column])]
    errors = [run.errors.get((title, name), "") for name in run.methods]
    lines = [Line(number, name, error=error) for number, (name, error) in enumerate(zip(run.methods, errors, strict=True), 1)]
    table = Table(title, shown, [], lines, _grouped(shown))
    for column in shown:
        cells = [_cell(row, column) for row in rows[column]]
        sign = next(direction(row) for row in rows[column] if row)
        judges = {row["note"] for row in rows[column] if row and row["note"]} if column.metric != "reidentified" else set()
        if len(judges) > 1:
            table.notes.append(f"{column.heading}: as seen by different judges ({', '.join(sorted(judges))}), so none is marked.")
        else:
            _mark_best(cells, sign)
        table.directions.append(sign)
        for line, cell in zip(lines, cells, strict=True):
            line.cells.append(cell)
    return table


def _grouped(columns: Sequence[Column]) -> list[tuple[str, int]]:
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return groups if any(name for name, _ in groups) else []


def _cell(row: Row | None, column: Column) -> Cell:
    if row is None:
        return Cell()
    text = _number(row["value"] * column.scale, column.digits)
    known = row["low"] is not None and column.statistic != "chance"
    ends = [_number(row[end] * column.scale, column.digits) for end in ("low", "high")] if known else []
    if column.digits > 1:
        ends = [end.replace("0.", ".", 1) if end.startswith("0.") else end for end in ends]  # narrower
    note = row["note"] if column.metric in ("still-detected", "reidentified") else ""
    return Cell(text, f"[{', '.join(ends)}]" if ends else "", row["value"], note=note.removeprefix("worst attack: "))


def _number(value: float, digits: int) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if digits == SIGNIFICANT:
        return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:,.0f}"
    return f"{value:.{digits}f}"


def _mark_best(cells: Sequence[Cell], sign: int) -> None:
    """Mark the best figures, all that are written alike, unless there is nothing to choose from."""
    known = [cell for cell in cells if cell.value is not None]
    if not sign or len({cell.text for cell in known}) < 2:
        return
    best = max(known, key=lambda cell: sign * (cell.value or 0.0)).text
    for cell in known:
        cell.best = cell.text == best


def _labels(run: Recorded) -> list[str]:
    """Return what stands beside the methods' points: their names if these are few and short, else their numbers."""
    named = len(run.methods) <= NAMED and all(len(name) <= LONGEST for name in run.methods)
    return run.methods if named else [str(number) for number in range(1, len(run.methods) + 1)]


def _protection(run: Recorded, title: str) -> Column:
    """Return the figure that stands for privacy: cosine if faces were recognised, else coverage."""
    coverage, cosine, _ = SLICED
    return cosine if any(run.figure(title, name, cosine.metric, cosine.statistic) for name in run.methods) else coverage


def _plots(run: Recorded, title: str) -> dict[str, Any]:
    """Return the test set's plots of privacy against utility and cost, each with the names on its front."""
    y = _protection(run, title)
    found: dict[str, Any] = {}
    for key, x in (("utility", UTILITY), ("cost", SPEED)):
        points, names = _points(run, title, x, y)
        if points:
            front = pareto([(point.x, point.y) for point in points], lower_x=key == "cost")
            src = scatter(points, x.heading, f"share of {y.heading}", cost=key == "cost")
            found[key] = {"src": src, "front": [names[index] for index in front]}
    return {"title": title, "y": y.heading, **found} if found else {}


def _points(run: Recorded, title: str, x: Column, y: Column) -> tuple[list[Point], list[str]]:
    points, names = [], []
    for name, label in zip(run.methods, _labels(run), strict=True):
        across = run.figure(title, name, x.metric, x.statistic)
        up = run.figure(title, name, y.metric, y.statistic)
        if across and up and (x.metric != COST or across["value"] > 0):
            points.append(Point(label, across["value"], up["value"], _ends(across), _ends(up)))
            names.append(name)
    return points, names


def _ends(row: Row) -> tuple[float, float] | None:
    return None if row["low"] is None else (row["low"], row["high"])


def _slices(run: Recorded, title: str) -> Iterator[tuple[str, list[Table]]]:
    """Yield each kind of slice of a test set, such as category, with a table of bars per figure."""
    parts = dict.fromkeys(row["slice"] for row in run.rows if row["testset"] == title and "=" in row["slice"])
    for kind in dict.fromkeys(part.partition("=")[0] for part in parts):
        mine = [part for part in parts if part.partition("=")[0] == kind]
        tables = [table for column in SLICED if (table := _bars(run, title, column, kind, mine))]
        if tables:
            yield kind, tables


def _bars(run: Recorded, title: str, column: Column, kind: str, parts: Sequence[str]) -> Table | None:
    counts = {
        part: max((row["count"] for row in run.rows if _is(row, title, column, part) and row["count"]), default=0)
        for part in parts
    }
    wanted = [
        Column(f"{part.partition('=')[2]} ({counts[part]:.0f})", column.metric, column.statistic, part=part)
        for part in parts
        if counts[part]
    ]
    gap = Column("worst minus best", column.metric, column.statistic, part=f"{kind}{GAP}")
    chance = Column("by chance", column.metric, column.statistic, part=f"{kind}{CHANCE}")
    told = any(_is(row, title, chance, chance.part) for row in run.rows)
    table = _table(run, title, [*wanted, gap, *([chance] if told else [])])
    if len(wanted) < 2:
        return None
    table.title = column.heading
    table.few = [shown == chance or counts.get(shown.part, LEAST_IN_GAP) < LEAST_IN_GAP for shown in table.columns]
    known = [cell for line in table.lines for cell in line.cells if cell.value is not None]
    longest = 1.0 if column.statistic.startswith("share") else max(cell.value or 0.0 for cell in known)
    for cell in known:
        cell.bar = round((cell.value or 0.0) / longest, 3) if longest else 0.0
        cell.best = False
    return table


def _is(row: Row, title: str, column: Column, part: str) -> bool:
    return bool((row["testset"], row["metric"], row["statistic"], row["slice"]) == (title, column.metric, column.statistic, part))


def _calibrated(run: Recorded) -> float | None:
    value = run.facts.get("thresholds", {}).get("cosine", {}).get("calibrated")
    return float(value) if value is not None and math.isfinite(value) else None


def _histograms(run: Recorded) -> list[tuple[str, str]]:
    """Return each test set's histograms of cosines."""
    values: dict[str, dict[str, list[float]]] = {title: {name: [] for name in run.methods} for title in run.testsets}
    for row in run.each("face"):
        if row.get("cosine"):
            values[row["testset"]][row["method"]].append(float(row["cosine"]))
    found = []
    for title, of_methods in values.items():
        cosines = [(_short(number, name), np.array(those)) for number, (name, those) in enumerate(of_methods.items(), 1) if those]
        if cosines:
            found.append((title, histograms(cosines, LIMIT, _calibrated(run))))
    return found


def _short(number: int, name: str) -> str:
    return name if len(name) <= LONGEST else f"{number}: {name[: LONGEST - 4]}…"


def _gallery(run: Recorded) -> list[dict[str, Any]]:
    """Return each method's worst failures as pictures, fewer of each the more methods there are."""
    kept: dict[str, dict[str, list[Mapping[str, str]]]] = {}
    for item in run.facts.get("failures", []):
        kept.setdefault(item["method"], {}).setdefault(item["testset"], []).append(item)
    each = max(1, PICTURES // max(1, sum(len(found) for found in kept.values())))
    gallery = []
    for number, name in enumerate(run.methods, 1):
        items = [item for found in kept.get(name, {}).values() for item in found[:each]]
        cells = [
            {"src": src, "testset": item["testset"], "what": item["what"]}
            for item in items
            if (src := _pair(run.folder / item["file"]))
        ]
        if cells:
            gallery.append({"number": number, "name": name, "cells": cells})
    return gallery


def _pair(path: Path) -> str:
    """Return a picture as the value of ``src``; nothing if it cannot be read."""
    try:
        return picture(thumbnail(read_photo(path.read_bytes()).frames[0].rgb(), PAIR), quality=QUALITY)
    except (OSError, UnreadableImage):
        return ""


def _failed(run: Recorded) -> list[Failed]:
    """Return what went wrong: methods, photos, metrics, thresholds."""
    found = []
    for row in run.rows:
        if row["error"]:
            found.append(Failed(row["testset"], row["method"], row["metric"] or "the whole method", row["error"]))
        elif row["metric"] == WITHOUT_OUTPUT and row["value"]:
            what = f"{row['value']:.0f} of {row['count']:.0f} photos without output"
            found.append(Failed(row["testset"], row["method"], what, f"the first: {row['note']}"))
    known = {method for _, method in run.errors}
    for name, cost in run.costs.items():
        if cost.get("error") and cost["error"] != "not measured" and name not in known:
            found.append(Failed("", name, "time and memory", cost["error"]))
    for metric, why in run.facts.get("threshold_errors", {}).items():
        found.append(Failed("", "", f"calibrated threshold of {metric}", why))
    return list(dict.fromkeys(found))  # a metric that failed says so in each of its rows


def _missing(run: Recorded) -> Iterator[dict[str, Any]]:
    """Yield the values that are not defined, over a whole test set, by metric: fewest to most over the methods."""
    counts: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for row in run.rows:
        if row["slice"] == "all" and row["metric"] and row["missing"] is not None:
            counts.setdefault((row["testset"], row["metric"]), {})[row["method"]] = (
                row["missing"],
                row["missing"] + row["count"],
            )
    for (testset, metric), found in counts.items():
        least, most = min(found.values()), max(found.values())
        if most[0]:
            text = f"{most[0]:.0f}" if least[0] == most[0] else f"{least[0]:.0f} to {most[0]:.0f}"
            yield {"testset": testset, "metric": metric, "missing": f"{text} of {most[1]:.0f}"}


def _notes(run: Recorded) -> dict[str, dict[str, list[str]]]:
    """Return what was noted beside the figures, such as embedder or judge, with the methods it goes for, by metric."""
    notes: dict[str, dict[str, list[str]]] = {}
    for row in run.rows:
        if row["note"] and row["metric"] not in (WITHOUT_OUTPUT, "reidentified"):
            methods = notes.setdefault(row["metric"], {}).setdefault(row["note"], [])
            if row["method"] not in methods:
                methods.append(row["method"])
    return notes


def _settings(run: Recorded, index: int) -> str:
    """Return the options that the config gives a method, and how it follows faces in clips, if that is said."""
    item = run.facts["config"]["methods"][index]
    given = {**flatten(item.get("set") or {}), **_tracking(item)} if isinstance(item, dict) else {}
    return ", ".join(f"{key}={value}" for key, value in given.items())


def _tracking(item: Mapping[str, Any]) -> dict[str, Any]:
    given = item.get("tracking", True)
    return flatten({"tracking": given}) if isinstance(given, dict) else {} if given else {"tracking": "off"}


def _versions(run: Recorded) -> list[str]:
    found = {f"{name} {version}" for method in run.facts["methods"] for name, version in method.get("versions", {}).items()}
    return sorted(found, key=str.lower)
