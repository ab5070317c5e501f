"""``faceblur compare`` from end to end: known answers, the cache, what methods, metrics and users can do wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from conftest import DISTS, one_line
from faceblur_core.compare import remembered
from faceblur_core.compare import run as compare_run
from faceblur_core.compare import table as compare_table
from faceblur_core.compare.statistics import Figure, gap_by_chance
from faceblur_core.testsets.format import read_testset, write_testset
from faceblur_core.types import Detections, Ellipse
from photos import encoded

HEIGHT, WIDTH = 48, 64
FACES = {
    "a/one": [Ellipse(30, 24, 9, 12)],
    "b-two": [Ellipse(16, 20, 7, 9, 0.3), Ellipse(46, 24, 8, 10)],
    "c-none": [],
    "d-one": [Ellipse(40, 30, 10, 13, 2.0)],
}
IGNORED = {"b-two": Ellipse(30, 40, 3, 4)}
CHEAP = ["coverage", "over-blur"]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (HEIGHT, WIDTH, 3), np.uint8)


def face_row(face: Ellipse, *flags: str) -> dict:
    return {"cx": face.cx, "cy": face.cy, "rx": face.rx, "ry": face.ry, "angle": face.angle, "flags": list(flags)}


def make_testset(folder: Path, version: int = 1, photos=FACES) -> Path:
    head = {"name": folder.name, "version": version, "summary": "noise", "licence": "none"}
    items = [
        (
            {
                "id": name, "suffix": ".png", "height": HEIGHT, "width": WIDTH, "identity": None,
                "faces": [*map(face_row, faces), *(face_row(IGNORED[name], "ignore") for _ in range(name in IGNORED))],
                "groups": {"size": str(len(faces))}, "categories": ["face-free" if not faces else "frontal"],
            },
            encoded(picture(number), "PNG"),
        )
        for number, (name, faces) in enumerate(photos.items())
    ]  # fmt: skip
    write_testset(folder, head, items)
    return folder


@pytest.fixture
def tiny(tmp_path, monkeypatch, install):
    """A tiny test set; everything that a comparison reads or keeps lies in this test's folder."""
    install("compared")
    monkeypatch.setenv("PYTHONPATH", str(DISTS / "compared"), prepend=os.pathsep)  # a working tree tests itself
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEBLUR_TESTSETS", str(tmp_path / "testsets"))
    monkeypatch.chdir(tmp_path)
    return make_testset(tmp_path / "testsets" / "tiny")


def odd(how: str, **options: object) -> dict:
    return {"name": how, "method": "odd", "set": {"how": how, **options}}


@pytest.fixture
def compare(cli, tiny, tmp_path):
    """Compare; returns what the command line returned and the run's folder, which may not be there."""

    def run(methods, *arguments, **config):
        content = {"methods": methods, "testsets": ["tiny"], "metrics": CHEAP, "cost_photos": 0, "resamples": 20, **config}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        runs = tmp_path / f"runs-{len(list(tmp_path.glob('runs-*')))}"
        result = cli("compare", tmp_path / "config.yaml", "-o", runs, *arguments)
        return result, next(runs.glob("*"), None) if runs.is_dir() else None

    return run


def rows_of(folder: Path, file: str = "table.csv") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / file).read_text())))


def table(folder: Path, part: str = "all") -> dict[tuple[str, str, str], str]:
    return {(r["method"], r["metric"], r["statistic"]): r["value"] for r in rows_of(folder) if r["slice"] == part}


def jobs(result) -> list[str]:
    """Return what was measured, not kept, in this run."""
    lines = [line.removeprefix("faceblur: ") for line in result.err.splitlines() if re.search(r" on tiny-v\d+: ", line)]
    return [line.partition(" on ")[0] for line in lines if not line.endswith("kept from an earlier run")]


# Known answers

KNOWN = ["coverage", "image-missed", "psnr-outside", "ssim-outside", "over-blur", "touched", "recall", "precision", "ap50"]


