"""Where the U-Nets' errors are: by the distance to what is to be blurred, on a data set's val split.

Usage: python benchmarks/unet_errors.py DATASET [COUNT]. Writes results/errors-v1.csv: for each float network that ships a
row per place, with its share of the pixels, its share of the squared error, and its mean squared error (pixels in 0..1).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from change_mask import load
from tables import write_rows

from faceblur_unet import SHIPPED
from faceblur_unet.anonymizer import UNet

RESULTS = Path(__file__).parents[1] / "results"
EDGES = (0.0, 4.0, 16.0, np.inf)  #: pixels of 128, from the nearest pixel of the target's mask
INSIDE = "inside"


def places(mask: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each place and which pixels are there; in face-free pictures all are far away."""
    import cv2

    changed = mask > 0
    yield INSIDE, changed
    if changed.any():
        away = cv2.distanceTransform((~changed).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    else:
        away = np.full(mask.shape, EDGES[-2] + 1, np.float32)
    for low, high in itertools.pairwise(EDGES):
        where = f"more than {low:g} pixels outside" if np.isinf(high) else f"{low:g} to {high:g} pixels outside"
        yield where, (away > low) & (away <= high)


def main(folder: Path, count: int) -> None:
    names = sorted(path.stem for path in (folder / "val").glob("*.jpg"))
    names = names[:: max(1, len(names) // count)]
    triples = [
        (
            load(folder / "val" / f"{name}.jpg"),
            load(folder / "val_blur" / f"{name}.jpg"),
            load(folder / "val_mask" / f"{name}.png"),
        )
        for name in names
    ]
    rows = []
    for weights in (name for name in SHIPPED if not name.endswith("-int8")):
        network = UNet(weights=weights)._network
        sums: dict[str, float] = {}
        pixels: dict[str, int] = {}
        for photo, target, mask in triples:
            output = network(photo[None].astype(np.float32) / 255)[0]
            error = np.square(output - target.astype(np.float32) / 255).mean(axis=2)
            for where, there in places(mask):
                sums[where] = sums.get(where, 0) + float(error[there].sum())
                pixels[where] = pixels.get(where, 0) + int(there.sum())
        for where, total in sums.items():
            rows.append(
                {
                    "network": f"unet-{weights}",
                    "where": where,
                    "share of pixels": f"{pixels[where] / sum(pixels.values()):.3f}",
                    "share of error": f"{total / sum(sums.values()):.3f}",
                    "mse": f"{total / pixels[where]:.5f}",
                    "pictures": str(len(names)),
                }
            )
    write_rows(RESULTS / "errors-v1.csv", rows)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 600)
