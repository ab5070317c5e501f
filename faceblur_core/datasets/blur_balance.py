"""Labels spread evenly over their range: which pictures to take, and a plot of the distribution before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Values = NDArray[np.float64]


def bin_of(degrees: Values, bins: int) -> NDArray[np.intp]:
    """Return which of that many equal parts of 0..1 each value lies in; 1 is in the last."""
    return np.minimum((degrees * bins).astype(np.intp), bins - 1)


def level(available: Sequence[int], count: int) -> list[int]:
    """Return how many to take of each bin: as equal as what is available allows, ``count`` together or all there are."""
    taken = [0] * len(available)
    left = min(count, sum(available))
    while left:
        open_ = [index for index, most in enumerate(available) if taken[index] < most]
        each = max(1, left // len(open_))
        for index in open_[:left]:
            more = min(each, available[index] - taken[index], left)
            taken[index] += more
            left -= more
    return taken


def evenly(degrees: Values, count: int, bins: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the indices of ``count`` values in 0..1, rising: of each bin as many as of the others, if it has them, drawn."""
    where = bin_of(degrees, bins)
    members = [rng.permutation(np.flatnonzero(where == index)) for index in range(bins)]
    taken = level([len(one) for one in members], count)
    return np.sort(np.concatenate([one[:number] for one, number in zip(members, taken, strict=True)]).astype(np.intp))


def distribution(before: Mapping[str, Values], after: Mapping[str, Values], bins: int) -> Figure:
    """Return a figure of two histograms of degrees, each stacked by the name of the blur."""
    from matplotlib.figure import Figure  # without pyplot: no display, nothing global

    figure = Figure(figsize=(10, 4), layout="constrained")
    edges = np.linspace(0, 1, bins + 1)
    for axes, values, title in zip(figure.subplots(1, 2), (before, after), ("before sampling", "after"), strict=True):
        axes.hist(list(values.values()), bins=edges, stacked=True, label=list(values))
        axes.set(
            xlabel="degree of blur, 1 - cosine", ylabel="faces", title=f"{title}: {sum(map(len, values.values()))}", xlim=(0, 1)
        )
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    return figure
