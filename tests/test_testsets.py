"""``faceblur testset``: build, list, show, verify; the rules of the categories; the built-in set ``samples``."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from conftest import one_line
from faceblur_core.datasets.labels import Face
from faceblur_core.errors import FaceblurError
from faceblur_core.methods import find_method
from faceblur_core.plugins import installed_plugins
from faceblur_core.testsets import format as format_module
from faceblur_core.testsets.categories import CATEGORIES, category_of, found_flags
from faceblur_core.testsets.format import open_testset, read_testset
from faceblur_core.types import Ellipse, box_iou
from photos import encoded, opened


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where test sets are kept."""
    monkeypatch.setenv("FACEBLUR_TESTSETS", str(tmp_path / "home"))
    return tmp_path / "home"


def textured(seed: int, height: int = 200, width: int = 200, low: int = 60, high: int = 180) -> np.ndarray:
    """A picture that is sharp and neither dark nor bright."""
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), np.uint8)


BOXES = {
    "large.png": [[60, 40, 140, 150]],
    "medium.jpg": [[60, 40, 100, 90]],
    "pair.png": [[10, 10, 50, 60], [100, 10, 150, 80]],
    "small.png": [[60, 40, 140, 150], [0, 0, 12, 15]],
    "tiny.png": [[60, 40, 140, 150], [0, 0, 8, 9]],  # lower than least_face: ignored
    "sub/none.png": [],
}
CONFIG = {
    "name": "mine",
    "version": 3,
    "summary": "what it holds",
    "licence": "none",
    "least_per_category": 2,
    "source": {"format": "reviewed", "images": "photos", "labels": "labels.jsonl"},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number, name in enumerate(BOXES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(textured(number), "JPEG" if path.suffix == ".jpg" else "PNG"))
    rows = [{"input": name, "detections": [{"box": box} for box in boxes]} for name, boxes in BOXES.items()]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def build(cli, data: Path):
    def run(*arguments: object, **changes: object):
        (data / "mine.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
        return cli("testset", "build", data / "mine.yaml", "--data", data, *arguments)

    return run


def categories(folder: Path) -> dict[str, str]:
    return {row["id"]: row["categories"][0] for row in read_testset(folder).rows}


# The format


def test_a_test_set_holds_photos_truth_and_checksums(build, cli, data, home):
    result = build()
    assert result.code == 0
    assert "mine-v3: 6 photos, 7 faces" in result.out
    assert result.err.splitlines()[0] == "faceblur: category medium has 1 of at least 2 photos: expect wide intervals"
    assert categories(home / "mine") == {
        "large": "frontal", "medium": "medium", "pair": "multiple",
        "small": "difficult", "sub/none": "face-free", "tiny": "frontal",
    }  # fmt: skip
    head = yaml.safe_load((home / "mine" / "testset.yaml").read_text())
    manifest = (home / "mine" / "manifest.jsonl").read_bytes()
    assert head["checksum"] == hashlib.sha256(manifest).hexdigest()
    assert (head["format"], head["version"], head["photos"], head["config"]) == (1, 3, 6, CONFIG)
    ids = [json.loads(line)["id"] for line in manifest.splitlines()]
    assert ids == sorted(ids)
    found = {sample.id: sample for sample in open_testset("mine").samples()}
    assert found["large"].faces == (Ellipse(100, 95, 40, 55),)
    assert (len(found["tiny"].faces), found["tiny"].ignored) == (1, (Ellipse(4, 4.5, 4, 4.5),))
    assert (home / "mine/photos/medium.jpg").read_bytes() == (data / "photos/medium.jpg").read_bytes()
    assert (home / "mine").stat().st_mode & 0o777 == 0o755
    verified = cli("testset", "verify", "mine")
    assert (verified.code, verified.err) == (0, "") and "6 photos, 0 faults" in verified.out


def test_overrides_drop_and_overwriting(build, home):
    assert build(overrides={"large.png": "difficult"}, drop={"pair.png": "blurred"}, least_per_category=0).err == ""
    assert categories(home / "mine")["large"] == "difficult"
    assert "pair" not in categories(home / "mine")
    one_line(build(), 2, "is there; --overwrite replaces it")
    (home / "mine" / "left.txt").touch()
    assert build("--overwrite", need_face=True).code == 0
    assert set(categories(home / "mine")) == {"large", "medium", "pair", "small", "tiny"}
    assert [path.name for path in home.iterdir()] == ["mine"] and not (home / "mine" / "left.txt").exists()


def test_a_set_that_cannot_be_replaced_stays(build, home, monkeypatch):
    build()
    before = {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    rename = Path.rename

    def fails(path, target):
        if Path(target) == home / "mine" and "busy" not in done:
            done.append("busy")
            raise OSError(16, "Device or resource busy")
        return rename(path, target)

    done: list[str] = []
    monkeypatch.setattr(Path, "rename", fails)
    one_line(build("--overwrite", drop={"pair.png": "blurred"}), 1, "Device or resource busy")
    assert done and before == {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert [path.name for path in home.iterdir()] == ["mine"]


def test_two_that_make_a_set_at_once_get_the_same_one(home, monkeypatch):
    write, made = format_module._write, []

    def slower(folder, *arguments):
        write(folder, *arguments)
        monkeypatch.setattr(format_module, "_write", write)
        open_testset("samples")  # the other one
        made.append((home / "samples").stat().st_ino)

    monkeypatch.setattr(format_module, "_write", slower)
    assert open_testset("samples").sizes() and [(home / "samples").stat().st_ino] == made


def test_a_set_in_the_current_folder_can_be_overwritten(build, data, monkeypatch):
    (data / "new").mkdir()
    monkeypatch.chdir(data / "new")
    assert build("-o", ".").code == 0, "an empty folder may be there"
    monkeypatch.chdir(data / "new")
    assert build("-o", ".", "--overwrite").code == 0
    (data / "link").symlink_to(data / "new")
    assert build("-o", data / "link", "--overwrite").code == 0
    assert (data / "link").is_symlink() and len(read_testset(data / "new").rows) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "should be letters, digits, dots and dashes"),
        ({"version": 0}, "version=0"),
        ({"nmae": "x"}, "name"),
        ({"overrides": {"large.png": "hard"}}, "'hard' is no category; they are frontal"),
        ({"overrides": {"gone.png": "medium"}}, "names 'gone.png', and there is no such photo"),
        ({"drop": {"gone.png": "why"}}, "names 'gone.png', and there is no such photo"),
        ({"landmarks": "yunnet"}, "Did you mean yunet"),
        ({"source": {"format": "fdbb"}}, "Did you mean fddb?"),
        ({"source": {}}, "needs 'format'"),
    ],
)
def test_a_bad_config_is_one_line_and_leaves_nothing(build, home, changes, message):
    one_line(build(**changes), 2, message)
    assert not home.exists()


def test_a_folder_of_something_else_stays(build, data):
    one_line(build("-o", data / "photos"), 2, "is there and is no test set")
    one_line(build("-o", data / "photos", "--overwrite"), 2, "is there and is no test set")
    shutil.copy(data / "photos" / "medium.jpg", data / "photos" / "medium.png")
    rows = (data / "labels.jsonl").read_text()
    (data / "labels.jsonl").write_text(rows + json.dumps({"input": "medium.png", "detections": []}) + "\n")
    one_line(build("-o", data / "new"), 1, "two photos are named medium up to the suffix")
    assert not (data / "new").exists() and not list(data.glob(".new*"))


FACE = {"cx": 50, "cy": 50, "rx": 10, "ry": 12, "angle": 0, "flags": []}


def _edit(name: str, old: str, new: str):
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def _rewrite(changes: dict, *head: str):
    """Return what changes a set's first row, with the right checksum."""

    def change(folder: Path) -> None:
        first, *rows = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
        (folder / "manifest.jsonl").write_text(json.dumps({**json.loads(first), **changes}) + "\n" + "".join(rows))
        facts = yaml.safe_load((folder / "testset.yaml").read_text())
        facts |= {"checksum": hashlib.sha256((folder / "manifest.jsonl").read_bytes()).hexdigest()}
        facts |= yaml.safe_load("\n".join(head) or "{}")
        (folder / "testset.yaml").write_text(yaml.safe_dump(facts))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_edit("testset.yaml", "format: 1", "format: 2"), "has format 2; this faceblur reads format 1"),
        (_edit("testset.yaml", "version: 3", "version: three"), "version 'three' is no whole number"),
        (_edit("testset.yaml", "checksum: ", "chksum: "), "has no 'checksum'"),
        (_edit("testset.yaml", "name: mine", "name: [mine"), "is no YAML"),
        (_edit("manifest.jsonl", '"cx": 100.0', '"cx": 101.0'), "is not the one of the checksum"),
        (lambda folder: (folder / "manifest.jsonl").write_text("{"), "is not the one of the checksum"),
        (lambda folder: (folder / "manifest.jsonl").unlink(), "No such file or directory"),
        (_rewrite({"groups": None}), "manifest.jsonl, line 1: no row of a test set of photos"),
        (_rewrite({"faces": [{"cx": 1}]}), "manifest.jsonl, line 1: no row of a test set of photos"),
        *((_rewrite(changes), "line 1: no row of a test set of photos") for changes in (
            {"height": 0}, {"categories": [1]}, {"file": "photos/\0"}, *({"faces": [{**FACE, **wrong}]} for wrong in (
                {"rx": 0}, {"flags": [1]}, {"landmarks": [[1, 2]]}, {"landmarks": [["a", "b"]] * 5}, {"landmarks": None},
            ))
        )),
        (_rewrite({"id": "medium"}), "has two rows of 'medium'"),
        (_rewrite({}, "format: 2", "clips: 6"), "manifest.jsonl, line 1: no row of a test set of clips"),
    ],
)  # fmt: skip
def test_a_damaged_set_is_one_line_and_hides_no_other(build, cli, home, change, message):
    build()
    change(home / "mine")
    for command in (["verify", "mine"], ["show", "mine", "-o", home / "x.png"], ["verify", home / "mine"]):
        one_line(cli("testset", *command), cli("testset", *command).code or 99, message)
    listed = cli("testset", "list", "--json")
    assert listed.code == 0
    (mine,) = [row for row in json.loads(listed.out) if row["name"] == "mine"]
    assert mine["state"] == "damaged" and message in mine["summary"]


