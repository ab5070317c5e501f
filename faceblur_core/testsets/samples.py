"""The built-in test set ``samples``: made on any machine from pictures that ship in scikit-image, with exact truth.

One portrait (NASA's of the astronaut Eileen Collins, public domain) is placed, turned, lit, covered and repeated; the
backgrounds and the face-free pictures are scikit-image's own. It serves to see that everything works, and how a method
fails; one face of one person says nothing about people.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core import __version__
from faceblur_core.datasets.labels import Face, ellipse_row
from faceblur_core.testsets.categories import found_flags
from faceblur_core.testsets.compose import moved, pasted, placing
from faceblur_core.testsets.format import TestSet, write_testset
from faceblur_core.types import Ellipse, Image

NAME, VERSION, SEED = "samples", 1, 2026
SUMMARY = "Generated scenes with one astronaut's portrait, and pictures without a face"
PORTRAIT_FACE = Ellipse(224.0, 117.0, 46.0, 64.0, math.radians(5))  #: fitted by eye, from the hairline to the chin
#: The eyes, the nose and the corners of the mouth in the portrait, as in ``Detections.landmarks``.
PORTRAIT_POINTS = np.array([[204.5, 101], [247, 104], [222.5, 125], [205.5, 140], [242.5, 142.5]], np.float32)
PORTRAIT = Face(PORTRAIT_FACE, landmarks=PORTRAIT_POINTS)
BUST = (96, 0, 372, 300)  #: x1, y1, x2, y2 of the part of the portrait that is set into other pictures
FACE_FREE = ("chelsea", "coffee", "rocket", "gravel", "moon", "brick", "text", "hubble_deep_field")
PER_CATEGORY = 8
HEIGHT, WIDTH = 384, 512


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture in the making."""

    image: Image
    faces: tuple[Face, ...] = ()


def build_samples(folder: Path) -> TestSet:
    """Make the set in a folder. The same versions of NumPy and OpenCV make the same bytes."""
    head = {
        "name": NAME,
        "version": VERSION,
        "summary": SUMMARY,
        "licence": "NASA, public domain; the other pictures of scikit-image are public domain or CC0",
        "made_by": {"faceblur": __version__, "seed": SEED},
    }
    return write_testset(folder, head, _rows())


def _rows() -> Iterator[tuple[dict[str, Any], bytes]]:
    from faceblur_core.media.images import Frame, Photo, encode_photo

    makers: dict[str, Callable[[np.random.Generator, int], Scene]] = {
        "frontal": _frontal,
        "medium": _medium,
        "multiple": _multiple,
        "difficult": _difficult,
        "face-free": _face_free,
    }
    for category, maker in makers.items():
        for number in range(PER_CATEGORY):
            scene = maker(np.random.default_rng([SEED, len(category), number]), number)
            faces = [dataclasses.replace(face, flags=face.flags | found_flags(face, scene.image)) for face in scene.faces]
            row = {
                "id": f"{category}-{number + 1}",
                "suffix": ".png",
                "height": scene.image.shape[0],
                "width": scene.image.shape[1],
                "faces": [
                    {**ellipse_row(f.ellipse), "flags": sorted(f.flags), "landmarks": np.round(f.landmarks, 2).tolist()}
                    for f in faces
                    if f.landmarks is not None
                ],
                "identity": "astronaut" if faces else None,
                "groups": {},
                "categories": [category],
            }
            yield row, encode_photo(Photo("PNG", (Frame(scene.image, "RGB"),)), software="")


def _portrait() -> Image:
    from skimage import data

    return np.asarray(data.astronaut(), np.uint8)


def _background(rng: np.random.Generator) -> Image:
    """Return a part of a face-free picture, HEIGHT x WIDTH x 3."""
    return _part(FACE_FREE[rng.integers(len(FACE_FREE))], rng)


def _part(name: str, rng: np.random.Generator) -> Image:
    import cv2
    from skimage import data

    picture = np.asarray(getattr(data, name)())
    picture = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture[..., :3]
    scale = max(HEIGHT / picture.shape[0], WIDTH / picture.shape[1]) * rng.uniform(1.0, 1.3)
    size = math.ceil(picture.shape[1] * scale), math.ceil(picture.shape[0] * scale)
    large = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_LINEAR)
    y, x = rng.integers(large.shape[0] - HEIGHT + 1), rng.integers(large.shape[1] - WIDTH + 1)
    return np.ascontiguousarray(large[y : y + HEIGHT, x : x + WIDTH])


def _whole_portrait(scale: float, degrees: float, x: float, y: float, *, mirrored: bool) -> Scene:
    """Return the portrait, turned about its face, filling the picture; beyond its edge the pixels of the edge are repeated."""
    import cv2

    matrix = placing(PORTRAIT_FACE, scale, degrees, x, y, mirrored=mirrored)
    flags, border = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC, cv2.BORDER_REPLICATE
    image = cv2.warpAffine(_portrait(), matrix, (WIDTH, HEIGHT), flags=flags, borderMode=border)
    return Scene(np.asarray(image, np.uint8), (moved(PORTRAIT, matrix),))


