"""What our augmentation does to pictures, and where. When a training meets it: test_yolo_training.py."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceblur_yolo import augment
from faceblur_yolo.augment import covered, defocused, smoothed, turned

BOX = np.array([[140.0, 80.0, 170.0, 120.0]])


@pytest.fixture(autouse=True)
def seeded():
    random.seed(1)


@pytest.fixture
def noise():
    return np.random.default_rng(1).integers(0, 256, (240, 300, 3), np.uint8)


def changed(before, after):
    """Return x1, y1, x2, y2 of what differs."""
    ys, xs = np.nonzero((before != after).any(-1))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_a_face_goes_out_of_focus_and_the_rest_stays(noise):
    before = noise.copy()
    after = defocused(noise, BOX)
    assert after.dtype == np.uint8 and after.shape == noise.shape and (noise == before).all()
    x1, y1, x2, y2 = changed(noise, after)
    reach = augment.HEAD * np.array([30, 40]) + 3 * augment.SIGMAS[1] * 40 + 1
    assert x1 >= 155 - reach[0] and x2 <= 155 + reach[0] and y1 >= 100 - reach[1] and y2 <= 100 + reach[1]
    face = np.s_[85:115, 145:165]
    assert after[face].std() < 0.8 * noise[face].std() and abs(after[face].mean() - noise[face].mean()) < 5


def test_where_no_face_is_something_else_goes_out_of_focus(noise):
    assert (defocused(noise, np.zeros((0, 4))) != noise).any()


def test_a_face_is_hidden_from_one_side_by_what_is_elsewhere(noise):
    for _ in range(20):
        after = covered(noise, BOX)
        x1, y1, x2, y2 = changed(noise, after)
        inside = np.array([min(x2, 170) - max(x1, 140), min(y2, 120) - max(y1, 80)]) / (30, 40)
        assert inside.max() > 0.95 and 0.15 < inside.min() < 0.55
        piece = after[y1:y2, x1:x2]
        places = np.lib.stride_tricks.sliding_window_view(noise, piece.shape)[:, :, 0]
        ys, xs = np.nonzero((places == piece).all((2, 3, 4)))
        assert len(ys) == 1
        assert xs[0] >= 170 or xs[0] + x2 - x1 <= 140 or ys[0] >= 120 or ys[0] + y2 - y1 <= 80  # and shows no face


@pytest.mark.parametrize("effect", [defocused, covered])
def test_faces_of_a_few_pixels_stay_as_they_are(effect, noise):
    assert (effect(noise, np.array([[10.0, 10.0, 19.0, 20.0]])) == noise).all()


def test_a_face_that_fills_the_picture_has_nothing_to_be_hidden_by(noise):
    assert (covered(noise, np.array([[0.0, 0.0, 300.0, 240.0]])) == noise).all()


def test_a_few_colours_of_the_picture_are_left_and_change_slowly(noise):
    noise[:, :150] //= 2  # its left half is darker
    for _ in range(20):
        after = smoothed(noise).astype(int)
        assert after.shape == noise.shape
        assert after[:, :40].mean() + 20 < after[:, -40:].mean()
        steps = max(np.abs(np.diff(after, axis=axis)).max() for axis in (0, 1))
        assert steps < 60  # noise: 250


def test_one_colour_stays_one(noise):
    noise[:] = (10, 200, 30)
    assert all(np.ptp(smoothed(noise), (0, 1)).max() == 0 for _ in range(10))


def test_pictures_become_smooth_where_no_face_is_and_only_there(noise):
    from ultralytics.utils.instance import Instances

    effects = augment.Effects(0.0, 0.0, 0.0, 1.0)

    def seen(boxes):
        instances = Instances(boxes, bbox_format="xyxy", normalized=False)
        return effects({"img": noise.copy(), "instances": instances})["img"]

    assert (seen(BOX) == noise).all()
    after = seen(np.zeros((0, 4)))
    assert np.abs(np.diff(after.astype(int), axis=1)).mean() < 0.2 * np.abs(np.diff(noise.astype(int), axis=1)).mean()


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 60), st.integers(20, 60), st.integers(0, 2**31))
def test_a_turned_picture_has_its_faces_in_the_turned_boxes(height, width, seed):
    random.seed(seed)
    rng = np.random.default_rng(seed)
    x1, x2 = np.sort(rng.choice(width, 2, replace=False))
    y1, y2 = np.sort(rng.choice(height, 2, replace=False))
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y1:y2, x1:x2] = 255
    picture[y1, x1] = 100  # a corner, to see that it moves
    after, boxes = turned(picture, np.array([[x1, y1, x2, y2]], np.float32))
    assert after.shape == picture.shape and after.flags.c_contiguous and boxes.dtype == np.float32
    assert tuple(boxes[0]) == changed(after, np.zeros_like(after))
    y, x = np.argwhere(after[..., 0] == 100)[0]
    left, top, right, bottom = boxes[0].astype(int)
    assert (x, y) in ({(right - 1, bottom - 1)} | ({(left, bottom - 1), (right - 1, top)} if height == width else set()))


def test_pictures_are_turned_all_three_ways(noise):
    seen = [turned(noise[:, :240], BOX)[0] for _ in range(40)]
    ways = [sum((one == np.rot90(noise[:, :240], quarters)).all() for one in seen) for quarters in range(4)]
    assert sum(ways) == 40 and ways[0] == 0 and ways[2] > 10 and min(ways[1], ways[3]) > 3


def test_what_turns_is_the_picture_with_its_boxes(noise):
    from ultralytics.utils.instance import Instances

    instances = Instances(BOX / (300, 240, 300, 240), bbox_format="xyxy", normalized=True)
    out = augment.Effects(0.0, 0.0, 1.0, 0.0)({"img": noise.copy(), "instances": instances})
    assert (out["img"] == noise[::-1, ::-1]).all()
    assert out["instances"].bboxes == pytest.approx(np.array([[130, 120, 160, 160]]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-30, 190)] * 2, *[st.floats(0.5, 150)] * 2), max_size=4), st.integers(0, 2**31))
def test_any_boxes_will_do(found, seed):
    random.seed(seed)
    picture = np.random.default_rng(seed).integers(0, 256, (90, 150, 3), np.uint8)
    boxes = np.array([(x, y, x + width, y + height) for x, y, width, height in found]).reshape(-1, 4)
    for effect in (defocused, covered):
        out = effect(picture, boxes)
        assert out.shape == picture.shape and out.dtype == np.uint8
