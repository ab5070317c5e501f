"""One face and its blurred variants: the work of ``faceblur dataset blur``, done in processes of their own.

A face is cut out with what is about it, reduced to the size that a recogniser looks at, blurred, and compared with itself by
the metric ``cosine`` of faceblur-identity. Sharp and blurred are aligned by the same landmarks.
"""

from __future__ import annotations

import concurrent.futures
import math
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from faceblur_core.datasets.blur_methods import BlurMethod, Parameters, blur_methods
from faceblur_core.datasets.crops import Crop, render, soft_mask
from faceblur_core.datasets.labels import Face
from faceblur_core.datasets.survey import Advance, in_order, pixels_of, why_unread
from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_core.media.images import encode_pixels
from faceblur_core.plugins import installed_plugins
from faceblur_core.types import Anonymized, Ellipse, Floats, Image, Mask, Metric, Sample

COSINE = "cosine"  #: the metric that says how alike a face is to itself, of faceblur-identity
CONTEXT = 0.5  #: of the square's side, each way: what blurs into it
SIDE = 160  #: pixels of the square, at most, while it is blurred: about as large as a recogniser's 112 aligned pixels
GROW, FEATHER = 1.2, 0.1  #: of the ellipse that is blurred where only the face is


@dataclass(frozen=True, slots=True)
class Work:
    """What every process is told."""

    blurs: Mapping[str, Mapping[str, Any]]  #: as in the config
    metric: Mapping[str, Any]  #: options of the metric ``cosine``
    times: tuple[int, int]
    faces_only: float
    size: int
    margin: float
    jitter: float
    quality: int
    seed: int


@dataclass(frozen=True, slots=True)
class Task:
    """One face, and which of its variants are to be made."""

    split: str
    source: str  #: label
    photo: str  #: name in the source
    path: Path
    identity: str | None
    number: int  #: of the face in its photo
    ellipse: Ellipse
    landmarks: Floats | None  #: 5 x 2
    variants: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """A blurred face."""

    task: Task
    number: int
    method: str
    parameters: tuple[Parameters, ...]  #: of each time that it was blurred
    faces_only: bool
    cosine: float  #: nan if the face cannot be aligned
    jpeg: bytes

    @property
    def degree(self) -> float:
        """The label: 1 - cosine, at most 1, for beyond it the faces are of different people; at least 0."""
        return min(max(1 - self.cosine, 0.0), 1.0)


def cosine_metric(options: Mapping[str, Any]) -> Metric:
    """Return the metric that makes the labels.

    :raises UsageMistake: if faceblur-identity, which has it, is not installed, or an option does not fit
    :raises MissingWeights: if its weights are not there
    """
    plugins = installed_plugins()
    if COSINE not in plugins.names("metric"):
        raise UsageMistake("labels come from a face recogniser: install faceblur-identity, which has the metric 'cosine'")
    metric: Metric = plugins.make("metric", COSINE, options)
    return metric


