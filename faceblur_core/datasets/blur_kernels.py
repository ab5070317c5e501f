"""Blur kernels (point spread functions): camera shake, defocus, linear motion. Lengths are pixels.

Camera shake is the random trajectory of Boracchi and Foi (IEEE TIP 2012) as DeblurGAN generates it (Kupyn et al., CVPR 2018):
a particle moves at constant speed; its direction is changed by Gaussian noise, by a pull towards where it began, and now and
then by an impulse that turns it about.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceblur_core.types import Floats, Image

STEPS = 2000  #: of a trajectory, as in DeblurGAN
LENGTH = 60.0  #: of a trajectory before it is scaled, as in DeblurGAN: the pull grows with the distance
GREATEST_PULL, GREATEST_IMPULSE, GREATEST_NOISE = 0.7, 0.2, 10.0  #: their strengths are drawn from 0 up to these
FINEST = 4  #: points of a line per pixel

Path = NDArray[np.complex128]  #: places over time, x + iy


@dataclass(frozen=True, slots=True)
class Shake:
    """What one trajectory is like; see :func:`draw_shake`."""

    anxiety: float  #: how much all that follows counts: 0 is a straight line
    pull: float  #: towards the beginning
    impulse: float  #: probability of an abrupt turn, times anxiety
    noise: float
    angle: float  #: first direction, radians


def draw_shake(anxiety: float, rng: np.random.Generator) -> Shake:
    """Return a trajectory's parameters, drawn as DeblurGAN does."""
    pull, impulse, noise, angle = rng.random(4) * (GREATEST_PULL, GREATEST_IMPULSE, GREATEST_NOISE, 2 * math.pi)
    return Shake(anxiety, float(pull), float(impulse), float(noise), float(angle))


def shake_path(shake: Shake, length: float, rng: np.random.Generator) -> Path:
    """Return STEPS places, equally far apart, ``length`` pixels from the first to the last along the way."""
    step = LENGTH / (STEPS - 1)
    impulses = rng.random(STEPS) < shake.impulse * shake.anxiety
    turns = rng.random(STEPS) - 0.5
    noise = (rng.standard_normal((STEPS, 2)) * shake.noise).view(np.complex128)[:, 0].tolist()
    places = [0j]
    velocity = cmath.rect(shake.anxiety or step, shake.angle)
    for hit, turn, push in zip(impulses[1:].tolist(), turns[1:].tolist(), noise[1:], strict=True):
        change = shake.anxiety * step * (push - shake.pull * places[-1])
        if hit:
            change += 2 * velocity * cmath.exp(1j * (math.pi + turn))
        velocity += change
        velocity *= step / abs(velocity)
        places.append(places[-1] + velocity)
    return np.array(places, np.complex128) * (length / LENGTH)


def path_kernel(path: Path) -> Floats:
    """Return the kernel of a motion, K x K with K odd and the sum 1: the time spent in each pixel, bilinearly.

    Its centre is the mean place, so that what it blurs does not move.
    """
    path = path - path.mean()
    radius = math.ceil(max(np.abs(path.real).max(), np.abs(path.imag).max())) + 1
    size = 2 * radius + 1
    x, y = path.real + radius, path.imag + radius
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    kernel = np.zeros(size * size)
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (1 - np.abs(x - left - dx)) * (1 - np.abs(y - top - dy))
            kernel += np.bincount((top + dy) * size + left + dx, weight, minlength=size * size)
    return np.asarray(kernel.reshape(size, size) / kernel.sum(), np.float32)


def line_kernel(length: float, angle: float) -> Floats:
    """Return the kernel of a motion along a straight line at constant speed, at that angle to the x axis (radians)."""
    count = max(2, math.ceil(length * FINEST))
    along = np.linspace(-length / 2, length / 2, count)
    return path_kernel(np.asarray(along * cmath.rect(1, angle), np.complex128))


def disc_kernel(radius: float) -> Floats:
    """Return the kernel of a lens out of focus, a disc (circle of confusion), its edge antialiased; the sum is 1."""
    half = math.ceil(radius)
    y, x = np.ogrid[-half : half + 1, -half : half + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)


def blurred(image: Image, kernel: Floats) -> Image:
    """Return an image, H x W x 3, convolved with a kernel; mirrored at its edges."""
    import cv2

    if kernel.shape == (1, 1):
        return image
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])  # OpenCV correlates
    return np.asarray(cv2.filter2D(np.ascontiguousarray(image), -1, flipped, borderType=cv2.BORDER_REFLECT_101), np.uint8)
