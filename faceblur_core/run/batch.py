"""Anonymize many files with one method: workers, one row per file, nothing lost when one of them fails."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from faceblur_core.errors import FaceblurError, TooLarge, UnreadableImage, UsageMistake, pass_on
from faceblur_core.media.files import check_regular, save
from faceblur_core.media.images import (
    DEFAULT_MAX_PIXELS,
    NO_RAW,
    PREVIEW,
    SOFTWARE,
    Photo,
    check_format,
    encode_photo,
    frames_in,
    read_photo,
)
from faceblur_core.media.video import Encoding, VideoReader, is_video
from faceblur_core.methods import Method
from faceblur_core.pipeline import DetectAndObfuscate, close, model_files
from faceblur_core.plugins import distribution_versions
from faceblur_core.run.checks import checked_share, hides
from faceblur_core.run.jobs import RAW_PHOTOS, Job
from faceblur_core.run.manifest import (
    DetectionsWriter,
    GivenDetections,
    ManifestWriter,
    Row,
    detections_of,
    detections_to_json,
    settings_digest,
)
from faceblur_core.run.people import HiddenFaces, People, Recogniser, Who
from faceblur_core.run.preview import draw_preview
from faceblur_core.run.regions import Regions
from faceblur_core.run.video import Stopped, VideoRun
from faceblur_core.tracking import Tracking
from faceblur_core.types import Anonymizer, Detections, Image
from faceblur_core.weights import checksums, sha256_of

Skipped = Literal["done", "ours"]  #: an earlier run did it with the same settings; faceblur made the input


@dataclass(frozen=True)
class Output:
    """What is written and how; all of it is part of the settings that ``--resume`` compares."""

    form: str | None = None  #: a key of FORMATS; None keeps each file's
    quality: int | None = None
    keep_metadata: bool = False
    preview: bool = False
    fail_on_no_face: bool = False
    encoding: Encoding = field(default_factory=Encoding)  #: of videos
    tracking: Tracking | None = field(default_factory=Tracking)  #: of faces in videos; None: each picture for itself
    regions: Regions | None = None  #: of videos, where faces are hidden; None: everywhere
    people: People | None = None  #: who is kept open or alone is hidden; None: all are hidden


def share_cores(workers: int) -> None:
    """Divide this machine's cores among so many threads that work at a time."""
    import cv2

    cv2.setNumThreads(max(1, (os.cpu_count() or 1) // workers))


@contextlib.contextmanager
def timed(ms: dict[str, float], stage: str) -> Iterator[None]:
    """Put the milliseconds that a stage takes under its name, if it succeeds."""
    started = time.perf_counter()
    yield
    ms[stage] = (time.perf_counter() - started) * 1e3


@dataclass(frozen=True)
class Batch:
    """A run over many files. Iterating :meth:`run` does the work."""

    method: Method
    output: Output = field(default_factory=Output)
    overwrite: bool = False
    again: bool = False  #: also anonymize files that faceblur wrote
    max_pixels: int = DEFAULT_MAX_PIXELS
    given: GivenDetections | None = None
    done: Mapping[str, dict[str, Any]] | None = None  #: rows of an earlier run, to resume; None: do not
    export: DetectionsWriter | None = None  #: gets the faces of every picture
    writer: ManifestWriter | None = None  #: gets each row as soon as its file is written
    workers: int = 1
    verbose: bool = False
    progress: Callable[[Job, float, float], None] | None = None  #: told the seconds of a video that are done, and all of them

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Row | Skipped]]:
        """Yield each job as it ends, with its row or with why the file was passed over.

        Stopping the iteration lets the photos in work be finished, gives videos in work up, and starts no more.

        :raises FaceblurError: if the method cannot start
        """
        if not jobs:
            return
        workers = max(1, min(self.workers, len(jobs)))
        share_cores(workers)
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        team: list[_Worker] = []
        stop = threading.Event()
        try:
            for _ in range(workers):
                team.append(_Worker(self, stop))
                idle.put(team[-1])
            context = _Context.of(self, team[0])
            for file in (self.writer, self.export):
                if file:
                    file.begin()
            with contextlib.closing(self._work(jobs, idle, workers, context, stop)) as rows:
                yield from rows
        finally:
            for worker in team:
                try:
                    worker.close()
                except BaseException as error:  # the work is done; what a plugin does wrong now harms nobody
                    pass_on(error)

    def _work(
        self,
        jobs: Sequence[Job],
        idle: queue.SimpleQueue[_Worker],
        workers: int,
        context: _Context,
        stop: threading.Event,
    ) -> Generator[tuple[Job, Row | Skipped]]:
        def one(job: Job) -> tuple[Job, Row | Skipped]:
            worker = idle.get()
            try:
                row = worker.row(job, context)
                if self.writer and not isinstance(row, str):
                    self.writer.write(row)
                return job, row
            finally:
                idle.put(worker)

        pool = ThreadPoolExecutor(workers, thread_name_prefix="faceblur")
        try:
            for future in as_completed([pool.submit(one, job) for job in jobs]):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Context:
    """What is the same for every row of a run."""

    method: str
    options: dict[str, Any]
    weights: dict[str, str]
    versions: dict[str, str]
    settings: str

    @classmethod
    def of(cls, batch: Batch, worker: _Worker) -> _Context:
        options = batch.method.resolved()
        try:
            weights = checksums(model_files(worker))
        except OSError as error:
            raise FaceblurError(f"method {batch.method.text!r} names a model file that is not there: {error.filename}") from None
        parts = [entry for _, entry in batch.method.parts()]
        if batch.output.people:
            parts.append(batch.method.plugins.get("embedder", batch.output.people.embedder))
        versions = distribution_versions(["faceblur-core", *(entry.distribution for entry in parts)])
        boxes = sha256_of(batch.given.path) if batch.given else ""
        decides = {
            "method": batch.method.spec,
            "options": options,
            "weights": weights,
            "versions": versions,
            "detections": boxes,
            "output": vars(batch.output),
        }
        return cls(batch.method.spec, options, weights, versions, settings_digest(decides))


