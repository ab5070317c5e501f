"""Blur kernels against known answers, the methods that draw them, and labels spread evenly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceblur_core.datasets.blur_balance import bin_of, evenly, level
from faceblur_core.datasets.blur_kernels import (
    STEPS,
    Shake,
    blurred,
    disc_kernel,
    draw_shake,
    line_kernel,
    path_kernel,
    shake_path,
)
from faceblur_core.datasets.blur_methods import blur_methods
from faceblur_core.errors import UnknownName, UsageMistake
from faceblur_core.testing import noise_image


def rng(seed=0):
    return np.random.default_rng(seed)


def middle(kernel):
    """Return the mean place of a kernel, pixels from its centre: x, y."""
    half = len(kernel) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    return float((kernel * x).sum()), float((kernel * y).sum())


@given(st.floats(0, 40), st.floats(-7, 7))
def test_a_line_has_its_length_its_angle_and_the_sum_1(length, angle):
    kernel = line_kernel(length, angle)
    half = len(kernel) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    assert kernel.sum() == pytest.approx(1, abs=1e-4) and kernel.min() >= 0
    assert middle(kernel) == pytest.approx((0, 0), abs=1e-3)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    assert np.sqrt((kernel * along**2).sum()) == pytest.approx(length / math.sqrt(12), abs=0.8)
    assert np.sqrt((kernel * across**2).sum()) < 0.8


@given(st.floats(0, 30))
def test_a_disc_is_round_and_has_its_radius(radius):
    kernel = disc_kernel(radius)
    assert kernel.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(kernel, kernel.T)
    np.testing.assert_array_equal(kernel, kernel[::-1])
    if radius > 3:
        assert np.sqrt(1 / kernel.max() / math.pi) == pytest.approx(radius, rel=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_a_trajectory_goes_its_length_at_constant_speed(seed):
    draws = rng(seed)
    path = shake_path(draw_shake(0.01, draws), 25.0, draws)
    steps = np.abs(np.diff(path))
    assert len(path) == STEPS and steps.sum() == pytest.approx(25) and steps.std() < 1e-6
    kernel = path_kernel(path)
    assert kernel.sum() == pytest.approx(1, abs=1e-4) and middle(kernel) == pytest.approx((0, 0), abs=1e-3)
    assert len(kernel) % 2 == 1 and len(kernel) <= 2 * 27 + 1


def test_without_anxiety_a_trajectory_is_a_straight_line():
    path = shake_path(Shake(0, 0.5, 0.2, 9, 0.6), 20.0, rng())
    np.testing.assert_allclose(path_kernel(path), line_kernel(20.0, 0.6), atol=0.01)


def test_the_shape_of_a_trajectory_does_not_depend_on_its_length():
    shake = draw_shake(0.01, rng(3))
    np.testing.assert_allclose(shake_path(shake, 10, rng(4)) * 3, shake_path(shake, 30, rng(4)), rtol=1e-9)


def test_blurring_is_convolution():
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    kernel = np.zeros((5, 5), np.float32)
    kernel[0, 1], kernel[4, 4] = 0.6, 0.4
    result = blurred(point, kernel)
    assert result[18, 19, 0] == 153 and result[22, 22, 0] == 102 and result.sum() == 3 * 255
    flat = np.full((9, 200, 3), 77, np.uint8)
    np.testing.assert_array_equal(blurred(flat, line_kernel(150, 0.3)), flat)  # the kernel is larger than the picture


# --- methods

CONFIG = {"shake": {}, "defocus": {"weight": 0}, "linear": {"angle": [30, 30]}, "pixelate": {"options": {"cells": [3, 9]}}}


def test_methods_are_drawn_within_their_limits_and_blur():
    methods = blur_methods(CONFIG, "config")
    assert list(methods) == ["shake", "linear", "pixelate"]
    image = noise_image()
    mask = np.zeros(image.shape[:2], np.float32)
    mask[20:60, 30:70] = 1
    for name, method in methods.items():
        for seed in range(20):
            parameters = method.draw(rng(seed))
            assert 0.02 <= parameters.get("length", 1) <= 2 and parameters.get("angle", 30) == 30
            assert parameters.get("cells", 3) in range(3, 10)
        given_rng = rng(1)
        result = method.apply(image, mask, 200.0, method.draw(given_rng), given_rng)
        assert result.shape == image.shape and result.dtype == np.uint8 and (result != image).any()
        assert method.in_mask == (name == "pixelate") == np.array_equal(result[mask == 0], image[mask == 0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"shaek": {}}, "no blur named 'shaek'. Did you mean shake?"),
        ({"shake": {"lenght": [1, 2]}}, "no option of .*'lenght'"),
        ({"shake": {"length": [1]}}, "length should be two numbers"),
        ({"linear": {"angle": [90, 0]}}, "angle should be two numbers"),
        ({"defocus": {"radius": [0, 1]}}, "radius=.*greater than 0"),
        ({"shake": {"exposure": []}}, "need a value each"),
        ({"pixelate": {"options": {"cells": [0, 9]}}}, "cells=0"),
        ({"pixelate": {"options": {"sells": [1, 9]}}}, "no option of obfuscator"),
        ({"shake": {"weight": 0}}, "no blur has a weight"),
    ],
)
def test_bad_methods_are_one_line(config, message):
    with pytest.raises((UsageMistake, UnknownName), match=message):
        blur_methods(config, "config")


# --- balance


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(0, 600))
def test_bins_get_as_many_each_as_they_can(available, count):
    taken = level(available, count)
    assert sum(taken) == min(count, sum(available)) and all(t <= a for t, a in zip(taken, available, strict=True))
    fullest = max(taken)
    assert all(t in (fullest, fullest - 1) or t == a for t, a in zip(taken, available, strict=True))


def test_even_sampling_flattens_and_is_reproducible():
    degrees = rng().beta(0.5, 0.5, 4000)
    chosen = evenly(degrees, 1000, 20, rng(1))
    assert len(set(chosen.tolist())) == 1000
    assert np.ptp(np.bincount(bin_of(degrees[chosen], 20), minlength=20)) <= 1
    np.testing.assert_array_equal(chosen, evenly(degrees, 1000, 20, rng(1)))
    assert bin_of(np.array([0.0, 0.05, 1.0]), 20).tolist() == [0, 1, 19]
