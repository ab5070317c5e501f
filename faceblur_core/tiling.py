"""Overlapping tiles of a large image, so that small faces in it are found."""

from __future__ import annotations

from collections.abc import Iterator

from faceblur_core.errors import UsageMistake

SMALLEST_TILE = 16  #: pixels


def check_tile_size(size: int, name: str) -> None:
    """:raises UsageMistake: if tiles would be so small that a million of them would be a hang, not a search"""
    if 0 < size < SMALLEST_TILE:
        raise UsageMistake(f"{name}={size} is too small; at least {SMALLEST_TILE} pixels, or 0 for no tiles")


def tiles_of(height: int, width: int, size: int, overlap: float) -> Iterator[tuple[int, int, int, int]]:
    """Yield x1, y1, x2, y2 of tiles that cover the image; none if it is no larger than one tile, or ``size`` is 0.

    :param size: side of a tile, pixels
    :param overlap: of neighbouring tiles, as a share of their side
    """
    if not size or max(height, width) <= size:
        return
    step = max(1, round(size * (1 - overlap)))
    for y in _starts(height, size, step):
        for x in _starts(width, size, step):
            yield x, y, min(x + size, width), min(y + size, height)


def _starts(length: int, size: int, step: int) -> list[int]:
    """Return where tiles begin: every step, the last one flush with the end."""
    last = max(length - size, 0)
    return [*range(0, last, step), last]
