"""Choose who is hidden: a person stays visible (``keep``), or a person alone is hidden (``only``). Unsure means hidden.

A face is compared with reference photos by an embedder. What is not seen well enough for that is unsure, and so is a
likeness between the embedder's two limits. In a picture by itself a face stays open if its verdict is sure. In a video
the sightings of a track vouch for each other: see :class:`Sightings`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from faceblur_core.alignment import SIDE, TEMPLATE, align, fit
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.media.files import read_regular
from faceblur_core.media.images import FORMAT_OF, read_photo
from faceblur_core.pipeline import MaskShape, close, model_files
from faceblur_core.plugins import Plugins
from faceblur_core.tracking import Tracked
from faceblur_core.types import Detections, Detector, Embedder, Faces, Floats, Image, Mask, box_iou
from faceblur_core.weights import sha256_of

DEFAULT_EMBEDDER = "mobilefacenet"
FINDER = "yunet"  #: the detector that finds landmarks where the method's own gives none

# When a face is seen well enough; benchmarks/people.py prints the error rates with these and without.
SMALLEST = 32.0  #: pixels, side of the square that is aligned
BLURRED = 0.15  #: least sharpness
TURNED = 5.0  #: greatest misfit

OF_ONE = 0.5  #: of the likeness that is surely the same person: each photo in a folder has so much to the others there

CROP, CROP_SIDE = 2.0, 320  #: where landmarks are looked for: box sides, and the pixels to which they are brought
THAT_FACE = 0.3  #: overlap with the box from which a face that is found there is the same
MEASURED = np.s_[24:104, 20:92]  #: the part of an aligned face whose sharpness is measured: brows to chin

NEAR = 5  #: pictures before and after within which sightings vouch for each other
SIGHTINGS = 3  #: that many must, the picture's own among them
CLOSE_BY = 2.0  #: faces whose boxes meet when they are this much larger could be taken for each other

Verdicts = NDArray[np.int8]  #: OPEN, UNSURE or HIDE for every face
OPEN, UNSURE, HIDE = 1, 0, -1


@dataclass(frozen=True, slots=True)
class View:
    """How one face is seen."""

    face: Image  #: aligned
    side: float  #: of the aligned square in the picture, pixels
    misfit: float  #: root mean square distance of the landmarks from the template, pixels of the aligned face
    sharpness: float  #: fine detail as a share of the contrast

    @property
    def good(self) -> bool:
        """Whether it is seen well enough to be recognised."""
        return self.side >= SMALLEST and self.sharpness >= BLURRED and self.misfit <= TURNED


def view(image: Image, landmarks: Floats) -> View | None:
    """Return how the face with these landmarks (5 x 2) is seen; None if they reach out of the picture or are no face's."""
    height, width = image.shape[:2]
    if not ((landmarks >= 0) & (landmarks <= [width, height])).all():
        return None
    try:
        matrix = fit(landmarks)
    except FaceblurError:
        return None
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    placed = landmarks @ matrix[:, :2].T + matrix[:, 2]
    face = align(image, landmarks)
    misfit = math.sqrt(float(np.square(placed - TEMPLATE).sum(axis=1).mean()))
    return View(face, SIDE / max(scale, 1e-9), misfit, _sharpness(face))


def _sharpness(face: Image) -> float:
    import cv2

    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 2)
    return float(fine[MEASURED].std() / max(1.0, float(grey[MEASURED].std())))


def find_landmarks(image: Image, box: Floats, finder: Detector) -> Floats | None:
    """Return the landmarks (5 x 2) of the face in a box (x1 y1 x2 y2), by a detector on that part of the picture, enlarged.

    None if it finds no face there or several, or gives no landmarks.
    """
    import cv2

    centre, side = (box[:2] + box[2:]) / 2, CROP * max(float((box[2:] - box[:2]).max()), 1.0)
    scale = CROP_SIDE / side
    shift = CROP_SIDE / 2 - scale * centre
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64)
    found = finder(np.asarray(cv2.warpAffine(np.ascontiguousarray(image), matrix, (CROP_SIDE, CROP_SIDE)), np.uint8))
    there = (box.reshape(2, 2) * scale + shift).reshape(1, 4).astype(np.float32)
    meets = box_iou(found.boxes, there)[:, 0] > THAT_FACE
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    within = ((centres >= there[:, :2]) & (centres <= there[:, 2:])).all(axis=1)  # a box may hold a small face beside a large one
    if found.landmarks is None or meets.sum() != 1 or (within | meets).sum() != 1:
        return None
    return np.asarray((found.landmarks[meets][0] - shift) / scale, np.float32)


