"""Test sets of clips and what is measured on them: known answers, the builder, tracking on and off through ``compare``."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import videos
import yaml
from skimage import data as scikit

from conftest import DISTS, one_line
from faceblur_core.builtin.metrics import Coverage
from faceblur_core.compare.config import CompareConfig, plan
from faceblur_core.compare.motion import GapFrames, Jitter
from faceblur_core.compare.table import shape_of
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.media.video import encoded_clip
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import MetricContract
from faceblur_core.testsets.format import known, open_testset, read_testset, write_testset
from faceblur_core.tracking import gaps
from faceblur_core.types import Anonymized, Ellipse, Sample, box_iou
from photos import encoded


class TestGapFrames(MetricContract):
    name = "gap-frames"


class TestJitter(MetricContract):
    name = "jitter"


# Known answers of the metrics

HEIGHT, WIDTH, LENGTH = 96, 128, 30


def path(frame: int) -> Ellipse:
    """A face that goes round, ever larger, at places between pixels."""
    return Ellipse(60 + 30 * np.sin(frame / 7), 45 + 0.37 * frame, 9 + frame / 11, 12 + frame / 9, 0.2)


def walk(faces=lambda frame: {0: path(frame)}, clip="walk", frames=range(LENGTH), ignored=()) -> list[Sample]:
    """Pictures of a clip; ``faces`` gives the ellipses of a picture by track."""
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return [
        Sample(f"{clip}/{t}", blank, tuple(faces(t).values()), clip=clip, frame=t, tracks=tuple(faces(t)), ignored=tuple(ignored))
        for t in frames
    ]


def perfect(sample: Sample, grow: float = 1.0) -> np.ndarray:
    return np.any([face.inside(HEIGHT, WIDTH, grow) for face in sample.faces], axis=0).astype(np.float32)


def measured(metric, samples, masks, weights=None) -> float:
    """The figure of a metric: of all pictures, or with weights."""
    seen = [metric.observe(sample, Anonymized(sample.image, mask)) for sample, mask in zip(samples, masks, strict=True)]
    return metric.figures(metric.prepare(seen, []), np.ones(len(seen)) if weights is None else weights)["mean"]


def test_a_perfect_method_has_no_gap_and_no_jitter():
    samples = walk()
    masks = [perfect(sample) for sample in samples]
    assert all(Coverage()(sample, Anonymized(sample.image, mask)) == [1] for sample, mask in zip(samples, masks, strict=True))
    assert measured(GapFrames(), samples, masks) == 0 and measured(Jitter(), samples, masks) == 0


def test_everything_hidden_has_no_gap_and_little_jitter_and_nothing_hidden_has_none_that_is_known():
    samples = walk(lambda t: {0: Ellipse(40 + t, 48, 10, 14)})  # whole pixels, and the box around never meets the edge
    assert measured(GapFrames(), samples, [np.ones((HEIGHT, WIDTH), np.float32)] * LENGTH) == 0
    assert measured(Jitter(), samples, [np.ones((HEIGHT, WIDTH), np.float32)] * LENGTH) == 0
    nothing = [np.zeros((HEIGHT, WIDTH), np.float32)] * LENGTH
    assert measured(GapFrames(), samples, nothing) == 0  # it is missed in every picture: coverage says that
    assert np.isnan(measured(Jitter(), samples, nothing))


@pytest.mark.parametrize("every", [10, 7, 2])
def test_a_method_that_drops_pictures_has_as_many_gaps(every):
    samples = walk()
    masks = [perfect(sample) * ((sample.frame + 1) % every > 0) for sample in samples]
    between = [t for t in range(LENGTH) if (t + 1) % every == 0 and t < LENGTH - 1]  # after the last nothing is hidden
    assert measured(GapFrames(), samples, masks) == pytest.approx(len(between) / LENGTH)
    assert measured(Jitter(), samples, masks) == 0 if every > 2 else True


def test_gaps_begin_and_end_with_a_hidden_picture_and_belong_to_their_track():
    def two(t):
        faces = {0: Ellipse(30, 40, 8, 10), 7: Ellipse(90, 40, 8, 10)}
        return {track: face for track, face in faces.items() if track == 0 or 5 <= t < 25}

    samples = walk(two)
    open_ = {0: {0, 1, 12, 13, 29}, 7: {5, 10, 24}}
    masks = [
        np.any(
            [face.inside(HEIGHT, WIDTH) & (sample.frame not in open_[track]) for track, face in two(sample.frame).items()], axis=0
        ).astype(np.float32)
        for sample in samples
    ]
    total = 30 + 20
    assert measured(GapFrames(), samples, masks) == pytest.approx((2 + 1) / total)
    again = [*samples, *walk(two, clip="other")]
    assert measured(GapFrames(), again, [*masks, *masks]) == pytest.approx(
        (2 + 1) / total
    )  # one clip's faces end none of another's
    weights = np.repeat([3.0, 1.0], LENGTH)
    others = [*masks, *(np.ones((HEIGHT, WIDTH), np.float32) for _ in samples)]
    assert measured(GapFrames(), again, others, weights) == pytest.approx(3 * 3 / (3 * total + total))


def test_half_a_face_hidden_is_hidden():
    samples = walk(lambda t: {0: Ellipse(64, 48, 20, 20)}, frames=range(3))
    half, less = np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.float32)
    half[:, :64] = 1
    less[:, :63] = 1
    whole = perfect(samples[0])
    assert measured(GapFrames(), samples, [whole, half, whole]) == 0
    assert measured(GapFrames(), samples, [whole, less, whole]) == pytest.approx(1 / 3)
    assert measured(GapFrames(), samples, [whole, half * 0.49, whole]) == pytest.approx(1 / 3)


def test_jitter_is_the_distance_of_the_sides_from_the_middle_of_their_neighbours():
    """Every other picture is hidden 2 pixels further to the right: two of four sides stray by 2 pixels."""
    samples = walk(lambda t: {0: Ellipse(40 + t, 48, 10, 14)})
    masks = [np.roll(perfect(sample, 1.2), 2 * (sample.frame % 2), axis=1) for sample in samples]
    assert measured(Jitter(), samples, masks) == pytest.approx((2 + 0 + 2 + 0) / 4 / np.sqrt(20 * 28))
    steady = [np.roll(perfect(sample, 1.2), 2, axis=1) for sample in samples]
    assert measured(Jitter(), samples, steady) == 0  # beside the face, but always in the same way
    ahead = [perfect(walk(lambda t: {0: Ellipse(40 + 1.25 * t, 48, 10, 14)})[sample.frame]) for sample in samples[:12]]
    assert measured(Jitter(), samples[:12], ahead) < 0.02  # it moves faster than the face, evenly: pixels are all that is left


def test_jitter_is_known_only_of_a_face_that_is_alone_and_hidden_in_three_pictures():
    near, far = Ellipse(64, 48, 10, 14), Ellipse(110, 48, 10, 14)
    both = walk(lambda t: {0: near, 1: far})
    masks = [np.roll(perfect(sample), sample.frame % 2, axis=1) for sample in both]
    assert measured(Jitter(), both, masks) > 0
    meeting = walk(lambda t: {0: near, 1: Ellipse(90, 48, 10, 14)})
    assert np.isnan(measured(Jitter(), meeting, masks)) and np.isnan(measured(Jitter(), walk(ignored=[near]), masks))
    three = walk(lambda t: {0: near}, frames=range(3))
    assert measured(Jitter(), three, [perfect(three[0])] * 3) == 0
    assert np.isnan(measured(Jitter(), three[:2], [perfect(three[0])] * 2))
    apart = walk(lambda t: {0: near}, frames=(0, 1, 3, 4))
    assert np.isnan(measured(Jitter(), apart, [perfect(three[0])] * 4))
    blank = np.zeros((HEIGHT, WIDTH), np.float32)
    assert np.isnan(measured(Jitter(), three, [perfect(three[0]), blank, perfect(three[0])]))


def test_metrics_of_clips_take_no_part_in_photos():
    photo = Sample("x", np.zeros((HEIGHT, WIDTH, 3), np.uint8), (path(0),))
    for metric in (GapFrames(), Jitter()):
        assert metric.observe(photo, Anonymized(photo.image, perfect(photo))) == {}


# The format


def face_row(face: Ellipse, track: int, *flags: str) -> dict:
    values = {"cx": face.cx, "cy": face.cy, "rx": face.rx, "ry": face.ry, "angle": face.angle}
    return {**values, "flags": list(flags), "track": track, "visible": 1.0}


def noise(seed: int) -> np.ndarray:
    """Grey, for colours are halved in a video."""
    return np.repeat(np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 1), np.uint8), 3, axis=2)


CLIPS = {"one": 1, "three": 3, "two": 2}  #: clips by name, and how many faces each has


def make_clips(folder: Path, version: int = 1) -> Path:
    """A tiny test set of clips: noise, in which some places are called faces."""
    items = []
    for clip, count in CLIPS.items():
        truths = [
            {"faces": [face_row(Ellipse(15 + 40 * n, 20 + t, 6, 8), n, *["ignore"] * ((n, t) == (0, 3))) for n in range(count)]}
            for t in range(LENGTH)
        ]
        row = {
            "id": clip, "suffix": ".mp4", "height": HEIGHT, "width": WIDTH, "rate": 25, "identity": None, "groups": {},
            "categories": ["crowd" if count > 1 else "alone"], "pictures": truths,
        }  # fmt: skip
        items.append((row, encoded_clip((noise(count * 100 + t) for t in range(LENGTH)), Fraction(25), "ultrafast")))
    write_testset(folder, {"name": folder.name, "version": version, "summary": "noise", "licence": "none"}, items)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("sets") / "tiny")


@pytest.fixture
def home(tmp_path, monkeypatch, made, install):
    """Everything that a comparison reads or keeps lies in this test's folder; the tiny set is there."""
    install("compared")
    monkeypatch.setenv("PYTHONPATH", str(DISTS / "compared"), prepend=os.pathsep)
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEBLUR_TESTSETS", str(tmp_path / "testsets"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "testsets").mkdir()
    for name in ("testset.yaml", "manifest.jsonl", "clips"):
        (tmp_path / "testsets" / "tiny").mkdir(exist_ok=True)
        (tmp_path / "testsets" / "tiny" / name).symlink_to(made / name)
    return tmp_path


