"""The U-Net of Ronneberger et al. (MICCAI 2015), with same padding and one image out for one image in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops

from faceblur_core.types import Floats
from faceblur_unet.config import SIZE

Precision = Literal["float32", "mixed_bfloat16"]
NORM = "_norm"  #: what the name of a batch normalization has behind its convolution's

#: variant: (filters of the encoder levels, filters of the bottleneck)
VARIANTS: dict[str, tuple[tuple[int, ...], int]] = {
    "teacher": ((32, 64, 128), 256),  # 1,925,667 parameters
    "student-v0": ((8, 16, 32), 64),  # 120,843
    "student-v1": ((16, 32, 64), 128),  # 482,067
    "student-v2": ((24, 48, 96), 192),  # 1,083,675
}


def build_unet(
    filters: Sequence[int] = (32, 64, 128),
    bottleneck: int = 256,
    size: int = SIZE,
    name: str = "unet",
    precision: Precision = "float32",
    *,
    batch_norm: bool = False,
) -> keras.Model:
    """Return a new U-Net, N x size x size x 3 in 0..1 in, the same out (float32 under any precision).

    With ``batch_norm`` the convolutions below full size are followed by batch normalization (Ioffe and Szegedy, 2015), for
    training alone: :func:`fold` takes it out again. At full size it would cost a photo its colours.

    :raises ValueError: if ``size`` cannot be halved once per level
    """
    if size % 2 ** len(filters):
        raise ValueError(f"size {size} is no multiple of {2 ** len(filters)}")
    common: dict[str, Any] = {"dtype": precision, "data_format": "channels_last"}

    def convolutions(x: Any, count: int, where: str, normalized: bool) -> Any:
        for number in (1, 2):
            activation = None if normalized else "relu"
            name = f"{where}_conv{number}"
            conv = layers.Conv2D(count, 3, padding="same", activation=activation, use_bias=not normalized, name=name, **common)
            x = conv(x)
            if normalized:
                x = layers.BatchNormalization(momentum=0.95, name=name + NORM, dtype=precision)(x)
                x = layers.ReLU(name=f"{name}_relu", dtype=precision)(x)
        return x

    inputs = x = keras.Input((size, size, 3), name="photo")
    skips = []
    for level, count in enumerate(filters, 1):
        x = convolutions(x, count, f"encoder{level}", batch_norm and level > 1)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder{level}_pool", **common)(x)
    x = convolutions(x, bottleneck, "bottleneck", batch_norm)
    for level, count in reversed(list(enumerate(filters, 1))):
        x = layers.Conv2DTranspose(count, 2, strides=2, name=f"decoder{level}_up", **common)(x)
        x = layers.Concatenate(axis=-1, dtype=precision, name=f"decoder{level}_skip")([x, skips[level - 1]])
        x = convolutions(x, count, f"decoder{level}", batch_norm and level > 1)
    blurred = layers.Conv2D(3, 1, activation="sigmoid", dtype="float32", data_format="channels_last", name="blurred")
    return keras.Model(inputs, blurred(x), name=name)


def fold(trained: keras.Model, model: keras.Model) -> None:
    """Give a network without batch normalization the weights of a trained one, with or without, so that it infers the same."""
    there = {layer.name for layer in trained.layers}
    for layer in model.layers:
        weights = trained.get_layer(layer.name).get_weights() if layer.weights else []
        if layer.name + NORM in there:
            norm = trained.get_layer(layer.name + NORM)
            gamma, beta, mean, variance = norm.get_weights()
            factor = gamma / np.sqrt(variance + norm.epsilon)
            weights = [weights[0] * factor, beta - mean * factor]
        layer.set_weights(weights)


def unfold(model: keras.Model, trained: keras.Model, photos: Floats) -> None:
    """Give a network with batch normalization the weights of one without, so that it infers the same.

    The other way of :func:`fold`. Means and variances are those of the photos; scales and offsets undo them, until training
    changes them.

    :param photos: N x size x size x 3 in 0..1, some dozens
    """
    there = {layer.name for layer in trained.layers}
    normalized = [layer.name for layer in model.layers if layer.weights and layer.name + NORM in there]
    seen = keras.Model(model.input, [model.get_layer(name).input for name in normalized]).predict_on_batch(photos)
    for name, inputs in zip(normalized, seen, strict=True):
        kernel, bias = model.get_layer(name).get_weights()
        values = ops.convert_to_numpy(ops.conv(inputs, kernel, padding="same", data_format="channels_last"))
        mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
        norm = trained.get_layer(name + NORM)
        norm.set_weights([np.sqrt(variance + norm.epsilon), mean + bias, mean, variance])
        trained.get_layer(name).set_weights([kernel])
    for layer in model.layers:
        if layer.weights and layer.name not in normalized:
            trained.get_layer(layer.name).set_weights(layer.get_weights())


def start_as_copy(model: keras.Model) -> None:
    """Set a new network's weights so that it gives about its input, for most of a photo is to stay.

    The first three filters of the convolutions at full size pass red, green and blue on (Dirac initialization, Zagoruyko and
    Komodakis, 2017); the rest of the network begins with little influence.
    """
    skipped = model.get_layer("encoder1_conv2").filters
    for name in ("encoder1_conv1", "encoder1_conv2", "decoder1_conv1", "decoder1_conv2"):
        kernel, bias = model.get_layer(name).get_weights()
        first = kernel.shape[2] - skipped if name == "decoder1_conv1" else 0  # the skip comes after what is below
        kernel[..., :3] = 0
        for colour in range(3):
            kernel[1, 1, first + colour, colour] = 1
        bias[:3] = 0
        model.get_layer(name).set_weights([kernel, bias])
    kernel, bias = model.get_layer("blurred").get_weights()
    kernel *= 0.1
    kernel[0, 0, :3] = 4.6 * np.eye(3)  # sigmoid(4.6 x - 2.3) is about x
    model.get_layer("blurred").set_weights([kernel, bias - 2.3])


def build_variant(variant: str, precision: Precision = "float32", *, batch_norm: bool = False) -> keras.Model:
    """Return a new network of one of the ``VARIANTS``. :raises KeyError: if there is none of that name."""
    filters, bottleneck = VARIANTS[variant]
    return build_unet(filters, bottleneck, name=variant.replace("-", "_"), precision=precision, batch_norm=batch_norm)
