"""From a model file to what runs it: a backend by name, or by the file's ending."""

from __future__ import annotations

from pathlib import Path

from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.options import describe_options
from faceblur_core.plugins import installed_plugins
from faceblur_core.types import Backend, Predictor

AUTO = "auto"  #: the first backend, in the order of their names, that reads files with that ending


def make_backend(path: Path, name: str = AUTO, *, threads: int = 1) -> Backend:
    """Return the backend that shall read a model file.

    :param threads: told to backends that have such an option
    :raises UsageMistake: if there is no such backend, it does not read such files, or cannot use so many threads
    :raises MissingDependency: if a package that it needs is not installed
    """
    plugins = installed_plugins()
    if name == AUTO:
        name = _reader_of(path)
    tunable = any(item.name == "threads" for item in describe_options(plugins.factory("backend", name)))
    if threads != 1 and not tunable:
        raise UsageMistake(f"backend {name!r} has no option threads; leave threads at 1")
    backend: Backend = plugins.make("backend", name, {"threads": threads} if tunable else {})
    if path.suffix not in backend.suffixes:
        raise UsageMistake(f"backend {name!r} reads {' and '.join(backend.suffixes)} files, not {path.name}")
    return backend


def load_network(path: Path, name: str = AUTO, *, threads: int = 1) -> Predictor:
    """Return the network in a model file, ready to run; parameters and errors as of :func:`make_backend`.

    :raises FaceblurError: if the file is missing or is no such model
    """
    return make_backend(path, name, threads=threads).load(path)


def _reader_of(path: Path) -> str:
    suffixes = readable_suffixes()
    for name, readable in suffixes.items():
        if path.suffix in readable:
            return name
    known = ", ".join(sorted({suffix for readable in suffixes.values() for suffix in readable}))
    raise UsageMistake(f"no backend reads {path.name}; those installed read {known or 'nothing'}")


def readable_suffixes() -> dict[str, tuple[str, ...]]:
    """Return what each backend reads that can be imported and does not want to be asked for by name."""
    plugins = installed_plugins()
    found = {}
    for name in plugins.names("backend"):
        try:
            backend = plugins.factory("backend", name)
        except FaceblurError:
            continue
        if not getattr(backend, "by_name_only", False):
            found[name] = tuple(getattr(backend, "suffixes", ()))  # one that says nothing of it is asked for by name alone
    return found
