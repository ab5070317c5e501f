"""Ground truth for the scripts in this folder: WIDER FACE boxes and FDDB ellipses as lists of (photo, faces)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from faceblur_core.types import Ellipse

SHARED = Path(os.environ.get("FACEBLUR_SHARED", Path(__file__).parents[2] / "shared"))
WIDER, FDDB = SHARED / "data" / "wider", SHARED / "data" / "fddb"


def wider(split: str) -> list[tuple[Path, np.ndarray]]:
    """Return each photo of a split with its valid boxes, N x 4, x1 y1 x2 y2."""
    lines = iter((WIDER / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt").read_text().splitlines())
    photos = []
    for name in lines:
        rows = [[float(value) for value in next(lines).split()] for _ in range(max(1, int(next(lines))))]
        boxes = [(x, y, x + w, y + h) for x, y, w, h, *flags in rows if w > 0 and h > 0 and not flags[3]]
        photos.append((WIDER / "images" / name, np.reshape(boxes, (-1, 4))))
    return photos


def fddb() -> list[tuple[Path, list[Ellipse]]]:
    """Return each photo with its face ellipses."""
    photos = []
    for fold in sorted((FDDB / "FDDB-folds").glob("*ellipseList.txt")):
        lines = iter(fold.read_text().split("\n"))
        for name in lines:
            if name.strip():
                rows = [[float(value) for value in next(lines).split()[:5]] for _ in range(int(next(lines)))]
                faces = [Ellipse(cx, cy, major, minor, angle) for major, minor, angle, cx, cy in rows]
                photos.append((FDDB / "originalPics" / f"{name.strip()}.jpg", faces))
    return photos
