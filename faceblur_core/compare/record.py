"""A run's folder: ``run.json``, ``table.csv``, ``faces.csv``, ``images.csv``, ``cost.csv``, ``failures/``.

``docs/compare.md`` describes every key and column.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core import __version__
from faceblur_core.compare.run import Results, sample_errors
from faceblur_core.compare.table import COLUMNS, Row, as_csv, better, table_rows
from faceblur_core.datasets.labels import ellipse_of
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.machine import describe
from faceblur_core.media.files import write_whole
from faceblur_core.plugins import distribution_versions, installed_plugins
from faceblur_core.testsets.format import TestSet, counted_faces

FORMAT = 2  #: of the run's folder
COST_COLUMNS = (
    "method",
    "ms p50",
    "ms p95",
    "photos",
    "threads",
    "load ms",
    "peak rss bytes",
    "parameters",
    "model bytes",
    "error",
)


def write_run(results: Results, folder: Path) -> list[Row]:
    """Write everything but the report; return the table's rows.

    :raises FaceblurError: if it cannot be written
    """
    rows = table_rows(results)
    files = {
        "table.csv": as_csv(rows, COLUMNS),
        "cost.csv": as_csv([_cost_row(results, entry.name) for entry in results.plan.entries], COST_COLUMNS),
    }
    for per in ("face", "image"):
        each = list(_each(results, per))
        columns = list(dict.fromkeys(column for row in each for column in row))
        files[f"{per}s.csv"] = as_csv(each, columns)
    files |= {f"failures/{name}": data for name, data, _ in failures(results)}
    files["run.json"] = json.dumps(_facts(results), indent=2, default=str).encode()  # last: with it the run is whole
    try:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, data)
    except OSError as error:
        raise FaceblurError(f"{error.filename or folder}: {error.strerror}") from None
    return rows


def new_folder(parent: Path, name: str) -> Path:
    """Make and return ``parent/TIME-NAME``. :raises UsageMistake: if it is there, or cannot be made."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = parent / f"{stamp}-{name}"
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageMistake(f"{folder if folder.exists() else parent} is there; wait a second, or give another name") from None
    except OSError as error:
        raise UsageMistake(f"{error.filename}: {error.strerror}") from None
    return folder


def _facts(results: Results) -> dict[str, Any]:
    plan = results.plan
    plugins = installed_plugins()
    metrics = []
    for spec in plan.metrics:
        metric = plugins.make("metric", spec.name, spec.options)
        options = dataclasses.fields(metric) if dataclasses.is_dataclass(metric) else ()
        metrics.append(
            {
                "name": spec.name,
                "options": {item.name: getattr(metric, item.name) for item in options if item.init},
                "group": getattr(metric, "group", "other"),
                "per": metric.per,
                "over": getattr(metric, "over", "images"),
                "unit": metric.unit,
                "better": better(metric),
                "range": [bound if math.isfinite(bound) else None for bound in metric.range],  # JSON has no infinity
                "citation": metric.citation,
                "summary": plugins.get("metric", spec.name).component.summary,
            }
        )
    return {
        "format": FORMAT,
        "name": plan.config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "faceblur": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "machine": describe(),
        "threads": 1,
        "seed": plan.config.seed,
        "resamples": plan.config.resamples,
        "config": plan.config.__dict__,
        "testsets": [_testset_facts(testset) for testset in plan.testsets],
        "metrics": metrics,
        "calibration": _checked(plan.calibration) if plan.calibration else None,
        "train_on": {spec.name: _checked(plan.training[name]) for spec in plan.metrics if (name := spec.options.get("train_on"))},
        "thresholds": results.thresholds,
        "threshold_errors": results.threshold_errors,
        "methods": [_method_facts(results, index) for index in range(len(plan.entries))],
        "failures": [{"file": f"failures/{file}", **what} for file, _, what in failures(results)],
    }


def _checked(testset: TestSet) -> dict[str, Any]:
    """Return which test set this is."""
    return {"name": testset.name, "version": testset.version, "checksum": testset.checksum}


def _testset_facts(testset: TestSet) -> dict[str, Any]:
    return {
        **_checked(testset),
        "summary": testset.head.get("summary", ""),
        "licence": testset.head.get("licence", ""),
        "photos": len(testset.rows),
        **({"clips": len(testset.files())} if testset.of_clips else {}),
        "faces": testset.face_count(),
        "ignored": sum(len(row["faces"]) for row in testset.rows) - testset.face_count(),
        "without_landmarks": sum("landmarks" not in f for row in testset.rows for f in counted_faces(row)),
        "people": len({row["identity"] for row in testset.rows if row["identity"]}),
        "categories": dict(sorted(testset.sizes().items())),
    }


