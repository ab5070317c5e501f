"""What any trainer needs, tried with a network of one number and no framework."""

import csv
import dataclasses
import json
import os
import platform
from dataclasses import dataclass

import numpy as np
import pytest

from faceblur_core import machine
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.training.command import given_config
from faceblur_core.training.config import TrainingConfig, as_yaml, checked, load_config
from faceblur_core.training.data import identity
from faceblur_core.training.precision import computed_in
from faceblur_core.training.report import replace
from faceblur_core.training.run import TrainingRun
from faceblur_core.training.schedule import plateau_rate, step_rates
from faceblur_core.types import option


@dataclass(frozen=True)
class Config(TrainingConfig):
    scores: list[float] = option([0.1, 0.4, 0.3, 0.2, 0.5], "what the network is worth after each epoch")


class Run(TrainingRun[Config]):
    judged_by = "val_score"
    higher_is_better = True
    distribution = "faceblur-core"

    def set_up(self):
        self.number = 0.0
        return {"train": 4, "val": 2, "manifest_sha256": self.config.data}

    def fit(self, epoch):
        self.number += 1 + epoch / 8
        score = self.config.scores[epoch]
        return {"loss": 1 - score, "score": score, "val_loss": 1 - score, "val_score": score}

    def rate(self):
        return self.config.learning_rate

    def arrays(self):
        return [np.array(self.number)]

    def assign(self, arrays):
        (number,) = arrays
        self.number = float(number)

    def save_best(self):
        (self.out_dir / "best.txt").write_text(str(self.number))

    def save_model(self):
        return self.out_dir / "best.txt"

    def parameters(self):
        return 1

    def versions(self):
        return {"abacus": "3"}


CONFIG = Config(data="a", epochs=5)


def rows(out_dir):
    return list(csv.DictReader((out_dir / "log.csv").read_text().splitlines()))


def test_a_run_and_what_it_leaves(tmp_path, capsys):
    Run.train(CONFIG, tmp_path)
    assert [float(row["val_score"]) for row in rows(tmp_path)] == CONFIG.scores
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["precision"] == "float32"  # nothing said otherwise
    assert facts["best"]["epoch"] == 5 and facts["versions"]["abacus"] == "3" and facts["data"]["train"] == 4
    assert (tmp_path / "best.txt").read_text() == "6.25"
    assert {path.name for path in (tmp_path / "curves").iterdir()} == {"loss.png", "score.png"}
    assert load_config(Config, tmp_path / "config.yaml") == CONFIG and not list(tmp_path.rglob(".*"))
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].startswith("epoch 2/5 0 s lr 0.0015 loss 0.6") and printed[1].endswith(" best")
    assert not printed[2].endswith(" best") and printed[-1] == f"best epoch 5: {tmp_path / 'best.txt'}"


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_resumed_run_ends_like_one_that_was_not_interrupted(tmp_path, epochs):
    run = Run(CONFIG, tmp_path, progress=False)
    for _ in range(epochs):
        run.one_epoch()
    Run.train(CONFIG, tmp_path, resume=True, progress=False)
    assert len(rows(tmp_path)) == 5 and (tmp_path / "best.txt").read_text() == "6.25"
    with np.load(tmp_path / "checkpoint" / "state.npz") as state:
        assert state["0"] == 6.25


