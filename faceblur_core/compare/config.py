"""What is compared: a YAML file, or the options of the command line."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from faceblur_core.errors import FaceblurError, UnknownName, UsageMistake
from faceblur_core.methods import Method, find_method, flatten
from faceblur_core.options import made, read_yaml
from faceblur_core.plugins import Plugins
from faceblur_core.testsets.format import TestSet, open_testset
from faceblur_core.tracking import Tracking
from faceblur_core.types import option

STATED = ("unit", "per", "higher_is_better", "range", "citation")  #: what every metric says of itself


@dataclass(frozen=True)
class CompareConfig:
    """A comparison."""

    methods: list[Any] = option(..., "names, or mappings {name: row's name, method: …, set: {detector.conf: 0.3}, tracking: off}")
    testsets: list[str] = option(..., "names or folders")
    name: str = option("compare", "of the run")
    metrics: list[str] = option([], "names; empty: all that are installed")
    options: dict[str, dict[str, Any]] = option({}, "options of metrics, by name")
    embedder: str = option("", "identity: what recognises faces; empty: each metric's own default")
    calibration: str = option("", "identity: test set whose different people set the threshold; empty: none")
    attacks: list[str] = option(["naive", "parrot"], "identity: which attacks, if metrics names none; also restoration")
    train_on: str = option("", "identity: test set of other people on which restoration is learned")
    resamples: Annotated[int, Ge(20), Le(10_000)] = option(1000, "bootstrap draws")
    seed: Annotated[int, Ge(0)] = option(0, "of the draws")
    failures: Annotated[int, Ge(0), Le(50)] = option(6, "worst failures of each method that are kept as pictures")
    cost_photos: Annotated[int, Ge(0)] = option(20, "photos of the first test set on which time is measured; 0: no cost")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the comparison."""

    name: str
    method: Method | None
    error: str = ""  #: why there is no method
    tracking: Tracking | None = None  #: in clips; None: each picture for itself


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric and its options."""

    name: str
    options: Mapping[str, Any]
    clips: bool = False  #: whether it is for clips only


@dataclass(frozen=True)
class Plan:
    """A checked config."""

    config: CompareConfig
    entries: tuple[Entry, ...]
    testsets: tuple[TestSet, ...]
    metrics: tuple[MetricSpec, ...]
    calibration: TestSet | None  #: whose different people set thresholds
    training: Mapping[str, TestSet]  #: what ``train_on`` names, by that name

    def metrics_on(self, testset: TestSet) -> list[MetricSpec]:
        """Return the metrics that make sense on a test set: some need clips."""
        return [spec for spec in self.metrics if testset.of_clips or not spec.clips]


def load(path: Path) -> CompareConfig:
    """:raises UsageMistake: if the file cannot be read, or a key is unknown, missing or does not fit."""
    return made(CompareConfig, read_yaml(path, "comparison config"), f"comparison config {path}")


def plan(config: CompareConfig, plugins: Plugins) -> Plan:
    """Find everything that a config names; a method that cannot be found stays, with its error.

    :raises UsageMistake: if there is nothing to compare, no method can be found, a name is there twice, or that of a test
        set, metric or attack is unknown, or a metric has options that is not measured
    """
    if not re.fullmatch(r"[\w.-]+", config.name):
        raise UsageMistake(f"name {config.name!r} is to be a folder's: letters, digits, dots and dashes")
    entries = tuple(_entry(item, plugins) for item in config.methods)
    _once([entry.name for entry in entries], "two rows are named {!r}; give one another name: {{name: …, method: …}}")
    if not entries or not config.testsets:
        raise UsageMistake("a comparison needs methods and test sets")
    if all(entry.error for entry in entries):
        raise UsageMistake(entries[0].error)
    testsets = tuple(open_testset(name) for name in config.testsets)
    _once([testset.title for testset in testsets], "two test sets are {!r}")
    for testset in testsets:
        if not testset.rows:
            raise UsageMistake(f"test set {testset.title} holds no photo")
    metrics = tuple(_metrics(config, plugins))
    calibration = open_testset(config.calibration) if config.calibration else None
    training = {name: open_testset(name) for spec in metrics if (name := str(spec.options.get("train_on") or ""))}
    for name, learned in training.items():
        _others(name, learned, testsets)
    for_clips = [spec.name for spec in metrics if spec.clips and spec.name in config.metrics]
    if for_clips and not any(testset.of_clips for testset in testsets):
        raise UsageMistake(f"metric {for_clips[0]!r} is for test sets of clips, such as moving")
    return Plan(config, entries, testsets, metrics, calibration, training)


def _others(name: str, learned: TestSet, testsets: Sequence[TestSet]) -> None:
    """:raises UsageMistake: if somebody in a test set to learn from is one of those who are to be found again"""
    known = {row["sha256"] for row in learned.rows} | {row["identity"] for row in learned.rows if row["identity"]}
    for testset in testsets:
        people = Counter(row["identity"] for row in testset.rows if row["identity"])
        sought = [row for row in testset.rows if people[row["identity"]] > 1]
        if found := [row["identity"] for row in sought if {row["identity"], row["sha256"]} & known]:
            raise UsageMistake(f"train_on: {name} holds people of {testset.title}, such as {found[0]}; name a test set of others")


def _once(names: Sequence[str], message: str) -> None:
    """:raises UsageMistake: with the message and the name, if one is there twice."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UsageMistake(message.format(name))


