"""Run a comparison: jobs, as many at once as there are workers, each kept for later runs; then the table."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.compare.config import Entry, MetricSpec, Plan
from faceblur_core.compare.job import ARRAYS, ONE_THREAD, RESULT, Spec, make_metric
from faceblur_core.compare.remembered import DAMAGED, backends_of, code_digest, code_of
from faceblur_core.errors import FaceblurError
from faceblur_core.machine import describe
from faceblur_core.methods import Method
from faceblur_core.plugins import distribution_versions, installed_plugins
from faceblur_core.testsets.format import TestSet
from faceblur_core.weights import cache_folder, named_file, present, sha256_of


@dataclass(frozen=True, slots=True)
class Job:
    """A specification with what decides its result."""

    spec: Spec
    key: str  #: SHA-256 of everything that decides the result
    label: str  #: for progress and errors


@dataclass(frozen=True)
class Done:
    """A job's result."""

    result: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    cached: bool

    @property
    def error(self) -> str:
        return str(self.result["error"])


@dataclass
class Results:
    """All results of a comparison."""

    plan: Plan
    measured: dict[tuple[str, str], Done] = field(default_factory=dict)  #: by row's name and test set's title
    costs: dict[str, Done] = field(default_factory=dict)  #: by row's name
    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)  #: by metric
    threshold_errors: dict[str, str] = field(default_factory=dict)  #: by metric


def run_jobs(plan: Plan, workers: int, *, fresh: bool = False, say: Callable[[str], None] = lambda _: None) -> Results:
    """Do every job of a plan that no earlier run has left its result of.

    :param fresh: do them all
    :param say: is told each job that is done; from any thread, one at a time
    :raises FaceblurError: if the cache cannot be written
    """
    results, lock, stop = Results(plan), threading.Lock(), threading.Event()
    work: list[tuple[Job, Callable[[Done], None]]] = []
    for metric, testset in _calibrations(plan):
        job = _calibration_job(metric, testset)
        work.append((job, lambda done, m=metric: _take_thresholds(results, m.name, done)))  # type: ignore[misc]
    extra = _only_training(plan)
    for entry in _each_detector_first(plan.entries):
        for testset in [*plan.testsets, *extra]:
            if entry.method:
                job = _job(plan, entry, testset, trained_only=testset in extra)
                where = (entry.name, testset.title)
                work.append((job, lambda done, w=where: results.measured.__setitem__(w, done)))  # type: ignore[misc]

    def one(item: tuple[Job, Callable[[Done], None]]) -> None:
        done = _do(item[0], stop, fresh=fresh)
        with lock:
            if stop.is_set():
                return
            item[1](done)
            say(f"{item[0].label}: {done.error or ('kept from an earlier run' if done.cached else 'done')}")

    pool = ThreadPoolExecutor(workers)
    try:
        _wait_for({pool.submit(one, item) for item in work})
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    results.measured = dict(sorted(results.measured.items()))  # not in the order in which they ended
    for entry in plan.entries:  # one after the other and alone, for time is measured
        if entry.method and plan.config.cost_photos:
            one((_cost_job(plan, entry), lambda done, e=entry: results.costs.__setitem__(e.name, done)))  # type: ignore[misc]
    return results


def _wait_for(futures: set[Future[None]]) -> None:
    """Wait for all, or for the first that fails, and raise what it raised."""
    while futures:  # a signal that comes just before a wait without end would be heard only after it
        ended, futures = wait(futures, timeout=0.5, return_when=FIRST_EXCEPTION)
        for future in ended:
            future.result()


def _each_detector_first(entries: Sequence[Entry]) -> list[Entry]:
    """Return the rows with one of each detector in front: those after it take its detections, and unions come last."""
    seen: set[tuple[str, ...]] = set()
    order = []
    for entry in entries:
        detectors = tuple(entry.method.detectors) if entry.method else ()
        order.append((len(detectors) > 1, detectors in seen))
        seen.add(detectors)
    return [entry for _, entry in sorted(zip(order, entries, strict=True), key=lambda pair: pair[0])]


def _take_thresholds(results: Results, metric: str, done: Done) -> None:
    found = dict(done.result.get("thresholds", {}))
    undefined = [name for name, value in found.items() if math.isnan(value)]
    if done.error or undefined:
        results.threshold_errors[metric] = done.error or f"the calibration's test set defines no threshold {undefined[0]!r}"
    else:
        results.thresholds[metric] = found


def _calibrations(plan: Plan) -> list[tuple[MetricSpec, TestSet]]:
    if not plan.calibration:
        return []
    plugins = installed_plugins()
    return [(spec, plan.calibration) for spec in plan.metrics if hasattr(plugins.factory("metric", spec.name), "calibrate")]


def _only_training(plan: Plan) -> list[TestSet]:
    """Return test sets that only serve attacks to learn from."""
    known = {testset.title for testset in plan.testsets}
    return list({testset.title: testset for testset in plan.training.values() if testset.title not in known}.values())


def _job(plan: Plan, entry: Entry, testset: TestSet, *, trained_only: bool) -> Job:
    assert entry.method is not None
    metrics = {spec.name: spec.options for spec in plan.metrics_on(testset) if not trained_only or spec.options.get("train_on")}
    spec = Spec(
        entry.method.text,
        entry.method.options,
        str(testset.folder.absolute()),
        metrics,
        failures=0 if trained_only else plan.config.failures,
        tracking=dataclasses.asdict(entry.tracking) if entry.tracking and testset.of_clips else None,
    )
    return Job(spec, _key(spec, testset, entry.method, metrics), f"{entry.name} on {testset.title}")


