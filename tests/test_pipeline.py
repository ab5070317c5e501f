"""Geometry of masks, tiles and unions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.pipeline import (
    Border,
    BorderedDetector,
    DetectAndObfuscate,
    MaskShape,
    TiledDetector,
    Tiling,
    UnionDetector,
    close,
)
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.checks import checked_share
from faceblur_core.types import Anonymized, Detections, Ellipse, box_iou

sizes = st.integers(1, 120)
coordinates = st.floats(-60, 160, width=32)


@st.composite
def boxes(draw):
    x, y = draw(coordinates), draw(coordinates)
    return [x, y, x + draw(st.floats(0, 150, width=32)), y + draw(st.floats(0, 150, width=32))]


def one(box, score=1.0):
    return Detections([box], [score])


@given(boxes(), sizes, sizes, st.floats(1, 3), st.sampled_from(["ellipse", "rectangle"]), st.floats(0, 1))
def test_masks_are_what_is_documented(box, height, width, grow, shape, feather):
    mask = MaskShape(shape=shape, grow=grow, feather=feather)(one(box), height, width)
    assert mask.shape == (height, width) and mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1
    x1, y1, x2, y2 = np.float32(box).astype(float)
    if x2 - x1 < 1e-3 or y2 - y1 < 1e-3:
        assert not mask.any()
        return
    y, x = np.mgrid[0.5:height, 0.5:width]
    dx, dy = (x - (x1 + x2) / 2) / ((x2 - x1) / 2 * grow), (y - (y1 + y2) / 2) / ((y2 - y1) / 2 * grow)
    inside = dx**2 + dy**2 < 0.999 if shape == "ellipse" else (abs(dx) < 0.999) & (abs(dy) < 0.999)
    assert (mask[inside] == 1).all()  # the whole grown outline is hidden fully
    near_x, near_y = 0.02 * (x2 - x1), 0.02 * (y2 - y1)
    dx[(dx < 0) & (x1 <= near_x * 1.001) | (dx > 0) & (x2 >= width - near_x * 1.001)] = 0  # open where the image cuts the face
    dy[(dy < 0) & (y1 <= near_y * 1.001) | (dy > 0) & (y2 >= height - near_y * 1.001)] = 0
    far = (abs(dx) > 1 + feather + 1e-3) | (abs(dy) > 1 + feather + 1e-3)
    assert (mask[far] == 0).all()  # and nothing beyond the feather


def test_the_grow_factor_is_exact():
    mask = MaskShape(shape="rectangle", grow=1.5, feather=0)(one([40, 30, 60, 70]), 100, 100)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (columns[0], columns[-1] + 1) == (35, 65) and (rows[0], rows[-1] + 1) == (20, 80)
    ellipse = MaskShape(grow=1.3, feather=0)(one([40, 30, 60, 70]), 100, 100)
    assert ellipse.sum() == pytest.approx(np.pi * 13 * 26, rel=0.01)


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
@pytest.mark.parametrize(
    ("box", "line"),
    [
        ([-10, 30, 20, 60], np.s_[35:55, 0]),
        ([80, 30, 100, 60], np.s_[35:55, -1]),
        ([30, 0, 60, 25], np.s_[0, 35:55]),
        ([30, 70, 60, 120], np.s_[-1, 35:55]),
        ([0, 0, 20, 20], np.s_[0, 0]),
        ([80, 80, 100, 100], np.s_[-1, -1]),
        ([-50, -50, 3, 3], np.s_[:3, :3]),
        ([97, -50, 150, 3], np.s_[:3, -3:]),
    ],
)
def test_faces_at_the_borders_are_hidden_up_to_them(box, line, shape):
    mask = MaskShape(shape=shape, grow=1.0, feather=0)(one(box), 100, 100)
    assert (mask[line] == 1).all()


def test_a_face_cut_off_by_the_edge_has_no_open_corner():
    """A box clipped at x = 0 is half a face: its inscribed ellipse alone would leave the corners at the edge open."""
    mask = MaskShape(grow=1.0, feather=0)(one([0, 30, 20, 70]), 100, 100)
    assert (mask[31:69, 0] == 1).all()


def test_a_pixel_mask_is_taken_as_it_is():
    pixels = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    assert np.array_equal(MaskShape()(Detections([[0, 0, 5, 5]], [1], mask=pixels), 20, 30), pixels)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 900), st.floats(0, 0.85))
@settings(max_examples=60)
def test_tiles_cover_the_image(height, width, size, overlap):
    tiles = list(Tiling(size=size, overlap=overlap).tiles(height, width))
    if max(height, width) <= size:
        assert tiles == []
        return
    rows, columns = np.zeros(height, bool), np.zeros(width, bool)
    for x1, y1, x2, y2 in tiles:
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height and x2 - x1 <= size and y2 - y1 <= size
        rows[y1:y2] = columns[x1:x2] = True
    assert rows.all() and columns.all()
    assert len(tiles) == len({(x, y) for x, y, _, _ in tiles})


class Bright:
    """Finds the bounding box of white pixels, if it fits a 64-pixel window: blind to small things in large pictures."""

    def __call__(self, image):
        if max(image.shape[:2]) > 64:
            return Detections.none()
        y, x = np.nonzero(image[..., 0] == 255)
        return one([x.min(), y.min(), x.max() + 1, y.max() + 1]) if len(x) else Detections.none()


def test_tiles_find_what_the_whole_image_does_not_show():
    image = np.zeros((200, 300, 3), np.uint8)
    image[100:110, 200:208] = 255
    assert len(Bright()(image)) == 0
    found = TiledDetector(Bright(), Tiling(size=64))(image)
    assert found.boxes.tolist() == [[200, 100, 208, 110]]


def test_half_a_face_at_a_tiles_edge_is_not_a_second_face():
    image = np.zeros((64, 160, 3), np.uint8)
    image[20:40, 40:60] = 255  # the second tile, from x = 48, sees its right half only
    found = TiledDetector(Bright(), Tiling(size=64))(image)
    assert found.boxes.tolist() == [[40, 20, 60, 40]]


def test_a_whole_face_comes_before_a_surer_half_of_it():
    """Seen on a real photo: the part of a face in a tile, its box just inside the tile's side, had the better score."""

    def detector(image):
        if image.shape[1] == 160:
            return one([40, 20, 70, 40], 0.90)
        return one([44, 20, 62, 40], 0.95) if image[0, 0, 0] == 255 else Detections.none()

    image = np.zeros((64, 160, 3), np.uint8)
    image[0, 0] = 255  # marks the first tile, which ends at x = 64
    assert TiledDetector(detector, Tiling(size=64))(image).boxes.tolist() == [[40, 20, 70, 40]]