class _GivenDetector:
    """Stands in for the method's detector: returns the faces that were given for the frame at hand."""

    def __init__(self) -> None:
        self._items: Sequence[Mapping[str, Any]] = ()
        self._frame = 0

    def start(self, items: Sequence[Mapping[str, Any]], frames: int) -> None:
        """Begin a file. :raises FaceblurError: if a face was given for a frame that the file does not have."""
        last = max((item.get("frame", 0) for item in items), default=0)
        if last >= frames:
            raise FaceblurError(f"a box was given for frame {last}, the file has {frames}, counted from 0")
        self._items, self._frame = items, 0

    def __call__(self, image: Image) -> Detections:
        found = detections_of(self._items, self._frame, *image.shape[:2])
        self._frame += 1
        return found


class _Worker:
    """One anonymizer and what it takes to turn a file into a row."""

    def __init__(self, batch: Batch, stop: threading.Event | None = None) -> None:
        self.batch = batch
        self._stop = stop or threading.Event()  #: set when the run is to end before its time
        self._boxes = _GivenDetector() if batch.given else None
        self.anonymizer: Anonymizer = batch.method.make(self._boxes)
        self._who: Who | None = None
        self._chosen: HiddenFaces | None = None
        self._photo_method = self.anonymizer  #: the anonymizer, told whose faces stay open
        if batch.output.people and isinstance(self.anonymizer, DetectAndObfuscate):
            method = self.anonymizer
            recogniser = Recogniser.make(batch.output.people.embedder, batch.method.plugins, method.detector)
            self._who = Who(batch.output.people, recogniser)
            self._chosen = HiddenFaces(method.detector, self._who, method.mask)
            self._photo_method = dataclasses.replace(method, detector=self._chosen)

    @property
    def model_files(self) -> list[Path]:
        return model_files(self.anonymizer) + (model_files(self._who.recogniser) if self._who else [])

    def close(self) -> None:
        close(self.anonymizer)
        if self._who:
            close(self._who.recogniser)

    def row(self, job: Job, context: _Context) -> Row | Skipped:
        """Return the row of a job, whatever happens, or why the file was passed over."""
        started = time.perf_counter()
        row = Row(input=job.name, outcome="error")
        row.method, row.options, row.weights = context.method, context.options, context.weights
        row.versions, row.settings = context.versions, context.settings
        try:
            if skipped := self._process(job, row):
                return skipped
        except Stopped:
            raise
        except BaseException as error:  # whatever a decoder or a stranger's plugin raises
            pass_on(error)
            row.outcome, row.error = "error", self._explain(error)
        row.ms["total"] = (time.perf_counter() - started) * 1e3
        row.ms = {stage: round(value, 2) for stage, value in row.ms.items()}
        return row

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, FaceblurError):
            return error.with_option() if isinstance(error, TooLarge) else error.message
        whose = self.batch.method.plugins.blamed(error)
        if isinstance(error, OSError) and error.strerror and not whose:
            return error.strerror
        if isinstance(error, MemoryError):
            return "not enough memory"
        if self.batch.verbose:
            traceback.print_exception(error)
        reason = " ".join(str(error).split())
        return f"{whose or 'internal error'}, {type(error).__name__}: {reason[:200]} (--verbose shows where)"

    def _process(self, job: Job, row: Row) -> Skipped | None:
        if is_video(job.source):
            return self._process_video(job, row)
        batch, output = self.batch, self.batch.output
        with timed(row.ms, "read"):
            data = _read(job.source)
        row.input_sha256 = hashlib.sha256(data).hexdigest()
        if self._was_done(job, row):
            return "done"
        with timed(row.ms, "decode"):
            photo = read_photo(data, batch.max_pixels)
        if photo.made and not batch.again:
            return "ours"
        form = output.form or photo.format
        if not output.preview:
            check_format(photo, form)
        if form == "TIFF" and photo.format != form and any(frame.duration for frame in photo.frames):
            row.notes.append("TIFF says nothing of times: how long each picture was shown is lost")
        _check_free(job.target, batch)
        if self._boxes and batch.given:
            self._boxes.start(batch.given.find(job.name, job.source, row.input_sha256), len(photo.frames))
        photo = self._anonymize(photo, row)
        if row.outcome == "no-face" and output.fail_on_no_face:
            raise FaceblurError("no face was found, and --fail-on-no-face says that there is one; nothing was written")
        with timed(row.ms, "encode"):
            software = PREVIEW if output.preview else SOFTWARE
            encoded = encode_photo(photo, form, output.quality, keep_metadata=output.keep_metadata, software=software)
        if len(photo.frames) > 1 and form != "TIFF" and (count := frames_in(encoded)) < len(photo.frames):
            still = "; it is no animation any more" if count == 1 else ""
            row.notes.append(f"equal pictures that follow one another are one: {count} of {len(photo.frames)} in the file{still}")
        with timed(row.ms, "write"):
            save(job.target, encoded)
        row.output, row.output_sha256 = str(job.target), hashlib.sha256(encoded).hexdigest()
        self._export(row)
        return None

    def _export(self, row: Row) -> None:
        """Write the faces of a photo to the file of ``--export-detections``."""
        if self.batch.export and row.detections is not None:
            with self.batch.export.file(row) as export:
                export(None, None, row.detections)

    def _was_done(self, job: Job, row: Row) -> bool:
        """Return whether an earlier run did a file, and its faces are where they are wanted."""
        earlier = (self.batch.done or {}).get(job.name)
        if earlier is None or not _is_done(earlier, row, job.target):
            return False
        if self.batch.export is None or self.batch.export.has(row):
            return True
        if is_video(job.source):  # its faces are in no manifest
            return False
        self._export(dataclasses.replace(row, detections=earlier.get("detections")))
        return True

    def _process_video(self, job: Job, row: Row) -> Skipped | None:
        batch, output = self.batch, self.batch.output
        with timed(row.ms, "read"):
            check_regular(job.source)
            row.input_sha256 = sha256_of(job.source)
        if self._was_done(job, row):
            return "done"
        with VideoReader(job.source, batch.max_pixels, audio=output.encoding.audio) as reader:
            if reader.made and not batch.again:
                return "ours"
            _check_free(job.target, batch)
            given = batch.given.row_of(job.name, job.source, row.input_sha256) if batch.given else None
            run = VideoRun(
                self.anonymizer,
                output.encoding,
                output.tracking,
                output.preview,
                output.fail_on_no_face,
                given,
                output.regions,
                self._who,
            )
            with contextlib.ExitStack() as stack:
                if batch.export:
                    export = stack.enter_context(batch.export.file(row))
                    run = dataclasses.replace(run, export=export)
                run(reader, job.target, row, self._stop, functools.partial(batch.progress, job) if batch.progress else None)
        row.output, row.output_sha256 = str(job.target), sha256_of(job.target)
        return None

    def _anonymize(self, photo: Photo, row: Row) -> Photo:
        """Return the photo with every frame anonymized (or drawn on, for a preview); fills in the row."""
        row.height, row.width = photo.frames[0].pixels.shape[:2]
        row.frames = len(photo.frames)
        frames, found, hidden, pixels, seen = [], [], 0.0, 0, False
        for frame in photo.frames:
            before = frame.rgb()
            started = time.perf_counter()
            result = self._photo_method(before)
            opened = self._chosen.opened if self._chosen else Detections.none()
            row.left_open += len(opened)
            spent = result.info.get("ms") or {"anonymize": (time.perf_counter() - started) * 1e3}
            masked = checked_share(before, result)
            for stage, ms in spent.items():
                row.ms[stage] = row.ms.get(stage, 0.0) + ms
            if self.batch.output.preview:
                frames.append(draw_preview(frame, result, opened))
            else:
                frames.append(frame.with_hidden(before, result.image, result.mask))
            found.append(result.detections)
            hidden += masked * result.mask.size
            seen = seen or hides(result.mask)
            pixels += result.mask.size
        row.detections = detections_to_json(found)
        if seen and not row.detections:  # the method hides without boxes; an empty list would mean that there is no face
            row.detections = None
        row.masked_share = round(hidden / pixels, 6)
        row.outcome = "faces" if seen or row.left_open else "no-face"
        recoloured = any(frame.mode != before.mode for frame, before in zip(frames, photo.frames, strict=True))
        return dataclasses.replace(photo, frames=tuple(frames), icc_profile=None if recoloured else photo.icc_profile)


