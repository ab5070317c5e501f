"""``faceblur compare``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faceblur_core.cli.output import print_json, print_table, workers_option
from faceblur_core.errors import UsageMistake

if TYPE_CHECKING:
    from faceblur_core.compare.config import CompareConfig
    from faceblur_core.compare.diff import Change


class _DefaultGroup(click.Group):
    """A group whose command ``run`` needs no name: ``compare CONFIG`` and ``compare --methods …`` are ``compare run …``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_DefaultGroup)
def compare() -> None:
    """Compare methods on test sets: what each protects, what it destroys, what it costs, with intervals.

    \b
    faceblur compare --methods haar,yunet --testset samples
    faceblur compare configs/compare/all.yaml -o runs
    faceblur compare diff runs/A runs/B
    """


@compare.command()
@click.argument("config", required=False)
@click.option("--methods", help="Methods, separated by commas, in place of a config.")
@click.option("--testset", "testsets", multiple=True, help="Test set: a name or a folder. Repeatable; in place of the config's.")
@click.option(
    "--metric", "metrics", multiple=True, help="Metric. Repeatable; default: the config's, else all. See faceblur plugins."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder for runs.")
@click.option("--name", help="Name of the run.")
@workers_option("Jobs at once")
@click.option("--resume/--fresh", default=True, help="Take what an earlier run has measured (the default), or measure all anew.")
def run(config: str | None, methods: str | None, testsets: tuple[str, ...], metrics: tuple[str, ...], **options: Any) -> None:
    """Compare the methods of CONFIG (a YAML file, or the name of one that ships with faceblur), or those of --methods.

    What an earlier run has measured, with the same method, options, weights, test set and code, is taken from there: a run
    that was interrupted goes on, and one more method costs one method. The exit code is 1 if a method or a picture failed.
    """
    from faceblur_core.compare.config import plan
    from faceblur_core.compare.record import new_folder, write_run
    from faceblur_core.compare.run import run_jobs
    from faceblur_core.plugins import installed_plugins

    found = plan(_config(config, methods, testsets, metrics, options["name"]), installed_plugins())
    folder = new_folder(options["output"], found.config.name)
    results = run_jobs(
        found, options["workers"], fresh=not options["resume"], say=lambda line: click.echo(f"faceblur: {line}", err=True)
    )
    rows = write_run(results, folder)
    from faceblur_core.compare.report import write_report

    write_report(folder)
    _summary(rows)
    click.echo(f"\n-> {folder}")
    problems = [*_problems(rows), *(f"{metric}: no threshold: {reason}" for metric, reason in results.threshold_errors.items())]
    problems += [f"{name}, time and memory: {done.error}" for name, done in results.costs.items() if done.error]
    for problem in dict.fromkeys(problems):
        click.echo(f"faceblur: {problem}", err=True)
    if problems:
        sys.exit(1)


def _problems(rows: list[dict[str, Any]]) -> Iterator[str]:
    from faceblur_core.compare.table import WITHOUT_OUTPUT

    for row in rows:
        where = f"{row['method']} on {row['testset']}"
        if row["error"]:
            yield f"{where}{' ' if row['metric'] else ''}{row['metric']}: {row['error']}"
        elif row["metric"] == WITHOUT_OUTPUT and row["value"]:
            yield f"{where}, {row['value']} of {row['count']} images without output: {row['note']}"


@compare.command()
@click.argument("run1", type=click.Path(path_type=Path))
@click.argument("run2", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(run1: Path, run2: Path, as_json: bool) -> None:
    """Print which figures moved from RUN1 to RUN2: the new value lies outside the old 95 % interval.

    Test sets must have the same checksum in both runs. Time and memory have no interval and are left out. The exit code is 1 if
    a figure got worse, or a method fails that did not.
    """
    from faceblur_core.compare.diff import compare_runs, lines_of
    from faceblur_core.compare.recorded import read_run

    found = compare_runs(read_run(run1), read_run(run2))
    for line in found.skipped:
        click.echo(f"faceblur: {line}", err=True)
    if as_json:
        print_json({"run1": str(run1), "run2": str(run2), **dataclasses.asdict(found)})
    else:
        _moved(found.changes)
        for folder, missing in ((run1, found.only_old), (run2, found.only_new)):
            for line in lines_of(missing):
                click.echo(f"only in {folder}: {line}")
    if found.worse:
        sys.exit(1)


def _moved(changes: list[Change]) -> None:
    if not changes:
        click.echo("nothing moved beyond its interval")
        return
    verdict = {True: "better", False: "worse", None: ""}
    rows = []
    for c in changes:
        interval = f" [{c.low:.4g}, {c.high:.4g}]" if c.low is not None else ""
        values = (f"{c.old:.4g}{interval}", f"{c.new:.4g}") if c.old is not None else ("", c.note)
        figure = " ".join(dict.fromkeys([c.metric, c.statistic])).strip()
        rows.append((c.testset, c.method, c.slice, figure, *values, verdict[c.better]))
    print_table(("test set", "method", "slice", "figure", "old", "new", ""), rows)


def _config(
    path: str | None, methods: str | None, testsets: tuple[str, ...], metrics: tuple[str, ...], name: str | None
) -> CompareConfig:
    from faceblur_core.compare.config import CompareConfig, load
    from faceblur_core.options import find_config

    if path:
        found = load(find_config(path, "compare"))
    elif methods and testsets:
        found = CompareConfig([], list(testsets))
    else:
        raise UsageMistake("name a config, or --methods and --testset")
    changes: dict[str, Any] = {"testsets": list(testsets)} if testsets else {}
    if methods:
        changes["methods"] = [word.strip() for word in methods.split(",") if word.strip()]
    if metrics:
        changes |= {"metrics": list(metrics), "options": {key: found.options[key] for key in found.options if key in metrics}}
    if name:
        changes["name"] = name
    return dataclasses.replace(found, **changes)


#: The columns of the summary: heading, metric, statistic, number format.
SUMMARY = (
    ("coverage >= .95", "coverage", "share>=0.95", ".3f"),
    ("missed / 1000", "coverage", "share<0.5", "1000"),
    ("gaps / 1000", "gap-frames", "mean", "1000"),
    ("still detected", "still-detected", "mean", ".3f"),
    ("cosine < 0.4", "cosine", "share<0.4", ".3f"),
    ("re-identified", "reidentified", "rank-1", ".3f"),
    ("PSNR outside 128", "psnr-outside-128", "mean<=100", ".1f"),
    ("over-blur", "over-blur", "mean", ".4f"),
    ("jitter", "jitter", "mean", ".4f"),
)


def _summary(rows: list[dict[str, Any]]) -> None:
    figures = {
        (r["testset"], r["method"], r["metric"], r["statistic"]): r for r in rows if r["slice"] == "all" and r["value"] != ""
    }
    pairs = list(dict.fromkeys((row["testset"], row["method"]) for row in rows))
    shown = [column for column in SUMMARY if any(key[2:] == column[1:3] for key in figures)]
    table = []
    for testset, method in pairs:
        cells = [_cell(figures.get((testset, method, metric, statistic)), form) for _, metric, statistic, form in shown]
        table.append((testset, method, *cells))
    print_table(("test set", "method", *(column[0] for column in shown)), table)


def _cell(row: dict[str, Any] | None, form: str) -> str:
    if row is None:
        return "-"
    times, digits = (1000, ".0f") if form == "1000" else (1, form)
    return " ".join([f"{row['value'] * times:{digits}}", f"[{row['low'] * times:{digits}}, {row['high'] * times:{digits}}]"])