def test_copy_black_and_oracle_have_the_rows_that_they_must(compare, tiny):
    oracle = {"name": "oracle", "method": "oracle", "set": {"testset": str(tiny)}}
    wide = {"name": "wide", "method": "oracle", "set": {"testset": str(tiny), "grow": 2.0}}
    result, folder = compare(["copy", "black", oracle, wide], metrics=KNOWN, cost_photos=2)
    assert result.code == 0, result.err
    figures = table(folder)

    def column(method):
        return {key[1:]: value for key, value in figures.items() if key[0] == method}

    same = {("images without output", "count"): "0"}
    assert column("copy") == same | {
        ("coverage", "mean"): "0", ("coverage", "p5"): "0", ("coverage", "share>=0.95"): "0", ("coverage", "share<0.5"): "1",
        ("image-missed", "mean"): "1", ("psnr-outside", "mean<=100"): "100", ("psnr-outside", "median"): "inf",
        ("ssim-outside", "mean"): "1", ("over-blur", "mean"): "0", ("touched", "mean"): "0",
        ("recall", "mean"): "0", ("precision", "precision"): "", ("ap50", "ap50"): "0",
    }  # fmt: skip
    hidden = {
        ("coverage", "mean"): "1", ("coverage", "p5"): "1", ("coverage", "share>=0.95"): "1", ("coverage", "share<0.5"): "0",
        ("image-missed", "mean"): "0",
    }  # fmt: skip
    samples = list(read_testset(tiny).samples())
    covered = [np.where(_free(sample, 1)[..., None], sample.image, np.uint8(0)) for sample in samples]
    psnr, ssim = zip(*map(_by_hand, samples, covered), strict=True)
    assert set(psnr) == {np.inf}
    assert column("oracle") == same | hidden | {
        ("psnr-outside", "mean<=100"): "100", ("psnr-outside", "median"): "inf",
        ("ssim-outside", "mean"): f"{np.mean(ssim):.6g}", ("over-blur", "mean"): "0", ("touched", "mean"): "0",
        ("recall", "mean"): "1", ("precision", "precision"): "1", ("ap50", "ap50"): "1",
    }  # fmt: skip
    psnr, ssim = zip(*(_by_hand(sample, np.zeros_like(sample.image)) for sample in samples), strict=True)
    assert column("black") == same | hidden | {
        ("psnr-outside", "mean<=100"): f"{np.mean(psnr):.6g}", ("psnr-outside", "median"): f"{sorted(psnr)[1]:.6g}",
        ("ssim-outside", "mean"): f"{np.mean(ssim):.6g}", ("over-blur", "mean"): "1", ("touched", "mean"): "1",
        ("recall", "mean"): "", ("precision", "precision"): "", ("ap50", "ap50"): "",
    }  # fmt: skip
    missing = [row for row in rows_of(folder) if (row["method"], row["metric"]) == ("black", "recall")]
    assert [(row["slice"], row["count"], row["missing"]) for row in missing] == [("all", "0", "4")]
    over = [_over_blur(sample, 2.0) for sample in samples]
    assert column("wide")["over-blur", "mean"] == f"{np.mean(over):.6g}" and min(over) == 0 < max(over)
    assert [(row["method"], row["photos"], row["error"]) for row in rows_of(folder, "cost.csv")][:1] == [("copy", "2", "")]
    assert len(rows_of(folder, "faces.csv")) == 4 * 4 and len(rows_of(folder, "images.csv")) == 4 * 4
    assert table(folder, "category=face-free")["copy", "touched", "mean"] == "0"
    directions = {(row["metric"], row["statistic"]): row["better"] for row in rows_of(folder)}
    assert directions["coverage", "mean"] == directions["coverage", "share>=0.95"] == "higher"
    assert directions["coverage", "share<0.5"] == directions["images without output", "count"] == "lower"
    assert ("copy", "coverage", "mean") not in table(folder, "category=face-free")


