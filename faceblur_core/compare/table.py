"""From results to the long table: one row per test set, method, slice, metric and statistic."""

from __future__ import annotations

import csv
import functools
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.compare.config import MetricSpec
from faceblur_core.compare.job import reason
from faceblur_core.compare.run import Done, Results, sample_errors
from faceblur_core.compare.statistics import Draws, Figure, figure, gap_by_chance, pooled, threshold_name
from faceblur_core.datasets.labels import ellipse_of
from faceblur_core.errors import FaceblurError, pass_on
from faceblur_core.plugins import installed_plugins
from faceblur_core.testsets.format import TestSet, counted_faces

COLUMNS = (
    "testset", "method", "slice", "group", "metric", "statistic", "value", "low", "high",
    "count", "missing", "unit", "better", "note", "error",
)  # fmt: skip
LEAST_PEOPLE = 10  #: whose names and faces are known; with fewer, images are drawn for identity too
GAP = ": worst minus best"  #: how the slices of the differences between slices end
CHANCE = ": worst minus best by chance"  #: how the slices end that tell how large such a difference can be for no reason
LEAST_IN_GAP = 20  #: values that a slice needs to count in worst minus best
SIZES = ((0.0, 0.1, "small"), (0.1, 0.3, "medium"), (0.3, math.inf, "large"))  #: face height as a share of the image's
WITHOUT_OUTPUT = "images without output"  #: stands for a metric in the row that counts them
ATTACKS = "reidentified-"  #: how the names of the attacks' metrics begin


@dataclass(frozen=True)
class Units:
    """What is drawn for the intervals."""

    of_image: NDArray[np.intp]  #: the unit of each image: itself, or its clip, for images; its person for people
    draws: Draws


@dataclass(frozen=True)
class Shape:
    """A test set as arrays: which image and person each value belongs to, which slices it is in."""

    testset: TestSet
    face_images: NDArray[np.intp]  #: image of each face
    image_slices: Mapping[str, NDArray[np.bool_]]
    face_slices: Mapping[str, NDArray[np.bool_]]
    of_images: Units
    of_people: Units

    def units(self, metric: Any) -> Units:
        """Return what is drawn for a metric: people for those that say so, else images."""
        return self.of_people if getattr(metric, "over", "images") == "people" else self.of_images

    def slices(self, per: str) -> Mapping[str, NDArray[np.bool_]]:
        """Return which faces or images are in each slice."""
        return self.face_slices if per == "face" else self.image_slices


def shape_of(testset: TestSet, resamples: int, seed: int) -> Shape:
    """Return a test set's arrays."""
    sizes = [len(rows) for rows in testset.files()]
    files = np.repeat(np.arange(len(sizes)), sizes)
    people = [row["identity"] or int(file) for row, file in zip(testset.rows, files, strict=True)]
    order = {key: number for number, key in enumerate(dict.fromkeys(people))}
    of_images = Units(files, Draws.make(len(sizes), resamples, seed))
    of_people = Units(np.array([order[key] for key in people], np.intp), Draws.make(len(order), resamples, seed))
    faces = [(i, f) for i, row in enumerate(testset.rows) for f in counted_faces(row)]
    face_images = np.array([i for i, _ in faces], np.intp)
    images = dict(_image_slices(testset))
    sized = np.array([2 * ellipse_of(f).half_extent()[1] / testset.rows[i]["height"] for i, f in faces])
    heights = {f"size={name}": (sized >= low) & (sized < high) for low, high, name in SIZES}
    face_slices = {name: where[face_images] for name, where in images.items()} | {n: w for n, w in heights.items() if w.any()}
    named = {row["identity"] for row in testset.rows if row["identity"] and counted_faces(row)}
    return Shape(testset, face_images, images, face_slices, of_images, of_people if len(named) >= LEAST_PEOPLE else of_images)


def _image_slices(testset: TestSet) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield "all", np.ones(len(testset.rows), bool)
    categories = sorted(testset.sizes())
    for category in categories if len(categories) > 1 else []:
        yield f"category={category}", np.array([category in row["categories"] for row in testset.rows])
    for group in sorted({key for row in testset.rows for key in row["groups"]}):
        for value in sorted({str(row["groups"][group]) for row in testset.rows if group in row["groups"]}):
            yield f"{group}={value}", np.array([str(row["groups"].get(group)) == value for row in testset.rows])