def test_a_test_set_of_clips_holds_videos_truth_and_checksums(home, made, cli):
    head = yaml.safe_load((made / "testset.yaml").read_text())
    assert (head["format"], head["clips"], head["pictures"]) == (2, 3, 3 * LENGTH) and "photos" not in head
    rows = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["one", "three", "two"] and all(len(row["pictures"]) == LENGTH for row in rows)
    assert all(hashlib.sha256((made / row["file"]).read_bytes()).hexdigest() == row["sha256"] for row in rows)
    found = open_testset("tiny")
    assert found.of_clips and len(found.rows) == 3 * LENGTH and found.extent == "3 clips of 90 pictures"
    samples = list(found.samples())
    assert [(sample.clip, sample.frame) for sample in samples] == [(clip, t) for clip in sorted(CLIPS) for t in range(LENGTH)]
    assert samples[33].tracks == (1, 2) and len(samples[33].ignored) == 1 and samples[34].tracks == (0, 1, 2)
    for index in (0, 7, 44, 89):
        one = found.sample(found.rows[index])
        assert one.id == samples[index].id and np.array_equal(one.image, samples[index].image)
        assert np.abs(one.image.astype(int) - noise(CLIPS[one.clip] * 100 + one.frame)).mean() < 10
    verified = cli("testset", "verify", "tiny")
    assert (verified.code, verified.err) == (0, "") and "3 clips of 90 pictures, 0 faults" in verified.out
    listed = {row["name"]: row for row in json.loads(cli("testset", "list", "--json").out)}
    assert listed["tiny"]["photos"] == 90 and listed["tiny"]["categories"] == "30 alone, 60 crowd"
    assert "12 of 90" in cli("testset", "show", "tiny", "-o", "sheet.png", "--limit", 12).out
    assert "2 of 30" in cli("testset", "show", "tiny", "-o", "sheet.png", "--category", "alone", "--limit", 2).out


