"""The network's shape, its losses against known answers, its data, and tiny runs from beginning to end."""

import csv
import dataclasses
import json

import cv2
import keras
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from keras import ops
from skimage.metrics import structural_similarity

from faceblur_core import machine
from faceblur_core.backends import load_network as load_predictor
from faceblur_core.cli.train import train as command
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.training.config import as_yaml, checked, load_config
from faceblur_core.training.schedule import step_rates
from faceblur_core.weights import locate, sha256_of
from faceblur_unet import SHIPPED, training
from faceblur_unet.architecture import VARIANTS, build_unet, build_variant, fold, start_as_copy, unfold
from faceblur_unet.batches import Batches
from faceblur_unet.config import TrainConfig
from faceblur_unet.data import Pairs, load_split
from faceblur_unet.distillation import load_network, outputs
from faceblur_unet.losses import difference, loss_parts, mae, make_loss, mse, psnr, ssim

# Keras 3.15 on TensorFlow makes an array in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

STILL = {"flip": 0, "light": 0, "warp": 0}  # no augmentation


def pictures(count, seed=0):
    """Return photos with an ellipse for a face, their targets and masks."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    photos = np.stack([cv2.resize(one, (128, 128), interpolation=cv2.INTER_CUBIC) for one in coarse])
    masks = np.zeros((count, 128, 128), np.uint8)
    for mask in masks:
        x, y = (int(value) for value in rng.integers(45, 83, 2))
        cv2.ellipse(mask, (x, y), (20, 28), 0, 0, 360, 255, -1)
    blurred = np.stack([cv2.GaussianBlur(one, (0, 0), 6) for one in photos])
    return photos, np.where(masks[..., None] > 0, blurred, photos), masks


def write_set(folder, **counts):
    for seed, (split, count) in enumerate(counts.items()):
        for part, suffix, images in zip(("", "_blur", "_mask"), (".jpg", ".jpg", ".png"), pictures(count, seed), strict=True):
            (folder / f"{split}{part}").mkdir(parents=True)
            for number, image in enumerate(images, 1):
                cv2.imwrite(str(folder / f"{split}{part}" / f"{number:05}{suffix}"), image)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("data"), train=20, val=6)


@pytest.fixture(scope="module")
def config(folder):
    return TrainConfig(
        data=str(folder), variant="student-v0", epochs=3, batch_size=4, learning_rate=5e-3, warmup_epochs=1, face_weight=2
    )


def rows(out_dir):
    return list(csv.DictReader((out_dir / "log.csv").read_text().splitlines()))


# --- architecture


@pytest.mark.parametrize(
    ("variant", "count"), [("teacher", 1_925_667), ("student-v0", 120_843), ("student-v1", 482_067), ("student-v2", 1_083_675)]
)
def test_parameters(variant, count):
    assert build_variant(variant).count_params() == count


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_that_starts_as_a_copy_gives_about_its_input(variant):
    keras.utils.set_random_seed(5)
    model = build_variant(variant)
    photos = pictures(4)[0].astype(np.float32) / 255
    before = float(np.mean(psnr(photos, model(photos))))
    start_as_copy(model)
    assert before < 12 and float(np.mean(psnr(photos, model(photos)))) > 20


def test_layer_shapes():
    model = build_unet()
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert model.input_shape == model.output_shape == (None, 128, 128, 3)
    for level, (side, count) in enumerate(((128, 32), (64, 64), (32, 128)), 1):
        for name in (f"encoder{level}_conv1", f"encoder{level}_conv2", f"decoder{level}_up", f"decoder{level}_conv2"):
            assert shapes[name] == (side, side, count)
        assert shapes[f"encoder{level}_pool"] == (side // 2, side // 2, count)
        assert shapes[f"decoder{level}_skip"] == (side, side, 2 * count)
    assert shapes["bottleneck_conv1"] == shapes["bottleneck_conv2"] == (16, 16, 256)
    assert shapes["blurred"] == (128, 128, 3)
    assert VARIANTS["teacher"] == ((32, 64, 128), 256)


def test_folded_batch_normalization_infers_the_same():
    keras.utils.set_random_seed(5)
    trained, model = build_variant("student-v0", batch_norm=True), build_variant("student-v0")
    rng = np.random.default_rng(0)
    for layer in trained.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.get_weights()])
    fold(trained, model)
    photos = pictures(4)[0].astype(np.float32) / 255
    np.testing.assert_allclose(model(photos), trained(photos), atol=1e-5)
    assert float(np.std(model(photos))) > 0.01
    assert not any(layer.name.startswith(("encoder1", "decoder1")) for layer in trained.layers if layer.name.endswith("_norm"))


def test_unfolding_is_the_other_way_of_folding():
    """The network with batch normalization infers the same, sees values of mean 0 and variance 1, and folds back to what was."""
    keras.utils.set_random_seed(6)
    model, trained, again = (build_variant("student-v0", batch_norm=normalized) for normalized in (False, True, False))
    photos = pictures(4)[0].astype(np.float32) / 255
    unfold(model, trained, photos)
    np.testing.assert_allclose(trained(photos), model(photos), atol=1e-5)
    np.testing.assert_allclose(trained(photos, training=True), model(photos), atol=1e-3)
    fold(trained, again)
    for weights, back in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(back, weights, atol=1e-5)


def test_what_ships_can_be_trained_on(tmp_path):
    """The float file has the weights in another order of axes: the network out of it gives what the file gives."""
    shipped = locate(SHIPPED["student-v0"])
    photos = pictures(2)[0].astype(np.float32) / 255
    given = load_predictor(shipped)
    made = np.concatenate([given(photo[None]) for photo in photos])
    np.testing.assert_allclose(load_network(shipped, "student-v0")(photos), made, atol=1e-4)
    load_network(locate(SHIPPED["teacher"]), "teacher")
    for path, variant in ((locate(SHIPPED["student-v0-int8"]), "student-v0"), (shipped, "student-v1")):
        with pytest.raises(FaceblurError, match=f"no float .tflite file of {variant}"):
            load_network(path, variant)


def test_16_bits_inside_32_outside():
    model = build_variant("student-v0", "mixed_bfloat16")
    assert model.get_layer("bottleneck_conv1").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32" and {weight.dtype for weight in model.weights} == {"float32"}


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        build_unet(size=100)


# --- losses and metrics


def truth_of(target, mask, teacher=None):
    parts = [target, mask[..., None]] + ([] if teacher is None else [teacher])
    return np.concatenate(parts, axis=-1).astype(np.float32)


def number(tensor):
    return ops.convert_to_numpy(tensor)


def test_known_losses():
    """Half the picture is a face; the output is off by 0.1 in the face and 0.2 outside."""
    target, mask = np.full((1, 4, 4, 3), 0.5), np.zeros((1, 4, 4))
    mask[:, :2] = 1
    output = np.where(mask[..., None] > 0, 0.6, 0.7).astype(np.float32)
    truth = truth_of(target, mask, target + 0.1)
    assert number(mse(truth, output)) == pytest.approx(0.025)
    assert number(mae(truth, output)) == pytest.approx(0.15)
    assert number(psnr(truth, output)) == pytest.approx(-10 * np.log10(0.025))
    assert number(make_loss(TrainConfig())(truth, output)) == pytest.approx(0.025)
    assert number(make_loss(TrainConfig(face_weight=2))(truth, output)) == pytest.approx((3 * 0.01 + 0.04) / 2)
    distilling = TrainConfig(teacher="t.keras", alpha=0.7)
    assert number(loss_parts(distilling)["loss_teacher"](truth, output)) == pytest.approx(0.005)
    assert number(make_loss(distilling)(truth, output)) == pytest.approx(0.7 * 0.025 + 0.3 * 0.005)


def test_edges_count_inside_faces_only():
    """One column is off by 1: four steps across in the face's four rows of 2 x 4 x 7 x 8; smooth errors cost nothing."""
    reference, mask, output = (
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((1, 8, 8, 1), np.float32),
        np.zeros((1, 8, 8, 3), np.float32),
    )
    mask[:, :4] = 1
    output[:, :, 3] = 1
    plain = number(difference(reference, mask, output, 0, 0))
    assert number(difference(reference, mask, output, 0, 1)) - plain == pytest.approx(4 * 2 / (8 * 7))
    assert number(difference(reference, mask, reference + 0.5, 0, 1)) == pytest.approx(0.25)