def test_a_face_larger_than_the_overlap_is_still_hidden():
    image = np.zeros((64, 200, 3), np.uint8)
    image[10:50, 20:110] = 255  # no tile sees it whole
    found = TiledDetector(Bright(), Tiling(size=64))(image)
    hidden = MaskShape(shape="rectangle", grow=1, feather=0)(found, 64, 200)
    assert (hidden[10:50, 20:110] == 1).all()


class Surrounded:
    """Finds the bounding box of white pixels, if none is at the edge: blind to what fills the picture."""

    def __call__(self, image):
        y, x = np.nonzero(image[..., 0] == 255)
        seen = len(x) and min(x.min(), y.min(), image.shape[1] - 1 - x.max(), image.shape[0] - 1 - y.max()) > 3
        return one([x.min(), y.min(), x.max() + 1, y.max() + 1]) if seen else Detections.none()


@given(st.integers(20, 90), st.integers(20, 90), st.floats(0.1, 1))
@settings(max_examples=50)
def test_a_border_lets_a_detector_find_what_fills_the_picture(height, width, share):
    image = np.full((height, width, 3), 255, np.uint8)
    assert len(Surrounded()(image)) == 0 and not Border().share
    found = BorderedDetector(Surrounded(), Border(share=share))(image)
    assert found.boxes.tolist() == ([[0, 0, width, height]] if round(share * max(height, width)) > 3 else [])


