"""Small full-int8 networks for the tests of the export to microcontrollers, built without any framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SAME, VALID = 0, 1
NONE, RELU, RELU6 = 0, 1, 3


class ModelBuilder:
    """Collects tensors and operators and packs them into a .tflite file."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: Sequence[int],
        scale: float | Sequence[float] = 0.1,
        zero: int = 0,
        data: np.ndarray | None = None,
        name: str = "",
        axis: int = 0,
    ) -> int:
        """Add a tensor, int8 unless its data is something else; return its index."""
        record = schema.TensorT()
        dtype = "int8" if data is None else str(data.dtype)
        record.shape = np.array(shape, np.int32)
        record.type = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32, "float32": schema.TensorType.FLOAT32}[
            dtype
        ]
        record.name = name or f"layer{len(self.graph.tensors)}/out"
        record.quantization = schema.QuantizationParametersT()
        scales = [scale] if isinstance(scale, float) else list(scale)
        if dtype != "float32":
            record.quantization.scale = np.array(scales, np.float32)
            record.quantization.zeroPoint = np.array([zero] * len(scales), np.int64)
            record.quantization.quantizedDimension = axis
        record.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            record.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(record)
        return len(self.graph.tensors) - 1

    def op(self, kind: str, inputs: Sequence[int], output: int, options: str = "", **values: Any) -> int:
        """Add an operator; return its output."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 1 if kind != "RESIZE_NEAREST_NEIGHBOR" else 3
        self.model.operatorCodes.append(code)
        record = schema.OperatorT()
        record.opcodeIndex = len(self.model.operatorCodes) - 1
        record.inputs, record.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if options:
            record.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            record.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in values.items():
                assert hasattr(record.builtinOptions, name), name
                setattr(record.builtinOptions, name, value)
        self.graph.operators.append(record)
        return output

    def build(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the .tflite file."""
        self.graph.inputs, self.graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [], []
        for name, indices, maps in (("input", inputs, signature.inputs), ("output", outputs, signature.outputs)):
            for number, index in enumerate(indices):
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = f"{name}{number}", index
                maps.append(entry)
        self.model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def to_float(self) -> None:
        """Turn all tensors so far into float32 ones of the same values."""
        for record in self.graph.tensors:
            if record.type == schema.TensorType.FLOAT32 or not len(record.quantization.scale):
                continue
            if record.buffer:
                dtype = np.int8 if record.type == schema.TensorType.INT8 else np.int32
                buffer = self.model.buffers[record.buffer]
                values = np.frombuffer(buffer.data.tobytes(), dtype).reshape(record.shape)
                scales = np.asarray(record.quantization.scale)
                shape = [-1 if axis == record.quantization.quantizedDimension else 1 for axis in range(values.ndim)]
                buffer.data = np.frombuffer((values * scales.reshape(shape)).astype("<f4").tobytes(), np.uint8)
            record.type, record.quantization = schema.TensorType.FLOAT32, None

    def conv(
        self,
        rng: np.random.Generator,
        source: int,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        padding: int = SAME,
        activation: int = RELU,
        scale: float = 0.1,
        zero: int = -128,
        name: str = "",
    ) -> int:
        """Add CONV_2D with random weights and bias."""
        shape = self.graph.tensors[source].shape
        weights = rng.integers(-127, 128, (channels, *kernel, shape[3]), np.int8)
        inputs = [source, *self.weights_and_bias(rng, weights, source, channels, 0)]
        out = self.tensor((1, *_size(shape, kernel, stride, padding), channels), scale, zero, name=name)
        return self.op(
            "CONV_2D",
            inputs,
            out,
            "Conv2DOptions",
            padding=padding,
            strideH=stride[0],
            strideW=stride[1],
            fusedActivationFunction=activation,
        )

    def depthwise(
        self,
        rng: np.random.Generator,
        source: int,
        multiplier: int = 1,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        padding: int = SAME,
        activation: int = NONE,
        scale: float = 0.1,
        zero: int = 0,
    ) -> int:
        """Add DEPTHWISE_CONV_2D with random weights and bias."""
        shape = self.graph.tensors[source].shape
        channels = int(shape[3]) * multiplier
        weights = rng.integers(-127, 128, (1, *kernel, channels), np.int8)
        inputs = [source, *self.weights_and_bias(rng, weights, source, channels, 3)]
        out = self.tensor((1, *_size(shape, kernel, stride, padding), channels), scale, zero)
        return self.op(
            "DEPTHWISE_CONV_2D",
            inputs,
            out,
            "DepthwiseConv2DOptions",
            padding=padding,
            strideH=stride[0],
            strideW=stride[1],
            depthMultiplier=multiplier,
            fusedActivationFunction=activation,
        )

    def transpose_conv(
        self,
        rng: np.random.Generator,
        source: int,
        channels: int,
        factor: int = 2,
        scale: float = 0.1,
        zero: int = 3,
        *,
        bias: bool = True,
    ) -> int:
        """Add TRANSPOSE_CONV whose windows do not overlap."""
        shape = self.graph.tensors[source].shape
        target = (1, shape[1] * factor, shape[2] * factor, channels)
        weights = rng.integers(-127, 128, (channels, factor, factor, shape[3]), np.int8)
        constants = self.weights_and_bias(rng, weights, source, channels, 0)
        sizes = self.tensor((4,), [], data=np.array(target, np.int32))
        out = self.tensor(target, scale, zero)
        inputs = [sizes, constants[0], source, *(constants[1:] if bias else [])]
        return self.op("TRANSPOSE_CONV", inputs, out, "TransposeConvOptions", padding=VALID, strideH=factor, strideW=factor)

    def weights_and_bias(
        self, rng: np.random.Generator, weights: np.ndarray, source: int, channels: int, axis: int
    ) -> tuple[int, int]:
        """Add the constants of a convolution with a scale for each output channel."""
        scales = rng.uniform(0.0005, 0.01, channels).astype(np.float32)
        given = float(self.graph.tensors[source].quantization.scale[0])
        bias = rng.integers(-3000, 3000, channels).astype(np.int32)
        return (
            self.tensor(weights.shape, scales.tolist(), 0, weights, axis=axis),
            self.tensor((channels,), (scales * given).tolist(), 0, bias),
        )

    def pool(
        self,
        kind: str,
        source: int,
        kernel: tuple[int, int] = (2, 2),
        stride: tuple[int, int] = (2, 2),
        padding: int = VALID,
        activation: int = NONE,
    ) -> int:
        """Add MAX_POOL_2D or AVERAGE_POOL_2D."""
        record = self.graph.tensors[source]
        scale, zero = float(record.quantization.scale[0]), int(record.quantization.zeroPoint[0])
        out = self.tensor((1, *_size(record.shape, kernel, stride, padding), record.shape[3]), scale, zero)
        return self.op(
            kind,
            [source],
            out,
            "Pool2DOptions",
            padding=padding,
            filterHeight=kernel[0],
            filterWidth=kernel[1],
            strideH=stride[0],
            strideW=stride[1],
            fusedActivationFunction=activation,
        )

    def like(self, kind: str, source: int, scale: float, zero: int, options: str = "", **values: Any) -> int:
        """Add an operator with one input and an output of its shape."""
        return self.op(kind, [source], self.tensor(self.graph.tensors[source].shape, scale, zero), options, **values)

    def concatenate(self, sources: Sequence[int], axis: int = 3) -> int:
        """Add CONCATENATION."""
        record = self.graph.tensors[sources[0]]
        shape = [int(size) for size in record.shape]
        shape[axis] = sum(int(self.graph.tensors[source].shape[axis]) for source in sources)
        out = self.tensor(shape, float(record.quantization.scale[0]), int(record.quantization.zeroPoint[0]))
        return self.op("CONCATENATION", list(sources), out, "ConcatenationOptions", axis=axis)


