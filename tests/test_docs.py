"""Docs and code say the same."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from faceblur_core import hookspecs
from faceblur_core.methods import find_method, named_methods
from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins

ROOT = Path(__file__).parents[1]
HOOKS = {name for name in vars(hookspecs) if name.startswith("faceblur_")}


def test_there_is_a_hook_for_every_kind():
    assert {f"faceblur_{kind}s" for kind in hookspecs.KINDS} == HOOKS


def test_the_tutorial_lists_every_hook():
    table = (ROOT / "docs" / "plugin-tutorial.md").read_text().split("<!-- hooks")[1]
    assert set(re.findall(r"^\| `(faceblur_\w+)`", table, re.M)) == HOOKS


def test_the_tutorials_code_is_the_templates():
    text = (ROOT / "docs" / "plugin-tutorial.md").read_text()
    record = (ROOT / "examples/faceblur-plugin-template/src/faceblur_plugin_template/__init__.py").read_text()
    for line in re.search(r"yield Component\((.*?)\n    \)", text, re.S).group(1).strip().splitlines():
        assert line.strip() in record
    assert 'template = "faceblur_plugin_template"' in (ROOT / "examples/faceblur-plugin-template/pyproject.toml").read_text()


def test_every_hook_is_documented_and_takes_nothing():
    for name in HOOKS:
        function = getattr(hookspecs, name)
        assert function.__doc__ and function.__code__.co_argcount == 0


def test_the_readme_lists_every_method_with_its_licence():
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \|.*\| ([^|]+?) \|$", (ROOT / "README.md").read_text(), re.M))
    for info in installed_plugins().infos:
        for kind, component in info.components:
            if kind in ("detector", "obfuscator", "anonymizer"):
                assert component.licence in rows[component.name], component.name


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "configs" / "methods").glob("*.yaml")])
def test_every_method_file_can_be_made(name, shared):
    method = find_method(name, {}, installed_plugins())
    assert method.summary
    assert set(method.options) <= {f"{prefix}{option.name}" for prefix, option in method.describe()}
    anonymize = method.make()
    close(anonymize)


def test_method_files_ship_with_the_package():
    assert set(named_methods()) == {path.stem for path in (ROOT / "configs" / "methods").glob("*.yaml")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["configs/methods"] == "faceblur_core/configs/methods"
    for path in (ROOT / "configs" / "methods").glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text())) <= {"summary", "method", "options"}


def test_the_published_tables_are_those_of_the_csv_files():
    subprocess.run([sys.executable, ROOT / "benchmarks" / "tables.py", "--check"], check=True)


def test_the_readmes_figures_are_those_of_one_comparison():
    results = (ROOT / "results" / "README.md").read_text()
    section = re.search(r"^## fddb-v1--.*?(?=^## )", results, re.M | re.S).group()
    whole = {line.split(" | ")[0]: line.split(" | ") for line in section.splitlines()}
    for line in (ROOT / "README.md").read_text().split("tables.py -->")[1].split("<!-- end")[0].strip().splitlines()[2:]:
        method, *figures = line.removesuffix(" |").split(" | ")
        assert len(figures) == 5 and set(figures) <= set(whole[method]), method


def test_relative_links_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "plugins").glob("*/README.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
