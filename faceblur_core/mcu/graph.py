"""A ``.tflite`` file as small records: tensors, their quantization, operators."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError, MissingDependency


class UnsupportedOperator(FaceblurError):
    """The network has an operator, or a form of one, for which no C can be generated."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of a graph."""

    name: str
    shape: tuple[int, ...]  #: of the graph's inputs -1 where a size other than that of the batch is not fixed
    dtype: str  #: NumPy's name of it
    scales: NDArray[np.float32]  #: one, or one per channel, or none
    zero_points: NDArray[np.int64]  #: as many
    data: NDArray[Any] | None  #: a constant's values; None: computed

    @property
    def scale(self) -> float:
        """The scale of a tensor that has one. :raises FaceblurError: if it is not quantized as a whole"""
        if len(self.scales) != 1:
            raise FaceblurError(f"tensor {self.name!r} is not quantized with one scale; a full-int8 model is needed")
        return float(self.scales[0])

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor that has one, else 0."""
        return int(self.zero_points[0]) if len(self.zero_points) else 0


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator of a graph."""

    index: int  #: its place in the file
    kind: str  #: TensorFlow Lite's name of it, such as ``CONV_2D``
    inputs: tuple[int, ...]  #: tensors; -1: an optional one that is not there
    outputs: tuple[int, ...]
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"operator {self.index} ({self.kind})"


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network: operators in the order in which they run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def only_input(self) -> Tensor:
        """Return the input. :raises FaceblurError: if there is not just one, or its size is not fixed"""
        if len(self.inputs) != 1:
            raise FaceblurError(f"the network has {len(self.inputs)} inputs; those with one can be exported")
        found = self.tensors[self.inputs[0]]
        if min(found.shape, default=1) < 1:
            size = " x ".join("?" if size < 0 else str(size) for size in found.shape)
            raise FaceblurError(f"the network's input is {size}; make the file anew with a fixed size")
        return found

    def is_int8(self) -> bool:
        """Return whether everything that goes in and comes out is int8."""
        return all(self.tensors[index].dtype == "int8" for index in (*self.inputs, *self.outputs))

    def check_float(self) -> None:
        """:raises FaceblurError: if what the network computes is quantized already: only its ends are not int8"""
        ends = {self.tensors[index].dtype for index in (*self.inputs, *self.outputs)} - {"int8"}
        if any(tensor.data is None and tensor.dtype in ("int8", "uint8") for tensor in self.tensors):
            raise FaceblurError(
                f"the network is quantized already, with input or output of {' and '.join(sorted(ends))}; "
                "convert it anew with both of int8, or as a float network"
            )

    def counted(self) -> dict[str, int]:
        """Return how often each kind of operator occurs, sorted by name."""
        kinds = sorted(operator.kind for operator in self.operators)
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