def _add_bust(scene: Scene, scale: float, degrees: float, x: float, y: float, *, mirrored: bool, gain: float = 1.0) -> Scene:
    """Return the scene with head and shoulders set into it, with a soft edge."""
    import cv2

    matrix = placing(PORTRAIT_FACE, scale, degrees, x, y, mirrored=mirrored)
    x1, y1, x2, y2 = BUST
    portrait = np.clip(_portrait() * gain, 0, 255).astype(np.uint8)
    alpha = np.zeros(portrait.shape[:2], np.float32)
    cv2.ellipse(alpha, ((x1 + x2) // 2, (y1 + y2) // 2 - 20), ((x2 - x1) // 2 - 12, (y2 - y1) // 2 - 12), 0, 0, 360, 1.0, -1)
    alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), 6), np.float32)
    return Scene(pasted(scene.image, portrait, alpha, matrix)[0], (*scene.faces, moved(PORTRAIT, matrix)))


def _lit(scene: Scene, gain: float, bias: float = 0.0) -> Scene:
    return dataclasses.replace(scene, image=np.clip(scene.image * gain + bias, 0, 255).astype(np.uint8))


def _frontal(rng: np.random.Generator, number: int) -> Scene:
    scale = rng.uniform(0.95, 1.9)
    x, y = rng.uniform(0.35, 0.65) * WIDTH, rng.uniform(0.4, 0.55) * HEIGHT
    return _lit(_whole_portrait(scale, rng.uniform(-10, 10), x, y, mirrored=bool(number % 2)), rng.uniform(0.75, 1.15))


def _medium(rng: np.random.Generator, number: int) -> Scene:
    height = rng.uniform(0.12, 0.28) * HEIGHT
    scale = height / (2 * PORTRAIT_FACE.ry)
    x, y = rng.uniform(0.15, 0.85) * WIDTH, rng.uniform(0.25, 0.65) * HEIGHT
    return _add_bust(Scene(_background(rng)), scale, rng.uniform(-12, 12), x, y, mirrored=bool(number % 2))


def _multiple(rng: np.random.Generator, number: int) -> Scene:
    scene, count = Scene(_background(rng)), 2 + number % 3
    for place in range(count):
        scale = rng.uniform(0.13, 0.30) * HEIGHT / (2 * PORTRAIT_FACE.ry)
        x, y = (place + rng.uniform(0.4, 0.6)) * WIDTH / count, rng.uniform(0.3, 0.65) * HEIGHT
        mirrored, gain = bool(rng.integers(2)), rng.uniform(0.6, 1.15)
        scene = _add_bust(scene, scale, rng.uniform(-12, 12), x, y, mirrored=mirrored, gain=gain)
    return scene


def _difficult(rng: np.random.Generator, number: int) -> Scene:
    import cv2

    x, y = rng.uniform(0.4, 0.6) * WIDTH, rng.uniform(0.4, 0.55) * HEIGHT
    if number < 2:  # turned
        return _whole_portrait(rng.uniform(0.8, 1.3), (50, -80)[number], x, y, mirrored=False)
    if number == 2:  # small
        return _add_bust(Scene(_background(rng)), 0.2, 0, x, y, mirrored=False)
    scene = _whole_portrait(rng.uniform(0.8, 1.4), rng.uniform(-10, 10), x, y, mirrored=bool(number % 2))
    if number == 3:
        return _lit(scene, 0.16)
    if number == 4:
        return _lit(scene, 0.5, 150)
    if number == 5:
        blurred = cv2.GaussianBlur(scene.image, (0, 0), 5)
        return dataclasses.replace(scene, image=np.asarray(blurred, np.uint8))
    return _covered(scene, eyes=number == 6)


def _covered(scene: Scene, *, eyes: bool) -> Scene:
    """Return the scene with dark glasses before the eyes, or a cloth before nose and mouth."""
    import cv2

    image = scene.image.copy()
    points = scene.faces[0].landmarks
    assert points is not None
    distance = float(np.hypot(*(points[1] - points[0])))
    if eyes:
        for eye in points[:2]:
            cv2.circle(image, (round(float(eye[0])), round(float(eye[1]))), round(0.42 * distance), (15, 15, 20), -1, cv2.LINE_AA)
        ends = [(round(float(eye[0])), round(float(eye[1]))) for eye in points[:2]]
        cv2.line(image, ends[0], ends[1], (15, 15, 20), max(2, round(0.1 * distance)), cv2.LINE_AA)
    else:
        down = points[3:].mean(axis=0) - points[:2].mean(axis=0)
        across = (points[1] - points[0]) * 1.05
        top = points[2]
        corners = np.array([top - across, top + across, top + across * 0.7 + 1.2 * down, top - across * 0.7 + 1.2 * down])
        cv2.fillConvexPoly(image, np.rint(corners).astype(np.int32), (120, 170, 190), cv2.LINE_AA)
    flagged = dataclasses.replace(scene.faces[0], flags=frozenset({"occlusion"}))
    return Scene(image, (flagged,))


def _face_free(rng: np.random.Generator, number: int) -> Scene:
    return Scene(_part(FACE_FREE[number], rng))