def test_verify_tells_every_fault(build, cli, home):
    build()
    photos = home / "mine" / "photos"
    (photos / "large.png").unlink()
    (photos / "medium.jpg").write_bytes(b"other")
    (photos / "sub" / "extra.txt").touch()
    result = cli("testset", "verify", "mine")
    assert (result.code, result.err.splitlines()) == (
        1,
        [
            "faceblur: photos/large.png is missing",
            "faceblur: photos/medium.jpg has changed",
            "faceblur: photos/sub/extra.txt is not in the manifest",
        ],
    )
    for name, message in (("large", "No such file"), ("medium", "is not the photo of the manifest")):
        row = next(row for row in open_testset("mine").rows if row["id"] == name)
        with pytest.raises(FaceblurError, match=message):
            open_testset("mine").sample(row)


# List and show


def test_list_and_show(build, cli, data, home, monkeypatch):
    build()
    (home / ".mine-half").mkdir()
    shutil.copy(home / "mine" / "testset.yaml", home / ".mine-half")
    listed = {row["name"]: row for row in json.loads(cli("testset", "list", "--json").out)}
    assert listed["mine"]["photos"] == 6 and listed["mine"]["state"] == "built"
    assert listed["mine"]["categories"] == "1 difficult, 1 face-free, 2 frontal, 1 medium, 1 multiple"
    assert listed["samples"]["state"] == "made when first used"
    assert {"celebahq", "fddb", "wider", "utkface", "ytf", "negatives"} <= set(listed) and ".mine-half" not in listed
    assert all(name in cli("testset", "list").out for name in listed)

    assert "6 of 6 photos" in cli("testset", "show", "mine", "-o", data / "new" / "sheet.png").out
    sheet = np.asarray(opened(data / "new" / "sheet.png").convert("RGB")).astype(int)
    red = (sheet[..., 0] > 200) & (sheet[..., 1:].max(axis=2) < 110)
    assert red.sum() > 500
    assert "2 of 2" in cli("testset", "show", "mine", "-o", data / "sheet.png", "--category", "frontal").out
    assert "1 of 2" in cli("testset", "show", "mine", "-o", data / "sheet.png", "--category", "frontal", "--limit", 1).out
    one_line(cli("testset", "show", "mine", "-o", data / "x.png", "--category", "small"), 2, "no photo of category 'small'")

    (data / "mine.png").write_text("mine")
    one_line(cli("testset", "show", "mine", "-o", data / "mine.png"), 2, "mine.png is there and is no PNG file")
    one_line(cli("testset", "show", "mine", "-o", data / "sheet.jpg"), 2, "give it a name that ends in .png")
    assert (data / "mine.png").read_text() == "mine"

    (data / "mine").mkdir()
    monkeypatch.chdir(data)
    assert "6 photos, 0 faults" in cli("testset", "verify", "mine").out, "a folder of that name that is no test set"


