"""``faceblur dataset``: build, check, label, review, rename."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import one_line
from faceblur_core.datasets import builder, rename
from faceblur_core.datasets.crops import Crops, faces_in, plan_crop, shown_part
from faceblur_core.datasets.duplicates import Fingerprint, fingerprint, near_duplicates
from faceblur_core.datasets.labels import Face, LabelledPhoto
from faceblur_core.types import Ellipse
from photos import encoded, opened

SKIN, SIZE = (20, 230, 40), 64
PARTS = ("train", "train_blur", "train_mask", "val", "val_blur", "val_mask")
PORTRAITS = {f"p{person}_{k}.png": 2 * person + k for person in range(8) for k in range(2)}  #: name -> seed


def scene(seed: int, boxes=(), height: int = 150, width: int = 200) -> np.ndarray:
    """A picture without green, like no other one, with a green ellipse and dark eyes in every box."""
    coarse = np.random.default_rng(seed).integers(0, 220, (5, 7, 3), np.uint8)
    coarse[..., 1] = 0
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    for x1, y1, x2, y2 in boxes:
        face = Ellipse((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2)
        image[face.inside(height, width)] = SKIN
        for side in (-0.4, 0.4):
            image[Ellipse(face.cx + side * face.rx, face.cy, face.rx / 6, face.ry / 6).inside(height, width)] = (90, 0, 90)
    return image


def box_of(seed: int) -> list[float]:
    rng = np.random.default_rng([seed, 1])
    height = rng.uniform(45, 80)
    x, y = rng.uniform(5, 190 - 0.8 * height), rng.uniform(5, 145 - height)
    return [x, y, x + 0.8 * height, y + height]


def write_labels(path: Path, rows: dict[str, list[list[float]]]) -> None:
    path.write_text(
        "".join(json.dumps({"input": name, "detections": [{"box": b} for b in boxes]}) + "\n" for name, boxes in rows.items())
    )


def green(image: np.ndarray) -> np.ndarray:
    return image[..., 1].astype(int) > 110


def read(path: Path) -> np.ndarray:
    return np.asarray(opened(path).convert("RGB"))


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def write_rows(folder: Path, rows: list[dict]) -> None:
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_config(path: Path, changes: dict[str, object]) -> Path:
    """CONFIG with changes of its keys; a dotted key goes deeper."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        at, (*way, last) = config, key.split(".")
        for step in way:
            at = at[step]
        at[last] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