Row = dict[str, Any]


def table_rows(results: Results) -> list[Row]:
    """Return every row; a method or metric that failed has one with its error."""
    config = results.plan.config
    rows: list[Row] = []
    for testset in results.plan.testsets:
        shape = shape_of(testset, config.resamples, config.seed)
        for entry in results.plan.entries:
            base = {"testset": testset.title, "method": entry.name, "slice": "all"}
            done = results.measured.get((entry.name, testset.title))
            if done is None or done.error:
                rows.append(_filled({**base, "error": entry.error or (done.error if done else "not measured")}))
                continue
            failed = sample_errors(done)
            total = len(testset.rows)
            rows.append(
                _filled({**base, "metric": WITHOUT_OUTPUT, "statistic": "count", "value": len(failed), "count": total,
                         "better": "lower", "note": failed[0]["error"] if failed else ""})
            )  # fmt: skip
            for spec in results.plan.metrics_on(testset):
                rows += _metric_rows(results, entry.name, spec, done, shape, base)
    return rows + _worst_attacks(rows)


def _filled(row: Row) -> Row:
    return {column: row.get(column, "") for column in COLUMNS}


def _metric_rows(results: Results, name: str, spec: MetricSpec, done: Done, shape: Shape, base: Row) -> list[Row]:
    metric = installed_plugins().make("metric", spec.name, spec.options)
    error = done.result.get("metric_errors", {}).get(spec.name, "")
    note = str(getattr(metric, "note", "")) or (done.result.get("judge", "") if hasattr(metric, "judge") else "")
    same = {
        **base,
        "group": getattr(metric, "group", "other"),
        "metric": spec.name,
        "unit": metric.unit,
        "better": better(metric),
        "note": note,
        "error": error,
    }
    figures: list[Found] = []
    chance: Chance | None = None
    try:
        if metric.per == "set":
            figures = list(_pooled_figures(results, name, spec, metric, done, shape))
        else:
            figures = list(_value_figures(results, spec, metric, done, shape))
            chance = functools.partial(_by_chance, results, spec, metric, done, shape)
    except BaseException as raised:  # whatever a metric raises
        pass_on(raised)
        same["error"] = error = error or reason(raised)
    rows = [
        _filled({**same, "slice": part, "statistic": statistic, "better": better(metric, statistic), **_cells(found)})
        for part, statistic, found in figures
    ]
    if not rows and error:
        rows = [_filled(same)]
    return rows + [_filled({**same, **gap}) for gap in _gaps(figures, chance)]


def better(metric: Any, statistic: str = "mean") -> str:
    """Return whether a ``higher`` or a ``lower`` value of a metric's statistic is better; nothing if neither is."""
    if statistic == "chance":
        return ""
    return "higher" if metric.higher_is_better != statistic.startswith("share<") else "lower"


def _cells(found: Figure) -> Row:
    value = "" if math.isnan(found.value) else found.value
    return {"value": value, "low": found.low, "high": found.high, "count": found.count, "missing": found.missing}


Found = tuple[str, str, Figure]  #: slice, statistic, figure
Chance = Callable[[Sequence[str], str], float]  #: of slices and a statistic: how large worst minus best can be by chance


def _value_figures(results: Results, spec: MetricSpec, metric: Any, done: Done, shape: Shape) -> Iterator[Found]:
    values = done.arrays[f"values/{spec.name}"]
    drawn = shape.units(metric)
    units = drawn.of_image[shape.face_images] if metric.per == "face" else drawn.of_image
    thresholds = results.thresholds.get(spec.name, {})
    for part, where in shape.slices(metric.per).items():
        for statistic in getattr(metric, "statistics", ("mean",)):
            if (name := threshold_name(statistic)) and name not in thresholds:
                continue  # nothing was calibrated
            found = figure(values[where], units[where], drawn.draws, statistic, thresholds)
            if found.count or (part == "all" and found.missing):  # what nobody could measure is said once
                yield part, statistic, found


