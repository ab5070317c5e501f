"""What a component must give back. Whoever breaks that is named, before anybody works with what came."""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from faceblur_core.errors import FaceblurError
from faceblur_core.hookspecs import Kind
from faceblur_core.types import Anonymized, Detections, Image


def detections_fault(found: object, image: Image) -> str:
    """Return what is wrong with what a detector returned; empty: nothing."""
    if not isinstance(found, Detections):
        return f"returned {type(found).__name__}, not Detections"
    return "" if found.mask is None else _array_fault("a mask", found.mask, image.shape[:2], np.float32)


def image_fault(hidden: object, image: Image) -> str:
    """Return what is wrong with what an obfuscator returned; empty: nothing."""
    return _array_fault("an image", hidden, image.shape, np.uint8)


def anonymized_fault(result: object, image: Image) -> str:
    """Return what is wrong with what a method returned; empty: nothing."""
    if not isinstance(result, Anonymized):
        return f"returned {type(result).__name__}, not Anonymized"
    faults = (
        _array_fault("an image", result.image, image.shape, np.uint8),
        _array_fault("a mask", result.mask, image.shape[:2], np.float32),
        "" if result.detections is None else detections_fault(result.detections, image),
        _info_fault(result.info),
    )
    return next(filter(None, faults), "")


def _array_fault(what: str, made: object, shape: tuple[int, ...], dtype: DTypeLike) -> str:
    wanted = f"not {shape} {np.dtype(dtype)}"
    if not isinstance(made, np.ndarray):
        return f"returned {type(made).__name__} as {what}, {wanted}"
    return "" if made.shape == shape and made.dtype == dtype else f"returned {what} {made.shape} {made.dtype}, {wanted}"


def _info_fault(info: object) -> str:
    if not isinstance(info, Mapping):
        return f"returned {type(info).__name__} as info, not a mapping"
    ms = info.get("ms") or {}
    numbers = isinstance(ms, Mapping) and all(isinstance(spent, Real) and math.isfinite(spent) for spent in ms.values())
    return "" if numbers else f"returned info['ms']={ms!r}"[:200] + ", not milliseconds by the names of stages"


#: Of each kind that is checked: what it is called with, an image first, and what finds the fault of what it returns.
CALLS: Mapping[Kind, tuple[tuple[str, ...], Callable[[object, Image], str]]] = {
    "detector": (("image",), detections_fault),
    "obfuscator": (("image", "mask"), image_fault),
    "anonymizer": (("image",), anonymized_fault),
}


@functools.cache
def checked_class(cls: type[Any], kind: Kind, who: str) -> type[Any]:
    """Return the class of a component, or one made of it whose calls raise FaceblurError where they break the kind's contract.

    :param who: how a message calls the component, such as ``detector 'haar' of plugin opencv``
    """
    if kind not in CALLS:
        return cls
    _, fault_of = CALLS[kind]

    def call(self: Any, *given: Any, **named: Any) -> Any:
        result = cls.__call__(self, *given, **named)
        if fault := fault_of(result, given[0] if given else named["image"]):
            raise FaceblurError(f"{who} {fault}")
        return result

    def fill(namespace: dict[str, Any]) -> None:
        namespace |= {"__call__": call, "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        namespace |= {"__slots__": ()}

    return types.new_class(cls.__name__, (cls,), exec_body=fill)


def call_fault(cls: type[Any], kind: Kind) -> str:
    """Return what is wrong with how a component of a class is called; empty: nothing that its signature tells."""
    if kind not in CALLS:
        return ""
    names, _ = CALLS[kind]
    if "__call__" not in dir(cls):
        return f"has no __call__({', '.join(names)})"
    try:
        inspect.signature(cls.__call__).bind("self", *names)
    except TypeError:
        return f"has no __call__({', '.join(names)})"
    except ValueError:  # its signature is not known
        pass
    return ""
