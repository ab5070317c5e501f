"""``faceblur testset``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from faceblur_core.cli.output import build_options, counting, print_json, print_table
from faceblur_core.errors import FaceblurError, UsageMistake


@click.group()
def testset() -> None:
    """Build, list, look at and verify test sets: what every method is compared on."""


@testset.command()
@click.argument("config")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder of the test set. Default: its name, where list looks."
)
@click.option("--overwrite", is_flag=True, help="Replace a test set that is there.")
@build_options
def build(config: str, output: Path | None, overwrite: bool, data: Path, workers: int, skip_bad: bool) -> None:
    """Build the test set of CONFIG: a YAML file, or the name of one that ships with faceblur (see faceblur testset list)."""
    from faceblur_core.datasets.labels import BadRows
    from faceblur_core.options import find_config
    from faceblur_core.testsets.build import Built, build_testset
    from faceblur_core.testsets.config import load_config
    from faceblur_core.testsets.format import HEAD, testsets_folder
    from faceblur_core.testsets.samples import NAME, build_samples

    path = find_config(config, "testsets") if config != NAME else None
    name = load_config(path, data)[0].name if path else NAME
    folder = output or testsets_folder() / name
    if (folder / HEAD).is_file() and not overwrite:
        raise UsageMistake(f"{folder} is there; --overwrite replaces it")
    if folder.exists() and not (folder / HEAD).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageMistake(f"{folder} is there and is no test set; choose another -o")
    with counting("photos") as advance:
        bad = BadRows(skip=skip_bad)
        built = build_testset(path, data, folder, bad, workers, advance) if path else Built(build_samples(folder), [])
    for warning in built.warnings:
        click.echo(f"faceblur: {warning}", err=True)
    made = built.testset
    click.echo(f"{made.title}: {made.extent}, {made.face_count()} faces, checksum {made.checksum[:12]} -> {folder}\n")
    print_table(
        ("category", "pictures" if made.of_clips else "photos"),
        [(name, str(count)) for name, count in sorted(made.sizes().items())],
    )


@testset.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the test sets that are here, and those that can be built."""
    from faceblur_core.options import read_yaml, shipped_configs
    from faceblur_core.testsets.format import installed_testsets, read_testset
    from faceblur_core.testsets.samples import NAME, SUMMARY, VERSION

    rows: list[dict[str, Any]] = []
    for name, folder in installed_testsets().items():
        try:
            found = read_testset(folder)
        except FaceblurError as error:  # the others are well
            rows.append({"name": name, "version": "", "state": "damaged", "summary": error.message})
            continue
        categories = ", ".join(f"{count} {category}" for category, count in sorted(found.sizes().items()))
        facts = {"photos": len(found.rows), "faces": found.face_count(), "categories": categories, "checksum": found.checksum}
        rows.append({"name": name, "version": found.version, "state": "built", "summary": found.head.get("summary", ""), **facts})
    built = {row["name"] for row in rows}
    if NAME not in built:
        rows.append({"name": NAME, "version": VERSION, "state": "made when first used", "summary": SUMMARY})
    for name, path in shipped_configs("testsets").items():
        if name not in built:
            content = read_yaml(path, "test set config")
            rows.append({"name": name, "version": content["version"], "state": "config", "summary": content["summary"]})
    if as_json:
        print_json(rows)
        return
    columns = ("name", "version", "state", "photos", "faces", "summary", "categories", "checksum")
    print_table(
        columns, [[str(row.get(column, ""))[: 12 if column == "checksum" else None] for column in columns] for row in rows]
    )
    click.echo("\nfaceblur testset build NAME --data FOLDER makes one that is only a config.")


@testset.command()
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="PNG file to write.")
@click.option("--category", help="Only photos of this category.")
@click.option("--limit", type=click.IntRange(1), default=96, show_default=True, help="Most photos on the sheet, spread evenly.")
def show(name: str, output: Path, category: str | None, limit: int) -> None:
    """Draw a contact sheet of the test set NAME with the truth: red outlines count, yellow ones are ignored."""
    from faceblur_core.cli.output import write_png
    from faceblur_core.media.files import check_kind
    from faceblur_core.media.sheets import COUNTED, IGNORED, Cell, contact_sheet, outlined
    from faceblur_core.testsets.format import open_testset

    if output.suffix.lower() != ".png":
        raise UsageMistake(f"-o {output}: the sheet is a PNG file; give it a name that ends in .png")
    check_kind(output, b"\x89png", "PNG file")
    found = open_testset(name)
    rows = sorted((row for row in found.rows if category in (None, *row["categories"])), key=lambda row: row["categories"])
    if not rows:
        raise UsageMistake(f"test set {found.title} has no photo of category {category!r}; it has {', '.join(found.sizes())}")
    cells = []
    for index in range(min(limit, len(rows))):
        row = rows[index * len(rows) // min(limit, len(rows))]
        sample = found.sample(row)
        outlines = [*((face, IGNORED) for face in sample.ignored), *((face, COUNTED) for face in sample.faces)]
        flags = sorted({flag for face in row["faces"] for flag in face["flags"]} - {"ignore"})
        cells.append(Cell(outlined(sample.image, outlines, 220), " ".join([*row["categories"], *flags])))
    write_png(output, contact_sheet(cells, 220))
    click.echo(f"{len(cells)} of {len(rows)} {'pictures' if found.of_clips else 'photos'} -> {output}")


@testset.command()
@click.argument("name")
def verify(name: str) -> None:
    """Check that every photo of the test set NAME is the one of its manifest, and the manifest the one of its checksum."""
    from faceblur_core.testsets.format import faults, open_testset

    found = open_testset(name)
    wrong = faults(found)
    for line in wrong:
        click.echo(f"faceblur: {line}", err=True)
    click.echo(f"{found.title}: {found.extent}, {len(wrong)} faults, checksum {found.checksum}")
    if wrong:
        sys.exit(1)