def unit_vectors(embedder: Embedder, faces: Faces) -> Floats:
    """Return what an embedder makes of faces, N x D. :raises FaceblurError: if that is not one unit vector per face"""
    made: Any = embedder(faces)
    if not isinstance(made, np.ndarray) or made.ndim != 2 or len(made) != len(faces):
        raise FaceblurError(f"embedder {type(embedder).__name__} returned no array of one vector per face")
    if not (np.abs(np.linalg.norm(made, axis=1) - 1) < 1e-3).all():  # longer ones would make strangers alike; nan fails too
        raise FaceblurError(f"embedder {type(embedder).__name__} returned vectors that are not of length 1")
    return made


@dataclass(frozen=True)
class Recogniser:
    """Turns faces that are seen well enough into vectors. One is for one thread."""

    embedder: Embedder
    finder: Detector  #: gives landmarks

    @classmethod
    def make(cls, embedder: str, plugins: Plugins, detector: Detector) -> Recogniser:
        """Load an embedder, and the detector that finds landmarks: ``detector`` itself if no better one is installed.

        :raises UsageMistake: if there is no embedder of that name
        :raises FaceblurError: if one of them cannot start
        """
        if not plugins.names("embedder"):
            raise UsageMistake("faces are recognised by an embedder, and none is installed: install faceblur-identity")
        finder = plugins.make("detector", FINDER) if FINDER in plugins.names("detector") else detector
        return cls(plugins.make("embedder", embedder), finder)

    @property
    def model_files(self) -> list[Path]:
        return model_files(self.embedder) + model_files(self.finder)

    def close(self) -> None:
        close(self.embedder)
        close(self.finder)

    def views(self, image: Image, found: Detections) -> list[View | None]:
        """Return how each face is seen; None where it cannot be aligned."""
        points: Iterable[Floats | None] | None = found.landmarks
        if points is None:
            points = [find_landmarks(image, box, self.finder) for box in found.boxes]
        return [None if one is None else view(image, one) for one in points]

    def vectors(self, image: Image, found: Detections) -> list[Floats | None]:
        """Return the unit vector of each face; None where it is not seen well enough."""
        good = {index: seen.face for index, seen in enumerate(self.views(image, found)) if seen and seen.good}
        made = unit_vectors(self.embedder, np.stack(list(good.values()))) if good else ()
        vectors = dict(zip(good, made, strict=True))
        return [vectors.get(index) for index in range(len(found))]


@dataclass(frozen=True)
class People:
    """Who is kept or hidden; what is printed of it decides about the output, and so ``--resume`` compares it."""

    mode: Literal["keep", "only"]
    embedder: str
    same: float  #: cosine from which a face is surely one of them
    different: float  #: cosine below which it is surely none of them
    photos: tuple[tuple[str, ...], ...]  #: of each person, SHA-256
    vectors: Floats = field(repr=False, compare=False)  #: one unit vector per person

    def verdict(self, vector: Floats | None) -> int:
        """Return OPEN, UNSURE or HIDE for the face with that unit vector; None: it is not seen well enough."""
        if vector is None:
            return UNSURE
        likeness = float((self.vectors @ vector).max())
        who = 1 if likeness >= self.same else -1 if likeness < self.different else 0
        return who if self.mode == "keep" else -who


