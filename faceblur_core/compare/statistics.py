"""From values per face or image to figures with bootstrap intervals.

A resample draws whole units, images or people, with replacement: faces of one image, photos of one person, stay
together. All figures of a run use the same draws, so that methods are compared on equal samples.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import UsageMistake

Values = NDArray[np.float64]
ENDS = (0.025, 0.975)  #: of the intervals: 95 %
LIMIT = 0.95  #: share of the resamples in which a difference by chance is smaller than what is told
_OPERATORS: dict[str, Callable[[Values, float], NDArray[np.bool_]]] = {
    ">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_SHARE = re.compile(r"share(>=|<=|<|>)(.+)")
_CAPPED = re.compile(r"mean<=(.+)")
_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with its interval."""

    value: float
    low: float
    high: float
    count: int  #: values that it is made of
    missing: int  #: values that are not defined


@dataclass(frozen=True)
class Draws:
    """How often each unit counts: as it is in row 0, in the resamples in the others."""

    weights: Values  #: (resamples + 1) x units

    @classmethod
    def make(cls, units: int, resamples: int, seed: int) -> Draws:
        """Return draws for that many units."""
        rng = np.random.default_rng([seed, units])
        drawn = rng.multinomial(units, np.full(units, 1 / units), size=resamples) if units else np.zeros((resamples, 0))
        return cls(np.concatenate([np.ones((1, units)), drawn]).astype(np.float64))

    @classmethod
    @functools.lru_cache(maxsize=16)  # the same for many methods and statistics
    def some(cls, units: int, size: int, resamples: int, number: int) -> Draws:
        """Return draws of ``size`` of that many units, other ones for each number."""
        drawn = np.random.default_rng([units, size, number]).multinomial(size, np.full(units, 1 / units), size=resamples)
        return cls(np.concatenate([np.ones((1, units)), drawn]).astype(np.float64))


def figure(values: Values, units: NDArray[np.intp], draws: Draws, statistic: str, thresholds: dict[str, float]) -> Figure:
    """Return a statistic of values, each of which belongs to a unit.

    :param statistic: ``mean``, ``mean<=100`` (higher values count as 100), ``median``, ``p5``, ``share>=0.95`` and the like
    :param thresholds: what names such as ``calibrated`` stand for in ``share<calibrated``
    :raises UsageMistake: if there is no such statistic
    """
    known = ~np.isnan(values)
    result = _row(values[known], units[known], draws, statistic, thresholds)
    return _figure(result, int(known.sum()), int((~known).sum()))


def threshold_name(statistic: str) -> str:
    """Return the name in ``share<calibrated``; empty if a number stands there, or it is another statistic."""
    match = _SHARE.fullmatch(statistic)
    return match[2] if match and match[2].isidentifier() else ""


def pooled(rows: Sequence[float], count: int, missing: int) -> Figure:
    """Return a figure from its value and its values in all resamples."""
    return _figure(np.array(rows, np.float64), count, missing)


def _figure(row: Values, count: int, missing: int) -> Figure:
    drawn = row[1:][~np.isnan(row[1:])]
    if not count or not len(drawn) or math.isnan(row[0]):
        return Figure(float(row[0]) if count else math.nan, math.nan, math.nan, count, missing)
    low, high = np.quantile(drawn, ENDS, method="inverted_cdf")  # also where some are infinite
    return Figure(float(row[0]), float(low), float(high), count, missing)


def gap_by_chance(
    values: Values, units: NDArray[np.intp], sizes: Sequence[int], resamples: int, statistic: str, thresholds: dict[str, float]
) -> float:
    """Return what worst minus best of slices stays below in 95 % of the resamples if only chance makes them differ.

    In each resample every slice is drawn from all values, in whole units and as many values as it has on average: so slices of
    one truth would differ.

    :param values: of all slices, none of them nan; each belongs to a unit
    :param sizes: how many of them each slice has
    """
    present, places = np.unique(units, return_inverse=True)
    each = len(values) / len(present)
    rows = []
    for number, size in enumerate(sizes):
        drawn = Draws.some(len(present), max(1, round(size / each)), resamples, number)
        rows.append(_row(values, places, drawn, statistic, thresholds)[1:])
    with np.errstate(invalid="ignore"):
        gaps = np.max(rows, axis=0) - np.min(rows, axis=0)
    gaps = gaps[np.isfinite(gaps)]
    return float(np.quantile(gaps, LIMIT)) if len(gaps) else math.nan


def _row(values: Values, units: NDArray[np.intp], draws: Draws, statistic: str, thresholds: dict[str, float]) -> Values:
    """Return the statistic under every row of weights."""
    if statistic == "mean":
        return _mean(values, units, draws)
    if match := _CAPPED.fullmatch(statistic):
        return _mean(np.minimum(values, _number(match[1], statistic)), units, draws)
    if match := _SHARE.fullmatch(statistic):
        limit = thresholds[match[2]] if match[2] in thresholds else _number(match[2], statistic)
        return _mean(_OPERATORS[match[1]](values, limit).astype(np.float64), units, draws)
    if statistic == "median":
        return _quantile(values, units, draws, 0.5)
    if (match := _PERCENTILE.fullmatch(statistic)) and float(match[1]) <= 100:
        return _quantile(values, units, draws, float(match[1]) / 100)
    raise UsageMistake(f"no statistic {statistic!r}; there are mean, mean<=100, median, p5, share>=0.95 and the like")


def _number(text: str, statistic: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageMistake(f"statistic {statistic!r} has no number after its sign") from None


def _mean(values: Values, units: NDArray[np.intp], draws: Draws) -> Values:
    total = draws.weights.shape[1]
    endless = np.isinf(values)
    sums = np.bincount(units, np.where(endless, 0.0, values), minlength=total)
    weight = draws.weights @ np.bincount(units, minlength=total).astype(np.float64)
    result = np.divide(draws.weights @ sums, weight, out=np.full(len(weight), np.nan), where=weight > 0)
    for end in (math.inf, -math.inf):
        drawn = draws.weights @ np.bincount(units[values == end], minlength=total).astype(np.float64) > 0
        result = np.where(drawn, np.where(result == -end, np.nan, end), result)
    return np.asarray(result)


def _quantile(values: Values, units: NDArray[np.intp], draws: Draws, share: float) -> Values:
    """Return the least value with at least that share of the weight at or below it."""
    if not len(values):
        return np.full(len(draws.weights), np.nan)
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(draws.weights[:, units[order]], axis=1)
    wanted = share * cumulated[:, -1:]
    place = np.minimum((cumulated < wanted - 1e-9).sum(axis=1), len(values) - 1)
    return np.where(cumulated[:, -1] > 0, values[order][place], np.nan)
