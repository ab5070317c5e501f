"""What a row of a tensor is computed by: the parameters of each kernel, worked out as TensorFlow Lite does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faceblur_core.mcu.graph import Graph, Operator, Tensor, UnsupportedOperator, fixed_point, scaled

Rows = tuple[int, int]  #: the first and the last row that are read; may lie outside of the tensor
Table = tuple[int, ...]  #: 256 int8 values, of -128 first


@dataclass(frozen=True, slots=True)
class Window:
    """How far a kernel looks: its height and width, the step from one output to the next, and the padding at top and left."""

    height: int
    width: int
    step_y: int
    step_x: int
    top: int
    left: int

    def rows(self, row: int) -> Rows:
        """Return the input rows of an output row."""
        first = row * self.step_y - self.top
        return first, first + self.height - 1


@dataclass(frozen=True, slots=True, eq=False)
class Requantization:
    """From 32-bit sums to int8: ``clamp(sum * multiplier * 2 ** (shift - 31) + zero)`` for each output channel."""

    bias: NDArray[np.int32]  #: with the input's zero point folded in
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]
    zero: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Load:
    """A row of the frame, its pixels filled up with zeros to ``channels`` of the buffer."""

    def rows(self, row: int) -> Rows:
        """Return none: it reads the frame."""
        return row, row


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """CONV_2D: weights output x height x width x input."""

    window: Window
    weights: NDArray[np.int8]
    out: Requantization

    def rows(self, row: int) -> Rows:
        """Return the input rows of an output row."""
        return self.window.rows(row)


@dataclass(frozen=True, slots=True, eq=False)
class Depthwise:
    """DEPTHWISE_CONV_2D: weights height x width x output, ``multiplier`` outputs for each input channel."""

    window: Window
    weights: NDArray[np.int8]
    multiplier: int
    out: Requantization

    def rows(self, row: int) -> Rows:
        """Return the input rows of an output row."""
        return self.window.rows(row)


@dataclass(frozen=True, slots=True, eq=False)
class TransposeConv:
    """TRANSPOSE_CONV whose windows do not overlap: each pixel becomes factor x factor of them.

    ``weights`` is height x width x output x input, ``outs`` holds one requantization for each of height x width.
    """

    factor: int
    weights: NDArray[np.int8]
    outs: tuple[tuple[Requantization, ...], ...]

    def rows(self, row: int) -> Rows:
        """Return the input row of an output row."""
        return row // self.factor, row // self.factor


@dataclass(frozen=True, slots=True)
class Pool:
    """MAX_POOL_2D and AVERAGE_POOL_2D; what lies outside of the picture does not count."""

    kind: Literal["max", "average"]
    window: Window
    low: int
    high: int

    def rows(self, row: int) -> Rows:
        """Return the input rows of an output row."""
        return self.window.rows(row)


@dataclass(frozen=True, slots=True)
class Add:
    """ADD of two tensors of the same shape: zero points and fixed-point factors of both inputs and the output."""

    zeros: tuple[int, int]
    factors: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    zero: int
    low: int
    high: int

    def rows(self, row: int) -> Rows:
        """Return the row itself."""
        return row, row


@dataclass(frozen=True, slots=True)
class Copy:
    """A row as it is; a table, if the step has one, is all that changes it."""

    def rows(self, row: int) -> Rows:
        """Return the row itself."""
        return row, row


@dataclass(frozen=True, slots=True)
class Pad:
    """PAD and PADV2: rows at the top, columns at the left, channels in front, and a value to fill up with."""

    top: int
    left: int
    front: int
    value: int

    def rows(self, row: int) -> Rows:
        """Return the input row of an output row."""
        return row - self.top, row - self.top


@dataclass(frozen=True, slots=True)
class Resize:
    """RESIZE_NEAREST_NEIGHBOR: which input row and column each output row and column takes."""

    from_row: tuple[int, ...]
    from_column: tuple[int, ...]

    def rows(self, row: int) -> Rows:
        """Return the input row of an output row."""
        return self.from_row[row], self.from_row[row]


Kernel = Load | Conv | Depthwise | TransposeConv | Pool | Add | Copy | Pad | Resize

_ACTIVATIONS = {0: (None, None), 1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}  # none, RELU, RELU_N1_TO_1, RELU6


def clamp_range(operator: Operator, out: Tensor) -> tuple[int, int]:
    """Return the int8 range that an operator's fused activation leaves. :raises UnsupportedOperator: if it is no ReLU"""
    code = operator.options.get("fusedActivationFunction", 0)
    if code not in _ACTIVATIONS:
        raise UnsupportedOperator(f"{operator} has a fused activation (number {code}) that is no ReLU")
    low, high = _ACTIVATIONS[code]
    at_least = -128 if low is None else max(-128, quantized(low, out))
    return at_least, 127 if high is None else min(127, quantized(high, out))