def test_what_is_small_counts_only_without_the_border():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:30, :49] = 255
    assert len(BorderedDetector(Surrounded(), Border(share=0.5))(image)) == 0
    image[:30, :50] = 255
    assert BorderedDetector(Surrounded(), Border(share=0.5))(image).boxes.tolist() == [[0, 0, 50, 30]]
    image = np.zeros((100, 100, 3), np.uint8)
    image[10:90, 10:90] = 255  # found in both looks, once
    assert BorderedDetector(Surrounded(), Border(share=0.5))(image).boxes.tolist() == [[10, 10, 90, 90]]


def test_a_whole_face_is_hidden_though_a_part_of_it_scored_better():
    class Part:
        def __call__(self, image):
            size = max(image.shape)
            return one([0, 0, 100, 60], 0.9) if size == 100 else one([50, 50, 150, 150], 0.6)

    found = BorderedDetector(Part(), Border(share=0.5))(np.zeros((100, 100, 3), np.uint8))
    assert found.boxes.tolist() == [[0, 0, 100, 100]] and found.scores == pytest.approx([0.9])


def test_a_large_image_is_reduced_for_the_look_with_a_border():
    class Seen(Surrounded):
        shapes = []

        def __call__(self, image):
            self.shapes.append(image.shape[:2])
            return super().__call__(image)

    image = np.full((3000, 4000, 3), 255, np.uint8)
    found = BorderedDetector(Seen(), Border(share=1))(image)
    np.testing.assert_allclose(found.boxes, [[0, 0, 4000, 3000]], atol=0.1)
    assert Seen.shapes[0] == (3000, 4000) and 3_900_000 < np.prod(Seen.shapes[1]) <= 4_100_000
    BorderedDetector(Seen(), Border(share=2))(np.zeros((1, 60_000, 3), np.uint8))
    assert np.prod(Seen.shapes[-1]) <= 4_100_000


def test_pixels_of_one_look_and_boxes_of_the_other():
    class Mixed:
        def __call__(self, image):
            if max(image.shape) > 100:
                return Detections([[60, 60, 140, 140], [52, 52, 56, 56]], [0.9, 0.9])
            return Detections([], [], mask=np.zeros(image.shape[:2], np.float32))

    shape = MaskShape(grow=1, feather=0, shape="rectangle")
    found = BorderedDetector(Mixed(), Border(share=0.5), shape)(np.zeros((100, 100, 3), np.uint8))
    assert found.boxes.tolist() == [[10, 10, 90, 90]] and found.mask.sum() == 6400 and found.mask[50, 50] == 1


def test_pixel_masks_of_a_look_with_a_border_are_joined():
    class Pixels:
        def __call__(self, image):
            return Detections([], [], mask=(image[..., 0] == 255).astype(np.float32) * (max(image.shape) > 100))

    image = np.zeros((80, 100, 3), np.uint8)
    image[70:, 90:] = 255
    found = BorderedDetector(Pixels(), Border(share=0.25))(image)
    assert found.mask.shape == (80, 100) and found.mask.sum() == 100 and found.mask[75, 95] == 1


@pytest.mark.parametrize(("name", "alone"), [("haar", 0.75), ("mediapipe", 0.6)])
def test_a_border_helps_detectors_with_faces_that_fill_the_picture(shared, name, alone):
    """On photos of UTKFace: the share with a box of half their height. Measured: haar 0.43 and 0.97, mediapipe 0.35 and 1."""
    paths = sorted((shared / "data/utkface/test").glob("*.jpg"))[::10]
    detector = installed_plugins().make("detector", name)
    found = []
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        looks = detector(image), BorderedDetector(detector, Border(share=0.5))(image)
        found.append([bool((look.boxes[:, 3] - look.boxes[:, 1] > 100).any()) for look in looks])
    close(detector)
    without, bordered = np.mean(found, axis=0)
    assert len(paths) >= 50 and without <= alone and bordered >= 0.9