def test_unknown_names(cli):
    one_line(cli("testset", "verify", "sample"), 2, "no test set named 'sample'. Did you mean samples?")
    one_line(cli("testset", "show", "fddb", "-o", "x.png"), 2, "faceblur testset build makes it")
    one_line(cli("testset", "build", "fdbb"), 2, "Did you mean fddb?")
    one_line(cli("testset", "verify", "."), 2, "is no test set: it holds no testset.yaml")


# The rules


def face(height: float, *, rx: float | None = None, angle: float = 0.0, points=None, flags=()) -> Face:
    return Face(Ellipse(100, 100, rx or 0.4 * height, height / 2, angle), frozenset(flags), points)


def landmarks(nose: float = 0.0, tilt: float = 0.0) -> np.ndarray:
    """Eyes 20 pixels apart, the nose that many eye distances off their middle, all turned by ``tilt`` degrees."""
    points = np.array([[-10, 0], [10, 0], [20 * nose, 12], [-8, 25], [8, 25]], np.float32)
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    return points @ np.array([[cos, sin], [-sin, cos]], np.float32) + 100


MIDDLE = textured(0)
RULES = {
    "nothing": (face(60), MIDDLE, set()),
    "small": (face(19.9), MIDDLE, {"small"}),
    "not small": (face(20.1), MIDDLE, set()),
    "profile": (face(60, points=landmarks(0.4)), MIDDLE, {"profile"}),
    "profile to the left": (face(60, points=landmarks(-0.4, 20)), MIDDLE, {"profile"}),
    "half profile": (face(60, points=landmarks(0.3, 20)), MIDDLE, set()),
    "tilted eyes": (face(60, points=landmarks(0, 33)), MIDDLE, {"tilted"}),
    "tilted eyes to the left": (face(60, points=landmarks(0, -33)), MIDDLE, {"tilted"}),
    "head over": (face(60, points=landmarks(0, 180)), MIDDLE, {"tilted"}),
    "eyes in one place": (face(60, points=np.full((5, 2), 100, np.float32)), MIDDLE, set()),
    "tilted ellipse": (face(60, angle=math.radians(35)), MIDDLE, {"tilted"}),
    "upright by its other axis": (Face(Ellipse(100, 100, 30, 24, math.radians(80))), MIDDLE, set()),
    "tilted by its other axis": (Face(Ellipse(100, 100, 30, 24, math.radians(130))), MIDDLE, {"tilted"}),
    "round": (face(60, rx=28, angle=math.radians(80)), MIDDLE, set()),
    "dark": (face(60), textured(0, low=0, high=60), {"dark"}),
    "not dark": (face(60), textured(0, low=10, high=75), set()),
    "bright": (face(60), textured(0, low=150, high=255), {"bright"}),
    "soft": (face(100), cv2.GaussianBlur(MIDDLE, (0, 0), 5), {"soft"}),
    "outside": (Face(Ellipse(-40, 50, 20, 30)), MIDDLE, set()),
}


