"""Pixel arithmetic behind the obfuscators. Imported when the first one runs, for it needs OpenCV.

Every function takes a crop around one region, H x W x 3 uint8, and returns one of the same shape and type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from faceblur_core.distance import distance_to_zero
from faceblur_core.types import Image, Mask

CELL_LIMIT = 4  #: pixels, smallest side of a mean cell
SOFT = 0.5  #: sigma of the Gaussian over what is inpainted, as a share of how deep in the hole it lies
CROP_LIMIT = 512  #: pixels; filters whose cost grows with their size work on crops reduced to this longer side


def hide(image: Image, mask: Mask, change: Callable[[Image, Mask], Image], margin: float = 0.0) -> Image:
    """Return the image with every connected region of the mask replaced by ``change(crop, mask of the crop)``.

    The crop is the region's bounding box, grown on each side by ``margin`` times its longer side. Where the mask
    is between 0 and 1 the change is blended in; where it is 0 the image stays as it is, to the bit.
    """
    result = image.copy()
    for rows, columns, alpha in _regions(mask, margin):
        crop = np.ascontiguousarray(image[rows, columns])
        changed = np.ascontiguousarray(change(crop, mask[rows, columns]))
        result[rows, columns] = cv2.blendLinear(result[rows, columns], changed, 1 - alpha, alpha)  # exact at 0 and at 1
    return result


def _regions(mask: Mask, margin: float) -> Iterator[tuple[slice, slice, Mask]]:
    """Yield for each connected region of the mask its crop and, in the crop, the mask of this region alone."""
    height, width = mask.shape
    outlines, _ = cv2.findContours((mask > 0).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for outline in outlines:
        x, y, w, h = cv2.boundingRect(outline)
        more = round(margin * max(w, h))
        top, left = max(0, y - more), max(0, x - more)
        rows, columns = slice(top, min(height, y + h + more)), slice(left, min(width, x + w + more))
        alpha = mask[rows, columns]
        if len(outlines) > 1:  # another region may reach into the crop
            own = np.zeros(alpha.shape, np.uint8)
            cv2.drawContours(own, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
            alpha = alpha * own
        yield rows, columns, np.ascontiguousarray(alpha)


def cell_grid(crop: Image, cells: int) -> tuple[int, int]:
    """Return (columns, rows) of a grid of square-like cells, ``cells`` of them along the longer side, at least one.

    A cell is never smaller than CELL_LIMIT pixels: on a small face as many cells as pixels would hide nothing.
    """
    height, width = crop.shape[:2]
    longer = max(height, width)
    cells = max(1, min(cells, longer // CELL_LIMIT))
    return max(1, min(width, round(cells * width / longer))), max(1, min(height, round(cells * height / longer)))


def cell_means(crop: Image, cells: int) -> Image:
    """Return the small image of cell means: all that ``blur`` and ``pixelate`` keep of the crop."""
    return np.asarray(cv2.resize(crop, cell_grid(crop, cells), interpolation=cv2.INTER_AREA), np.uint8)


def enlarge(small: Image, crop: Image, *, smooth: bool) -> Image:
    """Return ``small`` enlarged to the size of ``crop``: smoothly, or as blocks."""
    method = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(small, crop.shape[1::-1], interpolation=method), np.uint8)


def reduced(crop: Image, change: Callable[[Image], Image], limit: int = CROP_LIMIT) -> Image:
    """Return ``change(crop)``, computed on the crop reduced to ``limit`` pixels if its longer side is longer."""
    longer = max(crop.shape[:2])
    if longer <= limit:
        return change(crop)
    size = tuple(max(1, round(side * limit / longer)) for side in crop.shape[1::-1])
    small = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    return enlarge(change(small), crop, smooth=True)


def odd(share: float, crop: Image) -> int:
    """Return the odd kernel size, at least 3, that is nearest to ``share`` of the crop's longer side."""
    nearest: int = round(share * max(crop.shape[:2])) // 2 * 2 + 1
    return max(3, nearest)


def gaussian(crop: Image, sigma: float) -> Image:
    return reduced(crop, lambda c: np.asarray(cv2.GaussianBlur(c, (0, 0), max(0.5, sigma * max(c.shape[:2]))), np.uint8))


def median(crop: Image, kernel: float) -> Image:
    return reduced(crop, lambda c: np.asarray(cv2.medianBlur(c, min(255, odd(kernel, c))), np.uint8))


def box(crop: Image, kernel: float) -> Image:
    return reduced(crop, lambda c: np.asarray(cv2.blur(c, (odd(kernel, c),) * 2), np.uint8))


def bilateral(crop: Image, diameter: float, sigma_color: float) -> Image:
    def apply(c: Image) -> Image:
        size = odd(diameter, c)
        return np.asarray(cv2.bilateralFilter(c, size, sigma_color, size / 2), np.uint8)

    return reduced(crop, apply, limit=256)


def inpaint(crop: Image, mask: Mask, method: str, radius: float, limit: int) -> Image:
    """Return the crop with the masked pixels filled in from the others; grey where there are no others."""
    hole = (mask > 0).astype(np.uint8)
    if hole.all():
        return np.full_like(crop, 128)
    algorithm = {"telea": cv2.INPAINT_TELEA, "ns": cv2.INPAINT_NS}[method]

    def fill(c: Image) -> Image:
        if c.shape != crop.shape:  # a small pixel is a hole if any of its pixels was one
            share = cv2.resize(hole * 255.0, c.shape[1::-1], interpolation=cv2.INTER_AREA)
            small_hole = (share > 0).astype(np.uint8)
        else:
            small_hole = hole
        if small_hole.all():
            return np.full_like(c, 128)
        return softened(np.asarray(cv2.inpaint(c, small_hole, radius, algorithm), np.uint8), small_hole)

    return reduced(crop, fill, limit)


def softened(filled: Image, hole: NDArray[np.uint8]) -> Image:
    """Return a filled-in crop, smoother the deeper in the hole: what is filled in from two sides meets in a hard seam.

    A pixel ``depth`` pixels from the hole's edge is under a Gaussian of sigma SOFT x depth, between the two nearest of a
    series of Gaussians that double; outside the hole nothing changes.
    """
    depth = distance_to_zero(hole)
    level = np.log2(np.maximum(SOFT * depth, 0.5)) + 1  # 0 at sigma 0.5, which is none
    result = filled.astype(np.float32)
    for number in range(1, math.ceil(float(level.max())) + 1):
        blurred = cv2.GaussianBlur(filled, (0, 0), 2.0 ** (number - 1)).astype(np.float32)
        weight = np.clip(level - (number - 1), 0, 1)[..., None].astype(np.float32)
        result += (blurred - result) * weight
    return np.asarray(np.rint(result), np.uint8)