def test_psnr_of_equal_pictures_is_finite():
    equal = np.zeros((2, 16, 16, 3), np.float32)
    assert number(psnr(truth_of(equal, equal[..., 0]), equal)) == pytest.approx(100)


def test_ssim_is_that_of_scikit_image():
    photos, targets, masks = (part / np.float32(255) for part in pictures(4))
    noisy = np.clip(photos + np.random.default_rng(0).normal(0, 0.1, photos.shape), 0, 1).astype(np.float32)
    for output in (photos, noisy, targets):
        ours = number(ssim(truth_of(targets, masks), output))
        theirs = [
            structural_similarity(
                a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=2
            )
            for a, b in zip(targets, output, strict=True)
        ]
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


# --- data


def test_a_split_is_read_as_it_was_written(folder):
    pairs = load_split(folder, "train")
    photos, targets, masks = pictures(20)
    assert pairs.photos.shape == (20, 128, 128, 3) and pairs.truths.shape == (20, 128, 128, 4)
    np.testing.assert_array_equal(pairs.truths[..., 3], masks)
    assert np.abs(pairs.photos[..., ::-1].astype(int) - photos).mean() < 4  # JPEG; cv2.imwrite took RGB for BGR
    assert np.abs(pairs.truths[..., 2::-1].astype(int) - targets).mean() < 4


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda data: (data / "train_mask" / "00002.png").unlink(), "train/00002.jpg has no partner 00002.png in .*train_mask"),
        (lambda data: (data / "train" / "00001.jpg").unlink(), "train_blur/00001.jpg has no partner 00001.jpg in .*train$"),
        (lambda data: (data / "train" / "00001.jpg").write_bytes(b"no"), "00001.jpg is no picture"),
        (lambda data: (data / "train" / "00001.jpg").write_bytes(b""), "00001.jpg is no picture"),
        (
            lambda data: cv2.imwrite(str(data / "train_blur" / "00001.jpg"), np.zeros((9, 7, 3), np.uint8)),
            "is 7 x 9 pixels, not 128",
        ),
        (lambda data: (data / "train_mask").rename(data / "masks"), "no folder .*train_mask"),
        (lambda data: [file.unlink() for file in data.rglob("train*/*")], "holds no .jpg"),
    ],
)
def test_bad_data_is_one_line(tmp_path, break_it, message):
    data = write_set(tmp_path / "data", train=2)
    break_it(data)
    with pytest.raises(FaceblurError, match=message) as caught:
        load_split(data, "train")
    assert "\n" not in caught.value.message