@pytest.mark.parametrize("rule", RULES)
def test_flags(rule):
    labelled, image, flags = RULES[rule]
    assert found_flags(labelled, image) == flags


@pytest.mark.parametrize(
    ("faces", "category"),
    [
        ([], "face-free"),
        ([face(60)], "frontal"),
        ([face(59.9)], "medium"),
        ([face(60, flags=["blur", "expression"])], "frontal"),
        ([face(60), face(20)], "multiple"),
        ([face(60), face(15, flags=["ignore", "small"])], "frontal"),
        ([face(15, flags=["ignore"])], "difficult"),
        *[([face(60), face(60, flags=[flag])], "difficult") for flag in (
            "heavy-blur", "occlusion", "heavy-occlusion", "illumination", "pose",
            "profile", "tilted", "dark", "bright", "soft", "small",
        )],
    ],
)  # fmt: skip
def test_categories(faces, category):
    assert category_of(faces, 200) == category


# The built-in set


def test_samples_are_made_when_first_used_and_the_same_again(cli, home):
    result = cli("testset", "verify", "samples")
    assert result.code == 0 and "samples-v1: 40 photos, 0 faults" in result.out
    assert open_testset("samples").sizes() == dict.fromkeys(CATEGORIES, 8)
    head = (home / "samples" / "testset.yaml").read_bytes()
    (home / "samples" / "photos" / "medium-1.png").write_bytes(b"x")
    assert cli("testset", "verify", "samples").code == 1
    one_line(cli("testset", "build", "samples"), 2, "--overwrite")
    assert cli("testset", "build", "samples", "--overwrite").code == 0
    assert (home / "samples" / "testset.yaml").read_bytes() == head, "the same checksum"
    assert cli("testset", "verify", "samples").code == 0


