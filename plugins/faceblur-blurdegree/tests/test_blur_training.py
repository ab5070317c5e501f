"""Training: the backbones, losses against known answers, batches, export, and tiny runs from beginning to end."""

import csv
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import nn

from faceblur_blurdegree import training
from faceblur_blurdegree.backbones import BACKBONES
from faceblur_blurdegree.batches import Batches, augmented
from faceblur_blurdegree.config import Backbone, TrainConfig
from faceblur_blurdegree.data import load_split
from faceblur_blurdegree.export import save_onnx
from faceblur_blurdegree.losses import loss
from faceblur_blurdegree.meter import load_meter, weights_file
from faceblur_blurdegree.mobilefacenet import MobileFaceNet, load_recogniser
from faceblur_blurdegree.network import Degree, DegreeNetwork, centres, degree_of, load_network, save_network
from faceblur_core import machine
from faceblur_core.cli.train import train as command
from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake
from faceblur_core.testing import TrainerContract
from faceblur_core.training.config import load_config
from faceblur_core.training.schedule import step_rates

ROOT = Path(__file__).parents[3]
STILL = {"flip": 0, "shift": 0, "gain": 0, "gamma": 0, "grey": 0}  # no augmentation


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small gain nothing from two
    yield
    torch.set_num_threads(before)


class TestTrainer(TrainerContract):
    name = "blur-degree"


# --- the network


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_learns_with_all_its_parameters(name):
    network = DegreeNetwork(TrainConfig(backbone=name))
    output = network(torch.rand(2, 3, 112, 112))
    assert output.shape == (2, 1)
    output.square().sum().backward()
    assert [key for key, one in network.named_parameters() if one.grad is None] == []


def test_the_ten_backbones_have_names_and_configs():
    assert set(BACKBONES) == set(get_args(Backbone)) and len(BACKBONES) == 10
    for name in BACKBONES:
        config = load_config(TrainConfig, ROOT / f"configs/train/blur-degree-{name}.yaml")
        assert config.backbone == name


@pytest.fixture
def recogniser(shared):
    return shared / "models" / "mobilefacenet.onnx"


def test_a_recognisers_weights_give_its_features(recogniser):
    network = MobileFaceNet()
    load_recogniser(network, recogniser)
    x = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(recogniser)
    expected = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0].ravel()
    with torch.no_grad():
        np.testing.assert_allclose(network.layers(x).numpy().ravel(), expected, atol=1e-4)
        grown = torch.nn.functional.pad(torch.nn.functional.interpolate(x, (90, 90), mode="bilinear"), (11, 11, 11, 11), value=9)
        seen = torch.nn.functional.interpolate(grown[..., 11:-11, 11:-11], (112, 112), mode="bilinear")
        assert torch.equal(network(grown), network.layers(seen))  # the border counts for nothing