def _free(sample, grow=1.3):
    """The pixels outside all grown ellipses, counted one by one."""

    def outside(x, y):
        def reach(face):
            cos, sin = np.cos(face.angle), np.sin(face.angle)
            dx, dy = x + 0.5 - face.cx, y + 0.5 - face.cy
            return ((dx * cos + dy * sin) / face.rx) ** 2 + ((dy * cos - dx * sin) / face.ry) ** 2

        return all(reach(face) > grow**2 for face in (*sample.faces, *(sample.ignored if grow == 1.3 else ())))

    return np.array([[outside(x, y) for x in range(WIDTH)] for y in range(HEIGHT)])  # fmt: skip


def _by_hand(sample, after: np.ndarray) -> tuple[float, float]:
    free = _free(sample)
    ssim = structural_similarity(sample.image, after, channel_axis=2, full=True)[1]
    same = np.array_equal(sample.image[free], after[free])  # scikit-image warns of dividing by 0
    return np.inf if same else peak_signal_noise_ratio(sample.image[free], after[free]), ssim[free].mean()


def _over_blur(sample, grow: float) -> float:
    free, hidden = _free(sample), ~_free(sample, grow)
    return float((hidden & free).sum() / free.sum())


def test_the_gap_is_worst_minus_best_of_slices_with_enough_values():
    values = {"age=young": (0.9, 40), "age=old": (0.7, 20), "age=unknown": (0.1, 19), "size=small": (0.5, 99), "all": (0.8, 79)}
    figures = [(part, "mean", Figure(value, 0, 1, count, 0)) for part, (value, count) in values.items()]
    [gap] = compare_table._gaps(figures, None)
    assert gap["value"] == pytest.approx(0.2)
    assert (gap["slice"], gap["statistic"], gap["better"]) == ("age: worst minus best", "mean", "lower")
    [_, chance] = compare_table._gaps(figures, lambda parts, statistic: 0.125 if parts == ["age=young", "age=old"] else 1)
    assert (chance["slice"], chance["value"], chance["better"]) == ("age: worst minus best by chance", 0.125, "")
    assert len(list(compare_table._gaps(figures, lambda parts, statistic: np.nan))) == 1


@pytest.mark.parametrize(
    ("sizes", "share"), [((60, 150, 400), 0.8), ((20, 400), 0.97), ((50, 400), 0.98), ((20, 25, 30, 400), 0.97)]
)
def test_what_chance_makes_of_the_gap_is_that_of_slices_of_one_truth(sizes, share):
    """Beside the gaps of binomial draws, also where one slice has no value that differs from the others."""
    rng = np.random.default_rng(0)
    count = sum(sizes)
    values = (np.arange(count) < round(share * count)).astype(float)
    gaps = np.ptp([rng.binomial(size, share, 20_000) / size for size in sizes], axis=0)
    found = gap_by_chance(values, np.arange(count), sizes, 2000, "mean", {})
    assert np.quantile(gaps, 0.93) - 1e-9 <= found <= np.quantile(gaps, 0.97) + 1e-9
    assert (gaps > found).mean() < 0.08
    assert gap_by_chance(np.ones(count), np.arange(count), sizes, 100, "p5", {}) == 0


def test_by_chance_faces_of_one_picture_stay_together():
    """Ten faces of a picture that are hidden or open together are worth one."""
    together, alone = np.repeat([0.0, 1.0] * 30, 10), np.tile([0.0, 1.0], 30)
    tens = gap_by_chance(together, np.repeat(np.arange(60), 10), (200, 400), 1000, "mean", {})
    ones = gap_by_chance(alone, np.arange(60), (20, 40), 1000, "mean", {})
    assert tens == pytest.approx(ones)


# What does not change a table, and what is measured again


def test_workers_cache_and_order_change_nothing(compare, tiny):
    methods = ["haar", "copy", odd("rubbish")]
    first, one = compare(methods, "--workers", 1)
    again, kept = compare(methods, "--workers", 3)
    anew, fresh = compare(methods[::-1], "--workers", 3, "--fresh")
    assert (first.code, again.code, anew.code) == (0, 0, 0)
    assert jobs(first) == ["haar", "copy", "rubbish"] and jobs(again) == [] and sorted(jobs(anew)) == sorted(jobs(first))
    for file in ("table.csv", "faces.csv", "images.csv"):
        assert (one / file).read_bytes() == (kept / file).read_bytes()
        assert sorted((one / file).read_bytes().splitlines()) == sorted((fresh / file).read_bytes().splitlines())
    more, _ = compare([*methods, "black"])
    assert jobs(more) == ["black"]


