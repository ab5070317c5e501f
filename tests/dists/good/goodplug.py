"""A stranger's plugin: detector that gives pixels, obfuscator, anonymizer, embedder, metric, backend, command."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import click
import numpy as np

from faceblur_core import Component, hookimpl
from faceblur_core.errors import FaceblurError
from faceblur_core.types import Anonymized, Detections, option


@dataclass
class Corner:
    """The upper left corner, of pictures that are bright there."""

    size: int = option(4, "side of the corner, pixels")

    def __call__(self, image):
        if (image[0, 0] == 200).all():
            mask = np.zeros(image.shape[:2], np.float32)
            mask[: self.size, : self.size] = 1
            return Detections(np.array([[0, 0, self.size, self.size]]), np.ones(1), mask=mask)
        return Detections.none()


@dataclass
class Grey:
    def __call__(self, image, mask):
        return np.where(mask[..., None] > 0, np.uint8(128), image)


@dataclass
class Wipe:
    """Hides bright pictures whole."""

    level: int = option(128, "grey level to wipe with")

    def __call__(self, image):
        hide = bool((image[0, 0] == 200).all())
        mask = np.full(image.shape[:2], hide, np.float32)
        if self.level == 1:  # every pixel changes a little, as in the output of a network
            return Anonymized(image ^ 1, np.maximum(mask, np.float32(0.004)))
        return Anonymized(np.full_like(image, self.level) if hide else image, mask)


@dataclass
class Means:
    """Mean colour of a face, from grey."""

    threshold: ClassVar = 0.99
    different: ClassVar = 0.9
    origin: ClassVar = "this test"

    def __call__(self, faces):
        vectors = faces.mean(axis=(1, 2), dtype=np.float32) - np.float32([127.5, 120, 100])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass
class Npy:
    suffixes: ClassVar = (".npy",)

    def load(self, path):
        if not Path(path).is_file() or Path(path).read_bytes()[:6] != b"\x93NUMPY":
            raise FaceblurError(f"{path} is no .npy file")
        return lambda batch: batch * np.load(path)

    def to_tflite(self, path):
        raise FaceblurError("no way to TensorFlow Lite")


@dataclass
class Hidden:
    unit: ClassVar = "share"
    per: ClassVar = "image"
    higher_is_better: ClassVar = False
    range: ClassVar = (0.0, 1.0)
    citation: ClassVar = "this test"

    def __call__(self, sample, result):
        return np.array([result.mask.mean()], np.float64)


@click.command()
def hello():
    """Say hello."""
    click.echo("hello from a stranger")


def _row(name, attribute):
    return Component(name=name, summary=f"the test's {name}", factory=f"goodplug:{attribute}")


@hookimpl
def faceblur_detectors():
    return [_row("corner", "Corner")]


@hookimpl
def faceblur_obfuscators():
    return [_row("grey", "Grey")]


@hookimpl
def faceblur_anonymizers():
    return [_row("wipe", "Wipe")]


@hookimpl
def faceblur_embedders():
    return [_row("means", "Means")]


@hookimpl
def faceblur_backends():
    return [_row("npy", "Npy")]


@hookimpl
def faceblur_metrics():
    return [_row("hidden", "Hidden")]


@hookimpl
def faceblur_trainers():
    return [_row("lessons", "hello")]


@hookimpl
def faceblur_commands():
    return [_row("hello", "hello")]