def _entry(item: Any, plugins: Plugins) -> Entry:
    if isinstance(item, str):
        item = {"method": item}
    if not isinstance(item, dict) or not isinstance(item.get("method"), str) or set(item) - {"name", "method", "set", "tracking"}:
        raise UsageMistake(f"a method is a name or a mapping with method, name, set and tracking, not {item!r}")
    given = item.get("set") or {}
    if not isinstance(given, dict):
        raise UsageMistake(f"set of method {item['method']!r} is a mapping such as {{mask.grow: 1.5}}, not {given!r}")
    tracking = _tracking(item)
    changed = {**flatten(given), **({} if tracking == Tracking() else {"tracking": _shown(tracking)})}
    name = str(item.get("name") or ",".join([item["method"], *(f"{key}={value}" for key, value in changed.items())]))
    try:
        method = find_method(item["method"], given, plugins)
        method.resolved()
    except Exception as error:  # its row says so; a stranger's plugin may raise anything
        return Entry(name, None, " ".join(str(getattr(error, "message", error)).split()))
    return Entry(name, method, tracking=tracking)


def _tracking(item: Mapping[str, Any]) -> Tracking | None:
    """Return how a row follows faces in clips: as ``faceblur run`` does, if it says nothing else."""
    given = item.get("tracking", True)
    if isinstance(given, bool):  # YAML's on and off
        return Tracking() if given else None
    if not isinstance(given, dict):
        raise UsageMistake(
            f"tracking of method {item['method']!r} is on, off or a mapping such as {{look_ahead: 12}}, not {given!r}"
        )
    return made(Tracking, given, f"tracking of method {item['method']!r}")


def _shown(tracking: Tracking | None) -> str:
    """Return what a row's name says of it."""
    if tracking is None:
        return "off"
    values, usual = dataclasses.asdict(tracking), dataclasses.asdict(Tracking())
    return " ".join(f"{key} {value}" for key, value in values.items() if value != usual[key])


def _metrics(config: CompareConfig, plugins: Plugins) -> list[MetricSpec]:
    known = plugins.names("metric")
    names = config.metrics or known
    for name in [*config.options, *names]:
        if name not in known:
            raise UnknownName("metric", name, known)
    _once(names, "metric {!r} is named twice")
    if unused := [name for name in config.options if name not in names]:
        raise UsageMistake(f"options names metric {unused[0]!r}, which is not among metrics")
    if not config.metrics:
        names = _without_other_attacks(config, plugins)
    specs = []
    for name in names:
        fields = _fields(plugins, name)
        options = dict(config.options.get(name, {}))
        for key, value in (("embedder", config.embedder), ("train_on", config.train_on)):
            if key in fields and value:
                options.setdefault(key, value)
        if "train_on" in fields and not options.get("train_on"):
            raise UsageMistake(f"metric {name!r} needs train_on, a test set of other people to learn from")
        metric = plugins.make("metric", name, options)  # a mistake shows now
        if lacking := [attribute for attribute in STATED if not hasattr(metric, attribute)]:
            plugin = plugins.get("metric", name).plugin
            raise FaceblurError(f"metric {name!r} of plugin {plugin} lacks {', '.join(lacking)}; see faceblur_core.types.Metric")
        specs.append(MetricSpec(name, options, getattr(metric, "clips", False)))
    return specs


def _without_other_attacks(config: CompareConfig, plugins: Plugins) -> list[str]:
    """Return all metrics but the attacks that the config does not name, and what wants to be asked for by name.

    :raises UnknownName: if it names an attack that is none
    """
    attack = {name: getattr(plugins.factory("metric", name), "attack", "") for name in plugins.names("metric")}
    known = {str(value) for value in attack.values() if value}
    for name in config.attacks if known else ():  # without the plugin there is none
        if name not in known:
            raise UnknownName("attack", name, known)
    wanted = [name for name, value in attack.items() if not value or value in config.attacks]
    return [
        name for name in wanted if name in config.options or not getattr(plugins.factory("metric", name), "by_name_only", False)
    ]


def _fields(plugins: Plugins, name: str) -> dict[str, Any]:
    """Return the options of a metric with their defaults."""
    cls = plugins.factory("metric", name)
    return {item.name: item.default for item in dataclasses.fields(cls) if item.init} if dataclasses.is_dataclass(cls) else {}
