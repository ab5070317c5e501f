"""``faceblur assess``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faceblur_core.cli.output import (
    check_report,
    megapixels_option,
    print_table,
    printable,
    progress_bar,
    tell_passed_over,
    workers_option,
    write_report,
)

if TYPE_CHECKING:
    from faceblur_core.compare.assess import Assessed

SMALL = "too small to say"
VERDICTS = {True: "protected", False: "not protected", None: "-"}


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    help="What finds the faces. Repeatable. Default: yunet and mediapipe, those that are here.",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="weights=FILE, threshold=0.7, least=40. Repeatable.")
@click.option("--json", "report", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to write, with every face.")
@megapixels_option
@workers_option()
def assess(
    photos: tuple[Path, ...],
    detectors: tuple[str, ...],
    settings: tuple[str, ...],
    report: Path | None,
    max_megapixels: int,
    workers: int,
) -> None:
    """Tell how blurred each face in PHOTOS (files, folders) is, without the originals.

    The degree is how much of a face's identity is lost, to a network that has learned it from a face recogniser: 0 is sharp, 1 is
    like somebody else. From the network's threshold on, a face counts as protected. Faces lower than 40 pixels (least) look
    blurred as they are, so that they have no degree and do not count as protected. Only faces that a detector still finds are
    judged. The exit code is 1 if a face is not protected or a picture cannot be read.

    \b
    faceblur assess public/ --set weights=model.onnx --json assessed.json
    """
    from faceblur_core.compare.assess import Assessor, listed
    from faceblur_core.compare.assess import assess as judge
    from faceblur_core.compare.verify import usual_judges
    from faceblur_core.media.images import only_our_limit
    from faceblur_core.options import parse_settings

    found = listed(photos)
    check_report(report, (item.path for item in found.pictures))
    names = list(detectors) or usual_judges("--detector")
    assessor = Assessor(names, parse_settings(settings), max_megapixels * 1_000_000)
    try:
        with only_our_limit(), progress_bar("assessing", len(found.pictures)) as bar:
            items = list(judge(found.pictures, assessor, workers, (lambda: bar.advance(bar.task_ids[0])) if bar else None))
    finally:
        assessor.close()
    _tell(items, assessor.meter.threshold)
    tell_passed_over(found.passed_over)
    if report:
        _write(report, items, assessor.meter.threshold, names)
    if any(item.fault or any(face.protected is False for face in item.faces) for item in items):
        sys.exit(1)


def _tell(items: Sequence[Assessed], threshold: float) -> None:
    rows = []
    for item in items:
        name = printable(str(item.path))
        if item.fault:
            click.echo(f"faceblur: {name}: {item.fault}", err=True)
        for face in item.faces:
            box = " ".join(f"{side:.0f}" for side in face.box)
            unknown = math.isnan(face.degree)
            degree, verdict = ("-", SMALL) if unknown else (f"{face.degree:.3f}", VERDICTS[face.protected])
            rows.append((name, str(face.frame), box, degree, verdict))
    print_table(("picture", "frame", "face", "degree", ""), rows)
    faces = [face for item in items for face in item.faces]
    text = f"{len(items)} pictures, {len(faces)} faces"
    if math.isnan(threshold):
        click.echo(f"\n{text}; the network says no threshold: give one with --set threshold=0.7")
    else:
        open_ = sum(face.protected is False for face in faces)
        small = ", or too small to say" if any(row[-1] == SMALL for row in rows) else ""
        click.echo(f"\n{text}, {open_} not protected (degree below {threshold:.3f}{small})")


def _write(report: Path, items: Sequence[Assessed], threshold: float, detectors: Sequence[str]) -> None:
    pictures = [
        {
            "name": str(item.path),
            "fault": item.fault,
            "faces": [
                {
                    "frame": face.frame,
                    "box": [round(side, 1) for side in face.box],
                    "degree": None if math.isnan(face.degree) else round(face.degree, 4),
                    "protected": face.protected,
                }
                for face in item.faces
            ],
        }
        for item in items
    ]
    content = {
        "threshold": None if math.isnan(threshold) else threshold,
        "detectors": list(detectors),
        "pictures": pictures,
    }
    write_report(report, content)
