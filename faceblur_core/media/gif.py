"""GIF: pictures of at most 256 colours, and how large a file says that they are before anybody makes room for them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from faceblur_core.types import Image

MOST = 256  #: colours, of which transparency is one
HEAD = 13  #: bytes before the first palette or block
PICTURE, EXTENSION, END = 0x2C, 0x21, 0x3B  #: how blocks begin
BATCH = 4096  #: colours that are compared with all of a palette at once


def largest_size(data: bytes) -> tuple[int, int]:
    """Return the width and height that hold all pictures of a GIF, by what it says; it may be damaged.

    Pillow makes room for them when it opens a file. Like it, what is no block is passed over.
    """
    if len(data) < HEAD:
        return 0, 0
    width, height = struct.unpack_from("<HH", data, 6)
    at = HEAD + _palette_bytes(data[10])
    while at < len(data):
        kind, at = data[at], at + 1
        if kind == PICTURE and at + 9 <= len(data):
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, at)
            width, height = max(width, left + across), max(height, top + down)
            at = _behind(data, at + 9 + _palette_bytes(flags) + 1)
        elif kind == EXTENSION:
            at = _behind(data, at + 1)
        elif kind == END:
            break
    return width, height


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind(data: bytes, at: int) -> int:
    """Return where the blocks that begin at a place end."""
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1


def in_palette(rgb: Image, opaque: NDArray[np.bool_], changed: NDArray[np.bool_]) -> PillowImage.Image | None:
    """Return a picture of palette colours in which every pixel that was not changed keeps its own.

    :param rgb: H x W x 3
    :param opaque: H x W; what is not is transparent
    :param changed: H x W, the pixels that get the nearest colour where there are too many
    :return: mode P, with ``transparency`` in its info if anything is; None if the other pixels alone have too many colours
    """
    room = MOST - bool(not opaque.all())
    packed = _packed(rgb)
    kept = np.unique(packed[opaque & ~changed])
    if len(kept) > room:
        return None
    values, index = np.unique(packed[opaque], return_inverse=True)
    palette = values if len(values) <= room else np.union1d(kept, _few(rgb[opaque & changed], room - len(kept)))
    indices = np.full(opaque.shape, len(palette))
    if len(palette):
        indices[opaque] = _nearest(values, palette)[index]
    picture = PillowImage.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette(_unpacked(palette).astype(np.uint8).tobytes() + bytes(3 * (MOST - len(palette))))
    if room < MOST:
        picture.info["transparency"] = len(palette)
    return picture


def _few(pixels: NDArray[np.uint8], most: int) -> NDArray[np.uint32]:
    """Return at most so many colours, packed, that stand for all of N x 3."""
    if not most:
        return np.empty(0, np.uint32)
    reduced = PillowImage.fromarray(np.ascontiguousarray(pixels[None])).quantize(most, PillowImage.Quantize.MEDIANCUT)
    return np.unique(_packed(np.asarray(reduced.convert("RGB"))))


def _nearest(values: NDArray[np.uint32], palette: NDArray[np.uint32]) -> NDArray[Any]:
    """Return the index of the palette's colour, packed as the values are, that is nearest to each value."""
    colours, found = _unpacked(palette), []
    for start in range(0, len(values), BATCH):
        differences = _unpacked(values[start : start + BATCH])[:, None] - colours
        found.append(np.square(differences).sum(axis=2).argmin(axis=1))
    return np.concatenate(found)


def _packed(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return each colour as one number."""
    packed: NDArray[np.uint32] = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return packed


def _unpacked(packed: NDArray[np.uint32]) -> NDArray[np.int32]:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.int32)