def quantized(value: float, tensor: Tensor) -> int:
    """Return a real value as a tensor's integer, rounded half away from zero, not clamped."""
    ratio = float(np.float32(value) / np.float32(tensor.scale))
    return tensor.zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))


def window_of(operator: Operator, source: Tensor, kernel: tuple[int, int], out: Tensor) -> Window:
    """Return the window of a convolution or pooling; padding SAME puts the odd pixel to the bottom and right."""
    if operator.options.get("dilationHFactor", 1) != 1 or operator.options.get("dilationWFactor", 1) != 1:
        raise UnsupportedOperator(f"{operator} is dilated")
    steps = operator.options["strideH"], operator.options["strideW"]
    before = [0, 0]
    for axis, (size, made) in enumerate(zip(source.shape[1:3], out.shape[1:3], strict=True)):
        same = operator.options["padding"] == 0
        if made != (-(-size // steps[axis]) if same else (size - kernel[axis]) // steps[axis] + 1):
            raise UnsupportedOperator(f"{operator} makes {out.shape} of {source.shape}, which does not follow")
        if same:
            before[axis] = max(0, (made - 1) * steps[axis] + kernel[axis] - size) // 2
    return Window(*kernel, *steps, *before)


def requantization(
    operator: Operator, source: Tensor, weights: Tensor, sums: NDArray[np.int64], bias: Tensor | None, out: Tensor
) -> Requantization:
    """Return how sums become the output's int8 values.

    :param sums: for each output channel, the sum of the weights that any output pixel sees
    """
    count = len(sums)
    if len(weights.scales) not in (1, count) or weights.zero_points.any():
        raise UnsupportedOperator(f"{operator} has weights that are not quantized symmetrically")
    given = np.zeros(count, np.int64) if bias is None or bias.data is None else bias.data.astype(np.int64)
    scales = np.broadcast_to(weights.scales, (count,))
    factors = [fixed_point(source.scale * float(scale) / out.scale) for scale in scales]
    low, high = clamp_range(operator, out)
    folded = given - source.zero_point * sums
    return Requantization(
        ((folded + (1 << 31)) % (1 << 32) - (1 << 31)).astype(np.int32),
        np.array([multiplier for multiplier, _ in factors], np.int32),
        np.array([shift for _, shift in factors], np.int8),
        out.zero_point,
        low,
        high,
    )


def add_of(operator: Operator, a: Tensor, b: Tensor, out: Tensor) -> Add:
    """Return the parameters of ADD: inputs are shifted left by 20 bits and scaled to twice the larger scale."""
    twice = 2.0 * max(a.scale, b.scale)
    factors = (fixed_point(a.scale / twice), fixed_point(b.scale / twice), fixed_point(twice / ((1 << 20) * out.scale)))
    return Add((a.zero_point, b.zero_point), factors, out.zero_point, *clamp_range(operator, out))


def resize_of(operator: Operator, source: Tensor, out: Tensor) -> Resize:
    """Return the parameters of RESIZE_NEAREST_NEIGHBOR, computed in float32 as TensorFlow Lite does."""
    corners, half = bool(operator.options.get("alignCorners")), bool(operator.options.get("halfPixelCenters"))

    def nearest(size: int, target: int) -> tuple[int, ...]:
        ends = corners and target > 1
        scale = np.float32(size - 1) / np.float32(target - 1) if ends else np.float32(size) / np.float32(target)
        position = (np.arange(target, dtype=np.float32) + np.float32(0.5 if half else 0)) * np.float32(scale)
        index = np.floor(position.astype(np.float64) + 0.5) if corners else np.floor(position)  # exact: below a half goes down
        return tuple(int(value) for value in np.clip(index, 0, size - 1))

    return Resize(nearest(source.shape[1], out.shape[1]), nearest(source.shape[2], out.shape[2]))


def table_of(operator: Operator, graph: Graph) -> Table:
    """Return the table of an operator with one int8 input, each of whose outputs depends on one input alone."""
    source, out = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    values = range(-128, 128)
    if operator.kind == "LOGISTIC":
        return _logistic_table(operator, source, out)
    if operator.kind == "RELU6":  # keeps the scale
        low, high = source.zero_point, quantized(6.0, source)
        return tuple(min(max(value, low), high) for value in values)
    multiplier, shift = fixed_point(source.scale / out.scale)
    least = max(-128, out.zero_point) if operator.kind == "RELU" else -128
    return tuple(max(least, _clamp(scaled(value - source.zero_point, multiplier, shift) + out.zero_point)) for value in values)


TABLES = ("QUANTIZE", "LOGISTIC", "RELU", "RELU6")  #: the operators that are tables


def _logistic_table(operator: Operator, source: Tensor, out: Tensor) -> Table:
    if (out.scale, out.zero_point) != (1 / 256, -128):
        raise UnsupportedOperator(f"{operator} has an output whose scale and zero point are not 1/256 and -128")
    multiplier, shift = fixed_point(source.scale * (1 << 27))
    radius = math.floor(15 * 2.0 ** (27 - shift))

    def output(value: int) -> int:
        if abs(value) >= radius:
            return 127 if value > 0 else -128
        return min(_shifted(_logistic(scaled(value, multiplier, shift)), 23) - 128, 127)

    return tuple(output(value - source.zero_point) for value in range(-128, 128))


def _logistic(x: int) -> int:
    """Return 1 / (1 + exp(-x)) as tflite-micro works it out in integers: x has 27 binary places, what comes out has 31."""
    if x == 0:
        return 1 << 30
    half = (_exponential(-abs(x)) + (1 << 31)) // 2
    found = _fixed(48 / 17, 29) + _times(half, _fixed(-32 / 17, 29))  # of 1 / half by Newton's method, 29 places
    for _ in range(3):
        found += 4 * _times(found, (1 << 29) - _times(half, found))
    positive = min(2 * found, (1 << 31) - 1)
    return positive if x > 0 else (1 << 31) - 1 - positive


def _exponential(x: int) -> int:
    """Return exp(x) for x < 0, places as above: a series for what is left of a quarter, times a constant for each bit."""
    rest = x % (1 << 25) - (1 << 25)
    y = 16 * rest + (1 << 28)  # from the middle, -1/8, on; 31 places
    y2 = _times(y, y)
    series = _shifted(_times(_shifted(_times(y2, y2), 2) + _times(y2, y), _fixed(1 / 3, 31)) + y2, 1)
    middle = _fixed(math.exp(-1 / 8), 31)
    found = middle + _times(middle, y + series)
    for exponent in range(-2, 4):
        if (rest - x) >> (27 + exponent) & 1:
            found = _times(found, _fixed(math.exp(-(2.0**exponent)), 31))
    return found


def _fixed(value: float, places: int) -> int:
    return round(value * (1 << places))


def _times(a: int, b: int) -> int:
    """Return the product of two numbers of which one has 31 binary places."""
    return scaled(a, b, 0)


def _shifted(value: int, places: int) -> int:
    return scaled(value, 1 << 31, -places)


def _clamp(value: int) -> int:
    return min(max(value, -128), 127)
