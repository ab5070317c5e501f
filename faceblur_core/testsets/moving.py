"""Clips with exact truth: faces, cut out of photos with their hair, move before still pictures without a face.

Each clip has one event: faces come in and leave (``leaving``), two cross and one hides the other (``crossing``), something is
held before a face for 1 to 15 pictures (``occluded``), or a face comes nearer or goes away (``resizing``). All faces sway.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceblur_core.datasets.labels import Face, LabelledPhoto, face_row, pictures_under
from faceblur_core.datasets.survey import Advance, DetectorPool, Surveyed, in_order, pixels_of, with_landmarks
from faceblur_core.errors import UsageMistake
from faceblur_core.media.video import encoded_clip
from faceblur_core.testsets.compose import moved, pasted, placing
from faceblur_core.testsets.config import LONGEST, ClipsConfig, Event
from faceblur_core.types import Ellipse, Image, Mask

HEAD, EDGE = 1.5, 0.15  #: a face is cut out with the ellipse grown by this; its soft edge, as a share of the ellipse
BROWS = 0.3  #: what is held before a face covers it from here down, half heights above its middle
PARTLY, MOSTLY = 0.1, 0.5  #: shares of a face in the picture that are covered, from which it is flagged
SWAY = 0.02  #: of the picture's height, by which faces swing
TILT = 6.0  #: degrees, by which they do


@dataclass(frozen=True, slots=True)
class Head:
    """A face cut out of its photo."""

    image: Image
    weight: Mask  #: 1 in the face and its hair, with a soft edge
    face: Face


@dataclass(frozen=True, slots=True)
class Walk:
    """How a face moves through a clip; arrays of one value per picture."""

    head: Head
    x: NDArray[np.float64]  #: of the face's middle, pixels
    y: NDArray[np.float64]
    height: NDArray[np.float64]  #: of the face, pixels
    degrees: NDArray[np.float64]  #: by which it is turned
    covered: range = range(0)  #: pictures in which something is held before it


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip before it is drawn."""

    event: Event
    number: int  #: from 0, of those with this event
    background: Image
    thing: Image  #: what is held before faces
    walks: Sequence[Walk]  #: the nearest last


