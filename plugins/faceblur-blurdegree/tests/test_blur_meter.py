"""Without PyTorch: the square about a face, the network's file, the metric, ``faceblur assess`` and ``faceblur blur-degree``."""

import csv
import dataclasses
import json
import math
import os
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest

from faceblur_blurdegree import SHIPPED
from faceblur_blurdegree.crop import MARGIN, SIZE, face_square
from faceblur_blurdegree.data import facts, load_split, read_labels
from faceblur_blurdegree.evaluation import ALL, ranks, scores, spearman
from faceblur_blurdegree.meter import load_meter, weights_file
from faceblur_blurdegree.metrics import BlurDegree
from faceblur_core.compare.assess import Assessor, assess, listed
from faceblur_core.datasets.blur_faces import square_about
from faceblur_core.datasets.crops import render
from faceblur_core.errors import FaceblurError, UnknownName
from faceblur_core.media.images import read_photo
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import CommandContract, MetricContract, noise_image
from faceblur_core.types import Anonymized, Ellipse, Sample


class TestMetric(MetricContract):
    name = "blur-degree"

    @pytest.fixture(autouse=True)
    def _give_weights(self, bright):
        type(self).options = {"weights": str(bright)}


class TestCommand(CommandContract):
    name = "blur-degree"


class TestAssessCommand(CommandContract):
    name = "assess"


def grey(level, height=200, width=240):
    return np.full((height, width, 3), level, np.uint8)


# --- the square


@pytest.mark.parametrize(
    "ellipse", [Ellipse(60, 50, 18, 25), Ellipse(5, 90, 30, 41), Ellipse(64, 48, 90, 120), Ellipse(3, 3, 1, 2)]
)
def test_the_square_is_the_one_that_data_sets_are_made_of(ellipse):
    image = noise_image()
    expected = render(image, square_about(ellipse, MARGIN), SIZE)
    np.testing.assert_array_equal(face_square(image, ellipse.bounds()), expected)


def test_a_square_beyond_the_image_is_black():
    assert not face_square(noise_image(), (500, 500, 560, 580)).any()


# --- the network's file


def test_a_file_says_what_it_is(bright, make_network, tmp_path):
    meter = load_meter(bright)
    assert (meter.threshold, meter.margin, meter.parameters) == (0.5, 1.2, 7)
    faces = np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in range(100)])
    np.testing.assert_allclose(meter(faces), np.arange(100) / 255, atol=1e-4)
    assert meter(faces[:0]).shape == (0,)
    silent = load_meter(make_network(tmp_path / "silent.onnx", protected_from="", margin="", parameters=""))
    assert math.isnan(silent.threshold) and silent.margin == MARGIN and silent.parameters is None


