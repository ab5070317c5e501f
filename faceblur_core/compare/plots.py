"""The report's plots: methods as points with the Pareto front, cosines as histograms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from faceblur_core.pages import plot

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#9aa4ad", "#16202a"  #: of Okabe and Ito's palette, and greys
WIDTH = 5.2  #: inches; narrow, so that letters are still read on a phone
SIZE = 8.0  #: points, of letters
DETOUR = 12  #: points that a label goes farther rather than lie on a line
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "faceblur",  # the same file for the same run
    "font.size": SIZE + 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "axes.axisbelow": True,
    "xtick.minor.size": 3.5,  # as long as the others: all numbers on one line
}
BINS = np.arange(-8, 21) / 20  #: of cosines, with an edge at 0.4

Box = tuple[float, float, float, float]  #: x1 y1 x2 y2
Line = tuple[tuple[float, float], tuple[float, float]]  #: x of both ends, y of both ends


@dataclass(frozen=True, slots=True)
class Point:
    """A method in a plot; intervals as (low, high)."""

    label: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


def pareto(points: Sequence[tuple[float, float]], *, lower_x: bool = False) -> list[int]:
    """Return the points that no other beats in x or y without losing in the other, by x; equal points stay together.

    :param lower_x: a lower x is better; a higher y always is
    """
    signed = [(-x if lower_x else x, y) for x, y in points]

    def beaten(x: float, y: float) -> bool:
        return any(a >= x and b >= y and (a, b) != (x, y) for a, b in signed)

    return sorted((i for i, point in enumerate(signed) if not beaten(*point)), key=lambda i: (points[i][0], -points[i][1]))


def scatter(points: Sequence[Point], x_label: str, y_label: str, *, cost: bool = False) -> str:
    """Return the plot of methods as the value of ``src``: points on the front filled, and joined by its stairs.

    :param cost: x is logarithmic and a lower one is better; else a higher one is
    """
    front = pareto([(point.x, point.y) for point in points], lower_x=cost)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.7))
        axes = figure.add_axes((0.12, 0.14, 0.85, 0.83))
        axes.set(xlabel=x_label, ylabel=y_label, xscale="log" if cost else "linear")
        _limits(axes, points, cost=cost)
        bars = [bar for point in points for bar in _bars(point)]
        stairs = list(_stairs([(points[i].x, points[i].y) for i in front], cost=cost))
        for lines, color, order in ((bars, GREY, 1.5), (stairs, BLUE, 2.0)):
            for xs, ys in lines:
                axes.plot(xs, ys, color=color, linewidth=1, zorder=order, solid_capstyle="butt")
        for index, point in enumerate(points):
            axes.plot(point.x, point.y, "o", ms=6, mec=BLUE if index in front else INK, mfc=BLUE if index in front else "white")
        _label(figure, axes, points, [*bars, *stairs])
        return plot(figure)


def _limits(axes: Axes, points: Sequence[Point], *, cost: bool) -> None:
    """Set limits around all points and intervals; y within 0..1, and never a sliver of it."""
    ys = [value for point in points for value in (point.y, *(point.y_interval or ()))]
    low, high = max(0.0, min(ys)), min(1.0, max(ys))
    if high - low < 0.1:
        low, high = max(0.0, high - 0.1), min(1.0, max(high, 0.1))
    margin = 0.06 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    xs = [value for point in points for value in (point.x, *(point.x_interval or ()))]
    if cost:
        axes.set_xlim(min(xs) / 1.6, max(xs) * 1.6)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(
            lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" and max(xs) / min(xs) < 300 else ""
        )
    else:
        spread = max(max(xs) - min(xs), 2.0)
        axes.set_xlim(min(xs) - 0.08 * spread, max(xs) + 0.08 * spread)


def _bars(point: Point) -> Iterator[Line]:
    """Yield a point's intervals."""
    if point.x_interval:
        yield point.x_interval, (point.y, point.y)
    if point.y_interval:
        yield (point.x, point.x), point.y_interval


def _stairs(front: Sequence[tuple[float, float]], *, cost: bool) -> Iterator[Line]:
    """Yield the line around all that the front beats."""
    for (x1, y1), (x2, y2) in itertools.pairwise(front):
        corner = (x2, y1) if cost else (x1, y2)
        yield (x1, corner[0]), (y1, corner[1])
        yield (corner[0], x2), (corner[1], y2)


