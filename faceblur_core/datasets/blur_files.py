"""The files of a set of blurred faces: written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from faceblur_core.datasets.blur_balance import distribution
from faceblur_core.datasets.blur_config import BlurConfig, BlurRecipe
from faceblur_core.datasets.blur_faces import COSINE, Variant
from faceblur_core.datasets.builder import RECIPE, made_by
from faceblur_core.media.files import whole_folder, write_whole
from faceblur_core.plugins import installed_plugins
from faceblur_core.weights import present, sha256_of

LABELS, PLOT = "labels.csv", "labels.png"
COLUMNS = ("path", "split", "source", "photo", "identity", "face", "method", "parameters", "faces_only", "cosine", "degree")
Variants = Mapping[str, Sequence[Variant]]  #: by split


def write_set(recipe: BlurRecipe, folder: Path, tried: Variants, chosen: Variants, threshold: float) -> None:
    """Write everything, whole or not at all.

    :param threshold: degree from which a face is protected; nan: not known
    :raises OSError: as the system reports it
    """
    with whole_folder(folder) as unfinished:
        rows = []
        for split, pictures in chosen.items():
            (unfinished / split).mkdir()
            for number, one in enumerate(pictures, 1):
                name = f"{split}/{number:0{recipe.config.digits}d}.jpg"
                (unfinished / name).write_bytes(one.jpeg)
                rows.append(_row(name, one))
        write_whole(unfinished / LABELS, _csv(rows))
        _plot(recipe.config, tried, chosen).savefig(unfinished / PLOT, dpi=120, metadata={"Software": None})
        write_whole(unfinished / RECIPE, yaml.safe_dump(_facts(recipe, threshold), sort_keys=False, allow_unicode=True).encode())


def _row(name: str, one: Variant) -> dict[str, str]:
    task = one.task
    values = (
        name,
        task.split,
        task.source,
        task.photo,
        task.identity or "",
        str(task.number),
        one.method,
        json.dumps(one.parameters),
        str(int(one.faces_only)),
        f"{one.cosine:.5f}",
        f"{one.degree:.5f}",
    )
    return dict(zip(COLUMNS, values, strict=True))


def _csv(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _plot(config: BlurConfig, tried: Variants, chosen: Variants) -> Any:
    def by_method(found: Variants) -> dict[str, NDArray[np.float64]]:
        every = [one for several in found.values() for one in several]
        return {name: np.array([one.degree for one in every if one.method == name]) for name in sorted(config.blurs)}

    return distribution(by_method(tried), by_method(chosen), config.bins)


def _facts(recipe: BlurRecipe, threshold: float) -> dict[str, Any]:
    """Return what ``dataset.yaml`` says: the config, by what it was followed, and the threshold for what is protected."""
    record = installed_plugins().get("metric", COSINE).component
    files = {item.file: sha256_of(path) for item in record.weights if (path := present(item))}
    facts = {**made_by(recipe.sources.values()), "embedder": {recipe.config.embedder: files}}
    known = not math.isnan(threshold)
    return {
        "made_by": facts,
        "margin": recipe.config.margin,
        "protected_from": round(threshold, 5) if known else None,
        "config": dict(recipe.content),
    }