class Blurrer:
    """Makes the variants of faces."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.methods: Mapping[str, BlurMethod] = blur_methods(work.blurs, "config")
        self.cosine = cosine_metric(work.metric)
        total = sum(method.weight for method in self.methods.values())
        self._shares = [method.weight / total for method in self.methods.values()]

    def __call__(self, task: Task) -> list[Variant]:
        """Return the variants of one face. :raises FaceblurError: if its photo cannot be read any more"""
        image = pixels_at(task.path)
        sharp, crop, face = cut_out(image, Face(task.ellipse, landmarks=task.landmarks), self.work.margin)
        mask = soft_mask([face.ellipse], sharp.shape[0], sharp.shape[1], GROW, FEATHER)
        return [self._variant(task, number, sharp, crop, face, mask) for number in task.variants]

    def _variant(self, task: Task, number: int, sharp: Image, crop: Crop, face: Face, mask: Mask) -> Variant:
        seeds = crc32(task.source.encode()), crc32(task.photo.encode()), task.number, number
        rng = np.random.default_rng([self.work.seed, *seeds])
        name = str(rng.choice(list(self.methods), p=self._shares))
        method = self.methods[name]
        times = 1 if method.in_mask else int(rng.integers(self.work.times[0], self.work.times[1] + 1))
        faces_only = bool(rng.random() < self.work.faces_only) or method.in_mask
        image, parameters = sharp, []
        for _ in range(times):
            parameters.append(method.draw(rng))
            image = method.apply(image, mask, face.height, parameters[-1], rng)
        if faces_only and not method.in_mask:
            image = np.rint(sharp + (image.astype(np.float32) - sharp) * mask[..., None]).astype(np.uint8)
        sample = Sample(task.photo, sharp, (face.ellipse,), landmarks=(face.landmarks,))
        try:
            cosine = float(self.cosine(sample, Anonymized(image, mask))[0])
        except FaceblurError:  # landmarks in one point
            cosine = math.nan
        crop = jittered(crop, self.work.jitter, rng)
        jpeg = encode_pixels(render(image, crop, self.work.size), "JPEG", quality=self.work.quality, subsampling=0)
        return Variant(task, number, name, tuple(parameters), faces_only, cosine, jpeg)


def pixels_at(path: Path) -> Image:
    """Return a photo that was read before. :raises FaceblurError: if it cannot be read any more"""
    try:
        return pixels_of(path.read_bytes())
    except (OSError, UnreadableImage) as error:
        raise FaceblurError(f"{path}: {why_unread(error)}") from None


def square_about(ellipse: Ellipse, margin: float) -> Crop:
    """Return the square about an ellipse's bounding box, its side ``margin`` times the box's longer side, in whole pixels."""
    x1, y1, x2, y2 = ellipse.bounds()
    side = max(1, round(margin * max(x2 - x1, y2 - y1)))
    return Crop(round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2), side)


def jittered(crop: Crop, jitter: float, rng: np.random.Generator) -> Crop:
    """Return a square, its side changed by up to that share, its centre moved by up to half of it: as detectors differ."""
    size, dx, dy = rng.uniform(-jitter, jitter, 3)
    side = max(1, round(crop.side * (1 + float(size))))
    x, y = (start + (crop.side - side) / 2 + float(move) * crop.side / 2 for start, move in ((crop.x, dx), (crop.y, dy)))
    return Crop(round(x), round(y), side)


def cut_out(image: Image, face: Face, margin: float) -> tuple[Image, Crop, Face]:
    """Return a face's square with what is about it, reduced if the square is larger than SIDE; square and face in its pixels."""
    import cv2

    crop = square_about(face.ellipse, margin)
    wide = math.ceil(CONTEXT * crop.side)
    left, top = max(0, crop.x - wide), max(0, crop.y - wide)
    part = image[top : crop.y + crop.side + wide, left : crop.x + crop.side + wide]
    scale = min(1.0, SIDE / crop.side)
    height, width = (max(1, round(length * scale)) for length in part.shape[:2])
    if scale < 1:
        part = np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    fx, fy = (
        width / (min(image.shape[1], crop.x + crop.side + wide) - left),
        height / (min(image.shape[0], crop.y + crop.side + wide) - top),
    )
    e = face.ellipse
    ellipse = Ellipse((e.cx - left) * fx, (e.cy - top) * fy, e.rx * fx, e.ry * fy, e.angle)
    landmarks = None if face.landmarks is None else ((face.landmarks - (left, top)) * (fx, fy)).astype(np.float32)
    return np.ascontiguousarray(part), square_about(ellipse, margin), Face(ellipse, landmarks=landmarks)


_blurrer: list[Blurrer] = []  #: of this process


def _start(work: Work) -> None:
    import cv2

    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _blurrer[:] = [Blurrer(work)]


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, however that was."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _make(task: Task) -> list[Variant]:
    return _blurrer[0](task)


def variants(work: Work, tasks: Sequence[Task], workers: int, advance: Advance | None = None) -> Iterator[list[Variant]]:
    """Yield the variants of every task, in order, made by that many processes; the same however many they are.

    :raises FaceblurError: if a photo cannot be read any more, or a process dies
    """
    context = multiprocessing.get_context("spawn")  # threads of a runtime do not survive a fork
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(work,))
    try:
        yield from in_order(lambda task: pool.submit(_make, task).result(), tasks, workers, advance)
    except BrokenProcessPool:
        raise FaceblurError("a process that blurs faces has died; with less memory, give --workers 1") from None
    finally:
        pool.shutdown(cancel_futures=True)
