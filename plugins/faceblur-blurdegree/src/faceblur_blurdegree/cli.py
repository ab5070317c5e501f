"""``faceblur train blur-degree`` and ``faceblur blur-degree``."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceblur_core.errors import FaceblurError, MissingDependency, UsageMistake
from faceblur_core.training.command import given_config, trainer_options

if TYPE_CHECKING:
    from faceblur_blurdegree.data import Labelled


@click.command()
@trainer_options
def train_blur_degree(**given: Any) -> None:
    """Train a network that tells how blurred a face is, without the original.

    The folder of the run gets model.onnx, model.pt, best.pt, log.csv, run.json, config.yaml and curves.

    \b
    faceblur dataset blur blur112 --data DATA -o sets/blur112
    faceblur train blur-degree -c configs/train/blur-degree-mobilenetv2-025.yaml --data sets/blur112 -o runs/train/blur-degree
    """
    from faceblur_blurdegree.config import TrainConfig

    config = given_config(TrainConfig, given)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin as they wait stand still where others work too
    try:
        from faceblur_blurdegree import training
    except ImportError as error:
        raise MissingDependency(f"training needs {error.name or error}: install faceblur-blurdegree[train]") from None
    training.train(config, given["out_dir"], resume=given["resume"])


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of a set made by faceblur dataset blur.")
@click.option("--split", default="test", show_default=True, help="Which of its pictures.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for tables and plots, a new one.")
def score(models: tuple[Path, ...], data: Path, split: str, output: Path) -> None:
    """Score the networks MODELS (.onnx) on faces with known degrees of blur.

    scores.csv has a row per network and way to blur: size, milliseconds per face (one thread, the network alone), mean absolute
    error, Spearman's rank correlation, share of faces on which "protected or not" is decided rightly. A picture per network
    shows predictions against the truth.
    """
    from faceblur_blurdegree.data import load_split

    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UsageMistake(f"{output} is there; choose a new folder")
    names = [_title(path) for path in models]
    if twice := [name for index, name in enumerate(names) if name in names[:index]]:
        raise UsageMistake(f"two networks would be called {twice[0]!r}; rename a folder or a file")
    labelled = load_split(data, split)
    rows: list[dict[str, str]] = []
    plots = {}
    for name, path in zip(names, models, strict=True):
        found, plots[name] = _scored(name, path, labelled, f"{name} on {data.name}, {split}")
        rows += found
    try:
        _write(output, rows, plots)
    except OSError as error:
        raise FaceblurError(f"{error.filename or output}: {error.strerror}") from None
    for row in rows:
        click.echo("  ".join(f"{name} {value}" for name, value in row.items() if value))
    click.echo(f"\n-> {output}")


def _title(path: Path) -> str:
    """Return what a network is called: its file, or the folder of its run."""
    return Path(os.path.abspath(path)).parent.name if path.stem == "model" else path.stem


def _scored(name: str, path: Path, labelled: Labelled, title: str) -> tuple[list[dict[str, str]], Any]:
    from faceblur_blurdegree.evaluation import milliseconds, scores, truth_plot
    from faceblur_blurdegree.meter import load_meter

    meter = load_meter(path)
    predicted = meter(labelled.faces)
    found = scores(predicted, labelled, meter.threshold)
    taken = f"{milliseconds(meter, labelled):.2f}"
    rows = [
        {
            "network": name,
            "bytes": str(path.stat().st_size),
            "parameters": str(meter.parameters or ""),
            "ms": taken,
            "method": one.method,
            "faces": str(one.faces),
            "mae": _figure(one.mae),
            "spearman": _figure(one.spearman),
            "agreement": _figure(one.agreement),
        }
        for one in found
    ]
    return rows, truth_plot(predicted, labelled, found, title)


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _write(output: Path, rows: list[dict[str, str]], plots: dict[str, Any]) -> None:
    import csv
    import io

    from faceblur_core.training.report import replace, write_text

    output.mkdir(parents=True, exist_ok=True)
    for name, plot in plots.items():
        replace(output / f"{name}.png", lambda path, plot=plot: plot.savefig(path, dpi=120))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output / "scores.csv", text.getvalue())