def _cost_job(plan: Plan, entry: Entry) -> Job:
    assert entry.method is not None
    testset = plan.testsets[0]
    photos = plan.config.cost_photos
    spec = Spec(entry.method.text, entry.method.options, str(testset.folder.absolute()), {}, cost_photos=photos)
    return Job(spec, _key(spec, testset, entry.method, {}), f"{entry.name}: time and memory")


def _calibration_job(metric: MetricSpec, testset: TestSet) -> Job:
    metrics = {metric.name: metric.options}
    spec = Spec("", {}, str(testset.folder.absolute()), metrics, calibrate=metric.name)
    return Job(spec, _key(spec, testset, None, metrics), f"{metric.name} calibrated on {testset.title}")


def _key(spec: Spec, testset: TestSet, method: Method | None, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of all that decides a job's result: names, options, weights, test set, versions, code."""
    plugins = installed_plugins()
    parts = [plugins.get("metric", name) for name in metrics] + ([entry for _, entry in method.parts()] if method else [])
    made = [make_metric(name, options, method.detectors) for name, options in metrics.items() if method and _asks(name)]
    judges = [plugins.get("detector", metric.judge) for metric in made if metric.judge]
    resolved = method.resolved() if method else {}
    named = [*resolved.values(), *(value for options in metrics.values() for value in options.values())]
    files = {str(value): path for value in named if (path := _file_of_option(value))}
    weights = [path for entry in [*parts, *judges] for item in entry.component.weights if (path := present(item))]
    entries = [*parts, *judges, *backends_of(named, [*files.values(), *weights])]
    facts = {
        "spec": {**json.loads(spec.to_json()), "testset": testset.checksum, "remember": None},
        "method": method.spec if method else "",  # what a method file names
        "options": resolved,
        "files": {name: sha256_of(path) for name, path in files.items()},
        "weights": sorted(sha256_of(path) for path in weights),
        "versions": distribution_versions(["faceblur-core", *(entry.distribution for entry in entries)]),
        "code": code_of(entries),
        # it anonymizes clips, and looks at what became of photos
        "run": code_digest("faceblur_core.run" if testset.of_clips else "faceblur_core.run.checks"),
        "machine": describe() if spec.cost_photos else "",
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _asks(metric: str) -> bool:
    """Return whether a metric has a judge."""
    return hasattr(installed_plugins().factory("metric", metric), "judge")


def _file_of_option(value: Any) -> Path | None:
    """Return the file that an option's value names, or nothing."""
    return named_file(value) if isinstance(value, (str, Path)) and 0 < len(str(value)) < 1000 else None


def _do(job: Job, stop: threading.Event, *, fresh: bool) -> Done:
    kept = cache_folder() / "compare" / job.key
    if not fresh and (earlier := _kept(kept)):
        return earlier
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".job-", dir=kept.parent) as name:
            done = _measure(dataclasses.replace(job.spec, remember=not fresh), Path(name), stop)
            if not (done.error or sample_errors(done) or done.result.get("metric_errors")):  # a cause may be gone next time
                _keep(Path(name), kept)
            return done
    except OSError as error:
        raise FaceblurError(f"{error.filename or kept.parent}: {error.strerror}; FACEBLUR_CACHE names another folder") from None


def _measure(spec: Spec, folder: Path, stop: threading.Event) -> Done:
    """Do a job in a process of its own. What it says goes to a file: a pipe would be held open by what it leaves running."""
    (folder / "spec.json").write_text(spec.to_json())
    command = [sys.executable, "-m", "faceblur_core.compare.job", str(folder / "spec.json"), str(folder)]
    with (folder / "said").open("w+b") as said:
        code = _run(command, said, stop)
        if (folder / RESULT).is_file():
            return _read(folder, cached=False)
        said.seek(-min(said.tell(), 2000), os.SEEK_END)
        lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()] or [""]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Done({"error": f"its process ended with {how}: {lines[-1][:200]}"}, {}, cached=False)


def _run(command: Sequence[str], said: IO[bytes], stop: threading.Event) -> int:
    """Run a command and return its exit code; it is killed when ``stop`` is set, and when waiting for it is interrupted."""
    environment = {**os.environ, **ONE_THREAD}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, env=environment) as process:
        try:
            while process.poll() is None and not stop.is_set():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        finally:
            process.kill()
        return process.wait()


def _kept(folder: Path) -> Done | None:
    """Return what an earlier run left in a folder; None if it is not there, or damaged."""
    try:
        return _read(folder, cached=True)
    except DAMAGED:
        return None


def _keep(folder: Path, kept: Path) -> None:
    kept.mkdir(exist_ok=True)
    for file in (ARRAYS, RESULT):  # the one that says that all is there comes last
        os.replace(folder / file, kept / file)


def _read(folder: Path, *, cached: bool) -> Done:
    with np.load(folder / ARRAYS) as arrays:
        return Done(json.loads((folder / RESULT).read_text()), {name: arrays[name] for name in arrays.files}, cached)


def sample_errors(done: Done) -> Sequence[Mapping[str, Any]]:
    """Return the samples on which a method failed."""
    return [sample for sample in done.result.get("samples", []) if sample["error"]]
