"""Anonymize the sample photos by every light method and lay the results out in one picture. Run by ``make demo``.

Usage: python examples/demo.py FOLDER [METHOD …]. The photos ship in scikit-image; the first is NASA's and in the public
domain, the others are CC0 or public domain too.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

METHODS = ("haar", "haar+pixelate", "haar+solid", "haar+inpaint", "yunet")
CELL, LINE = 240, 26  # pixels: side of a picture in the comparison, height of its caption


def sample_photos(folder: Path) -> list[Path]:
    """Write a portrait, a small face off the centre, two faces, and two photos without a face."""
    portrait, rocket = data.astronaut(), data.rocket()
    small = np.asarray(Image.fromarray(portrait[20:240, 110:330]).resize((110, 110)))
    far = rocket.copy()
    far[250:360, 40:150] = small
    pair = np.hstack([portrait[:, 60:400], portrait[:, 399:59:-1]])
    photos = {"portrait": portrait, "far": far, "pair": pair, "cat": data.chelsea(), "coffee": data.coffee()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=92)
    return [folder / f"{name}.jpg" for name in photos]


def anonymize(method: str, photos: Path, output: Path) -> bool:
    """Run the command line; return whether it worked, and say why if not."""
    command = [sys.executable, "-m", "faceblur_core", "run", "-m", method, str(photos), "-o", str(output), "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(f"{method}: {(done.stdout or done.stderr).strip()}")
    return done.returncode == 0


def comparison(photos: list[Path], columns: dict[str, Path]) -> Image.Image:
    """Return one picture: a row for each photo, a column for each folder."""
    rows = [[thumbnail(folder / photo.name) for folder in columns.values()] for photo in photos]
    heights = [row[0].height + 4 for row in rows]
    sheet = Image.new("RGB", (CELL * len(columns), LINE + sum(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for column, title in enumerate(columns):
        draw.text((CELL * column + 6, 4), title, fill="black", font=font)
        for index, row in enumerate(rows):
            sheet.paste(row[column], (CELL * column + 2, LINE + sum(heights[:index])))
    return sheet


def thumbnail(path: Path) -> Image.Image:
    """Return a picture reduced to the cell's width."""
    with Image.open(path) as picture:
        picture.thumbnail((CELL - 4, CELL - 4))
        return picture.copy()


def main(output: Path, methods: list[str]) -> int:
    photos = sample_photos(output / "photos")
    columns = {"original": output / "photos"}
    for method in methods:
        folder = output / method.replace("|", "-or-")
        if anonymize(method, output / "photos", folder):
            columns[method] = folder
    comparison(photos, columns).save(output / "comparison.png")
    print(f"\npictures: {output}\ncomparison: {output / 'comparison.png'}")
    return 0 if len(columns) > 1 else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or list(METHODS)))
