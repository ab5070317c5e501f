"""COCO's object annotations in one JSON file (Lin et al., 2014)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceblur_core.datasets.labels import BadRow, BadRows, Face, LabelledPhoto, as_floats, box_ellipse, each, read_text, size_of
from faceblur_core.errors import FaceblurError
from faceblur_core.types import option


@dataclass(frozen=True)
class Coco:
    """Boxes ``[x, y, width, height]`` in pixels from 0; each becomes its inscribed ellipse. ``iscrowd`` means ``ignore``."""

    images: Path = option(..., "folder of the pictures")
    annotations: Path = option(..., "the JSON file")
    classes: list[str] = option(["face"], "names of the categories that are faces")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        text = read_text(self.annotations)
        content = _parse(text, self.annotations)
        kinds = {c.get("id"): c.get("name") for c in content.get("categories", []) if isinstance(c, dict)}
        rows: dict[Any, list[int]] = defaultdict(list)
        for index, item in enumerate(content["annotations"]):
            rows[item.get("image_id") if isinstance(item, dict) else None].append(index)
        known = {item.get("id") for item in content["images"] if isinstance(item, dict)}
        for key in rows:
            if key not in known:
                line = _line(text, "annotations", rows[key][0])
                bad(self.annotations, line, f"annotations[{rows[key][0]}] is of image {key}, which is not among the images")
        for index, item in enumerate(content["images"]):
            try:
                name = item.get("file_name") if isinstance(item, dict) else None
                if not isinstance(name, str):
                    raise BadRow("an image without 'file_name'")
                height, width = size_of(self.images / name)
                mine = [(at, content["annotations"][at]) for at in rows[item.get("id")]]
                faces = each(
                    [(at, row) for at, row in mine if kinds.get(row.get("category_id")) in self.classes],
                    _face,
                    height,
                    width,
                )
            except BadRow as error:  # its "line" is the place in the list of annotations
                list_name, at = ("images", index) if error.line is None else ("annotations", error.line)
                bad(self.annotations, _line(text, list_name, at), f"{list_name}[{at}]: {error}")
                continue
            yield LabelledPhoto(self.images / name, name, height, width, faces)


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
        raise BadRow(f"'bbox' should be four numbers, [x, y, width, height]: {item.get('bbox')}")
    x, y, w, h = box
    flags = frozenset({"ignore"}) if item.get("iscrowd") == 1 else frozenset[str]()
    return Face(box_ellipse(x, y, x + w, y + h, height, width), flags)


def _line(text: str, name: str, index: int) -> int:
    """Return the number of the line at which an element of a top-level list begins."""
    decoder = json.JSONDecoder()
    at = text.index("{") + 1
    while True:  # from key to key, to the list's own: its name may stand elsewhere in the file too
        at = _skip(text, at)
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        if key == name:
            break
        at = decoder.raw_decode(text, at)[1]
    at = _skip(text, at + 1)
    for _ in range(index):
        at = _skip(text, decoder.raw_decode(text, at)[1])
    return text.count("\n", 0, at) + 1


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n,:":
        at += 1
    return at
