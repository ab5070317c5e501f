"""Input frames for checking a network: photos as its method prepares them, and what photos are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from faceblur_core.mcu.graph import Graph
from faceblur_core.types import Floats, Image

Bytes = NDArray[np.int8]


def frames(graph: Graph, inputs: Iterable[Floats], count: int) -> list[Bytes]:
    """Return input frames of a network: the photos first, then constants, extremes and noise.

    :param inputs: N x H x W x C float32 arrays as the network takes them
    """
    return list(islice(_endless(graph, inputs), count))


def quantized(graph: Graph, batch: Floats) -> Iterator[Bytes]:
    """Yield the int8 frames of a batch: rounded by the input's scale and zero point, and clipped."""
    tensor = graph.tensors[graph.inputs[0]]
    for image in batch:
        yield np.clip(np.rint(image / np.float32(tensor.scale) + tensor.zero_point), -128, 127).astype(np.int8)


def pixels(photo: Image, shape: tuple[int, int, int]) -> Floats:
    """Return a photo resized to H x W x C, 0..1, as a batch of one: colours if C is 3, else its mean in every channel."""
    import cv2

    small = cv2.resize(photo, (shape[1], shape[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    if shape[2] != 3:
        small = np.repeat(small.mean(axis=2, keepdims=True), shape[2], axis=2)
    return np.asarray(small[None], np.float32)


def _endless(graph: Graph, inputs: Iterable[Floats]) -> Iterator[Bytes]:
    shape = graph.only_input().shape[1:]
    for batch in inputs:
        yield from quantized(graph, batch)
    for value in (-128, 0, 127):
        yield np.full(shape, value, np.int8)
    checkers = np.indices(shape).sum(0) % 2 == 0
    yield np.where(checkers, -128, 127).astype(np.int8)
    yield np.where(checkers, 127, -128).astype(np.int8)
    rng = np.random.default_rng(7)
    while True:
        yield rng.integers(-128, 128, shape, np.int8)
        yield np.clip(rng.normal(0, 30, shape), -128, 127).astype(np.int8)
        yield rng.choice(np.array([-128, 127], np.int8), shape)
