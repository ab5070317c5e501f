"""From the faces of single pictures to faces in time: no gaps, no flicker.

A tracker is given what a detector found, picture by picture, and gives it back ``look_ahead`` pictures later: linked to
tracks, gaps filled from both sides, positions smoothed, sizes that never shrink fast. It looks at boxes only, so it works
with every detector, and holds no picture.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from faceblur_core.types import Detections, Floats, option

Doubles = NDArray[np.float64]

REACH = 3.0  #: standard deviations of the smoothing that are computed
RISE = 8  #: pictures before a face gets larger at which its box begins to
SWAY = 5  #: pictures over which a velocity is measured
DAMPED = 8  #: pictures after which a face that is not seen is no longer taken to move on
UNSURE = 0.03  #: growth of a filled box per picture to the nearest one in which the face was seen
UNSURE_LIMIT = 10  #: pictures for which it grows
NEAR, FARTHER = 0.9, 0.15  #: face sizes that a face can be from where it is expected: in the next picture; more per picture
LARGER = 2.0  #: a face of more than this times the size is another
FORBIDDEN = 1e6


@dataclass(frozen=True)
class Tracking:
    """How faces are followed from picture to picture."""

    look_ahead: Annotated[int, Ge(0), Le(600)] = option(24, "pictures held back; gaps up to this length are filled")
    hold: Annotated[int, Ge(0), Le(600)] = option(
        3, "pictures for which a face is hidden before it is first found and after the last"
    )
    smooth: Annotated[float, Ge(0), Le(20)] = option(1.5, "standard deviation over which positions are averaged, pictures")
    shrink: Annotated[float, Gt(0), Lt(1)] = option(0.04, "share by which a box may shrink from one picture to the next")


@dataclass(frozen=True, slots=True)
class Tracked:
    """The faces of one picture, after tracking; parallel arrays."""

    detections: Detections  #: boxes smoothed and gaps filled, without landmarks; the detector's pixel mask, if it gave one
    tracks: NDArray[np.intp]  #: the number of each face's track, from 0 in the order of appearance
    seen: NDArray[np.bool_]  #: whether the detector found it in this very picture


@dataclass(slots=True)
class Steadiness:
    """How much tracking changed: sums over a video."""

    faces: int = 0  #: faces hidden, counted once per picture
    gaps: int = 0  #: of them, those between two pictures in which the detector found them, but not in theirs
    tracks: int = 0
    _before: list[float] = field(default_factory=lambda: [0.0, 0.0])  #: sum and number of the detector's jerks
    _after: list[float] = field(default_factory=lambda: [0.0, 0.0])

    @property
    def gaps_per_1000(self) -> float:
        """Filled gaps per 1,000 faces hidden: what would be open without tracking."""
        return 1000 * self.gaps / self.faces if self.faces else 0.0

    @property
    def jitter(self) -> tuple[float, float]:
        """Mean jerk of a box from picture to picture, as a share of its size: as detected, as hidden."""
        return self._before[0] / max(1, self._before[1]), self._after[0] / max(1, self._after[1])


def jerk(before: Doubles, here: Doubles, after: Doubles) -> float:
    """Return how far a box (x1 y1 x2 y2) lies from the middle of its neighbours in time: mean of its sides, in box sizes."""
    size = math.sqrt(max(1e-9, float((here[2] - here[0]) * (here[3] - here[1]))))
    return float(np.abs(here - (before + after) / 2).mean()) / size


def gaps(hidden: Sequence[bool] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pictures leave a face open between the first and the last in which it is hidden."""
    closed = np.asarray(hidden, np.bool_)
    return ~closed & np.logical_or.accumulate(closed) & np.logical_or.accumulate(closed[::-1])[::-1]


