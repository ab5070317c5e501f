"""``faceblur dataset blur``: faces blurred by chance, each labelled with how much of its identity is lost.

The set's folder holds ``train/ val/ …`` with square pictures of faces, ``labels.csv`` (one row per picture), ``labels.png``
(the distribution of the labels before and after sampling) and ``dataset.yaml`` (how it was made). The label is the degree of
blur, 1 - cosine of the embeddings of the sharp and the blurred face, within 0..1.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from faceblur_core.datasets.blur_balance import bin_of, evenly
from faceblur_core.datasets.blur_config import BlurConfig, BlurRecipe
from faceblur_core.datasets.blur_faces import Task, Variant, cosine_metric, pixels_at, variants
from faceblur_core.datasets.blur_files import write_set
from faceblur_core.datasets.builder import Report, assign_splits, portions, without_excluded
from faceblur_core.datasets.labels import BadRows, Face
from faceblur_core.datasets.survey import Advance, Surveyed, survey
from faceblur_core.errors import FaceblurError
from faceblur_core.media.files import check_new_folder
from faceblur_core.types import Sample


@dataclass
class BlurReport:
    """What was made, for people."""

    tried: dict[str, NDArray[np.float64]] = field(default_factory=dict)  #: degrees of all variants, by split
    chosen: dict[str, NDArray[np.float64]] = field(default_factory=dict)  #: degrees of the pictures, by split
    threshold: float = math.nan  #: degree at which different people match with the false match rate
    warnings: list[str] = field(default_factory=list)

    def bin_sizes(self, split: str, bins: int) -> NDArray[np.intp]:
        """Return how many pictures of a split are in each bin."""
        return np.bincount(bin_of(self.chosen[split], bins), minlength=bins)


def build_blurred(recipe: BlurRecipe, folder: Path, bad: BadRows, workers: int = 2, advance: Advance | None = None) -> BlurReport:
    """Make the set, whole or not at all. Needs memory for all variants that are tried, about 8 kB each.

    :raises UsageMistake: if the folder is there and not empty
    :raises FaceblurError: if a photo or a label cannot be read, there is no face to blur, or the folder cannot be written
    """
    check_new_folder(folder)
    report = BlurReport()
    items = _survey(recipe, bad, workers, report, advance)
    splits = assign_splits(items, recipe.config, {})
    tasks = [task for split, found in splits.items() for task in _tasks(recipe, split, found, report)]
    if not tasks:
        raise FaceblurError("there is no face to blur: none is found, has landmarks and is as high as least_pixels")
    report.threshold = _threshold(recipe, items)
    tried = _tried(recipe, tasks, workers, report, advance)
    chosen = {split: _chosen(recipe.config, split, found, report) for split, found in tried.items()}
    try:
        write_set(recipe, folder, tried, chosen, report.threshold)
    except OSError as error:
        raise FaceblurError(f"{error.filename or folder}: {error.strerror}") from None
    return report


def _tried(
    recipe: BlurRecipe, tasks: Sequence[Task], workers: int, report: BlurReport, advance: Advance | None
) -> dict[str, list[Variant]]:
    """Return all variants, by split, but those of faces that the recogniser cannot align."""
    found: dict[str, list[Variant]] = {split: [] for split in recipe.config.splits}
    unaligned = 0
    for several in variants(recipe.work(), tasks, workers, advance):
        for one in several:
            if math.isnan(one.cosine):
                unaligned += 1
            else:
                found[one.task.split].append(one)
    if unaligned:
        report.warnings.append(f"left out {unaligned} pictures of faces that cannot be aligned")
    return found


def _survey(recipe: BlurRecipe, bad: BadRows, workers: int, report: BlurReport, advance: Advance | None) -> list[Surveyed]:
    """Return the photos with the faces that can be used, without those that are to be kept out."""
    items, dropped = [], Counter[str]()
    for source in recipe.sources.values():
        for item in survey(source, bad, workers, advance):
            usable = [
                face for face in item.photo.faces if "ignore" not in face.flags and face.height >= recipe.config.least_pixels
            ]
            known = tuple(face for face in usable if _landmarks_fit(face))
            dropped[source.label] += len(usable) - len(known)
            if known:
                items.append(dataclasses.replace(item, photo=dataclasses.replace(item.photo, faces=known)))
    for label, count in dropped.items():
        if count:
            hint = "" if recipe.sources[label].source.detect else "; detect: [yunet] finds them"
            report.warnings.append(f"source {label}: left out {count} faces without landmarks on them{hint}")
    kept_out = [item for source in recipe.excluded for item in survey(source, bad, workers, advance)]
    builder_report = Report()
    items = without_excluded(items, kept_out, {}, builder_report)
    report.warnings += builder_report.warnings
    return items


def _landmarks_fit(face: Face) -> bool:
    """Return whether a face has landmarks, and the middle of them in its box."""
    if face.landmarks is None:
        return False
    (x, y), (x1, y1, x2, y2) = face.landmarks.mean(axis=0), face.ellipse.bounds()
    return bool(x1 <= x <= x2 and y1 <= y <= y2)


def _threshold(recipe: BlurRecipe, items: Sequence[Surveyed]) -> float:
    """Return the degree at which faces of different people match with the false match rate; nan if nobody is known by name."""
    metric = cosine_metric(recipe.metric)

    def samples() -> Iterator[Sample]:
        for item in items:
            if item.photo.identity:
                image = pixels_at(item.photo.path)
                first = item.photo.faces[0]
                yield Sample(item.photo.name, image, (first.ellipse,), item.photo.identity, landmarks=(first.landmarks,))

    found: Mapping[str, float] = metric.calibrate(samples())  # type: ignore[attr-defined]
    return 1 - next(iter(found.values()))


def _tasks(recipe: BlurRecipe, split: str, items: Sequence[Surveyed], report: BlurReport) -> list[Task]:
    """Return the faces of a split with their variants: of every source as many as its share asks for, going round its faces."""
    config = recipe.config
    wanted = portions(portions(config.count, config.splits)[split], recipe.shares)
    faces: dict[str, list[tuple[Surveyed, int]]] = defaultdict(list)
    for item in items:
        faces[item.source] += [(item, number) for number in range(len(item.photo.faces))]
    tasks = []
    for label, count in wanted.items():
        mine = faces[label]
        tried = min(math.ceil(count * config.tried), len(mine) * config.per_face)
        if tried < count:
            report.warnings.append(f"source {label} gives {tried} variants for the {count} pictures wanted for {split}")
        rng = np.random.default_rng([config.seed, crc32(split.encode()), crc32(label.encode())])
        for place, index in enumerate(rng.permutation(len(mine))):
            many = tried // len(mine) + (place < tried % len(mine))
            if many:
                item, number = mine[index]
                tasks.append(_task(split, item, number, many))
    return tasks


def _task(split: str, item: Surveyed, number: int, many: int) -> Task:
    photo, face = item.photo, item.photo.faces[number]
    return Task(
        split=split,
        source=item.source,
        photo=photo.name,
        path=photo.path,
        identity=photo.identity,
        number=number,
        ellipse=face.ellipse,
        landmarks=face.landmarks,
        variants=tuple(range(many)),
    )


def _chosen(config: BlurConfig, split: str, found: list[Variant], report: BlurReport) -> list[Variant]:
    """Return the variants that become pictures of a split, in the order of their numbers; mixed by chance."""
    rng = np.random.default_rng([config.seed, crc32(split.encode())])
    degrees = np.array([one.degree for one in found], np.float64)
    wanted = portions(config.count, config.splits)[split]
    taken = evenly(degrees, wanted, config.bins, rng)
    if len(taken) < wanted:
        report.warnings.append(f"{split} has {len(taken)} of the {wanted} pictures wanted")
    report.tried[split], report.chosen[split] = degrees, degrees[taken]
    return [found[index] for index in rng.permutation(taken)]
