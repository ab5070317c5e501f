"""A training run of a blur-degree network: what ``faceblur_core.training.run`` says of its folder, and in it

======================  =============================================================================================
``best.pt``             the network of the epoch with the lowest ``val_mae``, float32
``model.pt``            the same, written at the end
``model.onnx``          the same for use: weights in 16 bits, with the threshold of its data set
======================  =============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceblur_blurdegree import SHIPPED
from faceblur_blurdegree.batches import Batches
from faceblur_blurdegree.config import TrainConfig
from faceblur_blurdegree.data import facts, identity, load_split
from faceblur_blurdegree.evaluation import spearman
from faceblur_blurdegree.export import onnx_weights, save_onnx
from faceblur_blurdegree.losses import absolute_error, loss
from faceblur_blurdegree.mobilefacenet import MobileFaceNet, load_recogniser
from faceblur_blurdegree.network import DegreeNetwork, degree_of, load_network, save_network, take_weights
from faceblur_core.errors import UsageMistake
from faceblur_core.training.precision import computed_in
from faceblur_core.training.run import TrainingRun
from faceblur_core.training.schedule import plateau_rate, step_rates
from faceblur_core.types import Floats
from faceblur_core.weights import sha256_of, weights_file

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  #: what AdamW remembers of each parameter


class _Run(TrainingRun[TrainConfig]):
    """The network and the data."""

    judged_by = "val_mae"
    distribution = "faceblur-blurdegree"

    def set_up(self) -> dict[str, Any]:
        config = self.config
        if config.device == "cuda" and not torch.cuda.is_available():
            raise UsageMistake("device=cuda: PyTorch finds no GPU here")
        if config.threads:
            torch.set_num_threads(config.threads)
        self.precision = computed_in(config.precision, config.device)
        self.facts = facts(Path(config.data))  # of the model file: told now if they are wrong, not after the last epoch
        splits = [load_split(Path(config.data), split) for split in ("train", "val")]
        self.batches, self.validation = Batches(splits[0], config, augment=True), Batches(splits[1], config, augment=False)
        torch.manual_seed(config.seed)
        self.network = DegreeNetwork(config)
        begun = _begin(self.network, config)
        self.network.to(config.device).to(memory_format=torch.channels_last)
        self.learned = [one for one in self.network.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(self.learned, config.learning_rate, weight_decay=config.weight_decay, fused=True)
        self.rates = step_rates(config, len(self.batches))
        data = identity(Path(config.data), train=splits[0], val=splits[1])
        return {**data, "start_sha256": begun} if begun else data

    def fit(self, epoch: int) -> dict[str, float]:
        self.epoch = epoch
        torch.manual_seed(self.config.seed + epoch)  # of dropout: an epoch must not depend on those before it
        self.network.train()
        trained = self._pass(self.batches, epoch, train=True)
        self.network.eval()
        with torch.no_grad():
            validated = self._pass(self.validation, epoch, train=False)
        return {**trained, **{f"val_{name}": value for name, value in validated.items()}}

    def _pass(self, batches: Batches, epoch: int, *, train: bool) -> dict[str, float]:
        """Return the mean loss and absolute error over all faces, and the rank correlation."""
        steps = [
            self._step(faces, degrees, epoch * len(batches) + index if train else None)
            for index, (faces, degrees) in enumerate(batches.epoch(epoch))
        ]
        losses, errors, predicted, truth = (np.concatenate(part) for part in zip(*steps, strict=True))
        order = float(np.nan_to_num(spearman(predicted, truth)))  # nan: the network says the same of all
        return {"loss": float(losses.mean()), "mae": float(errors.mean()), "spearman": order}

    def _step(self, faces: Floats, degrees: Floats, step: int | None) -> tuple[NDArray[Any], ...]:
        """Return losses, absolute errors, predictions and truths of a batch; with ``step`` learn from it."""
        device = self.config.device
        x = torch.from_numpy(faces).to(device, memory_format=torch.channels_last)
        truth = torch.from_numpy(degrees).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            output = self.network(x)
        output = output.float()
        losses = loss(output, truth, self.config)
        if step is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(step)
            self.optimizer.zero_grad(set_to_none=True)
            losses.mean().backward()
            torch.nn.utils.clip_grad_norm_(self.learned, self.config.clip)
            self.optimizer.step()
        predicted = degree_of(output.detach())
        values = losses.detach(), absolute_error(predicted, truth), predicted, truth
        return tuple(value.double().cpu().numpy() for value in values)

    def _rate(self, step: int) -> float:
        if self.config.schedule == "plateau":
            return plateau_rate(self.config, self.losses())
        return float(self.rates[step])

    def rate(self) -> float:
        return self._rate((self.epoch + 1) * len(self.batches) - 1)

    def arrays(self) -> list[NDArray[Any]]:
        memory = [self.optimizer.state[one][name] for one in self.learned for name in _MOMENTS]
        return [value.detach().cpu().contiguous().numpy() for value in (*self.network.state_dict().values(), *memory)]

    def assign(self, arrays: Sequence[NDArray[Any]]) -> None:
        values = [torch.from_numpy(np.array(array)) for array in arrays]
        names = list(self.network.state_dict())
        self.network.load_state_dict(dict(zip(names, values, strict=False)))
        memory = iter(values[len(names) :])
        for one in self.learned:
            step, *moments = (next(memory) for _ in _MOMENTS)
            self.optimizer.state[one] = {"step": step.to(self.config.device)}
            for name, moment in zip(_MOMENTS[1:], moments, strict=True):
                self.optimizer.state[one][name] = torch.empty_like(one, requires_grad=False).copy_(moment)

    def save_best(self) -> None:
        save_network(self.network, self.out_dir / "best.pt")

    def save_model(self) -> Path:
        network = load_network(self.out_dir / "best.pt")
        save_network(network, self.out_dir / "model.pt")
        threshold, margin = self.facts
        save_onnx(network, self.out_dir / "model.onnx", threshold=threshold, margin=margin)
        return self.out_dir / "model.onnx"

    def parameters(self) -> int:
        return sum(one.numel() for one in self.network.parameters())

    def versions(self) -> Mapping[str, str]:
        return {name: version(name) for name in ("torch", "torchvision", "timm")}

    def title(self) -> str:
        return f"blur-degree, {self.config.backbone}, {self.config.head}, {self.config.loss}"


def _begin(network: DegreeNetwork, config: TrainConfig) -> str | None:
    """Give a network what the config says it begins with and freeze its first layers; return the SHA-256 of that file."""
    fits_recogniser = isinstance(network.backbone, MobileFaceNet)
    if config.frozen:
        if not fits_recogniser:
            raise UsageMistake(f"frozen is for backbone=mobilefacenet, not for {config.backbone}")
        for layer in network.backbone.layers[: config.frozen]:
            layer.requires_grad_(False)
    if not config.start:
        return None
    path = weights_file(config.start, SHIPPED, "weights to begin with")
    if path.suffix != ".onnx":
        take_weights(network, load_network(path).state_dict(), path)
    elif (weights := onnx_weights(path)) is not None:
        take_weights(network, weights, path)
    elif fits_recogniser:
        load_recogniser(network.backbone, path)
    else:
        raise UsageMistake(f"a recogniser is a start for backbone=mobilefacenet, not for {config.backbone}")
    return sha256_of(path)


train = _Run.train
