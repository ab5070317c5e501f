"""Videos that wait, are in work or are ready: one process at a time works, and everything ends by itself.

A job is known by a name that nobody can guess. Its upload is freed as soon as nobody works on it, its result a
minute after it was delivered, for nobody knows whether all that was sent arrived, and both when nobody asks for the job any more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from faceblur_core.service import VideoLimits, VideoWish
from faceblur_web.allowed import Wanted
from faceblur_web.limits import Limits, Refused
from faceblur_web.private import PrivateFolder, taken_out
from faceblur_web.workers import Busy

_log = logging.getLogger("faceblur_web")


@dataclass(eq=False)
class Job:
    """One video. The thread that works on it and the event loop's both change it, under the lock of :class:`Jobs`."""

    id: str
    upload: BinaryIO
    wanted: Wanted
    wish: VideoWish
    state: Literal["waiting", "working", "done", "failed"] = "waiting"
    error: str = ""  #: one line for the client
    result: BinaryIO | None = None
    facts: dict[str, Any] = field(default_factory=dict)  #: of the result
    process: subprocess.Popen[str] | None = None
    dropped: bool = False
    progress: float = 0.0
    asked: float = field(default_factory=time.monotonic)  #: when the client last asked; these are monotonic seconds
    changed: float = 0.0  #: when it began or ended
    heard: float = 0.0  #: when its process last said something
    first: tuple[float, float] = (0.0, 0.0)  #: when it first told of progress, and how much: until then it loads models
    sent: int = 0  #: so many bytes of the result, from the first, were handed to the system
    delivered: float = 0.0  #: when all of them last were

    @property
    def seconds_left(self) -> float | None:
        """Return how long it will be in work, None if nobody knows."""
        began, share = self.first
        if self.state != "working" or self.progress <= share:
            return None
        return (time.monotonic() - began) * (1 - self.progress) / (self.progress - share)


@contextlib.contextmanager
def _busy_without_files() -> Iterator[None]:
    """:raises Busy: if the system makes no file, which is logged"""
    try:
        yield
    except OSError as error:
        _log.warning("no file for a video can be made: %s", error.strerror)
        raise Busy(60) from None


