"""What ships with the core, registered through the same hooks as everybody else's."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core.hookspecs import Component, hookimpl

_OBFUSCATORS = "faceblur_core.builtin.obfuscators"
_REVERSIBLE = "For comparison only: it can be reversed."


@hookimpl
def faceblur_obfuscators() -> Iterable[Component]:
    def row(name: str, cls: str, summary: str) -> Component:
        return Component(name=name, summary=summary, factory=f"{_OBFUSCATORS}:{cls}")

    return [
        row("blur", "Blur", "Smooth blur of a few mean cells: what it can leak is bounded by them (the default)"),
        row("pixelate", "Pixelate", "Mosaic of a few mean cells, with the same bound"),
        row("solid", "Solid", "One flat colour: nothing of the face is left"),
        row("inpaint", "Inpaint", "Filled in from the surroundings (OpenCV, Telea or Navier-Stokes)"),
        row("gaussian", "Gaussian", f"Gaussian blur. {_REVERSIBLE}"),
        row("median", "Median", f"Median filter. {_REVERSIBLE}"),
        row("bilateral", "Bilateral", f"Bilateral filter, which keeps edges. {_REVERSIBLE}"),
        row("box", "Box", f"Box (mean) filter. {_REVERSIBLE}"),
    ]


@hookimpl
def faceblur_metrics() -> Iterable[Component]:
    yield Component(
        name="coverage",
        summary="Share of a face's true ellipse that the method's mask hides",
        factory="faceblur_core.builtin.metrics:Coverage",
    )


@hookimpl
def faceblur_commands() -> Iterable[Component]:
    yield Component(name="run", summary="Anonymize photos and folders of photos", factory="faceblur_core.cli.run:run")
    yield Component(name="methods", summary="List methods and their options", factory="faceblur_core.cli.methods:methods")
    yield Component(name="plugins", summary="List and check plugins", factory="faceblur_core.cli.plugins:plugins")
    yield Component(
        name="dataset", summary="Make, label and check data sets for training", factory="faceblur_core.cli.dataset:dataset"
    )
    yield Component(name="testset", summary="Make, list and verify test sets", factory="faceblur_core.cli.testset:testset")