def _method_facts(results: Results, index: int) -> dict[str, Any]:
    entry = results.plan.entries[index]
    if entry.method is None:
        return {"name": entry.name, "error": entry.error}
    done = {title: item for (name, title), item in results.measured.items() if name == entry.name}
    measured = (done[testset.title] for testset in results.plan.testsets if testset.title in done)  # not to learn from alone
    first: Mapping[str, Any] = next((item.result for item in measured if not item.error), {})
    return {
        "name": entry.name,
        "method": entry.method.text,
        "spec": entry.method.spec,
        "options": entry.method.resolved(),
        "tracking": dataclasses.asdict(entry.tracking) if entry.tracking else None,
        "weights": first.get("weights", {}),
        "judge": first.get("judge", ""),
        "networks": {metric: files for metric, files in first.get("networks", {}).items() if files},
        "versions": distribution_versions(["faceblur-core", *(part.distribution for _, part in entry.method.parts())]),
        "errors": {title: item.error for title, item in done.items() if item.error},
        "failed_images": {title: [dict(s) for s in sample_errors(item)] for title, item in done.items() if sample_errors(item)},
    }


def git_state() -> str:
    """Return the commit of the source tree that this runs from, with ``+`` if it has changes; empty outside one."""
    tree = Path(__file__).parents[2]
    if not (tree / "pyproject.toml").is_file():
        return ""
    try:
        commit = subprocess.run(
            ["git", "-C", tree, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(["git", "-C", tree, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if dirty else "")


def _cost_row(results: Results, name: str) -> Row:
    done = results.costs.get(name)
    if done is None or done.error:
        entry = next(entry for entry in results.plan.entries if entry.name == name)
        return {"method": name, "error": done.error if done else entry.error or "not measured"}
    times = np.array(done.result["ms"])
    return {
        "method": name,
        "ms p50": float(np.quantile(times, 0.5)),
        "ms p95": float(np.quantile(times, 0.95)),
        "photos": len(times),
        "threads": _threads(results, name),
        "load ms": float(done.result["load_ms"]),
        "peak rss bytes": done.result["peak_rss"],
        "parameters": done.result["parameters"] or "",
        "model bytes": done.result["model_bytes"],
    }


def _threads(results: Results, name: str) -> int:
    """Return how many threads a method's options ask for."""
    method = next(entry.method for entry in results.plan.entries if entry.name == name)
    options = method.resolved() if method else {}
    return max((value for key, value in options.items() if key.rpartition(".")[2] == "threads" and value), default=1)


def _each(results: Results, per: str) -> Iterator[Row]:
    """Yield one row per face, or per image, of every method on every test set, with all values."""
    plugins = installed_plugins()
    for testset in results.plan.testsets:
        mine = [s.name for s in results.plan.metrics_on(testset) if plugins.make("metric", s.name, s.options).per == per]
        for entry in results.plan.entries:
            done = results.measured.get((entry.name, testset.title))
            if done is None or done.error:
                continue
            for index, row in enumerate(_places(testset, per)):
                values = {name: float(done.arrays[f"values/{name}"][index]) for name in mine}
                yield {"testset": testset.title, "method": entry.name, **row, **values}


def _places(testset: TestSet, per: str) -> Iterator[Row]:
    for row in testset.rows:
        what = {"id": row["id"], "category": " ".join(row["categories"]), **row["groups"]}
        if per == "image":
            yield what
            continue
        for number, face in enumerate(counted_faces(row)):
            height = 2 * ellipse_of(face).half_extent()[1] / row["height"]
            track = {"track": face["track"], "visible": face["visible"]} if "track" in face else {}
            yield {**what, "face": number, "height": height, "flags": " ".join(face["flags"]), **track}


def failures(results: Results) -> Iterator[tuple[str, bytes, Row]]:
    """Yield (file name, JPEG of original and output side by side, what it is) of each method's worst failures."""
    numbers = {entry.name: number for number, entry in enumerate(results.plan.entries, 1)}  # two names may become one file's
    for (name, title), done in sorted(results.measured.items(), key=lambda item: (item[0][1], numbers[item[0][0]])):
        for index, what in enumerate(done.result.get("failures", [])):
            safe = "".join(char if char.isalnum() or char in "-._" else "_" for char in f"{title}-{numbers[name]}-{name}")
            file = f"{safe}-{index + 1}.jpg"
            yield file, done.arrays[f"failure/{index}"].tobytes(), {"method": name, "testset": title, "what": what}