def test_other_files_are_refused(bright, make_network, tmp_path):
    (tmp_path / "noise.onnx").write_bytes(noise_image().tobytes())
    model = onnx.load(bright)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(model, tmp_path / "three.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    make_network(tmp_path / "margin.onnx", margin="nan")
    make_network(tmp_path / "threshold.onnx", protected_from="inf")
    for name, message in (
        ("none.onnx", "no model file"),
        ("noise.onnx", "no ONNX model"),
        ("other.onnx", "none of faceblur train"),
        ("margin.onnx", "made whole: train it again"),
        ("threshold.onnx", "made whole: train it again"),
        ("three.onnx", "made whole: train it again"),
    ):
        with pytest.raises(FaceblurError, match=message) as caught:
            load_meter(tmp_path / name)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_small_and_knows_its_threshold(name):
    assert SHIPPED[name].size < 3_000_000 and 0.6 < load_meter(weights_file(name)).threshold < 0.8


def test_other_weights_by_name_or_file(bright):
    assert weights_file(str(bright)) == bright
    with pytest.raises(UnknownName, match="no blur-degree weights named 'best'"):
        BlurDegree("best")


def test_it_orders_blurs_of_real_faces_as_the_recogniser_does(shared):
    """Portraits that it was not trained on, blurred four times as much each time; floors are below what was measured."""
    plugins = installed_plugins()
    find, cosine, meter = plugins.make("detector", "yunet"), plugins.make("metric", "cosine"), BlurDegree()
    told, true = [], []
    for path in sorted((shared / "data/celebahq/test/images").glob("*"))[:40]:
        photo = read_photo(path.read_bytes()).frames[0].rgb()
        found = find(photo)
        x1, y1, x2, y2 = (float(side) for side in found.boxes[0])
        face = Ellipse((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2)
        sample = Sample("", photo, (face,), landmarks=(found.landmarks[0],))
        for sigma in (0, 0.015, 0.06, 0.2):
            blurred = cv2.GaussianBlur(photo, (0, 0), sigma * (y2 - y1)) if sigma else photo
            result = Anonymized(blurred, np.ones(photo.shape[:2], np.float32))
            told.append(meter(sample, result)[0])
            true.append(1 - cosine(sample, result)[0])
    told, true = np.array(told).reshape(-1, 4), np.clip(np.array(true).reshape(-1, 4), 0, 1)
    assert (np.diff(told, axis=1) > 0).mean() > 0.95 and told[:, 0].mean() < 0.2 and told[:, 3].mean() > 0.75
    assert spearman(told.ravel(), true.ravel()) > 0.85 and np.abs(told - true).mean() < 0.08


# --- the metric


def test_the_metric_looks_at_the_output_alone(bright):
    metric = installed_plugins().make("metric", "blur-degree", {"weights": str(bright)})
    faces = (Ellipse(60, 60, 20, 30), Ellipse(170, 90, 20, 30))
    output = grey(0)
    output[:, 120:] = 204
    sample = Sample("x", noise_image(200, 240), faces)
    result = Anonymized(output, np.zeros((200, 240), np.float32))
    np.testing.assert_allclose(metric(sample, result), [0, 0.8], atol=1e-4)
    other = metric(dataclasses.replace(sample, image=grey(9)), result)
    np.testing.assert_array_equal(other, metric(sample, result))


def test_the_metric_says_nothing_of_low_faces(bright):
    faces = (Ellipse(60, 60, 30, 19.5), Ellipse(170, 90, 10, 20), Ellipse(60, 150, 30, 20, 0.5))
    result = Anonymized(grey(102), np.zeros((200, 240), np.float32))
    sample = Sample("x", noise_image(200, 240), faces)
    np.testing.assert_allclose(BlurDegree(str(bright))(sample, result), [np.nan, 0.4, 0.4], atol=1e-4)
    np.testing.assert_allclose(BlurDegree(str(bright), least=0)(sample, result), [0.4] * 3, atol=1e-4)
    low = dataclasses.replace(sample, faces=faces[:1])
    np.testing.assert_array_equal(BlurDegree(str(bright))(low, result), [np.nan])


def test_the_threshold_is_the_files_unless_another_is_given(bright):
    assert BlurDegree(str(bright)).calibrate([]) == {"protected": 0.5}
    assert BlurDegree(str(bright), threshold=0.7).calibrate([]) == {"protected": 0.7}


# --- comparing


def test_a_comparison_of_all_metrics_has_it(bright, monkeypatch):
    from faceblur_core.compare.config import CompareConfig, plan

    def metrics(**more):
        found = plan(CompareConfig(["haar"], ["samples"], **more), installed_plugins())
        return [spec.name for spec in found.metrics]

    assert {"blur-degree", "coverage"} <= set(metrics()) and metrics(metrics=["blur-degree"]) == ["blur-degree"]
    monkeypatch.setattr(BlurDegree, "by_name_only", True, raising=False)
    assert "blur-degree" not in metrics() and "coverage" in metrics()
    assert "blur-degree" in metrics(options={"blur-degree": {"weights": str(bright)}})


def test_compare_gives_its_figures(bright, tmp_path):
    config = {
        "methods": ["haar+solid"],
        "testsets": ["samples"],
        "calibration": "samples",
        "cost_photos": 0,
        "resamples": 20,
        "metrics": ["blur-degree"],
        "options": {"blur-degree": {"weights": str(bright)}},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    result = faceblur("compare", "c.yaml", "-o", "runs", cwd=tmp_path, cache=tmp_path / "cache")
    assert result.returncode == 0, result.stderr
    folder = next((tmp_path / "runs").iterdir())
    with (folder / "table.csv").open() as file:
        figures = {row["statistic"]: row for row in csv.DictReader(file) if row["slice"] == "all" and row["metric"]}
    assert 0 <= float(figures["mean"]["value"]) <= 1 and "share>=protected" in figures


def faceblur(*arguments, cwd, cache):
    env = {**os.environ, "FACEBLUR_CACHE": str(cache), "FACEBLUR_TESTSETS": str(cache / "sets")}
    command = [sys.executable, "-m", "faceblur_core", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


# --- assessing


@pytest.fixture
def photos(tmp_path, astronaut):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), astronaut[..., ::-1])
    cv2.imwrite(str(folder / "empty.png"), grey(128))
    return folder


def test_assess_tells_each_face_and_whether_it_is_protected(photos, bright, tmp_path):
    run = ("assess", photos, "--detector", "haar", "--json", tmp_path / "r.json")
    result = faceblur(*run, "--set", f"weights={bright}", "--set", "threshold=0.99", cwd=tmp_path, cache=tmp_path / "cache")
    assert result.returncode == 1 and "not protected" in result.stdout, result.stderr
    assert "2 pictures, 1 faces, 1 not protected (degree below 0.990)" in result.stdout
    said = json.loads((tmp_path / "r.json").read_text())
    face = said["pictures"][0]["faces"][0]
    assert said["threshold"] == 0.99 and face["protected"] is False and 0 < face["degree"] < 1
    assert face["box"][0] < 222 < face["box"][2] and said["pictures"][1]["faces"] == []
    fine = faceblur(*run, "--set", f"weights={bright}", "--set", "threshold=0", cwd=tmp_path, cache=tmp_path / "cache")
    assert fine.returncode == 0 and "0 not protected" in fine.stdout
    height = round(face["box"][3] - face["box"][1])
    cv2.imwrite(str(photos / "a.png"), cv2.resize(cv2.imread(str(photos / "a.png")), None, fx=(f := 32 / height), fy=f))
    small = faceblur(*run, "--set", f"weights={bright}", "--set", "threshold=0", cwd=tmp_path, cache=tmp_path / "cache")
    assert small.returncode == 1 and "too small to say" in small.stdout
    assert "1 not protected (degree below 0.000, or too small to say)" in small.stdout
    assert json.loads((tmp_path / "r.json").read_text())["pictures"][0]["faces"][0]["degree"] is None
    least = "weights={bright}", "threshold=0", "least=20"
    judged = faceblur(*run, *(f"--set={one.format(bright=bright)}" for one in least), cwd=tmp_path, cache=tmp_path / "cache")
    assert judged.returncode == 0 and "0 not protected" in judged.stdout


def test_assess_without_weights_without_pictures_and_with_bad_files_is_one_line(photos, bright, tmp_path):
    def lines(*arguments):
        result = faceblur("assess", *arguments, "--detector", "haar", cwd=tmp_path, cache=tmp_path / "cache")
        assert "Traceback" not in result.stderr
        return result.returncode, result.stderr.strip()

    code, said = lines(photos, "--set", "weights=none.onnx")
    assert code == 2 and said.startswith("faceblur: no blur-degree weights named 'none.onnx'") and "\n" not in said
    assert lines(photos) == (1, "")
    (tmp_path / "none").mkdir()
    code, said = lines(tmp_path / "none", "--set", f"weights={bright}")
    assert code == 2 and "no photos in" in said and "\n" not in said
    (photos / "bad.jpg").write_bytes(b"no picture")
    code, said = lines(photos / "bad.jpg", "--set", f"weights={bright}")
    assert code == 1 and "bad.jpg: not a picture" in said and "\n" not in said
    (photos / "clip.mp4").write_bytes(b"a video")
    code, said = lines(photos / "clip.mp4", "--set", f"weights={bright}")
    assert code == 1 and said.endswith("clip.mp4: a video, which faceblur verify looks at") and "\n" not in said
    cv2.imwrite(str(photos / "large.png"), np.zeros((1000, 1100), np.uint8))
    code, said = lines(photos / "large.png", "--set", f"weights={bright}", "--max-megapixels", 1)
    assert code == 1 and said.endswith("large.png: 1100 x 1000 pixels are more than 1 megapixels (--max-megapixels)")
    code, said = lines(photos, "--set", f"weights={bright}", "--set", "treshold=1")
    assert code == 2 and "Did you mean threshold" in said
    before = (photos / "a.png").read_bytes()
    code, said = lines(photos, "--set", f"weights={bright}", "--json", photos / "a.png")
    assert code == 2 and "a.png is one of the pictures; choose another name" in said and "\n" not in said
    assert (photos / "a.png").read_bytes() == before


def test_assess_tells_what_it_did_not_look_at(photos, bright, tmp_path):
    for name in ("clip.mp4", "notes.txt", "other.txt", "photo.heic"):
        (photos / name).write_bytes(b"something")
    (tmp_path / "elsewhere").mkdir()
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    result = faceblur(
        "assess", photos, "--detector", "haar", "--set", f"weights={bright}", "--set", "threshold=0", cwd=tmp_path, cache=tmp_path
    )
    unreadable, passed_over = result.stderr.splitlines()
    assert result.returncode == 1 and "photo.heic: " in unreadable and "3 pictures, 1 faces" in result.stdout
    assert passed_over == "faceblur: passed over, 1 linked folder; no photos by name: 2 .txt, 1 .mp4"


def test_a_picture_that_cannot_be_judged_is_a_line(photos, bright, monkeypatch):
    assessor = Assessor(["haar"], {"weights": str(bright)})
    monkeypatch.setattr(assessor, "meter", lambda image, faces: 1 // 0)
    judged = list(assess(listed([photos]).pictures, assessor, 2))
    assessor.close()
    assert [item.path.name for item in judged] == ["a.png", "empty.png"]
    assert all(item.fault == "could not be judged: ZeroDivisionError: integer division or modulo by zero" for item in judged)


def test_a_network_without_a_threshold_judges_nothing(photos, make_network, tmp_path):
    silent = make_network(tmp_path / "silent.onnx", protected_from="")
    result = faceblur(
        "assess", photos / "a.png", "--detector", "haar", "--set", f"weights={silent}", cwd=tmp_path, cache=tmp_path
    )
    assert result.returncode == 0 and "the network says no threshold" in result.stdout


# --- labelled sets


def test_a_split_is_read_as_it_was_written(data):
    labelled = load_split(data, "val")
    assert labelled.faces.shape == (12, SIZE, SIZE, 3) and labelled.degrees.dtype == np.float32
    np.testing.assert_allclose(labelled.degrees, (np.arange(12) + 0.5) / 12, atol=1e-5)
    assert facts(data) == (0.6, 1.3)


def test_what_a_set_says_of_itself(tmp_path):
    assert math.isnan(facts(tmp_path)[0]) and facts(tmp_path)[1] == MARGIN
    (tmp_path / "dataset.yaml").write_text("protected_from: null\nmargin: 2\n")
    assert math.isnan(facts(tmp_path)[0]) and facts(tmp_path)[1] == 2
    for said in (
        "protected_from: '0.7'",
        "protected_from: true",
        "protected_from: 7",
        "margin: 0.5",
        "margin: .inf",
        "margin: .nan",
    ):
        (tmp_path / "dataset.yaml").write_text(said)
        with pytest.raises(FaceblurError, match=rf"{said.partition(':')[0]} should be a number from"):
            facts(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("degree", "grade"), "has no column 'degree'"),
        (lambda text: text.replace("0.04167", "4"), "line 34: a path within the folder and a degree"),
        (lambda text: text.replace("val/000001", "../000001"), "line 34: a path within"),
        (lambda text: text.replace("val/000001", "val/000099"), "val/000099.jpg is missing; labels.csv names it"),
        (lambda text: text.replace(",val,", ",validation,"), "names no picture of the split 'val'"),
        (lambda text: text + '"', "is no CSV file"),
        (lambda text: text + "val/000001.jpg\n", "line 46: a path within"),
    ],
)
def test_a_damaged_set_is_one_line(change, message, make_set, tmp_path):
    folder = make_set(tmp_path / "set", train=32, val=12)
    (folder / "labels.csv").write_text(change((folder / "labels.csv").read_text()))
    with pytest.raises(FaceblurError, match=message) as caught:
        load_split(folder, "val")
    assert "\n" not in caught.value.message


def test_no_set_is_one_line(tmp_path):
    with pytest.raises(FaceblurError, match="faceblur dataset blur makes such a set"):
        read_labels(tmp_path)


# --- scores


def test_rank_correlation_against_scipy():
    from scipy import stats

    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 30))
        np.testing.assert_array_equal(ranks(a), stats.rankdata(a) - 1)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(np.arange(9), np.exp(np.arange(9))) == pytest.approx(1)
    assert math.isnan(spearman(np.zeros(4), np.arange(4)))