def aligned(**options):
    """Return batches of pictures whose target and teacher are the photo itself and whose mask is where it is not black."""
    photos, _, masks = pictures(24)
    photos = np.where(masks[..., None] > 0, np.maximum(photos, 60), 0)
    truths = np.concatenate([photos, masks[..., None]], axis=-1)
    return Batches(Pairs(photos, truths, photos.copy()), TrainConfig(batch_size=10, **options), augment=True)


def test_augmentation_keeps_the_pair_aligned():
    batches = aligned(flip=0.5, light=0.5, warp=0.8, bias=0)
    changed = False
    for photos, truths in (batches[index] for index in range(len(batches))):
        assert photos.dtype == truths.dtype == np.float32 and truths.shape[1:] == (128, 128, 7)
        assert photos.min() >= 0 and photos.max() <= 1
        np.testing.assert_array_equal(photos, truths[..., :3])
        np.testing.assert_array_equal(photos, truths[..., 4:])
        assert ((photos.max(axis=-1) > 0.1) == (truths[..., 3] > 0.5)).mean() > 0.99
        changed = changed or set(np.unique(truths[..., 3])) != {0, 1}
    assert changed


@pytest.mark.parametrize("option", ["flip", "light", "warp"])
def test_each_augmentation_does_something_and_0_turns_it_off(option):
    def first(**options):
        return aligned(**{**STILL, **options})[0][0]

    assert not np.array_equal(first(**{option: 1}), first())
    plain = aligned(**STILL)
    np.testing.assert_array_equal(plain[0][0], plain.pairs.photos[plain._order[:10]].astype(np.float32) / 255)


