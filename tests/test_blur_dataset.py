"""``faceblur dataset blur``: the same set each time, labelled, whole or not at all; the configs that ship."""

import csv
import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from faceblur_core.datasets import blur_faces
from faceblur_core.datasets.blur import _landmarks_fit, build_blurred
from faceblur_core.datasets.blur_config import load_blur_recipe
from faceblur_core.datasets.blur_faces import CONTEXT, SIDE, Blurrer, Task, Variant, cut_out, jittered, square_about, variants
from faceblur_core.datasets.crops import Crop, render
from faceblur_core.datasets.labels import BadRows, Face
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.testing import noise_image
from faceblur_core.types import Ellipse

CONFIGS = Path(__file__).parents[1] / "configs" / "datasets"
POINTS = np.array([[50, 40], [70, 40], [60, 52], [53, 62], [67, 62]], np.float32)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(shared, tmp_path):
    """A folder of six frames of four people."""
    folder = tmp_path / "photos"
    folder.mkdir()
    frames = sorted((shared / "data/ytf/train").glob("*.jpg"))
    people = sorted({path.stem.rpartition("_")[0] for path in frames})[:4]
    for person in people:
        for path in [path for path in frames if path.stem.rpartition("_")[0] == person][:2]:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def config(tmp_path, **changes):
    content = {
        "count": 16,
        "seed": 3,
        "splits": {"train": 0.5, "val": 0.5},
        "per_face": 6,
        "tried": 2,
        "bins": 4,
        "least_pixels": 40,
        "times": [1, 2],
        "faces_only": 0.5,
        "jitter": 0.1,
        "blurs": {"shake": {}, "defocus": {}, "pixelate": {"options": {"cells": [4, 30]}}},
        "sources": {
            "ytf": {"format": "folder", "images": "photos", "identity": r"^(.+)_\d+\.jpg$", "detect": ["yunet"], "share": 1}
        },
        **changes,
    }
    path = tmp_path / "blur.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def rows_of(folder):
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_set_is_labelled_split_by_person_and_the_same_again(photos, tmp_path, cache, cli):
    result = cli("dataset", "blur", config(tmp_path), "--data", tmp_path, "-o", tmp_path / "one", "--workers", 2)
    assert result.code == 0, result.err
    assert "protected from a degree of" in result.out
    rows = rows_of(tmp_path / "one")
    assert 12 <= len(rows) <= 16 and {row["split"] for row in rows} == {"train", "val"}
    people = [{row["identity"] for row in rows if row["split"] == split} for split in ("train", "val")]
    assert people[0] and people[1] and not people[0] & people[1]
    for row in rows:
        picture = cv2.imread(str(tmp_path / "one" / row["path"]))
        assert picture.shape == (112, 112, 3)
        assert float(row["degree"]) == pytest.approx(np.clip(1 - float(row["cosine"]), 0, 1), abs=2e-5)
        assert row["method"] != "pixelate" or row["faces_only"] == "1"
    files = {path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert files == {"labels.csv", "labels.png", "dataset.yaml", *(row["path"] for row in rows)}
    facts = yaml.safe_load((tmp_path / "one" / "dataset.yaml").read_text())
    assert 0 < facts["protected_from"] < 1 and facts["margin"] == 1.2
    assert facts["made_by"]["embedder"]["mobilefacenet"]["mobilefacenet.onnx"].startswith("b7120c")

    build_blurred(load_blur_recipe(tmp_path / "blur.yaml", tmp_path), tmp_path / "two", BadRows(), workers=1)
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    again = cli("dataset", "blur", tmp_path / "blur.yaml", "--data", tmp_path, "-o", tmp_path / "one")
    assert again.code == 2 and "choose a new folder" in again.err


def test_nothing_to_blur_and_interruptions_leave_nothing(photos, tmp_path, cache, monkeypatch, cli):
    result = cli("dataset", "blur", config(tmp_path, least_pixels=900), "--data", tmp_path, "-o", tmp_path / "out")
    assert result.code == 1 and "there is no face to blur" in result.err and not (tmp_path / "out").exists()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("faceblur_core.datasets.blur_files._plot", interrupted)
    recipe = load_blur_recipe(config(tmp_path, count=4), tmp_path)
    monkeypatch.setattr("faceblur_core.datasets.blur.variants", lambda work, tasks, *_: map(Blurrer(work), tasks))
    with pytest.raises(KeyboardInterrupt):
        build_blurred(recipe, tmp_path / "out", BadRows(), workers=1)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "blur.yaml"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count=0"),
        ({"colour": 1}, "no option .* named 'colour'"),
        ({"times": [3, 1]}, "times should be two numbers"),
        ({"sources": {}}, "names no sources"),
        ({"splits": {"train": 0.5}}, "add up to 0.5"),
        ({"blurs": {"smear": {}}}, "no blur named 'smear'"),
        ({"embedder": "none"}, "embedder"),
        ({"size": SIDE + 1}, "size.* 160"),
        ({"sources": {"a": {"format": "folder", "images": "x", "share": 0.4}}}, "add up to 0.4, not to 1"),
    ],
)
def test_bad_configs_are_one_line(changes, message, tmp_path, shared, cache):
    with pytest.raises(UsageMistake, match=message):
        load_blur_recipe(config(tmp_path, **changes), tmp_path)


def test_without_a_face_recogniser_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(blur_faces, "COSINE", "nothing-such")
    with pytest.raises(UsageMistake, match="install faceblur-identity"):
        load_blur_recipe(config(tmp_path), tmp_path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("blur112*.yaml")), ids=lambda path: path.stem)
def test_the_configs_that_ship_can_be_read(path, shared, cache):
    assert load_blur_recipe(path, shared / "data").config.size == 112


