"""Components that break their contracts, each in its own way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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


def _found(image, mask):
    return Detections(np.array([[0, 0, *image.shape[1::-1]]]), np.ones(1), mask=mask)


@dataclass
class NanMask:
    def __call__(self, image):
        return _found(image, np.full(image.shape[:2], np.nan, np.float32))


@dataclass
class EmptyMask:
    def __call__(self, image):
        return _found(image, np.zeros(image.shape[:2], np.float32))


@dataclass
class Nothing:
    def __call__(self, image, mask):
        return image.copy()


@dataclass
class Shares:
    """A box in shares of the picture's sides, not in pixels."""

    def __call__(self, image):
        return Detections(np.array([[0.2, 0.1, 0.8, 0.9]]), np.ones(1))


@dataclass
class Transposed:
    """Two boxes by columns."""

    def __call__(self, image):
        return Detections(np.array([[60, 60, 160, 160], [100, 100, 140, 140]]).T, np.ones(2))


@dataclass
class Pathological:
    """Hides, and has an option that JSON does not know."""

    folder: Path = option(Path("somewhere"), "a folder")

    def __call__(self, image, mask):
        return np.where(mask[..., None] > 0, 255 - image, image).astype(np.uint8)


@dataclass
class Flat:
    """A box without height beside a good one."""

    def __call__(self, image):
        return Detections(np.array([[60, 60, 60, 200], [100, 100, 140, 140]]), np.ones(2))


@dataclass
class InPlace:
    def __call__(self, image, mask):
        image[mask > 0] = 0
        return image


@dataclass
class Quitter:
    def __call__(self, image, mask):
        raise SystemExit(7)


@dataclass
class Moody:
    def __post_init__(self):
        raise ValueError("bad mood")


@dataclass
class Shrinker:
    def __call__(self, image):
        return Anonymized(image[1:], np.zeros(image.shape[:2], np.float32))


@dataclass
class Half:
    """Hides what is in the left half of the picture."""

    def __call__(self, image, mask):
        hidden = image.copy()
        hidden[:, : image.shape[1] // 2][mask[:, : image.shape[1] // 2] > 0] = 0
        return hidden


@dataclass
class Careless:
    def __call__(self, image):
        return {}["nothing"]


@dataclass
class Fileless:
    def __call__(self, image):
        return open("/nowhere/to/be/found")


@dataclass
class Listless:
    model_files = None

    def __call__(self, image):
        return Detections.none()


@dataclass
class Unchanged:
    def __call__(self, image):
        return Anonymized(image, np.ones(image.shape[:2], np.float32))


@dataclass
class Tupled:
    def __call__(self, image):
        return [[60, 60, 160, 200]], [1.0]


@dataclass
class Uncalled:
    def __call__(self):
        return Detections.none()


@dataclass
class Forgetful:
    def __call__(self, image, mask):
        image = image.copy()
        image[mask > 0] = 0


@dataclass
class Bare:
    def __call__(self, image):
        return image


@dataclass
class Odd:
    """Returns what the rest of faceblur cannot work with."""

    what: str = option("info", "the part that is wrong")

    def __call__(self, image):
        parts = {"info": {}, "detections": None, "mask": np.ones(image.shape[:2], np.float32)}
        wrong = {"info": None, "ms": ("info", {"ms": {"find": "long"}}), "detections": np.zeros((0, 4)), "mask": None}[self.what]
        name, value = wrong if isinstance(wrong, tuple) else (self.what, wrong)
        return Anonymized(255 - image, **{**parts, name: value})


@dataclass
class Particular:
    """Finds nothing, and has options of uncommon kinds."""

    side: int = option(..., "must be given")
    level: Literal[1, 2, 3] = option(1, "a number of a list")
    table: dict[str, int] = option({}, "numbers by name")

    def __call__(self, image):
        assert (self.side, self.level, self.table) == (4, 2, {"a": 1}), self
        return Detections.none()


class Panic(BaseException):
    """What libraries in Rust raise is no Exception."""


@dataclass
class Panicking:
    def __call__(self, image):
        print("about to panic")
        raise Panic("no way on")

    def close(self):
        raise Panic("no way out")


def _row(name, attribute):
    return Component(name=name, summary=name, factory=f"sloppyplug:{attribute}")


@hookimpl
def faceblur_detectors():
    explosive = Component(name="explosive", summary="explosive", factory="sloppyplug_explosive:Explosive")
    return [
        _row("everywhere", "Everywhere"),
        _row("moody", "Moody"),
        _row("nanmask", "NanMask"),
        _row("emptymask", "EmptyMask"),
        _row("flat", "Flat"),
        _row("shares", "Shares"),
        _row("transposed", "Transposed"),
        _row("careless", "Careless"),
        _row("listless", "Listless"),
        _row("fileless", "Fileless"),
        _row("tupled", "Tupled"),
        _row("uncalled", "Uncalled"),
        _row("particular", "Particular"),
        _row("panicking", "Panicking"),
        explosive,
    ]


@hookimpl
def faceblur_obfuscators():
    return [_row(name.lower(), name) for name in ("Leaky", "InPlace", "Nothing", "Quitter", "Pathological", "Half", "Forgetful")]


@hookimpl
def faceblur_anonymizers():
    return [_row(name.lower(), name) for name in ("Shrinker", "Unchanged", "Bare", "Odd")]