def test_light_leaves_the_mask_alone_and_is_straight():
    batches = aligned(**{**STILL, "light": 1, "bias": 0.0, "gain": 0.2, "tint": 0})
    photos, truths = batches[0]
    before = batches.pairs.photos[batches._order[:10]] / 255
    np.testing.assert_array_equal(truths[..., 3], batches.pairs.truths[batches._order[:10], ..., 3] / 255)
    for now, then in zip(photos, before, strict=True):
        inside = (then > 0.1) & (now < 1)
        ratio = now[inside] / then[inside]
        assert ratio.min() >= 0.8 and ratio.max() <= 1.2 and np.ptp(ratio) < 1e-5


def test_batches_depend_on_seed_epoch_and_index_only():
    batches, again = aligned(), aligned()
    later = again[2][0], again[0][0]
    np.testing.assert_array_equal(batches[0][0], later[1])
    np.testing.assert_array_equal(batches[2][0], later[0])
    assert batches[2][0].shape == (4, 128, 128, 3) and len(batches) == 3
    again.epoch = 1
    assert not np.array_equal(batches[0][0], again[0][0])
    assert not np.array_equal(batches[0][0], aligned(seed=2)[0][0])


def test_validation_is_in_order_and_untouched(folder):
    pairs = load_split(folder, "val")
    photos, truths = Batches(pairs, TrainConfig(batch_size=4), augment=False)[1]
    np.testing.assert_array_equal(photos, pairs.photos[4:].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(truths, pairs.truths[4:].astype(np.float32) / np.float32(255))


# --- configuration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "no option of .* named 'epoch'.*epochs"),
        ("epochs: many", "epochs=many: Input should be a valid integer"),
        ("learning_rate: -1", "learning_rate=-1"),
        ("learning_rate: .nan", "learning_rate=nan"),
        ("variant: giant", "variant=giant"),
        ("[1, 2]", "no mapping"),
        ("a: [", "is no YAML"),
        ("{schedule: plateau, warmup_epochs: 1}", "no warm-up"),
        ("{epochs: 2, warmup_epochs: 2}", "fewer than epochs"),
    ],
)
def test_bad_configs_are_one_line(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageMistake, match=message) as caught:
        load_config(TrainConfig, tmp_path / "c.yaml")
    assert "\n" not in caught.value.message


def test_a_config_survives_its_file(tmp_path):
    config = TrainConfig(data="a b", learning_rate=1e-5, warmup_epochs=0.5, epochs=7)
    (tmp_path / "c.yaml").write_text(as_yaml(config))
    assert load_config(TrainConfig, tmp_path / "c.yaml") == config
    assert load_config(TrainConfig, tmp_path / "c.yaml", {"epochs": "9", "learning_rate": "1e-3"}).epochs == 9


def test_schedules():
    cosine = training.Schedule(checked(TrainConfig, {"epochs": 3, "warmup_epochs": 1, "learning_rate": 1.0}, "c"), 9)
    assert [float(number(cosine(step))) for step in (0, 4, 9, 18, 27)] == pytest.approx([0.1, 0.5, 1, 0.5, 0], abs=1e-6)
    constant = training.Schedule(TrainConfig(schedule="constant", learning_rate=1.0), 9)
    assert [float(number(constant(step))) for step in (0, 400)] == [1, 1]