class Counting:
    """A detector of one face with landmarks and a mask, that counts its calls."""

    calls = 0

    def __call__(self, image):
        self.calls += 1
        mask = np.full(image.shape[:2], 0.25, np.float32)
        return Detections(np.array([[1, 2, 3, 4]]), np.array([0.5]), np.ones((1, 5, 2)), mask)


def test_a_photo_is_looked_at_once_by_a_detector_with_the_same_options(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path))
    one, other = np.zeros((8, 9, 3), np.uint8), np.ones((8, 9, 3), np.uint8)
    first, second, changed = Counting(), Counting(), Counting()
    for image in (one, one, other):
        seen = remembered.remembered("haar", {"min_size": 20}, first)(image)
    again = remembered.remembered("haar", {"min_size": 20}, second)(other)
    remembered.remembered("haar", {"min_size": 30}, changed)(one)
    assert (first.calls, second.calls, changed.calls) == (2, 0, 1)
    for name in ("boxes", "scores", "landmarks", "mask"):
        assert np.array_equal(getattr(seen, name), getattr(again, name))
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(b"")
    remembered.remembered("haar", {"min_size": 20}, second)(other)
    assert second.calls == 1  # what is kept is damaged
    for package in ("faceblur_core", "faceblur_opencv"):
        monkeypatch.setattr(remembered, "_digests", {package: "other code"})
        remembered.remembered("haar", {"min_size": 20}, second)(other)
    assert second.calls == 3


def test_the_code_of_backends_and_the_c_of_the_core_count(monkeypatch, tmp_path):
    (model := tmp_path / "model.tflite").touch()
    assert [entry.component.name for entry in remembered.backends_of([], [model])] == ["tflite"]
    assert [entry.component.name for entry in remembered.backends_of(["mcu", 3], [])] == ["mcu"]
    (tmp_path / "packed").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for name in ("__init__.py", "kernel.c", "notes.txt"):
        (tmp_path / "packed" / name).write_text("//")
        monkeypatch.setattr(remembered, "_digests", {})
        digests.append(remembered.code_digest("packed"))
    assert digests[0] != digests[1] == digests[2]


def test_what_decides_a_figure_is_in_the_key(compare, tiny, tmp_path, monkeypatch):
    model, other, file = tmp_path / "model.bin", tmp_path / "other.bin", tmp_path / "own.yaml"

    def measured(**changes):
        monkeypatch.setattr(remembered, "_digests", {})
        return jobs(compare([{"name": "m", "method": "odd", "set": {"file": str(model), **changes}}])[0]) == ["m"]

    model.write_bytes(b"one")
    assert measured() and not measured()
    assert measured(how="fine?") and not measured()
    model.write_bytes(b"three")
    assert measured() and not measured()
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    for content in (b"four", b"fives"):
        (tmp_path / "models" / "own.bin").write_bytes(content)
        assert measured(file="own.bin") and not measured(file="own.bin")
    monkeypatch.delenv("FACEBLUR_MODELS")
    for content in (b"six", b"seven"):
        other.write_bytes(content)
        options = {"moody": {"file": str(other), "how": "fine"}}
        assert [jobs(compare(["copy"], metrics=["moody"], options=options)[0]) for _ in range(2)] == [["copy"], []]
    make_testset(tiny, version=2)
    assert not measured()  # the same photos and truth
    make_testset(tiny, photos={**FACES, "e-new": []})
    assert measured() and not measured()
    shutil.copytree(DISTS / "compared", tmp_path / "dist")
    monkeypatch.setattr(remembered, "code_digest", lambda package: "other code" if package == "comparedplug" else package)
    assert measured() and not measured()
    for method, expected in (("haar+box", ["own"]), ("haar+median", ["own"]), ("haar+box", [])):
        file.write_text(f"method: {method}\n")  # their options have the same names and defaults
        assert jobs(compare([{"name": "own", "method": str(file)}])[0]) == expected


