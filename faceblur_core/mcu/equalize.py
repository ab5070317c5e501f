"""The same network in numbers that int8 holds better: cross-layer equalization (Nagel et al., ICCV 2019).

An int8 activation has one scale for all its channels, so a channel with a small range is left with few of the 256 values. A
convolution's output channel may be multiplied by a factor as long as whatever reads it divides by that factor: a ReLU
between the two changes nothing. So every channel is stretched to the range of the widest one. Channels that a concatenation puts
side by side share a scale too, and are stretched together: without that the skips of a U-Net lose most of a photo's shades.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.mcu.graph import Graph, Operator, parse, with_constants
from faceblur_core.types import Floats

_CONVOLUTIONS = ("CONV_2D", "TRANSPOSE_CONV")
_PASSING = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESIZE_NEAREST_NEIGHBOR", "RELU")  #: channels stay what they are
_NO_ACTIVATION, _RELU = 0, 1  #: ActivationFunctionType: those that commute with a positive factor

Channel = tuple[int, int]  #: (index of the convolution, output channel of it)


def equalized(model: bytes, inputs: Iterable[Floats]) -> bytes:
    """Return a float .tflite file that computes the same, with the channels of its activations stretched to equal ranges.

    Only between convolutions; any other operator that reads an activation leaves it as it is.

    :param inputs: arrays of the input's shape, float32, to see the ranges on
    :raises FaceblurError: if it is no .tflite file
    """
    graph = parse(model)
    carried = _carried(graph)
    free = _free(graph, carried)
    if not free:
        return model
    ranges = _ranges(model, free, inputs)
    groups = _groups(free, carried)
    factors = {}
    for index, own in ranges.items():
        widest = max(float(ranges[other].max()) for other in ranges if groups[other] == groups[index])
        factors[index] = np.divide(widest, own, out=np.ones_like(own), where=own > widest * 1e-4)  # others: as good as dead
    return with_constants(model, _rescaled(graph, carried, factors))


def _carried(graph: Graph) -> dict[int, list[Channel]]:
    """Return for each tensor that is made of convolutions' output channels, which they are, in order."""
    carried: dict[int, list[Channel]] = {}
    for operator in graph.operators:
        output = operator.outputs[0]
        if operator.kind in _CONVOLUTIONS:
            carried[output] = [(operator.index, channel) for channel in range(graph.tensors[output].shape[-1])]
        elif operator.kind in _PASSING and operator.inputs[0] in carried:
            carried[output] = carried[operator.inputs[0]]
        elif operator.kind == "CONCATENATION" and all(index in carried for index in operator.inputs):
            parts = [channel for index in operator.inputs for channel in carried[index]]
            if len(parts) == graph.tensors[output].shape[-1]:
                carried[output] = parts
    return carried


def _free(graph: Graph, carried: Mapping[int, Sequence[Channel]]) -> list[Operator]:
    """Return the convolutions whose output channels may have factors."""
    convolutions = [operator for operator in graph.operators if operator.kind in _CONVOLUTIONS]

    uses = Counter(index for operator in graph.operators for index in operator.inputs)

    def settled(operator: Operator) -> bool:
        """Return whether a convolution sees all channels, and its weights and bias are its own, and known."""
        constants = [(index, graph.tensors[index]) for index in (operator.inputs[1], _bias(operator)) if index >= 0]
        grouped = graph.tensors[operator.inputs[1]].shape[-1] != graph.tensors[_activation(operator)].shape[-1]
        return not grouped and all(
            uses[index] == 1 and tensor.dtype == "float32" and tensor.data is not None for index, tensor in constants
        )

    def divides(operator: Operator, index: int) -> bool:
        if operator.kind in _CONVOLUTIONS:
            return index == _activation(operator) and settled(operator)
        return operator.outputs[0] in carried and operator.options.get("fusedActivationFunction", 0) in (_NO_ACTIVATION, _RELU)

    bound = {channel[0] for index in graph.outputs for channel in carried.get(index, ())}
    for operator in graph.operators:
        for index in operator.inputs:
            if index in carried and not divides(operator, index):
                bound.update(channel[0] for channel in carried[index])
        if operator.options.get("fusedActivationFunction", 0) not in (_NO_ACTIVATION, _RELU):
            bound.add(operator.index)
    bound.update(operator.index for operator in convolutions if not settled(operator))
    return [operator for operator in convolutions if operator.index not in bound]


def _activation(operator: Operator) -> int:
    """Return the tensor that a convolution reads, beside its weights and bias."""
    return operator.inputs[2 if operator.kind == "TRANSPOSE_CONV" else 0]


def _bias(operator: Operator) -> int:
    where = 3 if operator.kind == "TRANSPOSE_CONV" else 2
    return operator.inputs[where] if len(operator.inputs) > where else -1


def _ranges(model: bytes, convolutions: Sequence[Operator], inputs: Iterable[Floats]) -> dict[int, NDArray[Any]]:
    """Return the largest absolute value of each output channel of the convolutions over all inputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    where = interpreter.get_input_details()[0]["index"]
    largest: dict[int, NDArray[Any]] = {}
    for values in inputs:
        interpreter.set_tensor(where, values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # preserving all tensors is for debugging only
            interpreter.invoke()
        for operator in convolutions:
            seen = np.abs(interpreter.get_tensor(operator.outputs[0])).max(axis=(0, 1, 2)).astype(np.float64)
            largest[operator.index] = np.maximum(seen, largest.get(operator.index, 0))
    return largest


def _groups(convolutions: Sequence[Operator], carried: Mapping[int, Sequence[Channel]]) -> dict[int, int]:
    """Return a group for each convolution: those whose channels meet in one tensor are in the same."""
    groups = {operator.index: operator.index for operator in convolutions}
    for channels in carried.values():
        met = {groups[index] for index, _ in channels if index in groups}
        groups = {index: min(met) if group in met else group for index, group in groups.items()}
    return groups


def _rescaled(
    graph: Graph, carried: Mapping[int, Sequence[Channel]], factors: Mapping[int, NDArray[Any]]
) -> dict[int, NDArray[Any]]:
    """Return the new weights and biases, by tensor."""
    constants: dict[int, NDArray[Any]] = {}
    for operator in graph.operators:
        if operator.kind not in _CONVOLUTIONS:
            continue
        channels = carried.get(_activation(operator), ())
        if operator.index not in factors and not any(index in factors for index, _ in channels):
            continue
        weights = np.asarray(graph.tensors[operator.inputs[1]].data, np.float64)  # filters x height x width x channels
        before = np.array([factors[index][channel] if index in factors else 1 for index, channel in channels] or 1)
        after = factors.get(operator.index, np.ones(len(weights)))
        constants[operator.inputs[1]] = weights * after[:, None, None, None] / before
        if _bias(operator) >= 0:
            constants[_bias(operator)] = np.asarray(graph.tensors[_bias(operator)].data, np.float64) * after
    return constants
