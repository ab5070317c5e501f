"""``faceblur dataset export-yolo``: boxes and rows against known answers, what is left out, a folder whole or not there."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from faceblur_core.datasets import export_yolo
from faceblur_core.datasets.export_yolo import clipped, label
from faceblur_core.datasets.labels import BadRows
from faceblur_core.datasets.yolo import YoloText
from faceblur_core.types import Ellipse
from photos import encoded

FACES = {  # split, name -> ellipses (cx, cy, rx, ry, angle) in a picture of 100 x 100
    ("train", "00001"): [(50, 40, 20, 30, 0.0), (5, 50, 20, 10, np.pi / 2)],
    ("train", "00002"): [],
    ("val", "00001"): [(2, 50, 2, 40, 0.0), (-8, 50, 10, 20, 0.0), (90, 95, 20, 20, 0.0)],
}


@pytest.fixture
def made(tmp_path):
    """A set of three pictures, as faceblur dataset build leaves it, but for what the export has no use for."""
    folder, rows = tmp_path / "set", []
    for seed, ((split, name), faces) in enumerate(FACES.items()):
        (folder / split).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (100, 100, 3), np.uint8)
        (folder / split / f"{name}.jpg").write_bytes(encoded(pixels, "JPEG"))
        ellipses = [dict(zip(("cx", "cy", "rx", "ry", "angle"), face, strict=True)) for face in faces]
        own = {"name": name, "split": split, "source": "here", "photo": f"{seed}.png", "photo_sha256": "0" * 64}
        rows.append({**own, "identity": None, "crop_number": 0, "crop": [0, 0, 64], "faces": ellipses, "sha256": {}})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_rows_and_folders(cli, made, tmp_path):
    out = tmp_path / "new" / "out"
    result = cli("dataset", "export-yolo", made, "-o", out)
    assert result.code == 0 and result.err == ""
    table = [line.split() for line in result.out.splitlines()[2:4]]
    assert table == [["train", "2", "1", "2", "0", "0"], ["val", "1", "0", "1", "1", "1"]]
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    assert files["labels/train/00001.txt"].read_text().splitlines() == [
        "0 0.500000 0.400000 0.400000 0.600000",
        "0 0.075000 0.500000 0.150000 0.400000",  # turned by a right angle, cut off on the left
    ]
    assert files["labels/train/00002.txt"].read_text() == ""
    assert files["labels/val/00001.txt"].read_text() == "0 0.850000 0.875000 0.300000 0.250000\n"
    for split, name in FACES:
        assert files[f"images/{split}/{name}.jpg"].read_bytes() == (made / split / f"{name}.jpg").read_bytes()
    assert yaml.safe_load(files["data.yaml"].read_text()) == {
        "train": "images/train", "val": "images/val", "names": {0: "face"},
    }  # fmt: skip
    rows = [json.loads(line) for line in files["manifest.jsonl"].read_text().splitlines()]
    assert [row["boxes"] for row in rows] == [[[30, 10, 70, 70], [0, 30, 15, 70]], [], [[70, 75, 100, 100]]]
    assert rows[2]["photo"] == "2.png" and len(files) == 8
    assert os.listdir(out.parent) == ["out"] and out.stat().st_mode & 0o055 == 0o055


def test_our_importer_reads_what_is_written(cli, made, tmp_path):
    assert cli("dataset", "export-yolo", made, "-o", tmp_path / "out", "--least", 0, "--shown", 0).code == 0
    photos = YoloText(images=tmp_path / "out" / "images" / "val", labels=tmp_path / "out" / "labels" / "val")(BadRows())
    bounds = [face.ellipse.bounds() for photo in photos for face in photo.faces]
    np.testing.assert_allclose(bounds, [(0, 10, 4, 90), (0, 30, 2, 70), (70, 75, 100, 100)], atol=0.001)


def test_copied_where_there_are_no_links(cli, made, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("no links here")

    monkeypatch.setattr(export_yolo.os, "link", refused)
    assert cli("dataset", "export-yolo", made, "-o", tmp_path / "out").code == 0
    copy = tmp_path / "out" / "images" / "train" / "00002.jpg"
    assert copy.stat().st_nlink == 1 and copy.read_bytes() == (made / "train" / "00002.jpg").read_bytes()


@given(*(st.floats(-150, 250) for _ in range(2)), *(st.floats(1, 100) for _ in range(2)), st.floats(0, np.pi))
def test_boxes_lie_in_the_picture(cx, cy, rx, ry, angle):
    face = Ellipse(cx, cy, rx, ry, angle)
    (x1, y1, x2, y2), share = clipped(face, 80, 100)
    assert 0 <= x1 <= x2 <= 100 and 0 <= y1 <= y2 <= 80 and 0 <= share <= 1 + 1e-9
    low_x, low_y, high_x, high_y = face.bounds()
    if low_x >= 0 and low_y >= 0 and high_x <= 100 and high_y <= 80:
        assert share == pytest.approx(1)
        kind, *values = (float(word) for word in label((x1, y1, x2, y2), 80, 100).split())
        assert kind == 0 and values[0] * 100 == pytest.approx(cx, abs=1e-3) and values[1] * 80 == pytest.approx(cy, abs=1e-3)


def refused(result, code, *parts):
    assert result.code == code and len(result.err.splitlines()) == 1, result.err
    assert all(part in result.err for part in parts), result.err


def test_refusals_leave_nothing(cli, made, tmp_path):
    out = tmp_path / "out"
    (made / "val" / "00001.jpg").write_bytes(b"no picture")
    refused(cli("dataset", "export-yolo", made, "-o", out), 1, "00001.jpg")
    (made / "val" / "00001.jpg").unlink()
    refused(cli("dataset", "export-yolo", made, "-o", out), 1, "00001.jpg")
    assert {path.name for path in tmp_path.iterdir()} == {"set"}
    refused(cli("dataset", "export-yolo", made, "-o", made), 2, "is there; choose a new folder")
    refused(cli("dataset", "export-yolo", made / "train", "-o", out), 2, "holds no manifest.jsonl")
    rows = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
    (made / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    refused(cli("dataset", "export-yolo", made, "-o", out), 2, "has no split val; Ultralytics wants train and val")
    for wrong in ({"cx": 1}, {"cx": float("nan"), "cy": 5, "rx": 5, "ry": 5, "angle": 0}):
        bad = [{**rows[0], "faces": [wrong]}, *rows[1:]]
        (made / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bad))
        refused(cli("dataset", "export-yolo", made, "-o", out), 2, "manifest.jsonl, line 1: no row of a data set", "'faces'")
    (made / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    refused(cli("dataset", "export-yolo", made, "-o", out), 2, "holds train/00001 twice")
    assert not out.exists()


def test_interrupted_it_leaves_nothing(cli, made, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_yolo, "label", interrupted)
    (tmp_path / "out").mkdir()
    assert cli("dataset", "export-yolo", made, "-o", tmp_path / "out").code == 130
    assert not list((tmp_path / "out").iterdir()) and {path.name for path in tmp_path.iterdir()} == {"set", "out"}
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "out")
    assert cli("dataset", "export-yolo", made, "-o", tmp_path / "out").code == 0
