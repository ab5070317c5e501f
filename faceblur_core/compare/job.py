"""One method on one test set, in a process of its own: a crash costs one row, and its memory is its own.

Photos go to the method one by one; clips are anonymized as ``faceblur run`` does it, and measured picture by picture.

Run as ``python -m faceblur_core.compare.job SPEC FOLDER``; leaves ``result.json`` and ``arrays.npz`` in the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.compare.remembered import remembered
from faceblur_core.errors import FaceblurError, pass_on
from faceblur_core.media.files import write_whole
from faceblur_core.media.images import encode_pixels
from faceblur_core.media.sheets import COUNTED, outlined
from faceblur_core.media.video import Encoding
from faceblur_core.methods import find_method
from faceblur_core.pipeline import close, model_files
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.checks import checked_share
from faceblur_core.run.manifest import Row
from faceblur_core.run.video import VideoRun
from faceblur_core.testsets.format import TestSet, known, read_testset
from faceblur_core.tracking import Tracking
from faceblur_core.types import Anonymized, Anonymizer, Ellipse, Image, Sample
from faceblur_core.weights import checksums

RESULT, ARRAYS = "result.json", "arrays.npz"
WARM_UP = 3  #: photos before time is measured
THUMB = 320  #: pixels, longer side of the pictures of failures


@dataclass(frozen=True)
class Spec:
    """What a job does."""

    method: str
    settings: Mapping[str, Any]
    testset: str  #: folder
    metrics: Mapping[str, Mapping[str, Any]]  #: options by name
    failures: int = 0
    cost_photos: int = 0  #: measure time and memory on so many photos, and nothing else
    calibrate: str = ""  #: only calibrate this metric
    remember: bool = True  #: take detections from earlier jobs
    tracking: Mapping[str, Any] | None = None  #: options of it, in clips; None: each picture for itself

    def to_json(self) -> str:
        """Return it as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, default=str)


@dataclass
class _Collected:
    """What a job has so far."""

    samples: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    observations: dict[str, NDArray[Any]] = field(default_factory=dict)  #: by ``metric/sample/key``
    errors: dict[str, str] = field(default_factory=dict)  #: by metric
    failures: list[_Failure] = field(default_factory=list)  #: the worst first


@dataclass(frozen=True, slots=True)
class _Failure:
    """A picture pair that shows how a method fails."""

    score: float
    what: str
    data: bytes
    clip: str  #: of which it is the worst picture; empty: a photo


def run(spec: Spec, folder: Path) -> None:
    """Do a job and write its files; whatever goes wrong with the method is in ``result.json`` as ``error``."""
    result: dict[str, Any] = {"spec": dataclasses.asdict(spec), "error": ""}
    arrays: dict[str, NDArray[Any]] = {}
    testset = read_testset(Path(spec.testset))
    try:
        if spec.calibrate:
            metric = installed_plugins().make("metric", spec.calibrate, spec.metrics[spec.calibrate])
            result["thresholds"] = dict(metric.calibrate(testset.samples()))
        else:
            _run_method(spec, testset, result, arrays)
    except BaseException as error:  # whatever a method raises
        pass_on(error)
        result["error"] = reason(error)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_whole(folder / ARRAYS, buffer.getvalue())
    write_whole(folder / RESULT, json.dumps(result, indent=1).encode())


def reason(error: BaseException) -> str:
    """Return what a table says of an error: one line."""
    return f"{type(error).__name__}: {' '.join(str(getattr(error, 'message', error)).split())[:300]}"