def test_the_judge_is_in_the_key_and_no_other_detector(compare, monkeypatch):
    def measured(other: str) -> bool:
        monkeypatch.setattr(remembered, "code_digest", lambda package: "other code" if package == other else package)
        return jobs(compare(["copy"], metrics=["still-detected"])[0]) == ["copy"]

    assert measured("") and not measured("")
    assert not measured("faceblur_mediapipe") and measured("faceblur_opencv")  # yunet's


def test_what_looks_at_photos_and_on_which_machine_is_in_the_key(compare, monkeypatch):
    def measured(other: str = "", machine: str = "a machine", **config: object) -> list[str]:
        monkeypatch.setattr(compare_run, "code_digest", lambda package: "other code" if package == other else package)
        monkeypatch.setattr(compare_run, "describe", lambda: machine)
        lines = compare(["copy"], **config)[0].err.splitlines()
        return [line.split(" ")[1].rstrip(":") for line in lines if line.startswith("faceblur: copy") and line.endswith(": done")]

    assert measured() == ["copy"] and measured(machine="another") == measured("faceblur_core.run") == []
    assert measured("faceblur_core.run.checks") == ["copy"]
    assert measured(cost_photos=1) == ["copy"] and measured(cost_photos=1) == []
    assert measured(machine="another", cost_photos=1) == ["copy"]


def test_a_judge_avoids_what_the_config_says_too(compare):
    options = {"still-detected": {"avoid": ["yunet"]}}
    _, folder = compare(["copy", "mediapipe"], metrics=["still-detected"], options=options)
    judges = {row["method"]: row["note"] for row in rows_of(folder) if row["metric"] == "still-detected"}
    assert judges == {"copy": "mediapipe", "mediapipe": "yolo"}