def test_damaged_clips_and_heads_are_one_line(tmp_path, cli):
    folder = make_clips(tmp_path / "own")
    (folder / "clips" / "two.mp4").write_bytes(b"other")
    (folder / "clips" / "one.mp4").unlink()
    (folder / "clips" / "more.mp4").touch()
    result = cli("testset", "verify", folder)
    assert result.code == 1 and result.err.splitlines() == [
        "faceblur: clips/one.mp4 is missing",
        "faceblur: clips/two.mp4 has changed",
        "faceblur: clips/more.mp4 is not in the manifest",
    ]
    found = read_testset(folder)
    for index, message in ((0, "No such file"), (89, "is not the clip of the manifest")):
        with pytest.raises(FaceblurError, match=message):
            found.sample(found.rows[index])
    (folder / "testset.yaml").write_text((folder / "testset.yaml").read_text().replace("format: 2", "format: 3"))
    one_line(cli("testset", "verify", folder), 2, "has format 3; this faceblur reads format 2")


# Comparing


@pytest.fixture
def compare(cli, home):
    """Compare on the tiny set; returns what the command line returned and the figures of all clips, by row and metric."""

    def run(methods, testset="tiny", **config):
        content = {"methods": methods, "testsets": [testset], "cost_photos": 0, "resamples": 50, "failures": 0, **config}
        (home / "config.yaml").write_text(yaml.safe_dump(content))
        runs = home / f"runs-{len(list(home.glob('runs-*')))}"
        result = cli("compare", home / "config.yaml", "-o", runs, "--workers", 2)
        folder = next(runs.glob("*"), None) if runs.is_dir() else None
        return result, folder

    return run