CONFIG = {
    "count": 20,
    "size": SIZE,
    "seed": 3,
    "sources": {
        "faces": {
            "format": "reviewed", "images": "faces", "labels": "labels.jsonl", "identity": "^(.+)_", "share": 0.75,
            "crops": {"least": 0.3, "most": 0.7, "cut": 0},
        },
        "empty": {"format": "folder", "images": "empty", "share": 0.25, "crops": {"face": 0, "empty": 1}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 photos with one face, of 8 people, and 6 without."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "faces").mkdir()
    (folder / "empty").mkdir()
    for name, seed in PORTRAITS.items():
        (folder / "faces" / name).write_bytes(encoded(scene(seed, [box_of(seed)]), "PNG"))
    for seed in range(100, 106):
        (folder / "empty" / f"{seed}.png").write_bytes(encoded(scene(seed), "PNG"))
    write_labels(folder / "labels.jsonl", {name: [box_of(seed)] for name, seed in PORTRAITS.items()})
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set, to be looked at and not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "set"
    recipe = builder.load_recipe(write_config(data / "config.yaml", {}), data)
    report = builder.build(recipe, folder, builder.BadRows())
    assert report.made == {"train": 16, "val": 4}
    assert not report.warnings
    return folder


@pytest.fixture
def damaged(made: Path, tmp_path: Path) -> Path:
    """A copy of the small set, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "damaged"))


@pytest.fixture
def build(cli, data, tmp_path):
    """Build the small set with changes in its config."""

    def run(folder: Path, *arguments: object, **changes: object):
        config = write_config(tmp_path / "config.yaml", changes)
        return cli("dataset", "build", config, "--data", data, "-o", folder, *arguments)

    return run


# What a build makes


def test_a_set_has_the_same_numbers_in_every_folder(made: Path):
    assert sorted(path.name for path in made.iterdir()) == sorted([*PARTS, "dataset.yaml", "manifest.jsonl"])
    for part in PARTS:
        ending = ".png" if part.endswith("mask") else ".jpg"
        count = 16 if part.startswith("train") else 4
        assert sorted(path.name for path in (made / part).iterdir()) == [f"{n:05d}{ending}" for n in range(1, count + 1)]
        assert {opened(path).size for path in (made / part).iterdir()} == {(SIZE, SIZE)}
    rows = rows_of(made)
    assert Counter((row["split"], row["source"]) for row in rows) == {
        ("train", "faces"): 12, ("train", "empty"): 4, ("val", "faces"): 3, ("val", "empty"): 1,
    }  # fmt: skip
    assert all(
        hashlib.sha256((made / file).read_bytes()).hexdigest() == sha for row in rows for file, sha in row["sha256"].items()
    )
    facts = yaml.safe_load((made / "dataset.yaml").read_text())
    assert facts["config"] == CONFIG
    assert set(facts["made_by"]) == {"faceblur", "detectors"}


def test_truth_lies_on_the_face_and_only_the_face_differs_in_the_target(made: Path):
    for row in rows_of(made):
        photo, target, mask = (read(made / file) for file in row["sha256"])
        faces = [Ellipse(**face) for face in row["faces"]]
        assert len(faces) == (row["source"] == "faces")
        if not faces:
            assert np.array_equal(photo, target) and not mask.any()
            continue
        inside = faces[0].inside(SIZE, SIZE)
        seen = cv2.morphologyEx(green(photo).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)) > 0  # eyes closed
        assert (inside & seen).sum() / (inside | seen).sum() > 0.88, row
        assert (mask[faces[0].inside(SIZE, SIZE, 1.17)] == 255).all()
        outside = ~faces[0].inside(SIZE, SIZE, 1.18 * 1.11)
        assert not mask[outside].any()
        differ = np.abs(photo.astype(int) - target).max(axis=2)
        assert differ[outside].max() < 24 and differ[outside].mean() < 2  # what JPEG does beside an edge
        assert differ[inside].max() > 60, "the eyes are to be seen"


def test_a_pixel_mask_is_the_truth_as_it_is(cli, data, tmp_path):
    """The eyes are no skin and stay out of it, where an ellipse would hold them; ``grow`` leaves it alone."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "faces").symlink_to(data / "faces")
    for name in PORTRAITS:
        mask = green(read(data / "faces" / name)).astype(np.uint8) * 255
        (tmp_path / "masks" / name).write_bytes(encoded(mask, "PNG"))
    crops = {"least": 0.5, "most": 0.7, "cut": 0}
    source = {"format": "masks", "images": "faces", "masks": "masks", "pixels": True, "share": 1, "crops": crops}
    config = {**CONFIG, "sources": {"faces": source}, "target": {"grow": 2}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert cli("dataset", "build", tmp_path / "c.yaml", "--data", tmp_path, "-o", tmp_path / "set").code == 0
    rows = rows_of(tmp_path / "set")
    for row in rows:
        photo, mask = (read(tmp_path / "set" / file) for file in list(row["sha256"])[::2])
        hidden, seen = mask[..., 0] > 127, green(photo)
        assert (hidden & seen).sum() / (hidden | seen).sum() > 0.9
        face = Ellipse(**row["faces"][0])
        open_ = 1 - hidden[face.inside(SIZE, SIZE, 0.8)].mean()
        assert open_ == pytest.approx(2 / 6**2 / 0.8**2, abs=0.05), "the eyes are open"
    assert len(rows) == CONFIG["count"]


@pytest.mark.parametrize(("height", "width"), [(100, 200), (200, 100), (101, 103), (30, 20)])
def test_a_whole_photo_gets_black_bars_and_keeps_its_shape(build, data, tmp_path, height, width):
    side = min(height, width) - 4
    (tmp_path / "photos").mkdir()
    box = [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2]
    (tmp_path / "photos" / "round.png").write_bytes(encoded(scene(7, [box], height, width), "PNG"))
    write_labels(tmp_path / "labels.jsonl", {"round.png": [box]})
    source = {"format": "reviewed", "images": str(tmp_path / "photos"), "labels": str(tmp_path / "labels.jsonl"), "share": 1}
    changes = {"sources": {"one": {**source, "crops": {"face": 0, "whole": 1}}}, "count": 1, "splits": {"all": 1.0}, "digits": 3}
    assert build(tmp_path / "set", **changes).code == 0
    photo, target = read(tmp_path / "set/all/001.jpg"), read(tmp_path / "set/all_blur/001.jpg")
    ys, xs = np.nonzero(green(photo))
    assert abs(np.ptp(xs) - np.ptp(ys)) <= 1
    shown = np.zeros((SIZE, SIZE), bool)
    short = SIZE * min(height, width) / max(height, width)
    span = slice(round((SIZE - short) / 2), round((SIZE + short) / 2))
    shown[span if height < width else slice(None), slice(None) if height < width else span] = True
    bars = cv2.dilate(shown.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert photo[bars].max(initial=0) < 24 and target[bars].max(initial=0) < 24
    assert not read(tmp_path / "set/all_mask/001.png")[bars].any()


def test_a_whole_photo_is_taken_once(build, tmp_path):
    """Of a photo that may give it again, another kind is drawn; where there is no other, there are fewer pictures."""
    crops = {"face": 0.2, "whole": 0.8, "least": 0.3, "most": 0.7, "cut": 0}
    source = {**CONFIG["sources"]["faces"], "share": 1}
    assert build(tmp_path / "set", sources={"faces": {**source, "crops": crops}}, count=40).code == 0
    rows = rows_of(tmp_path / "set")
    whole = Counter(row["photo"] for row in rows if row["crop"] == [0, -25, 200])
    assert len(rows) == 40 and whole and set(whole.values()) == {1}
    assert len({row["sha256"][f"{row['split']}/{row['name']}.jpg"] for row in rows}) == 40
    assert build(tmp_path / "set", sources={"faces": {**source, "crops": crops}}, count=44).code == 0
    assert rows_of(tmp_path / "set")[:40] == rows, "it goes on as it began"
    result = build(tmp_path / "less", sources={"faces": {**source, "crops": {"face": 0, "whole": 1}}}, count=40)
    assert result.code == 0 and "gives 10 of the 32 pictures wanted for train" in result.err
    assert len(rows_of(tmp_path / "less")) == len(PORTRAITS)


def test_no_black_of_the_bars_gets_into_a_target(build, tmp_path):
    (tmp_path / "white.png").write_bytes(encoded(np.full((100, 200, 3), 255, np.uint8), "PNG"))
    write_labels(tmp_path / "labels.jsonl", {"white.png": [[50, 0, 150, 100]]})
    source = {"format": "reviewed", "images": str(tmp_path), "labels": str(tmp_path / "labels.jsonl"), "share": 1}
    changes = {"sources": {"one": {**source, "crops": {"face": 0, "whole": 1}}}, "count": 1, "splits": {"all": 1.0}}
    assert build(tmp_path / "set", **changes).code == 0
    assert read(tmp_path / "set/all_blur/00001.jpg")[17:47].min() > 240


def test_a_person_and_copies_of_a_photo_stay_in_one_split(cli, build, data, tmp_path):
    folder = Path(shutil.copytree(data / "faces", tmp_path / "faces"))
    labels = {name: [box_of(seed)] for name, seed in PORTRAITS.items()}
    for n, name in enumerate(list(labels)[::3]):  # under a stranger's name: half the size, and as JPEG
        image = read(folder / name)
        small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        (folder / f"q{n}_small.png").write_bytes(encoded(small, "PNG"))
        (folder / f"r{n}_again.jpg").write_bytes(encoded(image, "JPEG", quality=40))
        labels |= {f"q{n}_small.png": [[v / 2 for v in labels[name][0]]], f"r{n}_again.jpg": labels[name]}
    write_labels(tmp_path / "labels.jsonl", labels)
    changes = {"sources.faces.images": str(folder), "sources.faces.labels": str(tmp_path / "labels.jsonl"), "count": 60}
    assert build(tmp_path / "set", splits={"train": 0.5, "val": 0.3, "test": 0.2}, **changes).code == 0
    where: dict[str, set[str]] = {}
    for row in rows_of(tmp_path / "set"):
        person = row["identity"] or row["photo"]
        person = f"p{int(person[1:]) * 3 // 2}" if person[0] in "qr" else person  # whose copy it is
        where.setdefault(person, set()).add(row["split"])
    assert len(where) > 10
    assert all(len(splits) == 1 for splits in where.values()), where
    checked = cli("dataset", "check", tmp_path / "set")
    assert checked.code == 0, checked.err


def test_excluded_photos_and_their_copies_are_left_out(build, data, tmp_path):
    (tmp_path / "out").mkdir()
    for name, (scale, quality) in {"p0_0.png": (1, 95), "p3_1.png": (0.6, 60), "p5_0.png": (1.7, 80)}.items():
        copied = cv2.resize(read(data / "faces" / name), None, fx=scale, fy=scale)
        (tmp_path / "out" / f"copy-of-{name}.jpg").write_bytes(encoded(copied, "JPEG", quality=quality))
    shutil.copy(data / "empty" / "100.png", tmp_path / "out")
    exclude = {"testset": {"format": "folder", "images": str(tmp_path / "out")}}
    result = build(tmp_path / "set", exclude=exclude)
    gone = {"p0_0.png", "p3_1.png", "p5_0.png", "100.png"}
    assert result.code == 0
    assert gone == {line.split(" left out ")[1].split(",")[0] for line in result.err.splitlines() if "near-duplicate" in line}
    assert not gone & {row["photo"] for row in rows_of(tmp_path / "set")}
    assert build(tmp_path / "plain").code == 0
    one_line(build(tmp_path / "plain", count=21, exclude=exclude), 2, "p", "near-duplicate of a photo to exclude", "new folder")


def test_a_source_that_is_too_small_is_a_warning(build, tmp_path):
    result = build(tmp_path / "set", count=200)
    assert result.code == 0
    assert "faceblur: source empty gives " in result.err and " wanted for train" in result.err


def test_detectors_add_faces_and_confirm_labels(build, tmp_path, astronaut):
    (tmp_path / "p").mkdir()
    for name, image in {"good.png": astronaut, "wrong.png": astronaut[:, ::-1].copy(), "none.png": scene(1)}.items():
        (tmp_path / "p" / name).write_bytes(encoded(image, "PNG"))
    write_labels(tmp_path / "l.jsonl", {"good.png": [[178, 53, 270, 181]], "wrong.png": [[10, 300, 90, 400]], "none.png": []})
    common = {"images": str(tmp_path / "p"), "detect": ["haar"], "share": 1, "crops": {"face": 0, "whole": 1}}
    changes = {"count": 3, "splits": {"all": 1.0}}
    result = build(tmp_path / "one", sources={"found": {"format": "folder", **common}}, **changes)
    assert "left out 1 photos in which no face is labelled or found" in result.err
    assert {(row["photo"], len(row["faces"])) for row in rows_of(tmp_path / "one")} == {("good.png", 1), ("wrong.png", 1)}
    labelled = {"format": "reviewed", "labels": str(tmp_path / "l.jsonl"), "confirmed": True, "drop_unlabelled": False, **common}
    result = build(tmp_path / "two", sources={"confirmed": labelled}, **changes)
    assert "left out 1 photos in which detectors find faces, but not a labelled one" in result.err
    assert {row["photo"] for row in rows_of(tmp_path / "two")} == {"good.png", "none.png"}


def test_confirmed_needs_detectors(build, tmp_path):
    source = {"format": "folder", "images": "faces", "share": 1, "confirmed": True}
    one_line(build(tmp_path / "set", sources={"some": source}), 2, "source some: confirmed needs detect")


# The same bytes


def test_the_same_config_makes_the_same_bytes(build, made, tmp_path):
    for workers in (1, 3):
        assert build(tmp_path / f"{workers}", "--workers", workers).code == 0
        assert tree(tmp_path / f"{workers}") == tree(made)


def test_a_set_grows_without_renumbering(build, made, damaged, cli):
    before = tree(damaged)
    result = build(damaged, count=40)
    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()[2:4]] == [["train", "16", "16"], ["val", "4", "4"]]
    after = tree(damaged)
    changed = {"dataset.yaml", "manifest.jsonl"}
    assert {name: after[name] for name in before if name not in changed} == {k: v for k, v in before.items() if k not in changed}
    assert (damaged / "manifest.jsonl").read_text().startswith((made / "manifest.jsonl").read_text())
    assert Counter(row["split"] for row in rows_of(damaged)) == {"train": 32, "val": 8}
    assert cli("dataset", "check", damaged).code == 0
    assert build(damaged, count=40).code == 0
    assert tree(damaged) == after


def test_people_who_are_in_two_splits_already_are_told(build, tmp_path):
    source = {key: value for key, value in CONFIG["sources"]["faces"].items() if key != "identity"}
    sources = {"faces": {**source, "share": 1}}
    assert build(tmp_path / "set", sources=sources, splits={"train": 0.5, "val": 0.5}).code == 0
    before = tree(tmp_path / "set")
    sources["faces"]["identity"] = "^(.+)_"
    again = build(tmp_path / "set", sources=sources, splits={"train": 0.5, "val": 0.5}, count=30)
    one_line(again, 2, "of the same person or near-duplicates of it, in the splits train and val; choose a new folder")
    assert tree(tmp_path / "set") == before


@pytest.mark.parametrize("change", ["photo", "labels", "crops"])
def test_a_set_of_other_photos_labels_or_crops_is_not_continued(cli, build, data, made, damaged, tmp_path, change):
    own, changes = tmp_path / "data", {}
    shutil.copytree(data, own)
    row = next(row for row in rows_of(damaged) if row["faces"])
    if change == "photo":
        (own / "faces" / row["photo"]).write_bytes(encoded(scene(99), "PNG"))
    elif change == "labels":
        rows = [json.loads(line) for line in (own / "labels.jsonl").read_text().splitlines()]
        write_labels(own / "labels.jsonl", {one["input"]: [] for one in rows})
    else:
        changes = {"sources.faces.crops": {"whole": 1}}
    before = tree(damaged)
    config = write_config(tmp_path / "other.yaml", changes)
    one_line(cli("dataset", "build", config, "--data", own, "-o", damaged), 2, "its labels or its crops changed", "new folder")
    assert tree(damaged) == before


def test_new_photos_of_a_person_go_where_the_others_are(cli, build, data, made, damaged, tmp_path):
    faces = Path(shutil.copytree(data / "faces", tmp_path / "faces"))
    labels = {name: [box_of(seed)] for name, seed in PORTRAITS.items()}
    for seed, name in enumerate([f"p{person}_!.png" for person in range(8)], start=200):  # before the others by its name
        (faces / name).write_bytes(encoded(scene(seed, [box_of(seed)]), "PNG"))
        labels[name] = [box_of(seed)]
    write_labels(tmp_path / "labels.jsonl", labels)
    changes = {"sources.faces.images": str(faces), "sources.faces.labels": str(tmp_path / "labels.jsonl")}
    assert build(damaged, count=50, **changes).code == 0
    assert rows_of(damaged)[:20] == rows_of(made)
    assert len({row["photo"] for row in rows_of(damaged)[20:]} - set(PORTRAITS)) > 8
    assert cli("dataset", "check", damaged).code == 0


@pytest.mark.parametrize(
    ("step", "after", "cut_off"),
    [("_recipe_facts", 0, ""), ("_make", 0, "")] + [("_make", 9, text) for text in ("", "{", '{"name": "00009", "split": "tr')],
)
def test_an_interrupted_build_goes_on_to_the_same_bytes(build, made, tmp_path, monkeypatch, step, after, cut_off):
    real, calls = getattr(builder, step), []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(builder, step, interrupted)
        stopped = build(tmp_path / "set", "--workers", 1)
    assert (stopped.code, stopped.err) == (130, "\nfaceblur: interrupted\n")
    if after:
        assert len(rows_of(tmp_path / "set")) == after
        with (tmp_path / "set" / "manifest.jsonl").open("a") as manifest:
            manifest.write(cut_off)
    assert build(tmp_path / "set").code == 0
    assert tree(tmp_path / "set") == tree(made)


# Refusals


def test_a_folder_of_something_else_is_refused(build, data, tmp_path):
    one_line(build(data), 2, "is there and holds no dataset.yaml")
    one_line(build(data / "labels.jsonl"), 2, "is there and holds no dataset.yaml")
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo" / "dataset.yaml").write_text("path: .\ntrain: images/train\n")
    one_line(build(tmp_path / "yolo", size=128), 2, "was not written by faceblur dataset build")
    assert (tmp_path / "yolo" / "dataset.yaml").read_text().startswith("path: .")


@pytest.mark.parametrize(
    "changes",
    [{"size": 128}, {"seed": 4}, {"splits": {"train": 1.0}}, {"digits": 6}, {"quality": 90}, {"target": {"grow": 2}}],
)
def test_a_set_made_in_another_way_is_refused(build, made, changes):
    before = tree(made)
    (key, value), *_ = changes.items()
    one_line(build(made, **changes), 2, f"was made with {key}: ", f"the config says {value}")
    assert tree(made) == before


def test_a_damaged_manifest_is_told_with_its_line(build, cli, damaged):
    rows = rows_of(damaged)
    write_rows(damaged, [*rows[:3], {k: v for k, v in rows[3].items() if k != "photo"}, *rows[4:]])
    one_line(build(damaged), 2, "manifest.jsonl, line 4", "'photo'")
    one_line(cli("dataset", "check", damaged), 2, "manifest.jsonl, line 4", "'photo'")
    for key, value in (("name", "one"), ("faces", [{"cx": 1}]), ("sha256", "abc"), ("crop_number", None)):
        write_rows(damaged, [rows[0], {**rows[1], key: value}, *rows[2:]])
        one_line(build(damaged), 2, "manifest.jsonl, line 2", repr(key))
        one_line(cli("dataset", "check", damaged), 2, "manifest.jsonl, line 2", repr(key))
    (damaged / "manifest.jsonl").write_text("no json\n")
    one_line(build(damaged), 2, "manifest.jsonl, line 1")


BAD = {
    "count: 0": "count=0", "count: many": "count=many", "count: 100000": "do not fit into 5 digits", "size: 8": "size=8",
    "size: 64.5": "size=64.5", "seed: -1": "seed=-1", "quality: 101": "quality=101", "digits: 0": "digits=0", "sise: 9": "size",
    "least_face: .nan": "least_face", "splits: {train: 0.8}": "add up to 0.8", "splits: {a: 2, b: -1}": "bad option",
    "splits: {a/b: 1}": "'a/b' cannot be the name of a folder", "splits: {a_mask: 1}": "'a_mask' cannot be",
    "sources: {}": "no sources", "sources: [1]": "sources", "exclude: {x: {format: folder}}": "needs 'images'",
    "target: {grow: 0.5}": "grow=0.5", "target: {obfuscator: gausian}": "Did you mean gaussian?",
    "target: {options: {sigma: -1}}": "sigma=-1", "target: {colour: red}": "'colour'",
    "target: {obfuscator: solid, options: {sigma: 1}}": "'sigma'", "sources.faces.share: 0.5": "add up to 0.75",
    "sources.faces.share: 0": "share=0", "sources.faces.format: fddbb": "Did you mean fddb?",
    "sources.faces.identity: '('": "no regular expression", "sources.faces.identity: 'x(.)'": "finds nobody in the name",
    "sources.faces.detect: [yunnet]": "yunet",
    "sources.faces.labls: x": "labels", "sources.faces.crops: {fase: 1}": "face", "sources.faces.crops: {face: -1}": "face=-1",
    "sources.faces.crops: {face: .inf}": "face=inf", "sources.faces.crops: {face: 0}": "every weight is 0",
    "sources.faces.crops: {least: 0.9, most: 0.5}": "least 0.9 is more than most",
    "sources.faces.crops: {per_photo: 0}": "per_photo=0", "sources.faces.crops: 3": "crops=3", "sources.faces: 3": "sources",
}  # fmt: skip


@pytest.mark.parametrize("line", BAD)
def test_a_bad_config_is_one_line_and_leaves_nothing(build, tmp_path, line):
    key, _, value = line.partition(": ")
    one_line(build(tmp_path / "set", **{key: yaml.safe_load(value)}), 2, BAD[line])
    assert not (tmp_path / "set").exists()


def test_a_missing_file_is_one_line(build, tmp_path):
    for key in ("images", "labels"):
        result = build(tmp_path / "set", **{f"sources.faces.{key}": "none.x"})
        one_line(result, 1, "none.x: No such file or directory; --data names")


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [("count: [", 2, "no YAML"), ("- 1", 2, "no mapping"), ("size: 64", 2, "needs 'count'"), (None, 2, "No such file")],
)
def test_a_file_that_is_no_config(cli, tmp_path, text, code, part):
    if text:
        (tmp_path / "c.yaml").write_text(text)
    one_line(cli("dataset", "build", tmp_path / "c.yaml", "-o", tmp_path / "set"), code, part)
    one_line(cli("dataset", "build", "faces12", "-o", tmp_path / "set"), 2, "Did you mean faces12k or faces416?")


def test_skip_bad_leaves_out_a_photo_with_a_bad_row_and_says_so(build, data, tmp_path):
    folder = Path(shutil.copytree(data / "faces", tmp_path / "faces"))
    (folder / "p2_0.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    labels = {name: [box_of(seed)] for name, seed in PORTRAITS.items()} | {"p1_0.png": [[9, 9, 5, 20]]}
    write_labels(tmp_path / "labels.jsonl", labels)
    changes = {"sources.faces.images": str(folder), "sources.faces.labels": str(tmp_path / "labels.jsonl")}
    one_line(build(tmp_path / "set", **changes), 1, "labels.jsonl, line 3", "--skip-bad")
    result = build(tmp_path / "set", "--skip-bad", **changes)
    assert result.code == 0
    assert "labels.jsonl, line 3" in result.err and "p2_0.png" in result.err
    assert not {"p1_0.png", "p2_0.png"} & {row["photo"] for row in rows_of(tmp_path / "set")}


# Crops


@st.composite
def photos(draw) -> LabelledPhoto:
    height, width = draw(st.integers(1, 400)), draw(st.integers(1, 400))

    def face():
        ry = draw(st.floats(1, 150))
        return Face(Ellipse(draw(st.floats(0, width)), draw(st.floats(0, height)), draw(st.floats(0.5, 1)) * ry, ry))

    return LabelledPhoto(Path("x.jpg"), "x.jpg", height, width, tuple(face() for _ in range(draw(st.integers(0, 3)))))


def inside(photo: LabelledPhoto, crop, face: Face) -> bool:
    """Is what shows of a face inside the crop, up to rounding?"""
    x1, y1, x2, y2 = face.ellipse.bounds()
    x = max(x1, 0) >= crop.x - 1 and min(x2, photo.width) <= crop.x + crop.side + 1
    return x and max(y1, 0) >= crop.y - 1 and min(y2, photo.height) <= crop.y + crop.side + 1


@given(photos(), st.integers(0, 99), st.sampled_from([1.0, 1.6]), st.sampled_from([0.0, 1.0]))
def test_a_square_about_a_face_holds_it(photo, seed, beyond, cut):
    crops = Crops(cut=cut, beyond=beyond)
    crop = plan_crop(photo, crops, np.random.default_rng(seed))
    large = [face for face in photo.faces if face.height >= crops.least_pixels]
    assert (crop is None) == (not large)
    if crop is None:
        return
    assert 1 <= crop.side <= round(beyond * max(photo.height, photo.width))
    assert crop.side >= min(beyond * max(photo.height, photo.width), min(f.height for f in large) / crops.most) - 1
    for start, length in ((crop.x, photo.width), (crop.y, photo.height)):
        if crop.side <= length:
            assert 0 <= start <= length - crop.side
        else:
            assert length - crop.side <= start <= 0
    fitting = [face for face in large if face.height <= crop.side]
    if not cut and len(fitting) == len(large) == 1:
        assert inside(photo, crop, large[0])
        assert crop.side < round(beyond * max(photo.height, photo.width)) or large[0].height / crop.side >= crops.least - 0.01


@given(photos(), st.integers(0, 99))
def test_a_square_without_a_face_is_in_the_photo_and_has_none(photo, seed):
    crop = plan_crop(photo, Crops(face=0, empty=1), np.random.default_rng(seed))
    if crop is None:
        assert photo.faces
        return
    assert 0 <= crop.x <= photo.width - crop.side and 0 <= crop.y <= photo.height - crop.side and crop.side >= 1
    assert faces_in(photo.faces, crop, SIZE, 0.0) == ()


@given(photos(), st.integers(0, 99))
def test_a_square_about_several_faces_holds_two(photo, seed):
    crop = plan_crop(photo, Crops(face=0, several=1), np.random.default_rng(seed))
    if crop is not None and crop.side < max(photo.height, photo.width):
        assert sum(inside(photo, crop, face) for face in photo.faces) >= 2


@given(photos())
def test_a_whole_photo_is_in_its_square(photo):
    crop = plan_crop(photo, Crops(face=0, whole=1), np.random.default_rng(0))
    rows, columns = shown_part(crop, photo.height, photo.width, crop.side)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (photo.height, photo.width)


# Near-duplicates


COPIES = {
    "half": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "stretched": lambda image: cv2.resize(image, (300, 300)),
    "jpeg": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR),
    "cropped": lambda image: image[4:-3, 3:-4],
    "darker": lambda image: (image * 0.8).astype(np.uint8),
    "noise": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 5, image.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", COPIES)
def test_copies_are_near_duplicates(astronaut, change):
    from skimage import data

    originals = [astronaut, data.chelsea(), data.coffee(), data.rocket()]
    copies = [fingerprint(np.ascontiguousarray(COPIES[change](image))) for image in originals]
    assert list(near_duplicates([fingerprint(image) for image in originals], copies)) == [(i, i) for i in range(4)]


def test_other_pictures_are_not():
    several = [fingerprint(scene(seed)) for seed in range(100)]
    assert list(near_duplicates(several)) == []
    flat = fingerprint(np.zeros((50, 50, 3), np.uint8))
    assert list(near_duplicates([flat, flat])) == [] == list(near_duplicates([], several))


def test_pairs_across_blocks_are_found(monkeypatch):
    monkeypatch.setattr("faceblur_core.datasets.duplicates.BLOCK", 2)
    thumbs = np.random.default_rng(0).integers(0, 255, (7, 32, 32), np.uint8)
    several = [Fingerprint(1 << (7 * n), thumbs[n]) for n in (0, 1, 2, 3, 1, 5, 0)]
    assert sorted(near_duplicates(several)) == [(0, 6), (1, 4)]


# Check


def test_check_of_a_whole_set(cli, made, tmp_path):
    result = cli("dataset", "check", made, "--html", tmp_path / "new" / "check.html")
    assert (result.code, result.err) == (0, "")
    assert [line.split()[:4] for line in result.out.splitlines()[2:4]] == [["train", "16", "0", "12"], ["val", "4", "0", "3"]]
    before = (made / "manifest.jsonl").read_bytes()
    one_line(cli("dataset", "check", made, "--html", made / "manifest.jsonl"), 2, "manifest.jsonl is there and is no HTML page")
    assert (made / "manifest.jsonl").read_bytes() == before
    assert cli("dataset", "check", made, "--html", tmp_path / "new" / "check.html").code == 0, "a page is replaced"
    page = (tmp_path / "new" / "check.html").read_text()
    assert page.count("<figure>") >= 20 and page.count("data:image/svg+xml") == 5
    assert "http" not in page and 'src="data:' in page and page.count("src=") == page.count('src="data:')


def test_check_without_a_manifest_finds_the_faces_in_the_masks(cli, made, damaged):
    with_manifest = cli("dataset", "check", made).out
    (damaged / "manifest.jsonl").unlink()
    result = cli("dataset", "check", damaged)
    assert result.code == 0
    assert [line.split()[:3] for line in result.out.splitlines()] == [line.split()[:3] for line in with_manifest.splitlines()]


def test_check_counts_equal_pictures_of_a_split(cli, damaged):
    for number in (30, 31):
        for part in PARTS[:3]:
            ending = ".png" if part.endswith("mask") else ".jpg"
            shutil.copy(damaged / part / f"00001{ending}", damaged / part / f"{number:05}{ending}")
    (damaged / "manifest.jsonl").unlink()
    lines = cli("dataset", "check", damaged).out.splitlines()
    assert lines[0].split()[:3] == ["split", "pictures", "repeats"]
    assert [line.split()[:3] for line in lines[2:4]] == [["train", "18", "2"], ["val", "4", "0"]]


def _swap_target(folder: Path) -> None:
    shutil.copy(folder / "train_blur/00001.jpg", folder / "train_blur/00002.jpg")


def _shrink(folder: Path) -> None:
    (folder / "train/00003.jpg").write_bytes(encoded(read(folder / "train/00003.jpg")[::2, ::2], "JPEG"))


def _truncate(folder: Path) -> None:
    (folder / "val/00001.jpg").write_bytes((folder / "val/00001.jpg").read_bytes()[:300])


def _triple(folder: Path) -> None:
    for part in PARTS[:3]:
        ending = ".png" if part.endswith("mask") else ".jpg"
        shutil.copy(folder / part / f"00001{ending}", folder / PARTS[3 + PARTS.index(part)] / f"00009{ending}")


def _row(key: str):
    def change(folder: Path) -> None:
        rows = rows_of(folder)
        faces = [next(row for row in rows if row["split"] == split and row["identity"]) for split in ("train", "val")]
        faces[1][key] = faces[0][key]
        write_rows(folder, rows)

    return change


FAULTS = {
    "missing": (lambda f: (f / "train_mask/00002.png").unlink(), "train_mask/00002.png is missing"),
    "folder": (lambda f: shutil.rmtree(f / "val_blur"), "val_blur/00001.jpg is missing"),
    "photos": (lambda f: shutil.rmtree(f / "val"), "val/00001.jpg is missing"),
    "all": (lambda f: [shutil.rmtree(f / part) for part in PARTS[3:]], "val/00001 is in the manifest and not there"),
    "changed": (_swap_target, "train_blur/00002.jpg is not the file of the manifest"),
    "size": (_shrink, "train/00003: photo, target and mask differ in size"),
    "damaged": (_truncate, "val/00001.jpg: "),
    "stray": (lambda f: (f / "train/notes.txt").write_text("x"), "train/notes.txt is no picture of the set"),
    "png": (lambda f: shutil.copy(f / "val_mask/00001.png", f / "val"), "val/00001.png is no picture of the set"),
    "directory": (lambda f: (f / "val/00001.jpg").unlink() or (f / "val/00001.jpg").mkdir(), "val/00001.jpg: Is a directory"),
    "extra": (_triple, "val/00009 is not in the manifest"),
    "copy": (_triple, "train/00001 and val/00009 are near-duplicates"),
    "person": (_row("identity"), "is in train and val"),
    "photo": (_row("photo_sha256"), "is in train and val"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_check_finds(cli, damaged, tmp_path, fault):
    damage, message = FAULTS[fault]
    damage(damaged)
    result = cli("dataset", "check", damaged, "--html", tmp_path / "check.html")
    assert result.code == 1
    assert message in result.err, result.err
    assert result.err.count("\n") <= 8
    assert message.partition(":")[0] in (tmp_path / "check.html").read_text()


def test_two_photos_of_one_name_are_two_photos(cli, damaged):
    write_rows(damaged, [{**row, "photo": "same.jpg"} for row in rows_of(damaged)])
    assert cli("dataset", "check", damaged).code == 0


def test_check_lists_at_most_twenty_faults_of_a_kind(cli, damaged):
    for n in range(30):
        (damaged / "train" / f"{n}.txt").touch()
    lines = cli("dataset", "check", damaged).err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "faceblur: … and 10 more like the last one"


def test_check_finds_photos_of_a_test_set(cli, data, damaged, tmp_path):
    (tmp_path / "photos").mkdir()
    row = next(row for row in rows_of(damaged) if row["source"] == "empty")
    shutil.copy(data / "empty" / row["photo"], tmp_path / "photos" / "innocent.png")
    config = {"name": "mine", "version": 1, "summary": "s", "licence": "l", "source": {"format": "folder", "images": "photos"}}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(config))
    assert cli("testset", "build", tmp_path / "t.yaml", "--data", tmp_path, "-o", tmp_path / "testset").code == 0
    result = cli("dataset", "check", damaged, "--testset", tmp_path / "testset")
    assert result.code == 1
    assert f"{row['split']}/{row['name']} is made from a photo of test set mine-v1" in result.err


def test_check_of_empty_folders_and_of_a_set_without_faces(cli, build, data, tmp_path):
    for part in PARTS:
        (tmp_path / "hollow" / part).mkdir(parents=True)
    for folder in (tmp_path / "nothing", tmp_path, data):
        one_line(cli("dataset", "check", folder), 2, "holds no data set")
    result = cli("dataset", "check", tmp_path / "hollow", "--html", tmp_path / "hollow.html")
    assert (result.code, result.err) == (1, f"faceblur: {tmp_path / 'hollow'} holds no complete picture\n")
    source = {**CONFIG["sources"]["empty"], "share": 1}
    assert build(tmp_path / "set", sources={"empty": source}, count=10).code == 0
    result = cli("dataset", "check", tmp_path / "set", "--html", tmp_path / "set.html")
    assert (result.code, result.err) == (0, "")
    assert "nan" not in result.out


# Label and review


def test_label_review_redo_build(cli, tmp_path, astronaut):
    from skimage import data

    photos, labels = tmp_path / "photos", tmp_path / "out" / "labels.jsonl"
    (photos / "sub").mkdir(parents=True)
    pictures = {"a.png": astronaut, "sub/b ä.png": astronaut[:, ::-1].copy(), "c.png": data.coffee(), "d.png": astronaut[:300]}
    for name, image in pictures.items():
        (photos / name).write_bytes(encoded(image, "PNG"))
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    (photos / "cut.png").write_bytes(encoded(astronaut, "PNG")[:20_000])

    (tmp_path / "none").mkdir()
    one_line(cli("dataset", "label", tmp_path / "none", "-o", labels, "-m", "haar"), 2, f"no pictures in {tmp_path / 'none'}")
    assert not labels.exists()
    os.mkfifo(photos / "pipe.png")

    result = cli("dataset", "label", photos, "-o", labels, "-m", "haar")
    assert result.code == 1, "two pictures cannot be read"
    assert sorted(line.split(":")[1].strip() for line in result.err.splitlines()) == [
        str(photos / n) for n in ("bad.png", "cut.png")
    ]
    rows = {row["input"]: row for row in map(json.loads, labels.read_text().splitlines())}
    assert set(rows) == set(pictures)
    assert len(rows["a.png"]["detections"]) == 1
    one_line(cli("dataset", "label", photos, "-o", labels), 2, "--redo")

    page, marks = tmp_path / "review" / "page.html", tmp_path / "review" / "page.txt"
    one_line(cli("dataset", "review", labels, "--images", photos, "-o", marks), 2, "both the page and the file of marks")
    one_line(cli("dataset", "review", labels, "--images", photos, "-o", photos / "a.png"), 2, "is there and is no HTML page")
    assert cli("dataset", "review", labels, "--images", photos, "-o", page).code == 0
    order = [line.split(" ", 1) for line in marks.read_text().splitlines()[1:]]
    assert order[0] == ["reject", "c.png"] and {name for _, name in order} == set(pictures)
    scores = [min((d["score"] for d in rows[name]["detections"]), default=-1) for _, name in order]
    assert scores == sorted(scores), "the least certain first"
    rows["a.png"]["detections"][0]["box"] = [9, 9, 5, 20]
    (tmp_path / "wrong.jsonl").write_text(json.dumps(rows["a.png"]) + "\n")
    wrong = cli("dataset", "review", tmp_path / "wrong.jsonl", "--images", photos, "-o", tmp_path / "wrong.html")
    one_line(wrong, 1, "wrong.jsonl, line 1")
    assert "--skip-bad" not in wrong.err, "it is no option of review"
    text = page.read_text()
    assert "http" not in text and text.count("<figure>") == 4 and "sub/b ä.png" in text

    marks.write_text("redo d.png\n")
    whole = (photos / "d.png").read_bytes()
    (photos / "d.png").write_bytes(b"no picture")
    result = cli("dataset", "label", photos, "-o", labels, "--redo", marks, "-m", "haar")
    assert result.code == 1 and result.err.count("d.png") == 1 and "d.png: not a picture" in result.err
    (photos / "d.png").write_bytes(whole)
    marks.write_text("# mine\n\naccept a.png\nreject c.png\nredo d.png\naccept sub/b ä.png\n")
    before = labels.read_text().splitlines()
    result = cli("dataset", "label", photos, "-o", labels, "--redo", marks, "-m", "haar", "-m", "haar")
    assert result.out.startswith("1 pictures") and (result.code, result.err) == (0, ""), "bad.png is not marked"
    after = {row["input"]: line for line, row in ((line, json.loads(line)) for line in labels.read_text().splitlines())}
    assert {name for name, line in after.items() if line not in before} == {"d.png"}
    assert cli("dataset", "review", labels, "--images", photos, "-o", page).code == 0
    assert marks.read_text().startswith("# mine"), "a person's marks stay"

    source = {"format": "reviewed", "images": "photos", "labels": "out/labels.jsonl", "marks": "review/page.txt", "share": 1}
    config = {"count": 4, "size": 32, "splits": {"train": 1.0}, "sources": {"mine": source}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert cli("dataset", "build", tmp_path / "c.yaml", "--data", tmp_path, "-o", tmp_path / "set").code == 0
    assert {row["photo"] for row in rows_of(tmp_path / "set")} == {"a.png", "sub/b ä.png"}


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ("maybe a.png\n", "marks.txt, line 1: a line is accept, reject or redo"),
        ("accept\n", "marks.txt, line 1"),
        ("accept a.png\r\nredo a.png\r\n", "marks.txt, line 2: a.png is marked accept above and redo here"),
        ("redo b.png\n", "names b.png, which is not in"),
        ("redo gone.png\n", "gone.png: is marked redo and is not there"),
        (None, "marks.txt: No such file"),
    ],
)  # fmt: skip
def test_bad_marks(cli, tmp_path, marks, message):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(encoded(scene(1), "PNG"))
    write_labels(tmp_path / "labels.jsonl", {"a.png": [], "gone.png": []})
    if marks:
        (tmp_path / "marks.txt").write_bytes(marks.encode())
    options = ["-o", tmp_path / "labels.jsonl", "--redo", tmp_path / "marks.txt", "-m", "haar"]
    result = cli("dataset", "label", tmp_path / "photos", *options)
    assert result.code in (1, 2) and message in result.err and result.err.count("\n") == 1


def test_a_name_that_is_no_utf8_is_told_in_a_line(cli, tmp_path):
    photos, labels = tmp_path / "photos", tmp_path / "labels.jsonl"
    photos.mkdir()
    name = os.fsdecode(b"b\xff.png")
    for file in ("a.png", name):
        (photos / file).write_bytes(encoded(scene(1), "PNG"))
    result = cli("dataset", "label", photos, "-o", labels, "-m", "haar")
    assert result.code == 1 and result.err.count("\n") == 1 and result.err.endswith(".png: its name is no UTF-8; rename it\n")
    assert [json.loads(line)["input"] for line in labels.read_text().splitlines()] == ["a.png"]
    page = tmp_path / "page.html"
    assert cli("dataset", "review", labels, "--images", photos, "-o", page).code == 0
    write_labels(labels, {"a.png": [], name: []})
    page.unlink()
    page.with_suffix(".txt").unlink()
    one_line(cli("dataset", "review", labels, "--images", photos, "-o", page), 2, "its name is no UTF-8; rename it")
    assert not page.exists() and not page.with_suffix(".txt").exists()


# Rename


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """img1, img2, img10 with partners, and a file that is no picture."""
    files = ["p/img10.JPG", "p/img2.png", "p/img1.jpeg", "p/notes.txt", "p_blur/img2.jpg", "p_mask/img10.png", "p_mask/other.png"]
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(file)
    return tmp_path / "p"


def names(folder: Path) -> dict[str, str]:
    """Each file's name now -> where it was."""
    return {path.relative_to(folder.parent).as_posix(): path.read_text() for path in folder.parent.rglob("*") if path.is_file()}


def test_rename_numbers_in_natural_order_with_partners(cli, folder):
    before = names(folder)
    dry = cli("dataset", "rename", folder, "--dry-run")
    assert names(folder) == before
    result = cli("dataset", "rename", folder)
    assert (result.code, result.out) == (0, dry.out)
    assert result.out.splitlines()[0] == f"{folder / 'img1.jpeg'}\t{folder / '00001.jpeg'}"
    assert names(folder) == {
        "p/00001.jpeg": "p/img1.jpeg", "p/00002.png": "p/img2.png", "p/00003.jpg": "p/img10.JPG", "p/notes.txt": "p/notes.txt",
        "p_blur/00002.jpg": "p_blur/img2.jpg", "p_mask/00003.png": "p_mask/img10.png", "p_mask/other.png": "p_mask/other.png",
    }  # fmt: skip
    assert cli("dataset", "rename", folder).out == "", "nothing is left to do"


def test_rename_swaps_names(cli, tmp_path):
    (tmp_path / "p").mkdir()
    for name in ("2.jpg", "3.jpg", "4.jpg"):
        (tmp_path / "p" / name).write_text(name)
    assert cli("dataset", "rename", tmp_path / "p", "--digits", 1, "--start", 3).code == 0
    assert names(tmp_path / "p") == {"p/3.jpg": "2.jpg", "p/4.jpg": "3.jpg", "p/5.jpg": "4.jpg"}


def test_rename_the_current_folder(cli, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert cli("dataset", "rename", ".").code == 0
    assert {"p/00001.jpeg", "p_mask/00003.png"} <= set(names(folder))
    (folder.parent / "manifest.jsonl").touch()
    one_line(cli("dataset", "rename", "."), 2, "belongs to the data set")


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("p_mask/00003.png", [], "00003.png is there and is no picture of the folder"),
        ("p/img1.png", [], "two pictures named img1"),
        ("p_mask/img10.jpg", [], "two files named img10"),
        ("manifest.jsonl", [], "belongs to the data set"),
        ("x", ["--digits", 1, "--start", 8], "10 does not fit into 1 digits"),
        ("x", ["--digits", 0], "--digits"),
    ],
)
def test_rename_refuses(cli, folder, file, options, message):
    (folder.parent / file).write_text(file)
    before = names(folder)
    one_line(cli("dataset", "rename", folder, *options), 2, message)
    assert names(folder) == before


@pytest.mark.parametrize("name", ["manifest.jsonl", "labels.csv", "data.yaml"])
@pytest.mark.parametrize("where", [".", "..", "../.."])
def test_rename_leaves_sets_alone_that_faceblur_made(cli, folder, where, name):
    """Blurred faces have their list beside the splits, or in a folder of all; a set for Ultralytics two above its pictures."""
    inner = Path(shutil.move(folder, folder.parent / "set" / "images" / "p")) if where == "../.." else folder
    (inner / where / name).write_text(name)
    before = names(inner)
    one_line(cli("dataset", "rename", inner), 2, "belongs to the data set in ", f"whose {name} goes by its names")
    assert names(inner) == before


@pytest.mark.parametrize("at", range(9))
def test_a_rename_that_fails_is_taken_back(cli, folder, monkeypatch, at):
    before, real, calls = names(folder), os.rename, []

    def failing(source, target):
        calls.append(1)
        if len(calls) == at + 1:
            raise PermissionError(13, "Permission denied", str(source))
        real(source, target)

    monkeypatch.setattr(rename.os, "rename", failing)
    one_line(cli("dataset", "rename", folder), 1, "Permission denied; nothing was renamed")
    assert names(folder) == before
