"""Which thresholds tell what a U-Net hid from what it merely changed: coverage against false alarms, on a data set's val split.

Usage: python benchmarks/change_mask.py DATASET WEIGHTS [COUNT]. The thresholds in use are the defaults of ``low``, ``high``
and ``least`` in faceblur_unet/anonymizer.py. Validation pictures only: no test set is looked at. Coverage and over-blur as
docs/metrics.md defines them, over faces of at least a tenth of the picture.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from faceblur_core.types import Ellipse
from faceblur_unet.anonymizer import UNet, change_mask, lost_detail

LOW = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
HIGH = (0.75, 0.8, 0.85, 0.9, 0.95)
LEAST = (0.0012, 0.0025, 0.005)
SMALLEST = 0.05  #: half the height of a face, as a share of the picture's


def load(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def main(folder: Path, weights: str, count: int) -> None:
    network = UNet(weights=weights)._network
    pictures = [row for row in map(json.loads, (folder / "manifest.jsonl").read_text().splitlines()) if row["split"] == "val"]
    pictures = pictures[:: max(1, len(pictures) // count)]
    photos = [load(folder / "val" / f"{row['name']}.jpg").astype(np.float32) / 255 for row in pictures]
    losses = [lost_detail(photo, np.clip(network(photo[None])[0], 0, 1)) for photo in photos]
    size = len(photos[0])
    reaches = [[(face, Ellipse(**face).reach(size, size)) for face in row["faces"]] for row in pictures]
    print(f"{len(pictures)} pictures, {sum(not faces for faces in reaches)} without a face")
    print("low high least | coverage >= 0.95, mean | face-free with > 1 % | over-blur where there are faces")
    for low, high, least in itertools.product(LOW, HIGH, LEAST):
        covered, alarms, over = [], [], []
        for lost, faces in zip(losses, reaches, strict=True):
            mask = change_mask(lost, low, high, least) >= 0.5
            covered += [mask[reach <= 1].mean() for face, reach in faces if face["ry"] >= SMALLEST * size and (reach <= 1).any()]
            outside = np.all([reach > 1.3 for _, reach in faces], axis=0) if faces else np.ones_like(mask)
            if not faces:
                alarms.append(mask.mean() > 0.01)
            elif outside.any():
                over.append(mask[outside].mean())
        shares = np.array(covered)
        row = (np.mean(shares >= 0.95), np.mean(shares), np.mean(alarms), np.mean(over))
        print(f"{low:.2f} {high:.2f} {least:.4f} | " + " ".join(f"{value:.3f}" for value in row), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 600)
