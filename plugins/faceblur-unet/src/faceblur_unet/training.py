"""A training run in a folder: epochs that can be interrupted anywhere, and what remains of them.

======================  =============================================================================================
``config.yaml``         the configuration with all its defaults
``log.csv``             a row per epoch: learning rate, seconds, every metric on training and validation photos
``curves/*.png``        each metric over the epochs, training blue, validation red
``best.weights.h5``     the weights of the epoch with the lowest ``val_mse``, float32
``model.keras``         the network with these weights, float32, written at the end
``run.json``            versions, the data set's checksum, speed
``checkpoint/``         all that ``resume`` needs: weights, optimizer and log after the last whole epoch, in one file
======================  =============================================================================================
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure  # without pyplot: no display, nothing global

from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_unet.architecture import build_variant
from faceblur_unet.batches import Batches
from faceblur_unet.config import TrainConfig, as_yaml, load_config
from faceblur_unet.data import identity, load_split
from faceblur_unet.distillation import load_network, with_teacher
from faceblur_unet.losses import make_loss, make_metrics

Row = dict[str, float]  #: one epoch of the log


def train(config: TrainConfig, out_dir: Path, *, resume: bool = False, progress: bool = True) -> None:
    """Train a network; leave in ``out_dir`` what the module's table says.

    With ``resume`` a run that was interrupted goes on after its last whole epoch and ends as if it had not been.

    :param progress: print a line per epoch, and a bar on a terminal
    :raises UsageMistake: if ``out_dir`` holds a run and ``resume`` is not given, or holds a run with another configuration
    :raises FaceblurError: if data or models are not as they should be, or the loss stops being a number
    """
    _check_folder(config, out_dir, resume=resume)
    run = _Run(config, out_dir, progress=progress)
    while not run.finished():
        run.one_epoch()
    run.finish()


def _check_folder(config: TrainConfig, out_dir: Path, *, resume: bool) -> None:
    there = out_dir / "config.yaml"
    if not there.is_file():
        return
    if not resume:
        raise UsageMistake(f"{out_dir} holds a run: go on with it with --resume, or name another folder")
    before, now = dataclasses.asdict(load_config(there)), dataclasses.asdict(config)
    for name, value in before.items():
        if name != "data" and now[name] != value:  # the folder may have moved; its content is checked
            raise UsageMistake(f"{out_dir} holds a run with {name}={value}, not {now[name]}; name another folder")


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step: linearly up for ``warmup`` steps, then constant or down a half cosine to 0."""

    def __init__(self, config: TrainConfig, steps_per_epoch: int) -> None:
        self.rate, self.cosine = config.learning_rate, config.schedule == "cosine"
        self.warmup = config.warmup_epochs * steps_per_epoch
        self.total = config.epochs * steps_per_epoch

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rate = self.rate * ops.minimum(1.0, (step + 1) / (self.warmup + 1))
        if not self.cosine:
            return rate
        done = ops.clip((step - self.warmup) / (self.total - self.warmup), 0.0, 1.0)
        return rate * 0.5 * (1 + ops.cos(math.pi * done))


def plateau_rate(config: TrainConfig, values: Sequence[float]) -> float:
    """Return the learning rate after epochs with these ``val_mse``: it falls after ``plateau_patience`` without a better one."""
    rate, best, waited = config.learning_rate, math.inf, 0
    for value in values:
        waited = 0 if value < best else waited + 1
        best = min(best, value)
        if waited == config.plateau_patience:
            rate, waited = rate * config.plateau_factor, 0
    return rate


