"""How often a face is taken for another person's, or not known again: where the limits of embedders come from.

Faces are found, aligned, judged and compared as ``faceblur run --keep`` does it (``faceblur_core/run/people.py``), the
largest one of each photo. Photos are named PERSON_VF.jpg, V the video and F the picture in it, as YouTube Faces' are. Two
photos of one person count only if they are of different videos. Prints the limits for the rates asked for, over the faces
of the folders that are seen well enough, and then the rates at these limits, or at the embedder's own: of pairs of photos,
of photos against persons known from the pictures of one video, and of photos made small or blurred.

Usage: python benchmarks/people.py shared/data/ytf/test [--plain] [--embedder mobilefacenet] [--limits 0.4 0.1]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceblur_core.media.images import read_photo
from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.people import Recogniser, View, view

NAME = re.compile(r"(.+)_(\d)\d\.jpg")
FALSE_MATCHES, FALSE_NON_MATCHES = 1e-4, 1e-2
SIDES = (64, 48, 32, 24, 16)  #: pixels of the aligned square, to which photos are reduced
BLURS = (0.01, 0.02, 0.03, 0.05)  #: standard deviations of a Gaussian, as a share of that square's side


@dataclass(frozen=True)
class Faces:
    """Faces and who they are, parallel arrays."""

    people: np.ndarray
    videos: np.ndarray
    vectors: np.ndarray
    good: np.ndarray  #: whether each is seen well enough

    def select(self, which: np.ndarray) -> Faces:
        return Faces(self.people[which], self.videos[which], self.vectors[which], self.good[which])

    def averaged(self) -> Faces:
        """Return one vector per video, the mean of its faces."""
        keys = sorted(set(zip(self.people.tolist(), self.videos.tolist(), strict=True)))
        means = [self.vectors[(self.people == person) & (self.videos == video)].sum(axis=0) for person, video in keys]
        vectors = np.array([mean / np.linalg.norm(mean) for mean in means])
        return Faces(*(np.array(column) for column in zip(*keys, strict=True)), vectors, np.ones(len(keys), bool))


def pairs(a: Faces, b: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of pairs of one person in two videos, and of two people."""
    cosines = a.vectors @ b.vectors.T
    same = a.people[:, None] == b.people[None, :]
    once = np.triu(np.ones_like(same)) if a is b else True  # each pair of one list would be there both ways round
    return cosines[once & same & (a.videos[:, None] != b.videos[None, :])], cosines[once & ~same]


def seen(photos: list[Path], recogniser: Recogniser) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, View]]:
    """Yield person, video, photo, landmarks and view of the largest face of every photo."""
    for path in photos:
        name = NAME.fullmatch(path.name)
        image = read_photo(path.read_bytes()).frames[0].rgb()
        found = recogniser.finder(image)
        if name and len(found):
            largest = int(np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1).argmax())
            points = found.landmarks[largest]
            if (how := view(image, points)) is not None:
                yield name[1], name[2], image, points, how


def reduced(image: np.ndarray, points: np.ndarray, factor: float) -> View | None:
    import cv2

    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return view(cv2.resize(image, size, interpolation=cv2.INTER_AREA), points * np.float32(factor))


def changed(image: np.ndarray, points: np.ndarray, how: View) -> Iterator[tuple[str, View | None]]:
    """Yield the face as it is, smaller, and blurred."""
    import cv2

    yield "as they are", how
    for side in SIDES:
        yield f"{side} pixels", reduced(image, points, min(1.0, side / how.side))
    for blur in BLURS:
        yield f"blurred {blur:g}", view(cv2.GaussianBlur(image, (0, 0), blur * how.side), points)


def rates(label: str, known: Faces, asked: Faces, same: float, different: float) -> None:
    genuine, impostor = pairs(known, asked)
    print(
        f"{label:<34} {len(genuine):>7} {(genuine >= same).mean():>8.4f} {(genuine < different).mean():>10.4f}"
        f" {len(impostor):>8} {(impostor >= same).mean():>10.6f} {(impostor < different).mean():>8.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--embedder", default="mobilefacenet")
    parser.add_argument("--limits", nargs=2, type=float)
    parser.add_argument("--without", nargs="+", default=[], metavar="PERSON", help="people under whose name others are seen")
    parser.add_argument("--plain", action="store_true", help="photos as they are only")
    options = parser.parse_args()
    plugins = installed_plugins()
    recogniser = Recogniser.make(options.embedder, plugins, plugins.make("detector", "yunet"))
    for folder in options.folders:
        photos = [path for path in sorted(folder.glob("*.jpg")) if path.name[:-7] not in options.without]
        report(folder, photos, recogniser, options.limits, plain=options.plain)
    close(recogniser)


def report(folder: Path, photos: list[Path], recogniser: Recogniser, limits: list[float] | None, *, plain: bool) -> None:
    rows: dict[str, list[tuple[str, str, np.ndarray, bool]]] = {}
    for person, video, image, points, how in seen(photos, recogniser):
        for label, other in [("as they are", how)] if plain else changed(image, points, how):
            if other is not None:
                rows.setdefault(label, []).append((person, video, recogniser.embedder(other.face[None])[0], other.good))
    faces = {label: Faces(*(np.array(column) for column in zip(*several, strict=True))) for label, several in rows.items()}
    every = faces["as they are"]
    good = every.select(every.good)
    genuine, impostor = (np.sort(cosines) for cosines in pairs(good, good))
    found = impostor[::-1][int(FALSE_MATCHES * len(impostor))], genuine[int(FALSE_NON_MATCHES * len(genuine))]
    print(
        f"{folder}: {len(photos)} photos, {len(every.good)} faces of {len(set(every.people))} people, {len(good.good)} seen well"
    )
    print(f"limits for a false match rate of {FALSE_MATCHES:g} and a false non-match rate of {FALSE_NON_MATCHES:g}: ", end="")
    print(f"{found[0]:.4f} and {found[1]:.4f}")
    own = recogniser.embedder.threshold, recogniser.embedder.different
    same, different = limits or (found if own[0] is None else own)
    print(f"rates at {same:.4f} and {different:.4f}:")
    print(f"{'':<34} {'pairs of':>7} {'surely':>8} {'wrongly':>10} {'pairs of':>8} {'wrongly':>10} {'surely':>8}")
    print(f"{'':<34} {'one':>7} {'same':>8} {'other':>10} {'two':>8} {'same':>10} {'other':>8}")
    rates("photo and photo, all faces", every, every, same, different)
    rates("photo and photo, seen well", good, good, same, different)
    rates("all photos of a video and photo", good.averaged(), good, same, different)
    for label, changed_ in faces.items():
        rates(f"photo and photo, {label}: all", good, changed_, same, different)
        if changed_.good.sum() > 20:
            well = changed_.select(changed_.good)
            rates(f"  of them seen well: {well.good.sum() / len(changed_.good):.3f}", good, well, same, different)


main()