# --- faces


@pytest.mark.parametrize("size", [(120, 100), (900, 700)])
def test_a_face_is_cut_out_with_its_context(size):
    image = noise_image(*size)
    height = size[0] / 3
    ellipse = Ellipse(size[1] / 2, size[0] / 2, height / 2.6, height / 2)
    face = Face(ellipse, landmarks=POINTS * (height / 60))
    part, crop, moved = cut_out(image, face, 1.2)
    assert crop.side <= SIDE + 1 and crop.side == pytest.approx(min(SIDE, 1.2 * height), abs=2)
    assert part.shape[0] <= (1 + 2 * CONTEXT) * crop.side + 3
    scale = moved.ellipse.ry / ellipse.ry
    np.testing.assert_allclose(np.diff(moved.landmarks, axis=0), np.diff(face.landmarks, axis=0) * scale, atol=0.5)
    assert crop == square_about(moved.ellipse, 1.2)


def test_a_square_may_reach_over_the_edge_and_is_black_there():
    part, crop, _ = cut_out(np.full((100, 300, 3), 200, np.uint8), Face(Ellipse(5, 50, 30, 40)), 1.2)
    square = render(part, crop, 96)
    assert crop.x == -43 and not square[:, :43].any() and (square[:, 43:] == 200).all()


def test_squares_jitter_about_where_they_were():
    crop, rng = Crop(40, 50, 200), np.random.default_rng(0)
    assert jittered(crop, 0.0, rng) == crop
    several = [jittered(crop, 0.1, rng) for _ in range(200)]
    assert {180 <= one.side <= 220 for one in several} == {True} and len({one.side for one in several}) > 20
    assert all(abs(one.x + one.side / 2 - 140) <= 11 and abs(one.y + one.side / 2 - 150) <= 11 for one in several)


def test_degrees_stay_within_0_and_1():
    task = Task("train", "s", "p", Path("p"), None, 0, Ellipse(1, 1, 1, 1), None, (0,))
    degrees = [Variant(task, 0, "shake", (), False, cosine, b"").degree for cosine in (1.0, 0.25, -0.1)]
    assert degrees == [0.0, 0.75, 1.0]


def test_a_photo_that_is_gone_is_one_line(tmp_path, shared, cache):
    work = load_blur_recipe(config(tmp_path), tmp_path).work()
    task = Task("train", "s", "p", tmp_path / "gone.jpg", None, 0, Ellipse(60, 50, 20, 26), POINTS, (0,))
    with pytest.raises(FaceblurError, match="gone.jpg: No such file"):
        list(variants(work, [task], 1))


def test_a_face_that_cannot_be_aligned_has_no_cosine(tmp_path, shared, cache, astronaut):
    cv2.imwrite(str(tmp_path / "a.png"), astronaut[..., ::-1])
    blurrer = Blurrer(load_blur_recipe(config(tmp_path), tmp_path).work())
    one_point = np.full((5, 2), 222, np.float32)
    task = Task("train", "s", "p", tmp_path / "a.png", None, 0, Ellipse(222, 120, 45, 55), one_point, (0, 1))
    assert all(math.isnan(one.cosine) for one in blurrer(task))


def test_landmarks_should_be_on_the_face():
    face = Face(Ellipse(60, 50, 20, 26), landmarks=POINTS)
    assert _landmarks_fit(face) and not _landmarks_fit(dataclasses.replace(face, landmarks=None))
    assert not _landmarks_fit(dataclasses.replace(face, landmarks=POINTS + 60))


def test_labelled_faces_get_the_landmarks_that_a_detector_finds(tmp_path, shared, cache, cli, astronaut):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), astronaut[..., ::-1])
    (tmp_path / "labels.txt").write_text("a.png\n1\n178 65 91 111 0 0 0 0 0 0\n")
    source = {"format": "wider", "images": "images", "annotations": "labels.txt", "share": 1}
    for detect, code in ([], 1), (["yunet"], 0):
        path = config(tmp_path, count=4, splits={"train": 1}, sources={"w": {**source, "detect": detect}})
        result = cli("dataset", "blur", path, "--data", tmp_path, "-o", tmp_path / "out", "--workers", 1)
        assert result.code == code, result.err
    [row, *_] = rows_of(tmp_path / "out")
    assert row["photo"] == "a.png" and row["face"] == "0"


def test_bad_folders_and_names_are_told_at_once(photos, tmp_path, cache, cli):
    for name, part in (("blur.yaml/out", "blur.yaml is no folder"), ("x" * 300, "File name too long")):
        result = cli("dataset", "blur", config(tmp_path), "--data", tmp_path, "-o", tmp_path / name)
        assert result.code == 2 and part in result.err and len(result.err.splitlines()) == 1
    (photos / os.fsdecode(b"n\xff_0.jpg")).write_bytes(next(photos.iterdir()).read_bytes())
    result = cli("dataset", "blur", config(tmp_path), "--data", tmp_path, "-o", tmp_path / "out")
    assert result.code == 1 and "its name is no UTF-8; rename it" in result.err and len(result.err.splitlines()) == 1


def test_its_processes_end_with_the_command(tmp_path):
    (tmp_path / "killed.py").write_text(
        "import multiprocessing, threading, time\nfrom faceblur_core.datasets import blur_faces\n"
        "def work():\n    threading.Thread(target=blur_faces._end_with_parent, daemon=True).start()\n"
        "    print('works', flush=True)\n    time.sleep(100)\n"
        "if __name__ == '__main__':\n    multiprocessing.get_context('spawn').Process(target=work).start()\n    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, tmp_path / "killed.py"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "works\n"
        process.kill()
        assert process.communicate(timeout=50)[0] == ""  # returns when the last process that has the pipe is gone
