"""The int8 network behind a method or in a file, and input frames for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceblur_core.backends import make_backend
from faceblur_core.errors import FaceblurError, MissingDependency, UsageMistake
from faceblur_core.mcu.graph import parse
from faceblur_core.mcu.halves import quantizable
from faceblur_core.mcu.pictures import frames, pixels
from faceblur_core.mcu.quantize import quantize
from faceblur_core.types import Floats, HasNetwork, Image


@dataclass(frozen=True, eq=False)
class Int8Network:
    """A full-int8 network and frames to try it on."""

    name: str
    model: bytes  #: .tflite
    frames: Sequence[NDArray[np.int8]]


def from_component(name: str, component: HasNetwork, photos: Iterable[Image], count: int) -> Int8Network:
    """Return a component's network: its int8 file if it has one, else its float network quantized on the photos.

    :param count: of frames
    :raises FaceblurError: if the network cannot be lowered or quantized
    """
    batches: Iterable[Floats] = (component.network_inputs(photo) for photo in photos)
    model = int8_model(component)
    if model is None:
        batches = list(batches)
        model = quantize(float_model(component), one_by_one(batches))
    return Int8Network(name, model, frames(parse(model), batches, count))


def float_model(component: HasNetwork) -> bytes:
    """Return a component's float network as a .tflite file that can be quantized.

    :raises FaceblurError: if its backend cannot make one, or it is quantized in part
    """
    path = component.network_file
    if path.suffix == ".tflite" and not (graph := parse(model := read_model(path))).is_int8():
        graph.check_float()
        return quantizable(model)  # networks with several outputs too, which backends do not run
    return quantizable(make_backend(path).to_tflite(path))


def one_by_one(batches: Iterable[Floats]) -> list[Floats]:
    """Return batches of one, as quantizing takes them."""
    return [batch[index : index + 1] for batch in batches for index in range(len(batch))]


def int8_model(component: HasNetwork) -> bytes | None:
    """Return the content of a component's int8 file, or None if it has none."""
    if component.quantized_file is not None:
        return read_model(component.quantized_file)
    if component.network_file.suffix == ".tflite":
        model = read_model(component.network_file)
        if parse(model).is_int8():
            return model
    return None


def from_file(path: Path, photos: Iterable[Image], count: int) -> Int8Network:
    """Return the network in a .tflite file; photos are fitted into its input, a float model is quantized on them.

    :param count: of frames
    :raises UsageMistake: if there is no such file, or it does not take a picture
    :raises FaceblurError: if it is no .tflite file, or quantized in part
    """
    model = read_model(path)
    try:
        graph = parse(model)
    except MissingDependency:
        raise
    except FaceblurError as error:
        raise FaceblurError(f"{path}: {error.message}") from None
    shape = graph.tensors[graph.inputs[0]].shape if len(graph.inputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise UsageMistake(f"{path} does not take one picture of a fixed size (1 x H x W x C); make it anew with such an input")
    batches = [pixels(photo, (shape[1], shape[2], shape[3])) for photo in photos]
    if not graph.is_int8():
        graph.check_float()
        model = quantize(quantizable(model), batches)
    name = path.stem.encode(errors="replace").decode()  # it is written into the sources
    return Int8Network(name, model, frames(parse(model), batches, count))


def read_model(path: Path) -> bytes:
    """Return a file's content. :raises FaceblurError: if it cannot be read"""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FaceblurError(f"{path}: {error.strerror}") from None
