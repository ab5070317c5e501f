"""Pictures of at most 256 colours, as GIF holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from faceblur_core.types import Image

MOST = 256  #: colours, of which transparency is one
BATCH = 4096  #: colours that are compared with all of a palette at once


def in_palette(rgb: Image, opaque: NDArray[np.bool_], changed: NDArray[np.bool_]) -> PillowImage.Image | None:
    """Return a picture of palette colours in which every pixel that was not changed keeps its own.

    :param rgb: H x W x 3
    :param opaque: H x W; what is not is transparent
    :param changed: H x W, the pixels that get the nearest colour where there are too many
    :return: mode P, with ``transparency`` in its info if anything is; None if the other pixels alone have too many colours
    """
    room = MOST - bool(not opaque.all())
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    kept = np.unique(packed[opaque & ~changed])
    palette = np.unique(packed[opaque])
    if len(kept) > room:
        return None
    if len(palette) > room:
        palette = np.union1d(kept, _few(rgb[opaque & changed], room - len(kept)))
    values, index = np.unique(packed, return_inverse=True)
    indices = _nearest(values, palette)[index].astype(np.uint8).reshape(rgb.shape[:2])
    picture = PillowImage.fromarray(np.where(opaque, indices, len(palette)).astype(np.uint8), "P")
    picture.putpalette(_unpacked(palette).astype(np.uint8).tobytes() + bytes(3 * (MOST - len(palette))))
    if room < MOST:
        picture.info["transparency"] = len(palette)
    return picture


def _few(pixels: NDArray[np.uint8], most: int) -> NDArray[np.uint32]:
    """Return at most so many colours, packed, that stand for all of N x 3."""
    if not most:
        return np.empty(0, np.uint32)
    reduced = PillowImage.fromarray(np.ascontiguousarray(pixels[None])).quantize(most, PillowImage.Quantize.MEDIANCUT)
    return np.unique(np.asarray(reduced.convert("RGB"), np.uint32)[0] @ np.array([1 << 16, 1 << 8, 1], np.uint32))


def _nearest(values: NDArray[np.uint32], palette: NDArray[np.uint32]) -> NDArray[Any]:
    """Return the index of the palette's colour, packed as the values are, that is nearest to each value."""
    colours, found = _unpacked(palette), []
    for start in range(0, len(values), BATCH):
        differences = _unpacked(values[start : start + BATCH])[:, None] - colours
        found.append(np.square(differences).sum(axis=2).argmin(axis=1))
    return np.concatenate(found)


def _unpacked(packed: NDArray[np.uint32]) -> NDArray[np.int32]:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.int32)