class Jobs:
    """All jobs of a server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._jobs: dict[str, Job] = {}
        self._arriving = 0
        self._lock = threading.Lock()
        self._folder: PrivateFolder | None = None
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def folder(self) -> PrivateFolder:
        assert self._folder is not None, "start() comes first"
        return self._folder

    def start(self) -> None:
        """Make the folder, start the thread."""
        self._folder = PrivateFolder()
        self._thread = threading.Thread(target=self._serve, name="faceblur-web-video", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Drop all jobs and remove the folder."""
        for job in list(self._jobs.values()):
            self.drop(job)
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout=30)
            self.folder.remove()

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Keep a place for a job whose upload is on its way. :raises Busy: if there is none, or no room for its bytes"""
        held = sum(not job.delivered for job in self._jobs.values())
        if self._arriving + held >= self._limits.jobs or self._room() < self._limits.video_bytes:
            raise Busy(self._patience())
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    def _room(self) -> int:
        """Return how many bytes there is room for, in a new folder if somebody removed ours. :raises Busy: if none can be made"""
        with _busy_without_files():
            with contextlib.suppress(FileNotFoundError):
                return self.folder.free()
            _log.warning("the folder for videos was removed; a new one is made")
            gone, self._folder = self.folder, PrivateFolder()
            gone.remove()
            return self.folder.free()

    def _patience(self) -> int:
        left = [job.seconds_left for job in self._jobs.values() if job.seconds_left is not None]
        return min(60, max(5, math.ceil(min(left, default=5))))

    def add(self, upload: BinaryIO, wanted: Wanted, wish: VideoWish) -> Job:
        """Queue a video. The job closes the upload."""
        job = Job(secrets.token_urlsafe(24), upload, wanted, wish)
        self._jobs[job.id] = job
        self._queue.put(job)
        return job

    def get(self, name: str) -> Job:
        """Return a job; it was asked for. :raises Refused: if there is none of that name"""
        job = self._jobs.get(name)
        if job is None:
            raise Refused(404, "there is no such job: it was delivered, cancelled or given up, or never was")
        job.asked = time.monotonic()
        return job

    def nameless(self) -> BinaryIO:
        """Return a file for an upload. :raises Busy: if none can be made"""
        with _busy_without_files():
            return self.folder.nameless()

    def note_sent(self, job: Job, start: int, end: int) -> None:
        """Note that bytes of a result were sent; with all of them the job is delivered and gives its place away."""
        job.asked = time.monotonic()
        if start <= job.sent:
            job.sent = max(job.sent, end)
        if job.sent == job.facts["bytes"]:
            job.delivered = job.asked

    def ahead(self, job: Job) -> int | None:
        """Return how many jobs come before one that waits."""
        if job.state != "waiting":
            return None
        before = list(self._jobs.values())
        return sum(other.state in ("waiting", "working") for other in before[: before.index(job)])

    def drop(self, job: Job) -> None:
        """Forget a job and free all that it holds, in work or not."""
        self._jobs.pop(job.id, None)
        with self._lock:
            job.dropped = True
            if job.process is not None:
                job.process.kill()  # the thread that waits for it closes the upload
            elif job.state == "waiting":
                job.upload.close()
            if job.result is not None:
                job.result.close()
                job.result = None

    def sweep(self) -> None:
        """Drop what nobody wants any more, end what takes too long."""
        now, limits = time.monotonic(), self._limits
        for job in list(self._jobs.values()):
            ended = job.state in ("done", "failed")
            kept = ended and now - job.changed > limits.kept
            if kept or now - job.asked > limits.forgotten or (job.delivered and now - job.delivered > limits.again):
                self.drop(job)
            elif job.state == "working" and now - job.changed > limits.work:
                self._end(job, f"it took longer than {limits.work / 3600:g} hours")
            elif job.state == "working" and now - job.heard > limits.silence:
                self._end(job, "it made no progress any more")

    def _end(self, job: Job, why: str) -> None:
        with self._lock:
            job.error = why
            if job.process is not None:
                job.process.kill()

    def _serve(self) -> None:
        while job := self._queue.get():
            self._work(job)

    def _work(self, job: Job) -> None:
        """Take a job from the queue to its end."""
        folder = None
        try:
            folder = self.folder.subfolder()
            with self._lock:
                if job.dropped:
                    return
                job.state, job.changed, job.heard = "working", time.monotonic(), time.monotonic()
            process = self._started(job, folder)  # takes its time; the event loop must not wait for the lock meanwhile
            with self._lock:
                job.process = process
                if job.dropped or job.error:
                    process.kill()
            try:
                said = self._listen(job, process)
            except Exception:
                process.kill()
                process.wait()
                raise
            self._conclude(job, folder, said, process.wait())
        except OSError as error:
            _log.warning("a video could not be worked on: %s", error.strerror)
            self._fail(job, "the server cannot work on videos now")
        except Exception as error:  # what its process says makes no sense; the next job needs this thread
            _log.warning("a video could not be worked on: %s", type(error).__name__)
            self._fail(job, "the method failed on this video")
        finally:
            job.upload.close()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _started(self, job: Job, folder: Path) -> subprocess.Popen[str]:
        from faceblur_web.video import Task

        limits = self._limits
        allowed = VideoLimits(limits.video_pixels, limits.video_seconds, limits.video_pictures, limits.result_bytes)
        task = Task(job.wanted, job.wish, allowed, str(folder))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "faceblur_web.video", task.to_json()],
            stdin=job.upload,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "FACEBLUR_TOKEN"},
        )

    @staticmethod
    def _listen(job: Job, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Follow what the process says until it ends; return the last of it that was no progress."""
        assert process.stdout is not None
        last: dict[str, Any] = {}
        with process.stdout as lines:
            for line in lines:
                said = json.loads(line)
                job.heard = time.monotonic()
                if "progress" in said:
                    job.first = job.first if job.first[0] else (job.heard, said["progress"])
                    job.progress = said["progress"]
                else:
                    last = said
        return last

    def _conclude(self, job: Job, folder: Path, said: dict[str, Any], code: int) -> None:
        if job.error:  # it was ended
            self._fail(job, job.error)
        elif "done" in said:
            result = taken_out(folder / said["done"]["path"])
            with self._lock:
                job.process = None
                if job.dropped:
                    result.close()
                    return
                job.facts = {**said["done"], "bytes": os.fstat(result.fileno()).st_size}
                job.result, job.state, job.changed, job.progress = result, "done", time.monotonic(), 1.0
        elif said.get("whose") == "client":
            self._fail(job, said["error"])
        elif not job.dropped:
            _log.warning("a video failed: %s %s", said.get("error", f"its process ended with code {code}"), said.get("cause", ""))
            full = "the server's disk is full; try again later"
            self._fail(job, full if said.get("full") else "the method failed on this video")

    def _fail(self, job: Job, why: str) -> None:
        with self._lock:
            job.process = None
            job.error, job.state, job.changed = why, "failed", time.monotonic()
