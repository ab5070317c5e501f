"""A training run of a YOLO face model by Ultralytics' trainer, in a folder like that of every other trainer of ours:
``config.yaml``, ``log.csv``, ``curves/``, ``run.json`` (see ``faceblur_core.training.run``), and

======================  =============================================================================================
``best.pt``             the network of the epoch with the highest ``val_fitness``; 16 bits, without paths of this machine
``model.onnx``          the same for any size of picture, written at the end
``checkpoint/``         what ``resume`` needs: ``state.json`` names the last whole epoch; beside it Ultralytics' own files
======================  =============================================================================================

A resumed run goes on from weights and optimizer of its last whole epoch. Ultralytics begins its random numbers anew then and
keeps the optimizer's memory in 16 bits, so that it does not end the same to the bit.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.training.config import as_yaml
from faceblur_core.training.data import content_digest, identity
from faceblur_core.training.precision import computed_in
from faceblur_core.training.report import Row, replace, run_facts, write_report, write_text
from faceblur_core.training.run import check_folder
from faceblur_core.weights import sha256_of, weights_file
from faceblur_yolo.augment import add_effects
from faceblur_yolo.backbone import check_backbone, layers, load_backbone
from faceblur_yolo.config import TrainConfig
from faceblur_yolo.export import save_onnx, save_weights
from faceblur_yolo.library import kept_quiet, one_line

DATA = "data.yaml"
SPLITS = ("train", "val")
DISTRIBUTION = "faceblur-yolo"
EFFECTS = ("defocus", "cover", "turn", "smooth")  #: our augmentation
SAME = (
    "imgsz", "optimizer", "momentum", "device", "workers", "mosaic", "close_mosaic", "mixup", "scale", "translate", "degrees",
    "fliplr", "hsv_h", "hsv_s", "hsv_v", "multi_scale", "box", "cls", "dfl", "epochs", "seed", "weight_decay", "warmup_epochs",
)  # fmt: skip
METRICS = {"precision(B)": "precision", "recall(B)": "recall", "mAP50(B)": "ap50", "mAP50-95(B)": "ap50_95"}


def train(config: TrainConfig, out_dir: Path, *, resume: bool = False, progress: bool = True, verbose: bool = False) -> None:
    """Train a network; leave in ``out_dir`` what the module's table says.

    :param resume: go on after the last whole epoch of the run that is there
    :param progress: print a line per epoch
    :param verbose: let Ultralytics talk, and its errors through
    :raises UsageMistake: if ``out_dir`` holds a run and ``resume`` is not given, or a run with another configuration or on
        other data, or the data set or the model is not there
    :raises FaceblurError: if Ultralytics fails, or the loss stops being a number
    """
    check_folder(config, out_dir, resume=resume)
    with kept_quiet(verbose=verbose), _explained(verbose):
        run = _Run(config, out_dir.resolve(), progress)
        if not run.finished():
            run.fit()
        run.finish()


@contextlib.contextmanager
def _explained(verbose: bool) -> Any:
    """Turn what Ultralytics raises, which can be anything, into one line."""
    try:
        yield
    except FaceblurError:
        raise
    except Exception as error:
        if verbose:
            raise
        raise FaceblurError(f"Ultralytics: {one_line(error)} (--verbose tells more)") from error


@dataclass
class _Run:
    """The log, the folder, and what is called while Ultralytics trains."""

    config: TrainConfig
    out_dir: Path
    progress: bool
    log: list[Row] = field(default_factory=list)
    parameters: int = 0

    def __post_init__(self) -> None:
        self.folder = Path(self.config.data)
        self.data = _identity(self.folder)
        self.model = find_model(self.config.model)
        self.backbone = self._find_backbone()
        self.checkpoint = self.out_dir / "checkpoint"
        self.weights = self.checkpoint / "weights"
        self.state = self.checkpoint / "state.json"
        self.last: str | None = None  #: Ultralytics' file of the last whole epoch, in ``checkpoint``
        self.started = 0.0
        self._restore()
        self._check_device()
        self.precision = computed_in(self.config.precision, self.config.device)

    def _restore(self) -> None:
        if not self.state.is_file():
            return
        try:
            state = json.loads(self.state.read_text())
            self.log, self.last, self.parameters, data = (state[key] for key in ("log", "last", "parameters", "data"))
        except (ValueError, KeyError, TypeError):
            raise FaceblurError(f"{self.state} cannot be resumed; name another folder") from None
        if data != self.data:
            raise UsageMistake(f"{self.out_dir} holds a run on other data than is in {self.folder}; name another folder")

    def _find_backbone(self) -> Path | None:
        """Return the file of the backbone's weights; what it holds tells this run's data from others'."""
        if self.config.backbone or self.config.frozen:
            check_backbone(self.model, begins=bool(self.config.backbone))
        if not self.config.backbone:
            return None
        path = weights_file(self.config.backbone, {}, "weights of a backbone")
        self.data["backbone_sha256"] = sha256_of(path)
        return path

    def _check_device(self) -> None:
        import torch

        if self.config.device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageMistake(f"device={self.config.device}: PyTorch finds no GPU here")

    def finished(self) -> bool:
        """Return whether all epochs are done, or the last ones brought nothing better."""
        if len(self.log) >= self.config.epochs:
            return True
        return 0 < self.config.early_stopping <= len(self.log) - self.best_epoch()

    def best_epoch(self) -> int:
        """Return which epoch was the best, from 1; 0 before the first."""
        return int(np.argmax([row["val_fitness"] for row in self.log])) + 1 if self.log else 0

    def fit(self) -> None:
        """Train the epochs that are left."""
        from ultralytics.models.yolo.detect import DetectionTrainer
        from ultralytics.utils.callbacks import get_default_callbacks

        if self.last and (self.out_dir / "best.pt").is_file():
            self.weights.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.out_dir / "best.pt", self.weights / "best.pt")  # Ultralytics' own may be half written
        callbacks = get_default_callbacks()
        callbacks["on_pretrain_routine_end"].append(self._begin)
        if self.config.device == "cpu":
            callbacks["on_pretrain_routine_end"].append(self._suit_cpu)
        callbacks["on_train_epoch_start"].append(self._begin_epoch)
        callbacks["on_model_save"].append(self._keep_epoch)
        trainer = DetectionTrainer(overrides=self._overrides(), _callbacks=callbacks)
        if self.backbone and not self.last:
            trainer.get_model = self._begun(trainer.get_model)
        effects = {name: getattr(self.config, name) for name in EFFECTS}
        if any(effects.values()):
            trainer.build_dataset = self._affected(trainer.build_dataset, effects)
        trainer.args.amp = self._overrides()["amp"]  # a resumed run has that of the device where it began
        trainer.train()

    def _begun(self, get_model: Callable[..., Any]) -> Callable[..., Any]:
        """Return what builds the network, with the backbone's weights in it."""

        def build(*args: Any, **options: Any) -> Any:
            network = get_model(*args, **options)
            load_backbone(network, self.backbone)
            return network

        return build

    @staticmethod
    def _affected(build_dataset: Callable[..., Any], effects: Mapping[str, float]) -> Callable[..., Any]:
        """Return what builds the data sets, with our augmentation in the one to train on."""

        def build(img_path: str, mode: str = "train", batch: int | None = None) -> Any:
            dataset = build_dataset(img_path, mode, batch)
            if mode == "train":
                add_effects(dataset, **effects)
            return dataset

        return build

    def _overrides(self) -> dict[str, Any]:
        """Return what Ultralytics is told, in its own words."""
        config = self.config
        return {
            **{name: getattr(config, name) for name in SAME},
            "task": "detect",
            "mode": "train",
            "model": self.model,
            "data": str((self.folder / DATA).resolve()),
            "resume": str(self.checkpoint / self.last) if self.last else False,
            "freeze": layers(config.frozen),
            "batch": config.batch_size,
            "nbs": config.step_size,
            "lr0": config.learning_rate,
            "cos_lr": config.schedule == "cosine",
            "lrf": config.final_rate if config.schedule == "cosine" else 1.0,
            "warmup_bias_lr": 0.0,  # theirs is 0.1, made for SGD: a hundred times what AdamW bears
            "patience": 0,  # never: it counts otherwise, and anew in a resumed run; see _keep_epoch
            "cache": "ram" if config.cache == "ram" else False,
            "amp": "bf16" if self.precision == "bfloat16" and config.device != "cpu" else False,  # "fp16" downloads a model
            "save_dir": str(self.checkpoint),
            "exist_ok": True,
            "plots": False,
            "verbose": False,
        }

    def _begin(self, trainer: Any) -> None:
        """Make the folder that of this run, now that network and data are there: what was refused is not in its way."""
        for split, loader in zip(SPLITS, (trainer.train_loader, trainer.test_loader), strict=True):
            self._check_used(split, loader.dataset.im_files)
        write_text(self.out_dir / "config.yaml", as_yaml(self.config))

    def _check_used(self, split: str, used: Sequence[str]) -> None:
        """:raises FaceblurError: if Ultralytics leaves out a picture, which it does in silence where it cannot be read"""
        pictures = self.folder / "images" / split
        if left_out := sorted(set(_names(pictures)) - {Path(file).name for file in used}):
            raise FaceblurError(
                f"{len(left_out)} of {self.data[split]} pictures in {pictures} or their labels are damaged, "
                f"such as {left_out[0]} (--verbose tells more)"
            )

    def _suit_cpu(self, trainer: Any) -> None:
        """Make training on a CPU faster by what Ultralytics keeps for GPUs: channels last, and 16 bits where they are wished.

        And by the threads that are wished: Ultralytics takes one less than there are cores.
        """
        import torch

        torch.set_num_threads(self.config.threads or os.cpu_count() or 1)
        model = trainer.model.to(memory_format=torch.channels_last)
        if self.precision == "bfloat16":
            model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)  # what is saved is a copy made before

    def _begin_epoch(self, _: Any) -> None:
        self.started = time.monotonic()

    def _keep_epoch(self, trainer: Any) -> None:
        """Write everything about an epoch; it counts when ``state.json`` names its file."""
        row = epoch_row(trainer, time.monotonic() - self.started)
        if not math.isfinite(row["loss"] + row["val_loss"]):
            raise FaceblurError(f"epoch {trainer.epoch + 1}: the loss is no number any more; lower learning_rate")
        self.log.append(row)
        self.parameters = sum(one.numel() for one in trainer.model.parameters())
        if self.best_epoch() == len(self.log):
            replace(self.out_dir / "best.pt", lambda path: shutil.copyfile(trainer.best, path))
        before, self.last = self.last, f"epoch-{len(self.log)}.pt"
        replace(self.checkpoint / self.last, lambda path: shutil.copyfile(trainer.last, path))
        state = {"log": self.log, "data": self.data, "last": self.last, "parameters": self.parameters}
        self._report()
        write_text(self.state, json.dumps(state))
        if before:
            (self.checkpoint / before).unlink(missing_ok=True)
        trainer.stop = trainer.stop or self.finished()
        if self.progress:
            print(self._line(), flush=True)

    def _line(self) -> str:
        row = self.log[-1]
        figures = " ".join(f"{name} {row[name]:.5g}" for name in ("loss", "val_loss", "val_precision", "val_recall", "val_ap50"))
        best = " best" if self.best_epoch() == len(self.log) else ""
        return f"epoch {len(self.log)}/{self.config.epochs} {row['seconds']:.0f} s {figures}{best}"

    def _report(self) -> None:
        versions = {name: version(name) for name in ("ultralytics", "torch")}
        config, best = self.config, self.best_epoch()
        facts = run_facts(
            DISTRIBUTION,
            versions,
            self.log,
            best,
            seed=config.seed,
            precision=self.precision,
            data=self.data,
            parameters=self.parameters,
        )
        write_report(self.out_dir, self.log, facts, f"yolo, {Path(config.model).stem}, {config.imgsz} pixels")

    def finish(self) -> None:
        """Write the network with its best weights."""
        save_weights(self.out_dir / "best.pt")
        save_onnx(self.out_dir / "best.pt", self.out_dir / "model.onnx", self.config.imgsz)
        if self.progress:
            print(f"best epoch {self.best_epoch()}: {self.out_dir / 'model.onnx'}", flush=True)


