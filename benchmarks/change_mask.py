"""Which thresholds tell what a U-Net hid from what it merely changed: coverage against false alarms, on a data set's val split.

Usage: python benchmarks/change_mask.py DATASET WEIGHTS [COUNT]. The thresholds in use are the defaults of ``low``, ``high``
and ``least`` in faceblur_unet/anonymizer.py. Validation pictures only: no test set is looked at.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from faceblur_unet.anonymizer import UNet, change_mask, lost_detail

LOW = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
HIGH = (0.7, 0.75, 0.8, 0.85, 0.9)
LEAST = (0.0012, 0.0025, 0.005)


def load(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def main(folder: Path, weights: str, count: int) -> None:
    network = UNet(weights=weights)._network
    names = sorted(path.stem for path in (folder / "val").glob("*.jpg"))
    names = names[:: max(1, len(names) // count)]
    photos = [load(folder / "val" / f"{name}.jpg").astype(np.float32) / 255 for name in names]
    truths = [load(folder / "val_mask" / f"{name}.png") for name in names]
    losses = [lost_detail(photo, np.clip(network(photo[None])[0], 0, 1)) for photo in photos]
    print(f"{len(names)} pictures, {sum(not truth.any() for truth in truths)} without a face")
    print("low high least | coverage >= 0.95, mean | face-free with > 1 % | over-blur")
    for low, high, least in itertools.product(LOW, HIGH, LEAST):
        covered, alarms, over = [], [], []
        for truth, lost in zip(truths, losses, strict=True):
            mask = change_mask(lost, low, high, least) >= 0.5
            face = truth >= 250
            if truth.any():
                covered.append(mask[face].mean() if face.any() else np.nan)
            else:
                alarms.append(mask.mean() > 0.01)
            over.append(mask[truth == 0].mean() if (truth == 0).any() else np.nan)
        shares = np.array(covered)
        row = (np.nanmean(shares >= 0.95), np.nanmean(shares), np.mean(alarms), np.nanmean(over))
        print(f"{low:.2f} {high:.2f} {least:.4f} | " + " ".join(f"{value:.3f}" for value in row), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 600)
