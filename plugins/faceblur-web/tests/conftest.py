"""Fixtures: the application in this process, a server in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from faceblur_web.allowed import Catalogue
from faceblur_web.app import make_app
from faceblur_web.limits import Limits


@pytest.fixture
def make_client():
    """Start an application with the given settings; returns a client of it."""
    with contextlib.ExitStack() as stack:

        def start(limits: Limits | None = None, only: tuple[str, ...] = (), **settings: object) -> TestClient:
            app = make_app(Catalogue(frozenset(only) or None), limits or Limits(), **settings)
            return stack.enter_context(TestClient(app, base_url="http://localhost", raise_server_exceptions=False))

        yield start


@pytest.fixture
def client(make_client) -> TestClient:
    return make_client()


@dataclass(frozen=True)
class Server:
    """``faceblur serve`` in a process of its own."""

    address: str  #: as it was printed, with the token
    process: subprocess.Popen[str]
    folder: Path

    @property
    def url(self) -> str:
        return self.address.partition("/#")[0].rstrip("/")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def left_behind(self) -> list[Path]:
        """What lies in its TMPDIR."""
        return list((self.folder / "tmp").rglob("*"))

    def log(self) -> str:
        """What it wrote to stderr."""
        return (self.folder / "stderr.txt").read_text()

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextlib.contextmanager
def _serving(folder: Path, *options: str) -> Iterator[Server]:
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "faceblur_core", "serve", "--port", "0", *options]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"}
    with (folder / "stderr.txt").open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"{line} {(folder / 'stderr.txt').read_text()}"
        yield Server(found.group(), process, folder)
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


@pytest.fixture
def cores():
    """Let crashes leave a core file, so that a test sees who forbids it."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.fixture(scope="module")
def start_server(tmp_path_factory):
    """Start ``faceblur serve`` with options, until the module's tests are done; returns the :class:`Server`."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(_serving(tmp_path_factory.mktemp("server"), *options))
