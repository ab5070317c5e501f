"""The teacher's side of distillation (Hinton et al., 2015): load it, and let it speak once about every photo."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np

from faceblur_core.backends import load_network as load_predictor
from faceblur_core.errors import FaceblurError
from faceblur_core.mcu.graph import parse
from faceblur_core.types import Predictor
from faceblur_unet.architecture import build_variant
from faceblur_unet.config import SIZE
from faceblur_unet.data import Pairs, Pictures

#: operators of TensorFlow Lite with a kernel, and how its axes become those of Keras
AXES = {"CONV_2D": (1, 2, 3, 0), "TRANSPOSE_CONV": (1, 2, 0, 3)}


def load_network(path: Path, variant: str) -> keras.Model:
    """Return the network in a ``.keras`` file, or a new one of that variant with the weights of another file.

    The other is a ``.weights.h5`` file, or a float ``.tflite`` file that was made of that variant, as those that ship.

    :raises FaceblurError: if the file is missing, is no such file, or holds another kind of network
    """
    if not path.is_file():
        raise FaceblurError(f"no model file {path}")
    if path.suffix == ".tflite":
        return _from_tflite(path, variant)
    try:
        if path.suffix == ".keras":
            model = keras.saving.load_model(path, compile=False)
        else:
            model = build_variant(variant)
            model.load_weights(path)
    except Exception as error:  # zip, HDF5, JSON and Keras each have their own
        reason = " ".join(str(error).split())[:150]
        raise FaceblurError(f"{path} is no .keras file, nor .weights.h5 file of {variant}: {reason}") from None
    if model.input_shape != (None, SIZE, SIZE, 3) or model.output_shape != model.input_shape:
        raise FaceblurError(f"{path} is a network from {model.input_shape} to {model.output_shape}, no U-Net for {SIZE} pixels")
    return model


def _from_tflite(path: Path, variant: str) -> keras.Model:
    graph, model = parse(path.read_bytes()), build_variant(variant)
    found = [operator for operator in graph.operators if operator.kind in AXES]
    layers = [layer for layer in model.layers if layer.weights]
    try:
        for operator, layer in zip(found, layers, strict=True):
            constants = [graph.tensors[index].data for index in operator.inputs if graph.tensors[index].dtype == "float32"]
            kernel, bias = (values for values in constants if values is not None)
            layer.set_weights([kernel.transpose(AXES[operator.kind]), bias])
    except ValueError:
        raise FaceblurError(f"{path} is no float .tflite file of {variant}") from None
    return model


def load_teacher(path: Path) -> Predictor:
    """Return the network in a file that a student listens to.

    Keras' own files are checked to be U-Nets; any other is for the installed backends.

    :raises FaceblurError: as :func:`load_network`, or if no backend reads the file
    """
    if path.suffix in (".keras", ".h5"):
        return load_network(path, "teacher").predict_on_batch
    return load_predictor(path)


def with_teacher(pairs: Pairs, teacher: Predictor) -> Pairs:
    """Return the pairs with the teacher's outputs, rounded to 8 bits: a step is below what training's noise hides.

    :raises FaceblurError: if the teacher does not give pictures of the size that it is given
    """
    return dataclasses.replace(pairs, teacher=outputs(teacher, pairs.photos))


def outputs(teacher: Predictor, photos: Pictures, batch_size: int = 64) -> Pictures:
    """Return what a network makes of N x S x S x 3 uint8 photos, as uint8."""
    results = np.empty_like(photos)
    for first in range(0, len(photos), batch_size):
        part = photos[first : first + batch_size].astype(np.float32) / 255
        made = teacher(part)
        if made.shape != part.shape:
            raise FaceblurError(f"the teacher gives {made.shape} for {part.shape}; it is no U-Net of faceblur")
        results[first : first + batch_size] = np.rint(np.clip(made, 0, 1) * 255)
    return results
