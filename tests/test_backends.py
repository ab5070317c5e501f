"""Which backend reads a file, and the square that a network sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceblur_core.backends import load_network, make_backend
from faceblur_core.errors import UsageMistake
from faceblur_core.letterbox import inner, letterboxed
from faceblur_core.pipeline import network_of


def test_a_strangers_backend_is_chosen_by_the_files_ending(install, tmp_path):
    install("good")
    np.save(tmp_path / "three.npy", np.float32(3))
    assert load_network(tmp_path / "three.npy")(np.ones((1, 2, 2, 1), np.float32)).sum() == 12
    assert type(make_backend(tmp_path / "three.npy")) is type(make_backend(tmp_path / "three.npy", "npy"))


@pytest.mark.parametrize(
    ("file", "name", "threads", "message"),
    [
        ("x.abc", "auto", 1, "no backend reads x.abc; those installed read .*npy"),
        ("x.npy", "cuda", 1, "no backend named 'cuda'"),
        ("x.abc", "npy", 1, "backend 'npy' reads .npy files, not x.abc"),
        ("x.npy", "npy", 2, "backend 'npy' has no option threads"),
    ],
)
def test_what_no_backend_does(install, tmp_path, file, name, threads, message):
    install("good")
    with pytest.raises(UsageMistake, match=message):
        make_backend(tmp_path / file, name, threads=threads)


def test_threads_are_told_to_backends_that_have_them(tmp_path):
    assert make_backend(tmp_path / "x.tflite", threads=3).threads == 3


sides = st.integers(1, 400)


@given(sides, sides, st.sampled_from([64, 128, 256]))
def test_a_letterbox_is_centred_and_keeps_the_shape(height, width, size):
    rows, columns = inner(height, width, size)
    shown = rows.stop - rows.start, columns.stop - columns.start
    assert max(shown) == size and min(shown) >= 1
    assert abs(rows.start - (size - rows.stop)) <= 1 and abs(columns.start - (size - columns.stop)) <= 1
    exact = np.array([height, width]) * size / max(height, width)
    assert np.abs(np.array(shown) - np.maximum(exact, 1)).max() <= 0.5


def test_a_letterboxed_photo_has_black_bars_and_nothing_else_changes():
    photo = np.full((50, 100, 3), 200, np.uint8)
    square = letterboxed(photo, 128)
    assert square.shape == (128, 128, 3) and (square[32:96] == 200).all() and not square[:32].any() and not square[96:].any()
    same = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    assert np.array_equal(letterboxed(same, 128), same)


class Network:
    network_file = quantized_file = None

    def network_inputs(self, image):
        return image


class Around:
    def __init__(self, detector):
        self.detector = detector


def test_a_network_is_found_within_a_method():
    network = Network()
    assert network_of(network) is network_of(Around(Around(network))) is network
    assert network_of(Around(object())) is None and network_of(object()) is None
