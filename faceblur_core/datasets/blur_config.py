"""The config file of a set of blurred faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from faceblur_core.datasets.blur_faces import SIDE, Work, cosine_metric
from faceblur_core.datasets.blur_methods import blur_methods
from faceblur_core.datasets.builder import CommonConfig
from faceblur_core.datasets.sources import OpenSource, open_source
from faceblur_core.datasets.survey import DetectorPool
from faceblur_core.errors import UsageMistake
from faceblur_core.options import made, read_yaml
from faceblur_core.types import option


@dataclass(frozen=True)
class BlurConfig(CommonConfig):
    """What it says."""

    size: Annotated[int, Ge(16), Le(SIDE)] = option(112, f"side of the pictures, pixels; faces are blurred at {SIDE} at most")
    digits: Annotated[int, Ge(1), Le(12)] = option(6, "digits of a picture's number")
    blurs: dict[str, dict[str, Any]] = option({}, "ways to blur, and obfuscators; empty: shake, defocus and linear")
    times: list[Annotated[int, Ge(1), Le(10)]] = option([1, 1], "least and most times that a face is blurred, one over the other")
    faces_only: Annotated[float, Ge(0), Le(1)] = option(0.0, "share of pictures in which only the face is blurred, not all of it")
    margin: Annotated[float, Ge(1), Le(4)] = option(1.2, "side of the square about a face, in longer sides of its box")
    jitter: Annotated[float, Ge(0), Le(0.3)] = option(
        0.0, "that side times 1 ± jitter, and moved by ± half of it: detectors differ"
    )
    least_pixels: Annotated[float, Ge(16)] = option(80.0, "least height in the photo of a face that is used, pixels")
    per_face: Annotated[int, Ge(1), Le(1000)] = option(16, "most variants of one face that are tried")
    tried: Annotated[float, Ge(1), Le(20)] = option(2.0, "so many times as many are tried as are wanted, to choose from")
    bins: Annotated[int, Ge(1), Le(1000)] = option(20, "equal parts of 0..1 that get as many labels each, as far as they go")
    embedder: str = option("mobilefacenet", "face recogniser of faceblur-identity whose cosine makes the labels")
    false_match_rate: Annotated[float, Gt(0), Le(0.5)] = option(1e-3, "of different people: what sets the threshold")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.times) != 2 or self.times[0] > self.times[1]:
            raise UsageMistake(f"times should be two numbers, the least and the most, not {self.times}")
        if not self.blurs:
            object.__setattr__(self, "blurs", {"shake": {}, "defocus": {}, "linear": {}})


@dataclass(frozen=True)
class BlurRecipe:
    """A checked config."""

    config: BlurConfig
    content: Mapping[str, Any]  #: as it stands in the file
    sources: Mapping[str, OpenSource]
    shares: Mapping[str, float]  #: of each source
    excluded: tuple[OpenSource, ...]
    metric: Mapping[str, Any]  #: options of the metric that makes the labels

    def work(self) -> Work:
        """Return what the processes are told."""
        c = self.config
        times = c.times[0], c.times[1]
        return Work(c.blurs, self.metric, times, c.faces_only, c.size, c.margin, c.jitter, c.quality, c.seed)


@dataclass(frozen=True)
class _SourceOptions:
    share: Annotated[float, Gt(0), Le(1)] = option(..., "share of all pictures")


def load_blur_recipe(path: Path, data: Path) -> BlurRecipe:
    """Return a config file's content, checked; relative paths in it are relative to ``data``.

    :raises UsageMistake: if it cannot be read, or a key is unknown, missing or does not fit
    :raises FaceblurError: if a face recogniser or its weights are not there
    """
    content = read_yaml(path, "data set config")
    what = f"data set config {path}"
    config = made(BlurConfig, content, what)
    if not config.sources:
        raise UsageMistake(f"{what} names no sources")
    sources, shares = {}, {}
    for label, options in config.sources.items():
        own = {key: value for key, value in options.items() if key == "share"}
        shares[label] = made(_SourceOptions, own, f"source {label}").share
        sources[label] = open_source(label, {key: value for key, value in options.items() if key != "share"}, data)
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageMistake(f"{what}: the shares of the sources add up to {sum(shares.values()):g}, not to 1")
    excluded = tuple(open_source(label, options, data) for label, options in config.exclude.items())
    for source in (*sources.values(), *excluded):
        DetectorPool(source.source.detect)  # a mistake shows now, not after the survey
    blur_methods(config.blurs, what)
    metric = {"embedder": config.embedder, "false_match_rate": config.false_match_rate}
    cosine_metric(metric)
    return BlurRecipe(config, content, sources, shares, excluded, metric)