class _Run:
    """The network, the data and the log; the log is all the state beside weights and optimizer."""

    def __init__(self, config: TrainConfig, out_dir: Path, *, progress: bool) -> None:
        self.config, self.out_dir, self.progress = config, out_dir, progress
        self.log: list[Row] = []
        self.checkpoint = out_dir / "checkpoint" / "state.npz"
        pairs = [load_split(Path(config.data), split) for split in ("train", "val")]
        self.data = identity(Path(config.data), train=pairs[0], val=pairs[1])
        if config.teacher:
            teacher = load_network(Path(config.teacher), "teacher")
            pairs = [with_teacher(part, teacher) for part in pairs]
        self.batches = Batches(pairs[0], config, augment=True)
        self.validation = Batches(pairs[1], config, augment=False)
        keras.utils.set_random_seed(config.seed)
        self.model = build_variant(config.variant, config.precision)
        self.exported = build_variant(config.variant)  # float32 and without an optimizer: what is saved for use
        self._compile()
        if self.checkpoint.is_file():
            self._restore()
        elif config.weights:
            self._start_from(Path(config.weights))
        (out_dir / "curves").mkdir(parents=True, exist_ok=True)
        self.checkpoint.parent.mkdir(exist_ok=True)
        _write_text(out_dir / "config.yaml", as_yaml(config))

    def _compile(self) -> None:
        config = self.config
        plateau = config.schedule == "plateau"
        rate = config.learning_rate if plateau else Schedule(config, len(self.batches))
        if config.optimizer == "adamw":
            optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
        else:
            optimizer = keras.optimizers.Adam(rate)
        optimizer.build(self.model.trainable_variables)
        self.model.compile(optimizer=optimizer, loss=make_loss(config), metrics=make_metrics(config))

    def _start_from(self, path: Path) -> None:
        source = load_network(path, self.config.variant)
        try:
            self.model.set_weights(source.get_weights())
        except ValueError:
            raise UsageMistake(f"{path} holds no network of variant {self.config.variant}") from None

    def finished(self) -> bool:
        """Return whether all epochs are done, or the last ones brought nothing better."""
        if len(self.log) >= self.config.epochs:
            return True
        return 0 < self.config.early_stopping <= len(self.log) - self._best_epoch()

    def _values(self) -> list[float]:
        return [row["val_mse"] for row in self.log]

    def _best_epoch(self) -> int:
        """Return which epoch had the lowest ``val_mse``, from 1; 0 before the first."""
        return int(np.argmin(self._values())) + 1 if self.log else 0

    def one_epoch(self) -> None:
        """Train one epoch and keep it. :raises FaceblurError: if the loss is no number any more."""
        epoch = self.batches.epoch = len(self.log)
        if self.config.schedule == "plateau":
            self.model.optimizer.learning_rate = plateau_rate(self.config, self._values())
        started = time.monotonic()
        fitted = self.model.fit(
            self.batches,
            validation_data=self.validation,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,  # Batches does it, by seed and epoch
            verbose=1 if self.progress and sys.stdout.isatty() else 0,
        )
        measured = {name: float(values[0]) for name, values in fitted.history.items()}
        if not math.isfinite(measured["loss"] + measured["val_loss"]):
            raise FaceblurError(f"epoch {epoch + 1}: the loss is no number any more; lower learning_rate")
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.log.append({"epoch": epoch + 1, "lr": rate, "seconds": round(time.monotonic() - started, 2), **measured})
        self._keep()
        if self.progress:
            print(self._line(), flush=True)

    def _line(self) -> str:
        row = self.log[-1]
        figures = " ".join(f"{name} {row[name]:.5g}" for name in row if name not in ("epoch", "seconds"))
        best = " best" if self._best_epoch() == len(self.log) else ""
        return f"epoch {len(self.log)}/{self.config.epochs} {row['seconds']:.0f} s {figures}{best}"

    def _keep(self) -> None:
        """Write everything; the checkpoint comes after the weights, so that an epoch counts when all of it is there."""
        if self._best_epoch() == len(self.log):
            self.exported.set_weights(self.model.get_weights())
            _replace(self.out_dir / "best.weights.h5", self.exported.save_weights)
        values = [*self.model.get_weights(), *(ops.convert_to_numpy(one) for one in self.model.optimizer.variables)]
        arrays = {str(index): value for index, value in enumerate(values)}
        state = np.array(json.dumps({"log": self.log, "data": self.data}))
        _replace(self.checkpoint, lambda path: np.savez(path, state=state, **arrays))
        self._report()

    def _restore(self) -> None:
        try:
            with np.load(self.checkpoint) as arrays:
                state = json.loads(str(arrays["state"]))
                values = [arrays[str(index)] for index in range(len(arrays.files) - 1)]
            count = len(self.model.weights)
            self.model.set_weights(values[:count])
            for variable, value in zip(self.model.optimizer.variables, values[count:], strict=True):
                variable.assign(value)
        except Exception as error:  # a damaged file: zip, JSON, NumPy and Keras each have their own
            raise FaceblurError(f"{self.checkpoint} cannot be resumed ({type(error).__name__}); name another folder") from None
        if state["data"] != self.data:
            raise UsageMistake(f"{self.out_dir} holds a run on other data than is in {self.config.data}; name another folder")
        self.log = state["log"]

    def _report(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.log[-1], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.log)
        _write_text(self.out_dir / "log.csv", text.getvalue())
        _write_text(self.out_dir / "run.json", json.dumps(self._facts(), indent=2) + "\n")
        for metric in (name for name in self.log[-1] if f"val_{name}" in self.log[-1]):
            _replace(self.out_dir / "curves" / f"{metric}.png", self._curve(metric).savefig)

    def _facts(self) -> dict[str, Any]:
        backend = keras.config.backend()
        seconds = sum(row["seconds"] for row in self.log)
        return {
            "versions": {
                "faceblur-unet": version("faceblur-unet"),
                "keras": keras.__version__,
                backend: sys.modules[backend].__version__,
                "numpy": np.__version__,
            },
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "seed": self.config.seed,
            "data": self.data,
            "parameters": self.model.count_params(),
            "epochs": len(self.log),
            "best": self.log[self._best_epoch() - 1],
            "seconds": round(seconds, 2),
            "images_per_second": round(len(self.log) * self.data["train"] / max(seconds, 0.01), 2),
            "seconds_per_epoch": [row["seconds"] for row in self.log],
        }

    def _curve(self, metric: str) -> Figure:
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for key, colour, label in ((metric, "tab:blue", "training"), (f"val_{metric}", "tab:red", "validation")):
            axes.plot([row["epoch"] for row in self.log], [row[key] for row in self.log], color=colour, label=label, marker=".")
        axes.set(xlabel="epoch", ylabel=metric, title=f"{self.config.variant}: {metric}")
        axes.grid(alpha=0.3)
        axes.legend()
        return figure

    def finish(self) -> None:
        """Write the network with its best weights."""
        self.exported.load_weights(self.out_dir / "best.weights.h5")
        _replace(self.out_dir / "model.keras", self.exported.save)
        if self.progress:
            best = self.log[self._best_epoch() - 1]
            print(f"best epoch {best['epoch']}: {self.out_dir / 'model.keras'}", flush=True)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path`` and move it there whole."""
    partial = path.with_name(f".{path.name}")
    write(partial)
    os.replace(partial, path)


def _write_text(path: Path, text: str) -> None:
    _replace(path, lambda partial: partial.write_text(text, encoding="utf-8"))
