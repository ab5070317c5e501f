"""Where the shared photos are, and WIDER FACE's boxes, for the scripts in this folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from faceblur_core.datasets.labels import BadRows
from faceblur_core.datasets.wider import WiderFace

SHARED = Path(os.environ.get("FACEBLUR_SHARED", Path(__file__).parents[2] / "shared"))
WIDER = SHARED / "data" / "wider"


def wider(split: str) -> list[tuple[Path, np.ndarray]]:
    """Return each photo of a split with its valid boxes, N x 4, x1 y1 x2 y2."""
    importer = WiderFace(WIDER / "images", WIDER / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt")
    return [
        (photo.path, np.reshape([face.ellipse.bounds() for face in photo.faces if "ignore" not in face.flags], (-1, 4)))
        for photo in importer(BadRows())
    ]
