"""The recognisers, the calibrated threshold, the ranks and the restoring filter, each with a known answer."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from faceblur_core.alignment import TEMPLATE, align
from faceblur_core.errors import FaceblurError, UnknownName
from faceblur_core.testing import EmbedderContract, MetricContract, check_component
from faceblur_core.testsets.samples import PORTRAIT_FACE, PORTRAIT_POINTS
from faceblur_core.types import Anonymized, Ellipse, Sample
from faceblur_identity.embedders import embedder
from faceblur_identity.metrics import Cosine, Naive, Parrot, Restoration, Wiener, ranks, threshold


class TestCosine(MetricContract):
    name = "cosine"


class TestMobileFaceNet(EmbedderContract):
    name = "mobilefacenet"
    face = align(data.astronaut(), PORTRAIT_POINTS)


@pytest.mark.parametrize("attack", ["naive", "parrot", "restoration"])
def test_the_attacks_keep_the_contract(attack):
    results = check_component("metric", f"reidentified-{attack}")
    assert [result for result in results if result.outcome != "passed"] == []


@pytest.fixture
def portrait(astronaut) -> Sample:
    return Sample("astronaut", astronaut, (PORTRAIT_FACE, PORTRAIT_FACE), "eileen", landmarks=(PORTRAIT_POINTS, None))


def shown(image: np.ndarray) -> Anonymized:
    return Anonymized(image, np.zeros(image.shape[:2], np.float32))


def test_cosine_is_one_for_a_copy_and_little_without_a_face(portrait):
    copy = Cosine()(portrait, shown(portrait.image))
    assert copy[0] == pytest.approx(1, abs=1e-6) and copy[1] == 1  # without landmarks, and untouched
    black = Cosine()(portrait, shown(np.zeros_like(portrait.image)))
    assert black[0] < 0.4 and np.isnan(black[1])  # without landmarks, and changed: not defined, and counted as missing
    unlike = Cosine()(portrait, shown(cv2.GaussianBlur(portrait.image, (0, 0), 25)))
    near = Cosine()(portrait, shown(cv2.GaussianBlur(portrait.image, (0, 0), 1)))
    assert unlike[0] < 0.4 < near[0] < 1
    assert Cosine()(Sample("x", portrait.image), shown(portrait.image)).shape == (0,)
    assert Cosine().note == "embedder mobilefacenet"


def test_a_face_without_landmarks_is_like_itself_only_if_no_pixel_of_its_box_has_changed(portrait):
    x1, y1, x2, y2 = (round(side) for side in PORTRAIT_FACE.bounds())
    height, width = portrait.image.shape[:2]
    beyond = Ellipse(width + 50, height + 50, 20, 20)
    sample = Sample("x", portrait.image, (PORTRAIT_FACE, beyond), landmarks=(None, None))
    inside, outside = ((y1 + 1, x1 + 1), (y2 - 1, x2 - 1)), ((y1 - 2, x1 - 2), (y2 + 2, x2 + 2))
    for (row, column), expected in [(pixel, np.nan) for pixel in inside] + [(pixel, 1.0) for pixel in outside]:
        changed = portrait.image.copy()
        changed[row, column] ^= 1
        np.testing.assert_array_equal(Cosine()(sample, shown(changed)), [expected, np.nan])


def test_embeddings_do_not_depend_on_who_else_is_asked(portrait):
    face = align(portrait.image, PORTRAIT_POINTS)
    both = embedder("mobilefacenet")(np.stack([255 - face, face]))
    alone = embedder("mobilefacenet")(face[None])
    assert (both[1] == alone[0]).all() and np.linalg.norm(both, axis=1) == pytest.approx([1, 1])
    with pytest.raises(UnknownName, match="embedder"):
        embedder("facenet")


def test_alignment_puts_landmarks_where_arcface_has_them(portrait):
    drawn = np.zeros_like(portrait.image)
    turned = cv2.transform(TEMPLATE[None], np.array([[1.2, -0.6, 200], [0.6, 1.2, 150]]))[0].astype(np.float32)
    for x, y in turned:
        cv2.circle(drawn, (round(float(x)), round(float(y))), 3, (255, 255, 255), -1)
    face = align(drawn, turned)
    assert face.shape == (112, 112, 3) and all(face[round(y), round(x), 0] > 200 for x, y in TEMPLATE)
    with pytest.raises(FaceblurError, match="one point"):
        align(drawn, np.ones((5, 2), np.float32))


# The threshold


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(2, 40), st.sampled_from([1e-3, 0.01, 0.1, 0.5]), st.integers(0, 1000))
def test_the_threshold_reproduces_its_false_match_rate(count, rate, seed):
    rng = np.random.default_rng(seed)
    vectors, people = unit(rng.normal(size=(count, 4))), [str(person) for person in rng.integers(0, count, count)]
    limit = threshold(vectors, people, rate)
    cosines = vectors @ vectors.T
    pairs = np.array([cosines[i, j] for i in range(count) for j in range(i + 1, count) if people[i] != people[j]])
    if not len(pairs):
        assert np.isnan(limit)
        return
    assert (pairs >= limit).sum() == int(rate * len(pairs))
    assert (pairs >= np.nextafter(np.float32(limit), np.float32(-2))).sum() > int(rate * len(pairs))  # and it is the least such


def test_the_threshold_with_equal_pairs_stays_below_the_rate():
    vectors = unit(np.array([[1, 0], [1, 0], [1, 0], [0, 1]]))
    assert threshold(vectors, list("abcd"), 0.3) > 1  # three of six pairs are equal: all, or none
    assert np.isnan(threshold(vectors, list("aaaa"), 0.3)) and np.isnan(threshold(vectors[:0], [], 0.3))


def test_calibration_takes_the_first_face_of_each_person(portrait):
    other = Sample("other", portrait.image[:, ::-1].copy(), (PORTRAIT_FACE,), "nobody", landmarks=(PORTRAIT_POINTS,))
    unknown = Sample("unknown", portrait.image, (PORTRAIT_FACE,), None, landmarks=(PORTRAIT_POINTS,))
    vectors = np.stack([embedder("mobilefacenet")(align(s.image, PORTRAIT_POINTS)[None])[0] for s in (portrait, other)])
    found = Cosine().calibrate([portrait, unknown, other])["calibrated"]
    assert found == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)


# Ranks


def seen(person: str, before, after) -> dict[str, np.ndarray]:
    return {"person": np.array(person), "before": unit(np.array([before]))[0], "after": unit(np.array([after]))[0]}


AXES = np.eye(3)


def figures(metric, observations, weights=None):
    prepared = metric.prepare(observations, [])
    return metric.figures(prepared, np.ones(len(observations)) if weights is None else np.array(weights, float))


def test_naive_ranks_by_hand():
    photos = [seen("a", AXES[0], AXES[0]), seen("b", AXES[1], AXES[0]), seen("c", AXES[2], AXES[2]), {}]
    photos += [
        seen("a", AXES[0], AXES[0]),
        seen("b", AXES[1], [1, 0.5, 0]),
        seen("c", AXES[2], [1, 0.5, 0.2]),
        seen("d", AXES[0], AXES[0]),
    ]
    found = ranks(photos, gallery="before")  # d has one photo only, and nobody in the gallery
    assert found.probes.tolist() == [4, 5, 6] and found.above.tolist() == [0, 1, 2] and found.people == 3
    assert figures(Naive(), photos) == pytest.approx({"rank-1": 1 / 3, "rank-5": 1, "chance": 1 / 3})
    weighted = figures(Naive(), photos, [9, 9, 9, 9, 1, 3, 0, 9])
    assert weighted == pytest.approx({"rank-1": 1 / 4, "rank-5": 1, "chance": 1 / 3})
    assert np.isnan(list(figures(Naive(), photos, np.zeros(8)).values())).all()


def test_a_share_is_one_of_the_probes():
    a, b = seen("a", AXES[0], AXES[0]), seen("b", AXES[1], AXES[1])
    photos = [a, b, {}, a, b]
    assert Naive().counted(Naive().prepare(photos, [])).tolist() == [3, 4]


def test_parrot_compares_with_the_anonymized_gallery():
    photos = [seen("a", AXES[0], AXES[1]), seen("b", AXES[1], AXES[0])]
    photos += [seen("a", AXES[0], AXES[1]), seen("b", AXES[1], AXES[0])]  # the method swaps the two faces
    assert figures(Naive(), photos)["rank-1"] == 0 and figures(Parrot(), photos)["rank-1"] == 1


def test_who_is_no_different_from_others_is_found_by_chance():
    people = [str(number) for number in range(8)]
    black = [
        seen(person, vector, [1, 0, 0]) for person in people * 3 for vector in [np.random.default_rng(int(person)).normal(size=3)]
    ]
    assert figures(Parrot(), black) == pytest.approx({"rank-1": 1 / 8, "rank-5": 5 / 8, "chance": 1 / 8})
    noisy = [{**one, "after": one["after"] + np.float32(1e-8) * number} for number, one in enumerate(black)]
    assert figures(Parrot(), noisy) == pytest.approx(figures(Parrot(), black))
    assert figures(Naive(), black)["rank-1"] == pytest.approx(1 / 8)  # all are taken for the same one


def test_nobody_to_be_taken_for():
    alone = [seen("a", AXES[0], AXES[0])] * 4
    for observations in ([], [{}], alone):
        assert np.isnan(list(figures(Naive(), observations).values())).all()


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_people_changes_nothing(seed, random):
    rng = np.random.default_rng(seed)
    photos = [[seen(str(person), *rng.normal(size=(2, 3))) for _ in range(rng.integers(1, 4))] for person in range(6)]
    other = photos[:]
    random.shuffle(other)
    one, two = ([photo for person in order for photo in person] for order in (photos, other))
    assert figures(Naive(), one) == pytest.approx(figures(Naive(), two), nan_ok=True)


# The filter that undoes a method


def face_like(rng: np.random.Generator) -> np.ndarray:
    """A smooth random picture, of which 12 values decide all: what faces have in common, there is to learn."""
    y, x = np.mgrid[:112, :112] / 112
    waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in ((1, 0, 0), (0, 1, 0.2), (2, 1, 0.4), (3, 3, 0.1))]
    planes = [sum(amount * wave for amount, wave in zip(rng.normal(0, 20, 4), waves, strict=True)) for _ in range(3)]
    return np.clip(128 + np.stack(planes, axis=2), 0, 255).astype(np.uint8)


def test_the_filter_undoes_a_known_blur_and_leaves_a_copy_alone():
    rng = np.random.default_rng(0)
    before = [face_like(rng) for _ in range(60)]
    after = [cv2.GaussianBlur(face, (0, 0), 14) for face in before]
    restore = Wiener(after[:50], before[:50])

    def error(faces):
        return np.mean([np.square(a.astype(float) - b).mean() for a, b in zip(faces, before[50:], strict=True)])

    assert error([restore(face) for face in after[50:]]) < 0.2 * error(after[50:])
    copies = Wiener(before[:50], before[:50])
    assert error([copies(face) for face in before[50:]]) < 2
    assert copies.penalty == min((1e-3, 1e-2, 1e-1, 1.0))


def test_restoration_needs_faces_to_learn_from_and_says_so():
    rng = np.random.default_rng(1)
    faces = [face_like(rng) for _ in range(8)]
    photos = [{"person": np.array(str(i % 4)), "face_before": face, "face_after": face} for i, face in enumerate(faces)]
    with pytest.raises(FaceblurError, match="0 faces of test set 'others' are too few"):
        Restoration(train_on="others").prepare(photos, [{}])
    copied = Restoration(train_on="others").prepare([{**p, "face_before": p["face_after"]} for p in photos], photos)
    assert copied.people == 4 and len(copied.probes) == 4
    assert Restoration().prepare([], []).people == 0


def test_the_whole_of_it_by_compare(cli_compare):
    """A copy is found again, by all attacks; what is black is not, and the headline is the worst attack."""
    result, rows, folder = cli_compare(["copy", "black"])
    assert result.returncode == 0, result.stderr
    figures = {(r["method"], r["metric"], r["statistic"]): r for r in rows if r["slice"] == "all"}
    assert float(figures["copy", "cosine", "mean"]["value"]) == pytest.approx(1, abs=1e-6)
    assert figures["copy", "cosine", "share<0.4"]["value"] == "0" and float(figures["black", "cosine", "mean"]["value"]) < 0.6
    assert figures["copy", "cosine", "mean"]["note"] == "embedder mobilefacenet"
    for attack in ("naive", "parrot", "restoration"):
        assert figures["copy", f"reidentified-{attack}", "rank-1"]["value"] == "1"
        assert figures["black", f"reidentified-{attack}", "rank-1"]["value"] == "0.5"
    assert figures["copy", "reidentified", "rank-1"]["note"] == "worst attack: naive"
    facts = json.loads((folder / "run.json").read_text())
    assert set(facts["thresholds"]["cosine"]) == {"calibrated"}
    assert figures["copy", "reidentified-naive", "rank-1"]["count"] == "8", "the probes, half of the photos"
    networks = facts["methods"][0]["networks"]
    assert [*networks["cosine"]] == [*networks["reidentified-parrot"]] == ["mobilefacenet.onnx"]
