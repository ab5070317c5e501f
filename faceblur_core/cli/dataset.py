"""``faceblur dataset``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faceblur_core.cli.output import build_options, counting, print_table, workers_option
from faceblur_core.errors import UsageMistake

if TYPE_CHECKING:
    from faceblur_core.datasets.check import Checked


@click.group()
def dataset() -> None:
    """Make pairs for training (photo, blurred photo, mask) or blurred faces from photos; export, label, review, rename, check."""


@dataset.command()
@click.argument("config")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the set; one that is there goes on."
)
@build_options
def build(config: str, output: Path, data: Path, workers: int, skip_bad: bool) -> None:
    """Build the data set of CONFIG: a YAML file, or the name of one that ships with faceblur, such as faces12k.

    A set that is there is continued: its pictures keep their numbers and their splits.
    """
    from faceblur_core.datasets.builder import build, load_recipe
    from faceblur_core.datasets.labels import BadRows
    from faceblur_core.options import find_config

    recipe = load_recipe(find_config(config, "datasets"), data)
    bad = BadRows(skip=skip_bad)
    with counting("photos and pictures") as advance:
        report = build(recipe, output, bad, workers, advance)
    for warning in [*bad.skipped, *report.warnings]:
        click.echo(f"faceblur: {warning}", err=True)
    rows = [(split, str(report.made[split]), str(report.kept[split])) for split in recipe.config.splits]
    print_table(("split", "pictures made", "there before"), rows)
    click.echo(f"\n-> {output}")


@dataset.command()
@click.argument("config")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the set, a new one.")
@build_options
def blur(config: str, output: Path, data: Path, workers: int, skip_bad: bool) -> None:
    """Make the blurred faces of CONFIG: a YAML file, or the name of one that ships with faceblur, such as blur112.

    Faces are blurred as by a shaken camera, a lens out of focus or linear motion, or hidden by an obfuscator. Each is labelled
    with its degree of blur: 1 - cosine of the embeddings of the sharp and the blurred face.
    """
    from faceblur_core.datasets.blur import build_blurred
    from faceblur_core.datasets.blur_config import load_blur_recipe
    from faceblur_core.datasets.labels import BadRows
    from faceblur_core.options import find_config

    recipe = load_blur_recipe(find_config(config, "datasets"), data)
    bad = BadRows(skip=skip_bad)
    with counting("photos and faces") as advance:
        report = build_blurred(recipe, output, bad, workers, advance)
    for warning in [*bad.skipped, *report.warnings]:
        click.echo(f"faceblur: {warning}", err=True)
    rows = []
    for split in recipe.config.splits:
        sizes = report.bin_sizes(split, recipe.config.bins)
        rows.append((split, str(len(report.tried[split])), str(sizes.sum()), f"{sizes.min()} to {sizes.max()}"))
    print_table(("split", "tried", "pictures", f"in each of {recipe.config.bins} bins"), rows)
    if report.threshold == report.threshold:  # not nan
        rate = recipe.config.false_match_rate
        line = f"protected from a degree of {report.threshold:.3f} on: {rate:g} of pairs of different people are as much alike"
        click.echo(f"\n{line}")
    click.echo(f"\n-> {output}")


@dataset.command("export-yolo")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write, a new one.")
@click.option(
    "--least", type=click.FloatRange(0), default=6, show_default=True, help="Leave out boxes with a shorter side, pixels."
)
@click.option(
    "--shown",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Leave out boxes of which less is in the picture.",
)
def export_yolo(folder: Path, output: Path, least: float, shown: float) -> None:
    """Write the set in FOLDER as Ultralytics wants it: images/, labels/ and data.yaml, for faceblur train yolo.

    FOLDER is one that faceblur dataset build made. Pictures are linked where the file system can, else copied.
    """
    from faceblur_core.datasets.export_yolo import export_yolo

    done = export_yolo(folder, output, least=least, shown=shown)
    columns = ("split", "pictures", "without a face", "faces", "left out: cut by the edge", "too small")
    rows = [(split, *map(str, (one.pictures, one.empty, one.boxes, one.cut, one.small))) for split, one in done.items()]
    print_table(columns, rows)
    click.echo(f"\n-> {output}")


@dataset.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSONL file of the labels.")
@click.option(
    "-m", "--method", "methods", multiple=True, default=("mediapipe", "yunet"), show_default=True,
    help="A method that finds faces; each next one adds what those before it missed. Repeatable.",
)  # fmt: skip
@click.option("--redo", type=click.Path(path_type=Path), help="Marks of a review: label again only what is marked redo.")
@workers_option()
def label(folder: Path, output: Path, methods: tuple[str, ...], redo: Path | None, workers: int) -> None:
    """Label the pictures in FOLDER with detectors: MediaPipe first, then another one over what it missed."""
    from faceblur_core.datasets.review import label_folder

    with counting("photos") as advance:
        done = label_folder(folder, output, methods, redo, workers, advance)
    for line in done.unreadable:
        click.echo(f"faceblur: {line}", err=True)
    click.echo(f"{done.photos} pictures, {done.without} without a face -> {output}")
    click.echo(f"faceblur dataset review {output} --images {folder} -o review.html shows them")
    if done.unreadable:
        sys.exit(1)


@dataset.command()
@click.argument("labels", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Folder of the pictures."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="HTML page to write.")
@click.option("--marks", type=click.Path(path_type=Path), help="File of marks. Default: the page's name with .txt.")
@workers_option()
def review(labels: Path, images: Path, output: Path, marks: Path | None, workers: int) -> None:
    """Write a page of all labelled pictures, the least certain first, and a file to mark them in.

    A data set takes them as a source with format: reviewed, images, labels and marks.
    """
    from faceblur_core.datasets.review import write_review
    from faceblur_core.pages import check_page

    check_page(output)
    marks = marks or output.with_suffix(".txt")
    if marks == output:
        raise UsageMistake(f"{output} would be both the page and the file of marks; call the page .html, or give --marks")
    with counting("photos") as advance:
        count = write_review(images, labels, output, marks, workers, advance)
    click.echo(f"{count} pictures -> {output}; mark them in {marks}")


@dataset.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--digits", type=click.IntRange(1, 12), help="Digits of a number. Default: as many as needed, at least 5.")
@click.option("--start", type=click.IntRange(0), default=1, show_default=True, help="The first number.")
@click.option("--dry-run", is_flag=True, help="Only print the new names.")
def rename(folder: Path, digits: int | None, start: int, dry_run: bool) -> None:
    """Number the pictures in FOLDER: 00001.jpg, 00002.jpg, … in the order of their names.

    Files in FOLDER_blur and FOLDER_mask beside it are renamed with them. Prints old and new names, tab-separated.
    """
    from faceblur_core.datasets.rename import plan_rename
    from faceblur_core.datasets.rename import rename as make_moves

    moves = plan_rename(folder, digits, start)
    if not dry_run:
        make_moves(moves)
    for move in moves:
        click.echo(f"{move.source}\t{move.target}")


@dataset.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--testset", "testsets", multiple=True, help="Test set whose photos must not be in it: a name or a folder. Repeatable."
)
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots and a few of the pairs.")
@workers_option()
def check(folder: Path, testsets: tuple[str, ...], html: Path | None, workers: int) -> None:
    """Check the data set in FOLDER: pairs complete, splits apart, how large and where the faces are. Exit code 1 on a fault."""
    from faceblur_core.datasets.check import Known, check_dataset
    from faceblur_core.datasets.duplicates import fingerprint
    from faceblur_core.pages import check_page
    from faceblur_core.testsets.format import open_testset

    if html:
        check_page(html)
    known = []
    with counting("pictures") as advance:
        for name in testsets:
            found = open_testset(name)
            prints = [fingerprint(sample.image) for sample in found.samples()]
            names, sums = [str(row["id"]) for row in found.rows], [str(row["sha256"]) for row in found.rows]
            known.append(Known(found.title, names, prints, sums))
        checked = check_dataset(folder, known, workers, advance)
    columns, rows = _table(checked)
    print_table(columns, rows)
    click.echo(f"\ncontent {checked.digest}")
    if html:
        from faceblur_core.datasets.check_page import write_check_page

        write_check_page(checked, columns, rows, html)
        click.echo(f"-> {html}")
    for fault in checked.faults:
        click.echo(f"faceblur: {fault}", err=True)
    if checked.faults:
        sys.exit(1)


def _table(checked: Checked) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    import numpy as np

    from faceblur_core.datasets.check import HIGH, LOW

    columns = (
        "split",
        "pictures",
        "repeats",
        "faces",
        f"{LOW:.0%} to {HIGH:.0%} high",
        "median height",
        "without a face",
        "several",
        "centre x, y",
    )
    rows: list[tuple[str, ...]] = []
    for split, spread in checked.spreads.items():
        rows.append(
            (
                split,
                str(spread.pictures),
                str(spread.repeats),
                str(len(spread.heights)),
                f"{spread.dominant:.1%}" if len(spread.heights) else "-",
                f"{np.median(spread.heights):.1%}" if len(spread.heights) else "-",
                str(int((spread.counts == 0).sum())),
                str(int((spread.counts > 1).sum())),
                "{:.2f}, {:.2f}".format(*spread.centre) if len(spread.heights) else "-",
            )
        )
    return columns, rows
