"""``faceblur dataset build``: pairs (photo, photo with blurred faces, mask) from labelled photos, the same bytes each time.

The set's folder holds ``train/ train_blur/ train_mask/ val/ …`` with the same numbers in each, ``manifest.jsonl`` (one row
per picture: where it comes from and what is true of it) and ``dataset.yaml`` (how it was made).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any
from zlib import crc32

import numpy as np
import yaml
from annotated_types import Ge, Gt, Le

from faceblur_core import __version__
from faceblur_core.datasets.crops import Crop, Crops, faces_in, plan_crop, render, shown_part, soft_mask
from faceblur_core.datasets.duplicates import Groups, near_duplicates
from faceblur_core.datasets.labels import BadRows, ellipse_row, is_face, misfits
from faceblur_core.datasets.masks import read_mask
from faceblur_core.datasets.sources import OpenSource, open_source
from faceblur_core.datasets.survey import Advance, DetectorPool, Surveyed, in_order, pixels_of, survey
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.media.files import read_rows, write_whole
from faceblur_core.media.images import encode_pixels
from faceblur_core.options import made, read_yaml
from faceblur_core.plugins import installed_plugins
from faceblur_core.types import Image, Mask, Obfuscator, option

MANIFEST, RECIPE = "manifest.jsonl", "dataset.yaml"
ROW_START = '{"name":'
#: what every row of a manifest holds
ROW_TYPES = {
    "name": str, "split": str, "source": str, "photo": str, "photo_sha256": str, "identity": (str, NoneType), "crop_number": int,
    "crop": list, "faces": list, "sha256": dict,
}  # fmt: skip
BLUR, MASK = "_blur", "_mask"  #: endings of the folders beside each split's


@dataclass(frozen=True)
class Target:
    """How the faces of a training target are hidden."""

    obfuscator: str = option("gaussian", "name of the obfuscator")
    options: dict[str, Any] = option({}, "its options")
    grow: Annotated[float, Ge(1), Le(3)] = option(1.18, "the truth ellipse grown by this is hidden fully")
    feather: Annotated[float, Ge(0), Le(1)] = option(0.1, "soft edge outside that, as a share of the grown ellipse")


@dataclass(frozen=True)
class CommonConfig:
    """What the config file of every kind of data set says."""

    count: Annotated[int, Ge(1)] = option(..., "pictures in all splits together")
    sources: dict[str, dict[str, Any]] = option(..., "what they are made of: each an importer's options, share and crops")
    exclude: dict[str, dict[str, Any]] = option({}, "sources whose photos, and near-duplicates of them, are kept out")
    size: Annotated[int, Ge(16), Le(4096)] = option(128, "side of the pictures, pixels")
    splits: dict[str, Annotated[float, Gt(0), Le(1)]] = option({"train": 0.8, "val": 0.2}, "shares of the splits")
    seed: Annotated[int, Ge(0)] = option(0, "of everything that is drawn by chance")
    digits: Annotated[int, Ge(1), Le(12)] = option(5, "digits of a picture's number")
    quality: Annotated[int, Ge(1), Le(100)] = option(97, "of the JPEG files, whose colours are not subsampled")

    def __post_init__(self) -> None:
        if abs(sum(self.splits.values()) - 1) > 1e-6:
            raise UsageMistake(f"the shares of the splits add up to {sum(self.splits.values()):g}, not to 1")
        bad = [name for name in self.splits if not name.isidentifier() or name.endswith((BLUR, MASK))]
        if bad:
            raise UsageMistake(f"split {bad[0]!r} cannot be the name of a folder here")
        if self.count >= 10**self.digits:
            raise UsageMistake(f"{self.count} pictures do not fit into {self.digits} digits")


@dataclass(frozen=True)
class SetConfig(CommonConfig):
    """The config file of a set of pairs."""

    least_face: Annotated[float, Ge(0)] = option(4.0, "faces lower than this in a picture are not in its truth, pixels")
    target: dict[str, Any] = option({}, "how faces are hidden: obfuscator, options, grow, feather")


@dataclass(frozen=True, slots=True)
class Part:
    """One source of a set."""

    source: OpenSource
    share: float
    crops: Crops
    drop_unlabelled: bool  #: leave out photos in which no face is labelled or found
    confirmed: bool  #: leave out photos in which the ``detect`` methods find faces, but not a labelled one


@dataclass(frozen=True)
class Recipe:
    """A checked config."""

    config: SetConfig
    content: Mapping[str, Any]  #: as it stands in the file
    parts: tuple[Part, ...]
    excluded: tuple[OpenSource, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class Example:
    """One picture to be made."""

    split: str
    item: Surveyed
    number: int  #: which of the photo's squares
    crop: Crop

    @property
    def key(self) -> tuple[str, str, int]:
        return self.item.source, self.item.photo.name, self.number


@dataclass
class Report:
    """What a build did, for people."""

    made: Counter[str] = field(default_factory=Counter)  #: new pictures by split
    kept: Counter[str] = field(default_factory=Counter)  #: pictures that were there, by split
    warnings: list[str] = field(default_factory=list)


def load_recipe(path: Path, data: Path) -> Recipe:
    """Return a config file's content, checked; relative paths in it are relative to ``data``.

    :raises UsageMistake: if it cannot be read, or a key is unknown, missing or does not fit
    """
    content = read_yaml(path, "data set config")
    what = f"data set config {path}"
    config = made(SetConfig, content, what)
    parts = tuple(_part(label, options, data) for label, options in config.sources.items())
    if not parts:
        raise UsageMistake(f"{what} names no sources")
    if abs(sum(part.share for part in parts) - 1) > 1e-6:
        raise UsageMistake(f"{what}: the shares of the sources add up to {sum(part.share for part in parts):g}, not to 1")
    target = made(Target, config.target, f"{what}: target")
    installed_plugins().make("obfuscator", target.obfuscator, target.options)  # a mistake shows now, not after the survey
    excluded = tuple(open_source(label, options, data) for label, options in config.exclude.items())
    for source in (*(part.source for part in parts), *excluded):
        DetectorPool(source.source.detect)
    return Recipe(config, content, parts, excluded, target)


@dataclass(frozen=True)
class _PartOptions:
    share: Annotated[float, Gt(0), Le(1)] = option(..., "share of all pictures")
    crops: dict[str, Any] = option({}, "how squares are chosen")
    drop_unlabelled: bool | None = option(None, "leave out photos without a face; by default where detectors label")
    confirmed: bool = option(False, "leave out photos in which detectors find faces, but not a labelled one")


def _part(label: str, options: Mapping[str, Any], data: Path) -> Part:
    own = {item.name for item in dataclasses.fields(_PartOptions)}
    part = made(_PartOptions, {key: value for key, value in options.items() if key in own}, f"source {label}")
    source = open_source(label, {key: value for key, value in options.items() if key not in own}, data)
    if part.confirmed and not source.source.detect:
        raise UsageMistake(f"source {label}: confirmed needs detect, methods that find faces")
    drop = bool(source.source.detect) if part.drop_unlabelled is None else part.drop_unlabelled
    crops = made(Crops, part.crops, f"source {label}: crops")
    if crops.least > crops.most:
        raise UsageMistake(f"source {label}: crops: least {crops.least:g} is more than most {crops.most:g}")
    if not any((crops.face, crops.several, crops.whole, crops.empty)):
        raise UsageMistake(f"source {label}: crops: every weight is 0, so there would be no picture")
    return Part(source, part.share, crops, drop, part.confirmed)


def build(recipe: Recipe, folder: Path, bad: BadRows, workers: int = 2, advance: Advance | None = None) -> Report:
    """Make the set, or continue the one that is there; pictures that are there keep their numbers and their splits.

    :raises FaceblurError: if a photo or a label cannot be read, or the folder cannot be written
    :raises UsageMistake: if the folder holds something else, or a set that was made in another way
    """
    try:
        return _build(recipe, folder, bad, workers, advance)
    except OSError as error:
        raise FaceblurError(f"{error.filename or folder}: {error.strerror}") from None


def _build(recipe: Recipe, folder: Path, bad: BadRows, workers: int, advance: Advance | None) -> Report:
    there = _existing(recipe, folder)
    report = Report(kept=Counter(row["split"] for row in there.values()))
    parts = {part.source.label: part for part in recipe.parts}
    items = [item for part in recipe.parts for item in _usable(part, bad, workers, report, advance)]
    kept_out = [item for source in recipe.excluded for item in survey(source, bad, workers, advance)]
    items = without_excluded(items, kept_out, there, report)
    splits = assign_splits(items, recipe.config, there)
    examples = _plan(splits, parts, recipe.config, report)
    _check_kept(recipe, folder, there, splits)
    new = [example for example in examples if example.key not in there]
    numbers = Counter(
        {split: max((int(r["name"]) for r in there.values() if r["split"] == split), default=0) for split in splits}
    )
    _write(recipe, folder, new, numbers, report, workers, advance)
    return report


def _existing(recipe: Recipe, folder: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return the rows of the set that is in the folder, by key."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    if not (folder / RECIPE).is_file():
        raise UsageMistake(f"{folder} is there and holds no {RECIPE}; choose a new folder")
    facts = read_yaml(folder / RECIPE, "data set")
    before = facts.get("config")
    if "made_by" not in facts or not isinstance(before, dict):
        raise UsageMistake(f"{folder / RECIPE} was not written by faceblur dataset build; choose a new folder")
    for key in ("size", "splits", "seed", "digits", "quality", "least_face", "target"):
        old, new = (made(SetConfig, {"count": 1, "sources": {}, **_only(c, key)}, "data set") for c in (before, recipe.content))
        if getattr(old, key) != getattr(new, key):
            raise UsageMistake(
                f"{folder} was made with {key}: {getattr(old, key)}, the config says {getattr(new, key)}; choose a new folder"
            )
    rows = read_manifest(folder, cut_off=ROW_START) if (folder / MANIFEST).exists() else []
    write_whole(folder / MANIFEST, "".join(json.dumps(row) + "\n" for row in rows).encode())  # without a line that was cut off
    return {(row["source"], row["photo"], row["crop_number"]): row for row in rows}


def _check_kept(
    recipe: Recipe,
    folder: Path,
    there: Mapping[tuple[str, str, int], Mapping[str, Any]],
    splits: Mapping[str, Sequence[Surveyed]],
) -> None:
    """:raises UsageMistake: if a picture that is there would be another one today"""
    crops = {part.source.label: part.crops for part in recipe.parts}
    photos = {(item.source, item.photo.name): (split, item) for split, items in splits.items() for item in items}
    for (source, name, number), row in there.items():
        if (source, name) not in photos:
            continue  # the photo is gone
        split, item = photos[source, name]
        crop = next(itertools.islice(_photo_squares(item, crops[source], recipe.config.seed), number, None))
        if crop is None or not _is_of(Example(split, item, number, crop), row, recipe.config):
            raise UsageMistake(
                f"{folder}: picture {row['name']} of {row['split']} was made before {name} (source {source}), "
                "its labels or its crops changed; choose a new folder"
            )


def _is_of(example: Example, row: Mapping[str, Any], config: SetConfig) -> bool:
    """Return whether a row is what a build would write of an example; a detector may say the same a little differently."""
    crop = example.crop
    faces = [ellipse_row(face) for face in faces_in(example.item.photo.faces, crop, config.size, config.least_face)]
    if row["photo_sha256"] != example.item.sha256 or len(faces) != len(row["faces"]) or len(row["crop"]) != 3:
        return False
    numbers = [[face[key] for face in both for key in ("cx", "cy", "rx", "ry")] for both in (faces, row["faces"])]
    return np.allclose([*numbers[0], crop.x, crop.y, crop.side], [*numbers[1], *row["crop"]], atol=0.5)


def read_manifest(folder: Path, *, cut_off: str = "") -> list[dict[str, Any]]:
    """Return the rows of a data set's manifest. :raises UsageMistake: with the line, if one is no row of a data set."""
    rows = []
    for number, row in read_rows(folder / MANIFEST, cut_off=cut_off):
        wrong = misfits(row, ROW_TYPES)
        if not wrong:
            wrong = [*([] if row["name"].isdecimal() else ["name"]), *([] if all(map(is_face, row["faces"])) else ["faces"])]
        if wrong:
            raise UsageMistake(f"{folder / MANIFEST}, line {number}: no row of a data set, its {wrong[0]!r} is missing or wrong")
        rows.append(row)
    return rows


