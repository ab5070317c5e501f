"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceblur_core import __version__
from faceblur_core.errors import UsageMistake

if TYPE_CHECKING:
    from rich.progress import Progress

    from faceblur_core.types import Image


MOST_WORKERS = 64
REPORT = b'{\n "faceblur": '  #: how the files of ``--json`` begin


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: fitted to a terminal, or whole lines where the output goes to a file or a pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    Console(width=width, highlight=False).print(table)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def printable(name: str) -> str:
    """Return a file name with line ends, escape codes and undecodable bytes written out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in name)


def tell_passed_over(passed_over: Counter[str]) -> None:
    """Say on stderr what folders hold that was passed over, if there is such."""
    from faceblur_core.run.jobs import BY_SIGHT

    parts = [f"{passed_over[what]} {what}{'s' * (passed_over[what] > 1)}" for what in BY_SIGHT if passed_over[what]]
    kinds = [f"{count} {printable(suffix)}" for suffix, count in passed_over.most_common() if count and suffix not in BY_SIGHT]
    if kinds:
        more = f" and {len(kinds) - 5} more kinds" if len(kinds) > 5 else ""
        parts.append(f"no photos by name: {', '.join(kinds[:5])}{more}")
    if parts:
        click.echo(f"faceblur: passed over, {'; '.join(parts)}", err=True)


def check_report(report: Path | None, pictures: Iterable[Path]) -> None:
    """:raises UsageMistake: if the file of ``--json`` would take a picture's place, or its folder is not there"""
    from faceblur_core.media.files import check_kind

    if report is None:
        return
    if os.path.realpath(report) in set(map(os.path.realpath, pictures)):
        raise UsageMistake(f"--json {report} is one of the pictures; choose another name")
    if not report.parent.is_dir():
        raise UsageMistake(f"--json {report}: {report.parent} is no folder")
    check_kind(report, REPORT, "report of faceblur")


def write_report(report: Path, content: Mapping[str, Any]) -> None:
    """Write the file of ``--json``. :raises FaceblurError: if it cannot be written."""
    from faceblur_core.media.files import save

    save(report, (json.dumps({"faceblur": __version__, **content}, indent=1) + "\n").encode())


@contextlib.contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Progress | None]:
    """Yield a progress bar with one task on stderr where a person is looking at it, else None; total None: only a count."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=total)
        yield progress


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[[], None]]:
    """Yield a function that counts one more item on a progress bar, where there is one; for work of unknown length."""
    with progress_bar(what, None) as bar:
        yield lambda: bar.advance(bar.task_ids[0]) if bar else None


def workers_option(what: str = "Threads") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add ``--workers``, with what they are."""
    usual = min(MOST_WORKERS, os.cpu_count() or 1)
    help_ = f"{what}. Default: one per core, at most {MOST_WORKERS}."
    return click.option("--workers", type=click.IntRange(1, MOST_WORKERS), default=usual, help=help_)


def megapixels_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--max-megapixels``."""
    what = "Refuse larger files."
    return click.option("--max-megapixels", type=click.IntRange(1, 10_000), default=200, show_default=True, help=what)(command)


def build_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all commands that read labelled photos: ``data``, ``workers``, ``skip_bad``."""
    options = (
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            default=lambda: os.environ.get("FACEBLUR_DATA", "."),
            help="Folder that the config's paths are relative to. Default: FACEBLUR_DATA, else the current folder.",
        ),
        workers_option("Threads, processes in dataset blur"),
        click.option("--skip-bad", is_flag=True, help="Leave out photos with a bad row in their annotation file, and say so."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def write_png(path: Path, image: Image) -> None:
    """Write a picture. :raises FaceblurError: if it cannot be written."""
    from faceblur_core.media.files import save
    from faceblur_core.media.images import encode_pixels

    save(path, encode_pixels(image, "PNG"))
