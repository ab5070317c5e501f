"""How strong and how large must a training target's blur be, so that no detector finds the face? The target's own ceiling.

Usage: python benchmarks/target_blur.py TESTSET [COUNT]. Faces of the first photos are hidden by their true ellipses at 128
pixels, as configs/datasets/faces12k.yaml does, the picture is enlarged again, and YuNet looks at it.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np

from faceblur_core.builtin.metrics import reduced
from faceblur_core.datasets.crops import soft_mask
from faceblur_core.plugins import installed_plugins
from faceblur_core.testsets.format import open_testset
from faceblur_core.types import box_iou

#: sigma, grow, feather
TARGETS = ((0.11, 1.18, 0.1), (0.2, 1.18, 0.1), (0.3, 1.18, 0.1), (0.2, 1.25, 0.08), (0.3, 1.25, 0.06), (0.14, 1.4, 0.1))
FOUND = 0.4  #: intersection over union, as in the metric still-detected


def main(name: str, count: int) -> None:
    import cv2

    detect = installed_plugins().make("detector", "yunet")
    samples = list(itertools.islice(open_testset(name).samples(), count))
    for sigma, grow, feather in TARGETS:
        blur = installed_plugins().make("obfuscator", "gaussian", {"sigma": sigma})
        found = []
        for sample in samples:
            small, _ = reduced(sample, sample.image)
            hidden = blur(small.image, soft_mask(small.faces, *small.image.shape[:2], grow, feather))
            seen = detect(cv2.resize(hidden, sample.image.shape[1::-1], interpolation=cv2.INTER_CUBIC))
            boxes = np.array([face.bounds() for face in sample.faces], np.float32).reshape(-1, 4)
            found += list((box_iou(boxes, seen.boxes) >= FOUND).any(axis=1))
        print(
            f"{name} sigma {sigma} grow {grow} feather {feather}: {np.mean(found):.3f} of {len(found)} faces still detected",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
