"""``faceblur export-mcu``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faceblur_core.cli.output import print_json, print_table
from faceblur_core.errors import FaceblurError, UsageMistake

if TYPE_CHECKING:
    from faceblur_core.mcu.boards import Board
    from faceblur_core.mcu.fit import Fit
    from faceblur_core.mcu.report import Report
    from faceblur_core.mcu.source import Int8Network
    from faceblur_core.types import Image

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("export-mcu")
@click.option("-m", "--method", "methods", multiple=True, help="A method around one network. Repeatable with --fit.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the method. Repeatable.")
@click.option("--tflite", "files", type=FILE, multiple=True, help="A .tflite file instead. Repeatable with --fit.")
@click.option("--board", help="Board to export for; see --boards.")
@click.option("-o", "--output", type=FOLDER, help="Folder to write.")
@click.option(
    "--recompute",
    type=click.Choice(["r0", "r1", "auto"]),
    default="auto",
    show_default=True,
    help="r0: compute everything once; r1: the largest skip connection twice, which takes less RAM; auto: r0 if it fits.",
)
@click.option("--pictures", type=click.IntRange(1), default=1, show_default=True, help="Pictures to compare with tflite-micro.")
@click.option("--simulation/--no-simulation", default=True, help="Run them on the simulated board too, as is the default.")
@click.option("--fit", is_flag=True, help="Print which networks fit which boards; all int8 ones if none is named.")
@click.option("--boards", "list_boards", is_flag=True, help="Print the boards.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export_mcu(
    methods: tuple[str, ...],
    settings: tuple[str, ...],
    files: tuple[Path, ...],
    board: str | None,
    output: Path | None,
    recompute: str,
    pictures: int,
    simulation: bool,
    fit: bool,
    list_boards: bool,
    as_json: bool,
) -> None:
    """Turn a method's network into C for a microcontroller, and check it on a simulated board.

    \b
    faceblur export-mcu --method unet-student-v1-int8 --board stm32h743 -o v1-on-h743
    faceblur export-mcu --tflite mine.tflite --board rp2350 -o mine
    faceblur export-mcu --fit
    """
    if list_boards:
        _print_boards(as_json)
        return
    from faceblur_core.mcu.boards import boards, find_board

    target = find_board(board) if board else None
    if settings and not methods:
        raise UsageMistake("--set is for options of a --method, and none is named")
    if fit:
        if output or recompute != "auto" or pictures != 1 or not simulation:
            raise UsageMistake("--fit writes nothing and tries all: it goes without -o, --recompute, --pictures, --no-simulation")
        networks = [*_of_methods(methods, settings, 1), *_of_files(files, 1)] or list(_all_int8())
        _print_fits(networks, [target] if target else list(boards().values()), as_json)
        return
    if not methods and not files:
        raise UsageMistake("name a network: --method METHOD or --tflite FILE")
    if len(methods) + len(files) != 1 or not target or not output:
        raise UsageMistake("an export needs one network, --board and -o; --fit compares several, --boards lists boards")
    from faceblur_core.mcu.export import Options, export, holds_export

    holds_export(output)  # refuses a folder of something else before the work begins
    network = next(iter([*_of_methods(methods, settings, pictures), *_of_files(files, pictures)]))
    options = Options(recompute=recompute, simulation=simulation)
    report = export(network.name, network.model, target, network.frames, output, options, _say)
    if as_json:
        click.echo((output / "report.json").read_text(encoding="utf-8"), nl=False)
    else:
        _print_report(report, output)
    if report.mismatches:
        raise FaceblurError(f"{report.mismatches} bytes differ from tflite-micro; this is a fault of faceblur, please report it")


def _say(text: str) -> None:
    click.echo(f"faceblur: {text}", err=True)


def _of_methods(methods: tuple[str, ...], settings: tuple[str, ...], pictures: int) -> Iterator[Int8Network]:
    from faceblur_core.mcu.source import from_component
    from faceblur_core.methods import find_method
    from faceblur_core.options import parse_settings
    from faceblur_core.pipeline import close, model_files, network_of
    from faceblur_core.plugins import installed_plugins

    for method in methods:
        made = find_method(method, parse_settings(settings), installed_plugins()).make()
        try:
            component = network_of(made)
            if component is None:
                files = ", ".join(path.name for path in model_files(made))
                raise UsageMistake(
                    f"method {method!r} has no network that could be exported{files and f' (it runs {files})'};"
                    " a .tflite file can be named with --tflite"
                )
            yield from_component(method, component, _photos(), pictures)
        finally:
            close(made)


def _all_int8() -> Iterator[Int8Network]:
    """Yield the int8 networks of the whole methods that ship, each once; those that cannot be loaded are named on stderr."""
    from faceblur_core.mcu.source import from_component, int8_model
    from faceblur_core.methods import find_method, named_methods
    from faceblur_core.pipeline import network_of
    from faceblur_core.plugins import installed_plugins

    seen = set()
    for method in named_methods():
        found = find_method(method, {}, installed_plugins())
        try:
            component = network_of(found.make()) if found.anonymizer else None  # detectors' weights may have to be downloaded
            model = int8_model(component) if component else None
        except FaceblurError as error:
            click.echo(f"faceblur: {method}: {error.message}", err=True)
            continue
        if component and model and model not in seen:
            seen.add(model)
            yield from_component(method, component, _photos(), 1)
    if not seen:
        raise UsageMistake("no method here has an int8 network; name networks with --method or --tflite")


def _of_files(files: tuple[Path, ...], pictures: int) -> Iterator[Int8Network]:
    from faceblur_core.mcu.source import from_file

    for file in files:
        yield from_file(file, _photos(), pictures)


def _photos() -> Iterator[Image]:
    """Yield the photos of the built-in test set."""
    from faceblur_core.testsets.format import open_testset
    from faceblur_core.testsets.samples import NAME

    for sample in open_testset(NAME).samples():
        yield sample.image


def _print_report(report: Report, output: Path) -> None:
    def known(value: int | None, unit: str = "") -> str:
        return "not known" if value is None else f"{value:,}{unit}"

    for note in report.notes:
        _say(note)
    ram = "RAM with frame and stack" if report.stack_bytes else "RAM with frame, without stack"
    rows = [
        (ram, f"{report.ram_bytes:,} B ({report.ram_bytes / 1024:.1f} KiB), {report.recompute}"),
        ("stack", known(report.stack_bytes, " B")),
        ("flash", known(report.flash_bytes, " B")),
        ("instructions of one picture", known(report.instructions, " (QEMU)")),
        ("bytes that differ from tflite-micro", f"{known(report.mismatches)} on {report.pictures} pictures"),
    ]
    print_table(("", ""), rows)
    click.echo(f"\n{report.network} for {report.board} -> {output}; more in report.md")


def _print_boards(as_json: bool) -> None:
    from dataclasses import asdict

    from faceblur_core.mcu.boards import boards

    if as_json:
        print_json([asdict(board) for board in boards().values()])
        return
    rows = [
        (board.name, board.core, f"{board.clock_mhz:g}", str(board.ram_kib), str(board.flash_kib), board.source)
        for board in boards().values()
    ]
    print_table(("board", "processor", "MHz", "RAM KiB", "flash KiB", "source"), rows)


def _print_fits(networks: list[Int8Network], wanted: list[Board], as_json: bool) -> None:
    from dataclasses import asdict

    from faceblur_core.mcu.boards import assumption
    from faceblur_core.mcu.fit import fits

    found = list(fits(networks, wanted))
    if as_json:
        print_json([asdict(row) for row in found])
    else:
        _print_fit_table(found)
        click.echo("\nRAM with frame and stack; instructions counted in QEMU. Frames per second assume:")
        for core in dict.fromkeys(item.core for item in wanted):
            click.echo(f"  {assumption(core)}")
    for line in dict.fromkeys(f"faceblur: {row.network}: {row.note}" for row in found if row.note):
        click.echo(line, err=True)
    if any(row.ram_bytes is None for row in found):
        sys.exit(1)


def _print_fit_table(found: list[Fit]) -> None:
    rows = [
        (
            row.network,
            row.board,
            "yes" if row.fits else "no",
            f"{row.ram_bytes / 1024:.0f}" if row.ram_bytes else "",
            row.recompute,
            f"{row.flash_bytes / 1024:.0f}" if row.flash_bytes else "",
            f"{row.instructions / 1e6:.0f} M" if row.instructions else "",
            f"{row.fps[0]:.2g} to {row.fps[1]:.2g}" if row.fps else "",
            row.ethos,
        )
        for row in found
    ]
    columns = (
        "network",
        "board",
        "fits",
        "RAM KiB",
        "recompute",
        "flash KiB",
        "instructions",
        "frames/s",
        "Ethos-U (Vela's estimate)",
    )
    print_table(columns, rows)