def test_a_run_interrupted_while_it_wrote_its_last_report_has_one_when_it_is_resumed(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    run = Run(CONFIG, tmp_path, progress=False)
    for _ in range(4):
        run.one_epoch()
    with monkeypatch.context() as patch:
        patch.setattr("faceblur_core.training.run.write_report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.one_epoch()
    Run.train(CONFIG, tmp_path, resume=True, progress=False)
    facts = json.loads((tmp_path / "run.json").read_text())
    assert len(rows(tmp_path)) == 5 and facts["epochs"] == facts["best"]["epoch"] == 5


def test_early_stopping(tmp_path):
    Run.train(dataclasses.replace(CONFIG, early_stopping=2), tmp_path, progress=False)
    assert len(rows(tmp_path)) == 4 and (tmp_path / "best.txt").read_text() == "2.125"


def test_a_folder_with_a_run_is_not_written_over(tmp_path):
    Run.train(CONFIG, tmp_path, progress=False)
    with pytest.raises(UsageMistake, match="holds a run: go on with it with --resume, or name another folder"):
        Run.train(CONFIG, tmp_path)
    with pytest.raises(UsageMistake, match="holds a run with epochs=5, not 6"):
        Run.train(dataclasses.replace(CONFIG, epochs=6), tmp_path, resume=True)
    with pytest.raises(UsageMistake, match="holds a run on other data than is in b"):
        Run.train(dataclasses.replace(CONFIG, data="b"), tmp_path, resume=True)
    with pytest.raises(UsageMistake, match="best.txt is no folder"):
        Run.train(CONFIG, tmp_path / "best.txt" / "run")
    (tmp_path / "checkpoint" / "state.npz").write_bytes(b"PK damaged")
    with pytest.raises(FaceblurError, match="cannot be resumed"):
        Run.train(CONFIG, tmp_path, resume=True)


def test_a_file_that_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path):
    def full(path):
        path.write_text("half")
        raise RuntimeError("[enforce fail at inline_container.cc:671]")

    (tmp_path / "best.txt").write_text("before")
    for path in (tmp_path / "best.txt", tmp_path / "best.txt" / "more"):
        with pytest.raises(FaceblurError, match=r"best.txt: cannot be written; is the disk full\?|Not a directory|File exists"):
            replace(path, full)
    assert [path.name for path in tmp_path.iterdir()] == ["best.txt"] and (tmp_path / "best.txt").read_text() == "before"


def test_a_loss_that_is_no_number(tmp_path):
    with pytest.raises(FaceblurError, match="epoch 1: the loss is no number any more"):
        Run.train(dataclasses.replace(CONFIG, scores=[float("nan")] * 5), tmp_path)


@pytest.mark.parametrize(
    ("cpuinfo", "device", "computed"),
    [
        ("processor : 0\nflags\t\t: fpu avx avx2 f16c\n", "cpu", "float32"),
        ("processor : 0\nflags\t\t: fpu avx avx2 f16c\n", "cuda:0", "bfloat16"),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512bw\n", "cpu", "bfloat16"),
        ("processor : 0\nFeatures\t: fp asimd\n", "cpu", "bfloat16"),  # ARM
        (None, "cpu", "bfloat16"),  # not Linux
    ],
)
def test_16_bits_only_where_the_processor_has_them(tmp_path, monkeypatch, capsys, cpuinfo, device, computed):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo is not None:
        machine.CPUINFO.write_text(cpuinfo)
    assert computed_in("float32", device) == "float32" and capsys.readouterr() == ("", "")
    assert computed_in("bfloat16", device) == computed
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == (computed == "float32")
    assert ("precision=bfloat16" in said.err) == bool(said.err)


@pytest.mark.parametrize(
    ("cpuinfo", "processor"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx avx2\n", ", AMD EPYC (AVX2), "),
        ("model name\t: A\nflags\t\t: avx2 avx512bw\n\nmodel name\t: B\n", ", A (AVX-512), "),
        ("model name\t: old\nflags\t\t: fpu sse2\n", ", old, "),
        ("Features\t: fp asimd\n", f", {platform.processor()}, "),
    ],
)
def test_a_machine_in_a_line(tmp_path, monkeypatch, cpuinfo, processor):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.describe() == f"{platform.system()} {platform.machine()}{processor}{os.cpu_count()} cores"


def test_step_rates():
    cosine = step_rates(checked(Config, {"epochs": 3, "warmup_epochs": 1, "learning_rate": 1.0}, "c"), 9)
    assert len(cosine) == 28 and cosine[[0, 4, 9, 18, 27]] == pytest.approx([0.1, 0.5, 1, 0.5, 0], abs=1e-6)
    assert set(step_rates(Config(schedule="constant", learning_rate=1.0), 2)) == {1}


def test_plateau_rate():
    config = Config(schedule="plateau", learning_rate=1.0, plateau_patience=2, plateau_factor=0.1)
    losses = [5, 4, 4, 4.5, 3, 3, 3, 3]
    rates = [plateau_rate(config, losses[:count]) for count in range(9)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_the_command_lines_options(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(as_yaml(CONFIG))
    given = {"file": file, "data": "b", "settings": ["epochs=7", "scores=[1, 2]"]}
    assert given_config(Config, given) == Config(data="b", epochs=7, scores=[1, 2])
    with pytest.raises(UsageMistake, match="no data set: name its folder with --data"):
        given_config(Config, {**given, "data": ""})
    with pytest.raises(UsageMistake, match="is not of the form name=value"):
        given_config(Config, {**given, "settings": ["epochs"]})


def test_the_identity_of_a_data_set(tmp_path):
    for part in ("train", "train_blur", "val", "elsewhere"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "1.jpg").write_text(part)
    first = identity(tmp_path, train=1, val=1)
    assert first == {"manifest_sha256": None, "content_sha256": first["content_sha256"], "train": 1, "val": 1}
    (tmp_path / "elsewhere" / "1.jpg").write_text("else")
    (tmp_path / "train" / ".hidden").write_text("else")
    assert identity(tmp_path, train=1, val=1) == first
    (tmp_path / "train_blur" / "1.jpg").write_text("train_blue")
    second = identity(tmp_path, train=1, val=1)
    (tmp_path / "train_blur" / "1.jpg").rename(tmp_path / "train_blur" / "2.jpg")
    third = identity(tmp_path, train=1, val=1)
    assert len({found["content_sha256"] for found in (first, second, third)}) == 3
    (tmp_path / "manifest.jsonl").write_text("{}\n")
    told = identity(tmp_path, train=3)
    assert told["manifest_sha256"].startswith("ca3d163bab055381") and set(told) == {"manifest_sha256", "train"}
