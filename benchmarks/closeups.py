"""Find at which size and from which score on YOLO's second look counts: LARGE and CLEAR in faceblur_core/closeups.py.

Usage: python benchmarks/closeups.py SET, the validation pictures of a set that faceblur dataset export-yolo made. For each size:
how many pictures without a face have one of half their side or more, and in how many of the crops around the largest face it is
found; "both" is the first look and the second together, as the detector counts them. Crops are SHARES of the face's longer side.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from faceblur_core.closeups import CLEAR
from faceblur_core.datasets.survey import pixels_of
from faceblur_core.types import Detections, Image
from faceblur_yolo_onnx.detector import YoloOnnxDetector

SIZES, FIRST = (224, 256, 288, 320), 480
SCORES = (0.25, 0.3, CLEAR, 0.5, 0.6)
SHARES = (1.0, 1.1, 1.25, 1.5, 1.8)
LEAST = 60  #: pixels, longer side of the faces that are cut out
CROPS = 500


def crop(image: Image, face: np.ndarray, share: float) -> Image:
    """Return the square around a face, cx cy w h as shares of the picture's sides, as far as the picture goes."""
    height, width = image.shape[:2]
    x, y = face[0] * width, face[1] * height
    half = max(face[2] * width, face[3] * height) * share / 2
    rows, columns = slice(max(0, int(y - half)), int(y + half)), slice(max(0, int(x - half)), int(x + half))
    return np.ascontiguousarray(image[rows, columns])


def best(found: Detections, image: Image, share: float) -> float:
    """Return the highest score of a box whose longer side is at least a share of the picture's."""
    return float(found.scores[found.longer_sides() >= share * max(image.shape[:2])].max(initial=0))


def main(folder: Path) -> None:
    looks = {size: YoloOnnxDetector(imgsz=size, closeup=0, conf=0.05) for size in (*SIZES, FIRST)}
    empty, crops = [], []
    for path in sorted((folder / "images/val").iterdir()):
        labels = folder / "labels/val" / f"{path.stem}.txt"
        faces = np.loadtxt(labels, ndmin=2) if labels.is_file() and labels.stat().st_size else np.empty((0, 5))
        image = pixels_of(path.read_bytes())
        if not len(faces):
            empty.append([best(look(image), image, 0.5) for look in looks.values()])
            continue
        largest = faces[faces[:, 3:].max(axis=1).argmax(), 1:]
        if len(crops) < CROPS and max(largest[2:] * image.shape[1::-1]) >= LEAST:
            part = crop(image, largest, SHARES[len(crops) % len(SHARES)])
            crops.append([best(look(part), part, 0.35) for look in looks.values()])
    free, tight = np.array(empty).T, np.array(crops).reshape(-1, len(SHARES), len(looks)).T  # sizes x shares x crops
    print(f"{len(empty)} pictures without a face, {len(crops)} crops; scores {SCORES}")
    for index, size in enumerate(looks):
        print(f"{size}: pictures without a face {[int((free[index] >= score).sum()) for score in SCORES]}")
        for share, scores in zip(SHARES, tight[index], strict=True):
            print(f"  crops of {share} faces: found {[f'{(scores >= score).mean():.3f}' for score in SCORES]}")
    for index, size in enumerate(SIZES):
        both = [((part[index] >= CLEAR) | (part[-1] >= SCORES[0])).mean(axis=-1) for part in (free, tight)]
        print(
            f"{FIRST} and {size} both: without a face {both[0]:.3f} (first {(free[-1] >= SCORES[0]).mean():.3f}), crops {both[1]}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
