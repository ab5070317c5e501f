"""``faceblur verify``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faceblur_core.cli.output import (
    check_report,
    megapixels_option,
    printable,
    progress_bar,
    tell_passed_over,
    workers_option,
    write_report,
)

if TYPE_CHECKING:
    from faceblur_core.compare.verify import Verified

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--original", type=FOLDER, help="Folder of the originals. Without it faces are judged by how blurred they are.")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    help="Detector, or method, that looks for faces. Repeatable. Default: yunet and mediapipe, those that are here.",
)
@click.option("--json", "report", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to write, with every picture.")
@megapixels_option
@workers_option
def verify(
    folder: Path, original: Path | None, judges: tuple[str, ...], report: Path | None, max_megapixels: int, workers: int
) -> None:
    """Look for faces that are left in the anonymized pictures of FOLDER, before they are published.

    Each picture is compared with the original of its path; the suffix may differ, as after faceblur run --format. Told are
    faces that a judge finds in an output, faces of the original where the output is unchanged (but for its compression),
    pictures without a counterpart, of another size, and files that cannot be read. All frames of animations are looked at;
    videos are not. The exit code is 1 if there is anything to tell.

    Without originals every face that a judge finds is told, unless it is so blurred that it is protected: see faceblur assess.

    A detector that hid the faces seldom finds what it has missed: name judges that it does not consist of.

    \b
    faceblur verify public/ --original archive/ --json verified.json
    faceblur verify public/
    """
    from faceblur_core.compare.assess import BlindMeter
    from faceblur_core.compare.verify import Judges, alone, pairs, usual_judges
    from faceblur_core.compare.verify import verify as look
    from faceblur_core.media.images import only_our_limit

    names = list(judges) or usual_judges()
    team = Judges(names)
    items, passed_over = pairs(folder, original) if original else alone(folder)
    meter = None if original else BlindMeter({})
    check_report(report, (path for item in items for path in (item.output, item.original) if path))
    problems = 0
    try:
        with only_our_limit(), progress_bar("verifying", len(items)) as bar:
            advance = (lambda: bar.advance(bar.task_ids[0])) if bar else None
            for item in look(items, team, workers, advance, meter, max_megapixels * 1_000_000):
                for problem in item.problems():
                    problems += 1
                    click.echo(f"faceblur: {printable(item.name)}: {problem}", err=True)
    finally:
        team.close()
    if report:
        _write(report, items, names, folder, original)
    bad = sum(any(True for _ in item.problems()) for item in items)
    click.echo(f"{len(items)} pictures: {bad} with problems ({problems} in all), judged by {', '.join(names)}")
    if meter:
        blurred = sum(still.protected for item in items for still in item.still_found)
        click.echo(f"{blurred} faces were found that are protected: their degree of blur is {meter.threshold:.3f} or more")
    tell_passed_over(passed_over)
    if problems:
        sys.exit(1)


def _write(report: Path, items: Sequence[Verified], judges: Sequence[str], folder: Path, original: Path | None) -> None:
    from faceblur_core.compare.verify import as_json

    content = {
        "folder": str(folder),
        "original": str(original) if original else None,
        "judges": list(judges),
        "problems": sum(1 for item in items for _ in item.problems()),
        "pictures": [as_json(item) for item in items],
    }
    write_report(report, content)
