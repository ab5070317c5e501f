"""Methods with known answers, methods that fail in every way, and metrics that do."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from faceblur_core import Component, hookimpl
from faceblur_core.testsets.format import read_testset
from faceblur_core.types import Anonymized, Detections, option


def everywhere(image, value):
    return np.full(image.shape[:2], value, np.float32)


@dataclass
class Copy:
    """Hides nothing, finds nothing."""

    def __call__(self, image):
        return Anonymized(image, everywhere(image, 0), Detections.none())


@dataclass
class Black:
    """Hides everything, and names no boxes."""

    def __call__(self, image):
        return Anonymized(np.zeros_like(image), everywhere(image, 1))


@dataclass
class Buffered:
    """Hides everything, and writes each mask into one array."""

    mask: Any = field(default=None, init=False)

    def __call__(self, image):
        if self.mask is None or self.mask.shape != image.shape[:2]:
            self.mask = everywhere(image, 0)
        self.mask[:] = 1
        return Anonymized(np.zeros_like(image), self.mask)


@dataclass
class Oracle:
    """Hides what the test set says that there is."""

    testset: str = option(..., "folder")
    grow: float = option(1.0, "of the ellipses")
    drop: int = option(0, "passes over one of so many pictures of a clip; 0: none")
    samples: Any = field(default=None, init=False)

    def __post_init__(self):
        self.samples = {sample.image.tobytes(): sample for sample in read_testset(Path(self.testset)).samples()}

    def faces(self, image):
        sample = self.samples[image.tobytes()]
        return () if self.drop and (sample.frame + 1) % self.drop == 0 else sample.faces

    def __call__(self, image):
        faces = self.faces(image)
        hidden = np.any([face.inside(*image.shape[:2], self.grow) for face in faces] or [everywhere(image, 0) > 0], axis=0)
        boxes = np.array([face.bounds() for face in faces], np.float32).reshape(-1, 4)
        return Anonymized(
            np.where(hidden[..., None], np.uint8(0), image), hidden.astype(np.float32), Detections(boxes, [1] * len(boxes))
        )


@dataclass
class Scripted(Oracle):
    """The same as a detector."""

    def __call__(self, image):
        boxes = np.array([face.bounds() for face in self.faces(image)], np.float32).reshape(-1, 4)
        return Detections(boxes, np.ones(len(boxes), np.float32))


@dataclass
class Odd:
    """Does something wrong on its second photo, or when it is loaded."""

    how: str = option("fine", "what")
    file: str = option("", "a model")
    threads: int = option(1, "of its own")
    calls: int = field(default=0, init=False)

    def __post_init__(self):
        if self.how == "load":
            raise RuntimeError("no such driver")
        if self.how == "leave":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(200)"])
            threading.Thread(target=time.sleep, args=(200,)).start()

    def __call__(self, image):
        self.calls += 1
        return getattr(self, self.how, self.fine)(image) if self.calls == 2 else self.fine(image)

    def fine(self, image):
        return Anonymized(image, everywhere(image, 0), Detections.none())

    def image(self, image):
        raise ValueError("this one\nnot")

    def exit(self, image):
        sys.exit(7)

    def shape(self, image):
        return Anonymized(image[1:], everywhere(image, 0))

    def nan(self, image):
        return Anonymized(image, everywhere(image, np.nan))

    def nothing(self, image):
        return None

    def write(self, image):
        image[:] = 0
        return self.fine(image)

    def quit(self, image):
        os._exit(3)

    def abort(self, image):
        print("the last words", file=sys.stderr, flush=True)
        os.abort()

    def rubbish(self, image):
        os.write(1, b"\xff{rubbish\n" * 50_000)
        os.write(2, b"\xff{rubbish\n" * 50_000)
        return self.fine(image)

    def slow(self, image):
        time.sleep(60)


@dataclass
class Moody:
    """A metric that fails on photos without a face, or gives too much."""

    how: str = option("raise", "what")
    file: str = option("", "a model")
    unit: ClassVar = "share"
    per: ClassVar = "face"
    higher_is_better: ClassVar = False
    range: ClassVar = (0.0, 1.0)
    citation: ClassVar = "this test"
    statistics: ClassVar = ("mean",)

    def __call__(self, sample, result):
        if self.how == "raise" and not sample.faces:
            raise ZeroDivisionError("no face")
        return np.full(len(sample.faces) + (self.how == "many"), 0.5)


@dataclass
class Scribble(Moody):
    def __call__(self, sample, result):
        result.image[:] = 0
        return np.zeros(len(sample.faces))


@dataclass
class Guess(Moody):
    statistics: ClassVar = ("guess",)


class Panic(BaseException):
    """What libraries in Rust raise is no Exception."""


@dataclass
class Pool:
    """A pooled metric that fails where it is asked to."""

    how: str = option("figures", "what")
    group: ClassVar = "privacy"
    unit: ClassVar = "share"
    per: ClassVar = "set"
    higher_is_better: ClassVar = False
    range: ClassVar = (0.0, 1.0)
    citation: ClassVar = "this test"

    def observe(self, sample, result):
        return {"objects": np.array([object()])} if self.how == "observe" else {"x": np.ones(1)}

    def prepare(self, observations, training):
        return None

    def figures(self, prepared, weights):
        if self.how == "figures":
            raise ZeroDivisionError("no figures")
        if self.how == "panic":
            raise Panic("no way on")
        return {"x": 2.0}


def _row(name, attribute):
    return Component(name=name, summary=name, factory=f"comparedplug:{attribute}")


@hookimpl
def faceblur_anonymizers():
    return [
        _row("copy", "Copy"),
        _row("black", "Black"),
        _row("buffered", "Buffered"),
        _row("oracle", "Oracle"),
        _row("odd", "Odd"),
    ]


@hookimpl
def faceblur_detectors():
    return [_row("scripted", "Scripted")]


@hookimpl
def faceblur_metrics():
    return [_row("moody", "Moody"), _row("guess", "Guess"), _row("scribble", "Scribble"), _row("pool", "Pool")]
