"""What moved between two runs: figures whose new value lies outside the interval of the old one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from faceblur_core.compare.recorded import Key, Recorded, Row, direction
from faceblur_core.compare.statistics import threshold_name
from faceblur_core.compare.table import ATTACKS, CHANCE, GAP, WITHOUT_OUTPUT
from faceblur_core.errors import UsageMistake

WORST = ATTACKS.removesuffix("-")  #: its note names the attack that was worst, which may change


@dataclass(frozen=True, slots=True)
class Change:
    """A figure that moved, or a method that fails now or did."""

    testset: str
    method: str
    slice: str
    metric: str  #: ``error`` if the method failed in one of the runs, ``error of …`` if a metric did on it
    statistic: str
    old: float | None
    low: float | None
    high: float | None
    new: float | None
    better: bool | None  #: None if neither direction is better
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """Two runs compared."""

    changes: list[Change]
    only_old: list[dict[str, str]]  #: test sets, methods and figures that only the first run has
    only_new: list[dict[str, str]]
    skipped: list[str]  #: what cannot be compared, and why, one line each

    @property
    def worse(self) -> bool:
        """Whether anything got worse."""
        return any(change.better is False for change in self.changes)


def compare_runs(old: Recorded, new: Recorded) -> Difference:
    """Compare the figures that both runs have on test sets of one checksum, measured in one way.

    :raises UsageMistake: if they have no test set, or no method, in common
    """
    shared, skipped = _shared_testsets(old, new)
    methods = [name for name in old.methods if name in new.methods]
    if not shared or not methods:
        raise UsageMistake("; ".join(["the runs have no test set or no method in common", *skipped]))
    others = _measured_otherwise(old, new)
    changes, only_old, only_new = _failures(old, new, shared, methods), _whole(old, new), _whole(new, old)
    failed, reasons = {*old.errors, *new.errors}, dict.fromkeys([*skipped, *others.values()])
    for key in dict.fromkeys([*old.figures, *new.figures]):
        testset, method, _, metric, statistic = key
        if (
            testset not in shared
            or method not in methods
            or key[:2] in failed
            or {(metric, ""), (metric, threshold_name(statistic))} & set(others)
        ):
            continue
        before, after = old.figures.get(key), new.figures.get(key)
        if before is None or after is None:
            (only_old if after is None else only_new).append(_named(key))
        elif before["note"] != after["note"] and metric not in (WORST, WITHOUT_OUTPUT):
            reasons[f"{metric} of {method}: measured by {before['note'] or '?'} and by {after['note'] or '?'}; not compared"] = (
                None
            )
        elif others_used := _other_networks(old, new, method, metric):
            reasons[others_used] = None
        elif _moved(before, after):
            changes.append(_change(key, before, after))
    return Difference(sorted(changes, key=lambda change: change.better is not False), only_old, only_new, list(reasons))


def _shared_testsets(old: Recorded, new: Recorded) -> tuple[list[str], list[str]]:
    shared, skipped = [], []
    for title, item in old.testsets.items():
        if title not in new.testsets:
            continue
        other = new.testsets[title]["checksum"]
        if item["checksum"] == other:
            shared.append(title)
        else:
            skipped.append(f"{title}: the photos or labels differ ({item['checksum'][:12]} and {other[:12]}); not compared")
    return shared, skipped


def _measured_otherwise(old: Recorded, new: Recorded) -> dict[tuple[str, str], str]:
    """Return why, by metric and threshold (empty: all figures), what both runs have is not the same figure."""
    why = {}
    first, second = ({item["name"]: item["options"] for item in run.facts["metrics"]} for run in (old, new))
    for name, options in first.items():
        if any(options[key] != second[name][key] for key in set(options) & set(second.get(name, {}))):
            why[name, ""] = f"{name}: its options differ; not compared"
    learned, learns = (run.facts.get("train_on", {}) for run in (old, new))
    for name in set(learned) & set(learns):
        if learned[name] != learns[name]:
            why[name, ""] = f"{name}: the test sets that it learned from differ; not compared"
    if any(name.startswith(ATTACKS) for name in {name for name, _ in why} | {*first} ^ {*second}):
        why[WORST, ""] = f"{WORST}: the attacks differ; not compared"
    before, after = (run.facts.get("thresholds", {}) for run in (old, new))
    for name in before:
        for threshold in set(before[name]) & set(after.get(name, {})):
            if before[name][threshold] != after[name][threshold]:
                why[name, threshold] = f"{name}: the {threshold} threshold differs; not compared"
    return why


def _other_networks(old: Recorded, new: Recorded, method: str, metric: str) -> str:
    """Return that a metric measured a method by other model files than before, if both runs say by which."""
    before, after = (
        next(item for item in run.facts["methods"] if item["name"] == method).get("networks", {}).get(metric, {})
        for run in (old, new)
    )
    if not before or not after or before == after:
        return ""
    first, second = (", ".join(f"{name} {digest[:12]}" for name, digest in files.items()) for files in (before, after))
    return f"{metric} of {method}: measured by {first} and by {second}; not compared"


def _failures(old: Recorded, new: Recorded, shared: list[str], methods: list[str]) -> list[Change]:
    """Return the methods, and the metrics on them, that have figures in one run and an error in the other."""
    changes = []
    for testset in shared:
        for method in methods:
            was, is_ = old.errors.get((testset, method), ""), new.errors.get((testset, method), "")
            if bool(was) != bool(is_):
                changes.append(Change(testset, method, "all", "error", "", None, None, None, None, not is_, was or is_))
            elif not was:
                changes += _failed_metrics(old, new, testset, method)
    return changes


def _failed_metrics(old: Recorded, new: Recorded, testset: str, method: str) -> Iterator[Change]:
    """Yield the metrics that both runs have and that failed on a method in one of them."""
    both = {item["name"] for item in old.facts["metrics"]} & {item["name"] for item in new.facts["metrics"]}
    for metric in sorted(both):
        was, is_ = (run.metric_errors.get((testset, method, metric), "") for run in (old, new))
        if bool(was) != bool(is_):
            yield Change(testset, method, "all", f"error of {metric}", "", None, None, None, None, not is_, was or is_)


def _whole(one: Recorded, other: Recorded) -> list[dict[str, str]]:
    """Return the test sets and methods that only ``one`` has."""
    return [{"testset": title} for title in one.testsets if title not in other.testsets] + [
        {"method": name} for name in one.methods if name not in other.methods
    ]


def _named(key: Key) -> dict[str, str]:
    return dict(zip(("testset", "method", "slice", "metric", "statistic"), key, strict=True))


def _moved(before: Row, after: Row) -> bool:
    """Return whether the new value lies outside the old interval; a count's interval is itself, a difference has none."""
    if before["slice"].endswith((GAP, CHANCE)):
        return False
    if before["metric"] == WITHOUT_OUTPUT:
        return bool(before["value"] != after["value"])
    return before["low"] is not None and not before["low"] <= after["value"] <= before["high"]


def _change(key: Key, before: Row, after: Row) -> Change:
    sign = direction(before)
    better = (after["value"] - before["value"]) * sign > 0 if sign else None
    return Change(*key, before["value"], before["low"], before["high"], after["value"], better)


def lines_of(missing: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what is in one run only, one line per test set, method or kind of figure."""
    counts = Counter(_line(item) for item in missing)
    return [f"{line} ({count} rows)" if line.startswith("figure ") else line for line, count in counts.items()]


def _line(item: Mapping[str, str]) -> str:
    if "metric" in item:
        return f"figure {item['metric']} {item['statistic']}"
    return f"method {item['method']}" if "method" in item else f"test set {item['testset']}"
