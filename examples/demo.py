"""Anonymize sample photos by every light method, lay the results out in one picture, and compare the methods.

Run by ``make demo``. The photos are those of the built-in test set
``samples``: NASA's portrait of an astronaut in many places, and pictures without a face, all from scikit-image.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from faceblur_core.testsets.format import open_testset

METHODS = (
    "haar",
    "yunet",
    "yolo-onnx",
    "yunet+pixelate",
    "yunet+solid",
    "yunet+inpaint",
    "mask-unet+inpaint",
    "unet-student-v1-int8",
)
SHOWN = ("frontal-1", "medium-2", "multiple-2", "difficult-1", "difficult-7", "face-free-1")
CELL, LINE = 240, 26  # pixels: side of a picture in the sheet, height of its caption


def sample_photos(folder: Path) -> list[Path]:
    """Copy a few photos of the test set."""
    testset = open_testset("samples")
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHOWN:
        shutil.copyfile(testset.folder / "photos" / f"{name}.png", folder / f"{name}.png")
    return [folder / f"{name}.png" for name in SHOWN]


def faceblur(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "faceblur_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def anonymize(method: str, photos: Path, output: Path) -> bool:
    """Return whether it worked, and say why if not."""
    done = faceblur("run", "-m", method, photos, "-o", output, "--overwrite")
    print(f"{method}: {(done.stdout or done.stderr).strip()}")
    return done.returncode == 0


def sheet_of(photos: list[Path], columns: dict[str, Path]) -> Image.Image:
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
    sheet_of(photos, columns).save(output / "sheet.png")
    done = faceblur("compare", "--methods", ",".join(methods), "--testset", "samples", "-o", output / "runs", "--name", "demo")
    print(f"\n{done.stdout.strip()}\n{done.stderr.strip() if done.returncode else ''}")
    print(f"\npictures: {output}\nsheet: {output / 'sheet.png'}")
    return 0 if len(columns) > 1 else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where everything is written")
    parser.add_argument("methods", metavar="METHOD", nargs="*", default=list(METHODS), help="default: all that are light")
    asked = parser.parse_args()
    sys.exit(main(asked.folder, asked.methods))
