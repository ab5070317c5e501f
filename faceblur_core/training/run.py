"""A training run in a folder: epochs that can be interrupted anywhere, and what remains of them.

======================  =============================================================================================
``config.yaml``         the configuration with all its defaults
``log.csv``             a row per epoch: learning rate at its end, seconds, every metric on training and validation photos
``curves/*.png``        each metric over the epochs, training blue, validation red
``run.json``            versions, the data set's checksum, speed
``checkpoint/``         all that ``resume`` needs: weights, optimizer and log after the last whole epoch, in one file
======================  =============================================================================================

and what the trainer itself writes: the best weights after each better epoch, the network at the end.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.training.config import C, TrainingConfig, as_yaml, load_config
from faceblur_core.training.precision import FLOAT32
from faceblur_core.training.report import Row, replace, run_facts, write_report, write_text


class TrainingRun(ABC, Generic[C]):
    """Everything about a run that is not the network's. A subclass fits an epoch and gives and takes the network's state.

    The log is all the state beside what :meth:`arrays` returns; so whatever happens at random within an epoch must follow
    from the seed and the epoch's number.
    """

    judged_by: ClassVar[str]  #: the column of the log that tells the best epoch
    higher_is_better: ClassVar[bool] = False
    distribution: ClassVar[str]  #: whose version run.json states first

    precision = FLOAT32  #: what the network computes in; a trainer with a choice sets it in :meth:`set_up`, see ``computed_in``

    def __init__(self, config: C, out_dir: Path, *, progress: bool = True) -> None:
        """Begin a run, or go on with what ``out_dir`` holds.

        :param progress: print a line per epoch
        :raises UsageMistake: if it holds a run on other data
        :raises FaceblurError: if data or models are not as they should be, or the checkpoint is damaged
        """
        self.config, self.out_dir, self.progress = config, out_dir, progress
        self.log: list[Row] = []
        self.checkpoint = out_dir / "checkpoint" / "state.npz"
        self.data = self.set_up()
        if self.checkpoint.is_file():
            self._restore()
        else:
            self.begin()
        write_text(out_dir / "config.yaml", as_yaml(config))

    @classmethod
    def train(cls, config: C, out_dir: Path, *, resume: bool = False, progress: bool = True) -> None:
        """Train a network; leave in ``out_dir`` what the module's table says.

        With ``resume`` a run that was interrupted goes on after its last whole epoch and ends as if it had not been.

        :param progress: print a line per epoch
        :raises UsageMistake: if ``out_dir`` holds a run and ``resume`` is not given, or a run with another configuration
        :raises FaceblurError: if data or models are not as they should be, or the loss stops being a number
        """
        check_folder(config, out_dir, resume=resume)
        run = cls(config, out_dir, progress=progress)
        while not run.finished():
            run.one_epoch()
        run.finish()

    @abstractmethod
    def set_up(self) -> dict[str, Any]:
        """Load the data, make network and optimizer; return what tells this data from other (see ``data.identity``)."""

    def begin(self) -> None:
        """Do what only a new run does, such as start from given weights."""

    @abstractmethod
    def fit(self, epoch: int) -> Mapping[str, float]:
        """Train one epoch, counted from 0; return its metrics, ``loss``, ``val_loss`` and :attr:`judged_by` among them."""

    @abstractmethod
    def rate(self) -> float:
        """Return the learning rate of the last step of the epoch that was fitted; the log does not have that epoch yet."""

    @abstractmethod
    def arrays(self) -> list[NDArray[Any]]:
        """Return the state of network and optimizer, in an order that is always the same."""

    @abstractmethod
    def assign(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Take back what :meth:`arrays` returned. May raise whatever it likes if that does not fit."""

    @abstractmethod
    def save_best(self) -> None:
        """Write the network's weights, for the last epoch was the best one so far."""

    @abstractmethod
    def save_model(self) -> Path:
        """Write the network with its best weights, after the last epoch, and return where."""

    @abstractmethod
    def parameters(self) -> int:
        """Return the number of the network's parameters."""

    @abstractmethod
    def versions(self) -> Mapping[str, str]:
        """Return the versions of what trained, by package."""

    def title(self) -> str:
        """Return what curves are called."""
        return self.distribution

    def finished(self) -> bool:
        """Return whether all epochs are done, or the last ones brought nothing better."""
        if len(self.log) >= self.config.epochs:
            return True
        return 0 < self.config.early_stopping <= len(self.log) - self.best_epoch()

    def losses(self) -> list[float]:
        """Return what each epoch is judged by, lower is better."""
        sign = -1 if self.higher_is_better else 1
        return [sign * row[self.judged_by] for row in self.log]

    def best_epoch(self) -> int:
        """Return which epoch was the best, from 1; 0 before the first."""
        return int(np.argmin(self.losses())) + 1 if self.log else 0

    def one_epoch(self) -> None:
        """Train one epoch and keep it. :raises FaceblurError: if the loss is no number any more."""
        epoch = len(self.log)
        started = time.monotonic()
        measured = self.fit(epoch)
        if not math.isfinite(measured["loss"] + measured["val_loss"]):
            raise FaceblurError(f"epoch {epoch + 1}: the loss is no number any more; lower learning_rate")
        seconds = round(time.monotonic() - started, 2)
        self.log.append({"epoch": epoch + 1, "lr": self.rate(), "seconds": seconds, **measured})
        self._keep()
        if self.progress:
            print(self._line(), flush=True)

    def finish(self) -> None:
        """Write the network with its best weights."""
        path = self.save_model()
        if self.progress:
            print(f"best epoch {self.best_epoch()}: {path}", flush=True)

    def _line(self) -> str:
        row = self.log[-1]
        figures = " ".join(f"{name} {row[name]:.5g}" for name in row if name not in ("epoch", "seconds"))
        best = " best" if self.best_epoch() == len(self.log) else ""
        return f"epoch {len(self.log)}/{self.config.epochs} {row['seconds']:.0f} s {figures}{best}"

    def _keep(self) -> None:
        """Write everything; the checkpoint comes last, so that an epoch counts when all of it is there."""
        if self.best_epoch() == len(self.log):
            self.save_best()
        arrays: dict[str, Any] = {str(index): value for index, value in enumerate(self.arrays())}
        arrays["state"] = np.array(json.dumps({"log": self.log, "data": self.data}))
        self._report()
        replace(self.checkpoint, lambda path: np.savez(path, **arrays))

    def _restore(self) -> None:
        try:
            with np.load(self.checkpoint) as arrays:
                state = json.loads(str(arrays["state"]))
                values = [arrays[str(index)] for index in range(len(arrays.files) - 1)]
            self.assign(values)
        except Exception as error:  # a damaged file: zip, JSON, NumPy and each framework have their own
            raise FaceblurError(f"{self.checkpoint} cannot be resumed ({type(error).__name__}); name another folder") from None
        if state["data"] != self.data:
            raise UsageMistake(f"{self.out_dir} holds a run on other data than is in {self.config.data}; name another folder")
        self.log = state["log"]

    def _report(self) -> None:
        facts = run_facts(
            self.distribution,
            self.versions(),
            self.log,
            self.best_epoch(),
            seed=self.config.seed,
            precision=self.precision,
            data=self.data,
            parameters=self.parameters(),
        )
        write_report(self.out_dir, self.log, facts, self.title())


def check_folder(config: TrainingConfig, out_dir: Path, *, resume: bool) -> None:
    """:raises UsageMistake: if it can be no folder, holds a run and ``resume`` is not given, or a run of another configuration"""
    above = next(path for path in (out_dir, *out_dir.absolute().parents) if path.exists())
    if not above.is_dir():
        raise UsageMistake(f"{above} is no folder, so the run cannot be kept in {out_dir}")
    there = out_dir / "config.yaml"
    if not there.is_file():
        return
    if not resume:
        raise UsageMistake(f"{out_dir} holds a run: go on with it with --resume, or name another folder")
    before, now = dataclasses.asdict(load_config(type(config), there)), dataclasses.asdict(config)
    for name, value in before.items():
        if name not in config.may_change and now[name] != value:
            raise UsageMistake(f"{out_dir} holds a run with {name}={value}, not {now[name]}; name another folder")
