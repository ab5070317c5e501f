"""Int8 networks by NumPy, as TensorFlow Lite defines them: what the generated C is compared with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from faceblur_core.mcu.graph import Graph, Operator, Tensor


def run(graph: Graph, frame: np.ndarray) -> np.ndarray:
    """Return the bytes of all outputs, one after another."""
    values: dict[int, Any] = {index: tensor.data for index, tensor in enumerate(graph.tensors)}
    values[graph.inputs[0]] = np.asarray(frame).reshape(graph.tensors[graph.inputs[0]].shape)
    for operator in graph.operators:
        tensors = [graph.tensors[index] if index >= 0 else None for index in operator.inputs]
        given = [values[index] if index >= 0 else None for index in operator.inputs]
        out = graph.tensors[operator.outputs[0]]
        result = _OPERATORS[operator.kind](operator, tensors, given, out)
        assert result.shape == out.shape, operator
        values[operator.outputs[0]] = np.clip(result, -128, 127).astype(np.int8)
    return np.concatenate([values[index].ravel() for index in graph.outputs])


def rescale(sums: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    """Multiply by real factors in fixed point, with both roundings."""

    def one(value: int, real: float) -> int:
        mantissa, shift = math.frexp(real)
        multiplier = round(math.floor(mantissa * 2**31 + 0.5))
        if multiplier == 2**31:
            multiplier, shift = multiplier // 2, shift + 1
        if real == 0 or shift < -31:
            return 0
        product = (value << max(shift, 0)) * multiplier
        high = (product + 2**30) // 2**31
        if shift >= 0:
            return high
        half = 2 ** (-shift - 1)
        return (abs(high) + half) // 2**-shift * (1 if high >= 0 else -1)  # half away from zero

    return np.frompyfunc(one, 2, 1)(np.asarray(sums, object), np.asarray(factor, np.float64)).astype(np.int64)


def _act(operator: Operator, out: Tensor, values: np.ndarray) -> np.ndarray:
    code = operator.options.get("fusedActivationFunction", 0)
    low = out.zero_point if code in (1, 3) else -128
    high = out.zero_point + int(np.floor(np.float32(6) / np.float32(out.scale) + 0.5)) if code == 3 else 127
    return np.clip(values, max(low, -128), min(high, 127))


def _padded(operator: Operator, x: np.ndarray, kernel: tuple[int, int], out: Tensor, value: float) -> np.ndarray:
    pads = []
    for axis, step in enumerate((operator.options["strideH"], operator.options["strideW"])):
        total = (out.shape[1 + axis] - 1) * step + kernel[axis] - x.shape[1 + axis]
        before = max(total, 0) // 2 if operator.options["padding"] == 0 else 0
        pads.append((before, max(total - before, 0)))
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _windows(operator: Operator, x: np.ndarray, kernel: tuple[int, int], out: Tensor, value: float) -> np.ndarray:
    """Return H x W x kernel height x kernel width x channels."""
    padded = _padded(operator, x, kernel, out, value)[0]
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (0, 1)).transpose(0, 1, 3, 4, 2)
    windows = windows[:: operator.options["strideH"], :: operator.options["strideW"]]
    return windows[: out.shape[1], : out.shape[2]]


def _factors(source: Tensor, weights: Tensor, out: Tensor) -> np.ndarray:
    return source.scale * weights.scales.astype(np.float64) / out.scale


def _conv(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    x, weights = given[0].astype(np.int64) - tensors[0].zero_point, given[1].astype(np.int64)
    windows = _windows(operator, x, weights.shape[1:3], out, 0)
    sums = np.einsum("hwijc,oijc->hwo", windows, weights) + (given[2] if len(given) > 2 else 0)
    return _act(operator, out, rescale(sums, _factors(tensors[0], tensors[1], out)) + out.zero_point)[None]


def _depthwise(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    x, weights = given[0].astype(np.int64) - tensors[0].zero_point, given[1].astype(np.int64)
    windows = np.repeat(_windows(operator, x, weights.shape[1:3], out, 0), weights.shape[3] // x.shape[3], axis=4)
    sums = (windows * weights[0]).sum((2, 3)) + given[2]
    return _act(operator, out, rescale(sums, _factors(tensors[0], tensors[1], out)) + out.zero_point)[None]


def _transpose_conv(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    x, weights = given[2].astype(np.int64) - tensors[2].zero_point, given[1].astype(np.int64)
    spread = np.einsum("hwc,oijc->hiwjo", x[0], weights).reshape(out.shape)
    sums = spread + (given[3] if len(given) > 3 else 0)
    return rescale(sums, _factors(tensors[2], tensors[1], out)) + out.zero_point


def _max_pool(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    kernel = operator.options["filterHeight"], operator.options["filterWidth"]
    windows = _windows(operator, given[0].astype(np.int64), kernel, out, -1000)
    return _act(operator, out, windows.max((2, 3)))[None]


def _average_pool(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    kernel = operator.options["filterHeight"], operator.options["filterWidth"]
    sums = _windows(operator, given[0].astype(np.int64), kernel, out, 0).sum((2, 3))
    counts = _windows(operator, np.ones_like(given[0], np.int64), kernel, out, 0).sum((2, 3))
    rounded = (np.abs(sums) + counts // 2) // counts * np.sign(sums)
    return _act(operator, out, rounded)[None]


def _add(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    twice = 2 * max(tensor.scale for tensor in tensors)
    shifted = [(x.astype(np.int64) - t.zero_point) << 20 for x, t in zip(given, tensors, strict=True)]
    total = sum(rescale(x, t.scale / twice) for x, t in zip(shifted, tensors, strict=True))
    return _act(operator, out, rescale(np.asarray(total), twice / (2**20 * out.scale)) + out.zero_point)


def _quantize(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    return rescale(given[0].astype(np.int64) - tensors[0].zero_point, tensors[0].scale / out.scale) + out.zero_point


def _relu(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    return np.maximum(_quantize(operator, tensors, given, out), out.zero_point)


def _relu6(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    six = tensors[0].zero_point + int(np.floor(np.float32(6) / np.float32(tensors[0].scale) + 0.5))
    return np.clip(given[0].astype(np.int64), tensors[0].zero_point, six)


def _logistic(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    real = (given[0].astype(np.float64) - tensors[0].zero_point) * tensors[0].scale
    return np.floor(1 / (1 + np.exp(-real)) / out.scale + 0.5).astype(np.int64) + out.zero_point


def _pad(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    value = int(given[2].ravel()[0]) if len(given) > 2 else out.zero_point
    return np.pad(given[0].astype(np.int64), given[1].reshape(4, 2), constant_values=value)


def _resize(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    def indices(size: int, target: int) -> np.ndarray:
        corners, half = operator.options["alignCorners"], operator.options["halfPixelCenters"]
        scale = np.float32(size - 1) / np.float32(target - 1) if corners and target > 1 else np.float32(size) / np.float32(target)
        found = (np.arange(target, dtype=np.float32) + np.float32(0.5 * half)) * scale
        return np.clip(np.floor(found.astype(np.float64) + (0.5 if corners else 0)), 0, size - 1).astype(int)

    rows, columns = (indices(given[0].shape[axis], out.shape[axis]) for axis in (1, 2))
    return given[0][:, rows][:, :, columns]


def _concatenate(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    return np.concatenate(given, axis=operator.options["axis"])


def _reshape(operator: Operator, tensors: list[Any], given: list[Any], out: Tensor) -> np.ndarray:
    return given[0].reshape(out.shape)


_OPERATORS = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "MAX_POOL_2D": _max_pool,
    "AVERAGE_POOL_2D": _average_pool,
    "ADD": _add,
    "QUANTIZE": _quantize,
    "RELU": _relu,
    "RELU6": _relu6,
    "LOGISTIC": _logistic,
    "PAD": _pad,
    "PADV2": _pad,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "CONCATENATION": _concatenate,
    "RESHAPE": _reshape,
}