def test_pixel_masks_of_tiles_are_joined():
    class Pixels:
        def __call__(self, image):
            return Detections([], [], mask=(image[..., 0] == 255).astype(np.float32) * (max(image.shape) <= 64))

    image = np.zeros((100, 100, 3), np.uint8)
    image[90:, 90:] = 255
    found = TiledDetector(Pixels(), Tiling(size=64))(image)
    assert found.mask.sum() == 100


def test_pixels_and_boxes_of_tiles_are_joined():
    class Either:
        """Gives pixels for the whole image and a box on tiles, or the other way round."""

        def __init__(self, pixels_on_tiles):
            self.pixels_on_tiles = pixels_on_tiles

        def __call__(self, image):
            if (max(image.shape) <= 64) == self.pixels_on_tiles:
                return Detections([], [], mask=(image[..., 0] == 255).astype(np.float32))
            return Bright()(image)

    image = np.zeros((100, 100, 3), np.uint8)
    image[20:30, 20:30] = 255
    for pixels_on_tiles in (True, False):
        found = TiledDetector(Either(pixels_on_tiles), Tiling(size=64), MaskShape(grow=1, feather=0, shape="rectangle"))(image)
        assert (found.mask[20:30, 20:30] == 1).all()


def fixed(*found):
    return lambda image: Detections([box for box, _ in found], [score for _, score in found])


IMAGE = np.zeros((100, 100, 3), np.uint8)


def test_a_union_is_large_enough_for_every_box():
    detectors = {"a": fixed(([10, 10, 30, 30], 0.9)), "b": fixed(([12, 8, 32, 28], 0.5), ([60, 60, 80, 80], 0.4))}
    found = UnionDetector(detectors)(IMAGE)
    assert found.boxes.tolist() == [[10, 8, 32, 30], [60, 60, 80, 80]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.4])


def test_k_of_n_needs_that_many_different_detectors():
    detectors = {
        "a": fixed(([10, 10, 30, 30], 0.9), ([11, 11, 31, 31], 0.8)),  # two boxes of one detector are one vote
        "b": fixed(([60, 60, 80, 80], 0.4)),
        "c": fixed(([61, 61, 81, 81], 0.3)),
    }
    assert UnionDetector(detectors, votes=2)(IMAGE).boxes.tolist() == [[60, 60, 81, 81]]
    assert len(UnionDetector(detectors, votes=3)(IMAGE)) == 0
    for votes in (0, 4):
        with pytest.raises(UsageMistake, match="must be from 1 to 3"):
            UnionDetector(detectors, votes=votes)


def test_a_union_of_boxes_and_pixels_votes_by_pixel():
    pixels = np.zeros((100, 100), np.float32)
    pixels[:50] = 1
    detectors = {"boxes": fixed(([40, 40, 60, 60], 1)), "pixels": lambda image: Detections([], [], mask=pixels)}
    shape = MaskShape(shape="rectangle", grow=1, feather=0)
    assert UnionDetector(detectors, 1, mask=shape)(IMAGE).mask.sum() == 5000 + 200
    assert UnionDetector(detectors, 2, mask=shape)(IMAGE).mask.sum() == 200
    away = {**detectors, "boxes": fixed(([70, 70, 90, 90], 1))}
    assert len(UnionDetector(away, 2, mask=shape)(IMAGE)) == 0  # a box that was voted out is no face


@given(st.lists(boxes(), max_size=8), st.floats(0.05, 1))
def test_suppression_leaves_no_overlap_and_no_hole(some, iou):
    found = Detections(np.reshape(some, (-1, 4)), np.linspace(1, 0.1, len(some)))
    kept = found.nms(iou)
    overlap = box_iou(kept.boxes, kept.boxes)
    assert (overlap[~np.eye(len(kept), dtype=bool)] <= iou).all()
    everything = box_iou(found.boxes, kept.boxes)
    for box, row in zip(found.boxes, everything, strict=True):
        assert (row > iou).any() or any(np.array_equal(box, other) for other in kept.boxes)


def test_iou_is_known():
    assert box_iou(
        np.float32([[0, 0, 10, 10]]), np.float32([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30], [3, 3, 3, 3]])
    ).tolist()[0] == pytest.approx([1 / 3, 1, 0, 0])


