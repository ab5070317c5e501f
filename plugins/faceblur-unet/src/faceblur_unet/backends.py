"""Backends: ``tflite`` runs .tflite files on LiteRT, ``keras`` runs .keras files and lowers them to .tflite."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Le

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.types import Floats, Predictor, option


@dataclass
class TFLite:
    """TensorFlow Lite models with one input and one output, float or int8, on LiteRT's interpreter.

    An int8 model's input is quantized and its output dequantized by the scales in the file.
    """

    threads: Annotated[int, Ge(1), Le(64)] = option(1, "threads of the interpreter")
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)

    def load(self, path: Path) -> Predictor:
        """Return the network as a function of N x H x W x C float32 arrays.

        :raises FaceblurError: if the file is missing or no such model
        """
        from ai_edge_litert.interpreter import Interpreter

        if not Path(path).is_file():
            raise FaceblurError(f"no model file {path}")
        try:
            interpreter = Interpreter(model_path=str(path), num_threads=self.threads)
            interpreter.allocate_tensors()
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise FaceblurError(f"{path} is no TensorFlow Lite model: {' '.join(str(error).split())[:150]}") from None
        if len(inputs) != 1 or len(outputs) != 1:
            raise FaceblurError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; it should have one of each")
        return _Interpreted(interpreter, inputs[0], outputs[0], Path(path))

    def to_tflite(self, path: Path) -> bytes:
        """Return the file's content if it is a float model. :raises FaceblurError: if it is not, or missing."""
        network = self.load(path)
        assert isinstance(network, _Interpreted)
        if network.input["dtype"] != np.float32:
            raise FaceblurError(f"{path} is quantized already; quantization starts from a float model")
        return Path(path).read_bytes()


@dataclass
class _Interpreted:
    interpreter: Any
    input: dict[str, Any]
    output: dict[str, Any]
    path: Path

    def __call__(self, batch: Floats) -> Floats:
        shape = tuple(self.input["shape"][1:])
        if batch.ndim != 4 or batch.shape[1:] != shape:
            raise FaceblurError(f"{self.path} takes N x {' x '.join(map(str, shape))}, not {batch.shape}")
        return np.stack([self._one(image) for image in batch])

    def _one(self, image: Floats) -> Floats:
        self.interpreter.set_tensor(self.input["index"], _quantized(image, self.input)[None])
        self.interpreter.invoke()
        return _dequantized(self.interpreter.get_tensor(self.output["index"])[0], self.output)


def _quantized(values: Floats, details: dict[str, Any]) -> Any:
    if details["dtype"] == np.float32:
        return values.astype(np.float32)
    scale, zero = details["quantization"]
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(values / scale + zero), limits.min, limits.max).astype(details["dtype"])


def _dequantized(values: Any, details: dict[str, Any]) -> Floats:
    if details["dtype"] == np.float32:
        return np.array(values, np.float32)
    scale, zero = details["quantization"]
    return ((values.astype(np.float32) - zero) * scale).astype(np.float32)


@dataclass
class Keras:
    """Keras 3 models with one input and one output, on whatever ``KERAS_BACKEND`` says."""

    suffixes: ClassVar[tuple[str, ...]] = (".keras",)

    def load(self, path: Path) -> Predictor:
        """Return the network as a function of N x H x W x C float32 arrays.

        :raises FaceblurError: if the file is missing or no such model
        :raises MissingDependency: if Keras is not installed
        """
        model = _keras_model(Path(path))

        def predict(batch: Floats) -> Floats:
            import keras

            try:
                return np.asarray(keras.ops.convert_to_numpy(model(batch, training=False)), np.float32)
            except Exception as error:  # each of Keras' backends has its own
                reason = " ".join(str(error).split())[:150]
                raise FaceblurError(f"{path} does not take an input of {batch.shape}: {reason}") from None

        return predict

    def to_tflite(self, path: Path) -> bytes:
        """Return the model as a float .tflite file with a batch of one; needs TensorFlow as Keras' backend.

        :raises FaceblurError: if the file is missing or no such model, or another backend is at work
        """
        import keras

        model = _keras_model(Path(path))
        if keras.config.backend() != "tensorflow":
            raise FaceblurError(f"lowering {path} needs TensorFlow: set KERAS_BACKEND=tensorflow")
        return _lowered(model)


def _lowered(model: Any) -> bytes:
    """Return a Keras model as .tflite: its weights as constants, so that no variables are left in the graph."""
    import tensorflow as tf

    fixed = [np.asarray(value) for value in model.trainable_variables]
    others = [np.asarray(value) for value in model.non_trainable_variables]
    signature = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="photo")]
    module = tf.Module()
    forward = tf.function(
        lambda photo: {"blurred": model.stateless_call(fixed, others, photo, training=False)[0]}, input_signature=signature
    )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": forward})
        return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def _keras_model(path: Path) -> Any:
    if not path.is_file():
        raise FaceblurError(f"no model file {path}")
    try:
        import keras
    except ImportError as error:
        raise MissingDependency(f"running {path.name} needs {error.name or error}: install faceblur-unet[train]") from None
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras each have their own
        raise FaceblurError(f"{path} is no Keras model: {' '.join(str(error).split())[:150]}") from None
