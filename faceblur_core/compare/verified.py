"""What ``faceblur verify`` finds in one picture or video, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    degree: float | None = None  #: of blur, 0..1, where there are no originals
    protected: bool = False  #: it is blurred enough


@dataclass
class Verified:
    """One output beside its original, or alone."""

    name: str  #: of the output, else of the original, relative to its folder
    output: Path | None
    original: Path | None
    faults: list[str] = field(default_factory=list)  #: no counterpart, cannot be read, another size
    faces: int = 0  #: in the original
    still_found: list[StillFound] = field(default_factory=list)
    not_hidden: list[FoundFace] = field(default_factory=list)  #: of the original, where the output is as it was

    def problems(self) -> Iterator[str]:
        """Yield a line for each: for a face of a video one for all pictures in which it is followed."""
        yield from self.faults
        for course in _courses(self._told()):
            yield str(course)

    def _told(self) -> Iterator[_Course]:
        open_: dict[int, list[FoundFace]] = {}
        for face in self.not_hidden:
            open_.setdefault(face.frame, []).append(face)
        for still in self.still_found:
            if still.protected:
                continue
            if still.degree is not None:
                yield _Course([still.face], "is found: not protected", still.degree)
                continue
            there = open_.get(still.face.frame, [])
            others = [face for face in there if not face.same(still.face)]
            nothing = ": nothing was hidden there" if len(others) < len(there) else ""
            open_[still.face.frame] = others
            yield _Course([still.face], f"is {'still ' if still.in_original else ''}found{nothing}")
        for face in (face for faces in open_.values() for face in faces):
            yield _Course([face], "of the original: nothing was hidden there")


@dataclass
class _Course:
    """One face, in one picture or in several of a video, of which the same is told."""

    faces: list[FoundFace]
    what: str
    degree: float | None = None  #: of blur, the least

    def goes_on(self, other: _Course) -> bool:
        """Return whether ``other``, of one picture, is of the same face in a later one."""
        last, face = self.faces[-1], other.faces[0]
        if last.time is None or face.time is None or self.what != other.what:
            return False
        return last.frame < face.frame and last.overlap(face) >= MOVED

    def __str__(self) -> str:
        first, last = self.faces[0], self.faces[-1]
        when = f" in frame {first.frame}" if first.frame else ""
        if first.time is not None and last.time is not None:
            when = f" at {first.time:.2f} s"
            if last is not first:
                when = f" in {len(self.faces)} pictures from {first.time:.2f} s to {last.time:.2f} s"
        return f"{first}{when} {self.what}" + ("" if self.degree is None else f", degree of blur {self.degree:.2f}")


def _courses(told: Iterator[_Course]) -> list[_Course]:
    """Join what is told of one face in picture after picture of a video."""
    courses: list[_Course] = []
    recent: list[_Course] = []
    for one in sorted(told, key=lambda course: course.faces[0].frame):
        now = one.faces[0].time
        recent = [course for course in recent if now is not None and now - (course.faces[-1].time or 0.0) <= PAUSE]
        before = next((course for course in recent if course.goes_on(one)), None)
        if before is None:
            courses.append(one)
            recent.append(one)
            continue
        before.faces += one.faces
        if before.degree is not None and one.degree is not None:
            before.degree = min(before.degree, one.degree)
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
    return {"degree": round(still.degree, 4), "protected": still.protected}


def _face_json(face: FoundFace) -> dict[str, object]:
    scores = {judge: round(score, 4) for judge, score in face.scores.items()}
    time = {} if face.time is None else {"time": round(face.time, 3)}
    return {"frame": face.frame, **time, "box": [round(side, 1) for side in face.box], "scores": scores}