def test_people_are_drawn_if_ten_are_known_and_have_faces(tiny):
    def shape(people: int, unnamed: int):
        faces = {f"{index:02}": [Ellipse(30, 24, 9, 12)] * (index < people) for index in range(people + unnamed)}
        make_testset(tiny, photos=faces)
        path = tiny / "manifest.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows[:people]:
            row["identity"] = row["id"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        head = yaml.safe_load((tiny / "testset.yaml").read_text())
        head["checksum"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (tiny / "testset.yaml").write_text(yaml.safe_dump(head))
        return compare_table.shape_of(read_testset(tiny), 20, 0)

    for people, unnamed in ((1, 9), (9, 30), (0, 12)):
        assert (found := shape(people, unnamed)).of_people is found.of_images
    assert (found := shape(10, 1)).of_people is not found.of_images


def test_restoration_does_not_learn_from_whom_it_is_to_find(compare, tiny):
    path, head = tiny / "manifest.jsonl", yaml.safe_load((tiny / "testset.yaml").read_text())
    rows = [{**json.loads(line), "identity": "somebody"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tiny / "testset.yaml").write_text(yaml.safe_dump({**head, "checksum": hashlib.sha256(path.read_bytes()).hexdigest()}))
    result, _ = compare(["copy"], metrics=["reidentified-restoration"], train_on="tiny")
    one_line(result, 2, "train_on: tiny holds people of tiny-v1, such as somebody; name a test set of others")


def test_damaged_and_half_written_cache_entries_are_measured_again(compare, tmp_path):
    _, folder = compare(["copy"])
    (entry,) = (tmp_path / "cache" / "compare").iterdir()
    whole = (entry / "arrays.npz").read_bytes()
    for name, content in (
        ("arrays.npz", b"PK\3\4 cut"),
        ("arrays.npz", b""),
        ("result.json", b'{"error": "'),
        ("result.json", None),
        ("arrays.npz", bytes((whole[index] + 100) % 256 if index == 28 else whole[index] for index in range(len(whole)))),
        ("arrays.npz", b"\xff".join((whole[:30], whole[31:]))),
        ("arrays.npz", bytes(value ^ 0xFF if 40 <= index < 60 else value for index, value in enumerate(whole))),
        ("arrays.npz", whole.replace(b"PK\1\2", b"PK\1\2\x14\x03\xff")),
    ):
        (entry / name).unlink()
        if content is not None:
            (entry / name).write_bytes(content)
        result, other = compare(["copy"])
        assert jobs(result) == ["copy"] and (other / "table.csv").read_bytes() == (folder / "table.csv").read_bytes()


def test_a_run_that_is_told_to_end_starts_no_more_and_leaves_nothing_running(tiny, tmp_path):
    """By a signal to it alone, as a service manager sends it: what it started is told by nobody else."""
    config = {"methods": [odd("slow"), "copy"], "testsets": ["tiny"], "metrics": CHEAP, "cost_photos": 0, "resamples": 20}
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "faceblur_core", "compare", "slow.yaml", "-o", "ended", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    for _ in range(600):
        if list(tmp_path.glob("cache/compare/.job-*/spec.json")):
            break
        time.sleep(0.1)
    [folder] = tmp_path.glob("cache/compare/.job-*")
    process.terminate()
    out, said = process.communicate(timeout=60)  # the method takes a minute for each of four photos
    assert process.returncode == -signal.SIGTERM and said.endswith(b"faceblur: interrupted\n") and out == b""
    assert not folder.exists() and not list(tmp_path.glob("ended/*/run.json"))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_that_is_taken_for_a_result(compare, tiny, tmp_path, end):
    config = {"methods": [odd("slow")], "testsets": ["tiny"], "metrics": CHEAP, "cost_photos": 0, "resamples": 20}
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "faceblur_core", "compare", "slow.yaml", "-o", "killed"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    for _ in range(600):
        if list(tmp_path.glob("cache/compare/.job-*/spec.json")):
            break
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(process.pid, end)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if end == signal.SIGINT else -9), said
    left = [path for path in (tmp_path / "cache" / "compare").iterdir() if not path.name.startswith(".")]
    assert left == [] and not list(tmp_path.glob("killed/*/run.json")) and not list(tmp_path.glob("killed/*/table.csv"))
    result, folder = compare(["copy"])
    assert result.code == 0 and json.loads((folder / "run.json").read_text())["methods"][0]["name"] == "copy"


def test_a_job_ends_with_what_started_it(tmp_path):
    os.mkfifo(tmp_path / "spec.json")  # the job waits for its specification
    job = [sys.executable, "-m", "faceblur_core.compare.job", str(tmp_path / "spec.json"), str(tmp_path)]
    program = f"import subprocess; subprocess.Popen({job}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        with (tmp_path / "spec.json").open("wb", buffering=0) as specification:  # opens when the job reads it
            parent.kill()
            with pytest.raises(BrokenPipeError):  # nobody reads it any more
                all(time.sleep(0.1) or specification.write(b" ") for _ in range(300))


# What methods and metrics do wrong


def test_a_method_that_fails_keeps_its_row_and_harms_no_other(compare):
    hows = ["load", "image", "exit", "shape", "nan", "nothing", "write", "quit", "abort", "rubbish", "leave"]
    began = time.monotonic()
    result, folder = compare([*map(odd, hows), "copy", "nobody"], "--workers", 2)
    assert result.code == 1 and time.monotonic() - began < 200  # 'leave' leaves a process behind that sleeps as long
    whole = {row["method"]: row["error"] for row in rows_of(folder) if row["error"]}
    assert set(whole) == {"load", "quit", "abort", "nobody"}
    assert "cannot start: RuntimeError: no such driver" in whole["load"]
    assert whole["quit"] == "its process ended with exit code 3: " and whole["abort"].startswith(
        "its process ended with signal 6: "
    )
    assert whole["nobody"].startswith("no method named 'nobody'.")
    notes = {r["method"]: (r["value"], r["note"]) for r in rows_of(folder) if r["metric"] == "images without output"}
    assert {name for name, (count, _) in notes.items() if count == "1"} == {"image", "exit", "shape", "nan", "nothing", "write"}
    assert {notes[name] for name in ("rubbish", "leave", "copy")} == {("0", "")}
    assert notes["image"][1] == "ValueError: this one not" and notes["exit"][1] == "SystemExit: 7"
    assert "(47, 64, 3)" in notes["shape"][1] and "not within 0..1" in notes["nan"][1]
    figures = {(r["method"], r["metric"], r["statistic"]): r for r in rows_of(folder) if r["slice"] == "all"}
    kept = figures["image", "coverage", "share<0.5"]
    assert (kept["value"], kept["count"], kept["missing"]) == ("1", "2", "2")  # the second photo has two of the four faces
    facts = {row["name"]: row for row in json.loads((folder / "run.json").read_text())["methods"]}
    assert facts["shape"]["failed_images"]["tiny-v1"][0]["id"] == "b-two" and "quit" in facts
    again, _ = compare([*map(odd, hows), "copy"], "--workers", 2)
    assert set(jobs(again)) == set(hows) - {"rubbish", "leave"}  # what failed is tried again, be it on one photo


@pytest.mark.parametrize(
    ("metric", "options", "error"),
    [
        ("moody", {}, "c-none: ZeroDivisionError: no face"),
        ("moody", {"how": "many"}, "a/one: ValueError: it gave (2,) values, not 1"),
        ("guess", {"how": "fine"}, "no statistic 'guess'"),
        ("pool", {}, "ZeroDivisionError: no figures"),
        ("pool", {"how": "panic"}, "Panic: no way on"),
        ("pool", {"how": "observe"}, "a/one: TypeError: it observed ndarray"),
    ],
)
def test_a_metric_that_fails_is_a_row_with_its_error(compare, metric, options, error):
    result, folder = compare(["copy"], metrics=[metric, "coverage"], options={metric: options})
    assert result.code == 1
    said = {row["error"] for row in rows_of(folder) if row["metric"] == metric and row["slice"] == "all"}
    assert len(said) == 1 and error in said.pop()
    assert table(folder)["copy", "coverage", "mean"] == "0"


def test_no_metric_changes_what_the_next_one_sees(compare):
    result, folder = compare(["black"], metrics=["scribble", "psnr-outside", "coverage"])
    assert result.code == 1 and "scribble: a/one: ValueError: assignment destination is read-only" in result.err
    assert table(folder)["black", "coverage", "mean"] == "1"


def test_a_method_may_write_each_mask_into_one_array(compare):
    result, folder = compare(["buffered"], metrics=["coverage"])
    assert result.code == 0, result.err
    assert table(folder)["buffered", "coverage", "mean"] == "1"


def test_the_contract_tells_what_is_wrong_with_a_metric(tiny, cli):
    checked = cli("plugins", "check", "compared", "--json")
    failed = {(row["component"], row["check"]): row["message"] for row in json.loads(checked.out) if row["outcome"] == "failed"}
    assert "no statistic 'guess'" in failed["guess", "statistics"] and "no face" in failed["moody", "values"]
    assert "read-only" in failed["scribble", "values"]
    assert "no figures" in failed["pool", "figures"] and "no figures" in failed["pool", "nothing observed"]


# What users do wrong


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"methods": ["nobody"]}, ["no method named 'nobody'"]),
        ({"methods": []}, ["needs methods and test sets"]),
        ({"testsets": []}, ["needs methods and test sets"]),
        ({"testsets": ["tinny"]}, ["no test set named 'tinny'", "tiny"]),
        ({"testsets": ["tiny", "testsets/tiny"]}, ["two test sets are 'tiny-v1'"]),
        ({"testsets": ["testsets"]}, ["is no test set"]),
        ({"methods": ["copy", "copy"]}, ["two rows are named 'copy'"]),
        ({"methods": [{"name": "x"}]}, ["a method is a name or a mapping"]),
        ({"methods": [{"method": "haar", "set": [1]}]}, ["set of method 'haar' is a mapping"]),
        ({"metrics": ["covrage"]}, ["no metric named 'covrage'", "coverage"]),
        ({"metrics": ["coverage", "coverage"]}, ["'coverage' is named twice"]),
        ({"options": {"touchd": {}}}, ["no metric named 'touchd'"]),
        ({"metrics": ["coverage"], "options": {"touched": {"least": 0.5}}}, ["options names metric 'touched'"]),
        ({"calibration": "nosuch"}, ["no test set named 'nosuch'"]),
        ({"metrics": ["touched"], "options": {"touched": {"least": 2}}}, ["less than or equal to 1"]),
        ({"metrics": [], "attacks": ["naiv"]}, ["no attack named 'naiv'", "naive"]),
        ({"metrics": ["reidentified-restoration"]}, ["needs train_on"]),
        ({"metrics": ["still-detected"], "options": {"still-detected": {"judges": ["yunett"]}}}, ["no detector named 'yunett'"]),
        ({"metrics": ["still-detected"], "options": {"still-detected": {"judges": []}}}, ["judges of still-detected names no"]),
        ({"metrics": ["still-detected"], "options": {"still-detected": {"avoid": ["haa"]}}}, ["no detector named 'haa'"]),
        ({"name": "../up"}, ["name '../up'"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"colour": "red"}, ["colour"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(compare, tmp_path, changes, parts):
    methods = changes.pop("methods", ["copy"])
    result, folder = compare(methods, **changes)
    one_line(result, 2, *parts)
    assert folder is None and not (tmp_path / "cache").exists()


def test_mistakes_in_files_and_folders_are_one_line(compare, cli, tmp_path, tiny):
    (tmp_path / "bad.yaml").write_text("methods: [haar\n")
    one_line(cli("compare", "bad.yaml"), 2, "bad.yaml is no YAML")
    one_line(cli("compare", "nobody"), 2, "no config")
    one_line(cli("compare", "nothing.yaml"), 2, "nothing.yaml: No such file")
    one_line(cli("compare", "--methods", "copy"), 2, "--testset")
    one_line(cli("compare", "--methods", " , ", "--testset", "tiny"), 2, "needs methods")
    (tmp_path / "file").touch()
    one_line(cli("compare", "--methods", "copy", "--testset", "tiny", "--metric", "coverage", "-o", "file"), 2, "file")
    make_testset(tmp_path / "testsets" / "empty", photos={})
    one_line(compare(["copy"], testsets=["empty"])[0], 2, "empty-v1 holds no photo")


def test_a_cache_that_cannot_be_written_is_one_line(compare, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path / "file"))
    one_line(compare(["copy"])[0], 1, "FACEBLUR_CACHE names another folder")


def test_a_damaged_photo_is_every_methods_error(compare, tiny):
    next((tiny / "photos").glob("b-two*")).write_bytes(b"")
    result, folder = compare(["copy", "black"])
    assert result.code == 1
    assert all("is not the photo of the manifest" in row["error"] for row in rows_of(folder)) and len(rows_of(folder)) == 2


def test_a_threshold_that_is_not_defined_is_an_error_and_no_number(tiny):
    from faceblur_core.compare.config import CompareConfig, plan
    from faceblur_core.plugins import installed_plugins

    results = compare_run.Results(plan(CompareConfig(["copy"], ["tiny"], metrics=["coverage"]), installed_plugins()))
    for found in ({"calibrated": float("nan")}, {"calibrated": 0.3}):
        compare_run._take_thresholds(results, str(found), compare_run.Done({"error": "", "thresholds": found}, {}, cached=False))
    assert list(results.thresholds.values()) == [{"calibrated": 0.3}]
    assert list(results.threshold_errors.values()) == ["the calibration's test set defines no threshold 'calibrated'"]


def test_cost_is_measured_on_photos_all_over_the_test_set(compare, tiny, monkeypatch):
    from faceblur_core.compare import job

    seen = []
    monkeypatch.setattr(type(read_testset(tiny)), "sample", lambda self, row: seen.append(row["id"]) or _Blank())
    job._cost(lambda image: None, read_testset(tiny), 20)
    assert seen == sorted(FACES)


def test_cost_tells_the_threads_that_a_method_asked_for(compare):
    _, folder = compare(["copy", odd("fine", threads=3)], cost_photos=1)
    assert {row["method"]: row["threads"] for row in rows_of(folder, "cost.csv")} == {"copy": "1", "fine": "3"}


class _Blank:
    image = np.zeros((2, 2, 3), np.uint8)
