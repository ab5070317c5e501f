"""Figures and their intervals: equal to NumPy, drawn by units."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceblur_core.compare.statistics import Draws, figure, pooled, threshold_name
from faceblur_core.errors import UsageMistake

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
some = st.lists(st.tuples(numbers | st.just(np.inf) | st.just(np.nan), st.integers(0, 7)), min_size=1, max_size=40)
STATISTICS = ("mean", "mean<=100", "median", "p5", "p95", "share>=0.95", "share<0.4", "share<limit")


def plain(values, statistic: str) -> float:
    """The statistic of values by NumPy."""
    if statistic.startswith("share"):
        limit = {"share>=0.95": 0.95, "share<0.4": 0.4, "share<limit": 2.0}[statistic]
        return float(np.mean(values >= limit if ">=" in statistic else values < limit))
    if statistic.startswith("mean"):
        return float(np.mean(np.minimum(values, 100) if "<=" in statistic else values))
    share = 0.5 if statistic == "median" else float(statistic[1:]) / 100
    return float(np.quantile(values, share - 1e-12, method="inverted_cdf"))  # 0.05 * 140 is a little more than 7 in floats


def of(values, units, statistic: str, draws: Draws):
    return figure(np.array(values, float), np.array(units, np.intp), draws, statistic, {"limit": 2.0})


@pytest.mark.parametrize("statistic", STATISTICS)
@given(some)
def test_a_figure_is_numpys(statistic, pairs):
    values, units = np.array([value for value, _ in pairs], float), [unit for _, unit in pairs]
    found = of(values, units, statistic, Draws.make(8, 20, 0))
    known = values[~np.isnan(values)]
    assert (found.count, found.missing) == (len(known), len(values) - len(known))
    if not len(known):
        assert np.isnan([found.value, found.low, found.high]).all()
    else:
        assert found.value == pytest.approx(plain(known, statistic), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
@given(some, st.randoms(use_true_random=False))
def test_the_order_of_samples_changes_nothing(statistic, pairs, random):
    draws = Draws.make(8, 20, 1)
    one = of(*zip(*pairs, strict=True), statistic, draws)
    random.shuffle(pairs)
    other = of(*zip(*pairs, strict=True), statistic, draws)
    for name in ("value", "low", "high", "count", "missing"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-6, nan_ok=True)


@given(
    st.lists(st.tuples(numbers, st.integers(0, 5)), min_size=1, max_size=15).filter(lambda pairs: sum(w for _, w in pairs)),
    st.sampled_from([5, 37, 50, 95, 100]),
)
def test_a_weighted_percentile_is_that_of_the_repeated_sample(pairs, percent):
    values, weights = (np.array(column, float) for column in zip(*pairs, strict=True))
    draws = Draws(np.stack([weights, weights]))
    found = figure(values, np.arange(len(values)), draws, f"p{percent}", {}).value
    repeated = sorted(np.repeat(values, weights.astype(int)).tolist())
    assert found == repeated[ceil(Fraction(percent, 100) * len(repeated)) - 1]
    assert found == np.quantile(repeated, percent / 100 - 1e-12, method="inverted_cdf")


@pytest.mark.parametrize("statistic", STATISTICS)
def test_each_draw_is_the_figure_of_the_repeated_units(statistic):
    """Faces of one image stay together: a draw takes all of a unit's values or none, as often as it is drawn."""
    rng = np.random.default_rng(5)
    values, units = rng.normal(0.5, 2, 30), rng.integers(0, 6, 30)
    draws = Draws.make(6, 200, 3)
    assert (draws.weights[0] == 1).all() and (draws.weights.sum(axis=1) == 6).all()
    by_hand = []
    for row in draws.weights:
        repeated = np.concatenate([np.tile(values[units == unit], int(times)) for unit, times in enumerate(row)])
        by_hand.append(plain(repeated, statistic))
    found = of(values, units, statistic, draws)
    low, high = np.quantile(by_hand[1:], [0.025, 0.975], method="inverted_cdf")
    assert (found.value, found.low, found.high) == pytest.approx((by_hand[0], low, high), rel=1e-9)


def test_the_interval_of_a_known_distribution():
    values = np.random.default_rng(0).normal(10, 2, 400)
    found = of(values, np.arange(400), "mean", Draws.make(400, 2000, 0))
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    clustered = of(values, np.repeat(np.arange(4), 100), "mean", Draws.make(4, 2000, 0))
    four = values.reshape(4, 100).mean(axis=1)
    assert four.min() <= clustered.low < clustered.high <= four.max()


def test_infinite_and_undefined_values():
    draws = Draws.make(4, 200, 0)
    endless = of([1, np.inf, 3, np.nan], range(4), "mean", draws)
    assert (endless.value, endless.high, endless.count, endless.missing) == (np.inf, np.inf, 3, 1) and endless.low < 4
    assert of([1, -np.inf, 3, 4], range(4), "mean", draws).value == -np.inf
    assert np.isnan(of([1, -np.inf, np.inf, 4], range(4), "mean", draws).value)
    assert of([1, np.inf, np.inf], range(3), "median", draws).value == np.inf
    assert of([20, np.inf, 200, np.nan], range(4), "mean<=100", draws).value == pytest.approx(220 / 3)
    empty = of([], [], "p5", draws)
    assert np.isnan(empty.value) and (empty.count, empty.missing) == (0, 0)
    assert np.isnan(pooled([np.nan, 1.0], 3, 0).low) and pooled([0.5, np.nan, 0.25], 3, 0).low == 0.25


@pytest.mark.parametrize("statistic", ["means", "p101", "share>=much", "mean<=much", "share=0.5", ""])
def test_an_unknown_statistic_is_an_error(statistic):
    with pytest.raises(UsageMistake, match="statistic"):
        of([1.0], [0], statistic, Draws.make(1, 20, 0))


def test_names_of_thresholds():
    assert threshold_name("share<calibrated") == "calibrated"
    assert [threshold_name(text) for text in ("share<0.4", "mean", "share>=.95")] == ["", "", ""]


def test_draws_depend_on_the_seed_alone():
    assert (Draws.make(9, 50, 1).weights == Draws.make(9, 50, 1).weights).all()
    assert (Draws.make(9, 50, 1).weights != Draws.make(9, 50, 2).weights).any()
    assert Draws.make(0, 50, 1).weights.shape == (51, 0)
