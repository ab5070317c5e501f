"""Find, load, list and instantiate plugins. A broken plugin is a row in ``faceblur plugins``, not a crash."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pluggy

from faceblur_core import hookspecs
from faceblur_core.errors import FaceblurError, MissingDependency, UnknownName, UsageMistake, pass_on
from faceblur_core.hookspecs import GROUP, KINDS, Component, Kind
from faceblur_core.options import check_given, converted, shipped_configs

OURS = "faceblur-core"  #: the distribution whose plugin the program cannot do without
DISABLE = "FACEBLUR_DISABLE_PLUGINS"
METHODS: tuple[Kind, ...] = ("anonymizer", "detector")  #: kinds that share their names, for a method is named by either


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One installed plugin, working or not."""

    name: str  #: of its entry point
    distribution: str
    version: str
    status: Literal["ok", "disabled", "error"]
    error: str = ""  #: why not, or with which other plugin it disagrees
    components: tuple[tuple[Kind, Component], ...] = ()


@dataclass(frozen=True, slots=True)
class Registered:
    """A component and the plugin that it comes from."""

    kind: Kind
    component: Component
    plugin: str
    distribution: str

    @property
    def package(self) -> str:
        """The package that the component's code is in."""
        return self.component.factory.partition(":")[0].partition(".")[0]


def _ours_first(entry_point: EntryPoint) -> tuple[bool, str]:
    """Order plugins: a stranger's cannot take the name of the core's own."""
    return entry_point.dist is None or entry_point.dist.name != OURS, entry_point.name


