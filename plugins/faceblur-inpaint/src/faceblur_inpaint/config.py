"""What a training run of the mask U-Net is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Lt, Predicate

from faceblur_core.training.config import Count, Share, TrainingConfig
from faceblur_core.types import option

SIZE = 256  #: pixels, the side of every picture that the network sees


def one_or_three(count: int) -> bool:
    """Return whether a picture can have so many channels."""
    return count in (1, 3)


@dataclass(frozen=True)
class TrainConfig(TrainingConfig):
    """One training run; its best epoch is the one with the highest ``val_iou``."""

    may_change: ClassVar[frozenset[str]] = TrainingConfig.may_change | {"threads"}

    base: Annotated[int, Ge(1), Le(128)] = option(64, "channels of the first level; the paper has 64")
    channels: Annotated[int, Predicate(one_or_three)] = option(1, "1: the network sees grey; 3: red, green and blue")
    weights: str = option("", "start from this .pt file; empty: from random weights")
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "bfloat16 computes in 16 bits, keeps 32; not on x86 without AVX-512"
    )
    device: Literal["cpu", "cuda"] = option("cpu", "where to train; only on cpu is a resumed run the same to the bit")
    threads: Annotated[int, Ge(0), Le(256)] = option(0, "of the CPU; 0: as PyTorch likes. Another number is another rounding")
    half_size_epochs: Count = option(0, "so many first epochs see pictures of half the side, about four times as fast")

    overlap: Literal["dice", "iou"] = option("dice", "what is added to the cross entropy: 1 - soft Dice, or 1 - soft IoU")
    overlap_weight: Annotated[float, Ge(0), Le(1000)] = option(1.0, "weight of that")
    face_weight: Annotated[float, Ge(0), Le(1000)] = option(0.0, "cross entropies count 1 + face_weight times in faces")

    flip: Share = option(0.5, "share of photos that are mirrored")
    warp: Share = option(0.5, "share of photos that are moved, by the next three; black comes in at the edges")
    zoom: Annotated[float, Ge(0), Lt(1)] = option(0.25, "size times 1 ± zoom")
    shift: Share = option(0.1, "moved by ± shift, of the side, each way")
    rotation: Annotated[float, Ge(0), Le(180)] = option(15.0, "turned by ± rotation, degrees")
    light: Share = option(0.5, "share of photos whose light is changed, by the next two")
    gain: Annotated[float, Ge(0), Lt(1)] = option(0.4, "all values times 1 ± gain")
    gamma: Annotated[float, Ge(0), Lt(1)] = option(0.4, "all values, of 1, to the power of 1 ± gamma")
    worsen: Share = option(0.3, "share of photos that get worse, by the next two")
    blur: Annotated[float, Ge(0), Le(20)] = option(2.0, "greatest sigma of a Gaussian blur, pixels")
    noise: Share = option(0.05, "greatest standard deviation of noise, of 1")
