"""The teacher's side of distillation (Hinton et al., 2015): load it, and let it speak once about every photo."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np

from faceblur_core.errors import FaceblurError
from faceblur_unet.architecture import build_variant
from faceblur_unet.config import SIZE
from faceblur_unet.data import Pairs, Pictures


def load_network(path: Path, variant: str) -> keras.Model:
    """Return the network in a ``.keras`` file, or a new one of that variant with the weights of a ``.weights.h5`` file.

    :raises FaceblurError: if the file is missing, is no such file, or holds another kind of network
    """
    if not path.is_file():
        raise FaceblurError(f"no model file {path}")
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


def with_teacher(pairs: Pairs, teacher: keras.Model) -> Pairs:
    """Return the pairs with the teacher's outputs, rounded to 8 bits: a step is below what training's noise hides."""
    return dataclasses.replace(pairs, teacher=outputs(teacher, pairs.photos))


def outputs(model: keras.Model, photos: Pictures, batch_size: int = 64) -> Pictures:
    """Return what a network makes of N x S x S x 3 uint8 photos, as uint8."""
    results = np.empty_like(photos)
    for first in range(0, len(photos), batch_size):
        part = photos[first : first + batch_size].astype(np.float32) / 255
        results[first : first + batch_size] = np.rint(model.predict_on_batch(part) * 255)
    return results