class Plugins:
    """The installed plugins and the tables of what they offer.

    :param disabled: names of entry points or distributions that must not even be imported
    """

    def __init__(self, disabled: Iterable[str] = ()) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._table: dict[Kind, dict[str, list[Registered]]] = {kind: {} for kind in KINDS}
        self._infos: list[PluginInfo] = []
        self.disabled = frozenset(disabled)
        for entry_point in sorted(entry_points(group=GROUP), key=_ours_first):
            self._infos.append(self._load(entry_point))

    def _load(self, entry_point: EntryPoint) -> PluginInfo:
        dist = entry_point.dist
        distribution, version = (dist.name or "?", dist.version or "?") if dist else ("?", "?")
        row = functools.partial(PluginInfo, entry_point.name, distribution, version)
        if {entry_point.name, distribution} & self.disabled:
            return row("disabled")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a module prints must not end up in our JSON
                self._register(entry_point, distribution)
                offered = self._collect(entry_point.name)
        except BaseException as error:  # whatever a stranger's module raises
            pass_on(error)
            if self._manager.has_plugin(entry_point.name) and not isinstance(error, _NameTaken):
                self._manager.unregister(name=entry_point.name)
            return row("error", " ".join(f"{type(error).__name__}: {error}".split()))
        if not offered:
            return row("error", "it offers nothing: does a hook lack @hookimpl, or its return?")
        for kind, component in offered:
            entry = Registered(kind, component, entry_point.name, distribution)
            self._table[kind].setdefault(component.name, []).append(entry)
        return row("ok", components=offered)

    def _register(self, entry_point: EntryPoint, distribution: str) -> None:
        taken = next((info for info in self._infos if info.name == entry_point.name), None)
        if taken and taken.status == "ok":
            raise _NameTaken(f"plugin {entry_point.name!r} of {distribution} has the name of one in {taken.distribution}")
        self._manager.register(entry_point.load(), name=entry_point.name)
        self._manager.check_pending()  # a misspelt hook is an error, not silence

    def _collect(self, plugin: str) -> tuple[tuple[Kind, Component], ...]:
        """Call each hook of one plugin by itself, so that a fault is its own."""
        offered: list[tuple[Kind, Component]] = []
        others = [other for name, other in self._manager.list_name_plugin() if name != plugin and other is not None]
        for kind in KINDS:
            caller = self._manager.subset_hook_caller(f"faceblur_{kind}s", others)
            for component in (item for result in caller() for item in result):
                if not isinstance(component, Component):
                    raise TypeError(f"faceblur_{kind}s returned {component!r}, which is no Component")
                if any(component.name == c.name and k in _sharing(kind) for k, c in offered):
                    raise ValueError(f"faceblur_{kind}s returned {component.name!r}, which this plugin offers already")
                offered.append((kind, component))
        return tuple(offered)

    @property
    def infos(self) -> list[PluginInfo]:
        """Every plugin that is installed, with the names that it shares with others as its ``error``."""
        return [self._with_conflicts(info) for info in self._infos]

    def _with_conflicts(self, info: PluginInfo) -> PluginInfo:
        shared = [
            f"{kind} {component.name!r} is also in plugin {entry.plugin!r}"
            for kind, component in info.components
            for entry in self._all(kind, component.name)
            if entry.plugin != info.name
        ]
        files = shipped_configs("methods")
        shared += [
            f"{kind} {component.name!r} is also a method file of faceblur's"
            for kind, component in info.components
            if kind in METHODS and component.name in files
        ]
        return dataclasses.replace(info, error="; ".join(shared)) if shared else info

    def _all(self, kind: Kind, name: str) -> list[Registered]:
        """Return what is offered by a name, of this kind or of one that shares its names, this kind first."""
        kinds = sorted(_sharing(kind), key=lambda other: other != kind)
        return [entry for other in kinds for entry in self._table[other].get(name, ())]

    def names(self, kind: Kind) -> list[str]:
        """Return the names of one kind of component, sorted."""
        return sorted(self._table[kind])

    def get(self, kind: Kind, name: str) -> Registered:
        """Return the component of that name.

        :raises UnknownName: if there is none
        :raises UsageMistake: if two plugins offer it
        """
        if name not in self._table[kind]:
            raise UnknownName(kind, name, self._table[kind])
        found = self._all(kind, name)
        if len(found) > 1:
            both = " and ".join(f"{entry.plugin} ({entry.distribution})" for entry in found)
            # without ours there are no commands
            other = next((entry for entry in reversed(found) if entry.distribution != OURS), found[-1])
            raise UsageMistake(f"{kind} {name!r} comes from the plugins {both}. Disable one: {DISABLE}={self.handle(other)}")
        return found[0]

    def handle(self, entry: Registered) -> str:
        """Return a name by which the plugin of a component can be disabled, and no other."""
        named = [info for info in self._infos if info.name == entry.plugin]
        return entry.plugin if len(named) == 1 else entry.distribution

    def factory(self, kind: Kind, name: str) -> Any:
        """Import and return what a component's record points at.

        :raises MissingDependency: if an import in the plugin's module fails
        :raises FaceblurError: if it is not there, or is not what this kind must be
        """
        entry = self.get(kind, name)
        module, _, attribute = entry.component.factory.partition(":")
        try:
            imported = importlib.import_module(module)
        except ImportError as error:
            raise _missing(entry, error) from error
        except BaseException as error:  # whatever a stranger's module raises
            pass_on(error)
            raise _broken(entry, "cannot be imported", error) from error
        if not hasattr(imported, attribute):
            raise FaceblurError(f"{kind} {name!r}: plugin {entry.plugin} ({entry.distribution}) has no {entry.component.factory}")
        made = getattr(imported, attribute)
        if kind not in ("trainer", "command") and not (isinstance(made, type) and is_dataclass(made)):
            raise FaceblurError(f"{kind} {name!r} of plugin {entry.plugin} is no dataclass; its author must mend that")
        try:
            get_type_hints(made) if is_dataclass(made) else None
        except Exception as error:
            raise _broken(entry, "has options with a type hint that cannot be read", error) from error
        return made

    def blamed(self, error: BaseException) -> str:
        """Return which plugin's code raised an error, and where: ``plugin cats (catplug), cats.py:7``; empty: the core's did."""
        entries = [entry for found in self._table.values() for same in found.values() for entry in same]
        packages = {entry.package: entry for entry in entries}
        packages.pop(__name__.partition(".")[0], None)
        for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
            entry = packages.get(str(frame.f_globals.get("__name__")).partition(".")[0])
            if entry:
                return f"plugin {entry.plugin} ({entry.distribution}), {Path(frame.f_code.co_filename).name}:{line}"
        return ""

    def make(self, kind: Kind, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return a new component, its options checked against the type hints of its fields.

        What it returns is checked too, each time: a call that breaks its kind's contract raises FaceblurError.

        :raises UsageMistake: if the name is unknown or an option is unknown or does not fit its type
        :raises MissingDependency: if a package that it needs is not installed
        :raises FaceblurError: if it cannot start, for example for want of its weights
        """
        from faceblur_core.contracts import call_fault, checked_class

        cls = self.factory(kind, name)
        entry = self.get(kind, name)
        check_given(cls, options or {}, f"{kind} {name!r}")
        values = converted(cls, options or {}, f"{kind} {name!r}")
        who = f"{kind} {name!r} of plugin {entry.plugin}"
        try:
            made = checked_class(cls, kind, who)(**values)
            fault = _fault_of(kind, made) or call_fault(cls, kind)
        except FaceblurError:
            raise
        except ImportError as error:
            raise _missing(entry, error) from error
        except BaseException as error:  # a framework that does not like its model, a bug
            pass_on(error)
            raise _broken(entry, "cannot start", error) from error
        if fault:
            raise FaceblurError(f"{who} {fault}; its author must mend that")
        return made


def _fault_of(kind: Kind, made: object) -> str:
    """Return what is wrong with a component that has started; empty: nothing that can be told without running it."""
    files = [] if kind == "metric" else getattr(made, "model_files", [])  # a metric loads its network when it is asked
    if not isinstance(files, (list, tuple)) or not all(isinstance(path, (str, Path)) for path in files):
        return "has model_files that are no list of paths"
    missing = [name for name in ("threshold", "different") if not hasattr(made, name)] if kind == "embedder" else []
    return f"has no {' and no '.join(missing)}" if missing else ""


def _sharing(kind: Kind) -> tuple[Kind, ...]:
    """Return the kinds in which a name may be there once only, if it is in this one."""
    return METHODS if kind in METHODS else (kind,)


class _NameTaken(Exception):
    """A second plugin with a name that is in use."""


def _missing(entry: Registered, error: ImportError) -> MissingDependency:
    return MissingDependency(
        f"{entry.kind} {entry.component.name!r} (plugin {entry.plugin}) needs {error.name or error}, "
        f"which cannot be imported; install {entry.distribution} with all that it depends on"
    )


def _broken(entry: Registered, what: str, error: BaseException) -> FaceblurError:
    reason = " ".join(str(error).split())[:200]
    origin = f"plugin {entry.plugin}, {entry.distribution}"
    return FaceblurError(f"{entry.kind} {entry.component.name!r} ({origin}) {what}: {type(error).__name__}: {reason}")


@functools.cache
def installed_plugins() -> Plugins:
    """Return the plugins of this process, without those that ``FACEBLUR_DISABLE_PLUGINS=a,b`` names."""
    names = os.environ.get(DISABLE, "").split(",")
    return Plugins(name.strip() for name in names if name.strip())


def distribution_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of distributions and of what each requires directly, of those installed."""
    versions: dict[str, str] = {}
    for name in names:
        if name == "?":  # installed without its metadata
            continue
        dist = Distribution.from_name(name)
        versions[dist.name] = dist.version
        for requirement in dist.requires or ():
            match = re.match(r"[\w.-]+", requirement)
            if match and "extra ==" not in requirement:
                try:
                    needed = Distribution.from_name(match.group())
                except ModuleNotFoundError:  # PackageNotFoundError: overridden or not for this platform
                    continue
                versions[needed.name] = needed.version
    return versions
