"""Tracking: every picture back in order, gaps closed, boxes that contain what was found and never shrink fast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceblur_core.tracking import Tracker, Tracking, gaps
from faceblur_core.types import Detections, box_iou


def run(tracking, pictures):
    """Return the tracked faces of pictures, each a list of boxes."""
    tracker = Tracker(tracking)
    out = []
    for boxes in pictures:
        out += tracker.push(Detections(np.reshape(boxes, (-1, 4)), np.full(len(boxes), 0.9)))
    out += tracker.flush()
    return out, tracker


def contained(inner, outers, slack=0.05):
    return any(
        (o[0] <= inner[0] + slack) and (o[1] <= inner[1] + slack) and (o[2] >= inner[2] - slack) and (o[3] >= inner[3] - slack)
        for o in outers
    )


boxes = st.builds(
    lambda x, y, w, h: [x, y, x + w, y + h], st.floats(-50, 600), st.floats(-50, 400), st.floats(4, 200), st.floats(4, 200)
)
videos = st.lists(st.lists(boxes, max_size=4), max_size=40)
options = st.builds(Tracking, st.integers(0, 20), st.integers(0, 6), st.floats(0, 3), st.floats(0.01, 0.5))


@given(videos, options)
@settings(max_examples=80)
def test_every_picture_comes_back_and_what_was_found_in_it_is_hidden(pictures, tracking):
    out, tracker = run(tracking, pictures)
    assert len(out) == len(pictures)
    for found, tracked in zip(pictures, out, strict=True):
        assert len(tracked.tracks) == len(tracked.seen) == len(tracked.detections)
        assert len(set(tracked.tracks.tolist())) == len(tracked.tracks)
        assert int(tracked.seen.sum()) == len(found)
        for box in found:
            assert contained(box, tracked.detections.boxes)
    assert tracker.steadiness.faces == sum(len(one.tracks) for one in out)


@given(videos, options)
@settings(max_examples=80)
def test_boxes_never_shrink_fast_and_tracks_have_no_holes(pictures, tracking):
    out, tracker = run(tracking, pictures)
    sizes, shown = {}, {}
    for frame, tracked in enumerate(out):
        for number, box in zip(tracked.tracks.tolist(), tracked.detections.boxes, strict=True):
            size = box[2:] - box[:2]
            if number in sizes:
                assert (size >= sizes[number] * (1 - tracking.shrink) - 0.01).all()
            sizes[number] = size
            shown.setdefault(number, []).append(frame)
    assert len(shown) == tracker.steadiness.tracks
    for frames in shown.values():
        assert frames == list(range(frames[0], frames[-1] + 1))


@given(videos, options, st.integers(0, 39))
@settings(max_examples=40)
def test_a_picture_depends_on_no_later_one_than_it_may(pictures, tracking, cut):
    """What was given back is final: it is the same whatever comes after the look-ahead."""
    tracker = Tracker(tracking)
    early = [one for found in pictures[:cut] for one in tracker.push(Detections(np.reshape(found, (-1, 4)), np.ones(len(found))))]
    whole, _ = run(tracking, pictures)
    for one, other in zip(early, whole, strict=False):
        assert np.array_equal(one.detections.boxes, other.detections.boxes)


def covered(box, others, grow=1.4):
    """Whether a box is covered by at least 0.9 once the others are grown, as ``mask.grow`` does."""
    for x1, y1, x2, y2 in others:
        dx, dy = (x2 - x1) * (grow - 1) / 2, (y2 - y1) * (grow - 1) / 2
        width, height = min(box[2], x2 + dx) - max(box[0], x1 - dx), min(box[3], y2 + dy) - max(box[1], y1 - dy)
        if min(width, height) > 0 and width * height > 0.9 * (box[2] - box[0]) * (box[3] - box[1]):
            return True
    return False


def walk(frames, *, x=50.0, speed=4.0, size=60.0, bend=0.0, y=100.0):
    return [
        [x + speed * t, y + bend * np.sin(t / 9), x + speed * t + size, y + bend * np.sin(t / 9) + size * 1.2]
        for t in range(frames)
    ]


@pytest.mark.parametrize("length", [1, 5, 15, 24])
@pytest.mark.parametrize("bend", [0.0, 25.0])
def test_a_gap_is_closed_from_both_sides(length, bend):
    truth = walk(80, bend=bend)
    pictures = [[] if 30 <= t < 30 + length else [box] for t, box in enumerate(truth)]
    for tracking, lost in ((Tracking(), 0), (Tracking(0, 0), length)):
        out, tracker = run(tracking, pictures)
        hidden = [covered(box, one.detections.boxes) for box, one in zip(truth, out, strict=True)]
        assert gaps(hidden).sum() == lost
        if tracking.look_ahead:
            assert tracker.steadiness.tracks == 1 and tracker.steadiness.gaps == length
            assert tracker.steadiness.gaps_per_1000 == pytest.approx(1000 * length / (80 + tracking.hold), rel=0.05)


def test_a_gap_longer_than_the_look_ahead_is_two_tracks():
    truth = walk(90, speed=1)
    out, tracker = run(Tracking(10), [[] if 30 <= t < 41 else [box] for t, box in enumerate(truth)])
    assert tracker.steadiness.tracks == 2
    assert [len(one.detections) for one in out][30:41] == [1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1]


def test_a_face_is_hidden_a_little_before_and_after():
    truth = walk(30)
    out, _ = run(Tracking(hold=3), [[box] if 10 <= t < 20 else [] for t, box in enumerate(truth)])
    shown = [t for t, one in enumerate(out) if len(one.detections)]
    assert shown == list(range(7, 23))
    for t in shown:
        assert box_iou(np.float32([truth[t]]), out[t].detections.boxes)[0, 0] > 0.6


def test_faces_that_cross_are_both_hidden_all_the_time():
    right, left = walk(60, x=0, speed=5), walk(60, x=295, speed=-5, y=106)
    pictures = [[a] if abs(a[0] - b[0]) < 45 else [a, b] for a, b in zip(right, left, strict=True)]  # one hides the other
    out, _ = run(Tracking(), pictures)
    for truth in (right, left):
        assert all(any(box_iou(np.float32([box]), one.detections.boxes)[0] > 0.5) for box, one in zip(truth, out, strict=True))


def test_trembling_boxes_are_steadied():
    rng = np.random.default_rng(1)
    pictures = [[np.array(box) + rng.normal(0, 2, 4)] for box in walk(100)]
    _, tracker = run(Tracking(), pictures)
    before, after = tracker.steadiness.jitter
    assert after < before / 2


def test_memory_does_not_grow():
    tracker = Tracker(Tracking())
    for box in walk(3000, speed=0.1):
        list(tracker.push(Detections(np.array([box]), np.ones(1))))
    [track] = tracker._tracks
    assert len(track.frames) < 80 and len(tracker._waiting) == 24


def test_gaps_are_counted_between_the_first_and_the_last():
    assert gaps([False, True, False, False, True, False]).sum() == 2
    assert gaps([]).sum() == gaps([False]).sum() == gaps([True]).sum() == 0
