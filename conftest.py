"""Fixtures for the tests of the core and of every plugin: the shared photos and models, a portrait."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

SHARED = Path(os.environ.get("FACEBLUR_SHARED", Path(__file__).parents[1] / "shared")).absolute()
if (SHARED / "models").is_dir():
    os.environ.setdefault("FACEBLUR_MODELS", str(SHARED / "models"))
    os.environ["FACEBLUR_OFFLINE"] = "1"

settings.register_profile("faceblur", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("faceblur")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and third-party models."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data in {SHARED}; FACEBLUR_SHARED names another place")
    return SHARED


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A portrait with one face at about x 178..269, y 65..176, from NASA by way of scikit-image."""
    from skimage import data

    return data.astronaut()
