"""Write a blur-degree network as an ONNX file: from PyTorch's exporter, stripped of all that only it needs.

Weights of convolutions and matrices are stored as float16 and cast to float32 when the file is loaded. What the file says of
itself: ``kind``, ``parameters``, ``backbone``, ``margin`` of the squares, ``protected_from``, the degree of protected faces.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import helper, numpy_helper

from faceblur_blurdegree.crop import SIZE
from faceblur_blurdegree.meter import KIND
from faceblur_blurdegree.network import Degree, DegreeNetwork
from faceblur_core.training.onnx_files import load_model, save_compact


def save_onnx(network: DegreeNetwork, path: Path, *, threshold: float, margin: float, half: bool = True) -> None:
    """Write the network: ``face``, N x 3 x 112 x 112 in 0..1, to ``degree``, N x 1.

    :param threshold: degree from which a face is protected; nan: none is known
    :param half: store the weights in 16 bits; the network still computes in 32
    """
    model = _exported(Degree(network).eval().cpu())
    said = {
        "kind": KIND,
        "parameters": str(sum(one.numel() for one in network.parameters())),
        "backbone": str(network.shape["backbone"]),
        "margin": f"{margin:g}",
        **({} if math.isnan(threshold) else {"protected_from": f"{threshold:.5f}"}),
    }
    del model.metadata_props[:]
    helper.set_model_props(model, said)
    save_compact(model, path, half=half)


def onnx_weights(path: Path) -> dict[str, torch.Tensor] | None:
    """Return the weights in a file that :func:`save_onnx` wrote, by their names in the network; None if it is another's file.

    They are in 16 bits there, and of networks with batch normalisation not all.

    :raises FaceblurError: if it is no ONNX file
    """
    model = load_model(path)
    if {entry.key: entry.value for entry in model.metadata_props}.get("kind") != KIND:
        return None
    found = {}
    for one in model.graph.initializer:
        name = one.name.removeprefix("network.").removesuffix("_16")
        if name != one.name:
            found[name] = torch.from_numpy(np.array(numpy_helper.to_array(one), np.float32))
    return found


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