def test_samples_follow_the_rules_and_their_truth_is_where_yunet_finds_faces(shared):
    found = open_testset("samples")
    yunet = find_method("yunet", {}, installed_plugins()).make()
    for row in found.rows:
        sample = found.sample(row)
        faces = [Face(e, frozenset(f["flags"])) for e, f in zip(sample.faces, row["faces"], strict=True)]
        assert [category_of(faces, row["height"])] == row["categories"]
        if row["categories"] == ["difficult"] or not faces:
            continue
        detections = yunet(sample.image).detections
        overlap = box_iou(np.array([e.bounds() for e in sample.faces], np.float32), detections.boxes)
        assert len(detections) == len(faces) and overlap.max(axis=1).min() > 0.75, row["id"]
        for labelled in row["faces"]:
            best = overlap[row["faces"].index(labelled)].argmax()
            off = np.hypot(*(np.array(labelled["landmarks"]) - detections.landmarks[best]).T)
            assert off.max() < 0.12 * 2 * labelled["ry"], row["id"]


# The sets that ship, on the real photos


def test_what_negatives_leaves_out_is_no_background_of_moving():
    folder = Path(__file__).parents[1] / "configs" / "testsets"
    negatives, moving = (yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("negatives", "moving"))
    assert negatives["drop"] == moving["drop"] and len(negatives["drop"]) == 10


@pytest.mark.parametrize(
    ("name", "sizes", "people"),
    [
        ("celebahq", {"frontal": 294, "multiple": 1, "difficult": 56}, 351),
        ("fddb", {"frontal": 142, "medium": 29, "multiple": 63, "difficult": 49}, 0),
        ("negatives", {"face-free": 37}, 0),
        ("utkface", {"frontal": 588, "difficult": 12}, 0),
        ("wider", {"frontal": 54, "medium": 81, "multiple": 33, "difficult": 517}, 0),
        ("ytf", {"frontal": 310, "difficult": 25}, 61),
    ],
)
def test_the_sets_that_ship(cli, shared, name, sizes, people):
    result = cli("testset", "build", name, "--data", shared / "data")
    assert result.code == 0, result.err
    found = open_testset(name)
    assert found.sizes() == sizes
    assert len({row["identity"] for row in found.rows} - {None}) == people
    assert cli("testset", "verify", name).code == 0
    if name == "utkface":
        assert {tuple(row["groups"]) for row in found.rows} == {("age", "gender", "race")}