def _size(shape: Sequence[int], kernel: tuple[int, int], stride: tuple[int, int], padding: int) -> tuple[int, int]:
    if padding == SAME:
        return -(-int(shape[1]) // stride[0]), -(-int(shape[2]) // stride[1])
    return (int(shape[1]) - kernel[0]) // stride[0] + 1, (int(shape[2]) - kernel[1]) // stride[1] + 1


def small_unet(
    size: int = 16, filters: Sequence[int] = (4, 8), seed: int = 0, *, floats: bool = False, residual: bool = False
) -> bytes:
    """Return a U-Net of the same operators as ours, size x size x 3 in and out, full int8 or float; residual: photo added."""
    rng = np.random.default_rng(seed)
    model = ModelBuilder()
    photo = x = model.tensor((1, size, size, 3), 1 / 255, -128, name="photo")
    skips = []
    for level, channels in enumerate(filters):
        x = model.conv(rng, x, channels, scale=0.01, name=f"encoder{level}_conv1/Relu;encoder{level}_conv1/BiasAdd")
        x = model.conv(rng, x, channels, scale=0.02, name=f"encoder{level}_conv2/Relu")
        skips.append(x)
        x = model.pool("MAX_POOL_2D", x)
    x = model.conv(rng, x, 2 * filters[-1], scale=0.05, name="bottleneck/Relu")
    for level, channels in reversed(list(enumerate(filters))):
        x = model.transpose_conv(rng, x, channels, scale=0.06, zero=5)
        skip = skips[level] if floats else model.like("QUANTIZE", skips[level], 0.06, 5, "QuantizeOptions")
        x = model.concatenate([x, skip])
        x = model.conv(rng, x, channels, scale=0.07, name=f"decoder{level}_conv/Relu")
    x = model.conv(rng, x, 3, (1, 1), activation=NONE, scale=0.05, zero=7)
    x = model.like("LOGISTIC", x, 1 / 256, -128)
    if residual:
        x = model.op("ADD", [photo, x], model.tensor((1, size, size, 3), 1 / 128, -128), "AddOptions")
    if floats:
        model.to_float()
    return model.build([photo], [x])
