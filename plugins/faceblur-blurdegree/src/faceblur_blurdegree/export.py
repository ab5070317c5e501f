"""Write a blur-degree network as an ONNX file: from PyTorch's exporter, stripped of all that only it needs.

Weights of convolutions and matrices are stored as float16 and cast to float32 when the file is loaded. What the file says of
itself: ``kind``, ``parameters``, ``backbone``, ``margin`` of the squares, ``protected_from``, the degree of protected faces.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from faceblur_blurdegree.crop import SIZE
from faceblur_blurdegree.meter import KIND
from faceblur_blurdegree.network import Degree, DegreeNetwork


def save_onnx(network: DegreeNetwork, path: Path, *, threshold: float, margin: float, half: bool = True) -> None:
    """Write the network: ``face``, N x 3 x 112 x 112 in 0..1, to ``degree``, N x 1.

    :param threshold: degree from which a face is protected; nan: none is known
    :param half: store the weights in 16 bits; the network still computes in 32
    """
    model = _exported(Degree(network).eval().cpu())
    _strip(model)
    if half:
        _halve(model.graph)
    said = {
        "kind": KIND,
        "parameters": str(sum(one.numel() for one in network.parameters())),
        "backbone": str(network.shape["backbone"]),
        "margin": f"{margin:g}",
        **({} if math.isnan(threshold) else {"protected_from": f"{threshold:.5f}"}),
    }
    del model.metadata_props[:]
    helper.set_model_props(model, said)
    onnx.checker.check_model(model)
    partial = path.with_name(f".{path.name}")
    onnx.save_model(model, partial)
    os.replace(partial, path)


def _exported(network: Degree) -> Any:
    batch = torch.export.Dim("N", min=1, max=4096)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it says what it is about to do
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            network,
            (torch.zeros(2, 3, SIZE, SIZE),),
            input_names=["face"],
            output_names=["degree"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    return program.model_proto


def _strip(model: Any) -> None:
    """Take away names of files and lines of code, of which each node has some."""
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


def _halve(graph: Any) -> None:
    """Store all that is a float32 matrix or larger as float16, and cast it back."""
    casts = []
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            continue
        graph.initializer[index].CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_16"))
        casts.append(helper.make_node("Cast", [f"{name}_16"], [name], name=f"Cast_{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
