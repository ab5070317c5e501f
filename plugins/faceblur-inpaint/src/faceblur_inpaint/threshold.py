"""From a probability map to the regions of faces: where to cut, and what of it counts.

Maps are h x w float32 in 0..1, the part of the network's square that shows the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faceblur_core.types import Floats

Rule = Literal["floored", "fixed", "histogram", "otsu"]
HISTOGRAM_SHARE = 0.6  #: of the output's range, from its least value on


@dataclass(frozen=True, slots=True)
class Region:
    """One connected part of a thresholded map, its holes filled."""

    top: int
    left: int
    filled: NDArray[np.uint8]  #: h x w, 1 inside; its bounding box's size
    score: float  #: mean probability of what is above the threshold, 0..1


def cut_level(probability: Floats, rule: Rule, *, threshold: float, floor: float) -> float:
    """Return the probability above which a pixel is marked.

    ``fixed``: ``threshold``. ``histogram``: the least value + 0.6 x the range, whatever the values are, so that something is
    marked in every picture that is not flat. ``otsu``: what parts the values into two groups best (Otsu, IEEE Trans. SMC
    1979). ``floored``: that, but not below ``floor`` nor above ``threshold``: without a face all values are low, and Otsu's
    level alone would part noise from noise.
    """
    if rule == "fixed":
        return threshold
    if rule == "histogram":
        low, high = float(probability.min()), float(probability.max())
        return low + HISTOGRAM_SHARE * (high - low)
    level = otsu_level(probability)
    return level if rule == "otsu" else min(max(level, floor), max(threshold, floor))


def otsu_level(probability: Floats) -> float:
    """Return Otsu's threshold of the values in 256 steps of 0..1: between the last step below and the first above."""
    import cv2

    values = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    last = cv2.threshold(values, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    return (float(last) + 0.5) / 255


def regions(probability: Floats, level: float, *, least: float, sure: float) -> Iterator[Region]:
    """Yield the connected regions above ``level``, holes filled.

    :param least: regions of fewer pixels, holes included, are dropped
    :param sure: regions that nowhere reach this probability are dropped
    """
    import cv2

    marked = (probability > level).astype(np.uint8)
    outlines, _ = cv2.findContours(marked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        left, top, width, height = cv2.boundingRect(outline)
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
        if int(filled.sum()) < least:
            continue
        box = slice(top, top + height), slice(left, left + width)
        values = probability[box][(filled & marked[box]) > 0]
        if float(values.max()) >= sure:
            yield Region(top, left, filled, float(values.mean()))
