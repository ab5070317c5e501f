"""A second look at an image: whose boxes count, and what becomes of a face that both looks found."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from faceblur_core.closeups import CLEAR, LARGE, joined, with_closeups
from faceblur_core.types import Detections


def found(*faces: tuple[float, float, float, float, float]) -> Detections:
    rows = np.array(faces, np.float32).reshape(-1, 5)
    return Detections(rows[:, :4], rows[:, 4])


def test_a_part_with_the_better_score_does_not_stand_for_the_whole_face() -> None:
    part, whole = (10.0, 10.0, 90.0, 70.0, 0.9), (10.0, 10.0, 90.0, 100.0, 0.6)
    merged = joined(found(part), found(whole), 0.5)
    assert merged.boxes.tolist() == [[10, 10, 90, 100]]
    np.testing.assert_allclose(merged.scores, [0.9])


def test_boxes_that_do_not_meet_stay_as_they_are() -> None:
    merged = joined(found((0, 0, 10, 10, 0.3)), found((20, 20, 90, 90, 0.8)), 0.5)
    assert merged.boxes.tolist() == [[20, 20, 90, 90], [0, 0, 10, 10]]


CORNER = st.floats(0, 50, width=32)
SIDE = st.floats(1, 50, width=32)
FACES = st.lists(st.tuples(CORNER, CORNER, SIDE, SIDE, st.floats(0, 1, width=32)), max_size=6)


@given(FACES, FACES, st.floats(0.05, 1))
def test_each_face_of_the_second_look_lies_within_a_box(first: list, second: list, iou: float) -> None:
    one, other = (found(*((x, y, x + w, y + h, s) for x, y, w, h, s in faces)) for faces in (first, second))
    merged = joined(one, other, iou)
    assert len(merged) <= len(one) + len(other)
    for x0, y0, x1, y1 in other.boxes:
        low, high = merged.boxes[:, :2], merged.boxes[:, 2:]
        assert ((low <= [x0, y0]) & (high >= [x1, y1])).all(axis=1).any()


def test_of_the_second_look_the_large_and_clear_faces_count() -> None:
    imgsz, longer = 480, 960  # LARGE pixels of the first look are twice as many of the image's
    large, small = 2.0 * LARGE, 2.0 * LARGE - 8
    second = found((0, 0, large, 300, CLEAR), (0, 0, 300, large, CLEAR - 0.05), (300, 400, 500, 400 + small, 0.9))
    asked = []

    def look(side: int) -> Detections:
        asked.append(side)
        return found((900, 0, 950, 50, 0.3)) if side == imgsz else second

    merged = with_closeups(look, imgsz, 256, longer, 0.5, 300)
    assert asked == [480, 256]
    assert merged.boxes.tolist() == [[0, 0, large, 300], [900, 0, 950, 50]]
    assert len(with_closeups(look, imgsz, 256, longer, 0.5, 1)) == 1  # the best
    assert len(with_closeups(look, imgsz, 0, longer, 0.5, 300)) == 1
    assert asked == [480, 256, 480, 256, 480]
