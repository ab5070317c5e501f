"""A graph as steps that each make one row: what runs, what it reads, and where its rows go.

Operators vanish where they only say where something lies: CONCATENATION of channels becomes a buffer that several steps
write to, PAD before a convolution becomes padding, QUANTIZE and LOGISTIC become tables of the step before them, RESHAPE
and CONCATENATION at the end become places in the output frame.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from faceblur_core.errors import FaceblurError
from faceblur_core.mcu.graph import Graph, Operator, Tensor, UnsupportedOperator
from faceblur_core.mcu.kernels import (
    TABLES,
    Conv,
    Copy,
    Depthwise,
    Kernel,
    Load,
    Pad,
    Pool,
    Requantization,
    Table,
    TransposeConv,
    Window,
    add_of,
    clamp_range,
    requantization,
    resize_of,
    table_of,
    window_of,
)

Edge = tuple[int, int]  #: an operator's index, and which of its inputs
_Key = tuple[int, int]  # a tensor, and in which copy of the graph: 0, or 1 + the number of a recomputed edge


@dataclass(eq=False)
class Buffer:
    """Rows of a tensor: height x (left + width + right) x channels int8, of which a few are in memory at a time."""

    name: str
    height: int
    width: int
    channels: int
    zero_point: int  #: what the columns at the left and right are filled with, and rows outside of the picture
    left: int = 0
    right: int = 0
    frame_offset: int | None = None  #: not None: the rows go to the output frame, from this byte on
    writers: list[Step] = field(default_factory=list, repr=False)
    readers: list[Step] = field(default_factory=list, repr=False)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return (self.left + self.width + self.right) * self.channels


@dataclass(eq=False)
class Step:
    """One kernel at work: each run makes the next row of ``output``, ``channels`` of them from ``channel`` on."""

    name: str
    kernel: Kernel
    inputs: tuple[Buffer, ...]
    output: Buffer
    channel: int
    channels: int
    operator: int  #: index of the operator whose constants it uses; -1: none
    table: Table | None = None  #: what its values are replaced by in the end

    def reads(self, row: int) -> list[tuple[Buffer, int, int]]:
        """Return the buffers it reads for an output row, with the first and last row of each."""
        found = []
        for buffer in self.inputs:
            first, last = self.kernel.rows(row)
            if last >= 0 and first < buffer.height:
                found.append((buffer, max(first, 0), min(last, buffer.height - 1)))
        return found

    @property
    def macs(self) -> int:
        """Multiplications in one whole picture."""
        pixels = self.output.height * self.output.width
        if isinstance(self.kernel, Conv):
            return pixels * int(self.kernel.weights.size)
        if isinstance(self.kernel, TransposeConv):
            return pixels * int(self.kernel.weights.size) // self.kernel.factor**2
        return pixels * int(self.kernel.weights.size) if isinstance(self.kernel, Depthwise) else 0


@dataclass(frozen=True, eq=False)
class RowProgram:
    """A network as steps and buffers."""

    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]  #: without those in the output frame
    tensors: Mapping[int, Buffer]  #: of them, those that hold a whole tensor, by its index; not those computed twice
    outputs: tuple[Buffer, ...]  #: those in the output frame
    input: Tensor
    output: Tensor  #: the first of the network's outputs
    output_bytes: int

    @property
    def input_bytes(self) -> int:
        """Bytes of the input frame."""
        return int(np.prod(self.input.shape))


def row_program(graph: Graph, recompute: Iterable[Edge] = ()) -> RowProgram:
    """Return a graph's steps.

    :param recompute: inputs of operators that are computed a second time for them, from the frame on, instead of being kept
    :raises UnsupportedOperator: naming the first operator that has no kernel, with its index
    :raises FaceblurError: if it is not a full-int8 network with one input of a fixed size
    """
    graph.only_input()
    known = set(graph.inputs)
    for operator in graph.operators:
        _check(operator, graph, known)
        known.update(operator.outputs)
    if not known.issuperset(graph.outputs):
        raise UnsupportedOperator("the network gives out a tensor that no operator computes")
    try:
        return _Lowering(graph, tuple(recompute)).program()
    except RecursionError:
        raise FaceblurError(f"too many of the network's {len(graph.operators)} operators follow one another") from None
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise FaceblurError(f"the network is damaged: {error!r}") from None


def _check(operator: Operator, graph: Graph, known: Collection[int]) -> None:
    if operator.kind not in _KINDS:
        raise UnsupportedOperator(f"{operator} has no kernel; those that have: {', '.join(sorted(_KINDS))}")
    for index in (*operator.inputs, *operator.outputs):
        if index >= 0 and graph.tensors[index].data is None and graph.tensors[index].dtype != "int8":
            raise UnsupportedOperator(f"{operator} works on {graph.tensors[index].dtype or 'unknown'} values; int8 is needed")
    for index in operator.inputs:
        if index >= 0 and graph.tensors[index].data is None and index not in known:
            raise UnsupportedOperator(f"{operator} works on a tensor that no operator before it computes, or a sparse constant")
    shapes = [graph.tensors[index].shape for index in operator.outputs]
    if any(shape[:1] != (1,) or min(shape) < 1 for shape in shapes):
        raise UnsupportedOperator(f"{operator} works on more than one picture at a time, or on a shape that is not fixed")
    if operator.kind in (*_ROWS, "PAD", "PADV2") and any(len(shape) != 4 for shape in shapes):
        raise UnsupportedOperator(f"{operator} makes a tensor that is no picture, 1 x H x W x C")


_ROWS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "MAX_POOL_2D", "AVERAGE_POOL_2D", "ADD", "RESIZE_NEAREST_NEIGHBOR")
_KINDS = {*_ROWS, *TABLES, "PAD", "PADV2", "CONCATENATION", "RESHAPE"}


class _Lowering:
    def __init__(self, graph: Graph, recompute: tuple[Edge, ...]) -> None:
        self.graph, self.recompute = graph, recompute
        self.producers = {index: operator for operator in graph.operators for index in operator.outputs}
        self.steps: list[Step] = []
        self.buffers: dict[_Key, Buffer] = {}
        self.frame_buffers: list[Buffer] = []
        self.names: dict[str, set[str]] = defaultdict(set)
        self.uses: dict[_Key, int] = defaultdict(int)
        self._count({(index, 0) for index in graph.outputs})

    def _count(self, wanted: set[_Key]) -> None:
        for key in wanted:
            self.uses[key] += 1
        seen: set[_Key] = set()
        while wanted:
            key = wanted.pop()
            if key in seen or key[0] not in self.producers:
                continue
            seen.add(key)
            for source in self._sources(key):
                self.uses[source] += 1
                wanted.add(source)

    def _sources(self, key: _Key) -> list[_Key]:
        """Return what the operator behind a tensor computes with, constants left out."""
        operator = self.producers[key[0]]
        found = []
        for slot, index in enumerate(operator.inputs):
            if index >= 0 and self.graph.tensors[index].data is None:
                edge = (operator.index, slot)
                found.append((index, 1 + self.recompute.index(edge) if edge in self.recompute else key[1]))
        return found

    def program(self) -> RowProgram:
        offset = 0
        for index in self.graph.outputs:
            offset += self._to_frame((index, 0), offset)
        source = self.graph.only_input()
        for buffer in self.buffers.values():
            _set_padding(buffer)
        output = self.graph.tensors[self.graph.outputs[0]]
        kept = tuple(self.buffers.values())
        tensors = {index: buffer for (index, copy), buffer in self.buffers.items() if not copy}
        return RowProgram(tuple(self.steps), kept, tensors, tuple(self.frame_buffers), source, output, offset)

    def _to_frame(self, key: _Key, offset: int, table: Table | None = None) -> int:
        """Make a tensor's values, changed by a table, go to the output frame; return how many bytes they are."""
        tensor, operator = self.graph.tensors[key[0]], self.producers.get(key[0])
        if operator is not None and self.uses[key] == 1:
            sources = self._sources(key)
            if operator.kind == "RESHAPE":
                return self._to_frame(sources[0], offset, table)
            if operator.kind in TABLES and len(tensor.shape) != 4:
                return self._to_frame(sources[0], offset, _then(table_of(operator, self.graph), table))
            if operator.kind == "CONCATENATION" and len(sources) == len(operator.inputs) and _in_sequence(operator, tensor):
                size = 0
                for source in sources:
                    size += self._to_frame(source, offset + size, table)
                return size
        buffer = self._buffer(tensor, self._name(key))
        buffer.frame_offset = offset
        self.frame_buffers.append(buffer)
        for step in self._fill(key, buffer, 0):
            step.table = _then(step.table, table)
        return buffer.height * buffer.row_bytes

    def _value(self, key: _Key) -> Buffer:
        """Return the buffer that holds a tensor."""
        if key not in self.buffers:
            tensor = self.graph.tensors[key[0]]
            buffer = self._buffer(tensor, self._name(key))
            self._write(key, buffer, 0)
            self.buffers[key] = buffer
        return self.buffers[key]

    def _fill(self, key: _Key, buffer: Buffer, channel: int) -> list[Step]:
        """Put a tensor into a part of a buffer: computed there if nothing else needs it, else copied."""
        if self.uses[key] == 1 and key[0] in self.producers:
            return self._write(key, buffer, channel)
        source = self._value(key)
        return [self._step(self._unique(f"{source.name}_copy", "step"), Copy(), (source,), buffer, channel, source.channels, -1)]

    def _write(self, key: _Key, buffer: Buffer, channel: int) -> list[Step]:
        """Make the steps that compute a tensor into a part of a buffer; return those that write it."""
        tensor, operator = self.graph.tensors[key[0]], self.producers.get(key[0])
        if operator is None:
            return [self._step(self._unique(f"load_{buffer.name}", "step"), Load(), (), buffer, channel, tensor.shape[-1], -1)]
        sources = self._sources(key)
        if operator.kind in TABLES:
            steps = self._fill(sources[0], buffer, channel)
            for step in steps:
                step.table = _then(step.table, table_of(operator, self.graph))
            return steps
        if operator.kind == "CONCATENATION":
            return self._concatenate(operator, sources, buffer, channel)
        if operator.kind == "RESHAPE":
            raise UnsupportedOperator(f"{operator} is not at the network's end")
        kernel, inputs = self._kernel(operator, sources)
        return [self._step(self._name(key, "step"), kernel, inputs, buffer, channel, tensor.shape[-1], operator.index)]

    def _concatenate(self, operator: Operator, sources: list[_Key], buffer: Buffer, channel: int) -> list[Step]:
        axis = operator.options["axis"]
        if axis not in (3, -1) or operator.options.get("fusedActivationFunction", 0):
            raise UnsupportedOperator(f"{operator} joins along axis {axis}, or has an activation; it should join channels")
        if len(sources) != len(operator.inputs):
            raise UnsupportedOperator(f"{operator} joins a constant")
        steps = []
        for source in sources:
            steps += self._fill(source, buffer, channel)
            channel += self.graph.tensors[source[0]].shape[-1]
        return steps

    def _kernel(self, operator: Operator, sources: list[_Key]) -> tuple[Kernel, tuple[Buffer, ...]]:
        tensors = [self.graph.tensors[index] if index >= 0 else None for index in operator.inputs]
        out = self.graph.tensors[operator.outputs[0]]
        source = self.graph.tensors[sources[0][0]]
        kernel: Kernel
        if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            padding, key = self._folded_padding(operator, sources[0])
            kernel = _convolution(operator, tensors, out)
            if padding:
                kernel = _moved(kernel, *padding)
            return kernel, (self._value(key),)
        if operator.kind == "ADD":
            if len(sources) != 2 or len({self.graph.tensors[key[0]].shape for key in sources}) != 1:
                raise UnsupportedOperator(f"{operator} adds tensors of different shapes, or a constant")
            kernel = add_of(operator, source, self.graph.tensors[sources[1][0]], out)
            return kernel, tuple(self._value(key) for key in sources)
        if operator.kind == "TRANSPOSE_CONV":
            kernel = _transpose_convolution(operator, tensors, out)
        elif operator.kind == "RESIZE_NEAREST_NEIGHBOR":
            kernel = resize_of(operator, source, out)
        elif operator.kind in ("PAD", "PADV2"):
            kernel = _pad(operator, tensors, out)
        else:
            size = operator.options["filterHeight"], operator.options["filterWidth"]
            kind = "max" if operator.kind == "MAX_POOL_2D" else "average"
            kernel = Pool(kind, window_of(operator, source, size, out), *clamp_range(operator, out))  # type: ignore[arg-type]
        return kernel, (self._value(sources[0]),)

    def _folded_padding(self, operator: Operator, key: _Key) -> tuple[tuple[int, int] | None, _Key]:
        """Return rows at the top and columns at the left that a PAD before a convolution adds, and what the PAD reads."""
        pad = self.producers.get(key[0])
        if pad is None or pad.kind not in ("PAD", "PADV2") or self.uses[key] != 1 or operator.options["padding"] != 1:
            return None, key
        amounts = self.graph.tensors[pad.inputs[1]].data
        if amounts is None or amounts.reshape(4, 2)[[0, 3]].any():
            return None, key
        before = self.graph.tensors[pad.inputs[0]]
        if _pad(pad, [before, *(self.graph.tensors[index] for index in pad.inputs[1:])], before).value != before.zero_point:
            return None, key
        return (int(amounts.reshape(4, 2)[1, 0]), int(amounts.reshape(4, 2)[2, 0])), self._sources(key)[0]

    def _step(
        self, name: str, kernel: Kernel, inputs: tuple[Buffer, ...], output: Buffer, channel: int, channels: int, operator: int
    ) -> Step:
        step = Step(name, kernel, inputs, output, channel, channels, operator)
        for buffer in inputs:
            buffer.readers.append(step)
        output.writers.append(step)
        self.steps.append(step)
        return step

    def _buffer(self, tensor: Tensor, name: str) -> Buffer:
        shape = tensor.shape
        if len(shape) < 2:
            raise UnsupportedOperator(f"tensor {tensor.name!r} has shape {shape}; pictures are 1 x H x W x C")
        if len(shape) != 4:
            shape = (1, 1, int(np.prod(shape[1:-1])), shape[-1])
        return Buffer(name, *shape[1:], tensor.zero_point)

    def _name(self, key: _Key, kind: str = "buffer") -> str:
        """Return a C identifier for a tensor, after the layer that made it, and unlike those before it of its kind."""
        operator = self.producers.get(key[0])
        text = self.graph.tensors[key[0]].name.split(";")[0].removesuffix("_quantized")
        parts = [part for part in re.split(r"[/:]", text) if part and not re.fullmatch(r"(Stateful)?PartitionedCall|\d+", part)]
        label = re.sub(r"[^A-Za-z0-9_]", "_", parts[0] if parts else operator.kind.lower() if operator else "photo").strip("_")[
            :40
        ]
        if not label or not label[0].isalpha():
            label = f"layer_{label}"
        label += "_again" if key[1] else ""
        return self._unique(label, kind)

    def _unique(self, label: str, kind: str) -> str:
        given, name, number = self.names[kind], label, 2
        while name in given:
            name, number = f"{label}_{number}", number + 1
        given.add(name)
        return name


