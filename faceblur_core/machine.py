"""What computes, the part of every measured figure that is not ours, and what it allows."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  #: what Linux says of the processor

#: how x86 processors compute with many numbers at once, the widest first: Linux' word for it and the usual one
VECTORS = {"avx512bw": "AVX-512", "avx2": "AVX2", "avx": "AVX"}


def _umask() -> int:
    mask = os.umask(0o022)  # there is no call that only reads it
    os.umask(mask)
    return mask


UMASK = _umask()  #: what the system takes away from the rights to new files


def describe() -> str:
    """Return system, processor and cores in a line, such as ``Linux x86_64, AMD EPYC (AVX2), 2 cores``."""
    widest = vectors()
    name = _cpuinfo("model name") or platform.processor()
    return f"{platform.system()} {platform.machine()}, {name}{f' ({widest})' if widest else ''}, {os.cpu_count()} cores"


def vectors() -> str | None:
    """Return the widest of :data:`VECTORS` that the processor has, empty for none; None where that is not known.

    It is not known of processors that are not x86, nor beside Linux.
    """
    flags = _cpuinfo("flags")  # ARM's line is called Features
    if flags is None:
        return None
    return next((name for flag, name in VECTORS.items() if flag in flags.split()), "")


def _cpuinfo(key: str) -> str | None:
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key), None)