@dataclass(frozen=True)
class Limits:
    """Cosines given by the user in place of the embedder's own."""

    same: float | None = None
    different: float | None = None

    def of(self, name: str, embedder: Embedder) -> tuple[float, float]:
        """Return both limits, the embedder's own where none is given. :raises UsageMistake: if one is unknown, or they cross."""
        same = embedder.threshold if self.same is None else self.same
        different = embedder.different if self.different is None else self.different
        if same is None or different is None:
            raise UsageMistake(
                f"nobody has measured from which likeness embedder {name!r} is sure; give --same-from and --other-below, "
                "which benchmarks/people.py finds"
            )
        if different > same:
            raise UsageMistake(f"--other-below {different:g} is above --same-from {same:g}; what lies between them is unsure")
        return same, different


def reference_photos(path: Path) -> list[Path]:
    """Return the photos of one person: the file, or all photos in the folder. :raises UsageMistake: if there is none."""
    if path.is_dir():
        photos = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in FORMAT_OF)
        if not photos:
            raise UsageMistake(f"folder {path} holds no photo of the person to recognise")
        return photos
    if not path.is_file():
        raise UsageMistake(f"there is no photo {path} of the person to recognise")
    return [path]


def know(
    mode: Literal["keep", "only"],
    people: Sequence[Path],
    embedder: str,
    limits: Limits,
    recogniser: Recogniser,
) -> People:
    """Return the people in reference photos: each path is one person, a photo or a folder of photos.

    :raises UsageMistake: if a photo does not show exactly one face, seen well enough, or those of a folder seem to show several
        people; or as :meth:`Limits.of`
    """
    same, different = limits.of(embedder, recogniser.embedder)
    vectors, photos = [], []
    for path in people:
        files = reference_photos(path)
        seen = np.stack([_reference(file, recogniser) for file in files])
        _check_one_person(path, files, seen, OF_ONE * same)
        vectors.append(_unit(seen.sum(axis=0)))
        photos.append(tuple(sorted(sha256_of(file) for file in files)))
    return People(mode, embedder, same, different, tuple(photos), np.asarray(vectors, np.float32))


def _unit(vector: Floats) -> Floats:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _check_one_person(folder: Path, files: Sequence[Path], vectors: Floats, least: float) -> None:
    """:raises UsageMistake: if a photo is less like the others than ``least``: what several people have in common is nobody"""
    if len(files) < 2:
        return
    likeness = [float(vector @ _unit(vectors.sum(axis=0) - vector)) for vector in vectors]
    worst = int(np.argmin(likeness))
    if likeness[worst] < least:
        raise UsageMistake(
            f"reference photo {files[worst]} is not like the others in {folder}, which is for photos of one person; "
            "name other people, or that photo, by an option of their own"
        )


def _reference(path: Path, recogniser: Recogniser) -> Floats:
    try:
        image = read_photo(read_regular(path)).frames[0].rgb()
    except OSError as error:
        raise UsageMistake(f"reference photo {path}: {error.strerror}") from None
    except FaceblurError as error:
        raise UsageMistake(f"reference photo {path}: {error.message}") from None
    found = recogniser.finder(image)
    if len(found) != 1:
        raise UsageMistake(f"reference photo {path} shows {len(found)} faces; it must show the person's face and no other")
    if found.landmarks is None:
        raise UsageMistake(f"faces are recognised by landmarks, and only detector {FINDER} finds them: install faceblur-opencv")
    [vector] = recogniser.vectors(image, found)
    if vector is None:
        raise UsageMistake(f"the face in reference photo {path} is too small, too blurred or turned away to be recognised by")
    return vector


@dataclass(frozen=True)
class Who:
    """Says which faces may stay open. One is for one thread."""

    people: People
    recogniser: Recogniser

    def verdicts(self, image: Image, found: Detections) -> Verdicts:
        """Return OPEN, UNSURE or HIDE for each face of a picture."""
        return np.array([self.people.verdict(vector) for vector in self.recogniser.vectors(image, found)], np.int8)


