"""From a region of the network's map to a soft mask of the photo that ends where the photo has an edge.

Inside the region, grown as asked, the mask is 1. Around it lies a band, and there a guided filter (He, Sun and Tang, IEEE
TPAMI 2013) decides: the mask goes on where the photo goes on, and ends at an edge. The filter's coefficients are computed on
a reduced crop and enlarged (He and Sun, Fast Guided Filter, 2015), so that its cost hardly grows with the photo.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from faceblur_core.distance import distance_to_zero
from faceblur_core.types import Floats, Image, Mask
from faceblur_inpaint.threshold import Region

LIMIT = 384  #: pixels, longer side of the crops that the filter works on
SMOOTH = 1e-3  #: variance of grey values in 0..1 that counts as an edge
CORE = 0.25  #: share of the band over which the mask falls off at least, whatever the photo shows
FAINT = 1 / 255  #: masks below are 0


def paint(mask: Mask, image: Image, region: Region, shape: tuple[int, int], *, grow: float, band: float) -> None:
    """Put a region into the mask of the whole photo, in place; what is marked already stays.

    :param mask: H x W
    :param image: H x W x 3
    :param region: of a map of that ``shape``, h x w, which shows the whole photo
    :param grow: factor of the region's size, 1: as it is
    :param band: width of the band, as a share of the radius of a disc of the region's area; at least 1 pixel of the map
    """
    radius = math.sqrt(float(region.filled.sum()) / math.pi)
    wider, soft = (grow - 1) * radius, max(1.0, band * radius)
    margin = math.ceil(wider + soft) + 1
    height, width = region.filled.shape
    top, bottom = max(0, region.top - margin), min(shape[0], region.top + height + margin)
    left, right = max(0, region.left - margin), min(shape[1], region.left + width + margin)
    small = np.zeros((bottom - top, right - left), np.float32)
    small[region.top - top :, region.left - left :][:height, :width] = region.filled
    rows, columns = _scaled(top, bottom, shape[0], mask.shape[0]), _scaled(left, right, shape[1], mask.shape[1])
    part = mask[rows, columns]
    if part.size:
        alpha = _alpha(np.ascontiguousarray(image[rows, columns]), small, wider, soft)
        np.maximum(part, alpha, out=part)


def _scaled(first: int, last: int, length: int, full: int) -> slice:
    return slice(round(first * full / length), round(last * full / length))


def _alpha(crop: Image, small: Floats, wider: float, soft: float) -> Mask:
    """Return the soft mask of a crop, H x W x 3.

    :param small: the region, 1 inside, on the map's scale
    :param wider: by how much it grows, pixels of the map
    :param soft: width of the band, pixels of the map
    """
    height, width = crop.shape[:2]
    reduction = min(1.0, LIMIT / max(height, width))
    size = max(1, round(width * reduction)), max(1, round(height * reduction))
    unit = max(size[0] / small.shape[1], size[1] / small.shape[0])  # pixels of the reduced crop per pixel of the map
    reach = np.maximum(_distance(small, size) / np.float32(unit) - np.float32(wider), 0)
    inner = np.clip(1 - reach / np.float32(CORE * soft), 0, 1)
    outer = np.clip(1 - reach / np.float32(soft), 0, 1)
    guide = _grey(cv2.resize(crop, size, interpolation=cv2.INTER_AREA))
    slope, offset = guided((reach <= soft / 2).astype(np.float32), guide, max(1, round(soft * unit)))
    if size != (width, height):
        guide = _grey(crop)
        inner, outer, slope, offset = (
            cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR) for part in (inner, outer, slope, offset)
        )
    alpha = np.maximum(inner, np.clip(np.minimum(outer, slope * guide + offset), 0, 1))
    alpha[alpha < FAINT] = 0
    return np.asarray(alpha, np.float32)


def _distance(small: Floats, size: tuple[int, int]) -> Floats:
    """Return how far each pixel of a crop of that size, width and height, lies outside the region; its outline smoothed."""
    smooth = cv2.resize(cv2.GaussianBlur(small, (0, 0), 0.7), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    if not smooth.any():  # a region of a pixel's width
        smooth = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR) > 0
    if not smooth.any():
        return np.full(size[::-1], np.inf, np.float32)
    return distance_to_zero((~smooth).astype(np.uint8))


def _grey(crop: Image) -> Floats:
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)


def guided(values: Floats, guide: Floats, radius: int) -> tuple[Floats, Floats]:
    """Return slope and offset of the guided filter, H x W each: the filtered values are slope x guide + offset.

    :param values: what is filtered, H x W
    :param guide: the picture whose edges it takes, H x W in 0..1
    :param radius: of the windows, pixels
    """
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(array: Floats) -> Floats:
        return np.asarray(cv2.blur(array, side, borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide, mean_values = mean(guide), mean(values)
    variance = mean(guide * guide) - mean_guide * mean_guide
    covariance = mean(guide * values) - mean_guide * mean_values
    slope = covariance / (np.maximum(variance, 0) + np.float32(SMOOTH))
    return mean(slope), mean(mean_values - slope * mean_guide)
