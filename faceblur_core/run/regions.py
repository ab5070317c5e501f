"""Where and when faces of a video are hidden: a small YAML file.

::

    only:                       # hide faces here and nowhere else; without this list: everywhere
      - {box: [0, 0, 640, 720]}
    keep:                       # leave faces open that lie in here whole
      - {box: [700, 100, 900, 400], from: 12.5, to: 1:03}
    always:                     # hide all of this, whether there is a face or not
      - {box: [0, 600, 200, 720], from: 0, to: 10}

Boxes are x1 y1 x2 y2 in pixels of the upright picture; without a box an area is the whole picture. ``from`` and ``to`` are
seconds or m:ss from the first picture; without them an area counts from the beginning and to the end. A face that is in an
area in part only is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import UsageMistake
from faceblur_core.options import read_yaml
from faceblur_core.types import Floats, Mask

KINDS = ("only", "keep", "always")
EVERYWHERE = (-math.inf, -math.inf, math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the picture for a while."""

    box: tuple[float, float, float, float] = EVERYWHERE  #: x1 y1 x2 y2, pixels
    start: float = 0.0  #: seconds from the first picture
    end: float = math.inf  #: the first moment after it

    def holds(self, time: float) -> bool:
        return self.start <= time < self.end

    def meets(self, boxes: Floats) -> NDArray[np.bool_]:
        """Return which of N x 4 boxes reach into the area."""
        x1, y1, x2, y2 = self.box
        return np.asarray((boxes[:, 0] < x2) & (boxes[:, 2] > x1) & (boxes[:, 1] < y2) & (boxes[:, 3] > y1))

    def contains(self, boxes: Floats) -> NDArray[np.bool_]:
        """Return which of N x 4 boxes lie in the area whole."""
        x1, y1, x2, y2 = self.box
        return np.asarray((boxes[:, 0] >= x1) & (boxes[:, 2] <= x2) & (boxes[:, 1] >= y1) & (boxes[:, 3] <= y2))

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Return the rows and columns of the area in a picture of that size."""
        left, top, right, bottom = self.box
        rows = slice(int(np.clip(np.floor(top), 0, height)), int(np.clip(np.ceil(bottom), 0, height)))
        return rows, slice(int(np.clip(np.floor(left), 0, width)), int(np.clip(np.ceil(right), 0, width)))


@dataclass(frozen=True, slots=True)
class Regions:
    """The lists of a file."""

    only: tuple[Area, ...] | None = None
    keep: tuple[Area, ...] = ()
    always: tuple[Area, ...] = ()

    def hidden(self, boxes: Floats, time: float) -> NDArray[np.bool_]:
        """Return which of N x 4 faces are hidden at a time, seconds."""
        hidden = np.ones(len(boxes), np.bool_)
        if self.only is not None:
            hidden = _any([area.meets(boxes) for area in self.only if area.holds(time)], len(boxes))
        return hidden & ~_any([area.contains(boxes) for area in self.keep if area.holds(time)], len(boxes))

    def limit(self, mask: Mask, time: float) -> Mask:
        """Return a pixel mask without what is outside ``only`` and inside ``keep``."""
        limited = mask.copy() if self.only is None else np.zeros_like(mask)
        for area in self.only or ():
            if area.holds(time):
                window = area.window(*mask.shape)
                limited[window] = mask[window]
        for area in self.keep:
            if area.holds(time):
                limited[area.window(*mask.shape)] = 0
        return limited

    def cover(self, mask: Mask, time: float) -> bool:
        """Mark in a mask what is always hidden; return whether anything is."""
        areas = [area for area in self.always if area.holds(time)]
        for area in areas:
            mask[area.window(*mask.shape)] = 1
        return bool(areas)


def _any(parts: Sequence[NDArray[np.bool_]], count: int) -> NDArray[np.bool_]:
    return np.logical_or.reduce(parts) if parts else np.zeros(count, np.bool_)


def read_regions(path: Path) -> Regions:
    """Read a file of regions. :raises UsageMistake: if it cannot be read or says something else; names the entry."""
    content = read_yaml(path, "regions file")
    if unknown := sorted(map(str, set(content) - set(KINDS))):
        raise UsageMistake(f"regions file {path}: unknown key {unknown[0]!r}; it takes {', '.join(KINDS)}")
    lists = {kind: _areas(content[kind], f"regions file {path}: {kind}") for kind in KINDS if kind in content}
    return Regions(**lists)


def _areas(entries: Any, where: str) -> tuple[Area, ...]:
    if not isinstance(entries, list):
        raise UsageMistake(f"{where} must be a list of areas, such as '- {{box: [0, 0, 640, 360], from: 1.5, to: 1:30}}'")
    return tuple(_area(entry, f"{where}, entry {number}") for number, entry in enumerate(entries, start=1))


def _area(entry: Any, where: str) -> Area:
    if not isinstance(entry, Mapping) or not set(entry) <= {"box", "from", "to"}:
        raise UsageMistake(f"{where}: an area has box, from and to")
    box = entry.get("box", EVERYWHERE)
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(_is_number(side) for side in box):
        raise UsageMistake(f"{where}: box must be [x1, y1, x2, y2] in pixels")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise UsageMistake(f"{where}: box {list(box)} is empty; it is x1, y1, x2, y2 with x1 < x2 and y1 < y2")
    start, end = _seconds(entry.get("from", 0.0), where), _seconds(entry.get("to", math.inf), where)
    if end <= start:
        raise UsageMistake(f"{where}: 'to' must be later than 'from'")
    x1, y1, x2, y2 = (float(side) for side in box)
    return Area((x1, y1, x2, y2), start, end)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _seconds(value: Any, where: str) -> float:
    """Return seconds from a number or h:mm:ss. YAML reads an unquoted 1:30 as 90 by itself."""
    if _is_number(value) and value >= 0:
        return float(value)
    try:
        parts = [float(part) for part in str(value).split(":")]
    except ValueError:
        parts = []
    if not parts or len(parts) > 3 or isinstance(value, bool) or any(not 0 <= part < math.inf for part in parts):
        raise UsageMistake(f"{where}: {value!r} is no time; write seconds, or m:ss")
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return seconds
