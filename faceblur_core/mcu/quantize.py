"""Full-int8 networks by post-training quantization: int8 in, int8 out, int8 in between."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.mcu.equalize import equalized
from faceblur_core.mcu.graph import parse, self_contained
from faceblur_core.types import Floats


def quantize(model: bytes, inputs: Iterable[Floats]) -> bytes:
    """Return a float .tflite file as full int8: weights per channel, activations per tensor, by the ranges seen on ``inputs``.

    Made by ai-edge-quantizer's static recipe after :mod:`equalization <faceblur_core.mcu.equalize>`; min and max of
    activations are moving averages over the inputs, in their order, those of the input itself the smallest and the largest value.

    :param model: float, one input of a static shape, one output
    :param inputs: arrays of that shape, float32; some dozens of typical ones
    :raises MissingDependency: if the packages of the extra ``mcu`` are not installed
    :raises FaceblurError: if the model or an input does not fit, or there is no input
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import quantizer, recipe
    except ImportError as error:
        raise MissingDependency(f"quantizing needs {error.name or error}: install faceblur-core[mcu]") from None
    try:
        signatures = Interpreter(model_content=model).get_signature_list()
    except (ValueError, RuntimeError) as error:
        raise FaceblurError(f"this is no TensorFlow Lite model: {' '.join(str(error).split())[:150]}") from None
    if len(signatures) != 1 or len((signature := next(iter(signatures.items())))[1]["inputs"]) != 1:
        raise FaceblurError("only networks with one signature and one input can be quantized")
    name, parts = signature
    batches = list(inputs)
    if not batches:
        raise FaceblurError("quantizing needs at least one picture to see the ranges of the activations on")
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():  # a progress bar, and advice about memory
            warnings.simplefilter("ignore")
            model = equalized(model, batches)
            worker = quantizer.Quantizer(model, recipe.static_wi8_ai8())
            samples = [{parts["inputs"][0]: batch} for batch in batches]
            seen = _whole_input(worker.calibrate({name: samples}, num_threads=1), model, batches)
            return self_contained(bytes(worker.quantize(seen, enable_progress_report=False).quantized_model))
    except (ValueError, RuntimeError) as error:
        raise FaceblurError(f"the network cannot be quantized: {' '.join(str(error).split())[:150]}") from None


def _whole_input(seen: dict[str, Any], model: bytes, batches: Sequence[Floats]) -> dict[str, Any]:
    """Return the calibration with the input's whole range: a moving average would clip a photo's white."""
    graph = parse(model)
    entry = seen[graph.tensors[graph.inputs[0]].name]
    entry["min"] = np.full_like(entry["min"], min(batch.min() for batch in batches))
    entry["max"] = np.full_like(entry["max"], max(batch.max() for batch in batches))
    return seen
