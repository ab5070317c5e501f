"""Backends: ``onnx`` runs ONNX files on ONNX Runtime, ``torch`` runs the trainer's .pt files and lowers them to .tflite."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Le

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.types import Floats, Predictor, option

COLOURS = (1, 3, 4)  #: sizes of an axis that can be the channels of a picture


@dataclass
class Onnx:
    """ONNX models with one input and one output, both float32.

    The file may want N x C x H x W or N x H x W x C: the axis of 1, 3 or 4 is the channels. Pictures are given and taken
    with the channels last.
    """

    threads: Annotated[int, Ge(1), Le(64)] = option(1, "threads of the session")
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def load(self, path: Path) -> Predictor:
        """Return the network as a function of N x H x W x C float32 arrays.

        :raises FaceblurError: if the file is missing or no such model
        """
        import onnxruntime

        path = Path(path)
        if not path.is_file():
            raise FaceblurError(f"no model file {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has a dozen kinds of its own
            raise FaceblurError(f"{path} is no ONNX model: {_short(error)}") from None
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise FaceblurError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; it should have one of each")
        if inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            raise FaceblurError(f"{path} takes {inputs[0].type} of shape {inputs[0].shape}, no float32 pictures")
        parameters = session.get_modelmeta().custom_metadata_map.get("parameters")
        first = inputs[0].shape[1] in COLOURS
        return _Session(session, inputs[0].name, first, path, int(parameters) if parameters else None)

    def to_tflite(self, path: Path) -> bytes:
        """:raises FaceblurError: always; the ``.pt`` file beside an ONNX file of ours has a way there"""
        raise FaceblurError(f"{path}: the backend onnx has no way to .tflite; give the .pt file that it was made from")


@dataclass
class _Session:
    session: Any
    input: str
    channels_first: bool
    path: Path
    parameters: int | None  #: of files that say it, as ours do

    def __call__(self, batch: Floats) -> Floats:
        given = batch.transpose(0, 3, 1, 2) if self.channels_first and batch.ndim == 4 else batch
        try:
            result = self.session.run(None, {self.input: np.ascontiguousarray(given, np.float32)})[0]
        except Exception as error:
            raise FaceblurError(f"{self.path} does not take an input of {batch.shape}: {_short(error)}") from None
        return np.asarray(_channels_last(result) if self.channels_first else result, np.float32)


def _channels_last(result: Floats) -> Floats:
    return np.ascontiguousarray(result.transpose(0, 2, 3, 1)) if result.ndim == 4 else result


@dataclass
class Torch:
    """Mask U-Nets in .pt files of ``faceblur train mask-unet``. Other .pt files, which may hold code, are refused."""

    threads: Annotated[int, Ge(1), Le(64)] = option(1, "threads of PyTorch, in the whole process")
    suffixes: ClassVar[tuple[str, ...]] = (".pt",)

    def load(self, path: Path) -> Predictor:
        """Return the network as a function of N x H x W x C float32 arrays.

        :raises FaceblurError: if the file is missing or no such model
        :raises MissingDependency: if PyTorch is not installed
        """
        network = _probability(Path(path))
        import torch

        torch.set_num_threads(self.threads)
        return _Module(network, Path(path), sum(one.numel() for one in network.parameters()))

    def to_tflite(self, path: Path) -> bytes:
        """Return the model as a float .tflite file, 1 x 256 x 256 x C to 1 x 256 x 256 x 1, by litert-torch.

        :raises FaceblurError: if the file is missing or no such model
        :raises MissingDependency: if PyTorch or litert-torch is not installed
        """
        network = _probability(Path(path))
        try:
            import litert_torch
        except ImportError:
            raise MissingDependency(
                f"lowering {Path(path).name} needs litert-torch: pip install litert-torch (version 0.10 asks for torch < 2.15)"
            ) from None
        import torch

        from faceblur_inpaint.config import SIZE

        model = litert_torch.to_channel_last_io(network, args=[0], outputs=[0]).eval()
        sample = torch.zeros(1, SIZE, SIZE, network.network.channels)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.tflite"
            litert_torch.convert(model, (sample,)).export(str(file))
            return file.read_bytes()


@dataclass
class _Module:
    network: Any
    path: Path
    parameters: int

    def __call__(self, batch: Floats) -> Floats:
        import torch

        x = torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
        try:
            with torch.inference_mode():
                result = self.network(x.to(memory_format=torch.channels_last))
        except RuntimeError as error:
            raise FaceblurError(f"{self.path} does not take an input of {batch.shape}: {_short(error)}") from None
        return _channels_last(result.numpy())


def _probability(path: Path) -> Any:
    try:
        from faceblur_inpaint.network import Probability, load_network
    except ImportError as error:
        raise MissingDependency(f"running {path.name} needs {error.name or error}: install faceblur-inpaint[train]") from None
    return Probability(load_network(path)).eval()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:150]
