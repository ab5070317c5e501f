"""Metrics of clips: what a face is like in one picture is compared with the pictures before and after."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from faceblur_core.builtin.metrics import Coverage, Values
from faceblur_core.tracking import gaps
from faceblur_core.types import Anonymized, Ellipse, Mask, Observation, Sample

HIDDEN = 0.5  #: coverage from which a face is hidden; below it, it is missed
AROUND = 2.0  #: what is hidden within the box of a face's ellipse, grown by this, is hidden for this face


@dataclass(frozen=True, slots=True)
class Timed:
    """Values of true faces in pictures; parallel arrays."""

    image: NDArray[np.intp]  #: the picture of each value
    values: Values


class _OverTime(ABC):
    """What metrics of clips share: they observe the faces of each picture, and join those of one track.

    An observation has ``clip`` and ``faces``, N rows: picture, track, and what the metric needs to know.
    """

    clips: ClassVar[bool] = True
    per: ClassVar[Literal["set"]] = "set"
    higher_is_better: ClassVar[bool] = False
    columns: ClassVar[int]  #: of what the metric needs to know of a face

    @abstractmethod
    def describe(self, sample: Sample, result: Anonymized) -> list[list[float]]:
        """Return what the metric needs to know of each face of a picture."""

    @abstractmethod
    def over_time(self, frames: NDArray[np.intp], known: Values) -> Values:
        """Return the values of one face.

        :param frames: the pictures that show it, rising; there may be some between them that do not
        :param known: what :meth:`describe` said of it in each of them
        :return: one value for each of them; nan: not defined
        """

    def observe(self, sample: Sample, result: Anonymized) -> Observation:
        """Return the faces of one picture; nothing of a photo."""
        if not sample.clip:
            return {}
        rows = [[sample.frame, track, *known] for track, known in zip(sample.tracks, self.describe(sample, result), strict=True)]
        return {"clip": np.array(sample.clip), "faces": np.array(rows, np.float64).reshape(-1, 2 + self.columns)}

    def prepare(self, observations: Sequence[Observation], training: Sequence[Observation]) -> Timed | None:
        """Return the values of all faces that have one; None if no clip was observed."""
        if not any(observations):
            return None
        parts = [Timed(np.zeros(0, np.intp), np.zeros(0)), *(self._track(faces) for faces in _tracks(observations))]
        image, values = np.concatenate([part.image for part in parts]), np.concatenate([part.values for part in parts])
        known = ~np.isnan(values)
        return Timed(image[known], values[known])

    def _track(self, faces: Values) -> Timed:
        return Timed(faces[:, 0].astype(np.intp), self.over_time(faces[:, 1].astype(np.intp), faces[:, 3:]))

    def figures(self, prepared: Timed | None, weights: Values) -> Mapping[str, float]:
        """Return ``mean``, over all faces in all pictures; nan without one."""
        each = np.zeros(0) if prepared is None else weights[prepared.image]
        return {"mean": float(each @ prepared.values / each.sum()) if prepared is not None and each.sum() else math.nan}


def _tracks(observations: Sequence[Observation]) -> Iterator[Values]:
    """Yield the observed faces of each track of each clip, by picture: number of the observation, then its row."""
    found: dict[tuple[str, int], list[Values]] = {}
    for index, seen in enumerate(observations):
        for row in seen["faces"] if seen else ():
            found.setdefault((str(seen["clip"]), int(row[1])), []).append(np.array([index, *row]))
    for rows in found.values():
        yield np.array(sorted(rows, key=lambda row: float(row[1])))


@dataclass(frozen=True)
class GapFrames(_OverTime):
    """Whether a face is open in a picture (coverage below 0.5) and hidden in an earlier and in a later one."""

    group: ClassVar[str] = "privacy"
    unit: ClassVar[str] = "share of faces in pictures"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    citation: ClassVar[str] = "defined here"
    columns: ClassVar[int] = 1

    def describe(self, sample: Sample, result: Anonymized) -> list[list[float]]:
        """Return each face's coverage."""
        return [[float(share)] for share in Coverage()(sample, result)]

    def over_time(self, frames: NDArray[np.intp], known: Values) -> Values:
        """Return 1 where it is in a gap, else 0; nan where its ellipse holds no pixel of the image."""
        return np.where(np.isnan(known[:, 0]), np.nan, gaps(known[:, 0] >= HIDDEN).astype(np.float64))


@dataclass(frozen=True)
class Jitter(_OverTime):
    """How far the sides of what is hidden stray, against the face's own, from the middle of their neighbours in time."""

    group: ClassVar[str] = "utility"
    unit: ClassVar[str] = "of the face's size"
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    citation: ClassVar[str] = "defined here"
    columns: ClassVar[int] = 5

    def describe(self, sample: Sample, result: Anonymized) -> list[list[float]]:
        """Return how far each side of what is hidden lies from the face's, pixels, and the face's size; nan: not defined."""
        around = [_around(face) for face in (*sample.faces, *sample.ignored)]
        shares = Coverage()(sample, result)
        rows = []
        for index, (face, share) in enumerate(zip(sample.faces, shares, strict=True)):
            alone = not any(_meet(around[index], other) for other in around[:index] + around[index + 1 :])
            rows.append(_offsets(face, result.mask) if alone and share >= HIDDEN else [math.nan] * self.columns)
        return rows

    def over_time(self, frames: NDArray[np.intp], known: Values) -> Values:
        """Return one value for each picture between two that show the face, too."""
        values = np.full(len(frames), np.nan)
        if len(frames) > 2:
            middle = known[1:-1, :4] - (known[:-2, :4] + known[2:, :4]) / 2
            adjoining = frames[2:] - frames[:-2] == 2
            values[1:-1] = np.where(adjoining, np.abs(middle).mean(axis=1) / known[1:-1, 4], np.nan)
        return values


Box = tuple[float, float, float, float]  #: x1 y1 x2 y2, pixels


def _around(face: Ellipse) -> Box:
    """Return a face's box grown by AROUND."""
    dx, dy = (AROUND * half for half in face.half_extent())
    return face.cx - dx, face.cy - dy, face.cx + dx, face.cy + dy


def _meet(one: Box, other: Box) -> bool:
    return max(one[0], other[0]) < min(one[2], other[2]) and max(one[1], other[1]) < min(one[3], other[3])


def _offsets(face: Ellipse, mask: Mask) -> list[float]:
    """Return how far the sides of what is hidden around a face lie from the face's own, and the face's size, pixels."""
    height, width = mask.shape
    x1, y1, x2, y2 = _around(face)
    near = np.zeros(mask.shape, np.bool_)
    rows = slice(max(0, math.floor(y1)), min(height, math.ceil(y2)))
    columns = slice(max(0, math.floor(x1)), min(width, math.ceil(x2)))
    near[rows, columns] = mask[rows, columns] >= 0.5
    true, hidden = _sides(face.inside(height, width)), _sides(near)
    return [*(hidden - true), math.sqrt((true[2] - true[0]) * (true[3] - true[1]))]


def _sides(marked: NDArray[np.bool_]) -> Values:
    """Return x1 y1 x2 y2 of the marked pixels, of which there is one at least."""
    columns, rows = np.flatnonzero(marked.any(axis=0)), np.flatnonzero(marked.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
