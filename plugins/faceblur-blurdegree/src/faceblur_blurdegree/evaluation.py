"""How good a blur-degree network is on labelled faces: errors, rank correlation, decisions, time; and plots."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from faceblur_blurdegree.data import Labelled
from faceblur_blurdegree.meter import Meter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Values = NDArray[np.float64]
ALL = "all"  #: in place of a method's name
TIMED, WARM_UP = 50, 5  #: faces, one at a time


@dataclass(frozen=True, slots=True)
class Score:
    """How good a network is on the faces blurred in one way."""

    method: str  #: or ALL
    faces: int
    mae: float  #: mean absolute error of the degree
    spearman: float  #: rank correlation with the truth; nan where all are alike
    agreement: float  #: share of faces on which "protected or not" is decided as by the truth; nan without a threshold


def ranks(values: NDArray[Any]) -> Values:
    """Return the rank of each value, from 0; the mean rank among equal ones."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[where], np.float64)


def spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return Spearman's rank correlation; nan if one of them is constant."""
    x, y = (one - one.mean() if len(one) else one for one in (ranks(a), ranks(b)))
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size else math.nan


def scores(predicted: Values, labelled: Labelled, threshold: float) -> list[Score]:
    """Return the score of all faces, then of those of each method, by name."""
    methods = np.array([row["method"] for row in labelled.rows])
    parts = {ALL: np.ones(len(methods), np.bool_)} | {name: methods == name for name in sorted(set(methods.tolist()))}
    return [_score(name, predicted[part], labelled.degrees[part].astype(np.float64), threshold) for name, part in parts.items()]


def _score(name: str, predicted: Values, degrees: Values, threshold: float) -> Score:
    known = not math.isnan(threshold)
    agreement = float(((predicted >= threshold) == (degrees >= threshold)).mean()) if known else math.nan
    return Score(name, len(degrees), float(np.abs(predicted - degrees).mean()), spearman(predicted, degrees), agreement)


def milliseconds(meter: Meter, labelled: Labelled) -> float:
    """Return the median time of one face, the network alone, with the threads that the meter has."""
    times = []
    for index in range(WARM_UP + TIMED):
        face = labelled.faces[[index % len(labelled)]]
        started = time.perf_counter()
        meter(face)
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times[WARM_UP:]))


def truth_plot(predicted: Values, labelled: Labelled, found: Sequence[Score], title: str) -> Figure:
    """Return a figure of predictions against the truth: a panel for all faces, and one for each method."""
    from matplotlib.figure import Figure  # without pyplot: no display, nothing global

    methods = np.array([row["method"] for row in labelled.rows])
    columns = min(4, len(found))
    figure = Figure(figsize=(3.2 * columns, 3.4 * -(-len(found) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(found) // columns), columns, squeeze=False).ravel()
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    for axes, one in zip(panels, found, strict=False):
        part = np.ones(len(methods), np.bool_) if one.method == ALL else methods == one.method
        axes.plot([0, 1], [0, 1], color="tab:gray", linewidth=0.8)
        axes.scatter(labelled.degrees[part], predicted[part], s=3, alpha=0.4, linewidths=0)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="1 - cosine", ylabel="told by the network", aspect="equal")
        said = f"{one.method}: n {one.faces}, MAE {one.mae:.3f}, Spearman {one.spearman:.3f}"
        axes.set_title(said, fontsize=8, parse_math=False)
    figure.suptitle(title, parse_math=False)
    return figure
