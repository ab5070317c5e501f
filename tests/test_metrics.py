"""Every metric of the core against a known answer and, where there is one, another implementation."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from faceblur_core.builtin.metrics import (
    Ap50,
    Coverage,
    ImageMissed,
    OverBlur,
    Precision,
    PsnrOutside,
    PsnrOutside128,
    Recall,
    SsimOutside,
    SsimOutside128,
    Touched,
    match,
)
from faceblur_core.compare.metrics import Fidelity, FidelityMae, FidelityPsnr, FidelitySsim, StillDetected
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import MetricContract, check_component, noise_image
from faceblur_core.types import Anonymized, Detections, Ellipse, Sample


class TestCoverage(MetricContract):
    name = "coverage"


class TestAp50(MetricContract):
    name = "ap50"


def test_every_metric_of_the_core_keeps_the_contract():
    names = [
        item.name for info in installed_plugins().infos if info.name == "builtin" for k, item in info.components if k == "metric"
    ]
    results = [result for name in names if name != "still-detected" for result in check_component("metric", name)]
    assert len(names) == 18 and [result for result in results if result.outcome != "passed"] == []


FACES = (Ellipse(40, 30, 12, 16), Ellipse(90, 60, 15, 20, 0.4))


def sample(faces=FACES, image=None, **more) -> Sample:
    return Sample("x", noise_image() if image is None else image, tuple(faces), **more)


def hidden(one: Sample, mask, shown=None, detections=None) -> Anonymized:
    return Anonymized(one.image if shown is None else shown, np.asarray(mask, np.float32), detections)


def test_coverage_counts_the_pixels_of_an_ellipse():
    one = sample()
    left = np.zeros(one.image.shape[:2])
    left[:, :40] = 0.5  # half of the first face, up to its centre
    assert Coverage()(one, hidden(one, left)) == pytest.approx([0.5, 0], abs=1e-9)
    assert Coverage()(one, hidden(one, left * 0.98)) == pytest.approx([0, 0])
    assert ImageMissed()(one, hidden(one, left)) == [1] and ImageMissed()(sample(FACES[:1]), hidden(one, left)) == [0]
    outside = sample([Ellipse(-50, 10, 5, 5), FACES[0]])
    assert np.isnan(Coverage()(outside, hidden(one, left))[0]) and ImageMissed()(outside, hidden(one, left)) == [0]
    assert np.isnan(ImageMissed()(sample(()), hidden(one, left)))


def test_over_blur_and_touched():
    one = sample(FACES[:1], ignored=FACES[1:])
    free = ~(FACES[0].inside(96, 128, 1.3) | FACES[1].inside(96, 128, 1.3))
    assert OverBlur()(one, hidden(one, ~free)) == [0] and OverBlur()(one, hidden(one, free)) == [1]
    mask = np.zeros((96, 128))
    mask[0] = 1
    assert OverBlur()(one, hidden(one, mask)) == pytest.approx([128 / free.sum()])
    assert np.isnan(Touched()(one, hidden(one, mask)))
    assert Touched()(sample(()), hidden(one, mask)) == [1] and Touched(0.011)(sample(()), hidden(one, mask)) == [0]
    assert np.isnan(OverBlur()(sample([Ellipse(64, 48, 500, 500)]), hidden(one, mask)))


def test_psnr_and_ssim_are_scikit_images():
    one = sample(image=noise_image(130, 200, seed=1), ignored=[Ellipse(150, 100, 9, 9)])
    after = cv2.GaussianBlur(one.image, (0, 0), 2)
    result = hidden(one, np.zeros(after.shape[:2]), after)
    free = ~np.any([face.inside(130, 200, 1.3) for face in (*FACES, one.ignored[0])], axis=0)
    assert PsnrOutside()(one, result) == pytest.approx([peak_signal_noise_ratio(one.image[free], after[free])])
    full = structural_similarity(one.image, after, channel_axis=2, full=True)[1]
    assert SsimOutside()(one, result) == pytest.approx([full[free].mean()])
    a, b = (cv2.resize(picture, (128, 83), interpolation=cv2.INTER_AREA) for picture in (one.image, after))
    scale = 128 / 200
    small = [Ellipse(f.cx * scale, f.cy * 83 / 130, f.rx * scale, f.ry * scale, f.angle) for f in (*FACES, one.ignored[0])]
    free = ~np.any([face.inside(83, 128, 1.3) for face in small], axis=0)
    assert PsnrOutside128()(one, result) == pytest.approx([peak_signal_noise_ratio(a[free], b[free])])
    full = structural_similarity(a, b, channel_axis=2, full=True)[1]
    assert SsimOutside128()(one, result) == pytest.approx([full[free].mean()])


def test_psnr_and_ssim_at_their_ends():
    one = sample()
    copy = hidden(one, np.zeros((96, 128)))
    assert PsnrOutside()(one, copy) == [np.inf] == PsnrOutside128()(one, copy) and SsimOutside()(one, copy) == [1]
    white, black = np.full((96, 128, 3), 255, np.uint8), np.zeros((96, 128, 3), np.uint8)
    assert PsnrOutside()(sample((), white), hidden(one, np.ones((96, 128)), black)) == [0]
    tiny = sample((), noise_image(6, 40))
    assert np.isnan(SsimOutside()(tiny, hidden(tiny, np.zeros((6, 40)))))
    assert np.isnan(PsnrOutside()(sample([Ellipse(64, 48, 500, 500)]), copy))


def test_fidelity_to_a_target_made_by_hand():
    from faceblur_core.builtin.filters import gaussian, hide

    one = sample([Ellipse(64, 48, 18, 24)], image=noise_image(96, 128))
    reach = one.faces[0].reach(96, 128)
    mask = np.clip(1 - (reach - 1.25) / (1.25 * 0.06), 0, 1).astype(np.float32)
    target = hide(one.image, mask, lambda crop, _: gaussian(crop, 0.3))
    perfect = hidden(one, mask, target)
    measured = (Fidelity(), FidelityMae(), FidelitySsim(), FidelityPsnr())
    assert [metric(one, perfect)[0] for metric in measured] == pytest.approx([0, 0, 1, np.inf], abs=1e-6)
    black = hidden(one, mask, np.zeros_like(one.image))
    a, b = np.zeros((128, 128, 3)), np.zeros((128, 128, 3))
    a[16:112] = target / 255
    expected = (
        mean_squared_error(a, b),
        np.abs(a).mean(),
        structural_similarity(a, b, channel_axis=2, data_range=1.0),
        peak_signal_noise_ratio(a, b, data_range=1.0),
    )
    assert [metric(one, black)[0] for metric in measured] == pytest.approx(expected, rel=1e-3)
    free = sample(())
    assert Fidelity()(free, hidden(free, mask)) == [0]
    ignored = dataclasses.replace(one, faces=(), ignored=one.faces)  # the training sets hide these too
    assert Fidelity()(ignored, perfect) == pytest.approx([0], abs=1e-6) and Fidelity()(ignored, hidden(one, mask))[0] > 1e-3


def found(*boxes, scores=None) -> Detections:
    return Detections(np.reshape(boxes, (-1, 4)), scores if scores is not None else np.linspace(0.9, 0.1, len(boxes)))


def box(x, y, side=20):
    return Ellipse(x + side / 2, y + side / 2, side / 2, side / 2)


def test_matching_is_greedy_by_score():
    truth = sample([box(0, 0), box(10, 0)], ignored=[box(60, 0)])
    near, second = [4, 0, 24, 20], [1, 0, 21, 20]  # near overlaps both faces; the surer takes the one it overlaps most
    matched = match(found(near, second, scores=[0.9, 0.8]), truth)
    assert matched.correct.tolist() == [True, False] and matched.found.tolist() == [True, False]
    matched = match(found(near, second, scores=[0.8, 0.9]), truth)
    assert matched.correct.tolist() == [True, True] and matched.scores.tolist() == pytest.approx([0.9, 0.8])
    matched = match(found([0, 0, 20, 20], [0, 0, 20, 20], [10, 0, 30, 20]), truth)
    assert matched.correct.tolist() == [True, False, True] and matched.found.all()
    ignoring = match(found([60, 0, 80, 20], [61, 0, 81, 20]), truth)
    assert ignoring.correct.tolist() == [False]  # the ignored face excuses one detection, not two
    assert match(Detections.none(), truth).found.tolist() == [False, False]


def pycocotools_says(truths, detections):
    """AP50, recall and precision by pycocotools.

    Its ``iscrowd`` would match by another overlap and any number of times, and it overwrites ``ignore``. What it ignores as we
    do is an annotation whose ``area`` lies outside ``areaRng``, so ignored faces are given such an area.
    """
    annotations, results = [], []
    for image, truth in enumerate(truths, 1):
        for face, ignore in [*((f, False) for f in truth.faces), *((f, True) for f in truth.ignored)]:
            x1, y1, x2, y2 = face.bounds()
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
                 "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1e9 if ignore else 1.0}
            )  # fmt: skip
        for (x1, y1, x2, y2), score in zip(
            *(np.asarray(a, float) for a in (detections[image - 1].boxes, detections[image - 1].scores)), strict=True
        ):
            results.append({"image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score})
    coco = COCO()
    coco.dataset = {"images": [{"id": i + 1} for i in range(len(truths))], "categories": [{"id": 1}], "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e8]], ["all"]
        evaluation.params.maxDets, evaluation.params.iouThrs = [10_000], np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    ignored = np.concatenate([item["dtIgnore"][0] for item in evaluation.evalImgs if item]).astype(bool)
    matched = np.concatenate([item["dtMatches"][0] > 0 for item in evaluation.evalImgs if item])
    return evaluation.eval["precision"][0, :, 0, 0, 0].mean(), evaluation.eval["recall"][0, 0, 0, 0], matched[~ignored].mean()


@pytest.mark.parametrize("seed", range(8))
def test_ap50_recall_and_precision_are_pycocotools(seed):
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for _ in range(25):
        places = [Ellipse(*rng.uniform(10, 90, 2), *rng.uniform(5, 15, 2)) for _ in range(rng.integers(0, 6))]
        cut = int(rng.integers(0, len(places) + 1)) if seed % 2 else len(places)
        truths.append(sample(places[:cut], ignored=tuple(places[cut:])))
        near = [np.array(face.bounds()) + rng.normal(0, 2.5, 4) for face in places for _ in range(rng.integers(0, 3))]
        away = [np.tile(rng.uniform(0, 80, 2), 2) + np.array([0, 0, 15, 20]) for _ in range(rng.integers(0, 3))]
        boxes = np.array([*near, *away], np.float32).reshape(-1, 4)
        detections.append(Detections(boxes, rng.permutation(len(boxes)) / 50 + rng.uniform(0, 0.01, len(boxes))))
    results = [hidden(truth, np.zeros((96, 128)), detections=seen) for truth, seen in zip(truths, detections, strict=True)]
    ap50, precision, recall = Ap50(), Precision(), Recall()
    expected = pycocotools_says(truths, detections)
    assert of(ap50, truths, results)["ap50"] == pytest.approx(expected[0], abs=1e-6)
    assert np.concatenate(list(map(recall, truths, results))).mean() == pytest.approx(expected[1], abs=1e-6)
    assert of(precision, truths, results)["precision"] == pytest.approx(expected[2], abs=1e-6)
    order = rng.permutation(25)
    assert of(ap50, [truths[i] for i in order], [results[i] for i in order]) == pytest.approx(of(ap50, truths, results))
    twice = of(ap50, truths, results, 2 * np.ones(25)), of(precision, truths, results, 2 * np.ones(25))
    assert twice == (pytest.approx(of(ap50, truths, results)), pytest.approx(of(precision, truths, results)))
    weights = rng.integers(0, 3, 25)
    repeated = [i for i in range(25) for _ in range(weights[i])]
    assert of(ap50, truths, results, weights)["ap50"] == pytest.approx(
        of(ap50, [truths[i] for i in repeated], [results[i] for i in repeated])["ap50"], abs=0.01
    )  # only up to the order of equal scores


def of(metric, truths, results, weights=None):
    seen = list(map(metric.observe, truths, results))
    return metric.figures(metric.prepare(seen, []), np.ones(len(seen)) if weights is None else np.asarray(weights, float))


def test_detection_figures_at_their_ends():
    one, empty = sample(), sample(())
    exact = hidden(one, np.zeros((96, 128)), detections=found(*(face.bounds() for face in FACES)))
    none = hidden(one, np.zeros((96, 128)), detections=Detections.none())
    unnamed = hidden(one, np.zeros((96, 128)))
    assert of(Ap50(), [one], [exact])["ap50"] == 1 and of(Precision(), [one], [exact])["precision"] == 1
    assert of(Ap50(), [one], [none])["ap50"] == 0 and np.isnan(of(Precision(), [one], [none])["precision"])
    assert np.isnan(of(Ap50(), [empty], [exact])["ap50"]) and of(Precision(), [empty], [exact])["precision"] == 0
    assert np.isnan(of(Ap50(), [one], [unnamed])["ap50"]) and np.isnan(Recall()(one, unnamed)).all()
    assert Recall()(one, exact).tolist() == [1, 1] and Recall()(one, none).tolist() == [0, 0]


@given(st.permutations(["yunet", "yolo", "mediapipe"]), st.sets(st.sampled_from(["yunet", "yolo", "mediapipe", "haar"])))
def test_the_judge_is_never_the_methods_own_detector(judges, own):
    judge = StillDetected(list(judges), sorted(own)).judge
    assert judge not in own and (judge or own >= set(judges))


def test_the_judge_has_no_network_of_the_methods_own_detector():
    assert StillDetected(["yolo", "yunet"], ["yolo-onnx"]).judge == "yunet"
    assert StillDetected(["yolo-onnx"], ["yolo"]).judge == ""


def test_a_judge_that_is_not_installed_is_passed_over(monkeypatch):
    monkeypatch.setenv("FACEBLUR_DISABLE_PLUGINS", "opencv")
    installed_plugins.cache_clear()
    try:
        assert StillDetected(["yunet", "yolo"]).judge == "yolo" and StillDetected(["yunet", "yolo"], ["yolo"]).judge == ""
        assert np.isnan(StillDetected(["yunet"])(sample(), hidden(sample(), np.zeros((96, 128))))).all()
    finally:
        monkeypatch.undo()
        installed_plugins.cache_clear()


def test_still_detected_asks_for_an_overlap_of_four_tenths(install):
    install("good")
    bright = np.full((32, 32, 3), 200, np.uint8)  # where the test's detector finds the corner, 4 x 4 pixels
    one = Sample("x", bright, (box(0, 0, 4), box(0, 0, 6), box(0, 0, 7), box(20, 20, 4)))
    metric = StillDetected(["corner"])
    assert metric(one, hidden(one, np.zeros((32, 32)))).tolist() == [1, 1, 0, 0]
    assert metric(one, hidden(one, np.ones((32, 32)), bright // 2)).tolist() == [0, 0, 0, 0]
    assert np.isnan(StillDetected(["corner"], ["corner"])(one, hidden(one, np.ones((32, 32))))).all()


@given(
    st.builds(Ellipse, *(st.floats(-50, 150),) * 2, *(st.floats(0.2, 90),) * 2, st.floats(0, np.pi)),
    st.floats(0.5, 2),
)
def test_inside_is_where_the_reach_is_within(ellipse, grow):
    assert np.array_equal(ellipse.inside(60, 80, grow), ellipse.reach(60, 80) <= grow)
