"""How a detector's boxes differ from WIDER FACE's: where the constants such as mediapipe's REFRAME come from.

Prints, for faces of at least 8 % of the photo's height in 800 training photos, the medians of the truth box's centre
offset and size against the detector's box, in units of the latter. Usage: python benchmarks/box_convention.py haar …
"""

from __future__ import annotations

import sys

import numpy as np

from faceblur_core.media.images import read_photo
from faceblur_core.methods import find_method
from faceblur_core.options import parse_settings
from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.types import box_iou
from truth import wider

MATCH, SMALLEST, PHOTOS, SEED = 0.3, 0.08, 800, 0


def offsets(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return dx, dy, width, height of the truth against each box that matches one."""
    if not len(boxes) or not len(truth):
        return np.empty((0, 4))
    overlap = box_iou(boxes, truth.astype(np.float32))
    best, matched = overlap.argmax(axis=1), overlap.max(axis=1) > MATCH
    box, true = boxes[matched], truth[best[matched]]
    size = box[:, 2:] - box[:, :2]
    shift = (true[:, :2] + true[:, 2:] - box[:, :2] - box[:, 2:]) / 2 / size
    return np.concatenate([shift, (true[:, 2:] - true[:, :2]) / size], axis=1)


def main(methods: list[str]) -> None:
    photos = wider("train")
    chosen = np.random.default_rng(SEED).permutation(len(photos))[:PHOTOS]
    for text in methods:
        name, *settings = text.split(",")
        anonymize = find_method(name, parse_settings(settings), installed_plugins()).make()
        found = []
        for index in chosen:
            path, truth = photos[index]
            image = read_photo(path.read_bytes()).frames[0].rgb()
            large = truth[:, 3] - truth[:, 1] >= SMALLEST * image.shape[0]
            found.append(offsets(anonymize(image).detections.boxes, truth[large]))
        close(anonymize)
        rows = np.concatenate(found)
        median, high = (np.quantile(rows, share, axis=0).round(3) for share in (0.5, 0.9))
        print(f"{text}: n={len(rows)} dx dy w h: median {median}, p90 {high}")


main(sys.argv[1:])
