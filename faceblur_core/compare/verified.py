"""What ``faceblur verify`` finds in one picture or video, and how it is told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceblur_core.types import box_iou

SAME = 0.4  #: intersection over union at which two boxes are of one face
MOVED = 0.25  #: the same, in pictures of a video that follow each other
PAUSE = 1.0  #: seconds after which what is found at the same place is told anew

Box = tuple[float, float, float, float]  #: x1 y1 x2 y2, pixels


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face that judges find."""

    frame: int  #: from 0
    box: Box  #: of the first judge that finds it
    scores: Mapping[str, float]  #: by judge
    time: float | None = None  #: of a video's picture, seconds from the first

    def overlap(self, other: FoundFace) -> float:
        """Return the intersection over union of two boxes."""
        return float(box_iou(*(np.array([face.box], np.float32) for face in (self, other)))[0, 0])

    def same(self, other: FoundFace) -> bool:
        """Return whether two boxes are of one face."""
        return self.frame == other.frame and self.overlap(other) >= SAME

    def __str__(self) -> str:
        scores = ", ".join(f"{judge} {score:.2f}" for judge, score in self.scores.items())
        return f"face at {' '.join(f'{side:.0f}' for side in self.box)} ({scores})"


@dataclass(frozen=True, slots=True)
class StillFound:
    """A face in an output."""

    face: FoundFace
    in_original: bool = False  #: it is where a face is in the original
    degree: float | None = None  #: of blur, 0..1, where there are no originals; nan: the face is too small to say
    protected: bool = False  #: it is blurred enough


@dataclass
class Verified:
    """One output beside its original, or alone."""

    name: str  #: of the output, else of the original, relative to its folder
    output: Path | None
    original: Path | None
    every: int = 1  #: of a video: every so many pictures one was looked at
    faults: list[str] = field(default_factory=list)  #: no counterpart, cannot be read, another size
    faces: int = 0  #: in the original
    still_found: list[StillFound] = field(default_factory=list)
    not_hidden: list[FoundFace] = field(default_factory=list)  #: of the original, where the output is as it was

    def problems(self) -> list[str]:
        """Return a line for each: for a face of a video one for all pictures in which it is followed."""
        return [*self.faults, *map(str, _courses(self._told(), self.every))]

    def _told(self) -> list[_Course]:
        open_: dict[int, list[FoundFace]] = {}
        for face in self.not_hidden:
            open_.setdefault(face.frame, []).append(face)
        told = []
        for still in self.still_found:
            if still.protected:
                continue
            there = [] if still.degree is not None else open_.get(still.face.frame, [])
            others = [face for face in there if not face.same(still.face)]
            if there:
                open_[still.face.frame] = others
            told.append(_Course([still.face], True, still.in_original, len(others) < len(there), still.degree))
        told += [_Course([face], unhidden=True) for faces in open_.values() for face in faces]
        return sorted(told, key=lambda course: course.faces[0].frame)


@dataclass
class _Course:
    """A face in one picture, or in several of a video in which it is followed, and the worst that is to be told of it."""

    faces: list[FoundFace]
    found: bool = False  #: in the output
    in_original: bool = False
    unhidden: bool = False  #: the output is as the original there
    degree: float | None = None  #: of blur, the least that is known; nan: none is

    def follow(self, other: _Course) -> None:
        """Go on with what another one has of a later picture."""
        self.faces += other.faces
        self.found |= other.found
        self.in_original |= other.in_original
        self.unhidden |= other.unhidden
        if self.degree is not None and other.degree is not None:
            self.degree = float(np.fmin(self.degree, other.degree))

    def reaches(self, face: FoundFace, every: int) -> bool:
        """Return whether a face of a video can be the same: it is seen soon after, or in the next picture that is looked at."""
        last = self.faces[-1]
        if last.time is None or face.time is None:
            return False
        return face.time - last.time <= PAUSE or face.frame - last.frame <= every

    def __str__(self) -> str:
        first, last = self.faces[0], self.faces[-1]
        when = f" in frame {first.frame}" if first.frame else ""
        if first.time is not None and last.time is not None:
            when = f" at {first.time:.2f} s"
            if last is not first:
                when = f" in {len(self.faces)} pictures from {first.time:.2f} s to {last.time:.2f} s"
        what = f" is {'still ' if self.in_original else ''}found" if self.found else " of the original"
        if self.degree is not None:
            unknown = math.isnan(self.degree)
            what += ": too small to be judged" if unknown else f": not protected, degree of blur {self.degree:.2f}"
        return f"{first}{when}{what}" + (": nothing was hidden there" if self.unhidden else "")


def _courses(told: list[_Course], every: int) -> list[_Course]:
    """Join what is told, sorted by picture, of one face in picture after picture of a video."""
    courses: list[_Course] = []
    recent: list[_Course] = []
    for one in told:
        face = one.faces[0]
        recent = [course for course in recent if course.reaches(face, every)]
        before = max(
            (course for course in recent if course.faces[-1].frame < face.frame),
            key=lambda course: course.faces[-1].overlap(face),
            default=None,
        )
        if before and before.faces[-1].overlap(face) >= MOVED:
            before.follow(one)
        else:
            courses.append(one)
            recent.append(one)
    return courses


def as_json(item: Verified) -> dict[str, object]:
    """Return an item for the report."""
    return {
        "name": item.name,
        "output": str(item.output) if item.output else None,
        "original": str(item.original) if item.original else None,
        "faults": item.faults,
        "faces_in_original": item.faces,
        "still_found": [{**_face_json(still.face), **_told_of(still)} for still in item.still_found],
        "not_hidden": [_face_json(face) for face in item.not_hidden],
    }


def _told_of(still: StillFound) -> dict[str, object]:
    if still.degree is None:
        return {"in_original": still.in_original}
    return {"degree": None if math.isnan(still.degree) else round(still.degree, 4), "protected": still.protected}


def _face_json(face: FoundFace) -> dict[str, object]:
    scores = {judge: round(score, 4) for judge, score in face.scores.items()}
    time = {} if face.time is None else {"time": round(face.time, 3)}
    return {"frame": face.frame, **time, "box": [round(side, 1) for side in face.box], "scores": scores}
