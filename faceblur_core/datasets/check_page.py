"""The page of ``faceblur dataset check``: histograms, the map of face positions, a few of the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faceblur_core.datasets.builder import BLUR, MASK
from faceblur_core.datasets.check import Checked
from faceblur_core.datasets.survey import pixels_of
from faceblur_core.errors import UnreadableImage
from faceblur_core.pages import picture, plot, write_page

SHOWN = 24  #: pairs


def write_check_page(checked: Checked, columns: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> None:
    """Write the page. :raises FaceblurError: if it cannot be written."""
    plots = [plot(figure) for figure in (_heights(checked), _counts(checked), *_maps(checked), _sources(checked)) if figure]
    title = f"Data set {checked.folder.resolve().name}"
    write_page(path, "dataset.html", title=title, checked=checked, columns=columns, rows=rows, plots=plots, cells=_cells(checked))


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _heights(checked: Checked) -> Figure:
    figure, axes = _figure("Face height", "share of the picture's height", "share of the faces")
    for split, spread in checked.spreads.items():
        if len(spread.heights):
            weights = np.full(len(spread.heights), 1 / len(spread.heights))
            axes.hist(np.minimum(spread.heights, 1.2), bins=25, range=(0.0, 1.25), weights=weights, histtype="step", label=split)
    if axes.patches:  # a legend of nothing is a warning
        axes.legend()
    return figure


def _counts(checked: Checked) -> Figure:
    figure, axes = _figure("Faces per picture", "faces (8: or more)", "share of the pictures")
    for split, spread in checked.spreads.items():
        shares = np.bincount(np.minimum(spread.counts, 8), minlength=9) / max(1, spread.pictures)
        axes.plot(range(9), shares, marker="o", label=split)
    axes.legend()
    return figure


def _maps(checked: Checked) -> list[Figure]:
    figures = []
    for split, spread in checked.spreads.items():
        figure, axes = _figure(f"Where faces are: {split}", "", "")
        shown = axes.imshow(spread.places, extent=(0, 1, 1, 0), cmap="magma", vmin=0)
        figure.colorbar(shown, label="faces that cover a place, mean")
        figures.append(figure)
    return figures


def _sources(checked: Checked) -> Figure | None:
    names = sorted({name for spread in checked.spreads.values() for name in spread.sources})
    if not names:
        return None
    figure, axes = _figure("Sources", "pictures", "")
    left = np.zeros(len(names))
    for split, spread in checked.spreads.items():
        counts = np.array([spread.sources.get(name, 0) for name in names])
        axes.barh(names, counts, left=left, label=split)
        left += counts
    axes.legend()
    return figure


def _cells(checked: Checked) -> list[dict[str, str]]:
    cells = []
    for split in checked.spreads:
        names = sorted(path.stem for path in (checked.folder / split).glob("*.jpg"))
        for index in range(0, len(names), max(1, len(names) * len(checked.spreads) // SHOWN)):
            files = [f"{split}/{names[index]}.jpg", f"{split}{BLUR}/{names[index]}.jpg", f"{split}{MASK}/{names[index]}.png"]
            try:
                row = np.hstack([pixels_of((checked.folder / file).read_bytes()) for file in files])
            except (OSError, UnreadableImage, ValueError):  # missing, damaged, of different sizes: the faults say so
                continue
            cells.append({"src": picture(row), "name": f"{split}/{names[index]}"})
    return cells
