"""Look at every photo of a source once: its checksum, its fingerprint, and the faces that its labels do not have."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from faceblur_core.datasets.duplicates import Fingerprint, fingerprint
from faceblur_core.datasets.labels import BadRows, Face, LabelledPhoto, faces_of
from faceblur_core.datasets.sources import OpenSource
from faceblur_core.errors import FaceblurError, TooLarge, UnreadableImage
from faceblur_core.media.images import read_photo
from faceblur_core.methods import find_method
from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.types import Anonymizer, Floats, Image, box_iou

SAME_FACE = 0.3  #: intersection over union, or half of the smaller box covered
NO_UTF8 = "its name is no UTF-8; rename it"
AHEAD = 16  #: photos that may be in work or wait for the one before them

T = TypeVar("T")
R = TypeVar("R")
Advance = Callable[[], None]  #: called when one more item is done


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A photo of a source, looked at."""

    source: str  #: the source's label
    photo: LabelledPhoto
    sha256: str
    fingerprint: Fingerprint
    unconfirmed: int = 0  #: labelled faces that none of the methods found, though they found others


def pixels_of(data: bytes) -> Image:
    """Return a picture file's first frame as upright 8-bit RGB. :raises UnreadableImage: as :func:`read_photo`."""
    return read_photo(data).frames[0].rgb()


class DetectorPool:
    """Methods by name that find faces; every thread has detectors of its own."""

    def __init__(self, methods: Sequence[str]) -> None:
        """:raises FaceblurError: if a method is unknown or finds no boxes."""
        self._methods = [find_method(name, {}, installed_plugins()) for name in methods]
        for method in self._methods:
            if method.anonymizer:
                raise FaceblurError(f"method {method.text!r} finds no boxes, so it cannot label photos")
        self._local = threading.local()
        self._made: list[Anonymizer] = []

    def __call__(self, image: Image) -> list[Face]:
        """Return the faces that are found in an image, H x W x 3, each once.

        The first method that finds a face has the word about its box.
        """
        faces: list[Face] = []
        for method in self._mine():
            found = method(image).detections
            for face in faces_of(found) if found is not None else ():
                if not any(same_face(face, other) for other in faces):
                    faces.append(face)
        return faces

    def _mine(self) -> list[Anonymizer]:
        if not hasattr(self._local, "methods"):
            self._local.methods = [method.make() for method in self._methods]
            self._made += self._local.methods
        mine: list[Anonymizer] = self._local.methods
        return mine

    def close(self) -> None:
        for method in self._made:
            close(method)


def same_face(one: Face, other: Face) -> bool:
    """Return whether two labels are of one face: they overlap, or one lies for the most part in the other."""
    a, b = (np.array([face.ellipse.bounds()], np.float32) for face in (one, other))
    if box_iou(a, b)[0, 0] > SAME_FACE:
        return True
    shared = np.prod(np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0))
    smaller = min(_area(a), _area(b))
    return bool(shared > 0.5 * smaller)


def _area(box: Floats) -> float:
    return float(np.prod(box[:, 2:] - box[:, :2]))


def with_landmarks(faces: tuple[Face, ...], pool: DetectorPool, image: Image) -> list[Face]:
    """Return the faces with the landmarks that the pool finds on them; where it finds none, with their own."""
    return completed(faces, pool(image))


def completed(faces: Sequence[Face], found: Sequence[Face]) -> list[Face]:
    """Return the faces with the landmarks of those that were found; where none is the same, with their own.

    Each is given to one face, the one that it overlaps most, and only if its landmarks lie about a point in that face's box.
    """
    boxes, others = (np.array([face.ellipse.bounds() for face in some], np.float32).reshape(-1, 4) for some in (faces, found))
    overlap = box_iou(boxes, others)
    result = list(faces)
    done, given = set[int](), set[int]()
    for index, other in sorted(np.ndindex(overlap.shape), key=lambda pair: -overlap[pair]):
        points = found[other].landmarks
        if points is None or index in done or other in given or not same_face(faces[index], found[other]):
            continue
        x, y = points.mean(axis=0)
        x1, y1, x2, y2 = boxes[index]
        if x1 <= x <= x2 and y1 <= y <= y2:
            result[index] = dataclasses.replace(faces[index], landmarks=points)
            done.add(index)
            given.add(other)
    return result


def survey(source: OpenSource, bad: BadRows, workers: int, advance: Advance | None = None) -> list[Surveyed]:
    """Return all photos of a source, in the order of their names.

    Faces that the source's ``detect`` methods find are added to the labelled ones, and landmarks to those that have none.

    :raises FaceblurError: if a photo cannot be read or has a name that is no UTF-8, unless bad rows are skipped
    """
    photos = source.read(bad)
    pool = DetectorPool(source.source.detect)
    try:
        return [item for item in in_order(lambda photo: _look(source, photo, pool, bad), photos, workers, advance) if item]
    finally:
        pool.close()


def is_utf8(name: str) -> bool:
    """Return whether a file's name can be written into a text file."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def why_unread(error: OSError | FaceblurError) -> str:
    """Return why a picture could not be read, without its name."""
    return error.message if isinstance(error, FaceblurError) else error.strerror or str(error)


def why_refused(error: OSError | FaceblurError) -> str:
    """Return the same, for commands that can be told how large a picture may be."""
    return error.with_option() if isinstance(error, TooLarge) else why_unread(error)


def _look(source: OpenSource, photo: LabelledPhoto, pool: DetectorPool, bad: BadRows) -> Surveyed | None:
    if not is_utf8(photo.name):
        bad(photo.path, None, NO_UTF8)
        return None
    try:
        data = photo.path.read_bytes()
        image = pixels_of(data)
    except (OSError, UnreadableImage) as error:
        bad(photo.path, None, why_unread(error))
        return None
    found = pool(image)
    extra = [face for face in found if not any(same_face(face, known) for known in photo.faces)]
    unconfirmed = sum(not any(same_face(face, known) for face in found) for known in photo.faces)
    known = zip(photo.faces, completed(photo.faces, found), strict=True)
    labelled = (face if face.landmarks is not None else same for face, same in known)
    complete = dataclasses.replace(photo, faces=(*labelled, *extra))
    return Surveyed(source.label, complete, hashlib.sha256(data).hexdigest(), fingerprint(image), unconfirmed if found else 0)


def in_order(
    work: Callable[[T], R], items: Sequence[T], workers: int, advance: Advance | None = None, stop: Advance | None = None
) -> Iterator[R]:
    """Yield ``work(item)`` for every item, in their order, computed by that many threads and not far ahead.

    :param stop: is called at the end, also when it comes before its time: long work that still goes on should give up then
    """
    import cv2  # noqa: F401 (two threads that import it first at the same time break it)

    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
                    if advance:
                        advance()
            while waiting:
                yield waiting.popleft().result()
                if advance:
                    advance()
        finally:
            for future in waiting:
                future.cancel()
            if stop:
                stop()
