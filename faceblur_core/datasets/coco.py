"""COCO's object annotations in one JSON file (Lin et al., 2014)."""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceblur_core.datasets.labels import BadRow, BadRows, Face, LabelledPhoto, as_floats, box_ellipse, each, read_text, size_of
from faceblur_core.errors import FaceblurError
from faceblur_core.types import option

Key = int | float | str  #: an id


@dataclass(frozen=True)
class Coco:
    """Boxes ``[x, y, width, height]`` in pixels from 0; each becomes its inscribed ellipse. ``iscrowd`` means ``ignore``."""

    images: Path = option(..., "folder of the pictures")
    annotations: Path = option(..., "the JSON file")
    classes: list[str] = option(["face"], "names of the categories that are faces")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        text = read_text(self.annotations)
        content = _parse(text, self.annotations)
        kinds = self._kinds(content)
        lines = functools.cache(lambda name: _lines(text, name))  # looked for when the first one is to be told

        def report(name: str, at: int, message: str) -> None:
            bad(self.annotations, lines(name)[at], f"{name}[{at}]: {message}")

        rows: dict[Key | None, list[tuple[int, Any]]] = defaultdict(list)
        for at, item in enumerate(content["annotations"]):
            rows[_key(item, "image_id")].append((at, item))
        times = Counter(_key(item, "id") for item in content["images"])
        for key in list(rows):
            if key is None or key not in times:
                report("annotations", rows[key][0][0], f"it is of image {str(key)[:60]}, which is not among the images")
        for index, item in enumerate(content["images"]):
            try:
                key = _key(item, "id")
                if key is None or times[key] > 1:
                    raise BadRow("an image without 'id'" if key is None else f"{times[key]} images have the id {str(key)[:60]}")
                yield self._photo(item, rows[key], kinds)
            except BadRow as error:  # its "line" is the place in the list of annotations
                report(*(("images", index) if error.line is None else ("annotations", error.line)), str(error))

    def _kinds(self, content: dict[str, Any]) -> dict[Key | None, Any]:
        """Return the names of the categories by their ids. :raises FaceblurError: if none of them is a face."""
        items = content.get("categories")
        items = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        kinds = {_key(item, "id"): item.get("name") for item in items}
        if content["annotations"] and not any(name in self.classes for name in kinds.values()):
            there = ", ".join(map(repr, kinds.values())) or "none"
            raise FaceblurError(f"{self.annotations}: no category is named {' or '.join(self.classes)}; there is {there[:200]}")
        return kinds

    def _photo(self, item: dict[str, Any], rows: list[tuple[int, Any]], kinds: dict[Key | None, Any]) -> LabelledPhoto:
        name = item.get("file_name")
        if not isinstance(name, str):
            raise BadRow("an image without 'file_name'")
        height, width = size_of(self.images / name)

        def make(row: dict[str, Any], height: int, width: int) -> Face | None:
            kind = _key(row, "category_id")
            if kind is None or kind not in kinds:
                raise BadRow(f"its category_id {str(kind)[:60]} is not among the categories")
            return _face(row, height, width) if kinds[kind] in self.classes else None

        faces = each(rows, make, height, width)
        return LabelledPhoto(self.images / name, name, height, width, tuple(face for face in faces if face))


def _key(item: Any, name: str) -> Key | None:
    """Return an id, or None if there is none or it is something else."""
    value = item.get(name) if isinstance(item, dict) else None
    return value if isinstance(value, (int, float, str)) else None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise FaceblurError(f"{path}, line {line}: no JSON ({error})") from None
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise FaceblurError(f"{path}, line 1: no COCO annotations; it needs the lists 'images' and 'annotations'")
    return content


def _face(item: dict[str, Any], height: int, width: int) -> Face:
    box = as_floats(item.get("bbox"))
    if box is None or len(box) != 4:
        raise BadRow(f"'bbox' should be four numbers, [x, y, width, height]: {str(item.get('bbox'))[:60]}")
    x, y, w, h = box
    flags = frozenset({"ignore"}) if item.get("iscrowd") == 1 else frozenset[str]()
    return Face(box_ellipse(x, y, x + w, y + h, height, width), flags)


def _lines(text: str, name: str) -> list[int]:
    """Return the number of the line at which each element of a top-level list begins."""
    decoder = json.JSONDecoder()
    at, start = text.index("{") + 1, 0
    while text[at := _skip(text, at)] != "}":  # from key to key, to the list's own: its name may stand elsewhere in the file too
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        start = at + 1 if key == name else start  # of a key that stands there twice the last counts, as for json.loads
        at = decoder.raw_decode(text, at)[1]
    lines, line, at = [], 1 + text.count("\n", 0, start), start
    while text[begin := _skip(text, at)] != "]":
        line += text.count("\n", at, begin)
        lines.append(line)
        at = decoder.raw_decode(text, begin)[1]
        line += text.count("\n", begin, at)
    return lines


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n,:":
        at += 1
    return at
