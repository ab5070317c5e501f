"""The mask U-Net: its layers, its loss against known answers, its batches, and tiny runs from beginning to end."""

import csv
import dataclasses
import json
import shutil

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import nn

from faceblur_core import machine
from faceblur_core.cli.train import train as command
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.training.config import load_config
from faceblur_core.training.schedule import step_rates
from faceblur_inpaint import training
from faceblur_inpaint.backends import Onnx, Torch
from faceblur_inpaint.batches import Batches, Pairs, augmented, load_split
from faceblur_inpaint.config import TrainConfig
from faceblur_inpaint.export import folded, save_onnx
from faceblur_inpaint.losses import loss, metrics, soft_overlap
from faceblur_inpaint.network import LAYERS, Concatenation, Convolutions, MaskUNet, load_network, save_network

STILL = {"flip": 0, "light": 0, "warp": 0, "worsen": 0}  # no augmentation


def picture(rng, faces):
    """Return a smooth grey photo with textured ellipses for faces, and their mask."""
    y, x = np.mgrid[:256, :256] / 256
    photo = 40 + 150 * rng.random() * x + 60 * rng.random() * y
    mask = np.zeros((256, 256), np.uint8)
    for _ in range(faces):
        place = tuple(int(value) for value in rng.integers(60, 196, 2))
        cv2.ellipse(mask, place, (int(rng.integers(25, 50)), int(rng.integers(30, 60))), 0, 0, 360, 255, -1)
    photo = np.where(mask > 0, rng.integers(0, 256, (256, 256)), photo)
    return cv2.GaussianBlur(np.clip(photo, 0, 255).astype(np.uint8), (0, 0), 1), mask


def flat(rng):
    """Return a photo of one level or of two beside each other, with bars at times, and its empty mask."""
    photo = np.full((256, 256), rng.integers(0, 256), np.uint8)
    photo[:, rng.integers(1, 256) :] = rng.integers(0, 256)
    photo[: 32 * rng.integers(0, 2)] = 0
    return photo, np.zeros((256, 256), np.uint8)


def write_set(folder, **counts):
    for seed, (split, count) in enumerate(counts.items()):
        rng = np.random.default_rng(seed)
        for part in (split, f"{split}_mask"):
            (folder / part).mkdir(parents=True)
        for number in range(count):
            photo, mask = flat(rng) if number % 3 == 2 else picture(rng, 1 + number % 2)
            cv2.imwrite(str(folder / split / f"{number:05}.jpg"), photo)
            cv2.imwrite(str(folder / f"{split}_mask" / f"{number:05}.png"), mask)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("data"), train=12, val=3)


@pytest.fixture(scope="module")
def config(folder):
    return TrainConfig(
        data=str(folder), base=4, epochs=3, batch_size=4, learning_rate=0.01, half_size_epochs=1, precision="bfloat16", threads=1
    )


def rows(out_dir):
    return list(csv.DictReader((out_dir / "log.csv").read_text().splitlines()))


# --- network


def test_21_layers_as_they_are_counted():
    kinds = {"encoder": Convolutions, "decoder": Convolutions, "bottleneck": Convolutions}
    kinds |= {"pool": nn.MaxPool2d, "up": nn.ConvTranspose2d, "skip": Concatenation}
    *layers, (last, output) = MaskUNet(4).named_children()
    assert len(LAYERS) == 21 and tuple(name for name, _ in layers) == LAYERS
    assert all(isinstance(layer, kinds[name.rstrip("1234")]) for name, layer in layers)
    assert last == "mask" and output.kernel_size == (1, 1) and output.out_channels == 1


