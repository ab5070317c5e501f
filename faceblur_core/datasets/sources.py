"""A source in a config: an importer by its format, its options, and what else is known of its photos."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceblur_core.datasets.labels import BadRows, Importer, LabelledPhoto
from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake
from faceblur_core.options import made
from faceblur_core.types import option

_HERE = "faceblur_core.datasets"
#: Each format's importer: a dataclass whose fields are its options.
FORMATS: Mapping[str, str] = {
    "wider": f"{_HERE}.wider:WiderFace",
    "fddb": f"{_HERE}.fddb:Fddb",
    "voc": f"{_HERE}.voc:PascalVoc",
    "yolo": f"{_HERE}.yolo:YoloText",
    "coco": f"{_HERE}.coco:Coco",
    "pts": f"{_HERE}.points:Pts",
    "points-csv": f"{_HERE}.points:PointsCsv",
    "masks": f"{_HERE}.masks:PixelMasks",
    "folder": f"{_HERE}.folder:Folder",
    "reviewed": f"{_HERE}.reviewed:Reviewed",
}


@dataclass(frozen=True)
class Source:
    """Photos of one kind. The keys of its ``format`` stand beside these in the config."""

    format: str = option(..., "how the faces are labelled")
    detect: list[str] = option([], "methods that find faces which the labels do not have, the first one first")
    identity: str = option("", "regular expression on the name: its first group is the person")
    groups: str = option("", "regular expression on the name: its named groups are groups for slices")
    names: dict[str, dict[str, str]] = option({}, "what a group's values mean: {gender: {'0': male, '1': female}}")
    bins: dict[str, list[int]] = option({}, "limits at which a group of numbers is cut: {age: [10, 20, 40, 60]}")


@dataclass(frozen=True)
class OpenSource:
    """A source whose config has been checked."""

    label: str
    source: Source
    importer: Importer
    data: Path  #: what relative paths were relative to
    identity: re.Pattern[str] | None
    groups: re.Pattern[str] | None

    def read(self, bad: BadRows) -> list[LabelledPhoto]:
        """Return its photos, sorted by name, with identity and groups; nothing is detected yet.

        :raises FaceblurError: if a file cannot be read, a row is bad, or two photos have one name
        """
        for item in dataclasses.fields(self.importer):  # type: ignore[arg-type]  # an importer is a dataclass
            path = getattr(self.importer, item.name)
            if isinstance(path, Path) and not path.exists():
                hint = "; --data names the folder that the config's paths are relative to"
                what = "No such file or directory" + (hint if path.is_relative_to(self.data) else "")
                raise FaceblurError(f"source {self.label}: {path}: {what}")
        photos = sorted(self.importer(bad), key=lambda photo: photo.name)
        twice = [name for name, count in Counter(photo.name for photo in photos).items() if count > 1]
        if twice:
            raise FaceblurError(f"source {self.label}: {twice[0]} is labelled twice")
        return [self._known(photo) for photo in photos]

    def _known(self, photo: LabelledPhoto) -> LabelledPhoto:
        stem = photo.name.rpartition("/")[2]
        found = self.identity.search(stem) if self.identity else None
        person = found.group(1) if found else None
        if self.identity and not person:
            raise UsageMistake(f"source {self.label}: identity finds nobody in the name {stem}")
        found = self.groups.search(stem) if self.groups else None
        groups = {key: self._group(key, value) for key, value in found.groupdict().items() if value} if found else {}
        return dataclasses.replace(photo, identity=person, groups=groups)

    def _group(self, key: str, value: str) -> str:
        limits = self.source.bins.get(key)
        if limits is None:
            return self.source.names.get(key, {}).get(value, value)
        if not value.isdecimal():
            raise UsageMistake(f"source {self.label}: bins needs numbers for the group {key}, not {value}")
        below = [limit for limit in limits if int(value) >= limit]
        above = [limit for limit in limits if int(value) < limit]
        return f"{below[-1] if below else 0}-{above[0] - 1}" if above else f"{below[-1]}+"


def open_source(label: str, config: Mapping[str, Any], data: Path) -> OpenSource:
    """Return a source from its part of a config; relative paths in it are relative to ``data``.

    :raises UsageMistake: if a key is unknown, missing or does not fit
    """
    what = f"source {label}"
    general = {item.name for item in dataclasses.fields(Source)}
    source = made(Source, {key: value for key, value in config.items() if key in general}, what)
    if source.format not in FORMATS:
        raise UnknownName("format", source.format, FORMATS)
    module, _, name = FORMATS[source.format].partition(":")
    cls = getattr(importlib.import_module(module), name)
    options = {key: value for key, value in config.items() if key not in general}
    importer = made(cls, options, f"{what} (format {source.format})")
    paths = {
        item.name: data / getattr(importer, item.name)
        for item in dataclasses.fields(importer)
        if isinstance(getattr(importer, item.name), Path)
    }
    importer = dataclasses.replace(importer, **paths)
    identity, groups = _pattern(source.identity, what), _pattern(source.groups, what)
    if identity and not identity.groups:
        raise UsageMistake(f"{what}: identity {source.identity!r} needs a group in parentheses, the person")
    for key, limits in source.bins.items():
        if not limits or limits != sorted(set(limits)):
            raise UsageMistake(f"{what}: bins of {key} should be numbers that rise, not {limits}")
    return OpenSource(label, source, importer, data, identity, groups)


def _pattern(text: str, what: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UsageMistake(f"{what}: {text!r} is no regular expression ({error})") from None