def rows_of(folder: Path, file: str = "table.csv") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / file).read_text())))


def figures(folder: Path, part: str = "all") -> dict[tuple[str, str], float]:
    """The means of a run by method and metric."""
    wanted = [row for row in rows_of(folder) if row["slice"] == part and row["statistic"] == "mean"]
    return {(row["method"], row["metric"]): float(row["value"] or "nan") for row in wanted}


KNOWN = ["image-missed", "gap-frames", "jitter", "over-blur", "recall"]
FACES = 30 * 6 - 3  #: in all pictures of the tiny set; one is ignored in each clip


def test_known_methods_have_the_gaps_that_they_must(compare, made):
    """The oracle hides whole pictures of its own; as a detector it is followed by tracking, or not."""
    exact = {"testset": str(made)}
    dropping = {**exact, "drop": 10}
    detector = {f"detector.{key}": value for key, value in dropping.items()}
    result, folder = compare(
        [
            {"name": "perfect", "method": "oracle", "set": exact},
            {"name": "dropping", "method": "oracle", "set": dropping},
            {"name": "tracked", "method": "scripted+solid", "set": detector},
            {"name": "untracked", "method": "scripted+solid", "set": detector, "tracking": False},
        ],
        metrics=KNOWN,
    )
    assert result.code == 0, result.err
    found = figures(folder)
    lost = 2 * 6 / FACES  # of 30 pictures every tenth is dropped; the last is at the end, where no gap is
    assert found["perfect", "gap-frames"] == found["tracked", "gap-frames"] == 0
    assert found["dropping", "gap-frames"] == found["untracked", "gap-frames"] == pytest.approx(lost, abs=1e-6)
    assert found["perfect", "jitter"] == 0 and found["perfect", "image-missed"] == 0
    assert found["dropping", "image-missed"] == found["untracked", "image-missed"] == pytest.approx(9 / 89, abs=1e-6)
    assert found["tracked", "image-missed"] == 0 and found["tracked", "recall"] == 1
    assert found["untracked", "recall"] == pytest.approx(1 - 18 / FACES, abs=1e-5)
    assert figures(folder, "category=alone")["dropping", "gap-frames"] == pytest.approx(2 / 29, abs=1e-6)
    first = rows_of(folder, "faces.csv")[0]
    assert (first["id"], first["track"], first["visible"]) == ("one/00000", "0", "1")
    [gap] = [row for row in rows_of(folder) if (row["method"], row["metric"], row["slice"]) == ("dropping", "gap-frames", "all")]
    assert (gap["count"], gap["missing"], gap["better"]) == ("90", "0", "lower") and float(gap["low"]) <= lost <= float(
        gap["high"]
    )
    facts = json.loads((folder / "run.json").read_text())
    assert facts["testsets"][0]["clips"] == 3 and facts["testsets"][0]["photos"] == 90
    tracking = {row["name"]: row["tracking"] for row in facts["methods"]}
    assert tracking["untracked"] is None and tracking["tracked"]["look_ahead"] == 24
    page = (folder / "report.html").read_text()
    assert "gap frames / 1000" in page and "90 in 3 clips" in page and "tracking=off" in page
    assert "gaps / 1000" in result.out and "jitter" in result.out


