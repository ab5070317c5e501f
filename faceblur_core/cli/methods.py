"""``faceblur methods``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from faceblur_core.cli.output import print_json, print_table
from faceblur_core.options import describe_options
from faceblur_core.plugins import Plugins, installed_plugins

if TYPE_CHECKING:
    from faceblur_core.hookspecs import Component
    from faceblur_core.methods import Method

SECTIONS = (("anonymizer", "Whole methods"), ("detector", "Detectors: each is a method, short for DETECTOR+blur"))


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def methods(name: str | None, as_json: bool) -> None:
    """List methods, or the options of one.

    NAME is a method as faceblur run takes it (haar, 'yunet+solid', a YAML file) or an obfuscator.
    """
    from faceblur_core.methods import find_method

    installed = installed_plugins()
    if name is None:
        _list(installed, as_json=as_json)
    elif name in installed.names("obfuscator") and name not in installed.names("detector"):
        _obfuscator(installed, name, as_json=as_json)
    else:
        _method(find_method(name, {}, installed), as_json=as_json)


def _facts(component: Component) -> dict[str, Any]:
    from faceblur_core.weights import present

    return {
        "name": component.name,
        "summary": component.summary,
        "licence": component.licence,
        "weights": [
            {"file": item.file, "licence": item.licence, "present": present(item) is not None} for item in component.weights
        ],
    }


def _weights_cell(facts: dict[str, Any]) -> str:
    return ", ".join(f"{w['file']} ({w['licence']}, {'present' if w['present'] else 'missing'})" for w in facts["weights"])


def _list(installed: Plugins, *, as_json: bool) -> None:
    from faceblur_core.methods import named_methods

    kinds = ("anonymizer", "detector", "obfuscator", "embedder")
    offered = sorted((item for info in installed.infos for item in info.components), key=lambda item: item[1].name)
    facts = {kind: [_facts(component) for k, component in offered if k == kind] for kind in kinds}
    files = [_file_row(name, installed) for name in named_methods()]
    if as_json:
        print_json({**{f"{kind}s": rows for kind, rows in facts.items()}, "files": files})
        return
    for kind, title in SECTIONS:
        _section(title, facts[kind])
    click.echo("Obfuscators: name one after a plus, as in haar+pixelate\n")
    print_table(("name", "summary", "licence"), [(row["name"], row["summary"], row["licence"]) for row in facts["obfuscator"]])
    click.echo()
    _section("Embedders: they know faces again, for --keep and --only", facts["embedder"])
    if files:
        click.echo("Method files\n")
        print_table(("name", "method", "summary"), [(row["name"], row["method"], row["summary"]) for row in files])
        click.echo()
    click.echo("Also 'haar|yunet': what any of them finds. faceblur methods NAME lists the options of one.")


def _section(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table of components, if there are any."""
    if not rows:
        return
    click.echo(f"{title}\n")
    columns = ("name", "summary", "licence of code", "weights (licence)")
    print_table(columns, [(row["name"], row["summary"], row["licence"], _weights_cell(row)) for row in rows])
    click.echo()


def _file_row(name: str, installed: Plugins) -> dict[str, str]:
    from faceblur_core.errors import FaceblurError
    from faceblur_core.methods import find_method

    try:
        found = find_method(name, {}, installed)
    except FaceblurError as error:  # it needs a plugin that is not installed, or is no method
        return {"name": name, "method": "", "summary": f"not usable here: {error.message.partition('. ')[0]}"}
    return {"name": name, "method": found.spec, "summary": found.summary}


def _obfuscator(installed: Plugins, name: str, *, as_json: bool) -> None:
    component = installed.get("obfuscator", name).component
    options = [("obfuscator.", option) for option in describe_options(installed.factory("obfuscator", name))]
    _describe(name, [_facts(component)], options, component.summary, as_json=as_json)


def _method(found: Method, *, as_json: bool) -> None:
    found.resolved()  # a mistake in a file's options is told
    parts = [_facts(entry.component) for _, entry in found.parts()]
    options = [(p, dataclasses.replace(o, default=found.options.get(f"{p}{o.name}", o.default))) for p, o in found.describe()]
    _describe(found.text, parts, options, found.summary or found.spec, as_json=as_json)


def _describe(name: str, parts: list[dict[str, Any]], options: list[Any], summary: str, *, as_json: bool) -> None:
    if as_json:
        described = [{**dataclasses.asdict(option), "name": f"{prefix}{option.name}"} for prefix, option in options]
        print_json({"name": name, "summary": summary, "parts": parts, "options": described})
        return
    click.echo(f"{name}: {summary}\n")
    columns = ("part", "summary", "licence of code", "weights (licence)")
    print_table(columns, [(part["name"], part["summary"], part["licence"], _weights_cell(part)) for part in parts])
    click.echo()
    rows = [(f"{prefix}{option.name}", option.type, str(option.default), option.help) for prefix, option in options]
    print_table(("option for --set", "type", "default", "what it does"), rows)
