"""A plain folder of pictures: without faces, or to be labelled by detectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faceblur_core.datasets.labels import BadRow, BadRows, LabelledPhoto, pictures_under, size_of
from faceblur_core.types import option


@dataclass(frozen=True)
class Folder:
    """Every picture in a folder and its subfolders, without a label: face-free, unless the source says ``detect``."""

    images: Path = option(..., "the folder")

    def __call__(self, bad: BadRows) -> Iterator[LabelledPhoto]:
        for path in pictures_under(self.images):
            try:
                height, width = size_of(path)
            except BadRow as error:
                bad(path, None, str(error))
                continue
            yield LabelledPhoto(path, path.relative_to(self.images).as_posix(), height, width)