def test_every_3x3_convolution_is_normalised_and_keeps_the_size():
    parts = list(MaskUNet(4).modules())
    convolutions = [part for part in parts if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
    assert len(convolutions) == sum(isinstance(part, nn.BatchNorm2d) for part in parts) == 18
    assert all(one.padding == (1, 1) and one.bias is None for one in convolutions)


def test_shapes_of_the_levels():
    shapes = {}
    network = MaskUNet(4).eval()
    for name, layer in network.named_children():
        layer.register_forward_hook(lambda _layer, _given, made, name=name: shapes.update({name: tuple(made.shape[1:])}))
    network(torch.zeros(1, 1, 256, 256))
    for level, (side, count) in enumerate(((256, 4), (128, 8), (64, 16), (32, 32)), 1):
        assert shapes[f"encoder{level}"] == shapes[f"up{level}"] == shapes[f"decoder{level}"] == (count, side, side)
        assert shapes[f"pool{level}"] == (count, side // 2, side // 2) and shapes[f"skip{level}"] == (2 * count, side, side)
    assert shapes["bottleneck"] == (64, 16, 16) and shapes["mask"] == (1, 256, 256)


@pytest.mark.parametrize(("base", "channels", "count"), [(64, 1, 31_036_481), (16, 1, 1_942_289), (16, 3, 1_942_577)])
def test_parameters(base, channels, count):
    with torch.device("meta"):
        assert sum(one.numel() for one in MaskUNet(base, channels).parameters()) == count


# --- loss and metrics


def logits_of(probability):
    return torch.logit(torch.as_tensor(probability, dtype=torch.float32))


def test_known_losses():
    """Half of the picture is a face; the network says 0.9 there and 0.2 elsewhere."""
    truth = torch.zeros(1, 1, 4, 4)
    truth[..., :2, :] = 1
    logits = logits_of(0.2 + 0.7 * truth)
    face, rest = -np.log(0.9) / 2, -np.log(0.8) / 2
    both, said = 8 * 0.9, 8 * 0.9 + 8 * 0.2
    dice, iou = (2 * both + 1) / (said + 8 + 1), (both + 1) / (said + 8 - both + 1)
    for options, expected in (
        ({"overlap_weight": 0}, face + rest),
        ({"overlap_weight": 0, "face_weight": 2}, 3 * face + rest),
        ({"overlap_weight": 2}, face + rest + 2 * (1 - dice)),
        ({"overlap": "iou"}, face + rest + 1 - iou),
    ):
        assert loss(logits, truth, TrainConfig(**options)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["dice", "iou"])
def test_overlap_of_the_same_is_1_and_of_nothing_too(kind):
    square = torch.zeros(1, 1, 8, 8)
    assert soft_overlap(square, square, kind).item() == 1
    square[..., 2:5, 2:5] = 1
    assert soft_overlap(square, square, kind).item() == 1
    assert soft_overlap(1 - square, square, kind).item() < 0.1


def test_known_metrics():
    """Two of four face pixels are found, and one that is none; then nothing is there; then nothing is said."""
    truth, found = torch.zeros(3, 1, 4, 4), torch.full((3, 1, 4, 4), 0.1)
    truth[0, 0, 0] = 1
    found[0, 0, 0, :2] = found[0, 0, 1, 0] = 0.9
    truth[2, 0, 0] = 1
    measured = {name: value.tolist() for name, value in metrics(logits_of(found), truth).items()}
    assert measured["iou"] == pytest.approx([2 / 5, 1, 0]) and measured["dice"] == pytest.approx([4 / 7, 1, 0])
    assert measured["precision"] == pytest.approx([2 / 3, 1, 1]) and measured["recall"] == pytest.approx([1 / 2, 1, 0])


# --- data


def test_a_split_is_read_as_it_was_written(folder):
    grey, colour = load_split(folder, "train", 1), load_split(folder, "train", 3)
    assert grey.photos.shape == (12, 256, 256, 1) and colour.photos.shape == (12, 256, 256, 3)
    photo, mask = picture(np.random.default_rng(0), 1)
    np.testing.assert_array_equal(grey.masks[0], mask)
    assert np.abs(grey.photos[0, ..., 0].astype(int) - photo).mean() < 4  # JPEG
    assert np.abs(colour.photos[0].astype(int) - photo[..., None]).mean() < 4


def test_data_without_masks_is_one_line(tmp_path):
    data = write_set(tmp_path / "data", train=2)
    (data / "train_mask" / "00001.png").unlink()
    with pytest.raises(FaceblurError, match="train/00001.jpg has no partner 00001.png in .*train_mask"):
        load_split(data, "train", 1)


@pytest.fixture(scope="module")
def pairs(folder):
    return load_split(folder, "train", 1)


def first(pairs, epoch=0, index=0, **options):
    return list(Batches(pairs, TrainConfig(batch_size=5, **options), augment=True).epoch(epoch))[index]


def test_augmentation_keeps_photo_and_mask_aligned(pairs):
    same = Pairs(pairs.masks[..., None].copy(), pairs.masks)
    photos, truths = first(same, flip=0.5, warp=1, light=0, worsen=0)
    assert photos.shape == truths.shape == (5, 1, 256, 256) and photos.dtype == truths.dtype == np.float32
    np.testing.assert_array_equal(photos, truths)


@pytest.mark.parametrize("option", ["flip", "light", "warp", "worsen"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_augmentation_does_something_and_0_turns_it_off(folder, option, channels):
    pairs = load_split(folder, "train", channels)
    rng = np.random.default_rng(3)
    photo, mask = augmented(pairs.photos[0], pairs.masks[0], TrainConfig(**{**STILL, option: 1}), rng)
    assert photo.shape == (256, 256, channels) and photo.dtype == mask.dtype == np.uint8
    assert not np.array_equal(photo, pairs.photos[0])
    assert np.array_equal(mask, pairs.masks[0]) == (option in ("light", "worsen"))
    photo, mask = augmented(pairs.photos[0], pairs.masks[0], TrainConfig(**STILL), rng)
    assert np.array_equal(photo, pairs.photos[0]) and np.array_equal(mask, pairs.masks[0])


def test_batches_depend_on_seed_epoch_and_index_only(pairs):
    photos, _ = first(pairs, 3, 1)
    np.testing.assert_array_equal(photos, first(pairs, 3, 1)[0])
    assert len(first(pairs, 3, 2)[0]) == 2
    for other in (first(pairs, 4, 1), first(pairs, 3, 0), first(pairs, 3, 1, seed=2)):
        assert not np.array_equal(photos, other[0])


def test_the_first_epochs_are_small_and_validation_is_as_it_is(pairs):
    options = {**STILL, "half_size_epochs": 2}
    photos, truths = first(pairs, 1, **options)
    assert photos.shape == truths.shape == (5, 1, 128, 128)
    assert first(pairs, 2, **options)[0].shape == (5, 1, 256, 256)
    batches = Batches(pairs, TrainConfig(batch_size=5, half_size_epochs=2), augment=False)
    assert len(batches) == 3
    whole = [np.concatenate(part) for part in zip(*batches.epoch(0), strict=True)]
    np.testing.assert_array_equal(whole[0], pairs.photos.transpose(0, 3, 1, 2) * np.float32(1 / 255))
    np.testing.assert_array_equal(whole[1][:, 0], pairs.masks * np.float32(1 / 255))


# --- files


@pytest.fixture(scope="module")
def network():
    """A network whose batch normalisations have statistics, as after training."""
    torch.manual_seed(0)
    made = MaskUNet(4, 3).train()
    with torch.no_grad():
        for part in made.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
                part.momentum = 1
        made(torch.rand(2, 3, 256, 256))
    return made.eval()


def test_folding(network):
    pair = network.get_submodule("decoder2")
    weight, bias = folded(pair[0], pair[1])
    x = torch.rand(2, 16, 8, 8)
    torch.testing.assert_close(nn.functional.conv2d(x, weight, bias, padding=1), pair[1](pair[0](x)), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="can fold only"):
        folded(nn.Conv2d(1, 1, 3), pair[1])


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 2e-3)])
def test_onnx_says_what_torch_says(network, tmp_path, half, tolerance):
    """On ONNX Runtime and on OpenCV."""
    save_network(network, tmp_path / "m.pt")
    save_onnx(network, tmp_path / "m.onnx", half=half)
    batch = np.random.default_rng(0).random((2, 256, 256, 3), np.float32)
    original, exported = Torch().load(tmp_path / "m.pt"), Onnx().load(tmp_path / "m.onnx")
    assert original.parameters == exported.parameters == sum(one.numel() for one in network.parameters())
    expected = original(batch)
    assert expected.shape == (2, 256, 256, 1) and expected.std() > 0.01
    np.testing.assert_allclose(exported(batch), expected, atol=tolerance)
    read = cv2.dnn.readNetFromONNX(str(tmp_path / "m.onnx"))
    read.setInput(np.ascontiguousarray(batch[:1].transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(read.forward()[:, 0], expected[:1, ..., 0], atol=tolerance)
    assert (tmp_path / "m.onnx").stat().st_size < (0.6 if half else 1.1) * (tmp_path / "m.pt").stat().st_size


def test_a_file_gives_its_network_back_and_others_are_refused(network, tmp_path):
    save_network(network, tmp_path / "m.pt")
    again = load_network(tmp_path / "m.pt")
    assert (again.base, again.channels) == (4, 3) and not again.training
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(x), network(x), atol=0, rtol=0)
    torch.save(network, tmp_path / "code.pt")
    torch.save({"kind": "other"}, tmp_path / "other.pt")
    torch.save({**torch.load(tmp_path / "m.pt", weights_only=True), "base": 8}, tmp_path / "wider.pt")
    for name, message in (
        ("none.pt", "no model file"),
        ("code.pt", "no PyTorch file that can be read safely"),
        ("other.pt", "no mask U-Net written by"),
        ("wider.pt", "weights do not fit"),
    ):
        with pytest.raises(FaceblurError, match=message) as caught:
            load_network(tmp_path / name)
        assert "\n" not in caught.value.message


# --- runs


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of a run that was not interrupted."""
    out_dir = tmp_path_factory.mktemp("runs") / "whole"
    training.train(config, out_dir, progress=False)
    return out_dir


def test_a_run_learns_and_leaves_its_files(whole, config, folder):
    log = rows(whole)
    assert [row["epoch"] for row in log] == ["1", "2", "3"] and float(log[-1]["loss"]) < float(log[0]["loss"])
    at_the_end = step_rates(config, 3)[2:-1:3]  # of each epoch
    assert [float(row["lr"]) for row in log] == pytest.approx(at_the_end) and at_the_end[-1] > 0
    for metric in ("loss", "iou", "dice", "precision", "recall"):
        assert f"val_{metric}" in log[0] and (whole / "curves" / f"{metric}.png").stat().st_size > 1000
    facts = json.loads((whole / "run.json").read_text())
    best = max(log, key=lambda row: float(row["val_iou"]))
    assert facts["best"]["epoch"] == int(best["epoch"]) and facts["data"]["train"] == 12
    assert facts["versions"]["torch"] == torch.__version__ and facts["parameters"] == 122_021
    assert load_config(TrainConfig, whole / "config.yaml") == config
    assert not list(whole.rglob(".*"))
    pairs = load_split(folder, "val", 1)
    made = Torch().load(whole / "model.pt")(pairs.photos / np.float32(255))
    measured = metrics(logits_of(made.transpose(0, 3, 1, 2)), torch.from_numpy(pairs.masks[:, None] / np.float32(255)))
    assert measured["iou"].mean() == pytest.approx(float(best["val_iou"]), abs=0.02)  # measured there in 16 bits
    session = onnxruntime.InferenceSession(whole / "model.onnx")
    assert [(one.name, one.shape) for one in session.get_inputs()] == [("photo", ["N", 1, 256, 256])]


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


@pytest.mark.parametrize("when", ["between epochs", "within an epoch"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(config, whole, tmp_path, monkeypatch, when):
    out_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, *(("_line", interrupt) if when == "between epochs" else ("fit", half_an_epoch)))
        with pytest.raises(KeyboardInterrupt):
            training.train(config, out_dir)
    assert len(rows(out_dir)) == 1 and not (out_dir / "model.pt").exists()
    with pytest.raises(UsageMistake, match="holds a run: go on with it with --resume"):
        training.train(config, out_dir)
    training.train(config, out_dir, resume=True, progress=False)
    timeless = [[{key: row[key] for key in row if key != "seconds"} for row in rows(one)] for one in (whole, out_dir)]
    assert timeless[0] == timeless[1]
    with np.load(whole / "checkpoint" / "state.npz") as one, np.load(out_dir / "checkpoint" / "state.npz") as other:
        assert len(one.files) == 1 + 18 * 6 + 4 * 2 + 2 + 3 * (18 * 3 + 4 * 2 + 2)
        for name in set(one.files) - {"state"}:
            np.testing.assert_array_equal(one[name], other[name])
    assert (whole / "model.onnx").read_bytes() == (out_dir / "model.onnx").read_bytes()


def interrupt(run):
    raise KeyboardInterrupt


def half_an_epoch(run, epoch, real=training._Run.fit):
    if epoch:
        for index, batch in enumerate(run.batches.epoch(epoch)):
            run._step(*batch, index)  # lost with the interruption
        raise KeyboardInterrupt
    return real(run, epoch)


def test_resume_refuses_another_config_other_data_and_damage(config, whole, folder, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(UsageMistake, match="with base=4, not 8"):
        training.train(dataclasses.replace(config, base=8), run, resume=True)
    training.train(dataclasses.replace(config, threads=2), run, resume=True, progress=False)
    assert rows(run) == rows(whole)
    moved = shutil.copytree(folder, tmp_path / "moved")
    (moved / "manifest.jsonl").write_text("another")
    with pytest.raises(UsageMistake, match="other data"):
        training.train(dataclasses.replace(config, data=str(moved)), run, resume=True)
    with np.load(run / "checkpoint" / "state.npz") as arrays:
        fewer = {name: arrays[name] for name in arrays.files if name != str(len(arrays.files) - 2)}
    np.savez(run / "checkpoint" / "state.npz", **fewer)
    with pytest.raises(FaceblurError, match="cannot be resumed"):
        training.train(config, run, resume=True)


def test_colour_plateau_and_fine_tuning_from_the_command_line(folder, whole, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"base": 4, "channels": 3, "epochs": 2, "batch_size": 6, "schedule": "plateau", "threads": 1}))
    given = ["mask-unet", "-c", str(file), "--data", str(folder)]
    result = CliRunner().invoke(command, [*given, "-o", str(tmp_path / "colour")], catch_exceptions=False)
    assert result.exit_code == 0 and "epoch 2/2" in result.output and "model.onnx" in result.output
    tune = ["--set", f"weights={whole / 'best.pt'}", "-o", str(tmp_path / "tuned")]
    refused = CliRunner().invoke(command, [*given, *tune])
    assert refused.exit_code == 2 and "has base=4 and channels=1; set them so" in refused.output
    tune += ["--set", "channels=1", "--set", "learning_rate=1e-12", "--set", "epochs=1"]
    tuned = CliRunner().invoke(command, [*given, *tune])
    assert tuned.exit_code == 0, tuned.output
    assert float(rows(tmp_path / "tuned")[0]["val_recall"]) == pytest.approx(best_of(whole, "val_recall"), abs=0.2)


def best_of(out_dir, name):
    return float(json.loads((out_dir / "run.json").read_text())["best"][name])


def test_no_gpu_and_no_torch_are_one_line(config, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageMistake, match="finds no GPU"):
        training.train(dataclasses.replace(config, device="cuda"), tmp_path / "run")
    monkeypatch.setitem(__import__("sys").modules, "faceblur_inpaint.training", None)
    monkeypatch.delattr("faceblur_inpaint.training", raising=False)
    (tmp_path / "c.yaml").write_text("epochs: 1")
    result = CliRunner().invoke(
        command, ["mask-unet", "-c", str(tmp_path / "c.yaml"), "--data", str(folder), "-o", str(tmp_path / "r")]
    )
    assert result.exit_code == 1 and "faceblur-inpaint[train]" in result.output and "Traceback" not in result.output
