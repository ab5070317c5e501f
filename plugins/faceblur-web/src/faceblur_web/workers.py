"""Threads that do the work: a bounded queue before them, and on each its own loaded methods."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from faceblur_core.errors import FaceblurError
from faceblur_core.service import PhotoMethod, share_cores
from faceblur_web.allowed import Wanted

T = TypeVar("T")
MOST_KEPT = 6  #: methods that a worker keeps loaded


class Busy(Exception):
    """There is no room for more. ``retry_after``: seconds until there may be."""

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__("the server is busy; try again later")
        self.retry_after = retry_after


class Shelf:
    """The methods that one worker keeps loaded, the one used last at the end."""

    def __init__(self, load: Callable[[Wanted], PhotoMethod]) -> None:
        self._load = load
        self._loaded: OrderedDict[Wanted, PhotoMethod] = OrderedDict()

    def get(self, wanted: Wanted) -> PhotoMethod:
        """Return the method, loaded. :raises FaceblurError: if it cannot be."""
        if wanted not in self._loaded:
            self._loaded[wanted] = self._load(wanted)
        self._loaded.move_to_end(wanted)
        if len(self._loaded) > MOST_KEPT:
            self._close(self._loaded.popitem(last=False)[1])
        return self._loaded[wanted]

    def clear(self) -> None:
        """Free all of them."""
        while self._loaded:
            self._close(self._loaded.popitem()[1])

    @staticmethod
    def _close(method: PhotoMethod) -> None:
        with contextlib.suppress(Exception):  # what a plugin does wrong now harms nobody
            method.close()


@dataclass
class _Task:
    run: Callable[[Shelf], Any]
    future: Future[Any]


def _nothing(shelf: Shelf) -> None: ...


class Workers:
    """``count`` threads and a queue of at most ``waiting`` tasks."""

    def __init__(self, count: int, waiting: int, load: Callable[[Wanted], PhotoMethod]) -> None:
        self.count = count
        self._load = load
        self._queue: queue.Queue[_Task | None] = queue.Queue()
        self._room = threading.BoundedSemaphore(waiting + count)  #: tasks that wait or are in work
        self._usual = 1.0  #: seconds per task, a running mean
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        share_cores(self.count)
        self._threads = [threading.Thread(target=self._serve, name=f"faceblur-web-{n}", daemon=True) for n in range(self.count)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Finish what is in work, drop what waits, free the methods."""
        with contextlib.suppress(queue.Empty):
            while task := self._queue.get_nowait():
                task.future.cancel()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=30)

    def submit(self, run: Callable[[Shelf], T]) -> Future[T]:
        """Queue a task. :raises Busy: if the queue is full."""
        if not self._room.acquire(blocking=False):
            raise Busy(self.patience())
        task = _Task(run, Future())
        task.future.add_done_callback(lambda _: self._leave(task))
        self._queue.put(task)
        return task.future

    def _leave(self, task: _Task) -> None:
        """Give away the place of a task that is done, or taken back, and what it holds: the photo."""
        task.run = _nothing
        self._room.release()

    def patience(self) -> int:
        """Return in how many seconds it may be worth asking again."""
        return min(60, max(1, math.ceil(self._usual * (self._queue.qsize() + 1) / self.count)))

    def _serve(self) -> None:
        shelf = Shelf(self._load)
        while task := self._queue.get():
            self._do(task, shelf)
        shelf.clear()

    def _do(self, task: _Task, shelf: Shelf) -> None:
        if not task.future.set_running_or_notify_cancel():  # who asked has left
            return
        started = time.perf_counter()
        try:
            result = task.run(shelf)
        except Exception as error:
            task.future.set_exception(error)
        except BaseException as error:  # a plugin's SystemExit must not end the server
            task.future.set_exception(FaceblurError(f"the method ended with {type(error).__name__}"))
        else:
            task.future.set_result(result)
        self._usual += 0.2 * (time.perf_counter() - started - self._usual)