def test_rows_without_a_name_say_how_they_follow_faces():
    config = CompareConfig(
        [
            "haar",
            {"method": "haar", "tracking": False},
            {"method": "haar", "tracking": {"look_ahead": 9}},
            {"method": "haar", "set": {"mask.grow": 2}},
        ],
        ["samples"],
        metrics=["coverage"],
    )
    names = [entry.name for entry in plan(config, installed_plugins()).entries]
    assert names == ["haar", "haar,tracking=off", "haar,tracking=look_ahead 9", "haar,mask.grow=2"]


def test_whole_clips_are_drawn_for_intervals(made):
    shape = shape_of(read_testset(made), 20, 0)
    assert shape.of_images.draws.weights.shape == (21, 3) and shape.of_people is shape.of_images
    assert shape.of_images.of_image.tolist() == [0] * LENGTH + [1] * LENGTH + [2] * LENGTH
    same = np.repeat(shape.of_images.draws.weights, LENGTH, axis=1)
    assert np.array_equal(shape.of_images.draws.weights[:, shape.of_images.of_image], same)


def test_a_method_that_fails_in_a_clip_keeps_what_it_has_and_the_others(compare):
    result, folder = compare(
        [{"name": "image", "method": "odd", "set": {"how": "image"}}, "copy"], metrics=["coverage", "gap-frames"]
    )
    assert result.code == 1 and "images without output: ValueError: this one not" in result.err
    lost = {
        row["method"]: row["value"]
        for row in rows_of(folder)
        if row["metric"] == "images without output" and row["slice"] == "all"
    }
    assert lost == {"image": str(LENGTH - 1), "copy": "0"}  # its second picture, and those of the clip after it
    coverage = [row for row in rows_of(folder) if (row["method"], row["metric"], row["slice"]) == ("image", "coverage", "all")]
    assert {(row["count"], row["missing"]) for row in coverage} == {(str(FACES - 28), "28")}


def test_worst_pictures_are_of_different_clips(compare):
    result, folder = compare(["copy"], metrics=["coverage"], failures=5)
    assert result.code == 0
    facts = json.loads((folder / "run.json").read_text())
    assert [item["what"].partition("/")[0] for item in facts["failures"]] == ["one", "three", "two"]


def test_metrics_of_clips_are_passed_over_on_photos(compare, cli, home):
    row = {"id": "a", "suffix": ".png", "height": HEIGHT, "width": WIDTH, "identity": None, "groups": {}, "categories": ["x"]}
    head = {"name": "photos", "version": 1, "summary": "", "licence": ""}
    write_testset(home / "testsets" / "photos", head, [({**row, "faces": []}, encoded(noise(1), "PNG"))])
    result, folder = compare(
        ["copy", {"method": "copy", "tracking": False}],
        "photos",
        metrics=[],
        attacks=[],
        options={"still-detected": {"judges": ["haar"]}},
    )
    assert "copy on photos-v1: done" in result.err  # and test metrics that fail
    assert not {row["metric"] for row in rows_of(folder)} & {"gap-frames", "jitter"}
    values = {row["method"]: [] for row in rows_of(folder)}
    for row in rows_of(folder):
        values[row.pop("method")].append(row)
    assert values["copy"] == values["copy,tracking=off"]
    result, _ = compare(["copy"], "photos", metrics=["jitter"])
    one_line(result, 2, "metric 'jitter' is for test sets of clips")
    result, folder = compare(["copy"], metrics=["coverage", "jitter"], testsets=["photos", "tiny"])
    assert {row["testset"] for row in rows_of(folder) if row["metric"] == "jitter"} == {"tiny-v1"}


@pytest.mark.parametrize(
    ("tracking", "message"),
    [("of", "is on, off or a mapping"), ({"look_ahed": 3}, "Did you mean look_ahead"), ({"shrink": 2}, "less than 1")],
)
def test_bad_tracking_is_one_line(compare, tracking, message):
    one_line(compare([{"method": "copy", "tracking": tracking}], metrics=["coverage"])[0], 2, message)


# The builder


def portraits(folder: Path) -> None:
    """Two photos with one face each, and a background, from scikit-image."""
    (folder / "heads").mkdir()
    (folder / "empty").mkdir()
    astronaut = scikit.astronaut()
    (folder / "heads" / "a.png").write_bytes(encoded(astronaut, "PNG"))
    (folder / "heads" / "b.png").write_bytes(encoded(np.ascontiguousarray(astronaut[:, ::-1]), "PNG"))
    (folder / "empty" / "coffee.png").write_bytes(encoded(scikit.coffee(), "PNG"))
    boxes = {"a.png": [178, 53, 270, 181], "b.png": [512 - 270, 53, 512 - 178, 181]}
    rows = [{"input": name, "detections": [{"box": box}]} for name, box in boxes.items()]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


