"""Fixtures for the tests of the core: test plugins, the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DISTS = Path(__file__).parent / "dists"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install test distributions by name, as if by pip, for this test."""
    from faceblur_core.plugins import installed_plugins

    def add(*names: str) -> None:
        for name in names:
            monkeypatch.syspath_prepend(str(DISTS / name))
        installed_plugins.cache_clear()

    before = set(sys.modules)
    yield add
    for name in set(sys.modules) - before:
        if "plug" in name and "faceblur" not in name:
            del sys.modules[name]
    monkeypatch.undo()
    installed_plugins.cache_clear()


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run ``faceblur`` in this process; returns its exit code and what it printed."""
    from faceblur_core.cli import main

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        before, sys.argv = sys.argv, ["faceblur", *map(str, arguments)]
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            sys.argv = before
        captured = capfd.readouterr()
        return Result(int(code or 0), captured.out, captured.err)

    return run


def spawn(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run ``faceblur`` in a process of its own."""
    command = [sys.executable, "-m", "faceblur_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


def one_line(result: Result, code: int, *parts: str) -> None:
    """Assert that a command said one line on stderr, with these parts, and nothing else."""
    assert (result.code, result.out) == (code, ""), result.err
    assert result.err.count("\n") == 1 and result.err.startswith("faceblur: "), result.err
    assert all(part in result.err for part in parts), result.err


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