def epoch_row(trainer: Any, seconds: float) -> Row:
    """Return the row of the log for the epoch that Ultralytics' trainer has just ended."""
    trained = {name: float(value) for name, value in trainer.tloss.items()}
    measured = {name.partition("/")[2]: float(value) for name, value in trainer.metrics.items() if name.startswith("metrics/")}
    validated = {name: float(trainer.metrics[f"val/{name}"]) for name in trained}
    return {
        "epoch": trainer.epoch + 1,
        "lr": float(trainer.optimizer.param_groups[0]["lr"]),
        "seconds": round(seconds, 2),
        "loss": sum(trained.values()),
        "val_loss": sum(validated.values()),
        **trained,
        **{f"val_{name}": value for name, value in validated.items()},
        **{f"val_{ours}": measured[theirs] for theirs, ours in METRICS.items()},
        "val_fitness": float(trainer.fitness),
    }


def find_model(name: str) -> str:
    """Return the file that ``model`` names: a file, one of ours, or one of Ultralytics' by its name.

    :raises UsageMistake: if it is none of these
    """
    ours = Path(str(files("faceblur_yolo"))) / "models" / name
    for path in (Path(name), ours):
        if path.is_file() and path.suffix in (".pt", ".yaml", ".yml"):
            return str(path.resolve())
    if name.endswith((".yaml", ".yml")) and Path(name).name == name:
        with contextlib.suppress(Exception), kept_quiet():
            from ultralytics.nn.tasks import yaml_model_load

            yaml_model_load(name)
            return name
    known = ", ".join(sorted(path.name for path in ours.parent.glob("*.yaml")))
    raise UsageMistake(f"model={name}: no .pt or .yaml file; ours: {known}; of Ultralytics such as yolo11n.yaml")


def _names(pictures: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(pictures) if entry.name[0] != ".") if pictures.is_dir() else []


def _identity(folder: Path) -> dict[str, Any]:
    """Return what tells this data set from others.

    :raises UsageMistake: if it is none that ``faceblur dataset export-yolo`` made
    """
    if not (folder / DATA).is_file():
        raise UsageMistake(f"{folder} holds no {DATA}; faceblur dataset export-yolo SET -o DIR makes such a folder")
    counts = {}
    for split in SPLITS:
        pictures = folder / "images" / split
        names = _names(pictures)
        counts[split] = len(names)
        if not names:
            raise UsageMistake(f"{pictures} holds no pictures; faceblur dataset export-yolo SET -o DIR fills it")
        labels = folder / "labels" / split
        if missing := [name for name in names if not (labels / name).with_suffix(".txt").is_file()]:
            raise UsageMistake(
                f"{len(missing)} of {len(names)} pictures in {pictures} have no labels, such as {missing[0]}; "
                f"a picture without a face has an empty file in {labels}"
            )
    labels_sha256 = content_digest(folder, [folder / "labels" / split for split in SPLITS], ".txt")  # beside caches
    return {**identity(folder, "images", **counts), "labels_sha256": labels_sha256}
