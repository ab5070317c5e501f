"""Places in one block of memory for things that are needed at different times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 16  #: bytes; what every place is a multiple of

_SHARES = (10, 20, 40, 60, 85, 95)  # percentiles that divide what is placed first from the rest


@dataclass(frozen=True, slots=True)
class Need:
    """Some bytes from one time to another, both included."""

    bytes: int
    first: int
    last: int


def pack(needs: Sequence[Need]) -> tuple[list[int], int]:
    """Return a place for each need, so that none overlaps another of the same time, and the size of it all, in bytes.

    The best of several orders, each greedy: to the smallest gap that is large enough.
    """
    sizes = np.array([-(-need.bytes // ALIGNMENT) * ALIGNMENT for need in needs], np.int64)
    times = np.array([(need.first, need.last) for need in needs], np.int64)
    places, whole = min((_placed(sizes, times, order) for order in _orders(sizes, times)), key=lambda found: found[1])
    return [int(place) for place in places], whole


def _orders(sizes: NDArray[np.int64], times: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
    """Yield orders of placing: the largest first; the longest first; the long and large ones before the others, each by time."""
    first, length = times[:, 0], times[:, 1] - times[:, 0] + 1
    yield np.lexsort((first, -sizes))
    yield np.lexsort((-sizes, first, -length))
    for power in (0.4, 1.0):
        weight = length * sizes.astype(np.float64) ** power
        for share in _SHARES:
            yield np.lexsort((-sizes, first, weight <= np.percentile(weight, share)))


def _placed(sizes: NDArray[np.int64], times: NDArray[np.int64], order: NDArray[np.intp]) -> tuple[NDArray[np.int64], int]:
    places = np.zeros(len(sizes), np.int64)
    taken = np.zeros((len(sizes), 4), np.int64)  # first, last, begin, end
    for count, index in enumerate(order):
        first, last = times[index]
        size = sizes[index]
        there = taken[:count]
        there = there[(there[:, 0] <= last) & (there[:, 1] >= first)]
        there = there[np.argsort(there[:, 2])]
        ends = np.concatenate([[0], np.maximum.accumulate(there[:, 3])])
        gaps = np.append(there[:, 2] - ends[:-1], size)  # the last one is open
        fitting = np.where(gaps[:-1] >= size, gaps[:-1], np.iinfo(np.int64).max)
        best = int(np.argmin(fitting)) if len(fitting) and gaps[:-1].max() >= size else len(there)
        places[index] = ends[best]
        taken[count] = first, last, ends[best], ends[best] + size
    return places, int(taken[:, 3].max())
