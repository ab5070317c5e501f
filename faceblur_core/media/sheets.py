"""Contact sheets: many small pictures on one, to be looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from faceblur_core.types import Ellipse, Image

COUNTED, IGNORED = (255, 64, 64), (255, 200, 0)  #: colours of outlines: of faces that count, of others
FAR = 10_000  #: pixels
LINE, GAP = 16, 4  #: pixels: height of a caption, space between cells


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a sheet with what stands under it."""

    image: Image
    caption: str = ""


def thumbnail(image: Image, side: int) -> Image:
    """Return the image reduced so that its longer side is at most ``side`` pixels."""
    picture = PillowImage.fromarray(image)
    picture.thumbnail((side, side), PillowImage.Resampling.BOX)
    return np.asarray(picture)


def outlined(image: Image, outlines: Iterable[tuple[Ellipse, tuple[int, int, int]]], side: int) -> Image:
    """Return a thumbnail with ellipses drawn in their colours; they are in the pixels of the whole image."""
    import cv2

    small = np.ascontiguousarray(thumbnail(image, side)).copy()
    scale = small.shape[1] / image.shape[1]
    for face, color in outlines:
        centre, axes = (face.cx * scale, face.cy * scale), (2 * face.rx * scale, 2 * face.ry * scale)
        if max(axes) < FAR and max(map(abs, centre)) < FAR:  # OpenCV draws with 16-bit numbers
            cv2.ellipse(small, (centre, axes, math.degrees(face.angle)), color, 1, cv2.LINE_AA)
    return small


def contact_sheet(cells: Sequence[Cell], side: int = 160, columns: int = 8) -> Image:
    """Return all cells on one white picture, each with its caption below it."""
    columns = max(1, min(columns, len(cells)))
    small = [thumbnail(cell.image, side) for cell in cells]
    rows = [range(start, min(start + columns, len(cells))) for start in range(0, len(cells), columns)]
    heights = [max(small[index].shape[0] for index in row) + LINE + GAP for row in rows]
    sheet = PillowImage.new("RGB", (columns * (side + GAP), max(1, sum(heights))), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, row in enumerate(rows):
        top = sum(heights[:number])
        for column, index in enumerate(row):
            left = column * (side + GAP)
            sheet.paste(PillowImage.fromarray(small[index]), (left, top))
            draw.text((left, top + heights[number] - LINE - GAP), _fitted(cells[index].caption, side), fill="black", font=font)
    return np.asarray(sheet)


def _fitted(caption: str, width: int) -> str:
    """Return the caption, cut to a width in pixels."""
    most = max(4, width // 6)
    return caption if len(caption) <= most else caption[: most - 1] + "…"
