"""The built-in obfuscators: contracts, known answers, and the bound on what blur and pixelate keep."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceblur_core.builtin import filters
from faceblur_core.builtin.metrics import Coverage
from faceblur_core.builtin.obfuscators import Blur, Inpaint, Pixelate, Solid
from faceblur_core.distance import distance_to_zero
from faceblur_core.errors import UsageMistake
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import MetricContract, ObfuscatorContract, noise_image
from faceblur_core.types import Anonymized, Ellipse, Sample

OURS = ("blur", "pixelate", "solid", "inpaint", "gaussian", "median", "bilateral", "box")


def test_all_built_in_obfuscators_are_tested_here():
    offered = next(info for info in installed_plugins().infos if info.name == "builtin").components
    assert {component.name for kind, component in offered if kind == "obfuscator"} == set(OURS)


for _name in OURS:  # one contract class per obfuscator
    globals()[f"Test{_name.title()}"] = type(f"Test{_name.title()}", (ObfuscatorContract,), {"name": _name})


class TestCoverage(MetricContract):
    name = "coverage"


def full(image):
    return np.ones(image.shape[:2], np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_what_is_kept_is_bounded_by_the_cells(cells, first, second):
    """Two pictures with the same cell means give the same result, whatever else they show."""
    means = np.random.default_rng(cells).integers(60, 190, (4, 4, 3))
    pictures = []
    for seed in (first, second):
        detail = np.random.default_rng(seed).integers(-50, 51, (4, 16, 4, 16, 3))
        detail[:, 8:, :, :] = -detail[:, :8, :, :]  # every cell's detail sums to 0
        pictures.append((means[:, None, :, None] + detail).reshape(64, 64, 3).astype(np.uint8))
    for obfuscator in (Blur(), Pixelate()):
        a, b = (obfuscator(picture, full(picture)) for picture in pictures)
        assert np.array_equal(a, b) and not np.array_equal(a, pictures[0])


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 12))
@settings(max_examples=50)
def test_the_grid_has_at_most_that_many_cells(height, width, cells):
    columns, rows = filters.cell_grid(np.zeros((height, width, 3), np.uint8), cells)
    assert 1 <= columns <= min(cells, width) and 1 <= rows <= min(cells, height)


@pytest.mark.parametrize("cells", [4, 64])
def test_small_faces_are_hidden_too(cells):
    """More cells than a small face has pixels would leave it as it is."""
    for side in (4, 12, 40):
        image = noise_image(side, side)
        for obfuscator in (Blur(cells=cells), Pixelate(cells=cells)):
            columns, rows = filters.cell_grid(image, cells)
            assert columns * rows <= max(1, side * side / 16)
            assert (obfuscator(image, full(image)) != image).any(axis=2).mean() > 0.9


def test_a_mosaic_is_of_mean_blocks():
    image = noise_image(40, 40)
    result = Pixelate(cells=4)(image, full(image))
    for y in range(0, 40, 10):
        for x in range(0, 40, 10):
            block = image[y : y + 10, x : x + 10].reshape(-1, 3).mean(axis=0)
            assert (result[y : y + 10, x : x + 10] == result[y, x]).all()
            np.testing.assert_allclose(result[y, x], block, atol=1)


def test_solid_is_the_colour_that_was_asked_for():
    image = noise_image()
    assert (Solid(color="#ff8000")(image, full(image)) == (255, 128, 0)).all()
    with pytest.raises(UsageMistake, match="#rrggbb"):
        Solid(color="red")


def test_blending_follows_the_mask():
    image = np.full((10, 10, 3), 200, np.uint8)
    mask = np.zeros((10, 10), np.float32)
    mask[5] = 0.25
    mask[6] = 1
    result = Solid()(image, mask)
    assert (result[5] == 150).all() and (result[6] == 0).all() and (result[:5] == 200).all()


def test_inpainting_takes_nothing_from_under_the_mask():
    image = np.full((60, 60, 3), 90, np.uint8)
    other = image.copy()
    mask = np.zeros((60, 60), np.float32)
    mask[20:40, 20:40] = 1
    other[20:40, 20:40] = noise_image(20, 20)
    for method in ("telea", "ns"):
        for limit in (256, 32):
            a, b = (Inpaint(method=method, limit=limit)(picture, mask) for picture in (image, other))
            assert np.array_equal(a, b)
            assert abs(a.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("method", ["telea", "ns"])
@pytest.mark.parametrize("size", [200, 700])
def test_inpainting_leaves_no_seam_where_sides_meet(method, size):
    """A face from edge to edge between black and white: what OpenCV's own functions fill in meets in a hard line."""
    image = np.zeros((size, size, 3), np.uint8)
    image[:, size // 2 :] = 255
    hole = np.zeros((size, size), np.float32)
    hole[:, size // 3 : -size // 3] = 1

    def steepest(filled):
        return np.abs(np.diff(filled[..., 0].astype(int), axis=1)).max() * size / 200

    filled = Inpaint(method=method)(image, hole)
    assert np.array_equal(filled[hole == 0], image[hole == 0])
    assert steepest(filled) < 20
    if size == 200:
        kind = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}[method]
        assert steepest(cv2.inpaint(image, hole.astype(np.uint8), 10, kind)) > 2 * steepest(filled)


def test_inpainting_one_face_takes_nothing_from_its_neighbour():
    image = np.full((60, 120, 3), 90, np.uint8)
    mask = np.zeros((60, 120), np.float32)
    for x in (30, 55):
        image[20:40, x : x + 20] = 255
        mask[20:40, x : x + 20] = 1
    assert abs(Inpaint()(image, mask).astype(int) - 90).max() <= 2


@pytest.mark.parametrize("name", OURS)
def test_regions_do_not_disturb_each_other(name):
    """Two regions whose bounding boxes overlap come out as if each were alone."""
    image = noise_image(80, 80, seed=3)
    y, x = np.mgrid[:80, :80]
    first = ((x + y) < 60).astype(np.float32)
    second = ((x + y) > 90).astype(np.float32)
    obfuscate = installed_plugins().make("obfuscator", name)
    both, alone = obfuscate(image, np.maximum(first, second)), obfuscate(image, second)
    if name != "inpaint":  # which looks around, and must not look at the other region
        assert np.array_equal(both[second > 0], alone[second > 0])
    assert (both[first > 0] != image[first > 0]).any() and (both[second > 0] != image[second > 0]).any()


@pytest.mark.parametrize("name", ["gaussian", "median", "box", "blur", "pixelate"])
def test_strength_follows_the_faces_size(name):
    """The same picture at twice the size is blurred twice as far: the results agree when reduced again."""
    import cv2

    small = cv2.resize(noise_image(12, 12, seed=5), (128, 128), interpolation=cv2.INTER_CUBIC)
    large = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC)
    obfuscate = installed_plugins().make("obfuscator", name)
    a = obfuscate(small, full(small)).astype(float)
    b = cv2.resize(obfuscate(large, full(large)), (128, 128), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(a - b).mean() < 4


@pytest.mark.parametrize("name", OURS)
def test_large_faces_are_changed_too(name):
    image = noise_image(900, 700)
    result = installed_plugins().make("obfuscator", name)(image, full(image))
    assert (result != image).any(axis=2).mean() > 0.9


def coverage(mask, *faces):
    image = np.zeros((*mask.shape, 3), np.uint8)
    return Coverage()(Sample("x", image, faces), Anonymized(image, mask))


def test_coverage_has_known_answers():
    mask = np.zeros((100, 100), np.float32)
    face = Ellipse(50, 50, 20, 30)
    assert coverage(mask, face) == 0
    assert coverage(np.ones_like(mask), face) == 1
    mask[:, :50] = 1
    assert coverage(mask, face)[0] == pytest.approx(0.5)
    mask[:, 50:] = 0.49
    assert coverage(mask, face)[0] == pytest.approx(0.5)
    assert np.isnan(coverage(mask, Ellipse(500, 500, 3, 3))[0])
    assert coverage(mask).shape == (0,)


def test_distances_are_roots_of_whole_numbers_each_time():
    """OpenCV changes the last bit from call to call."""
    mask = np.ones((92, 80), np.uint8)
    mask[30, 20] = mask[31, 60] = 0
    y, x = np.mgrid[:92, :80]
    expected = np.sqrt(np.minimum((y - 30) ** 2 + (x - 20) ** 2, (y - 31) ** 2 + (x - 60) ** 2).astype(np.float32))
    for _ in range(20):
        assert np.array_equal(distance_to_zero(mask), expected)