_DTYPES = {"FLOAT32": "float32", "FLOAT16": "float16", "INT32": "int32", "INT64": "int64", "INT16": "int16"} | {
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


_LARGEST = 1 << 26  # values in one tensor; none of a microcontroller's networks comes near


def parse(model: bytes) -> Graph:
    """Return the graph in a .tflite file with one subgraph.

    :raises FaceblurError: if it is no such file
    :raises MissingDependency: if the extra ``mcu`` is not installed
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingDependency(f"reading .tflite files needs {error.name or error}: install faceblur-core[mcu]") from None
    if model[4:8] != b"TFL3":
        raise FaceblurError("this is no .tflite file")
    try:
        content = schema.ModelT.InitFromPackedBuf(model, 0)
        if len(content.subgraphs) != 1:
            raise FaceblurError(f"the model has {len(content.subgraphs)} subgraphs; networks with one can be exported")
        return _graph(content, schema, model)
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError) as error:
        raise FaceblurError(f"this .tflite file is damaged: {' '.join(str(error).split())[:150]}") from None
    except Exception as error:  # struct.error, and flatbuffers' own
        raise error if isinstance(error, FaceblurError) else FaceblurError(f"this .tflite file is damaged: {error}") from None


def _graph(content: Any, schema: Any, model: bytes) -> Graph:
    body = content.subgraphs[0]
    dtypes = {value: _DTYPES[name] for name, value in vars(schema.TensorType).items() if name in _DTYPES}
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    inputs = _indices(body.inputs)

    def tensor(index: int, record: Any) -> Tensor:
        shape = _indices(record.shape)
        signature = _indices(record.shapeSignature)
        if index in inputs and len(signature) == len(shape):
            shape = (*shape[:1], *(-1 if size == -1 else fixed for fixed, size in zip(shape[1:], signature[1:], strict=True)))
        dtype = dtypes.get(record.type, "")
        stored = _stored(content.buffers[record.buffer], model)
        data = None
        if stored and dtype and record.sparsity is None:
            data = np.frombuffer(stored, dtype).reshape(shape)
        quantization = record.quantization
        scales = None if quantization is None else quantization.scale
        zeros = None if quantization is None else quantization.zeroPoint
        return Tensor(
            bytes(record.name or b"").decode(errors="replace"),
            shape,
            dtype,
            np.asarray([] if scales is None else scales, np.float32),
            np.asarray([] if zeros is None else zeros, np.int64),
            data,
        )

    def operator(index: int, record: Any) -> Operator:
        code = content.operatorCodes[record.opcodeIndex]
        kind = kinds.get(max(code.builtinCode, code.deprecatedBuiltinCode), "UNKNOWN")
        if kind == "CUSTOM":
            kind = f"CUSTOM {bytes(code.customCode or b'').decode(errors='replace')}"
        options = dict(vars(record.builtinOptions)) if record.builtinOptions is not None else {}
        return Operator(index, kind, _indices(record.inputs), _indices(record.outputs), MappingProxyType(options))

    graph = Graph(
        tuple(tensor(index, record) for index, record in enumerate(body.tensors)),
        tuple(operator(index, record) for index, record in enumerate(body.operators)),
        inputs,
        _indices(body.outputs),
    )
    _check(graph)
    return graph


def _check(graph: Graph) -> None:
    """Raise ValueError for what no converter writes: indices, shapes and zero points out of range."""
    used = [index for operator in graph.operators for index in (*operator.inputs, *operator.outputs)]
    if not all(-1 <= index < len(graph.tensors) for index in (*used, *graph.inputs, *graph.outputs)):
        raise ValueError("an operator's tensor is not there")
    if min((*graph.inputs, *graph.outputs), default=-1) < 0 or any(min(o.outputs, default=-1) < 0 for o in graph.operators):
        raise ValueError("the graph, or an operator, has no output")
    for tensor in graph.tensors:
        if math.prod(max(size, 1) for size in tensor.shape) > _LARGEST:
            raise ValueError(f"tensor {tensor.name!r} has the shape {tensor.shape}")
        if tensor.dtype == "int8" and not all(-128 <= zero <= 127 for zero in tensor.zero_points):
            raise ValueError(f"tensor {tensor.name!r} has a zero point that is no int8")
        if not (np.isfinite(tensor.scales) & (tensor.scales > 0)).all():
            raise ValueError(f"tensor {tensor.name!r} has a scale that is not above 0")


def _stored(buffer: Any, model: bytes) -> bytes:
    """Return a buffer's content; converters put large ones behind the flatbuffer, where ``offset`` says."""
    if buffer.offset > 1:
        return model[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else bytes(bytearray(buffer.data))


def self_contained(model: bytes) -> bytes:
    """Return a .tflite file with all constants inside of the flatbuffer.

    TensorFlow Lite for Microcontrollers knows no others: it would take what lies behind the flatbuffer for missing.

    :raises FaceblurError: if it is no .tflite file
    """
    return with_constants(model, {})


def with_constants(model: bytes, constants: Mapping[int, NDArray[Any]]) -> bytes:
    """Return a .tflite file with other values of some float32 constants, by tensor, and all inside of the flatbuffer.

    :raises FaceblurError: if it is no .tflite file
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph = parse(model)
    content = schema.ModelT.InitFromPackedBuf(model, 0)
    if not constants and all(buffer.offset <= 1 for buffer in content.buffers):
        return model
    for buffer in content.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(_stored(buffer, model), np.uint8)
            buffer.offset = buffer.size = 0
    records = content.subgraphs[0].tensors
    former = {records[index].buffer for index in constants}
    for index, values in constants.items():
        tensor = graph.tensors[index]
        if tensor.data is None or tensor.dtype != "float32" or tensor.shape != values.shape:
            raise ValueError(f"tensor {tensor.name!r} is no float32 constant of the shape {values.shape}")
        buffer = schema.BufferT()  # a new one: equal constants may share theirs
        buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        records[index].buffer = len(content.buffers)
        content.buffers.append(buffer)
    for index in former - {record.buffer for record in records}:
        content.buffers[index].data = None
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _indices(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values) if values is not None else ()


def fixed_point(factor: float) -> tuple[int, int]:
    """Return (multiplier, shift) with factor = multiplier * 2 ** (shift - 31), rounded as TensorFlow Lite does."""
    if factor == 0:
        return 0, 0
    mantissa, shift = math.frexp(factor)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def scaled(value: int, multiplier: int, shift: int) -> int:
    """Return ``value`` times a factor of :func:`fixed_point`, rounded twice, half up and half away from 0."""
    left, right = max(shift, 0), max(-shift, 0)
    high = ((value << left) * multiplier + (1 << 30)) >> 31
    if not right:
        return high
    mask = (1 << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> right) + ((high & mask) > threshold)
