"""The trainer: tiny runs from beginning to end, interrupted and resumed, refused; what a run leaves and does not tell."""

import csv
import dataclasses
import hashlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch
import torchvision
from click.testing import CliRunner
from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.data import YOLODataset
from ultralytics.nn.tasks import DetectionModel

from faceblur_core import machine
from faceblur_core.cli.train import train as command
from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake
from faceblur_core.plugins import installed_plugins
from faceblur_core.testing import TrainerContract
from faceblur_core.training.config import checked, load_config
from faceblur_yolo import augment, backbone, training
from faceblur_yolo.augment import Effects, add_effects
from faceblur_yolo.backbone import load_backbone
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


def interrupted_after_an_epoch(config, out_dir, monkeypatch):
    def keep(run, trainer, real=training._Run._keep_epoch):
        real(run, trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_keep_epoch", keep)
        with pytest.raises(KeyboardInterrupt):
            training.train(config, out_dir, progress=False)


def test_an_interrupted_run_goes_on(config, tmp_path, monkeypatch):
    interrupted_after_an_epoch(config, tmp_path, monkeypatch)
    before = rows(tmp_path)
    assert len(before) == 1 and not (tmp_path / "model.onnx").exists()
    changed = dataclasses.replace(config, workers=1)
    training.train(changed, tmp_path, resume=True, progress=False)
    assert rows(tmp_path)[:1] == before and [row["epoch"] for row in rows(tmp_path)] == ["1", "2"]
    assert (tmp_path / "model.onnx").is_file()
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert state["last"] == "epoch-2.pt" and {path.name for path in (tmp_path / "checkpoint").glob("*.pt")} == {"epoch-2.pt"}


@pytest.mark.parametrize(("flags", "computed"), [("avx2 avx512bw", torch.bfloat16), ("avx2", torch.float32)])
def test_on_a_cpu_it_computes_in_16_bits_where_they_are_wished_and_there(config, tmp_path, monkeypatch, capfd, flags, computed):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    seen, real = set(), nn.Conv2d.forward

    def forward(layer, x):
        if layer.training:
            seen.add(real(layer, x).dtype)
        return real(layer, x)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    run = tmp_path / "run"
    training.train(dataclasses.replace(config, epochs=1, precision="bfloat16", cache="ram"), run, progress=False)
    said = capfd.readouterr()
    assert seen == {computed} and said.out == "" and said.err.count("\n") == (computed == torch.float32)
    assert json.loads((run / "run.json").read_text())["precision"] == str(computed).removeprefix("torch.")
    weights = torch.load(run / "checkpoint" / "epoch-1.pt", weights_only=False)["ema"]
    assert "forward" not in vars(weights) and len(rows(run)) == 1


def test_a_resumed_run_computes_as_its_device_does(config, tmp_path, monkeypatch):
    """It may be another device than the one on which it began."""
    interrupted_after_an_epoch(config, tmp_path, monkeypatch)
    seen = []

    def overrides(run, real=training._Run._overrides):
        return {**real(run), "amp": True}

    def trained(trainer):
        seen.append(trainer.args.amp)

    monkeypatch.setattr(training._Run, "_overrides", overrides)
    monkeypatch.setattr("ultralytics.models.yolo.detect.DetectionTrainer.train", trained)
    training.train(config, tmp_path, resume=True, progress=False)
    assert seen == [True]


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


@pytest.mark.parametrize("change", ["labels", "images"])
def test_a_run_on_other_labels_or_pictures_is_refused(whole, config, folder, tmp_path, change):
    """The manifest tells pictures apart, but not labels that were changed; without one all is told by the files."""
    data, run = shutil.copytree(folder, tmp_path / "data"), tmp_path / "run"
    moved = dataclasses.replace(config, data=str(data))
    if change == "images":
        (data / "manifest.jsonl").unlink()
        moved = dataclasses.replace(moved, epochs=1)
        training.train(moved, run, progress=False)
    else:
        shutil.copytree(whole, run)
    training.train(moved, run, resume=True, progress=False)
    (data / "labels" / "train.cache").write_text("another")
    training.train(moved, run, resume=True, progress=False)
    if change == "images":
        shutil.copyfile(data / "images" / "train" / "00001.jpg", data / "images" / "train" / "00002.jpg")
    else:
        (data / "labels" / "train" / "00001.txt").write_text("")
    with pytest.raises(UsageMistake, match="holds a run on other data"):
        training.train(moved, run, resume=True, progress=False)


def test_mistakes_are_one_line(config, tmp_path, folder):
    def refused(match, error=UsageMistake, **changes):
        with pytest.raises(error, match=match) as caught:
            training.train(dataclasses.replace(config, **changes), tmp_path / "out")
        assert "\n" not in caught.value.message

    refused("holds no data.yaml; faceblur dataset export-yolo SET -o DIR makes", data=str(tmp_path))
    refused("model=nothing.pt: no .pt or .yaml file; ours: yolo-face-mobilenetv2.yaml, yolo-face-p.yaml", model="nothing.pt")
    refused("model=nothing.yaml: no .pt or .yaml file", model="nothing.yaml")
    assert not (tmp_path / "out").exists()
    (tmp_path / "noise.pt").write_bytes(b"noise")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "empty.yaml").write_text("nc: 1\nbackbone: []\nhead: []\n")
    for name, frozen in (("noise.pt", 0), ("noise.pt", 1), ("list.yaml", 1)):
        refused("^Ultralytics: .*--verbose tells more", FaceblurError, model=str(tmp_path / name), frozen=frozen)
    refused("for a model whose first layer is TorchVision", model=str(tmp_path / "empty.yaml"), frozen=1)
    refused("device=cuda:9: PyTorch finds no GPU here", device="cuda:9")
    assert not (tmp_path / "out" / "config.yaml").exists()  # nothing is in the way of the same command without the mistake
    result = CliRunner().invoke(command, ["yolo", "-c", "configs/none.yaml", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert one_line(ValueError("Dataset '\u274c'\n  error")) == "Dataset '' error" and one_line(ValueError()) == "ValueError"


def test_the_network_is_not_asked_before_ultralytics_is_kept_from_it(folder, tmp_path):
    code = (
        "import socket, sys; from pathlib import Path; from faceblur_core.errors import UsageMistake\n"
        "from faceblur_yolo import training; from faceblur_yolo.config import TrainConfig\n"
        "socket.getaddrinfo = socket.socket.connect = lambda *_, **__: sys.exit('it asked for the network')\n"
        f"config = TrainConfig(data={str(folder)!r}, model='yolo11n.yaml', frozen=1)\n"
        "try:\n    training.train(config, Path('none'))\nexcept UsageMistake as error:\n    print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("backbone and frozen are for a model whose first layer is TorchVision")


@pytest.mark.parametrize(("fitness", "epochs"), [([0.0] * 6, 3), ([0.2, 0.4, 0.3, 0.4, 0.5, 0.6], 4)])
def test_it_stops_early_by_our_rule_also_when_it_goes_on(config, tmp_path, monkeypatch, fitness, epochs):
    config = dataclasses.replace(config, epochs=6, early_stopping=2)
    real = training.epoch_row

    def row(trainer, seconds):
        trainer.fitness = fitness[trainer.epoch]
        return real(trainer, seconds)

    monkeypatch.setattr(training, "epoch_row", row)
    interrupted_after_an_epoch(config, tmp_path / "resumed", monkeypatch)
    training.train(config, tmp_path / "resumed", resume=True, progress=False)
    training.train(config, tmp_path / "whole", progress=False)
    assert len(rows(tmp_path / "resumed")) == len(rows(tmp_path / "whole")) == epochs


def test_a_loss_that_is_no_number(config, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "epoch_row", lambda *_: {"loss": float("nan"), "val_loss": 1.0})
    with pytest.raises(FaceblurError, match="epoch 1: the loss is no number any more; lower learning_rate"):
        training.train(config, tmp_path, progress=False)


def test_models_are_found():
    assert training.find_model("yolo-face-p.yaml").endswith("models/yolo-face-p.yaml")
    assert training.find_model("yolo11n.yaml") == "yolo11n.yaml"


def test_the_threads_are_those_that_are_wished(config, tmp_path, monkeypatch):
    seen = []

    def look(run, trainer, real=training._Run._keep_epoch):
        seen.append(torch.get_num_threads())
        real(run, trainer)

    monkeypatch.setattr(training._Run, "_keep_epoch", look)
    training.train(dataclasses.replace(config, threads=2), tmp_path / "run", progress=False)
    assert seen == [2, 2]


def test_no_rate_is_above_the_wished_one_in_warm_up(config, tmp_path, monkeypatch):
    rates, real = [], training._Run._suit_cpu

    def look(run, trainer):
        real(run, trainer)
        step = trainer.optimizer.step

        def record(*args, **options):
            rates.append([group["lr"] for group in trainer.optimizer.param_groups])
            return step(*args, **options)

        trainer.optimizer.step = record

    monkeypatch.setattr(training._Run, "_suit_cpu", look)
    changed = dataclasses.replace(config, batch_size=2, step_size=2, schedule="constant", warmup_epochs=1, learning_rate=6e-4)
    training.train(changed, tmp_path, progress=False)
    warm_up = np.array(rates)[:12]
    assert len(warm_up[0]) > 1 and (warm_up == warm_up[:, :1]).all() and warm_up[0, 0] == 0  # biases rise like all others
    assert (np.diff(warm_up[:, 0]) > 0).all() and np.max(rates) == pytest.approx(6e-4)
    assert [float(row["lr"]) for row in rows(tmp_path)] == pytest.approx([rates[11][0], rates[23][0]])  # of the last steps


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_warm_up_that_ultralytics_would_cut_short_is_refused(config, schedule):
    given = dataclasses.asdict(dataclasses.replace(config, schedule=schedule, warmup_epochs=1))
    assert checked(TrainConfig, given, "c").warmup_epochs == 1
    for epochs, warmup in ((1, 0.1), (2, 1.1)):
        with pytest.raises(UsageMistake, match=rf"warmup_epochs \({warmup:g}\) must be at most {epochs - 1}: "):
            checked(TrainConfig, {**given, "epochs": epochs, "warmup_epochs": warmup}, "c")


def test_our_configs_can_be_trained():
    files = sorted((Path(__file__).parents[3] / "configs" / "train").glob("yolo-*.yaml"))
    assert len(files) == 6 and all(load_config(TrainConfig, file).step_size for file in files)


def test_weights_decay_by_what_is_said_whatever_the_step(config, tmp_path, monkeypatch):
    seen = []

    def look(run, trainer, real=training._Run._suit_cpu):
        real(run, trainer)
        seen.append({group["weight_decay"] for group in trainer.optimizer.param_groups})

    monkeypatch.setattr(training._Run, "_suit_cpu", look)
    for step_size in (8, 16):
        changed = dataclasses.replace(config, epochs=1, step_size=step_size, weight_decay=0.002)
        training.train(changed, tmp_path / str(step_size), progress=False)
    assert seen == [{0.0, 0.002}] * 2


def test_pictures_without_labels_and_damaged_ones_are_refused(config, folder, tmp_path):
    data = Path(shutil.copytree(folder, tmp_path / "data", ignore=shutil.ignore_patterns("*.cache")))
    changed, out_dir = dataclasses.replace(config, data=str(data)), tmp_path / "run"
    for name in ("00003", "00005"):
        (data / "labels" / "train" / f"{name}.txt").rename(data / f"{name}.txt")
    with pytest.raises(UsageMistake, match=r"^2 of 24 pictures in .*train have no labels, such as 00003.jpg; "):
        training.train(changed, out_dir, progress=False)
    for name in ("00003", "00005"):
        (data / f"{name}.txt").rename(data / "labels" / "train" / f"{name}.txt")
    (data / "labels" / "train" / "00002.txt").write_text("0 9 9 3 3\n")
    picture = data / "images" / "train" / "00001.jpg"
    picture.write_bytes(picture.read_bytes()[:40])
    for _ in range(2):  # the second time Ultralytics has it from its cache
        with pytest.raises(FaceblurError, match=r"^2 of 24 pictures in .*train or their labels are damaged, such as 00001"):
            training.train(changed, out_dir, progress=False)
    assert not (out_dir / "config.yaml").exists()


# --- our augmentation


@pytest.fixture
def dataset(folder):
    config = get_cfg(overrides={"imgsz": 64, "mosaic": 1.0, "degrees": 10.0})
    return YOLODataset(
        img_path=str(folder / "images" / "train"), data={"names": {0: "face"}, "channels": 3}, imgsz=64, hyp=config
    )


def test_it_comes_last_before_the_tensors_and_again_when_mosaics_end(dataset, monkeypatch):
    seen, real = [], Effects.__call__

    def look(effects, labels):
        seen.append(labels["img"].shape)
        out = real(effects, labels)
        assert out["instances"].bboxes.max(initial=0) > 1 or not len(out["instances"])
        return out

    monkeypatch.setattr(Effects, "__call__", look)
    last = type(dataset.transforms.transforms[-1])
    add_effects(dataset, defocus=1.0, cover=1.0, turn=1.0, smooth=1.0)
    for _ in range(2):
        assert [type(one) for one in dataset.transforms.transforms[-2:]] == [Effects, last]
        sample = dataset[1]
        assert sample["img"].shape == (3, 64, 64) and len(sample["bboxes"]) == len(sample["cls"])
        assert ((sample["bboxes"] >= 0) & (sample["bboxes"] <= 1)).all()
        dataset.close_mosaic(get_cfg(overrides={"imgsz": 64}))
    assert seen == [(64, 64, 3)] * 2


@pytest.mark.parametrize(
    ("name", "effect"),
    [("defocus", "defocused"), ("cover", "covered"), ("turn", "turned"), ("smooth", "smoothed")],
)
def test_a_training_meets_what_is_asked_for_and_its_validation_does_not(config, tmp_path, monkeypatch, name, effect):
    seen = []
    for other in ("defocused", "covered", "turned", "smoothed"):
        real = getattr(augment, other)
        monkeypatch.setattr(augment, other, lambda *given, other=other, real=real: (seen.append(other), real(*given))[1])
    training.train(dataclasses.replace(config, epochs=1, translate=0.0, scale=0.0, **{name: 1.0}), tmp_path, progress=False)
    assert seen == [effect] * (6 if name == "smooth" else 24)  # of 24 pictures 6 show no disc


# --- a backbone


def on_mobilenet(folder):
    """Write a model with MobileNetV2 as its backbone, and weights for it; return their files."""
    text = (
        TINY.partition("backbone:")[0]
        + """
backbone:
  - [-1, 1, TorchVision, [320, mobilenet_v2, null, True, 2, True]]
  - [0, 1, Index, [32, 7]]
  - [0, 1, Index, [320, 18]]
head:
  - [[1, 2], 1, Detect, [nc]]
"""
    )
    (folder / "mobile.yaml").write_text(text)
    torch.manual_seed(1)
    weights = torchvision.models.mobilenet_v2().state_dict()
    weights["features.0.1.running_mean"] += 0.1
    for name in weights:
        if name.endswith("running_var"):
            weights[name] *= 1e-3  # as small as they are in a trained one
    torch.save(weights, folder / "mobilenet.pth")
    return str(folder / "mobile.yaml"), str(folder / "mobilenet.pth")


def as_imagenet(x):
    """Return pictures in 0..1 as torchvision's networks expect them."""
    mean, deviation = (torch.tensor(value).reshape(1, 3, 1, 1) for value in (backbone.MEAN, backbone.DEVIATION))
    return (x - mean) / deviation


def test_a_backbone_sees_pictures_as_it_did_on_imagenet(tmp_path):
    model, weights = on_mobilenet(tmp_path)
    network = DetectionModel(model, ch=3, verbose=False)
    load_backbone(network, weights)
    known = torchvision.models.mobilenet_v2()
    known.load_state_dict(torch.load(weights, weights_only=True))
    x = torch.rand(1, 3, 64, 64)
    network.eval()
    known.eval()
    with torch.no_grad():
        first, expected = network.model[0].m[0](x), known.features[0](as_imagenet(x))
        torch.testing.assert_close(first[..., 1:, 1:], expected[..., 1:, 1:], rtol=1e-4, atol=1e-4)  # the padding differs
        torch.testing.assert_close(network.model[0].m[1:](expected), known.features[1:18](expected))


def test_a_resnet_can_be_one(tmp_path):
    torch.manual_seed(1)
    known, layers = torchvision.models.resnet18(), nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])
    for layer in layers.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3  # as Ultralytics sets it
    torch.save(known.state_dict(), tmp_path / "resnet.pth")
    load_backbone(SimpleNamespace(model=[SimpleNamespace(m=layers.eval())]), tmp_path / "resnet.pth")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        first, expected = layers[:2](x), known.eval().bn1(known.conv1(as_imagenet(x)))
        torch.testing.assert_close(first[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-4, atol=1e-4)  # the padding differs
        torch.testing.assert_close(
            layers[2:](expected), known.layer4(known.layer3(known.layer2(known.layer1(known.maxpool(known.relu(expected))))))
        )


def test_its_first_layers_stay_the_others_learn_and_a_run_goes_on(config, tmp_path, monkeypatch):
    model, weights = on_mobilenet(tmp_path)
    config = dataclasses.replace(config, model=model, backbone=weights, frozen=7)
    out_dir = tmp_path / "run"
    interrupted_after_an_epoch(config, out_dir, monkeypatch)
    training.train(config, out_dir, resume=True, progress=False)
    assert len(rows(out_dir)) == 2
    begun = DetectionModel(model, ch=3, verbose=False)
    load_backbone(begun, weights)
    learned = torch.load(out_dir / "best.pt", weights_only=False)["model"].model[0].m.state_dict()
    for name, value in begun.model[0].m.half().state_dict().items():
        if name.endswith("weight"):
            assert torch.equal(value, learned[name]) == (int(name.split(".")[0]) < 7), name
        if name.endswith("running_mean") and int(name.split(".")[0]) < 7:
            assert torch.equal(value, learned[name]), name
    data = json.loads((out_dir / "run.json").read_text())["data"]
    assert data["backbone_sha256"] == hashlib.sha256((tmp_path / "mobilenet.pth").read_bytes()).hexdigest()
    further = dataclasses.replace(config, model=str(out_dir / "best.pt"), backbone="", frozen=4, epochs=1, close_mosaic=0)
    training.train(further, tmp_path / "further", progress=False)
    more = torch.load(tmp_path / "further" / "best.pt", weights_only=False)["model"].model[0].m.state_dict()
    for name in learned:
        if name.endswith("weight"):
            assert torch.equal(learned[name], more[name]) == (int(name.split(".")[0]) < 4), name


def test_what_is_no_backbone_is_refused_in_a_line(config, tmp_path):
    model, weights = on_mobilenet(tmp_path)
    for wish in ({"frozen": 1}, {"backbone": weights}):
        with pytest.raises(UsageMistake, match=r"for a model whose first layer is TorchVision, unwrapped, not for tiny.yaml"):
            training.train(dataclasses.replace(config, **wish), tmp_path / "run")
    trained = str(installed_plugins().make("detector", "yolo").model_files[0])
    with pytest.raises(UsageMistake, match=r"for a .yaml, which has no weights yet, not for yolo-face.pt"):
        training.train(dataclasses.replace(config, model=trained, backbone=weights), tmp_path / "run")
    with pytest.raises(UnknownName, match="none.pth"):
        training.train(dataclasses.replace(config, model=model, backbone="none.pth"), tmp_path / "run")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "other.pth")
    for name, message in (("text.pth", "no file of PyTorch weights"), ("other.pth", "another network")):
        with pytest.raises(FaceblurError, match=message):
            load_backbone(DetectionModel(model, ch=3, verbose=False), tmp_path / name)
    plain = SimpleNamespace(model=[SimpleNamespace(m=nn.Sequential(nn.Conv2d(3, 8, 3)))])
    torch.save(plain.model[0].m.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(FaceblurError, match="if it is like a MobileNet, an EfficientNet or a ResNet"):
        load_backbone(plain, tmp_path / "plain.pth")
    assert not (tmp_path / "run" / "checkpoint" / "state.json").exists()


def test_our_models_can_be_built():
    for path in (Path(training.__file__).parent / "models").glob("*.yaml"):
        network = DetectionModel(str(path), verbose=False)
        assert network.stride.tolist() == [8, 16, 32] and network.model[-1].nc == 1
