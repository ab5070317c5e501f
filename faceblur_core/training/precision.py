"""What a network computes in: 16 bits where they are wished and the processor has them."""

from __future__ import annotations

import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  #: what Linux says of the processor

FLOAT32 = "float32"


def computed_in(precision: str, device: str = "cpu") -> str:
    """Return ``precision``, or ``float32`` and a line on stderr where 16 bits would be far slower than 32.

    That is so on x86 processors without AVX-512: there oneDNN, which computes for PyTorch and TensorFlow, has nothing for
    bfloat16, and they fall back on loops that take many times as long as 32 bits.

    :param precision: the wish, in the trainer's own words
    :param device: where the network is, in PyTorch's words; what is no CPU gets what is wished
    """
    if precision == FLOAT32 or device != "cpu" or _has_avx512():
        return precision
    print(f"faceblur: precision={precision} is slow on a processor without AVX-512; training in {FLOAT32}", file=sys.stderr)
    return FLOAT32


def _has_avx512() -> bool:
    """Return whether the processor has what oneDNN needs for bfloat16; yes where nothing is known of an x86 processor."""
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return True
    flags = next((line.split() for line in lines if line.startswith("flags")), None)  # ARM's line is called Features
    return flags is None or "avx512bw" in flags