@dataclass
class HiddenFaces:
    """A detector that passes over the faces which stay open in a picture by itself."""

    detector: Detector
    who: Who
    mask: MaskShape
    opened: Detections = field(default_factory=Detections.none)  #: those of the last picture

    def __call__(self, image: Image) -> Detections:
        found = self.detector(image)
        opened = self.who.verdicts(image, found) == OPEN
        self.opened, hidden = found.select(opened), found.select(~opened)
        if found.mask is None:
            return hidden
        return dataclasses.replace(hidden, mask=without(found.mask, self.opened.boxes, hidden.boxes, self.mask))


def without(mask: Mask, opened: Floats, hidden: Floats, shape: MaskShape) -> Mask:
    """Return a pixel mask without what belongs to opened faces: their boxes, grown, but for the shapes of hidden ones."""
    if not len(opened):
        return mask
    size = mask.shape[:2]
    theirs = dataclasses.replace(shape, shape="rectangle")(Detections(opened, np.ones(len(opened), np.float32)), *size) > 0
    others = shape(Detections(hidden, np.ones(len(hidden), np.float32)), *size) > 0
    return np.where(theirs & ~others, np.float32(0), mask)


class Sightings:
    """Decides for every picture of a video which tracks stay open in it.

    A track stays open in a picture if it was surely seen to be one to leave open in three of the pictures around, at most
    five away, and surely the contrary in none of them; and if, beyond that, the picture

    - is one of those in which it was surely seen, or
    - lies between two of them, and no other face was close by from the one to the other: where people cross, their tracks
      may change places.

    :meth:`see` comes before the tracker gives a picture back, :meth:`opened` when it does; both in the order of the video.
    """

    def __init__(self) -> None:
        self._verdicts: dict[int, dict[int, int]] = {}  #: by track, by picture
        self._close_by: dict[int, set[int]] = {}  #: by picture, the tracks that could be taken for others
        self._seen = 0  #: pictures
        self._given = 0

    def see(self, tracks: NDArray[np.intp], boxes: Floats, verdicts: Verdicts) -> None:
        """Take the verdicts on the faces found in the next picture, with the tracks to which they belong."""
        for track, verdict in zip(tracks.tolist(), verdicts.tolist(), strict=True):
            self._verdicts.setdefault(track, {})[self._seen] = verdict
        self._note(self._seen, tracks, boxes)
        self._seen += 1

    def opened(self, tracked: Tracked) -> NDArray[np.bool_]:
        """Return which faces of the next picture that the tracker gives back stay open."""
        picture = self._given
        self._given += 1
        self._note(picture, tracked.tracks, tracked.detections.boxes)
        opened = np.array([self._is_open(track, picture) for track in tracked.tracks.tolist()], np.bool_)
        self._forget(picture - NEAR)
        return opened

    def _note(self, picture: int, tracks: NDArray[np.intp], boxes: Floats) -> None:
        """Remember which faces have another one close by."""
        larger = Detections(boxes, np.ones(len(boxes), np.float32)).reframed(0, 0, CLOSE_BY, CLOSE_BY).boxes
        meets = box_iou(larger, larger) > 0
        np.fill_diagonal(meets, val=False)
        self._close_by.setdefault(picture, set()).update(tracks[meets.any(axis=1)].tolist())

    def _is_open(self, track: int, picture: int) -> bool:
        mine = self._verdicts.get(track, {})
        around = {other: mine[other] for other in range(picture - NEAR, picture + NEAR + 1) if other in mine}
        sure = [other for other, verdict in around.items() if verdict == OPEN]
        if HIDE in around.values() or len(sure) < SIGHTINGS:
            return False
        if picture in sure:
            return True
        before, after = [other for other in sure if other < picture], [other for other in sure if other > picture]
        if not before or not after:
            return False
        between = range(before[-1], after[0] + 1)
        return not any(track in self._close_by.get(other, ()) for other in between)

    def _forget(self, picture: int) -> None:
        self._close_by.pop(picture - 1, None)
        for track, mine in list(self._verdicts.items()):
            mine.pop(picture - 1, None)
            if not mine:
                del self._verdicts[track]
