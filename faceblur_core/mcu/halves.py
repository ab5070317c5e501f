"""Float .tflite files as the quantizer takes them: no 16-bit constants behind DEQUANTIZE, and a signature."""

from __future__ import annotations

from typing import Any

import numpy as np

from faceblur_core.mcu.graph import parse


def quantizable(model: bytes) -> bytes:
    """Return a float model with its 16-bit float constants widened to 32 bits, and with a signature if it has none.

    MediaPipe's models are of that kind. Others come back as they are.

    :raises FaceblurError: if it is no .tflite file
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph = parse(model)
    content: Any = schema.ModelT.InitFromPackedBuf(model, 0)
    body = content.subgraphs[0]
    for code in content.operatorCodes:  # older files have it only in the other field, which the quantizer does not read
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    widened = set()
    for operator in graph.operators:
        if operator.kind == "DEQUANTIZE" and (values := graph.tensors[operator.inputs[0]].data) is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
            body.tensors[operator.outputs[0]].buffer = len(content.buffers)
            content.buffers.append(buffer)
            widened.add(operator.index)
    if not widened and content.signatureDefs:
        return model
    _drop_unused(body, content, widened)
    if not content.signatureDefs:
        content.signatureDefs = [_signature(schema, graph.inputs, graph.outputs)]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _drop_unused(body: Any, content: Any, widened: set[int]) -> None:
    """Leave out the operators that were widened, and empty the 16-bit constants that only they read."""
    halves = {int(body.operators[index].inputs[0]) for index in widened}
    body.operators = [record for index, record in enumerate(body.operators) if index not in widened]
    halves -= {int(index) for record in body.operators for index in record.inputs}
    freed = {body.tensors[index].buffer for index in halves}
    for index in halves:
        body.tensors[index].buffer = 0  # the empty one
        body.tensors[index].shape = np.zeros(1, np.int32)
    for index in freed - {record.buffer for record in body.tensors}:
        content.buffers[index].data = None


def _signature(schema: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Any:
    def named(prefix: str, indices: tuple[int, ...]) -> list[Any]:
        maps = []
        for number, index in enumerate(indices):
            record = schema.TensorMapT()
            record.name, record.tensorIndex = f"{prefix}{number}", index
            maps.append(record)
        return maps

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = named("input", inputs), named("output", outputs)
    return signature
