"""``faceblur plugins``."""

from __future__ import annotations

import contextlib
import dataclasses
import sys

import click

from faceblur_core.cli.output import print_json, print_table
from faceblur_core.errors import UnknownName, UsageMistake
from faceblur_core.plugins import DISABLE, PluginInfo, installed_plugins


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List the installed plugins, also those that do not work."""
    if context.invoked_subcommand:
        return
    infos = installed_plugins().infos
    names = {name for info in infos for name in (info.name, info.distribution)}
    for unknown in sorted(installed_plugins().disabled - names):
        click.echo(f"faceblur: {DISABLE} names {unknown!r}, which is not installed", err=True)
    if as_json:
        print_json([{**dataclasses.asdict(info), "components": _components(info)} for info in infos])
        return
    print_table(
        ("plugin", "distribution", "version", "status", "offers"),
        [(i.name, i.distribution, i.version, _status(i), ", ".join(c["name"] for c in _components(i))) for i in infos],
    )


def _components(info: PluginInfo) -> list[dict[str, str]]:
    return [{"kind": kind, "name": item.name, "summary": item.summary} for kind, item in info.components]


def _status(info: PluginInfo) -> str:
    return f"{info.status}: {info.error}" if info.error else info.status


@plugins.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(name: str, as_json: bool) -> None:
    """Run the contract tests on everything that the plugin NAME offers.

    NAME is the plugin's or its distribution's. The exit code is 1 if a check fails.
    """
    from faceblur_core.testing import check_component

    infos = [info for info in installed_plugins().infos if name in (info.name, info.distribution)]
    if not infos:
        known = [known for info in installed_plugins().infos for known in (info.name, info.distribution)]
        raise UnknownName("plugin", name, set(known))
    bad = next((info for info in infos if info.status != "ok" or info.error), None)
    if bad:
        raise UsageMistake(f"plugin {bad.name!r} cannot be checked: {_status(bad)}")
    with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is none of our table's
        results = [result for info in infos for kind, item in info.components for result in check_component(kind, item.name)]
    if as_json:
        print_json([dataclasses.asdict(result) for result in results])
    else:
        rows = [(f"{result.kind} {result.component}", result.check, result.outcome, result.message) for result in results]
        print_table(("component", "check", "outcome", "message"), rows)
        failed = sum(result.outcome == "failed" for result in results)
        click.echo(f"\n{len(results)} checks, {failed} failed")
    if any(result.outcome == "failed" for result in results):
        sys.exit(1)
