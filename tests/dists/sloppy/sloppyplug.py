"""Components that break their contracts, each in its own way."""

from dataclasses import dataclass

import numpy as np

from faceblur_core import Component, hookimpl
from faceblur_core.types import Anonymized, Detections, option


@dataclass
class Everywhere:
    """Finds a face in every picture, edits its input, tells two pictures apart by counting."""

    undocumented: int = 1
    calls: int = option(0, "counter")

    def __call__(self, image):
        self.calls += 1
        return Detections(np.array([[0, 0, 1 + self.calls, 1]]), np.ones(1))


@dataclass
class Leaky:
    """Forgets the last row and changes what it must not."""

    def __call__(self, image, mask):
        result = 255 - image
        result[-1] = image[-1]
        return result


@dataclass
class Shrinker:
    def __call__(self, image):
        return Anonymized(image[1:], np.zeros(image.shape[:2], np.float32))


def _row(name, attribute):
    return Component(name=name, summary=name, factory=f"sloppyplug:{attribute}")


@hookimpl
def faceblur_detectors():
    return [_row("everywhere", "Everywhere")]


@hookimpl
def faceblur_obfuscators():
    return [_row("leaky", "Leaky")]


@hookimpl
def faceblur_anonymizers():
    return [_row("shrinker", "Shrinker")]
