"""Where to cut the mask U-Net's output, and how far to grow its masks: on a data set's val split, no test set is looked at.

Usage: python benchmarks/mask_rules.py DATASET WEIGHTS MASKS MACHINE. MASKS is the folder of the pixel masks that the source
celebahq of DATASET (masks256) was made with. Writes results/mask-rules-v1--MACHINE.csv: a row per rule and growth, with the mean
IoU to the pixel masks, the coverage of the faces' ellipses by source, and how many of the face-free pictures are touched.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from change_mask import load
from tables import write_rows

from faceblur_core.types import Detections, Ellipse
from faceblur_inpaint.detector import MaskUNetDetector

RESULTS = Path(__file__).parents[1] / "results"
RULES: tuple[dict[str, Any], ...] = (
    {"rule": "floored"},
    *({"rule": "floored", "grow": grow} for grow in (1.0, 1.1, 1.2, 1.3)),
    *({"rule": "floored", "sure": sure} for sure in (0.6, 0.8, 0.9)),
    {"rule": "floored", "floor": 0.2, "threshold": 0.4},
    *({"rule": "fixed", "grow": 1.0, "threshold": threshold} for threshold in (0.5, 0.7, 0.8)),
    {"rule": "otsu", "grow": 1.0},
    {"rule": "histogram", "grow": 1.0},
)
ALONE = 0.1  #: height of the smallest face of which coverage is told, as a share of the picture's


class Remembered:
    """A network that is run once for each picture, however often it is asked."""

    def __init__(self, network: Any) -> None:
        self.network, self.known = network, {}

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        key = batch.tobytes()
        if key not in self.known:
            self.known[key] = self.network(batch)
        return self.known[key]


def scores(detector: MaskUNetDetector, pictures: list[Mapping[str, Any]]) -> Iterator[tuple[str, str, float]]:
    """Yield (what is measured, source, value) for every picture or face."""
    for picture in pictures:
        found: Detections = detector(picture["photo"])
        hidden = np.zeros(picture["photo"].shape[:2], bool) if found.mask is None else found.mask >= 0.5
        if picture["pixels"] is not None:
            truth = picture["pixels"]
            yield "iou", "celebahq", (hidden & truth).sum() / (hidden | truth).sum()
        if not picture["faces"]:
            yield "touched", "face-free", float(hidden.mean() > 0.01)
        for face in picture["faces"]:
            inside = face.inside(*hidden.shape)
            if 2 * face.half_extent()[1] >= ALONE * len(hidden) and inside.any():
                yield "coverage", picture["source"], float(hidden[inside].mean() >= 0.95)


def read_pictures(dataset: Path, masks: Path) -> list[Mapping[str, Any]]:
    pictures = []
    for row in map(json.loads, (dataset / "manifest.jsonl").read_text().splitlines()):
        if row["split"] != "val":
            continue
        photo = load(dataset / "val" / f"{row['name']}.jpg")
        masked = row["source"] == "celebahq" and (masks / row["photo"]).with_suffix(".png").is_file()
        pixels = load(dataset / "val_mask" / f"{row['name']}.png") >= 128 if masked else None
        faces = [Ellipse(**face) for face in row["faces"]]
        pictures.append({"source": row["source"], "photo": photo, "pixels": pixels, "faces": faces})
    return pictures


def main(dataset: Path, weights: str, masks: Path, machine: str) -> None:
    pictures = read_pictures(dataset, masks)
    network = Remembered(MaskUNetDetector(weights=weights)._network)
    rows = []
    for options in RULES:
        detector = MaskUNetDetector(weights=weights, **options)
        detector._network = network
        sums: dict[str, list[float]] = {}
        for what, source, value in scores(detector, pictures):
            for key in {what, f"{what} {source}"} - {"touched face-free", "iou celebahq"}:
                sums.setdefault(key, []).append(value)
        chosen = " ".join(f"{key}={value}" for key, value in options.items())
        row = {"options": chosen} | {key: f"{np.mean(sums[key]):.3f}" for key in sorted(sums)}
        rows.append(row | {f"n {key}": len(sums[key]) for key in ("iou", "coverage", "touched")})
        print(*rows[-1].values(), flush=True)
    write_rows(RESULTS / f"mask-rules-v1--{machine}.csv", rows)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])