def _pooled_figures(results: Results, name: str, spec: MetricSpec, metric: Any, done: Done, shape: Shape) -> Iterator[Found]:
    seen = observations(done, spec.name, len(shape.testset.rows))
    training = _training(results, name, spec)
    prepared = metric.prepare(seen, training)
    units = shape.units(metric)
    weights = units.draws.weights[:, units.of_image]
    observed = np.array([bool(one) for one in seen], bool)
    counted = observed.copy()
    if hasattr(metric, "counted"):
        counted[:] = False
        counted[metric.counted(prepared)] = True
    for part, where in shape.image_slices.items():
        count, missing = int((where & counted).sum()), int((where & ~observed).sum())
        if not (where & observed).any() and part != "all":
            continue
        drawn = [metric.figures(prepared, row * where) for row in weights]
        for statistic in drawn[0]:
            if not math.isnan(drawn[0][statistic]) or part == "all":
                yield part, statistic, pooled([row[statistic] for row in drawn], count, missing)


def observations(done: Done, metric: str, samples: int) -> list[dict[str, NDArray[Any]]]:
    """Return what a pooled metric observed, one mapping per sample."""
    seen: list[dict[str, NDArray[Any]]] = [{} for _ in range(samples)]
    prefix = f"observation/{metric}/"
    for key, value in done.arrays.items():
        if key.startswith(prefix):
            index, _, name = key.removeprefix(prefix).partition("/")
            seen[int(index)][name] = value
    return seen


def _training(results: Results, name: str, spec: MetricSpec) -> list[dict[str, NDArray[Any]]]:
    wanted = spec.options.get("train_on")
    done = results.measured.get((name, results.plan.training[str(wanted)].title)) if wanted else None
    if done is None:
        return []
    if done.error:
        raise FaceblurError(f"on test set {wanted!r}, which it was to learn from: {done.error}")
    return observations(done, spec.name, len(done.result["samples"]))


def _by_chance(
    results: Results, spec: MetricSpec, metric: Any, done: Done, shape: Shape, parts: Sequence[str], statistic: str
) -> float:
    values, drawn, slices = done.arrays[f"values/{spec.name}"], shape.units(metric), shape.slices(metric.per)
    known = ~np.isnan(values)
    taken = np.any([slices[part] for part in parts], axis=0) & known
    units = drawn.of_image[shape.face_images] if metric.per == "face" else drawn.of_image
    sizes = [int((slices[part] & known).sum()) for part in parts]
    resamples, thresholds = results.plan.config.resamples, results.thresholds.get(spec.name, {})
    return gap_by_chance(values[taken], units[taken], sizes, resamples, statistic, thresholds)


def _gaps(figures: Sequence[Found], by_chance: Chance | None) -> Iterator[Row]:
    """Yield worst minus best over the categories and over each group, of slices with enough values, and what chance can do."""
    kinds = dict.fromkeys(part.partition("=")[0] for part, _, _ in figures if "=" in part)
    for kind in kinds:
        for statistic in dict.fromkeys(statistic for _, statistic, _ in figures):
            values = {
                part: found.value
                for part, of, found in figures
                if of == statistic and part.startswith(f"{kind}=") and found.count >= LEAST_IN_GAP and math.isfinite(found.value)
            }
            if len(values) > 1:
                gap = max(values.values()) - min(values.values())
                yield {"slice": f"{kind}{GAP}", "statistic": statistic, "value": gap, "better": "lower"}
                if by_chance and not math.isnan(chance := by_chance(list(values), statistic)):
                    yield {"slice": f"{kind}{CHANCE}", "statistic": statistic, "value": chance, "better": ""}


def _worst_attacks(rows: Sequence[Row]) -> list[Row]:
    """Return, for each method, the rank-1 of the attack that finds most people."""
    best: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row["metric"].startswith(ATTACKS) and row["statistic"] == "rank-1" and row["slice"] == "all" and row["value"] != "":
            key = (row["testset"], row["method"])
            if key not in best or row["value"] > best[key]["value"]:
                best[key] = row
    return [
        {**row, "metric": "reidentified", "note": f"worst attack: {row['metric'].removeprefix(ATTACKS)}"} for row in best.values()
    ]


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Return rows as CSV; numbers with six significant digits, what is not defined as nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({column: _text(row.get(column, "")) for column in columns} for row in rows)
    return text.getvalue().encode()


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