def clip_rows(
    config: ClipsConfig, items: Sequence[Surveyed], data: Path, pool: DetectorPool, workers: int, advance: Advance | None
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the manifest's row and the file of every clip.

    :param items: the photos that faces are cut from
    :raises UsageMistake: if there are too few faces, or no backgrounds, or ``drop`` names one that is not there
    """
    photos = [item.photo for item in items if _fits(config, item.photo)]
    folder = data / config.backgrounds
    pictures = {path.relative_to(folder).as_posix(): path for path in pictures_under(folder)}
    if unknown := config.drop.keys() - pictures.keys():
        raise UsageMistake(f"test set {config.name}: drop names {min(unknown)!r}, and there is no such picture in {folder}")
    backgrounds = [path for name, path in pictures.items() if name not in config.drop]
    if len(photos) < 2 or not backgrounds:
        raise UsageMistake(
            f"test set {config.name}: {len(photos)} faces to cut out and {len(backgrounds)} backgrounds are too few"
        )

    def made(clip: tuple[Event, int]) -> tuple[dict[str, Any], bytes]:
        return _clip(config, _scene(config, *clip, photos, backgrounds, pool))

    clips = [(event, number) for event, count in config.clips.items() for number in range(count)]
    return in_order(made, clips, workers, advance)


def _fits(config: ClipsConfig, photo: LabelledPhoto) -> bool:
    """Return whether a photo shows one face, whole and large enough."""
    if len(photo.faces) != 1 or photo.faces[0].height < config.least_source or "ignore" in photo.faces[0].flags:
        return False
    outline = photo.faces[0].ellipse
    x1, y1, x2, y2 = dataclasses.replace(outline, rx=outline.rx * HEAD, ry=outline.ry * HEAD).bounds()
    return x1 >= 0 and y1 >= 0 and x2 <= photo.width and y2 <= photo.height


def _scene(
    config: ClipsConfig,
    event: Event,
    number: int,
    photos: Sequence[LabelledPhoto],
    backgrounds: Sequence[Path],
    pool: DetectorPool,
) -> Scene:
    """Return a clip as it is planned: it depends on nothing but the config, its number and the photos."""
    rng = np.random.default_rng([config.seed, *event.encode(), number])
    paths = [backgrounds[index] for index in rng.integers(len(backgrounds), size=2)]
    background, thing = (_filling(pixels_of(path.read_bytes()), config.height, config.width) for path in paths)
    heads = [_cut_out(photos[index], pool) for index in rng.choice(len(photos), 2, replace=False)]
    return Scene(event, number, background, thing, _WALKS[event](config, number, heads, rng))


def _cut_out(photo: LabelledPhoto, pool: DetectorPool) -> Head:
    image = pixels_of(photo.path.read_bytes())
    [face] = with_landmarks(photo.faces, pool, image)
    weight = np.clip((HEAD - face.ellipse.reach(*image.shape[:2])) / EDGE, 0, 1).astype(np.float32)
    return Head(image, weight, face)


def _filling(image: Image, height: int, width: int) -> Image:
    """Return the middle of an image, enlarged or reduced to a size."""
    import cv2

    scale = max(height / image.shape[0], width / image.shape[1])
    size = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    large = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.ascontiguousarray(large[top : top + height, left : left + width])


def _walk(
    config: ClipsConfig,
    head: Head,
    rng: np.random.Generator,
    x: tuple[float, float],
    y: float,
    height: tuple[float, float],
    covered: range = range(0),
) -> Walk:
    """Return a straight walk at an even pace, with some swaying; places are shares of the picture's width and height."""
    time = np.linspace(0, 1, config.pictures)
    swing = [np.sin(2 * math.pi * (rng.uniform(1, 3) * time + rng.uniform())) for _ in range(3)]
    return Walk(
        head,
        np.interp(time, [0, 1], x) * config.width + SWAY * config.height * swing[0],
        y * config.height + SWAY * config.height * swing[1],
        np.geomspace(*height, config.pictures) * config.height,
        TILT * swing[2],
        covered,
    )


def _sizes(rng: np.random.Generator) -> tuple[float, float]:
    return (rng.uniform(0.18, 0.34),) * 2


def _leaving(config: ClipsConfig, number: int, heads: Sequence[Head], rng: np.random.Generator) -> list[Walk]:
    """One comes in from the left, one leaves to the right."""
    first, second = _sizes(rng), _sizes(rng)
    beyond = [HEAD * size[0] * config.height / config.width / 2 for size in (first, second)]
    return [
        _walk(config, heads[0], rng, (-beyond[0], rng.uniform(0.3, 0.45)), 0.3, first),
        _walk(config, heads[1], rng, (rng.uniform(0.55, 0.7), 1 + beyond[1]), 0.7, second),
    ]


def _crossing(config: ClipsConfig, number: int, heads: Sequence[Head], rng: np.random.Generator) -> list[Walk]:
    """Two go past each other, the second before the first."""
    y = rng.uniform(0.4, 0.6)
    return [
        _walk(config, heads[0], rng, (0.15, 0.85), y, _sizes(rng)),
        _walk(config, heads[1], rng, (0.85, 0.15), y + rng.uniform(-0.04, 0.04), _sizes(rng)),
    ]


def _occluded(config: ClipsConfig, number: int, heads: Sequence[Head], rng: np.random.Generator) -> list[Walk]:
    """One is partly covered for some pictures, 1 in the first clip and LONGEST in the last; another is not."""
    length = 1 + round((LONGEST - 1) * number / max(1, config.clips["occluded"] - 1))
    start = (config.pictures - length) // 2
    return [
        _walk(config, heads[0], rng, (0.2, rng.uniform(0.35, 0.5)), 0.35, _sizes(rng), range(start, start + length)),
        _walk(config, heads[1], rng, (0.8, rng.uniform(0.65, 0.8)), 0.6, _sizes(rng)),
    ]


def _resizing(config: ClipsConfig, number: int, heads: Sequence[Head], rng: np.random.Generator) -> list[Walk]:
    """One comes nearer, or goes away."""
    ends = (0.14, rng.uniform(0.4, 0.5))
    return [_walk(config, heads[0], rng, (0.4, rng.uniform(0.5, 0.6)), 0.5, ends[::-1] if number % 2 else ends)]


_WALKS: Mapping[Event, Callable[[ClipsConfig, int, Sequence[Head], np.random.Generator], list[Walk]]] = {
    "leaving": _leaving,
    "crossing": _crossing,
    "occluded": _occluded,
    "resizing": _resizing,
}


def _clip(config: ClipsConfig, scene: Scene) -> tuple[dict[str, Any], bytes]:
    truths: list[dict[str, Any]] = []

    def pictures() -> Iterator[Image]:
        for frame in range(config.pictures):
            image, faces = _drawn(config, scene, frame)
            truths.append({"faces": faces})
            yield image

    data = encoded_clip(pictures(), Fraction(config.rate))
    row = {
        "id": f"{scene.event}-{scene.number + 1:02}",
        "suffix": ".mp4",
        "height": config.height,
        "width": config.width,
        "rate": config.rate,
        "identity": None,
        "groups": {},
        "categories": [scene.event],
        "pictures": truths,
    }
    return row, data


def _drawn(config: ClipsConfig, scene: Scene, frame: int) -> tuple[Image, list[dict[str, Any]]]:
    """Return one picture of a clip and its faces, as the manifest has them."""
    image, size = scene.background, scene.background.shape[:2]
    placed: list[tuple[int, Face, NDArray[np.bool_]]] = []  #: track, face, which of its pixels nothing covers
    for track, walk in enumerate(scene.walks):
        outline = walk.head.face
        scale = float(walk.height[frame]) / outline.height
        matrix = placing(outline.ellipse, scale, float(walk.degrees[frame]), float(walk.x[frame]), float(walk.y[frame]))
        image, there = pasted(image, walk.head.image, walk.head.weight, matrix)
        face = moved(outline, matrix)
        placed = [(number, other, seen & (there < 0.5)) for number, other, seen in placed]
        placed.append((track, face, face.ellipse.inside(*size)))
        if frame in walk.covered:
            image, held = _held(image, scene.thing, face.ellipse)
            placed = [(number, other, seen & ~held) for number, other, seen in placed]
    return image, [row for track, face, seen in placed if (row := _truth(config, track, face, seen))]


def _held(image: Image, thing: Image, face: Ellipse) -> tuple[Image, NDArray[np.bool_]]:
    """Return the image with a thing held before a face, from its brows down, and where that is."""
    import cv2

    dx, dy = face.half_extent()
    height, width = image.shape[:2]
    left, right = max(0, round(face.cx - 1.2 * dx)), min(width, round(face.cx + 1.2 * dx))
    top, bottom = max(0, round(face.cy - BROWS * dy)), min(height, round(face.cy + 1.2 * dy))
    held = np.zeros((height, width), np.bool_)
    if left >= right or top >= bottom:
        return image, held
    held[top:bottom, left:right] = True
    shown = image.copy()
    shown[held] = cv2.resize(thing, (right - left, bottom - top), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    return shown, held


def _truth(config: ClipsConfig, track: int, face: Face, seen: NDArray[np.bool_]) -> dict[str, Any] | None:
    """Return a face as the manifest has it; None if nothing of it is in the picture."""
    inside = int(face.ellipse.inside(*seen.shape).sum())
    if not inside:
        return None
    visible = min(1.0, float(seen.sum()) / (math.pi * face.ellipse.rx * face.ellipse.ry))
    covered = 1 - float(seen.sum()) / inside
    flags = {"heavy-occlusion"} if covered >= MOSTLY else {"occlusion"} if covered >= PARTLY else set[str]()
    if visible < config.least_visible or face.height < config.least_face:
        flags.add("ignore")
    return {**face_row(dataclasses.replace(face, flags=face.flags | flags)), "track": track, "visible": round(visible, 3)}