def test_scores_by_method(data):
    labelled = load_split(data, "test")
    found = {one.method: one for one in scores(labelled.degrees + 0.1, labelled, 0.6)}
    assert list(found) == [ALL, "defocus", "shake"] and found[ALL].faces == 10 and found["shake"].faces == 5
    assert found[ALL].mae == pytest.approx(0.1) and found[ALL].spearman == pytest.approx(1)
    assert found[ALL].agreement == pytest.approx(0.9)  # 0.55 is told as 0.65
    assert math.isnan(scores(labelled.degrees, labelled, math.nan)[0].agreement)


def test_the_command_writes_a_table_and_plots(data, bright, tmp_path):
    result = faceblur("blur-degree", bright, "--data", data, "-o", tmp_path / "out", cwd=tmp_path, cache=tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["all", "defocus", "shake"] and rows[0]["network"] == "bright"
    assert rows[0]["parameters"] == "7" and float(rows[0]["ms"]) > 0 and 0 < float(rows[0]["mae"]) < 1
    assert (tmp_path / "out" / "bright.png").stat().st_size > 5000
    again = faceblur("blur-degree", bright, "--data", data, "-o", tmp_path / "out", cwd=tmp_path, cache=tmp_path)
    assert again.returncode == 2 and "choose a new folder" in again.stderr


def test_networks_are_named_by_their_file_or_folder_whatever_it_is_called(data, bright, tmp_path):
    run = tmp_path / r"net $\foo$"
    (run / "inside").mkdir(parents=True)
    (run / "model.onnx").write_bytes(bright.read_bytes())
    out = run / "inside" / "out"
    result = faceblur("blur-degree", "../model.onnx", "--data", data, "-o", out, cwd=run / "inside", cache=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in out.iterdir()} == {"scores.csv", rf"{run.name}.png"}


def test_inference_imports_no_framework(bright):
    code = (
        "import sys, numpy as np; from pathlib import Path; from faceblur_blurdegree.meter import load_meter;"
        f"load_meter(Path({str(bright)!r}))(np.zeros((1, 112, 112, 3), np.uint8));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'torchvision', 'tensorflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
