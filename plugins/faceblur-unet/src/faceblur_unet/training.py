"""A training run of the U-Net: what ``faceblur_core.training.run`` says of its folder, and in it

======================  =============================================================================================
``best.weights.h5``     the weights of the epoch with the lowest ``val_mse``, float32
``model.keras``         the network with these weights, float32, written at the end
======================  =============================================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from faceblur_core.errors import UsageMistake
from faceblur_core.training.data import identity
from faceblur_core.training.precision import computed_in
from faceblur_core.training.run import TrainingRun, replace
from faceblur_core.training.schedule import plateau_rate, step_rates
from faceblur_core.weights import sha256_of, weights_file
from faceblur_unet import SHIPPED
from faceblur_unet.architecture import build_variant, fold, start_as_copy, unfold
from faceblur_unet.batches import Batches
from faceblur_unet.config import TrainConfig
from faceblur_unet.data import load_split
from faceblur_unet.distillation import load_network, load_teacher, with_teacher
from faceblur_unet.losses import make_loss, make_metrics

FIRST = 32  #: photos of the training split that batch normalization takes its first means and variances from


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step, by :func:`faceblur_core.training.schedule.step_rates`; afterwards the last one."""

    def __init__(self, config: TrainConfig, steps_per_epoch: int) -> None:
        self.rates = step_rates(config, steps_per_epoch)

    def __call__(self, step: Any) -> Any:
        return ops.take(self.rates, ops.minimum(ops.cast(step, "int32"), len(self.rates) - 1))


def _device() -> str:
    """Return ``cpu``, or where else Keras computes, whatever its backend."""
    where = str(ops.zeros(()).device).lower()
    return "cpu" if "cpu" in where else where


class _Run(TrainingRun[TrainConfig]):
    """The network and the data."""

    judged_by = "val_mse"
    distribution = "faceblur-unet"

    def set_up(self) -> dict[str, Any]:
        config = self.config
        pairs = [load_split(Path(config.data), split) for split in ("train", "val")]
        roles = {"weights": config.weights, "teacher": config.teacher}
        self.given = {role: weights_file(name, SHIPPED, "U-Net weights") for role, name in roles.items() if name}
        begun = {f"{role}_sha256": sha256_of(path) for role, path in self.given.items()}  # a name's file may be another tomorrow
        if "teacher" in self.given:
            teacher = load_teacher(self.given["teacher"])
            pairs = [with_teacher(part, teacher) for part in pairs]
        self.batches = Batches(pairs[0], config, augment=True)
        self.validation = Batches(pairs[1], config, augment=False)
        keras.utils.set_random_seed(config.seed)
        self.precision = computed_in(config.precision, _device())
        self.model = build_variant(config.variant, self.precision, batch_norm=config.batch_norm)
        self.exported = build_variant(config.variant)  # float32, without batch norm and optimizer: what is saved for use
        self._compile()
        return identity(Path(config.data), train=len(pairs[0]), val=len(pairs[1])) | begun

    def _compile(self) -> None:
        config = self.config
        self.schedule = None if config.schedule == "plateau" else Schedule(config, len(self.batches))
        rate = config.learning_rate if self.schedule is None else self.schedule
        if config.optimizer == "adamw":
            optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
        else:
            optimizer = keras.optimizers.Adam(rate)
        optimizer.build(self.model.trainable_variables)
        self.model.compile(optimizer=optimizer, loss=make_loss(config), metrics=make_metrics(config))

    def begin(self) -> None:
        if "weights" not in self.given:
            if self.config.copy_start:
                start_as_copy(self.model)
            return
        source = load_network(self.given["weights"], self.config.variant)
        try:
            self.exported.set_weights(source.get_weights())
        except ValueError:
            raise UsageMistake(f"{self.config.weights} holds no network of variant {self.config.variant}") from None
        if self.config.batch_norm:
            unfold(self.exported, self.model, self.batches.pairs.photos[:FIRST].astype(np.float32) / 255)
        else:
            self.model.set_weights(self.exported.get_weights())

    def fit(self, epoch: int) -> dict[str, float]:
        self.batches.epoch = epoch
        if self.config.schedule == "plateau":
            self.model.optimizer.learning_rate = plateau_rate(self.config, self.losses())
        fitted = self.model.fit(
            self.batches,
            validation_data=self.validation,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,  # Batches does it, by seed and epoch
            verbose=1 if self.progress and sys.stdout.isatty() else 0,
        )
        return {name: float(values[0]) for name, values in fitted.history.items()}

    def rate(self) -> float:
        optimizer = self.model.optimizer
        rate = optimizer.learning_rate if self.schedule is None else self.schedule(optimizer.iterations - 1)
        return float(ops.convert_to_numpy(rate))

    def arrays(self) -> list[NDArray[Any]]:
        return [*self.model.get_weights(), *(ops.convert_to_numpy(one) for one in self.model.optimizer.variables)]

    def assign(self, arrays: Sequence[NDArray[Any]]) -> None:
        count = len(self.model.weights)
        self.model.set_weights(arrays[:count])
        for variable, value in zip(self.model.optimizer.variables, arrays[count:], strict=True):
            variable.assign(value)

    def save_best(self) -> None:
        fold(self.model, self.exported)
        replace(self.out_dir / "best.weights.h5", self.exported.save_weights)

    def save_model(self) -> Path:
        self.exported.load_weights(self.out_dir / "best.weights.h5")
        replace(self.out_dir / "model.keras", self.exported.save)
        return self.out_dir / "model.keras"

    def parameters(self) -> int:
        return int(self.exported.count_params())

    def versions(self) -> Mapping[str, str]:
        backend = keras.config.backend()
        return {"keras": keras.__version__, backend: sys.modules[backend].__version__}

    def title(self) -> str:
        return self.config.variant


train = _Run.train
