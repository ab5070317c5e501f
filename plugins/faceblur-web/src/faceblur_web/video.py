"""One video through one method, in a process of its own: a decoder that crashes, hangs or eats memory costs one job.

Run as ``python -m faceblur_web.video TASK`` with the video as its standard input; says what goes on in lines of JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from faceblur_core.errors import FaceblurError
from faceblur_core.service import ServedVideo, VideoLimits, VideoMethod, VideoWish
from faceblur_web.allowed import CLIENTS, Wanted
from faceblur_web.private import leave_no_core

MEMORY = 8 * 2**30  #: bytes that the process may ask for
SAID_EVERY = 0.2  #: seconds


@dataclass(frozen=True)
class Task:
    """What the process does. All of it are names and numbers of the server's; no name of a request's."""

    wanted: Wanted
    wish: VideoWish
    limits: VideoLimits
    folder: str  #: where the result is written, empty

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Task:
        told = json.loads(text)
        settings = tuple((name, value) for name, value in told["wanted"]["settings"])
        wanted = Wanted(told["wanted"]["method"], settings)
        return cls(wanted, VideoWish(**told["wish"]), VideoLimits(**told["limits"]), told["folder"])

    def run(self, said: TextIO) -> ServedVideo:
        """Do it, telling the share that is done. :raises FaceblurError: if it cannot be done"""
        last = -SAID_EVERY

        def progress(share: float) -> None:
            nonlocal last
            if (now := time.monotonic()) - last >= SAID_EVERY:
                last = now
                _say(said, progress=round(share, 4))

        method = self.wanted.load(lambda found: VideoMethod(found, self.limits))
        with open(0, "rb", buffering=0, closefd=False) as source:
            return method(source, Path(self.folder), self.wish, progress)


def main() -> None:
    task = Task.of_json(sys.argv[1])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as said:
        os.dup2(2, 1)  # what libraries print is no line of ours
        _restrict()
        try:
            served = task.run(said)
        except FaceblurError as error:
            _say(
                said,
                error=error.message,
                whose="client" if isinstance(error, CLIENTS) else "server",
                full=getattr(error.__cause__, "errno", None) == errno.ENOSPC,
                cause=str(error.__cause__ or ""),
            )
        else:
            _say(said, done=_facts(served))


def _facts(served: ServedVideo) -> Mapping[str, Any]:
    ms = {stage: round(value, 2) for stage, value in served.ms.items()}
    return {**dataclasses.asdict(served), "path": served.path.name, "ms": ms}


def _say(said: TextIO, **message: Any) -> None:
    print(json.dumps(message), file=said, flush=True)


def _restrict() -> None:
    """Let what is wrong with a video end this process alone, and leave nothing of it behind."""
    leave_no_core()
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most), most))
    with contextlib.suppress(OSError):  # Linux: where memory runs out all the same, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
