"""Near-duplicates: photos that are the same picture, resized, recompressed, slightly cropped, or the next frame of a video.

Two photos are near-duplicates if their perceptual hashes (DCT, 64 bits, Zauner 2010, by imagehash) differ in few bits and
their grey 32 x 32 thumbnails correlate: see LIMITS, which were set by looking at pairs among 9,430 photos of faces. The
hash alone takes portraits with one pose and background for copies of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceblur_core.types import Image

LIMITS = ((6, 0.90), (10, 0.95))  #: (bits that may differ, least correlation); either will do
THUMB = 32  #: pixels
BLOCK = 512  #: rows that are compared at once


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of a picture to find copies of it."""

    phash: int  #: 64 bits
    thumb: NDArray[np.uint8]  #: 32 x 32, grey

    def hex(self) -> str:
        """Return the hash as 16 hexadecimal digits."""
        return f"{self.phash:016x}"


def fingerprint(image: Image) -> Fingerprint:
    """Return the fingerprint of a picture, H x W x 3."""
    import imagehash
    from PIL import Image as PillowImage

    grey = PillowImage.fromarray(image).convert("L")
    bits = imagehash.phash(grey).hash
    thumb = np.asarray(grey.resize((THUMB, THUMB), PillowImage.Resampling.BOX))
    return Fingerprint(int.from_bytes(np.packbits(bits).tobytes(), "big"), thumb)


def near_duplicates(some: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None) -> Iterator[tuple[int, int]]:
    """Yield the index pairs (i, j) of near-duplicates of ``some`` and ``others``; without others, pairs i < j of ``some``."""
    both = some if others is None else others
    if not some or not both:
        return
    bits, bits_of_others = (np.array([item.phash for item in items], np.uint64) for items in (some, both))
    thumbs, thumbs_of_others = _normalized(some), _normalized(both)
    for start in range(0, len(some), BLOCK):
        distance = np.bitwise_count(bits[start : start + BLOCK, None] ^ bits_of_others[None])
        rows, columns = np.nonzero(distance <= max(most for most, _ in LIMITS))
        differ = distance[rows, columns]
        rows += start
        alike = np.einsum("ij,ij->i", thumbs[rows], thumbs_of_others[columns])
        alike = np.any([(differ <= most) & (alike >= least) for most, least in LIMITS], axis=0)
        for i, j in zip(rows[alike].tolist(), columns[alike].tolist(), strict=True):
            if others is not None or i < j:
                yield i, j


def _normalized(items: Sequence[Fingerprint]) -> NDArray[np.float32]:
    """Return the thumbnails as N x 1024 vectors of mean 0 and length 1; a flat one becomes 0 and is like no other."""
    vectors = np.stack([item.thumb for item in items]).reshape(len(items), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0), np.float32)


class Groups:
    """Items joined into groups (disjoint-set forest)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        """Return the group of an item: the lowest item in it."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        """Make the groups of two items one."""
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low