def _then(first: Table | None, second: Table | None) -> Table | None:
    """Return the table of two tables, one after the other."""
    if first is None or second is None:
        return first or second
    return tuple(second[value + 128] for value in first)


def _in_sequence(operator: Operator, tensor: Tensor) -> bool:
    """Return whether the joined tensors lie one after another in memory."""
    axis = operator.options["axis"] % len(tensor.shape)
    return all(size == 1 for size in tensor.shape[:axis])


def _set_padding(buffer: Buffer) -> None:
    if isinstance(buffer.writers[0].kernel, Load) and all(isinstance(step.kernel, Conv) for step in buffer.readers):
        buffer.channels += -buffer.channels % 4  # whole words; the weights get zeros
    for step in buffer.readers:
        if isinstance(step.kernel, (Conv, Depthwise)):
            window, width = step.kernel.window, step.output.width
            buffer.left = max(buffer.left, window.left)
            buffer.right = max(buffer.right, (width - 1) * window.step_x + window.width - window.left - buffer.width)


def _convolution(operator: Operator, tensors: list[Tensor | None], out: Tensor) -> Conv | Depthwise:
    source, weights, bias = tensors[0], tensors[1], tensors[2] if len(tensors) > 2 else None
    if source is None or weights is None or weights.data is None or weights.dtype != "int8":
        raise UnsupportedOperator(f"{operator} has weights that are not int8 constants")
    values = weights.data
    window = window_of(operator, source, (values.shape[1], values.shape[2]), out)
    wide = values.astype(np.int64)
    if operator.kind == "DEPTHWISE_CONV_2D":
        result = requantization(operator, source, weights, wide.sum((0, 1, 2)), bias, out)
        return Depthwise(window, values[0], values.shape[3] // source.shape[3], result)
    if values.shape[3] != source.shape[3]:
        raise UnsupportedOperator(f"{operator} is a grouped convolution")
    return Conv(window, values, requantization(operator, source, weights, wide.sum((1, 2, 3)), bias, out))


def _moved(kernel: Conv | Depthwise, top: int, left: int) -> Conv | Depthwise:
    old = kernel.window
    window = Window(old.height, old.width, old.step_y, old.step_x, top, left)
    if isinstance(kernel, Conv):
        return Conv(window, kernel.weights, kernel.out)
    return Depthwise(window, kernel.weights, kernel.multiplier, kernel.out)


def _transpose_convolution(operator: Operator, tensors: list[Tensor | None], out: Tensor) -> TransposeConv:
    weights, source, bias = tensors[1], tensors[2], tensors[3] if len(tensors) > 3 else None
    if source is None or weights is None or weights.data is None or weights.dtype != "int8":
        raise UnsupportedOperator(f"{operator} has weights that are not int8 constants")
    height, width = weights.data.shape[1:3]
    factor = operator.options["strideH"]
    sizes = tuple(factor * size for size in source.shape[1:3])
    if not height == width == factor == operator.options["strideW"] or out.shape[1:3] != sizes:
        raise UnsupportedOperator(f"{operator} has windows that overlap; its kernel should be as large as its stride")
    sums = weights.data.astype(np.int64).sum(3)
    outs: tuple[tuple[Requantization, ...], ...] = tuple(
        tuple(requantization(operator, source, weights, sums[:, y, x], bias, out) for x in range(width)) for y in range(height)
    )
    return TransposeConv(factor, weights.data.transpose(1, 2, 0, 3), outs)


def _pad(operator: Operator, tensors: list[Tensor | None], out: Tensor) -> Pad:
    amounts = tensors[1]
    if amounts is None or amounts.data is None or amounts.data.size != 8 or amounts.data.reshape(4, 2)[0].any():
        raise UnsupportedOperator(f"{operator} pads something else than rows, columns and channels by constants")
    if amounts.data.min() < 0:
        raise UnsupportedOperator(f"{operator} cuts off instead of padding")
    (_, top, left, front) = amounts.data.reshape(4, 2)[:, 0]
    given = tensors[2] if len(tensors) > 2 else None
    value = int(given.data.ravel()[0]) if given is not None and given.data is not None else out.zero_point
    return Pad(int(top), int(left), int(front), value)
