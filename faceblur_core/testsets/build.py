"""``faceblur testset build``: from labelled photos to a test set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from faceblur_core import __version__
from faceblur_core.datasets.labels import BadRows, Face, ellipse_row
from faceblur_core.datasets.sources import OpenSource, open_source
from faceblur_core.datasets.survey import Advance, DetectorPool, Surveyed, pixels_of, same_face, survey
from faceblur_core.errors import UsageMistake
from faceblur_core.options import made, read_yaml
from faceblur_core.testsets.categories import CATEGORIES, category_of, found_flags
from faceblur_core.testsets.format import TestSet, check_name, write_testset
from faceblur_core.types import Image, option


@dataclass(frozen=True)
class TestSetConfig:
    """A test set's config file."""

    __test__ = False  # for pytest

    name: str = option(..., "its name")
    version: Annotated[int, Ge(1)] = option(..., "raised whenever a photo, a label or a rule changes")
    summary: str = option(..., "one line on what it holds")
    licence: str = option(..., "what may be done with the photos")
    source: dict[str, Any] = option(..., "the photos and their labels")
    least_face: Annotated[float, Ge(0)] = option(12.0, "faces lower than this are ignored, pixels")
    landmarks: str = option("", "method that finds landmarks, for the categories and for identity; empty: the labels' own")
    least_per_category: Annotated[int, Ge(0)] = option(20, "a category with fewer photos, but some, is a warning")
    need_face: bool = option(False, "leave out photos in which no face is labelled or found")
    drop: dict[str, str] = option({}, "photos to leave out, each with the reason")
    overrides: dict[str, str] = option({}, "photos with the category that the rules do not see")

    def __post_init__(self) -> None:
        check_name(self.name)
        wrong = {name: category for name, category in self.overrides.items() if category not in CATEGORIES}
        for name, category in wrong.items():
            raise UsageMistake(f"overrides: {name}: {category!r} is no category; they are {', '.join(CATEGORIES)}")


@dataclass(frozen=True, slots=True)
class Built:
    """A test set that was built, and what people should know about it."""

    testset: TestSet
    warnings: list[str]


def load_config(path: Path, data: Path) -> tuple[TestSetConfig, OpenSource, Mapping[str, Any]]:
    """Return a config file, checked, and its source; relative paths in it are relative to ``data``.

    :raises UsageMistake: if it cannot be read, or a key is unknown, missing or does not fit
    """
    content = read_yaml(path, "test set config")
    config = made(TestSetConfig, content, f"test set config {path}")
    return config, open_source(config.name, config.source, data), content


def build_testset(path: Path, data: Path, folder: Path, bad: BadRows, workers: int = 2, advance: Advance | None = None) -> Built:
    """Build the test set of a config file into a folder.

    :raises FaceblurError: if a photo or label cannot be read
    :raises UsageMistake: if the config does not fit, or names photos that are not there
    """
    config, source, content = load_config(path, data)
    pool = DetectorPool([config.landmarks] if config.landmarks else [])
    items = survey(source, bad, workers, advance)
    names = {item.photo.name for item in items}
    unknown = [name for name in [*config.drop, *config.overrides] if name not in names]
    if unknown:
        raise UsageMistake(f"test set config {path} names {unknown[0]!r}, and there is no such photo")
    kept = [item for item in items if item.photo.name not in config.drop and not (config.need_face and not item.photo.faces)]
    warnings = []
    faceless = len(items) - len(kept) - len(config.drop)
    if faceless > 0:
        warnings.append(f"left out {faceless} photos in which no face is labelled or found")
    head = {
        "name": config.name,
        "version": config.version,
        "summary": config.summary,
        "licence": config.licence,
        "made_by": {"faceblur": __version__},
        "config": dict(content),
    }
    try:
        testset = write_testset(folder, head, _rows(config, kept, pool))
    finally:
        pool.close()
    sizes = testset.sizes()
    warnings += [
        f"category {category} has {sizes[category]} of at least {config.least_per_category} photos: expect wide intervals"
        for category in CATEGORIES
        if 0 < sizes[category] < config.least_per_category
    ]
    return Built(testset, warnings + bad.skipped)


def _rows(config: TestSetConfig, items: list[Surveyed], pool: DetectorPool) -> Iterator[tuple[dict[str, Any], bytes]]:
    for item in items:
        photo = item.photo
        data = photo.path.read_bytes()
        image = pixels_of(data)
        faces = [_complete(face, image, config.least_face) for face in _with_landmarks(photo.faces, pool, image)]
        name = Path(photo.name)
        row = {
            "id": name.with_suffix("").as_posix(),
            "suffix": name.suffix,
            "height": photo.height,
            "width": photo.width,
            "faces": [_face_row(face) for face in faces],
            "identity": photo.identity,
            "groups": dict(photo.groups),
            "categories": [config.overrides.get(photo.name) or category_of(faces, photo.height)],
        }
        yield row, data


def _with_landmarks(faces: tuple[Face, ...], pool: DetectorPool, image: Image) -> list[Face]:
    """Return the faces with the landmarks that the config's method finds on them; where it finds none, with their own."""
    found = [face for face in pool(image) if face.landmarks is not None]

    def completed(face: Face) -> Face:
        same = [other for other in found if same_face(face, other)]
        return dataclasses.replace(face, landmarks=same[0].landmarks) if same else face

    return [completed(face) for face in faces]


def _complete(face: Face, image: Image, least: float) -> Face:
    ignore = {"ignore"} if face.height < least else set[str]()
    return dataclasses.replace(face, flags=face.flags | found_flags(face, image) | ignore)


def _face_row(face: Face) -> dict[str, Any]:
    row: dict[str, Any] = {**ellipse_row(face.ellipse), "flags": sorted(face.flags)}
    if face.landmarks is not None:
        row["landmarks"] = np.round(face.landmarks.astype(float), 2).tolist()
    if face.score is not None:
        row["score"] = round(face.score, 4)  # it was found by a detector, not labelled by people
    return row
