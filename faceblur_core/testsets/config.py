"""The config file of a test set: of photos, or, with ``clips``, of clips that are made of photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from faceblur_core.datasets.sources import OpenSource, open_source
from faceblur_core.errors import UsageMistake
from faceblur_core.options import made, read_yaml
from faceblur_core.testsets.categories import CATEGORIES
from faceblur_core.testsets.format import CLIPS, check_name
from faceblur_core.types import option

Event = Literal["leaving", "crossing", "occluded", "resizing"]
LONGEST = 15  #: pictures for which a face can be occluded
LEAST_PICTURES = 2 * LONGEST + 10  #: of a clip: the face is to be seen before and after


@dataclass(frozen=True)
class SetConfig:
    """What the config of every test set says."""

    name: str = option(..., "its name")
    version: Annotated[int, Ge(1)] = option(..., "raised whenever a photo, a label or a rule changes")
    summary: str = option(..., "one line on what it holds")
    licence: str = option(..., "what may be done with the photos")
    source: dict[str, Any] = option(..., "the photos and their labels")
    least_face: Annotated[float, Ge(0)] = option(12.0, "faces lower than this are ignored, pixels")
    landmarks: str = option("", "method that finds landmarks, for the categories and for identity; empty: the labels' own")

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True)
class TestSetConfig(SetConfig):
    """The config of a test set of photos."""

    __test__ = False  # for pytest

    least_per_category: Annotated[int, Ge(0)] = option(20, "a category with fewer photos, but some, is a warning")
    need_face: bool = option(False, "leave out photos in which no face is labelled or found")
    drop: dict[str, str] = option({}, "photos to leave out, each with the reason")
    overrides: dict[str, str] = option({}, "photos with the category that the rules do not see")

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = {name: category for name, category in self.overrides.items() if category not in CATEGORIES}
        for name, category in wrong.items():
            raise UsageMistake(f"overrides: {name}: {category!r} is no category; they are {', '.join(CATEGORIES)}")


@dataclass(frozen=True, kw_only=True)
class ClipsConfig(SetConfig):
    """The config of a test set of clips: faces of the source's photos move before still pictures."""

    clips: dict[Event, Annotated[int, Ge(0)]] = option(..., "how many clips of each event: leaving, crossing, occluded, resizing")
    backgrounds: Path = option(..., "folder of pictures without a face")
    drop: dict[str, str] = option({}, "pictures in there to leave out, each with the reason")
    pictures: Annotated[int, Ge(LEAST_PICTURES), Le(10_000)] = option(50, "of each clip")
    rate: Annotated[int, Ge(1), Le(240)] = option(25, "pictures per second")
    height: Annotated[int, Ge(64), Le(4096)] = option(360, "of the pictures, pixels; even")
    width: Annotated[int, Ge(64), Le(4096)] = option(640, "the same")
    least_source: Annotated[float, Gt(0)] = option(80.0, "only faces at least so high are cut out, pixels")
    least_visible: Annotated[float, Ge(0), Le(1)] = option(0.25, "faces of which less is visible are ignored")
    seed: Annotated[int, Ge(0)] = option(0, "of all that is drawn by chance")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not sum(self.clips.values()):
            raise UsageMistake("clips: at least one event needs a clip: {occluded: 1}")
        if self.height % 2 or self.width % 2:
            raise UsageMistake(f"height={self.height} and width={self.width} must be even: H.264 halves them for the colours")


def load_config(path: Path, data: Path) -> tuple[TestSetConfig | ClipsConfig, OpenSource, Mapping[str, Any]]:
    """Return a config file, checked, and its source; relative paths in it are relative to ``data``.

    :raises UsageMistake: if it cannot be read, or a key is unknown, missing or does not fit
    """
    content = read_yaml(path, "test set config")
    kind: type[TestSetConfig | ClipsConfig] = ClipsConfig if CLIPS in content else TestSetConfig
    config = made(kind, content, f"test set config {path}")
    return config, open_source(config.name, config.source, data), content