def _only(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {key: content[key]} if key in content else {}


def _usable(part: Part, bad: BadRows, workers: int, report: Report, advance: Advance | None) -> Iterator[Surveyed]:
    """Yield a source's photos that can be learned from; say how many cannot."""
    dropped: Counter[str] = Counter()
    for item in survey(part.source, bad, workers, advance):
        if part.confirmed and item.unconfirmed:
            dropped["in which detectors find faces, but not a labelled one"] += 1
        elif part.drop_unlabelled and not item.photo.faces:
            dropped["in which no face is labelled or found"] += 1
        else:
            yield item
    for reason, count in dropped.items():
        report.warnings.append(f"source {part.source.label}: left out {count} photos {reason}")


def without_excluded(
    items: list[Surveyed], kept_out: list[Surveyed], there: Mapping[tuple[str, str, int], Any], report: Report
) -> list[Surveyed]:
    """Return the photos that are no copy or near-duplicate of a photo to be kept out.

    :raises UsageMistake: if the set that is there was made from one of those
    """
    used = {(source, name) for source, name, _ in there}
    checksums = {item.sha256 for item in kept_out}
    alike = {i for i, _ in near_duplicates([item.fingerprint for item in items], [item.fingerprint for item in kept_out])}
    out = {i for i, item in enumerate(items) if i in alike or item.sha256 in checksums}
    for item in (items[i] for i in sorted(out)):
        if (item.source, item.photo.name) in used:
            raise UsageMistake(
                f"the set that is there has pictures of {item.photo.name} (source {item.source}), "
                "a near-duplicate of a photo to exclude; choose a new folder"
            )
        report.warnings.append(f"source {item.source}: left out {item.photo.name}, a near-duplicate of a photo to exclude")
    return [item for i, item in enumerate(items) if i not in out]


def assign_splits(
    items: Sequence[Surveyed], config: CommonConfig, there: Mapping[tuple[str, str, int], Mapping[str, Any]]
) -> dict[str, list[Surveyed]]:
    """Return the photos of each split: by chance, but a person's photos together, and near-duplicates together.

    A group with a photo that is in the set already goes where that one is.

    :raises UsageMistake: if a group is in two splits of the set that is there, made before the config told that it is one
    """
    groups = Groups(len(items))
    for i, j in near_duplicates([item.fingerprint for item in items]):
        groups.join(i, j)
    first: dict[tuple[str, ...], int] = {}
    for i, item in enumerate(items):
        together = [("sha256", item.sha256), *([("person", item.photo.identity)] if item.photo.identity else [])]
        for same in together:
            groups.join(i, first.setdefault(same, i))
    settled = {(source, name): str(row["split"]) for (source, name, _), row in there.items()}
    members: dict[int, list[Surveyed]] = defaultdict(list)
    for i, item in enumerate(items):
        members[groups.find(i)].append(item)
    splits: dict[str, list[Surveyed]] = {split: [] for split in config.splits}
    for group in members.values():
        known = {settled[item.source, item.photo.name] for item in group if (item.source, item.photo.name) in settled}
        key = min(f"{item.source}/{item.photo.name}" for item in group)
        if len(known) > 1:
            raise UsageMistake(
                f"the set that is there has {key}, and photos of the same person or near-duplicates of it, in the splits "
                f"{' and '.join(sorted(known))}; choose a new folder"
            )
        splits[known.pop() if known else _drawn_split(config, key)] += group
    return splits


def _drawn_split(config: CommonConfig, key: str) -> str:
    draw = int.from_bytes(hashlib.sha256(f"{config.seed}:{key}".encode()).digest()[:8], "big") / 2**64
    upto = 0.0
    for split, share in config.splits.items():
        upto += share
        if draw < upto:
            return split
    return list(config.splits)[-1]


def _plan(
    splits: Mapping[str, Sequence[Surveyed]], parts: Mapping[str, Part], config: SetConfig, report: Report
) -> list[Example]:
    """Return all examples: of every source as many as its share asks for, going round its photos, mixed by chance."""
    examples = []
    for split, wanted in portions(config.count, config.splits).items():
        mine: dict[str, list[Surveyed]] = defaultdict(list)
        for item in splits[split]:
            mine[item.source].append(item)
        of_split = []
        for label, count in portions(wanted, {label: part.share for label, part in parts.items()}).items():
            got = _squares(mine[label], parts[label].crops, split, count, config.seed)
            if len(got) < count:
                report.warnings.append(f"source {label} gives {len(got)} of the {count} pictures wanted for {split}")
            of_split += got
        examples += sorted(of_split, key=lambda example: _order(config.seed, split, *example.key))
    return examples


def portions(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers in proportion to the shares, which add up to ``total`` (largest remainder)."""
    exact = {name: total * share for name, share in shares.items()}
    whole = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[: total - sum(whole.values())]:
        whole[name] += 1
    return whole


def _squares(items: Sequence[Surveyed], crops: Crops, split: str, count: int, seed: int) -> list[Example]:
    """Return that many squares, the first of every photo, then the second of every photo, and so on."""
    order = sorted(items, key=lambda item: _order(seed, item.source, item.photo.name))
    planned = [(item, _photo_squares(item, crops, seed)) for item in order]
    examples: list[Example] = []
    for number in range(crops.per_photo):
        for item, squares in planned:
            if len(examples) == count:
                return examples
            crop = next(squares)
            if crop is not None:
                examples.append(Example(split, item, number, crop))
    return examples


def _photo_squares(item: Surveyed, crops: Crops, seed: int) -> Iterator[Crop | None]:
    """Yield a photo's squares, by number and without end; None where it can give none that is not one of those before."""
    taken: set[Crop] = set()
    for number in itertools.count():
        rng = np.random.default_rng([seed, crc32(item.source.encode()), crc32(item.photo.name.encode()), number])
        crop = plan_crop(item.photo, crops, rng, taken)
        if crop is not None:
            taken.add(crop)
        yield crop


def _order(seed: int, *words: object) -> bytes:
    return hashlib.sha256(f"{seed}:{words}".encode()).digest()


def _write(
    recipe: Recipe,
    folder: Path,
    new: Sequence[Example],
    numbers: Counter[str],
    report: Report,
    workers: int,
    advance: Advance | None,
) -> None:
    config = recipe.config
    facts = yaml.safe_dump(_recipe_facts(recipe), sort_keys=False, allow_unicode=True).encode()
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RECIPE, facts)  # first of all: it says what the folder is, should we be interrupted
    for split in config.splits:
        for ending in ("", BLUR, MASK):
            (folder / f"{split}{ending}").mkdir(exist_ok=True)
    obfuscator: Obfuscator = installed_plugins().make("obfuscator", recipe.target.obfuscator, recipe.target.options)
    numbered = []
    for example in new:
        numbers[example.split] += 1
        numbered.append((f"{numbers[example.split]:0{config.digits}d}", example))
    with (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
        rows = in_order(lambda job: _make(recipe, obfuscator, folder, *job), numbered, workers, advance)
        for (_, example), row in zip(numbered, rows, strict=True):
            manifest.write(json.dumps(row) + "\n")
            manifest.flush()
            report.made[example.split] += 1


def _recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """Return what ``dataset.yaml`` says: the config, and by what it was followed."""
    return {"made_by": made_by(part.source for part in recipe.parts), "config": dict(recipe.content)}


def made_by(sources: Iterable[OpenSource]) -> dict[str, Any]:
    """Return the version of faceblur, and of the detectors that label the sources the checksums of their models."""
    from faceblur_core.methods import find_method
    from faceblur_core.pipeline import model_files
    from faceblur_core.weights import checksums

    files = {}
    for name in dict.fromkeys(name for source in sources for name in source.source.detect):
        method = find_method(name, {}, installed_plugins())
        files[name] = checksums(model_files(method.make()))
    return {"faceblur": __version__, "detectors": files}


def _make(recipe: Recipe, obfuscator: Obfuscator, folder: Path, name: str, example: Example) -> dict[str, Any]:
    """Write the three files of one example and return its row."""
    config, photo = recipe.config, example.item.photo
    data = photo.path.read_bytes()
    if hashlib.sha256(data).hexdigest() != example.item.sha256:
        raise FaceblurError(f"{photo.path} changed while the set was built")
    square = render(pixels_of(data), example.crop, config.size)
    encoded = _jpeg(square, config.quality)
    seen = pixels_of(encoded)  # the target is made from what the JPEG holds, so that nothing but the faces differs
    faces = faces_in(photo.faces, example.crop, config.size, config.least_face)
    part = shown_part(example.crop, photo.height, photo.width, config.size)
    mask = np.zeros((config.size, config.size), np.float32)
    mask[part] = _truth(recipe, example)[part]
    hidden = seen.copy()
    hidden[part] = obfuscator(np.ascontiguousarray(seen[part]), np.ascontiguousarray(mask[part]))  # no black gets into it
    files = {
        f"{example.split}/{name}.jpg": encoded,
        f"{example.split}{BLUR}/{name}.jpg": _jpeg(hidden, config.quality) if mask.any() else encoded,
        f"{example.split}{MASK}/{name}.png": encode_pixels(np.rint(mask * 255).astype(np.uint8), "PNG"),
    }
    for path, content in files.items():
        write_whole(folder / path, content)
    return {
        "name": name,
        "split": example.split,
        "source": example.item.source,
        "photo": photo.name,
        "photo_sha256": example.item.sha256,
        "photo_phash": example.item.fingerprint.hex(),
        "identity": photo.identity,
        "groups": dict(photo.groups),
        "crop_number": example.number,
        "crop": [example.crop.x, example.crop.y, example.crop.side],
        "faces": [ellipse_row(face) for face in faces],
        "sha256": {path: hashlib.sha256(content).hexdigest() for path, content in files.items()},
    }


def _truth(recipe: Recipe, example: Example) -> Mask:
    """Return the mask of an example's square: pixel masks as they are, the other faces as grown and soft ellipses."""
    config, target, photo, crop = recipe.config, recipe.target, example.item.photo, example.crop
    outlined = faces_in([face for face in photo.faces if not face.pixels], crop, config.size, config.least_face)
    mask = soft_mask(outlined, config.size, config.size, target.grow, target.feather)
    for face in photo.faces:
        if face.pixels and faces_in([face], crop, config.size, config.least_face):
            pixels = read_mask(face.pixels, photo.height, photo.width)
            square = render(np.repeat(pixels[..., None], 3, axis=2), crop, config.size)[..., 0]
            np.maximum(mask, square / np.float32(255), out=mask)
    return mask


def _jpeg(pixels: Image, quality: int) -> bytes:
    return encode_pixels(pixels, "JPEG", quality=quality, subsampling=0)