def _run_method(spec: Spec, testset: TestSet, result: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    started = time.perf_counter()
    method = find_method(spec.method, spec.settings, installed_plugins())
    anonymize = method.make(wrap=remembered if spec.remember and not spec.cost_photos else None)
    result["load_ms"] = (time.perf_counter() - started) * 1e3
    result["weights"] = checksums(model_files(anonymize))
    result["model_bytes"] = sum(path.stat().st_size for path in model_files(anonymize))
    try:
        if spec.cost_photos:
            result.update(_cost(anonymize, testset, spec.cost_photos))
            return
        metrics = {name: make_metric(name, options, method.detectors) for name, options in spec.metrics.items()}
        result["judge"] = next((m.judge for m in metrics.values() if hasattr(m, "judge")), "")
        collected = _Collected()
        measure = _Measure(metrics, collected, spec.failures)
        tracking = Tracking(**spec.tracking) if spec.tracking else None
        for rows in testset.files():
            if testset.of_clips:
                _clip(testset, rows, anonymize, tracking, measure)
            else:
                _photo(testset.sample(rows[0]), anonymize, measure)
        result |= {"samples": collected.samples, "metric_errors": collected.errors}
        result["networks"] = {}
        for name, metric in metrics.items():
            if name not in collected.errors:
                with contextlib.suppress(FaceblurError):  # it was not asked, and its files are not there
                    result["networks"][name] = checksums(model_files(metric))
        arrays |= {f"values/{name}": np.concatenate(parts) for name, parts in collected.values.items()}
        arrays |= collected.observations
        for index, failure in enumerate(collected.failures):
            arrays[f"failure/{index}"] = np.frombuffer(failure.data, np.uint8)
            result.setdefault("failures", []).append(failure.what)
    finally:
        close(anonymize)


def make_metric(name: str, options: Mapping[str, Any], detectors: list[str]) -> Any:
    """Return a metric that is told the method's own detectors, beside those of its options, if it wants to avoid some."""
    plugins = installed_plugins()
    cls = plugins.factory("metric", name)
    fields = {item.name for item in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    if "avoid" in fields:
        options = {**options, "avoid": list(dict.fromkeys([*options.get("avoid", []), *detectors]))}
    return plugins.make("metric", name, options)


def _cost(anonymize: Anonymizer, testset: TestSet, photos: int) -> dict[str, Any]:
    """Return the milliseconds of each photo, after a warm-up, and the process's peak memory."""
    photos = min(photos, len(testset.rows))
    rows = [testset.rows[index * len(testset.rows) // photos] for index in range(photos)]
    images = [testset.sample(row).image for row in rows]
    for image in images[:WARM_UP]:
        anonymize(image)
    times = []
    for image in images:
        started = time.perf_counter()
        anonymize(image)
        times.append((time.perf_counter() - started) * 1e3)
    parameters = getattr(anonymize, "parameters", None) or getattr(getattr(anonymize, "detector", None), "parameters", None)
    return {"ms": times, "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "parameters": parameters}


def _photo(sample: Sample, anonymize: Anonymizer, measure: _Measure) -> None:
    """Measure a method on one photo."""
    sample.image.flags.writeable = False
    result: Anonymized | None
    try:
        result, error = anonymize(sample.image), ""
        checked_share(sample.image, result)
    except BaseException as raised:  # whatever a method raises
        pass_on(raised)
        result, error = None, reason(raised)
    measure(sample, result, error)


def _clip(
    testset: TestSet, rows: Sequence[Mapping[str, Any]], anonymize: Anonymizer, tracking: Tracking | None, measure: _Measure
) -> None:
    """Measure a method on the pictures of one clip; those that it did not come to, for it failed, have its error."""
    measured: list[Sample] = []

    def watch(frame: int, image: Image, result: Anonymized) -> None:
        measured.append(known(rows[frame], image))
        measure(measured[-1], result, "")

    error = ""
    with tempfile.TemporaryDirectory() as folder, testset.open_clip(rows[0]) as reader:
        written = Path(folder) / Path(rows[0]["file"]).name
        work = VideoRun(anonymize, Encoding(preset="ultrafast"), tracking, watch=watch)  # nobody sees the file
        try:
            work(reader, written, Row(input=rows[0]["file"], outcome="error"), threading.Event())
        except BaseException as raised:  # whatever a method raises
            pass_on(raised)
            error = reason(raised)
        for row in rows[len(measured) :]:
            measure(known(row, np.zeros((*reader.size, 3), np.uint8)), None, error)


@dataclass(frozen=True)
class _Measure:
    """Applies all metrics to one result after the other."""

    metrics: Mapping[str, Any]
    into: _Collected
    failures: int  #: so many are kept

    def __call__(self, sample: Sample, result: Anonymized | None, error: str) -> None:
        """Measure one sample; without a result its values are nan, and its row has the error."""
        into, index = self.into, len(self.into.samples)
        if result:  # the next metric is to see what this one saw
            sample = dataclasses.replace(sample, image=_read_only(sample.image))
            result = dataclasses.replace(result, image=_read_only(result.image), mask=_read_only(result.mask))
        into.samples.append({"id": sample.id, "error": error})
        for name, metric in self.metrics.items():
            count = len(sample.faces) if metric.per == "face" else 1
            try:
                if metric.per == "set":
                    seen = metric.observe(sample, result) if result else {}
                    into.observations |= {f"observation/{name}/{index}/{key}": _storable(seen[key]) for key in seen}
                    continue
                values = np.asarray(metric(sample, result), np.float64) if result else np.full(count, np.nan)
                if values.shape != (count,):
                    raise ValueError(f"it gave {values.shape} values, not {count}")
            except BaseException as raised:  # whatever a metric raises
                pass_on(raised)
                into.errors.setdefault(name, f"{sample.id}: {reason(raised)}")
                values = np.full(count, np.nan)
            into.values.setdefault(name, []).append(values)
        if result and self.failures:
            _keep_failure(sample, result, {name: parts[-1] for name, parts in into.values.items()}, into, self.failures)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written to: the array itself may be the method's, which writes to it again."""
    view = array.view()
    view.flags.writeable = False
    return view


def _storable(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(f"it observed {type(value).__name__}, which is no array of numbers or text")
    return array


def _keep_failure(
    sample: Sample, result: Anonymized, values: Mapping[str, NDArray[np.float64]], into: _Collected, most: int
) -> None:
    """Keep the picture pair if it is among the worst: a face hardly covered, or still recognised; or much hidden for nothing."""
    faces = {name: enumerate(values.get(name, np.zeros(0))) for name in ("coverage", "cosine")}
    scores = [(1 - value, f"coverage {value:.2f}", face) for face, value in faces["coverage"] if not np.isnan(value)]
    scores += [(value - 0.4, f"cosine {value:.2f}", face) for face, value in faces["cosine"] if not np.isnan(value)]
    touched = values.get("touched", np.zeros(0))
    if touched.size and touched[0] == 1:
        share = float((result.mask >= 0.5).mean())
        scores.append((share, f"{share:.0%} of a picture without a face hidden", -1))
    score, what, face = max(scores, default=(0.0, "", -1))
    kept = [failure for failure in into.failures if not sample.clip or failure.clip != sample.clip]  # one picture of each clip
    same = next((failure for failure in into.failures if failure not in kept), None)
    if score <= (same.score if same else 0.05) or (len(kept) >= most and score <= kept[-1].score):
        return
    shown = sample.faces[face : face + 1] if face >= 0 else ()
    data = _side_by_side(sample.image, result.image, shown)
    kept.append(_Failure(float(score), f"{sample.id}: {what}", data, sample.clip))
    into.failures = sorted(kept, key=lambda failure: (-failure.score, failure.what))[:most]


def _side_by_side(before: Image, after: Image, faces: Sequence[Ellipse]) -> bytes:
    """Return both pictures with the faces in question outlined, as JPEG."""
    pair = np.hstack([outlined(picture, [(face, COUNTED) for face in faces], THUMB) for picture in (before, after)])
    return encode_pixels(pair, "JPEG", quality=85)


#: For the environment of a job: the same figures on every machine, however many jobs run at once.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")


def _end_with(parent: int) -> None:
    """End this process soon after the one that started it, however that ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Read a specification and do it."""
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    import cv2

    cv2.setNumThreads(1)  # it does not ask the environment
    run(Spec(**json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2]))
    os._exit(0)  # some runtimes hang when the interpreter ends


if __name__ == "__main__":
    main()
