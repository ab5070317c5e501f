"""What a network computes in: 16 bits where they are wished and the processor has them."""

from __future__ import annotations

import sys

from faceblur_core.machine import vectors

FLOAT32 = "float32"


def computed_in(precision: str, device: str = "cpu") -> str:
    """Return ``precision``, or ``float32`` and a line on stderr where 16 bits would be far slower than 32.

    That is so on x86 processors without AVX-512: there oneDNN, which computes for PyTorch and TensorFlow, has nothing for
    bfloat16, and they fall back on loops that take many times as long as 32 bits.

    :param precision: the wish, in the trainer's own words
    :param device: where the network is, in PyTorch's words; what is no CPU gets what is wished
    """
    if precision == FLOAT32 or device != "cpu" or vectors() in (None, "AVX-512"):
        return precision
    print(f"faceblur: precision={precision} is slow on a processor without AVX-512; training in {FLOAT32}", file=sys.stderr)
    return FLOAT32
