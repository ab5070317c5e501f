"""The trainer: tiny runs from beginning to end, interrupted and resumed, refused; what a run leaves and does not tell."""

import csv
import dataclasses
import json
import socket

import cv2
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from faceblur_core.cli.train import train as command
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import TrainerContract
from faceblur_core.training.config import load_config
from faceblur_yolo import training
from faceblur_yolo.config import TrainConfig
from faceblur_yolo.library import one_line

TINY = """
nc: 1
reg_max: 4
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [[2, 3], 1, Detect, [nc]]
"""


class TestTrainer(TrainerContract):
    name = "yolo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of a bright disc on noise in the layout of faceblur dataset export-yolo; every fourth has none."""
    folder = tmp_path_factory.mktemp("somewhere-private")
    for seed, (split, count) in enumerate({"train": 24, "val": 8}.items()):
        rng = np.random.default_rng(seed)
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 120, (64, 64, 3), np.uint8)
            row = ""
            if number % 4:
                x, y = (int(value) for value in rng.integers(20, 44, 2))
                cv2.circle(pixels, (x, y), 14, (240, 240, 240), -1)
                row = f"0 {x / 64:.6f} {y / 64:.6f} {28 / 64:.6f} {28 / 64:.6f}\n"
            cv2.imwrite(str(folder / "images" / split / f"{number:05}.jpg"), pixels)
            (folder / "labels" / split / f"{number:05}.txt").write_text(row)
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: face}\n")
    (folder / "manifest.jsonl").write_text("{}\n")
    (folder / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture(scope="module")
def config(folder):
    return TrainConfig(
        data=str(folder), model=str(folder / "tiny.yaml"), epochs=2, batch_size=8, step_size=8, imgsz=64, threads=1,
        learning_rate=0.01, close_mosaic=1,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("it asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("run")
    training.train(config, out_dir, progress=False)
    return out_dir


pytestmark = pytest.mark.filterwarnings("ignore")  # torch's exporter, tracer and schedulers


def rows(out_dir):
    return list(csv.DictReader((out_dir / "log.csv").read_text().splitlines()))


def test_a_run_and_what_it_leaves(whole, config, folder):
    log = rows(whole)
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert float(log[0]["loss"]) == pytest.approx(sum(float(log[0][name]) for name in ("box_loss", "cls_loss", "dfl_loss")))
    curves = {path.stem for path in (whole / "curves").iterdir()}
    assert curves == {name.removeprefix("val_") for name in log[0] if name.startswith("val_")} >= {"loss", "recall", "ap50"}
    facts = json.loads((whole / "run.json").read_text())
    assert {"faceblur-yolo", "ultralytics", "torch"} <= set(facts["versions"]) and facts["data"]["train"] == 24
    assert facts["seed"] == config.seed and facts["parameters"] > 1000 and facts["images_per_second"] > 0
    assert load_config(TrainConfig, whole / "config.yaml") == config and not list(whole.rglob(".*"))
    assert {path.name for path in whole.iterdir()} == {
        "best.pt", "model.onnx", "log.csv", "curves", "run.json", "config.yaml", "checkpoint",
    }  # fmt: skip


def test_the_weights_are_half_and_tell_no_folder(whole):
    checkpoint = torch.load(whole / "best.pt", weights_only=False)
    assert {value.dtype for value in checkpoint["model"].state_dict().values() if value.is_floating_point()} == {torch.float16}
    assert checkpoint["optimizer"] is None and checkpoint["model"].names == {0: "face"}
    for name in ("best.pt", "model.onnx"):
        data = (whole / name).read_bytes()
        assert b"somewhere-private" not in data and str(whole).encode() not in data


def test_the_onnx_file_takes_any_size_and_gives_what_the_checkpoint_gives(whole, astronaut):
    model = onnx.load(whole / "model.onnx")
    assert model.graph.input[0].type.tensor_type.shape.dim[2].dim_param
    options = {"conf": 0.0, "imgsz": 96, "max_det": 5}
    make = installed_plugins().make
    ours = make("detector", "yolo-onnx", {"weights": str(whole / "model.onnx"), **options})(astronaut)
    for name in ("best.pt", "model.onnx"):
        theirs = make("detector", "yolo", {"weights": str(whole / name), **options})(astronaut)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=0.005)


def test_an_interrupted_run_goes_on(config, tmp_path, monkeypatch):
    real, kept = training._Run._keep_epoch, []

    def interrupted(run, trainer):
        if kept:
            raise KeyboardInterrupt
        kept.append(real(run, trainer))

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_keep_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.train(config, tmp_path, progress=False)
    before = rows(tmp_path)
    assert len(before) == 1 and not (tmp_path / "model.onnx").exists()
    changed = dataclasses.replace(config, workers=1)
    training.train(changed, tmp_path, resume=True, progress=False)
    assert rows(tmp_path)[:1] == before and [row["epoch"] for row in rows(tmp_path)] == ["1", "2"]
    assert (tmp_path / "model.onnx").is_file()
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert state["last"] == "epoch-2.pt" and {path.name for path in (tmp_path / "checkpoint").glob("*.pt")} == {"epoch-2.pt"}


def test_on_a_cpu_it_computes_in_16_bits_where_they_are_wished_and_says_nothing(config, tmp_path, monkeypatch, capfd):
    seen, real = set(), nn.Conv2d.forward

    def forward(layer, x):
        if layer.training:
            seen.add(real(layer, x).dtype)
        return real(layer, x)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    training.train(dataclasses.replace(config, epochs=1, precision="bfloat16", cache="ram"), tmp_path, progress=False)
    assert seen == {torch.bfloat16} and capfd.readouterr() == ("", "")
    weights = torch.load(tmp_path / "checkpoint" / "epoch-1.pt", weights_only=False)["ema"]
    assert "forward" not in vars(weights) and len(rows(tmp_path)) == 1


def test_a_finished_run_is_only_written_again(whole, config, capsys):
    before = (whole / "log.csv").read_bytes()
    (whole / "model.onnx").unlink()
    training.train(config, whole, resume=True)
    assert capsys.readouterr().out.startswith("best epoch ") and (whole / "log.csv").read_bytes() == before
    assert (whole / "model.onnx").is_file()


def test_a_folder_with_another_run_is_refused(whole, config, folder):
    with pytest.raises(UsageMistake, match="holds a run: go on with it with --resume"):
        training.train(config, whole)
    with pytest.raises(UsageMistake, match="holds a run with imgsz=64, not 96"):
        training.train(dataclasses.replace(config, imgsz=96), whole, resume=True)
    (folder / "manifest.jsonl").write_text("{} \n")
    try:
        with pytest.raises(UsageMistake, match="holds a run on other data"):
            training.train(config, whole, resume=True)
    finally:
        (folder / "manifest.jsonl").write_text("{}\n")


def test_mistakes_are_one_line(config, tmp_path, folder):
    def refused(match, error=UsageMistake, **changes):
        with pytest.raises(error, match=match) as caught:
            training.train(dataclasses.replace(config, **changes), tmp_path / "out")
        assert "\n" not in caught.value.message

    refused("holds no data.yaml; faceblur dataset export-yolo SET -o DIR makes", data=str(tmp_path))
    refused("model=nothing.pt: no .pt or .yaml file; ours: yolo-face-p.yaml", model="nothing.pt")
    refused("model=nothing.yaml: no .pt or .yaml file", model="nothing.yaml")
    assert not (tmp_path / "out").exists()
    (tmp_path / "noise.pt").write_bytes(b"noise")
    refused("^Ultralytics: .*--verbose tells more", FaceblurError, model=str(tmp_path / "noise.pt"))
    result = CliRunner().invoke(command, ["yolo", "-c", "configs/none.yaml", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert one_line(ValueError("Dataset '\u274c'\n  error")) == "Dataset '' error" and one_line(ValueError()) == "ValueError"


def test_a_loss_that_is_no_number(config, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "epoch_row", lambda *_: {"loss": float("nan"), "val_loss": 1.0})
    with pytest.raises(FaceblurError, match="epoch 1: the loss is no number any more; lower learning_rate"):
        training.train(config, tmp_path, progress=False)


def test_models_are_found():
    assert training.find_model("yolo-face-p.yaml").endswith("models/yolo-face-p.yaml")
    assert training.find_model("yolo11n.yaml") == "yolo11n.yaml"
