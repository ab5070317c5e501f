"""A test set of two people, and ``faceblur compare`` on it, by the methods of the core's test plugin."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from faceblur_core.testsets.format import write_testset
from faceblur_core.testsets.samples import PORTRAIT_FACE, PORTRAIT_POINTS

DISTS = Path(__file__).parents[3] / "tests" / "dists"


def _people(astronaut: np.ndarray, names: tuple[str, str] = ("eileen", "other"), brighter: int = 0):
    """Yield eight photos of the astronaut, and of the one whom a mirror and a negative make of her."""
    face = {name: getattr(PORTRAIT_FACE, name) for name in ("cx", "cy", "rx", "ry", "angle")}
    for number in range(8):
        for person, picture in zip(names, (astronaut, 255 - astronaut[::-1, ::-1][65:]), strict=True):
            image = np.clip(picture.astype(int)[:260] + 4 * number + brighter, 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            yield {
                "id": f"{person}-{number}", "suffix": ".png", "height": image.shape[0], "width": image.shape[1],
                "faces": [{**face, "flags": [], "landmarks": PORTRAIT_POINTS.tolist()}],
                "identity": person, "groups": {}, "categories": ["frontal"],
            }, buffer.getvalue()  # fmt: skip


@pytest.fixture
def cli_compare(tmp_path, astronaut):
    for name, people in (("pair", _people(astronaut)), ("others", _people(astronaut, ("third", "fourth"), 2))):
        write_testset(tmp_path / "sets" / name, {"name": name, "version": 1, "summary": "", "licence": ""}, people)

    def run(methods):
        config = {
            "methods": methods, "testsets": ["pair"], "calibration": "pair", "train_on": "sets/others",
            "cost_photos": 0, "resamples": 20,
            "metrics": ["cosine", *(f"reidentified-{attack}" for attack in ("naive", "parrot", "restoration"))],
        }  # fmt: skip
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        folders = {"FACEBLUR_TESTSETS": str(tmp_path / "sets"), "FACEBLUR_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "faceblur_core", "compare", "c.yaml", "-o", "runs"]
        env = {**os.environ, **folders, "PYTHONPATH": str(DISTS / "compared")}
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        folder = next((tmp_path / "runs").iterdir())
        return result, list(csv.DictReader(io.StringIO((folder / "table.csv").read_text()))), folder

    return run
