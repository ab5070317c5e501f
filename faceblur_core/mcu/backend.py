"""The backend ``mcu``: exactly what a board computes, by the C code that is generated for it, compiled for this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from faceblur_core.errors import FaceblurError
from faceblur_core.mcu.codegen import generate
from faceblur_core.mcu.graph import Graph, parse
from faceblur_core.mcu.host import HostNetwork
from faceblur_core.mcu.pictures import quantized
from faceblur_core.mcu.plan import plan
from faceblur_core.mcu.source import read_model
from faceblur_core.types import Floats, Predictor, option


@dataclass
class Mcu:
    """Full-int8 .tflite files as the C that ``faceblur export-mcu`` writes; needs a C compiler."""

    recompute: Literal["r0", "r1"] = option("r0", "r1: as on a board with little RAM; the outputs are the same")
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)
    by_name_only: ClassVar[bool] = True

    def load(self, path: Path) -> Predictor:
        """Return the network as a function of N x H x W x C float32 arrays.

        :raises FaceblurError: if the file is missing, is no full-int8 network, or no C can be generated for it
        :raises MissingDependency: if there is no C compiler, or the extra ``mcu`` is not installed
        """
        graph = parse(read_model(path))
        if len(graph.outputs) != 1:
            raise FaceblurError(f"{path} has {len(graph.outputs)} outputs; it should have one")
        made = plan(graph, self.recompute)
        return _Compiled(graph, HostNetwork(generate(made, path.name), made), path)

    def to_tflite(self, path: Path) -> bytes:
        """Raise: what this backend runs is quantized already. :raises FaceblurError: always"""
        raise FaceblurError(f"{path} is quantized already; quantization starts from a float model")


@dataclass
class _Compiled:
    graph: Graph
    network: HostNetwork
    path: Path

    def __call__(self, batch: Floats) -> Floats:
        source, out = self.graph.tensors[self.graph.inputs[0]], self.graph.tensors[self.graph.outputs[0]]
        if batch.ndim != 4 or batch.shape[1:] != source.shape[1:]:
            raise FaceblurError(f"{self.path} takes N x {' x '.join(map(str, source.shape[1:]))}, not {batch.shape}")
        frames = [self.network(frame).reshape(out.shape[1:]) for frame in quantized(self.graph, batch)]
        return np.asarray((np.stack(frames).astype(np.float32) - out.zero_point) * np.float32(out.scale), np.float32)