def _label(figure: Figure, axes: Axes, points: Sequence[Point], lines: Sequence[Line]) -> None:
    """Write each point's label where it hides nothing, with a line to the point if that is not beside it."""

    scale = 72 / figure.dpi  # pixels to points

    def on_page(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y)) * scale
        return float(across), float(up)

    anchors = [on_page(point.x, point.y) for point in points]
    ends = [(*on_page(xs[0], ys[0]), *on_page(xs[1], ys[1])) for xs, ys in lines]
    drawn = [(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for a, b, c, d in ends]
    extents = [TextPath((0, 0), point.label or " ", size=SIZE).get_extents() for point in points]
    inside = [float(end) * scale for end in axes.bbox.extents]
    boxes = placed(anchors, [(extent.width + 4, SIZE + 1) for extent in extents], inside, drawn)
    for point, (x, y), box in zip(points, anchors, boxes, strict=True):
        centre = ((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y)
        far = math.hypot(max(box[0] - x, 0, x - box[2]), max(box[1] - y, 0, y - box[3])) > 8
        axes.annotate(
            point.label,
            (point.x, point.y),
            centre,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SIZE,
            color=INK,
            zorder=4,
            parse_math=False,
            bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3} if far else None,
        )


def placed(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    inside: Sequence[float],
    lines: Sequence[Box] = (),
) -> list[Box]:
    """Return a box for each label: the nearest to its point that stays inside and meets no point and no other label.

    Rather than meet a line it goes ``DETOUR`` points farther. One that fits nowhere meets what it must.
    """
    points = [(x - 4, y - 4, x + 4, y + 4) for x, y in anchors]
    boxes: list[Box] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        places = list(_places(anchor, size))
        free = [(far, box) for far, box in places if _within(box, inside) and not any(_meet(box, o) for o in (*points, *boxes))]
        costs = (far + DETOUR * any(_meet(box, line) for line in lines) for far, box in free)
        boxes.append(min(zip(costs, free, strict=True), default=(0, places[0]), key=lambda item: item[0])[1][1])
    return boxes


def _places(anchor: tuple[float, float], size: tuple[float, float]) -> Iterator[tuple[int, Box]]:
    """Yield boxes around a point, the nearest first, and how far they are."""
    (x, y), (width, height) = anchor, size
    for distance, turn in itertools.product(range(5, 140, 5), range(16)):
        angle = turn * math.pi / 8
        cx = x + math.cos(angle) * (distance + width / 2)
        cy = y + math.sin(angle) * (distance + height / 2)
        yield distance, (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)


def _within(box: Box, inside: Sequence[float]) -> bool:
    return box[0] >= inside[0] and box[1] >= inside[1] and box[2] <= inside[2] and box[3] <= inside[3]


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def histograms(cosines: Sequence[tuple[str, NDArray[np.float64]]], limit: float, calibrated: float | None) -> str:
    """Return one histogram of cosines per method, one below the other, as the value of ``src``.

    :param limit: the fixed threshold; what lies at or above it has another colour
    """
    shares = [np.histogram(np.clip(values, BINS[0], BINS[-1]), BINS)[0] / len(values) for _, values in cosines]
    highest, height = max(share.max() for share in shares), 0.42 * len(cosines) + 0.75
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x", "axes.spines.left": False, "ytick.major.size": 0}):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((0.27, 0.45 / height, 0.63, 1 - 0.75 / height))
        lines = range(len(cosines) - 1, -1, -1)
        for base, share in zip(lines, shares, strict=True):
            for part, color in ((BINS[:-1] < limit - 1e-9, BLUE), (BINS[:-1] >= limit - 1e-9, ORANGE)):
                axes.stairs(base + np.where(part, 0.9 * share / highest, 0), BINS, baseline=base, fill=True, color=color)
        axes.hlines(lines, BINS[0], BINS[-1], color=GREY, linewidth=0.6)
        axes.axvline(limit, color=INK, linewidth=0.8)
        axes.set(xlim=(BINS[0], BINS[-1]), ylim=(0, len(cosines)), xlabel="cosine of the face before and after")
        axes.set_yticks([base + 0.35 for base in lines], [name for name, _ in cosines], parse_math=False)
        for base, (_, values) in zip(lines, cosines, strict=True):
            axes.text(1.03, base + 0.35, f"{np.mean(values < limit):.3f}", va="center", fontsize=SIZE)
        _thresholds(axes, limit, calibrated)
        return plot(figure)


def _thresholds(axes: Axes, limit: float, calibrated: float | None) -> None:
    """Write the thresholds above their lines, on either side of them, and draw the calibrated one."""
    at: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "va": "bottom", "fontsize": SIZE}
    left = calibrated is not None and calibrated >= limit
    axes.text(limit, 1.01, f"{limit:g} " if left else f" {limit:g}", ha="right" if left else "left", **at)
    axes.text(1.03, 1.01, f"< {limit:g}", ha="left", **at)
    if calibrated is not None:
        axes.axvline(calibrated, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        text = f" calibrated {calibrated:.3f} "
        axes.text(calibrated, 1.01, text, ha="left" if left else "right", **at)