@given(boxes(), st.floats(-50, 50), st.floats(-50, 50), st.floats(0.25, 4))
def test_moving_and_scaling_can_be_undone(box, dx, dy, factor):
    found = Detections([box], [1], [[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]])
    back = found.shifted(dx, dy).shifted(-dx, -dy).scaled(factor, 2).scaled(1 / factor, 0.5)
    np.testing.assert_allclose(back.boxes, found.boxes, atol=1e-2)
    np.testing.assert_allclose(back.landmarks, found.landmarks, atol=1e-2)


def test_reframing_is_in_box_sizes():
    assert Detections([[10, 20, 30, 60]], [1]).reframed(0.1, -0.5, 2, 0.5).boxes.tolist() == [[2, 10, 42, 30]]


def test_landmarks_survive_joining_only_if_all_have_them():
    points = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    with_points, without = Detections([[0, 0, 1, 1]], [1], points), one([5, 5, 6, 6])
    assert Detections.concat([with_points, Detections.none()]).landmarks.shape == (1, 5, 2)
    assert Detections.concat([with_points, without]).landmarks is None
    assert len(Detections.concat([])) == 0


@pytest.mark.parametrize(
    ("angle", "inside", "outside"), [(0, (69, 50), (50, 69)), (np.pi / 2, (50, 69), (69, 50)), (np.pi / 4, (63, 63), (63, 37))]
)
def test_an_ellipse_turns_the_way_it_says(angle, inside, outside):
    area = Ellipse(50, 50, 20, 5, angle).inside(100, 100)
    assert area[inside[1], inside[0]] and not area[outside[1], outside[0]]
    assert area.sum() == pytest.approx(np.pi * 100, rel=0.03)


def test_a_face_that_left_through_a_corner_breaks_no_contract():
    shape = MaskShape(grow=1.0)
    for box in ([-50, -50, 3, 3], [-50, -54, -2, 2]):
        method = DetectAndObfuscate(fixed((box, 1)), lambda image, mask: image | (mask > 0)[..., None], shape)
        assert (checked_share(IMAGE, method(IMAGE)) > 0) == (box[2] > 0)


def test_nothing_found_means_the_very_same_picture():
    result = DetectAndObfuscate(lambda image: Detections.none(), lambda image, mask: 1 / 0)(IMAGE)
    assert result.image is IMAGE and not result.mask.any() and set(result.info["ms"]) == {"detect", "obfuscate"}


@pytest.mark.parametrize("part", ["rim", "third"])
def test_a_face_of_which_most_is_left_is_not_hidden(part):
    before = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    mask = np.zeros((200, 200), np.float32)
    mask[50:150, 50:150] = 1
    left = np.s_[60:140, 60:140] if part == "rim" else np.s_[50:115, 50:150]
    after = np.where(mask[..., None] > 0, np.uint8(0), before)
    after[left] = before[left]
    found = Detections([[50, 50, 150, 150]], [1])
    with pytest.raises(FaceblurError, match=r"a face at \[50.0, 50.0, 150.0, 150.0\] and left most of it as it was"):
        checked_share(before, Anonymized(after, mask, found))
    smooth = np.repeat(np.tile(np.arange(200, dtype=np.uint8), (200, 1))[..., None], 3, axis=2)
    after = smooth.copy()  # there are no edges to be seen in it, and so most of it may stay
    after[100] = 0
    assert checked_share(smooth, Anonymized(after, mask, found)) > 0


def test_a_face_that_left_the_picture_is_not_the_one_that_stayed_as_it_was():
    before = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    after, mask = before.copy(), np.zeros((200, 200), np.float32)
    after[100:140, 100:140] = 0
    mask[100:140, 100:140] = mask[50:58, 50:58] = 1  # the second too small to say whether it was hidden
    boxes = [[100, 100, 140, 140], [50, 50, 58, 58], [40, -60, 70, -20]]
    assert checked_share(before, Anonymized(after, mask, Detections(boxes, [1, 1, 1]))) > 0
