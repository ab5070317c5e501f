"""Eight faces of the built-in test set, close up, by several methods: a picture to look for seams in.

Usage: python benchmarks/strip.py FILE METHOD ...; docs/images/mask-unet.jpg is made by the methods mask-unet+inpaint
mask-unet+solid mask-unet+blur.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from faceblur_core.methods import find_method
from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.testsets.format import open_testset
from faceblur_core.types import Sample

SHOWN = ("frontal-1", "frontal-2", "frontal-4", "frontal-6", "medium-2", "medium-3", "medium-4", "multiple-1")
SIDE, AROUND = 180, 2.4  #: pixels of a cell; what it shows, in heights of the face


def cell(image: np.ndarray, sample: Sample) -> Image.Image:
    """Return the surroundings of the sample's first face."""
    face = sample.faces[0]
    half = AROUND * face.half_extent()[1] / 2
    box = (face.cx - half, face.cy - half, face.cx + half, face.cy + half)
    return Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=inside(box, *image.shape[:2]))


def inside(box: tuple[float, float, float, float], height: int, width: int) -> tuple[float, float, float, float]:
    """Return the square moved into the picture, and made smaller where it is too large."""
    side = min(box[2] - box[0], height, width)
    left, top = min(max(box[0], 0), width - side), min(max(box[1], 0), height - side)
    return left, top, left + side, top + side


def main(file: Path, methods: list[str]) -> None:
    samples = {sample.id: sample for sample in open_testset("samples").samples()}
    shown = [samples[name] for name in SHOWN]
    strip = Image.new("RGB", (SIDE * len(shown), SIDE * (1 + len(methods))))
    for column, sample in enumerate(shown):
        strip.paste(cell(sample.image, sample), (column * SIDE, 0))
    for row, text in enumerate(methods, 1):
        method = find_method(text, {}, installed_plugins()).make()
        for column, sample in enumerate(shown):
            strip.paste(cell(method(sample.image).image, sample), (column * SIDE, row * SIDE))
        close(method)
    strip.save(file, quality=90)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
