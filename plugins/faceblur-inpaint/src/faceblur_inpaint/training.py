"""A training run of the mask U-Net: what ``faceblur_core.training.run`` says of its folder, and in it

======================  =============================================================================================
``best.pt``             the network of the epoch with the highest ``val_iou``, float32
``model.pt``            the same, written at the end
``model.onnx``          the same for use: batch normalisation folded into the convolutions, weights in 16 bits
======================  =============================================================================================

PyTorch with bfloat16 has no use for a gradient scaler: its exponents reach as far as those of float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceblur_core.errors import UsageMistake
from faceblur_core.training.data import identity
from faceblur_core.training.precision import computed_in
from faceblur_core.training.run import TrainingRun
from faceblur_core.training.schedule import plateau_rate, step_rates
from faceblur_core.types import Floats
from faceblur_inpaint.batches import Batches, load_split
from faceblur_inpaint.config import TrainConfig
from faceblur_inpaint.export import save_onnx
from faceblur_inpaint.losses import loss, metrics
from faceblur_inpaint.network import MaskUNet, load_network, save_network

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  #: what AdamW remembers of each parameter


class _Run(TrainingRun[TrainConfig]):
    """The network and the data."""

    judged_by = "val_iou"
    higher_is_better = True
    distribution = "faceblur-inpaint"

    def set_up(self) -> dict[str, Any]:
        config = self.config
        if config.device == "cuda" and not torch.cuda.is_available():
            raise UsageMistake("device=cuda: PyTorch finds no GPU here")
        if config.threads:
            torch.set_num_threads(config.threads)
        self.precision = computed_in(config.precision, config.device)
        pairs = [load_split(Path(config.data), split, config.channels) for split in ("train", "val")]
        self.batches, self.validation = Batches(pairs[0], config, augment=True), Batches(pairs[1], config, augment=False)
        torch.manual_seed(config.seed)
        self.network = MaskUNet(config.base, config.channels).to(config.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.rates = step_rates(config, len(self.batches))
        return identity(Path(config.data), train=len(pairs[0]), val=len(pairs[1]))

    def begin(self) -> None:
        if not self.config.weights:
            return
        source = load_network(Path(self.config.weights))
        if (source.base, source.channels) != (self.config.base, self.config.channels):
            raise UsageMistake(f"{self.config.weights} has base={source.base} and channels={source.channels}; set them so")
        self.network.load_state_dict(source.state_dict())

    def fit(self, epoch: int) -> dict[str, float]:
        self.epoch = epoch
        cv2.setNumThreads(1)  # the thread that makes batches should leave the cores to PyTorch
        self.network.train()
        trained = self._pass(self.batches, epoch, train=True)
        self.network.eval()
        with torch.no_grad():
            validated = self._pass(self.validation, epoch, train=False)
        return {**trained, **{f"val_{name}": value for name, value in validated.items()}}

    def _pass(self, batches: Batches, epoch: int, *, train: bool) -> dict[str, float]:
        """Return the mean over all pictures of the loss and of each metric."""
        totals: dict[str, float] = defaultdict(float)
        for index, (photos, truths) in enumerate(batches.epoch(epoch)):
            values = self._step(photos, truths, epoch * len(batches) + index if train else None)
            for name, value in values.items():
                totals[name] += value
        return {name: total / len(batches.pairs) for name, total in totals.items()}

    def _step(self, photos: Floats, truths: Floats, step: int | None) -> dict[str, float]:
        """Return the sums over a batch; with ``step`` learn from it."""
        device = self.config.device
        x = torch.from_numpy(photos).to(device, memory_format=torch.channels_last)
        truth = torch.from_numpy(truths).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = self.network(x)
        logits = logits.float()
        losses = loss(logits, truth, self.config)
        if step is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(step)
            self.optimizer.zero_grad(set_to_none=True)
            losses.mean().backward()
            self.optimizer.step()
        values: dict[str, Tensor] = {"loss": losses.detach(), **metrics(logits.detach(), truth)}
        return {name: float(value.double().sum()) for name, value in values.items()}

    def _rate(self, step: int) -> float:
        if self.config.schedule == "plateau":
            return plateau_rate(self.config, self.losses())
        return float(self.rates[step])

    def rate(self) -> float:
        return self._rate((self.epoch + 1) * len(self.batches) - 1)

    def arrays(self) -> list[NDArray[Any]]:
        memory = [self.optimizer.state[one][name] for one in self.network.parameters() for name in _MOMENTS]
        return [value.detach().cpu().contiguous().numpy() for value in (*self.network.state_dict().values(), *memory)]

    def assign(self, arrays: Sequence[NDArray[Any]]) -> None:
        values = [torch.from_numpy(np.array(array)) for array in arrays]
        names = list(self.network.state_dict())
        self.network.load_state_dict(dict(zip(names, values, strict=False)))
        memory = iter(values[len(names) :])
        for one in self.network.parameters():
            step, *moments = (next(memory) for _ in _MOMENTS)
            self.optimizer.state[one] = {"step": step.to(self.config.device)}
            for name, moment in zip(_MOMENTS[1:], moments, strict=True):
                self.optimizer.state[one][name] = torch.empty_like(one, requires_grad=False).copy_(moment)

    def save_best(self) -> None:
        save_network(self.network, self.out_dir / "best.pt")

    def save_model(self) -> Path:
        network = load_network(self.out_dir / "best.pt")
        save_network(network, self.out_dir / "model.pt")
        save_onnx(network, self.out_dir / "model.onnx")
        return self.out_dir / "model.onnx"

    def parameters(self) -> int:
        return sum(one.numel() for one in self.network.parameters())

    def versions(self) -> Mapping[str, str]:
        return {"torch": torch.__version__}

    def title(self) -> str:
        return f"mask-unet, base {self.config.base}"


train = _Run.train