CONFIG = {
    "name": "mine", "version": 1, "summary": "two of one", "licence": "none",
    "source": {"format": "reviewed", "images": "heads", "labels": "labels.jsonl"},
    "backgrounds": "empty", "clips": {"leaving": 1, "crossing": 1, "occluded": 2, "resizing": 2},
    "pictures": 40, "height": 180, "width": 320, "seed": 5,
}  # fmt: skip


@pytest.fixture
def build(tmp_path, cli, monkeypatch):
    portraits(tmp_path)
    monkeypatch.setenv("FACEBLUR_TESTSETS", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **changes):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
        return cli("testset", "build", tmp_path / "mine.yaml", "--data", tmp_path, *arguments)

    return run


def test_clips_are_made_the_same_again_and_hold_what_their_events_say(build):
    result = build("--workers", 2)
    assert result.code == 0 and result.err == "" and "mine-v1: 6 clips of 240 pictures" in result.out, result.err
    found = open_testset("mine")
    for name, changes, same in (("again", {}, True), ("other", {"seed": 6}, False)):
        assert build("-o", name, "--workers", 1, clips={"crossing": 1}, **changes).code == 0
        alone = (Path(name) / "clips" / "crossing-01.mp4").read_bytes()
        assert (alone == (found.folder / "clips" / "crossing-01.mp4").read_bytes()) is same, "whatever is made beside it"
    truths = {rows[0]["clip"]: [row["faces"] for row in rows] for rows in found.files()}
    assert sorted(truths) == ["crossing-01", "leaving-01", "occluded-01", "occluded-02", "resizing-01", "resizing-02"]

    def track(clip, number):
        return [next((face for face in faces if face["track"] == number), None) for faces in truths[clip]]

    comes, leaves = track("leaving-01", 0), track("leaving-01", 1)
    assert not comes[0] and comes[-1]["visible"] > 0.99 and leaves[0]["visible"] > 0.99
    assert any(face and "ignore" in face["flags"] for face in comes) and (not leaves[-1] or "ignore" in leaves[-1]["flags"])
    behind, before = track("crossing-01", 0), track("crossing-01", 1)
    assert min(face["visible"] for face in behind) < 0.2 and min(face["visible"] for face in before) > 0.98
    assert behind[0]["cx"] < before[0]["cx"] and behind[-1]["cx"] > before[-1]["cx"]
    for clip, length in (("occluded-01", 1), ("occluded-02", 15)):
        covered = [t for t, face in enumerate(track(clip, 0)) if "heavy-occlusion" in face["flags"]]
        assert covered == list(range(covered[0], covered[0] + length)) and covered[0] > 10
        assert all(0.25 <= track(clip, 0)[t]["visible"] < 0.4 and "ignore" not in track(clip, 0)[t]["flags"] for t in covered)
        assert all(face["visible"] > 0.97 and not face["flags"] for face in track(clip, 1))
    nearer, away = track("resizing-01", 0), track("resizing-02", 0)
    assert nearer[-1]["ry"] > 2.5 * nearer[0]["ry"] and away[0]["ry"] > 2.5 * away[-1]["ry"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": {}}, "at least one event needs a clip"),
        ({"clips": {"dancing": 1}}, "'leaving', 'crossing', 'occluded' or 'resizing'"),
        ({"height": 181}, "must be even"),
        ({"pictures": 10}, "greater than or equal to 40"),
        ({"backgrounds": "nowhere"}, "nowhere: No such file"),
        ({"backgrounds": "labels.jsonl"}, "labels.jsonl: not a folder"),
        ({"drop": {"gone.png": "why"}}, "drop names 'gone.png', and there is no such picture in"),
        ({"drop": {"coffee.png": "why"}}, "2 faces to cut out and 0 backgrounds are too few"),
        ({"least_source": 500}, "0 faces to cut out and 1 backgrounds are too few"),
        ({"overrides": {"a.png": "frontal"}}, "overrides"),
    ],
)
def test_bad_configs_are_one_line_and_leave_nothing(build, tmp_path, changes, message):
    result = build(**changes)
    one_line(result, result.code or 99, message)
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").iterdir())