class _Track:
    """One face: where it was seen, and what was hidden of it."""

    def __init__(self, number: int, frame: int, box: Doubles, score: float) -> None:
        self.number = number
        self.first = frame
        self.frames: list[int] = [frame]
        self.boxes: list[Doubles] = [_centred(box)]
        self.scores: list[float] = [score]
        self.hidden: deque[Doubles] = deque(maxlen=2)  #: the last boxes given out, x1 y1 x2 y2
        self.half: Doubles | None = None  #: half width and height given out last

    @property
    def last(self) -> int:
        return self.frames[-1]

    def see(self, frame: int, box: Doubles, score: float) -> None:
        self.frames.append(frame)
        self.boxes.append(_centred(box))
        self.scores.append(score)

    def forget(self, frame: int) -> None:
        """Drop what is older than any picture that is still asked for, but for what a velocity needs."""
        while len(self.frames) > SWAY and self.frames[1] < frame:
            del self.frames[0], self.boxes[0], self.scores[0]

    def path(self, frames: NDArray[np.intp]) -> Doubles:
        """Return N x 4 (centre x, y, width, height): between sightings straight lines, beyond them damped motion."""
        known, boxes = np.array(self.frames), np.array(self.boxes)
        path = np.stack([np.interp(frames, known, boxes[:, side]) for side in range(4)], axis=1)
        for ends, sign in ((slice(None, SWAY), -1), (slice(-SWAY, None), 1)):
            end = known[0] if sign < 0 else known[-1]
            beyond = np.minimum(np.maximum(sign * (frames - end), 0), DAMPED)
            path[:, :2] += sign * beyond[:, None] * _velocity(known[ends], boxes[ends])
        away = np.abs(frames[:, None] - known[None, :]).min(axis=1)
        path[:, 2:] *= 1 + UNSURE * np.minimum(away, UNSURE_LIMIT)[:, None]
        return path

    def expected(self, frame: int) -> tuple[Doubles, Doubles]:
        """Return where the face is at a later frame if it moves on, and if it stays: centre x, y, width, height."""
        known, boxes = np.array(self.frames[-SWAY:]), np.array(self.boxes[-SWAY:])
        moved = boxes[-1].copy()
        moved[:2] += min(frame - self.last, DAMPED) * _velocity(known, boxes)
        return moved, boxes[-1]


def _velocity(frames: NDArray[np.intp], boxes: Doubles) -> Doubles:
    """Return the motion of the centre, pixels per frame, by least squares; 0 for a face seen once."""
    if len(frames) < 2:
        return np.zeros(2)
    time = frames - frames.mean()
    return np.asarray(time @ (boxes[:, :2] - boxes[:, :2].mean(axis=0)) / (time @ time))


def _centred(box: Doubles) -> Doubles:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]])


