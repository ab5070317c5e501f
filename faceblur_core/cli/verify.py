"""``faceblur verify``."""

from __future__ import annotations

import sys
from pathlib import Path

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
@click.option("--json", "report", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to write, with every file.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Look at every so many pictures of videos.")
@megapixels_option
@workers_option()
def verify(
    folder: Path,
    original: Path | None,
    judges: tuple[str, ...],
    report: Path | None,
    every: int,
    max_megapixels: int,
    workers: int,
) -> None:
    """Look for faces that are left in the anonymized photos and videos of FOLDER, before they are published.

    Each file is compared with the original of its path; the suffix may differ, as after faceblur run --format. Told are
    faces that a judge finds in an output, faces of the original where the output is unchanged (but for its compression),
    files without a counterpart, of another size, and such as cannot be read. All frames of animations are looked at, and the
    pictures of videos, where a face is told once for as long as it is followed. The exit code is 1 if there is anything to tell.

    Without originals every face that a judge finds is told, unless it is so blurred that it is protected, and not
    too small to say so: see faceblur assess.

    A detector that hid the faces seldom finds what it has missed: name judges that it does not consist of.

    \b
    faceblur verify public/ --original archive/ --json verified.json
    faceblur verify public/
    """
    from faceblur_core.compare.assess import BlindMeter
    from faceblur_core.compare.verified import as_json
    from faceblur_core.compare.verify import Judges, Look, alone, pairs, usual_judges
    from faceblur_core.datasets.survey import in_order
    from faceblur_core.media.images import only_our_limit
    from faceblur_core.media.video import is_video

    names = list(judges) or usual_judges()
    team = Judges(names)
    items, passed_over = pairs(folder, original) if original else alone(folder)
    meter = None if original else BlindMeter({})
    check_report(report, (path for item in items for path in (item.output, item.original) if path))
    problems = bad = 0
    try:
        with only_our_limit(), progress_bar("verifying", len(items)) as bar:
            advance = (lambda: bar.advance(bar.task_ids[0])) if bar else None
            look = Look(team, meter, max_megapixels * 1_000_000, every)
            for item in in_order(look, items, workers, advance, look.stopped.set):
                told = item.problems()
                problems, bad = problems + len(told), bad + bool(told)
                for problem in told:
                    click.echo(f"faceblur: {printable(item.name)}: {problem}", err=True)
    finally:
        team.close()
    if report:
        content = {
            "folder": str(folder),
            "original": str(original) if original else None,
            "judges": list(names),
            "every": every,
            "problems": problems,
            "pictures": [as_json(item) for item in items],
        }
        write_report(report, content)
    videos = sum(is_video(path) for item in items if (path := item.output or item.original))
    counts = {"picture": len(items) - videos, "video": videos}
    what = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in counts.items() if count)
    seen = f"; of the videos one picture in {every}" if videos and every > 1 else ""
    click.echo(f"{what}: {bad} with problems ({problems} in all), judged by {', '.join(names)}{seen}")
    if meter:
        blurred = sum(still.protected for item in items for still in item.still_found)
        click.echo(f"{blurred} faces were found that are protected: their degree of blur is {meter.threshold:.3f} or more")
    tell_passed_over(passed_over)
    if problems:
        sys.exit(1)
