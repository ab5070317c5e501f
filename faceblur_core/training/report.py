"""What a run shows of itself, whoever trained: ``log.csv``, ``run.json``, ``curves/*.png``; and files that appear whole."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faceblur_core.errors import FaceblurError
from faceblur_core.machine import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, float]  #: an epoch's ``epoch`` from 1, ``lr`` of its last step, ``seconds``, metrics, validation's as ``val_…``


def write_report(out_dir: Path, log: Sequence[Row], facts: Mapping[str, Any], title: str) -> None:
    """Write the log, the facts and a curve per metric of the validation photos into the folder of a run.

    :param log: at least one epoch, all with the same columns
    :param facts: what ``run.json`` says, see :func:`run_facts`
    :param title: what curves are called
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, log[-1], lineterminator="\n")
    writer.writeheader()
    writer.writerows(log)
    write_text(out_dir / "log.csv", text.getvalue())
    write_text(out_dir / "run.json", json.dumps(facts, indent=2) + "\n")
    (out_dir / "curves").mkdir(exist_ok=True)
    for metric in (name.removeprefix("val_") for name in log[-1] if name.startswith("val_")):
        replace(out_dir / "curves" / f"{metric}.png", curve(log, metric, title).savefig)


def run_facts(
    distribution: str,
    versions: Mapping[str, str],
    log: Sequence[Row],
    best_epoch: int,
    *,
    seed: int,
    precision: str,
    data: Mapping[str, Any],
    parameters: int,
) -> dict[str, Any]:
    """Return what ``run.json`` says.

    :param distribution: of the trainer; its version comes first, then ``versions`` of what it trained with
    :param best_epoch: from 1
    :param precision: what the network computed in, which may not be what the configuration wished
    :param data: what tells this data set from others, ``train`` (how many pictures) among it; see ``data.identity``
    """
    seconds = sum(row["seconds"] for row in log)
    return {
        "versions": {distribution: version(distribution), **versions, "numpy": np.__version__},
        "python": platform.python_version(),
        "machine": describe(),
        "seed": seed,
        "precision": precision,
        "data": data,
        "parameters": parameters,
        "epochs": len(log),
        "best": log[best_epoch - 1],
        "seconds": round(seconds, 2),
        "images_per_second": round(len(log) * data["train"] / max(seconds, 0.01), 2),
        "seconds_per_epoch": [row["seconds"] for row in log],
    }


def curve(log: Sequence[Row], metric: str, title: str) -> Figure:
    """Return a plot of a metric over the epochs: training blue, where the log has it, validation red."""
    from matplotlib.figure import Figure  # without pyplot: no display, nothing global

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for key, colour, label in ((metric, "tab:blue", "training"), (f"val_{metric}", "tab:red", "validation")):
        if key in log[-1]:
            axes.plot([row["epoch"] for row in log], [row[key] for row in log], color=colour, label=label, marker=".")
    axes.set(xlabel="epoch", ylabel=metric, title=f"{title}: {metric}")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path``, in a folder that is made if need be, and move it there whole.

    :raises FaceblurError: if it cannot be written
    """
    partial = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # PyTorch raises the latter when the disk is full
        with contextlib.suppress(OSError):
            partial.unlink()
        raise FaceblurError(f"{path}: {getattr(error, 'strerror', '') or 'cannot be written; is the disk full?'}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    replace(path, lambda partial: partial.write_text(text, encoding="utf-8"))