class Tracker:
    """Follows faces through one video.

    Call :meth:`push` for every picture in order and :meth:`flush` at the end; each picture comes back once, in order.
    """

    def __init__(self, tracking: Tracking) -> None:
        self.options = tracking
        self.steadiness = Steadiness()
        self.linked: NDArray[np.intp] = np.empty(0, np.intp)  #: the tracks of the faces of the last picture that was pushed
        self._tracks: list[_Track] = []
        self._waiting: deque[Detections] = deque()
        self._pushed = 0  #: pictures so far
        self._given = 0  #: of them, those given back
        radius = math.ceil(REACH * tracking.smooth)
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (offsets / max(tracking.smooth, 0.05)) ** 2)
        self._radius, self._weights = radius, weights / weights.sum()
        self._rise = np.arange(-RISE, RISE + 1)

    def push(self, found: Detections) -> Iterator[Tracked]:
        """Take the faces of the next picture; yield the picture whose turn it is, if there is one."""
        self._link(self._pushed, found)
        self._waiting.append(found)
        self._pushed += 1
        if len(self._waiting) > self.options.look_ahead:
            yield self._next()

    def flush(self) -> Iterator[Tracked]:
        """Yield the pictures that are left."""
        while self._waiting:
            yield self._next()

    @property
    def _patience(self) -> int:
        """For how many pictures a face may be gone and still be the same."""
        return max(self.options.look_ahead, self.options.hold)

    def _link(self, frame: int, found: Detections) -> None:
        """Add each face to the track that it continues, or begin one."""
        tracks = [track for track in self._tracks if frame - track.last <= self._patience + 1]
        boxes = found.boxes.astype(np.float64)
        pairs = dict(_pairs(frame, tracks, boxes))
        self.linked = np.empty(len(boxes), np.intp)
        for index, (box, score) in enumerate(zip(boxes, found.scores, strict=True)):
            track = pairs.get(index)
            self.linked[index] = self.steadiness.tracks if track is None else track.number
            if track is None:
                self._tracks.append(_Track(self.steadiness.tracks, frame, box, float(score)))
                self.steadiness.tracks += 1
                continue
            self.steadiness.gaps += frame - track.last - 1
            track.see(frame, box, float(score))
            if len(track.frames) > 2 and track.frames[-1] - track.frames[-3] == 2:
                _add(self.steadiness._before, [_corners(one) for one in track.boxes[-3:]])

    def _next(self) -> Tracked:
        frame, found = self._given, self._waiting.popleft()
        self._given += 1
        boxes, scores, numbers, seen = [], [], [], []
        for track in self._tracks:
            if not track.first - self.options.hold <= frame <= track.last + self.options.hold:
                continue
            boxes.append(self._box(track, frame))
            nearest = min(range(len(track.frames)), key=lambda i: abs(track.frames[i] - frame))
            scores.append(track.scores[nearest])
            numbers.append(track.number)
            seen.append(frame in track.frames)
        self.steadiness.faces += len(boxes)
        oldest = frame - RISE - self._radius
        for track in self._tracks:
            track.forget(oldest)
        self._tracks = [track for track in self._tracks if not self._is_over(track, frame)]
        detections = Detections(np.reshape(boxes, (-1, 4)), np.array(scores), mask=found.mask)
        return Tracked(detections, np.array(numbers, np.intp), np.array(seen, np.bool_))

    def _is_over(self, track: _Track, frame: int) -> bool:
        return frame > track.last + self.options.hold and self._pushed - track.last > self._patience + 1

    def _box(self, track: _Track, frame: int) -> Floats:
        """Return the smoothed box of a track, which contains the one that was found, if one was."""
        reach = RISE + self._radius
        path = track.path(np.arange(frame - reach, frame + reach + 1))
        centres = np.stack([np.convolve(path[:, side], self._weights, "valid") for side in range(2)], axis=1)
        inner = path[self._radius : len(path) - self._radius]
        halves = inner[:, 2:] / 2 + np.abs(inner[:, :2] - centres)  # what it takes about the new centre to contain the old box
        times = frame + self._rise
        there = (times >= track.first - self.options.hold) & (times <= track.last + self.options.hold)
        kept = (1 - self.options.shrink) ** np.abs(self._rise)
        half = (halves * (kept * there)[:, None]).max(axis=0)
        if track.half is not None:
            half = np.maximum(half, track.half * (1 - self.options.shrink))
        track.half = half
        centre = centres[RISE]
        box = np.concatenate([centre - half, centre + half])
        if len(track.hidden) == 2:
            _add(self.steadiness._after, [*track.hidden, box])
        track.hidden.append(box)
        return box.astype(np.float32)


def _corners(box: Doubles) -> Doubles:
    return np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])


def _add(sums: list[float], boxes: Sequence[Doubles]) -> None:
    sums[0] += jerk(*boxes)
    sums[1] += 1


def _pairs(frame: int, tracks: Sequence[_Track], boxes: Doubles) -> Iterator[tuple[int, _Track]]:
    """Yield (index of a box, the track that it continues): the assignment of the least total distance."""
    if not tracks or not len(boxes):
        return
    from scipy.optimize import linear_sum_assignment

    cost = _costs(frame, tracks, boxes)
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[row, column] < FORBIDDEN:
            yield int(column), tracks[row]


def _costs(frame: int, tracks: Sequence[_Track], boxes: Doubles) -> Doubles:
    """Return tracks x boxes: distances in face sizes, more for other sizes and long gaps; FORBIDDEN: another face."""
    moved, stayed = (np.array(rows) for rows in zip(*(track.expected(frame) for track in tracks), strict=True))
    gaps = np.array([frame - track.last for track in tracks])[:, None]
    found = np.array([_centred(box) for box in boxes])
    sides = [np.sqrt(np.maximum(rows[:, 2] * rows[:, 3], 1e-9)) for rows in (stayed, found)]
    size = (sides[0][:, None] + sides[1][None, :]) / 2
    ratio = np.abs(np.log(sides[0][:, None] / sides[1][None, :]))
    distance = np.minimum(*(np.linalg.norm(rows[:, None, :2] - found[None, :, :2], axis=2) for rows in (moved, stayed))) / size
    cost = distance + 0.5 * ratio + 0.05 * (gaps - 1)
    other = (distance > NEAR + FARTHER * (gaps - 1)) | (ratio > math.log(LARGER) + 0.03 * gaps)
    return np.asarray(np.where(other, FORBIDDEN, cost))
