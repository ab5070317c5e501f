"""A network made by hand that calls a face blurred as far as it is bright, and a set of faces that are."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

KIND = "faceblur blur-degree"


def brightness_network(path: Path, **said: str) -> Path:
    """Write an ONNX file whose degree is the mean of the face, 0..1."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["face"], ["means"]),
        helper.make_node("ReduceMean", ["means"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["degree"]),
    ]
    ends = [
        helper.make_tensor_value_info("face", TensorProto.FLOAT, ["N", 3, 112, 112]),
        helper.make_tensor_value_info("degree", TensorProto.FLOAT, ["N", 1]),
    ]
    constants = [numpy_helper.from_array(np.array([-1, 1], np.int64), "shape")]
    graph = helper.make_graph(nodes, "brightness", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"kind": KIND, "margin": "1.2", "parameters": "7", "protected_from": "0.5", **said})
    onnx.save(model, path)
    return path


def texture(rng: np.random.Generator) -> np.ndarray:
    """Return noise in squares of 4 pixels, 112 x 112 x 3."""
    return np.kron(rng.integers(0, 2, (28, 28, 1)) * 160 + 40, np.ones((4, 4, 3))).astype(np.uint8)


def write_set(folder: Path, **counts: int) -> Path:
    """Write textures that are blurred the more, the higher their degree."""
    rows = []
    for seed, (split, count) in enumerate(counts.items()):
        rng = np.random.default_rng(seed)
        (folder / split).mkdir(parents=True)
        for number in range(count):
            degree = (number + 0.5) / count
            face = cv2.GaussianBlur(texture(rng), (0, 0), 0.3 + 12 * degree)
            name = f"{split}/{number + 1:06d}.jpg"
            cv2.imwrite(str(folder / name), face)
            method = ("defocus", "shake")[number % 2]
            rows.append({"path": name, "split": split, "method": method, "parameters": "[]", "degree": f"{degree:.5f}"})
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"protected_from": 0.6, "margin": 1.3}))
    return folder


@pytest.fixture(scope="session")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network made by hand."""
    return brightness_network(tmp_path_factory.mktemp("weights") / "bright.onnx")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of blurred textures."""
    return write_set(tmp_path_factory.mktemp("data") / "set", train=32, val=12, test=10)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Path]:
    """``brightness_network``, for tests that need another one."""
    return brightness_network


@pytest.fixture(scope="session")
def make_set() -> Callable[..., Path]:
    """``write_set``, for tests that damage one."""
    return write_set


@pytest.fixture(scope="session")
def face() -> np.ndarray:
    """A texture, its red darker."""
    made = texture(np.random.default_rng(0))
    made[..., 0] //= 2
    return made
