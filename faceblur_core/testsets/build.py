"""``faceblur testset build``: from labelled photos to a test set, of these photos or of clips that are made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceblur_core import __version__
from faceblur_core.datasets.labels import BadRows, Face, face_row
from faceblur_core.datasets.survey import Advance, DetectorPool, Surveyed, pixels_of, survey, with_landmarks
from faceblur_core.errors import UsageMistake
from faceblur_core.testsets.categories import CATEGORIES, category_of, found_flags
from faceblur_core.testsets.config import ClipsConfig, TestSetConfig, load_config
from faceblur_core.testsets.format import TestSet, write_testset
from faceblur_core.testsets.moving import clip_rows
from faceblur_core.types import Image


@dataclass(frozen=True, slots=True)
class Built:
    """A test set that was built, and what people should know about it."""

    testset: TestSet
    warnings: list[str]


def build_testset(path: Path, data: Path, folder: Path, bad: BadRows, workers: int = 2, advance: Advance | None = None) -> Built:
    """Build the test set of a config file into a folder.

    :raises FaceblurError: if a photo or label cannot be read
    :raises UsageMistake: if the config does not fit, or names photos that are not there
    """
    config, source, content = load_config(path, data)
    head = {
        "name": config.name,
        "version": config.version,
        "summary": config.summary,
        "licence": config.licence,
        "made_by": {"faceblur": __version__},
        "config": dict(content),
    }
    pool = DetectorPool([config.landmarks] if config.landmarks else [])
    try:
        if isinstance(config, ClipsConfig):
            items = survey(source, bad, workers)
            return Built(write_testset(folder, head, clip_rows(config, items, data, pool, workers, advance)), bad.skipped)
        kept, warnings = _kept(path, config, survey(source, bad, workers, advance))
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


def _kept(path: Path, config: TestSetConfig, items: list[Surveyed]) -> tuple[list[Surveyed], list[str]]:
    """Return the photos that the config wants, and warnings. :raises UsageMistake: if it names one that is not there"""
    names = {item.photo.name for item in items}
    unknown = [name for name in [*config.drop, *config.overrides] if name not in names]
    if unknown:
        raise UsageMistake(f"test set config {path} names {unknown[0]!r}, and there is no such photo")
    kept = [item for item in items if item.photo.name not in config.drop and not (config.need_face and not item.photo.faces)]
    faceless = len(items) - len(kept) - len(config.drop)
    return kept, [f"left out {faceless} photos in which no face is labelled or found"] if faceless > 0 else []


def _rows(config: TestSetConfig, items: list[Surveyed], pool: DetectorPool) -> Iterator[tuple[dict[str, Any], bytes]]:
    for item in items:
        photo = item.photo
        data = photo.path.read_bytes()
        image = pixels_of(data)
        faces = [_complete(face, image, config.least_face) for face in with_landmarks(photo.faces, pool, image)]
        name = Path(photo.name)
        row = {
            "id": name.with_suffix("").as_posix(),
            "suffix": name.suffix,
            "height": photo.height,
            "width": photo.width,
            "faces": [face_row(face) for face in faces],
            "identity": photo.identity,
            "groups": dict(photo.groups),
            "categories": [config.overrides.get(photo.name) or category_of(faces, photo.height)],
        }
        yield row, data


def _complete(face: Face, image: Image, least: float) -> Face:
    ignore = {"ignore"} if face.height < least else set[str]()
    return dataclasses.replace(face, flags=face.flags | found_flags(face, image) | ignore)
