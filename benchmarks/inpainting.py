"""How long inpainting a large face takes, beside OpenCV's inpainting at the photo's full size, in the same run, on one core.

Usage: python benchmarks/inpainting.py MACHINE; writes results/inpainting-v1--MACHINE.csv. The photo: 3000 x 4000 pixels about the
face of NASA's portrait of an astronaut, from scikit-image; the face is half as high as the photo, its ellipse is filled in.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from skimage import data
from tables import write_rows

from faceblur_core.builtin.obfuscators import Inpaint
from faceblur_core.testsets.samples import PORTRAIT_FACE
from faceblur_core.types import Ellipse, Image, Mask

RESULTS = Path(__file__).parents[1] / "results"
HEIGHT, WIDTH = 4000, 3000
RADIUS = 10.0  #: of both


def portrait() -> tuple[Image, Mask]:
    """Return the photo and the mask of the face."""
    import cv2

    scale = HEIGHT / 2 / (2 * PORTRAIT_FACE.ry)
    top, left = PORTRAIT_FACE.cy - HEIGHT / scale / 2, PORTRAIT_FACE.cx - WIDTH / scale / 2
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    photo = cv2.warpAffine(data.astronaut(), matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    face = Ellipse(WIDTH / 2, HEIGHT / 2, PORTRAIT_FACE.rx * scale, PORTRAIT_FACE.ry * scale, PORTRAIT_FACE.angle)
    return np.asarray(photo, np.uint8), face.inside(HEIGHT, WIDTH).astype(np.float32)


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main(machine: str) -> None:
    import cv2

    cv2.setNumThreads(1)
    photo, mask = portrait()
    rows = []
    for name, algorithm in (("telea", cv2.INPAINT_TELEA), ("ns", cv2.INPAINT_NS)):
        ours = statistics.median(seconds(partial(Inpaint(name, RADIUS), photo, mask)) for _ in range(5))
        plain = seconds(partial(cv2.inpaint, photo, mask.astype(np.uint8), RADIUS, algorithm))
        figures = {"seconds": f"{ours:.3f}", "seconds at full size": f"{plain:.2f}", "ratio": f"{plain / ours:.1f}"}
        rows.append({"algorithm": name, **figures})
        print(*rows[-1].values(), flush=True)
    write_rows(RESULTS / f"inpainting-v1--{machine}.csv", rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