def test_only_a_recogniser_is_a_beginning(shared, config, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    for path, message in ((tmp_path / "x.onnx", "no ONNX file"), (shared / "models" / "yunet.onnx", "another network")):
        with pytest.raises(FaceblurError, match=message):
            load_recogniser(MobileFaceNet(), path)
    for wish in ({"frozen": 1}, {"start": str(shared / "models" / "mobilefacenet.onnx")}):
        with pytest.raises(UsageMistake, match="for backbone=mobilefacenet, not for yolov5n-half"):
            training.train(dataclasses.replace(config, backbone="yolov5n-half", **wish), tmp_path / "run")
    with pytest.raises(FaceblurError, match="with other layers than this backbone"):
        training.train(
            dataclasses.replace(config, backbone="mobilefacenet", head="linear", start="blur-degree"), tmp_path / "run"
        )
    with pytest.raises(UnknownName, match="none.onnx"):
        training.train(dataclasses.replace(config, backbone="mobilefacenet", start="none.onnx"), tmp_path / "run")


def test_a_run_goes_on_from_what_ships_and_from_a_run(tmp_path):
    config = TrainConfig(backbone="mobilefacenet", head="deep", hidden=256, start="blur-degree")
    network, shipped = DegreeNetwork(config), weights_file("blur-degree")
    digest = training._begin(network, config)
    faces = np.random.default_rng(1).integers(0, 255, (3, 112, 112, 3), np.uint8)
    x = torch.from_numpy(faces.transpose(0, 3, 1, 2).copy()).float() / 255
    with torch.no_grad():
        told = degree_of(network.eval()(x)).numpy()
    np.testing.assert_allclose(told, load_meter(shipped)(faces), atol=1e-3)
    assert digest == hashlib.sha256(shipped.read_bytes()).hexdigest()
    half = DegreeNetwork(TrainConfig(backbone="yolov5n-half"))
    save_network(half, tmp_path / "model.pt")
    begun = TrainConfig(backbone="yolov5n-half", loss="mae", start=str(tmp_path / "model.pt"))
    training._begin(other := DegreeNetwork(begun), begun)
    assert all(torch.equal(value, half.state_dict()[name]) for name, value in other.state_dict().items())


def test_heads():
    kinds = {"mse": 20, "mae": 20, "cmse": 20, "wmse": 40}
    shapes = {
        (head, kind): DegreeNetwork(TrainConfig(backbone="yolov5n-half", head=head, loss=kind, bins=bins)).head
        for head in ("linear", "deep")
        for kind, bins in kinds.items()
    }
    outputs = {"mse": 1, "mae": 1, "cmse": 20, "wmse": 40}
    assert {key: head[-1].out_features for key, head in shapes.items()} == {key: outputs[key[1]] for key in shapes}
    assert {len(head) for key, head in shapes.items() if key[0] == "deep"} == {4}


def test_degrees_of_bins_are_expectations():
    assert centres(20)[[0, 19]].tolist() == pytest.approx([0.025, 0.975])
    logits = torch.full((1, 20), -100.0)
    logits[0, [3, 7]] = 5
    assert degree_of(logits).tolist() == pytest.approx([(0.175 + 0.375) / 2])
    assert degree_of(torch.tensor([[-0.2], [0.3], [1.4]])).tolist() == pytest.approx([0, 0.3, 1])


def test_errors_of_regression():
    told, truth = torch.tensor([[0.3], [1.2]]), torch.tensor([0.5, 0.9])
    assert loss(told, truth, TrainConfig(loss="mse")).tolist() == pytest.approx([0.04, 0.09])
    assert loss(told, truth, TrainConfig(loss="mae")).tolist() == pytest.approx([0.2, 0.3])


def test_known_losses():
    """Half of the mass on each side of the truth: cmse sees no error of the degree, wmse does."""
    logits = torch.full((1, 20), -100.0)
    logits[0, [5, 9]] = 0.0
    truth = torch.tensor([7.5 / 20])
    options = {"bins": 20, "error_weight": 10.0}
    entropy = 100 + np.log(2)
    assert loss(logits, truth, TrainConfig(loss="cmse", **options)).item() == pytest.approx(entropy, rel=1e-5)
    assert loss(logits, truth, TrainConfig(loss="wmse", **options)).item() == pytest.approx(entropy + 10 * 0.1**2, rel=1e-5)
    assert loss(torch.tensor([[0.5]]), torch.tensor([0.2]), TrainConfig()).item() == pytest.approx(0.09)
    assert loss(logits, torch.tensor([1.0]), TrainConfig(loss="cmse", **options)).isfinite().all()  # 1 is in the last bin


# --- batches


def first(labelled, epoch=0, index=0, **options):
    return list(Batches(labelled, TrainConfig(batch_size=5, **options), augment=True).epoch(epoch))[index]


def test_batches_depend_on_seed_epoch_and_index_only(data):
    labelled = load_split(data, "val")
    faces, degrees = first(labelled, 3, 1)
    assert faces.shape == (5, 3, 112, 112) and faces.dtype == degrees.dtype == np.float32 and 0 <= faces.min() <= faces.max() <= 1
    np.testing.assert_array_equal(faces, first(labelled, 3, 1)[0])
    assert len(first(labelled, 3, 2)[0]) == 2
    for other in (first(labelled, 4, 1), first(labelled, 3, 0), first(labelled, 3, 1, seed=2)):
        assert not np.array_equal(faces, other[0])
    whole = [
        np.concatenate(part) for part in zip(*Batches(labelled, TrainConfig(batch_size=5), augment=False).epoch(0), strict=True)
    ]
    np.testing.assert_array_equal(whole[0], labelled.faces.transpose(0, 3, 1, 2) * np.float32(1 / 255))
    np.testing.assert_array_equal(whole[1], labelled.degrees)


@pytest.mark.parametrize("options", [{"flip": 1}, {"shift": 6}, {"gain": 0.3}, {"gamma": 0.3}, {"grey": 1}])
def test_each_augmentation_does_something_and_0_turns_it_off(face, options):
    assert not np.array_equal(augmented(face, TrainConfig(**{**STILL, **options}), np.random.default_rng(1)), face)
    np.testing.assert_array_equal(augmented(face, TrainConfig(**STILL), np.random.default_rng(1)), face)


def test_shifts_are_whole_pixels_so_that_the_blur_stays(face):
    moved = augmented(face, TrainConfig(**{**STILL, "shift": 6}), np.random.default_rng(1))
    assert any(
        np.array_equal(moved[10:-10, 10:-10], face[10 + dy : 102 + dy, 10 + dx : 102 + dx])
        for dy in range(-6, 7) for dx in range(-6, 7)
    )  # fmt: skip


# --- files


@pytest.fixture(scope="module")
def network():
    """A small network whose batch normalisations have statistics, as after training."""
    torch.manual_seed(0)
    made = DegreeNetwork(TrainConfig(backbone="yolov5n-half", loss="wmse", bins=40, head="deep")).train()
    with torch.no_grad():
        for part in made.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = 1
        made(torch.rand(4, 3, 112, 112))
    return made.eval()


def test_onnx_says_what_torch_says(network, face, tmp_path):
    faces = np.stack([face, face[::-1], 255 - face])
    with torch.no_grad():
        expected = Degree(network)(torch.from_numpy(faces.transpose(0, 3, 1, 2) / np.float32(255)))[:, 0].numpy()
    save_network(network, tmp_path / "m.pt")
    for half, tolerance in ((False, 1e-5), (True, 3e-3)):
        save_onnx(network, tmp_path / "m.onnx", threshold=0.7, margin=1.4, half=half)
        meter = load_meter(tmp_path / "m.onnx")
        np.testing.assert_allclose(meter(faces), expected, atol=tolerance)
    assert (meter.threshold, meter.margin) == (0.7, 1.4)
    assert meter.parameters == sum(one.numel() for one in network.parameters())
    content = (tmp_path / "m.onnx").read_bytes()
    assert len(content) < 0.6 * (tmp_path / "m.pt").stat().st_size
    assert b"site-packages" not in content and str(ROOT).encode() not in content


def test_a_file_gives_its_network_back_and_others_are_refused(network, tmp_path):
    save_network(network, tmp_path / "m.pt")
    again = load_network(tmp_path / "m.pt")
    assert again.shape == network.shape and not again.training
    x = torch.rand(1, 3, 112, 112)
    torch.testing.assert_close(again(x), network(x), atol=0, rtol=0)
    torch.save(network.head, tmp_path / "code.pt")
    torch.save({"kind": "other"}, tmp_path / "other.pt")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    torch.save({**content, "shape": {**content["shape"], "bins": 20}}, tmp_path / "fewer.pt")
    for name, message in (
        ("none.pt", "no model file"),
        ("code.pt", "no PyTorch file that can be read safely"),
        ("other.pt", "no network of faceblur train blur-degree"),
        ("fewer.pt", "weights do not fit"),
    ):
        with pytest.raises(FaceblurError, match=message) as caught:
            load_network(tmp_path / name)
        assert "\n" not in caught.value.message


# --- runs


@pytest.fixture(scope="module")
def config(data):
    return TrainConfig(
        data=str(data), backbone="yolov5n-half", epochs=3, batch_size=8, learning_rate=3e-3, threads=1, head="deep"
    )


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of a run that was not interrupted."""
    out_dir = tmp_path_factory.mktemp("runs") / "whole"
    training.train(config, out_dir, progress=False)
    return out_dir


def rows(out_dir):
    with (out_dir / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_learns_and_leaves_its_files(whole, config, data):
    log = rows(whole)
    assert [row["epoch"] for row in log] == ["1", "2", "3"] and float(log[-1]["loss"]) < float(log[0]["loss"])
    at_the_end = step_rates(config, 4)[3:-1:4]  # of each epoch
    assert [float(row["lr"]) for row in log] == pytest.approx(at_the_end) and at_the_end[-1] > 0
    for metric in ("loss", "mae", "spearman"):
        assert f"val_{metric}" in log[0] and (whole / "curves" / f"{metric}.png").stat().st_size > 1000
    told = json.loads((whole / "run.json").read_text())
    best = min(log, key=lambda row: float(row["val_mae"]))
    assert told["best"]["epoch"] == int(best["epoch"]) and told["data"]["train"] == 32
    assert set(told["versions"]) == {"faceblur-blurdegree", "torch", "torchvision", "timm", "numpy"}
    assert load_config(TrainConfig, whole / "config.yaml") == config
    assert not list(whole.rglob(".*"))
    meter, labelled = load_meter(whole / "model.onnx"), load_split(data, "val")
    assert np.abs(meter(labelled.faces) - labelled.degrees).mean() == pytest.approx(float(best["val_mae"]), abs=5e-3)
    assert (meter.threshold, meter.margin) == (0.6, 1.3)  # of the data set


@pytest.mark.parametrize(("flags", "computed"), [("avx2 avx512bw", torch.bfloat16), ("avx2", torch.float32)])
def test_it_computes_in_16_bits_where_they_are_wished_and_there(config, tmp_path, monkeypatch, flags, computed):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    run = training._Run(dataclasses.replace(config, precision="bfloat16"), tmp_path / "run")
    seen = set()
    convolution = next(part for part in run.network.modules() if isinstance(part, nn.Conv2d))
    convolution.register_forward_hook(lambda _layer, _given, made: seen.add(made.dtype))
    run._step(*next(iter(run.validation.epoch(0))), None)
    assert seen == {computed} and run.precision == str(computed).removeprefix("torch.")


def test_an_interrupted_run_ends_as_if_it_had_not_been(config, whole, tmp_path, monkeypatch):
    out_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "fit", half_an_epoch)
        with pytest.raises(KeyboardInterrupt):
            training.train(config, out_dir, progress=False)
    assert len(rows(out_dir)) == 1 and not (out_dir / "model.pt").exists()
    with pytest.raises(UsageMistake, match="holds a run: go on with it with --resume"):
        training.train(config, out_dir)
    training.train(config, out_dir, resume=True, progress=False)
    timeless = [[{key: row[key] for key in row if key != "seconds"} for row in rows(one)] for one in (whole, out_dir)]
    assert timeless[0] == timeless[1]
    assert (whole / "model.onnx").read_bytes() == (out_dir / "model.onnx").read_bytes()


def half_an_epoch(run, epoch, real=training._Run.fit):
    if epoch:
        run.network.train()
        for index, batch in enumerate(run.batches.epoch(epoch)):
            run._step(*batch, index)  # lost with the interruption
        raise KeyboardInterrupt
    return real(run, epoch)


def test_frozen_layers_stay_the_others_learn_and_a_run_goes_on(recogniser, config, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEBLUR_MODELS", str(recogniser.parent))
    config = dataclasses.replace(config, backbone="mobilefacenet", start=recogniser.name, frozen=7, epochs=2)
    training.train(config, tmp_path / "whole", progress=False)
    begun = MobileFaceNet()
    load_recogniser(begun, recogniser)
    learned = load_network(tmp_path / "whole" / "best.pt").backbone.state_dict()
    same = {name for name, value in begun.state_dict().items() if torch.equal(value, learned[name])}
    assert same == {name for name in learned if int(name.split(".")[1]) < 7}
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "fit", half_an_epoch)
        with pytest.raises(KeyboardInterrupt):
            training.train(config, tmp_path / "parts", progress=False)
    training.train(config, tmp_path / "parts", resume=True, progress=False)
    whole, parts = ((tmp_path / name / "model.onnx").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_resume_refuses_another_config(config, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(UsageMistake, match="with bins=20, not 40"):
        training.train(dataclasses.replace(config, bins=40), run, resume=True)


@pytest.mark.parametrize("change", ["labels", "recipe", "pixels"])
def test_resume_refuses_other_data(config, whole, data, tmp_path, change):
    """Faces cut and compressed differently have the labels that they had."""
    run = shutil.copytree(whole, tmp_path / "run")
    moved = shutil.copytree(data, tmp_path / "moved")
    training.train(dataclasses.replace(config, data=str(moved)), run, resume=True, progress=False)
    if change == "labels":
        text = (moved / "labels.csv").read_text()
        (moved / "labels.csv").write_text(text.replace("0.04167", "0.04168"))
    elif change == "recipe":
        (moved / "dataset.yaml").write_text("margin: 1.3\n")
    else:
        one, other = sorted((moved / "train").iterdir())[:2]
        shutil.copyfile(one, other)
    with pytest.raises(UsageMistake, match="other data"):
        training.train(dataclasses.replace(config, data=str(moved)), run, resume=True)


def test_bins_and_plateau_from_the_command_line(data, tmp_path):
    file = tmp_path / "c.yaml"
    options = {"backbone": "mobilenetv2-025", "loss": "cmse", "epochs": 1, "batch_size": 16, "schedule": "plateau", "threads": 1}
    file.write_text(yaml.safe_dump(options))
    given = ["blur-degree", "-c", str(file), "--data", str(data)]
    result = CliRunner().invoke(command, [*given, "--set", "bins=40", "-o", str(tmp_path / "run")], catch_exceptions=False)
    assert result.exit_code == 0 and "epoch 1/1" in result.output and "model.onnx" in result.output
    for setting, message in (("bins=30", "bins=30"), ("backbone=vgg", "backbone=vgg"), ("zoom=1", "named 'zoom'")):
        refused = CliRunner().invoke(command, [*given, "--set", setting, "-o", str(tmp_path / "other")])
        assert refused.exit_code == 2 and message in refused.output and not (tmp_path / "other").exists()


def test_no_gpu_no_data_and_no_torch_are_one_line(config, data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageMistake, match="finds no GPU"):
        training.train(dataclasses.replace(config, device="cuda"), tmp_path / "run")
    with pytest.raises(FaceblurError, match="faceblur dataset blur makes such a set"):
        training.train(dataclasses.replace(config, data=str(tmp_path)), tmp_path / "run")
    monkeypatch.setitem(__import__("sys").modules, "faceblur_blurdegree.training", None)
    monkeypatch.delattr("faceblur_blurdegree.training", raising=False)
    (tmp_path / "c.yaml").write_text("epochs: 1")
    arguments = ["blur-degree", "-c", str(tmp_path / "c.yaml"), "--data", str(data), "-o", str(tmp_path / "r")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1 and "faceblur-blurdegree[train]" in result.output and "Traceback" not in result.output
