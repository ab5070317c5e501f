"""ONNX files as small as they can be: what only an exporter needs taken away, weights in 16 bits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core.errors import FaceblurError
from faceblur_core.training.report import replace


def load_model(path: Path) -> Any:
    """Return the ``onnx.ModelProto`` in a file.

    :raises FaceblurError: if it is no ONNX file
    """
    import onnx

    try:
        return onnx.load(str(path))
    except Exception as error:  # the parser of protocol buffers has its own
        raise FaceblurError(f"{path} is no ONNX file ({type(error).__name__})") from None


def save_compact(model: Any, path: Path, *, half: bool = True, least: int = 0) -> None:
    """Write an ``onnx.ModelProto``, which is changed, whole. What it says of itself (``metadata_props``) stays.

    :param half: store weights of convolutions and matrices as float16, cast to float32 when the file is loaded
    :param least: those of fewer values stay as they are
    """
    import onnx

    _strip(model)
    if half:
        _halve(model.graph, least)
    onnx.checker.check_model(model)
    replace(path, lambda partial: onnx.save_model(model, partial))


def _strip(model: Any) -> None:
    """Take away names of files and lines of code, of which exporters give some to each node."""
    model.producer_name, model.producer_version, model.doc_string = "faceblur", "", ""
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]


def _halve(graph: Any, least: int) -> None:
    """Store all that is a float32 matrix or larger, of ``least`` values or more, as float16, and cast it back."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or math.prod(tensor.dims) < least:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        graph.initializer[index].CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_16"))
        casts.append(helper.make_node("Cast", [f"{name}_16"], [name], name=f"Cast_{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