def test_a_config_without_backgrounds_says_so(build, tmp_path):
    (tmp_path / "empty" / "coffee.png").unlink()
    one_line(build(), 2, "2 faces to cut out and 0 backgrounds are too few")


# The set that ships, smaller, on the real photos


@pytest.fixture(scope="module")
def moving(shared, tmp_path_factory):
    """The test set ``moving`` with fewer clips; its faces are FDDB's."""
    from faceblur_core.datasets.labels import BadRows
    from faceblur_core.testsets.build import build_testset

    folder = tmp_path_factory.mktemp("moving")
    config = yaml.safe_load((Path(__file__).parents[1] / "configs" / "testsets" / "moving.yaml").read_text())
    config |= {"clips": {"leaving": 1, "crossing": 1, "occluded": 2, "resizing": 1}, "pictures": 40}
    config |= {"height": 180, "width": 320}
    (folder / "moving.yaml").write_text(yaml.safe_dump(config))
    return build_testset(folder / "moving.yaml", shared / "data", folder / "moving", BadRows()).testset


def test_the_truth_of_moving_is_where_yunet_finds_faces(moving):
    detect = installed_plugins().make("detector", "yunet")
    found = faces = 0
    for index in range(0, len(moving.rows), 7):
        row = moving.rows[index]
        clear = [face for face in row["faces"] if not face["flags"] and face["visible"] > 0.98]
        truth = [Ellipse(*(face[key] for key in ("cx", "cy", "rx", "ry", "angle"))).bounds() for face in clear]
        overlap = box_iou(np.array(truth, np.float32).reshape(-1, 4), detect(moving.sample(row).image).boxes)
        found += int((overlap.max(axis=1, initial=0) > 0.5).sum())
        faces += len(clear)
    assert faces > 30 and found >= 0.95 * faces


def test_with_tracking_no_gap_is_left_where_yunet_loses_faces(moving, cli, tmp_path, monkeypatch):
    """The bar: occluded for up to 15 pictures, crossing, coming and leaving; against the figure without tracking."""
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path / "cache"))
    config = {
        "methods": ["yunet", {"method": "yunet", "tracking": False}],
        "testsets": [str(moving.folder)],
        "metrics": ["coverage", "gap-frames", "jitter"],
        "cost_photos": 0,
        "resamples": 50,
        "failures": 0,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = cli("compare", tmp_path / "config.yaml", "-o", tmp_path / "runs", "--workers", 1)
    assert result.code == 0, result.err
    [folder] = (tmp_path / "runs").iterdir()
    found = figures(folder)
    assert found["yunet", "gap-frames"] == 0 < found["yunet,tracking=off", "gap-frames"]
    assert figures(folder, "category=occluded")["yunet,tracking=off", "gap-frames"] > 0
    assert found["yunet", "jitter"] < found["yunet,tracking=off", "jitter"]


def test_what_faceblur_run_writes_has_no_gap_either(moving, cli, tmp_path):
    """The same in the pixels of the files: a face is black in at least half of its ellipse, or open."""
    lost = {}
    for tracking in ("on", "off"):
        out = tmp_path / tracking
        result = cli("run", "-m", "yunet+solid", moving.folder / "clips", "-o", out, "--tracking", tracking)
        assert result.code == 0 and result.err == "", result.err
        black: dict[tuple[str, int], list[bool]] = {}
        for rows in moving.files():
            pictures = videos.frames(out / Path(rows[0]["file"]).name)
            for row, picture in zip(rows, pictures, strict=True):
                truth = known(row, picture)
                for track, face in zip(truth.tracks, truth.faces, strict=True):
                    inside = face.inside(*picture.shape[:2])
                    black.setdefault((truth.clip, track), []).append((picture[inside].max(axis=1) < 30).mean() >= 0.5)
        lost[tracking] = sum(gaps(one).sum() for one in black.values())
        assert sum(map(sum, black.values())) > 0.9 * sum(map(len, black.values()))
    assert lost["on"] == 0 < lost["off"]


def test_a_config_of_clips_names_what_it_needs(tmp_path):
    from faceblur_core.testsets.config import load_config

    (tmp_path / "x.yaml").write_text(yaml.safe_dump({key: value for key, value in CONFIG.items() if key != "backgrounds"}))
    with pytest.raises(UsageMistake, match="needs 'backgrounds'"):
        load_config(tmp_path / "x.yaml", tmp_path)