def _read(path: Path) -> bytes:
    check_regular(path)
    if path.suffix.lower() in RAW_PHOTOS:  # Pillow would read the preview in it
        raise UnreadableImage(NO_RAW)
    return path.read_bytes()


def _is_done(earlier: Mapping[str, Any], row: Row, target: Path) -> bool:
    """Return whether an earlier run made ``target`` from the same bytes with the same settings."""
    return (
        earlier.get("outcome") != "error"
        and earlier.get("settings") == row.settings
        and earlier.get("input_sha256") == row.input_sha256
        and target.is_file()
        and sha256_of(target) == earlier.get("output_sha256")
    )


def _check_free(target: Path, batch: Batch) -> None:
    """:raises UsageMistake: if the target exists and may not be replaced. A resumed run may replace what faceblur wrote."""
    if not target.exists() or (batch.overwrite and target.is_file()):
        return
    if batch.done is not None and target.is_file():
        try:
            if _made(target, batch.max_pixels) == ("preview" if batch.output.preview else "anonymized"):
                return
        except FaceblurError:
            pass
    raise UsageMistake(f"{target} is a folder" if target.is_dir() else f"{target} exists; --overwrite replaces it")


def _made(path: Path, max_pixels: int) -> str:
    """Return what faceblur wrote a file as, if it did. :raises FaceblurError: if it cannot be read."""
    if not is_video(path):
        return read_photo(path.read_bytes(), max_pixels).made
    with VideoReader(path, max_pixels) as reader:
        return reader.made
