"""WIDER FACE's ``*_bbx_gt.txt`` (Yang et al., "WIDER FACE: A Face Detection Benchmark", CVPR 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faceblur_core.datasets.labels import BadRow, BadRows, Face, LabelledPhoto, box_ellipse, counted_blocks, each, size_of
from faceblur_core.types import option

#: The flags by column after ``x y w h`` and by value: ``blur expression illumination invalid occlusion pose``.
COLUMNS: tuple[dict[float, str], ...] = (
    {1: "blur", 2: "heavy-blur"},
    {1: "expression"},
    {1: "illumination"},
    {1: "ignore"},
    {1: "occlusion", 2: "heavy-occlusion"},
    {1: "pose"},
)


@dataclass(frozen=True)
class WiderFace:
    """Boxes ``x y w h`` with six attributes; a box becomes its inscribed ellipse.

    A width or height of 0, which the official files hold, is a face smaller than a pixel: one pixel, flagged ``ignore``.
    """

    images: Path = option(..., "folder that the names of the pictures are relative to")
    annotations: Path = option(..., "the *_bbx_gt.txt file")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        for number, name, rows in counted_blocks(self.annotations, bad, (10, 4), "x y w h and six flags, or x y w h alone"):
            try:
                height, width = size_of(self.images / name)
                faces = each(rows, _face, height, width)
            except BadRow as error:
                bad(self.annotations, error.line or number, str(error))
                continue
            yield LabelledPhoto(self.images / name, name, height, width, faces)


def _face(values: list[float], height: int, width: int) -> Face:
    x, y, w, h, *attributes = values
    flags = set()
    for names, value in zip(COLUMNS, attributes, strict=bool(attributes)):
        if value and value not in names:
            raise BadRow(f"the flag {value:g}, which is none; the flags are blur expression illumination invalid occlusion pose")
        flags.add(names.get(value, ""))
    if w >= 0 and h >= 0 and min(w, h) == 0:
        w, h = max(w, 1), max(h, 1)
        flags.add("ignore")
    return Face(box_ellipse(x, y, x + w, y + h, height, width), frozenset(flags - {""}))