# --- runs


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The folder of a run that was not interrupted."""
    out_dir = tmp_path_factory.mktemp("runs") / "whole"
    training.train(config, out_dir, progress=False)
    return out_dir


def test_a_run_learns_and_leaves_its_files(whole, config, folder):
    log = rows(whole)
    assert [row["epoch"] for row in log] == ["1", "2", "3"]
    assert float(log[-1]["loss"]) < float(log[0]["loss"]) and float(log[-1]["val_psnr"]) > float(log[0]["val_psnr"])
    at_the_end = step_rates(config, 5)[4:-1:5]  # of each epoch
    assert [float(row["lr"]) for row in log] == pytest.approx(at_the_end) and at_the_end[-1] > 0
    for metric in ("loss", "mse", "mae", "ssim", "psnr"):
        assert f"val_{metric}" in log[0] and (whole / "curves" / f"{metric}.png").stat().st_size > 1000
    facts = json.loads((whole / "run.json").read_text())
    best = min(log, key=lambda row: float(row["val_mse"]))
    assert facts["best"]["epoch"] == int(best["epoch"]) and facts["data"]["train"] == 20 and facts["parameters"] == 120_843
    assert load_config(TrainConfig, whole / "config.yaml") == config
    assert not list(whole.rglob(".*"))
    model = load_network(whole / "model.keras", "student-v0")
    same = load_network(whole / "best.weights.h5", "student-v0")
    photos = load_split(folder, "val")
    made = outputs(model.predict_on_batch, photos.photos)
    np.testing.assert_array_equal(made, outputs(same.predict_on_batch, photos.photos))
    assert np.square(made / 255 - photos.truths[..., :3] / 255).mean() == pytest.approx(float(best["val_mse"]), rel=0.01)
    assert model.dtype_policy.name == "float32"


@pytest.mark.parametrize(("flags", "computed"), [("avx2 avx512bw", "mixed_bfloat16"), ("avx2", "float32")])
def test_it_computes_in_16_bits_where_they_are_wished_and_there(config, tmp_path, monkeypatch, flags, computed):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    run = training._Run(dataclasses.replace(config, precision="mixed_bfloat16"), tmp_path / "run")
    assert run.model.get_layer("bottleneck_conv1").dtype_policy.name == run.precision == computed


@pytest.mark.parametrize("when", ["between epochs", "within an epoch"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(config, whole, tmp_path, monkeypatch, when):
    out_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, *(("_line", interrupt) if when == "between epochs" else ("one_epoch", half_an_epoch)))
        with pytest.raises(KeyboardInterrupt):
            training.train(config, out_dir)
    assert len(rows(out_dir)) == 1 and not (out_dir / "model.keras").exists()
    with pytest.raises(UsageMistake, match="holds a run: go on with it with --resume"):
        training.train(config, out_dir)
    training.train(config, out_dir, resume=True, progress=False)
    timeless = [[{key: row[key] for key in row if key != "seconds"} for row in rows(one)] for one in (whole, out_dir)]
    assert timeless[0] == timeless[1]
    with np.load(whole / "checkpoint" / "state.npz") as one, np.load(out_dir / "checkpoint" / "state.npz") as other:
        for name in set(one.files) - {"state"}:
            np.testing.assert_array_equal(one[name], other[name])


def interrupt(run):
    raise KeyboardInterrupt


def half_an_epoch(run, real=training._Run.one_epoch):
    if run.log:
        run.model.fit(run.batches, epochs=1, steps_per_epoch=2, verbose=0)  # lost with the interruption
        raise KeyboardInterrupt
    real(run)


def test_a_run_with_batch_normalization_resumes_and_saves_it_folded(config, tmp_path, monkeypatch, folder):
    normalized = dataclasses.replace(config, batch_norm=True, epochs=2)
    training.train(normalized, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            training.train(normalized, tmp_path / "run")
    training.train(normalized, tmp_path / "run", resume=True, progress=False)
    models = [load_network(tmp_path / name / "model.keras", "student-v0") for name in ("whole", "run")]
    assert models[0].count_params() == 120_843
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    photos = load_split(folder, "val")
    made = outputs(models[0].predict_on_batch, photos.photos) / 255
    best = min(float(row["val_mse"]) for row in rows(tmp_path / "whole"))
    assert np.square(made - photos.truths[..., :3] / 255).mean() == pytest.approx(best, rel=0.01)


def test_resume_refuses_another_config_other_data_and_damage(config, whole, folder, tmp_path):
    import shutil

    run = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(UsageMistake, match="with epochs=3, not 4"):
        training.train(dataclasses.replace(config, epochs=4), run, resume=True)
    moved = shutil.copytree(folder, tmp_path / "moved")
    training.train(dataclasses.replace(config, data=str(moved)), run, resume=True, progress=False)
    (moved / "manifest.jsonl").write_text("another")
    with pytest.raises(UsageMistake, match="other data"):
        training.train(dataclasses.replace(config, data=str(moved)), run, resume=True)
    (run / "checkpoint" / "state.npz").write_bytes(b"PK damaged")
    with pytest.raises(FaceblurError, match="cannot be resumed"):
        training.train(config, run, resume=True)


def test_distillation_from_the_command_line(whole, folder, tmp_path):
    """A teacher (here of the student's own size) is heard; parts are logged; without a teacher the command refuses."""
    file = tmp_path / "c.yaml"
    options = {"variant": "student-v0", "epochs": 1, "batch_size": 8, "precision": "mixed_bfloat16", "schedule": "plateau"}
    file.write_text(yaml.safe_dump({**options, "teacher": str(whole / "model.keras")}))
    given = ["-c", str(file), "--data", str(folder), "-o", str(tmp_path / "run")]
    assert "needs a teacher" in CliRunner().invoke(command, ["distill", *given, "--set", "teacher="]).output
    assert "train without it" in CliRunner().invoke(command, ["unet", *given]).output
    result = CliRunner().invoke(command, ["distill", *given, "--set", "alpha=0.6"], catch_exceptions=False)
    assert result.exit_code == 0 and "epoch 1/1" in result.output
    row = {key: float(value) for key, value in rows(tmp_path / "run")[0].items()}
    for start in ("", "val_"):
        parts = 0.6 * row[f"{start}loss_truth"] + 0.4 * row[f"{start}loss_teacher"]
        assert row[f"{start}loss"] == pytest.approx(parts, rel=1e-4)
    assert row["loss_teacher"] != row["loss_truth"]
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["data"]["teacher_sha256"] == sha256_of(whole / "model.keras") and "weights_sha256" not in run["data"]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_fine_tuning_starts_from_the_weights(config, whole, tmp_path, batch_norm):
    start = str(whole / "best.weights.h5")
    options = {"epochs": 1, "warmup_epochs": 0, "learning_rate": 1e-9, "batch_norm": batch_norm}
    tuned = dataclasses.replace(config, weights=start, **options)
    training.train(tuned, tmp_path / "run", progress=False)
    assert float(rows(tmp_path / "run")[0]["val_mse"]) == pytest.approx(
        min(float(row["val_mse"]) for row in rows(whole)),
        rel=0.05 if batch_norm else 1e-3,  # its means move a little
    )
    other = dataclasses.replace(tuned, weights=str(whole / "model.keras"), variant="student-v1")
    with pytest.raises(UsageMistake, match="no network of variant student-v1"):
        training.train(other, tmp_path / "other", progress=False)


def test_early_stopping_and_plateau(config, tmp_path):
    """At a rate of next to nothing no epoch is better than the first by more than rounding, so the run ends before its end."""
    options = {"schedule": "plateau", "warmup_epochs": 0, "learning_rate": 1e-30, "plateau_patience": 1, "weight_decay": 0}
    stopped = dataclasses.replace(config, epochs=9, early_stopping=2, **options)
    training.train(stopped, tmp_path / "run", progress=False)
    assert [float(row["lr"]) for row in rows(tmp_path / "run")] == pytest.approx([1e-30, 1e-30, 5e-31])


def test_bad_models_are_one_line(tmp_path):
    (tmp_path / "m.keras").write_bytes(b"no model")
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 1)]).save(tmp_path / "small.keras")
    build_variant("student-v0").save_weights(tmp_path / "v0.weights.h5")
    for name, message in (
        ("none.keras", "no model file"),
        ("m.keras", "is no .keras file"),
        ("small.keras", "is a network from"),
        ("v0.weights.h5", "nor .weights.h5 file of teacher"),
    ):
        with pytest.raises(FaceblurError, match=message) as caught:
            load_network(tmp_path / name, "teacher")
        assert "\n" not in caught.value.message


def test_a_loss_that_is_no_number_ends_the_run(config, tmp_path, monkeypatch):
    monkeypatch.setattr(
        training, "make_loss", lambda config: lambda truth, output: ops.mean(output, axis=(1, 2, 3)) * float("nan")
    )
    with pytest.raises(FaceblurError, match="epoch 1: the loss is no number"):
        training.train(config, tmp_path / "run", progress=False)


def test_a_missing_framework_is_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faceblur_unet.training", None)
    monkeypatch.delattr("faceblur_unet.training", raising=False)
    (tmp_path / "c.yaml").write_text("epochs: 1")
    result = CliRunner().invoke(
        command, ["unet", "-c", str(tmp_path / "c.yaml"), "--data", str(folder), "-o", str(tmp_path / "r")]
    )
    assert result.exit_code == 1 and "faceblur-unet[train]" in result.output and "Traceback" not in result.output
