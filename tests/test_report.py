"""``report.html`` and ``faceblur compare diff``, on small runs that are written here."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from conftest import Result
from faceblur_core.compare.plots import Point, histograms, pareto, placed, scatter
from faceblur_core.compare.record import COST_COLUMNS
from faceblur_core.compare.recorded import read_run
from faceblur_core.compare.report import write_report
from faceblur_core.compare.table import COLUMNS, GAP, as_csv, better
from faceblur_core.errors import UsageMistake

Cli = Callable[..., Result]

TESTSET = {
    "name": "tiny",
    "version": 1,
    "checksum": "ab" * 32,
    "summary": "Photos for tests",
    "licence": "CC0",
    "photos": 40,
    "faces": 47,
    "ignored": 2,
    "without_landmarks": 3,
    "people": 12,
    "categories": {"frontal": 20, "multiple": 20},
}
KINDS = {  # of the metrics: group, per, better
    "coverage": ("privacy", "face", "higher"),
    "image-missed": ("privacy", "image", "lower"),
    "cosine": ("privacy", "face", "lower"),
    "still-detected": ("privacy", "face", "lower"),
    "reidentified": ("privacy", "set", "lower"),
    "reidentified-naive": ("privacy", "set", "lower"),
    "reidentified-parrot": ("privacy", "set", "lower"),
    "psnr-outside-128": ("utility", "image", "higher"),
    "over-blur": ("utility", "image", "lower"),
    "recall": ("detection", "face", "higher"),
    "precision": ("detection", "set", "higher"),
    "ap50": ("detection", "set", "higher"),
    "fidelity-mse": ("fidelity", "image", "lower"),
}
FACTS: dict[str, Any] = {
    "format": 2,
    "name": "test",
    "created": "2026-01-02T03:04:05+00:00",
    "faceblur": "0.1.0",
    "git": "0123456789abcdef0123456789abcdef01234567+",
    "python": "3.11.7",
    "machine": "Linux x86_64, a processor, 2 cores",
    "threads": 1,
    "seed": 0,
    "resamples": 1000,
    "config": {"methods": [], "calibration": ""},
    "testsets": [TESTSET],
    "metrics": [],
    "thresholds": {},
    "threshold_errors": {},
    "methods": [],
    "failures": [],
}
Figures = Mapping[tuple[str, str], float | tuple[float, float, float]]  #: by metric and statistic; or with an interval


def row(method: str, metric: str, statistic: str, value: Any, part: str = "all", **more: Any) -> dict[str, Any]:
    """Return a row of a table; a value alone gets an interval of 0.01 on either side."""
    value, low, high = value if isinstance(value, tuple) else (value, value - 0.01, value + 0.01)
    group, _, best = KINDS[metric]
    kind = SimpleNamespace(higher_is_better=best == "higher")
    figures = {"value": value, "low": low, "high": high, "count": 40, "missing": 0}
    same = {"testset": "tiny-v1", "method": method, "slice": part, "group": group, "metric": metric, "statistic": statistic}
    return {
        **dict.fromkeys(COLUMNS, ""),
        **same,
        **figures,
        "unit": "share",
        "better": "lower" if part.endswith(GAP) else better(kind, statistic),
        **more,
    }


def make_run(
    folder: Path,
    methods: Mapping[str, Figures | str],
    *,
    more: list[dict[str, Any]] | None = None,
    facts: Mapping[str, Any] | None = None,
    costs: Mapping[str, tuple[float, int]] | None = None,
) -> Path:
    """Write a run; a method's figures, or its error.

    :param more: more rows of the table
    :param facts: more of run.json
    :param costs: milliseconds and model bytes
    """
    rows, known = [], []
    for name, figures in methods.items():
        base = {**dict.fromkeys(COLUMNS, ""), "testset": "tiny-v1", "method": name, "slice": "all"}
        if isinstance(figures, str):
            rows.append({**base, "error": figures})
            known.append({"name": name, "error": figures})
            continue
        rows.append({**base, "metric": "images without output", "statistic": "count", "value": 0, "count": 40, "better": "lower"})
        rows += [row(name, metric, statistic, value) for (metric, statistic), value in figures.items()]
        about = {"method": name, "spec": f"{name}+blur", "options": {}, "judge": "", "errors": {}, "failed_images": {}}
        known.append({"name": name, **about, "weights": {"net.onnx": "cd" * 32}, "versions": {"faceblur-core": "0.1.0"}})
    rows += more or []
    names = dict.fromkeys(item["metric"] for item in rows if item["metric"] in KINDS)
    metrics = [
        {"name": name, "options": {}, "group": KINDS[name][0], "per": KINDS[name][1], "over": "images", "unit": "share",
         "better": KINDS[name][2], "range": [0, 1], "citation": f"on {name}", "summary": f"What {name} is"}
        for name in names
    ]  # fmt: skip
    same = {"photos": 20, "threads": 1, "load ms": 50.0, "peak rss bytes": 10**8, "parameters": ""}
    measured = (costs or {}).items()
    cost_rows = [{"method": name, **same, "ms p50": ms, "ms p95": 2 * ms, "model bytes": size} for name, (ms, size) in measured]
    cost_rows += [{"method": name, "error": "not measured"} for name in methods if name not in (costs or {})]
    found = {
        **copy.deepcopy(FACTS),
        "config": {"methods": list(methods), "calibration": "pairs"},
        "metrics": metrics,
        "methods": known,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({**found, **(facts or {})}))
    (folder / "table.csv").write_bytes(as_csv(rows, COLUMNS))
    (folder / "cost.csv").write_bytes(as_csv(cost_rows, COST_COLUMNS))
    return folder


GOOD: Figures = {
    ("coverage", "share>=0.95"): 0.97,
    ("coverage", "share<0.5"): 0.02,
    ("psnr-outside-128", "mean<=100"): (32.0, 31.0, 33.0),
    ("recall", "mean"): 0.9,
    ("precision", "precision"): 0.8,
}
BAD: Figures = {
    ("coverage", "share>=0.95"): 0.45,
    ("coverage", "share<0.5"): 0.3,
    ("psnr-outside-128", "mean<=100"): (48.0, 47.0, 49.0),
    ("recall", "mean"): 0.5,
    ("precision", "precision"): 0.9,
}
IDENTITY: Figures = {
    ("cosine", "share<0.4"): 0.9,
    ("reidentified-naive", "rank-1"): 0.1,
    ("reidentified-naive", "rank-5"): 0.3,
    ("reidentified-naive", "chance"): 0.02,
    ("reidentified-parrot", "rank-1"): 0.7,
}


def page(folder: Path) -> str:
    write_report(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def visible(html: str) -> str:
    """Return the page's text, blanks as one."""
    html = re.sub(r"<(style|script).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


class Parsed(HTMLParser):
    """All attributes, and the tags that are open."""

    void = frozenset({"meta", "img", "br", "wbr", "link", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


# The Pareto front and the labels


def test_pareto_front_of_points_with_a_known_answer() -> None:
    points = [(1, 0.9), (2, 0.8), (2, 0.5), (3, 0.8), (4, 0.1), (0, 0.9), (3, 0.8)]
    assert pareto(points) == [0, 3, 6, 4]  # (3, .8) beats (2, .8); equal points stay together
    assert pareto([]) == []


def test_pareto_front_where_a_lower_x_is_better() -> None:
    assert pareto([(10, 0.5), (20, 0.9), (30, 0.9), (5, 0.1), (40, 0.4)], lower_x=True) == [3, 0, 1]


def test_labels_of_one_place_do_not_meet() -> None:
    boxes = placed([(150.0, 100.0)] * 15, [(30.0, 9.0)] * 15, (0, 0, 300, 200), [(0, 99, 300, 101)])
    for index, a in enumerate(boxes):
        assert a[0] >= 0 and a[1] >= 0 and a[2] <= 300 and a[3] <= 200
        assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for b in boxes[:index])


def test_a_label_that_fits_nowhere_is_placed_all_the_same() -> None:
    assert len(placed([(5.0, 5.0)], [(400.0, 9.0)], (0, 0, 10, 10))) == 1


def test_plots_are_the_same_each_time_and_take_any_name() -> None:
    points = [Point("$a_b$", 10.0, 0.5, (9.0, 11.0), (0.4, 0.6)), Point("<b>", 200.0, 0.9)]
    assert scatter(points, "x", "y") == scatter(points, "x", "y")
    assert scatter(points, "x", "y", cost=True).startswith("data:image/svg+xml;base64,")
    cosines = [("$a$", np.array([-0.9, 0.1, 0.4, 0.99])), ("b", np.array([0.2]))]
    assert histograms(cosines, 0.4, 0.31) != histograms(cosines, 0.4, None) != histograms(cosines, 0.4, 0.5)


# The report


def test_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    html = page(make_run(tmp_path, {"yunet": {**GOOD, **IDENTITY}, "haar": {**BAD, **IDENTITY}}, costs={"yunet": (20, 317466)}))
    parsed = Parsed(html)
    assert parsed.open == []
    for tag, name, value in parsed.seen:
        if name in ("src", "srcset", "poster", "data", "action"):
            assert value.startswith("data:"), (tag, name, value[:80])
        if name == "href":
            assert value.startswith("#"), (tag, value)
    assert not re.search(r"@import|url\(|<link|fetch\(|XMLHttpRequest", html)
    anchors = {value for _, name, value in parsed.seen if name == "id"}
    assert {value[1:] for _, name, value in parsed.seen if name == "href"} <= anchors


def test_report_says_what_was_measured_on_what(tmp_path: Path) -> None:
    text = visible(page(make_run(tmp_path, {"yunet": GOOD, "haar": BAD}, costs={"yunet": (20, 317466), "haar": (441.3, 0)})))
    for wanted in ("Comparison of face anonymizers: test", "2026-01-02 03:04 UTC", "tiny-v1", "CC0", "ab" * 32, "cd" * 6,
                   "0123456789ab", "uncommitted changes", "1000 resamples", "a processor", "Nothing failed.",
                   "2 faces are marked to be ignored; 3 of 47 have no landmarks", "20.0", "441", "0.317"):  # fmt: skip
        assert wanted in text, wanted


def test_best_figures_are_marked_lower_or_higher(tmp_path: Path) -> None:
    html = page(make_run(tmp_path, {"yunet": GOOD, "haar": BAD}))
    summary = html[html.index('id="summary"') : html.index('id="plots"')]
    assert re.findall(r'class="number best"[^>]*>([\d.]+)', summary) == ["0.970", "20.0", "0.900", "48.0", "0.900"]
    assert "[.960, .980]" in summary and "[31.0, 33.0]" in summary and "[10.0, 30.0]" in summary


def test_figures_that_are_alike_and_those_of_different_judges_are_not_marked(tmp_path: Path) -> None:
    seen = [
        row(name, "still-detected", "mean", value, note=judge) for name, value, judge in (("a", 0.1, "yolo"), ("b", 0.3, "yunet"))
    ]
    html = page(make_run(tmp_path, {"a": GOOD, "b": GOOD}, more=seen))
    assert 'class="number best"' not in html
    assert "still detected: as seen by different judges (yolo, yunet), so none is marked." in visible(html)
    assert "yolo for a; yunet for b." in visible(html)


def test_failed_method_keeps_its_row_and_is_counted(tmp_path: Path) -> None:
    html = page(make_run(tmp_path, {"yunet": GOOD, "broken": "no method named 'broken'", "haar": BAD}))
    summary = html[html.index('id="summary"') : html.index('id="plots"')]
    assert re.search(r"broken</th>\s*<td class=\"fault\" colspan=\"5\">no method named &#39;broken&#39;</td>", summary)
    assert "1 failure." in html and "the whole method" in html


def test_run_in_which_everything_failed_has_a_report(tmp_path: Path) -> None:
    text = visible(page(make_run(tmp_path, {"a": "gone", "b": "gone too"})))
    assert "2 failures." in text and "gone too" in text and "Trade-offs" not in text


def test_photos_without_output_metric_errors_and_missing_values_are_counted(tmp_path: Path) -> None:
    more = [
        {**dict.fromkeys(COLUMNS, ""), "testset": "tiny-v1", "method": "yunet", "slice": "all", "metric": "images without output",
         "statistic": "count", "value": 3, "count": 40, "note": "ValueError: no"},
        row("yunet", "over-blur", "mean", 0.1, missing=5, error="p7: OSError: bad"),
        row("yunet", "over-blur", "mean", 0.1, part="category=frontal", error="p7: OSError: bad"),
    ]  # fmt: skip
    text = visible(page(make_run(tmp_path, {"yunet": GOOD}, more=more, facts={"threshold_errors": {"cosine": "no pairs"}})))
    assert "3 failures." in text
    assert "3 of 40 photos without output the first: ValueError: no" in text
    assert text.count("p7: OSError: bad") == 1
    assert "over-blur 5 of 45" in text and "calibrated threshold of cosine no pairs" in text


SECTIONS = ("plots", "slices", "cosine", "attacks", "detection", "fidelity", "cost", "gallery")


def sections(html: str) -> list[str]:
    return [name for name in SECTIONS if f'<h2 id="{name}"' in html]


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    assert sections(page(make_run(tmp_path / "1", {"yunet": {("coverage", "share>=0.95"): 0.9}}))) == []
    assert sections(page(make_run(tmp_path / "2", {"yunet": GOOD}))) == ["plots", "detection"]
    costs = make_run(tmp_path / "3", {"yunet": {("coverage", "share>=0.95"): 0.9}}, costs={"yunet": (20, 1000)})
    assert sections(page(costs)) == ["plots", "cost"]
    fidelity = make_run(tmp_path / "4", {"unet": {("fidelity-mse", "mean"): 0.0005}})
    assert sections(page(fidelity)) == ["fidelity"]
    assert "5.00" in page(fidelity)


def test_identity_has_attacks_histograms_and_both_thresholds(tmp_path: Path) -> None:
    more = [
        row("yunet", "reidentified", "rank-1", 0.7, note="worst attack: parrot"),
        row("yunet", "cosine", "mean", 0.2, note="embedder mobilefacenet"),
    ]
    folder = make_run(
        tmp_path, {"yunet": {**GOOD, **IDENTITY}}, more=more, facts={"thresholds": {"cosine": {"calibrated": 0.312}}}
    )
    columns = ["testset", "method", "id", "cosine"]
    faces = [{"testset": "tiny-v1", "method": "yunet", "id": i, "cosine": v} for i, v in enumerate((0.1, 0.2, math.nan, 0.7))]
    (folder / "faces.csv").write_bytes(as_csv(faces, columns))
    html = page(folder)
    assert sections(html) == ["plots", "cosine", "attacks", "detection"]
    text = visible(html)
    assert "naive, rank-1 ↓ naive, rank-5 ↓ parrot, rank-1 ↓ chance worst, rank-1 ↓" in text.replace("\u2011", "-")
    assert "0.700 [.690, .710] parrot" in text and "calibrated one, 0.312" in text
    assert (
        "embedder mobilefacenet" in text
        and "0.3120, is the cosine at which pairs of different people in the test set pairs" in text
    )


def test_slices_have_bars_and_worst_minus_best(tmp_path: Path) -> None:
    more = [
        *(row("yunet", "coverage", "share>=0.95", value, part=f"age={age}", count=count)
          for age, value, count in (("0-12", 0.5, 30), ("13-60", 1.0, 200), ("60+", 0.25, 7))),
        row("yunet", "coverage", "share>=0.95", (0.5, math.nan, math.nan), part="age: worst minus best"),
    ]  # fmt: skip
    html = page(make_run(tmp_path / "without", {"yunet": GOOD}, more=more))
    assert "tiny-v1, by age" in html and ">by chance<" not in html
    more.append(row("yunet", "coverage", "share>=0.95", (0.125, math.nan, math.nan), part="age: worst minus best by chance"))
    html = page(make_run(tmp_path / "with", {"yunet": GOOD}, more=more))
    assert ">by chance<" in html
    assert re.findall(r'<td class="bar( gap)?( soft)?" style="--p:([\d.]+)"', html) == [
        ("", "", "0.5"), ("", "", "1.0"), ("", " soft", "0.25"), (" gap", "", "0.5"), ("", " soft", "0.125"),
    ]  # fmt: skip
    assert "13-60 (200)" in html and "worst minus best" in html


def test_gallery_shows_the_pictures_that_are_there(tmp_path: Path) -> None:
    failures = [
        {"file": f"failures/{i}.jpg", "method": "yunet", "testset": "tiny-v1", "what": f"p{i}: coverage 0.0{i}"} for i in range(3)
    ]
    folder = make_run(tmp_path, {"yunet": GOOD}, facts={"failures": failures})
    (folder / "failures").mkdir()
    for i in range(2):
        PillowImage.new("RGB", (640, 240), "red").save(folder / f"failures/{i}.jpg")
    html = page(folder)
    assert html.count("data:image/jpeg") == 2
    assert "p1: coverage 0.01" in html and "p2" not in visible(html)


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|a+\"b'"
    folder = make_run(tmp_path, {evil: GOOD, "<i>": "<img src=x onerror=y>"}, facts={"name": "<b>bold</b>"})
    facts = json.loads((folder / "run.json").read_text())
    facts["config"]["methods"] = [{"method": "haar", "name": evil, "set": {"detector": {"model": "<u>"}}}, "<i>"]
    (folder / "run.json").write_text(json.dumps(facts))
    html = page(folder)
    assert html.count("<script>") == 1
    assert not re.search(r"<i>|<b>|<u>|<img src=x|alert\(1\)</script>", html)
    assert "detector.model=&lt;u&gt;" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;|<wbr>a+<wbr>" in html


def test_many_methods_are_numbered(tmp_path: Path) -> None:
    html = page(make_run(tmp_path, {f"method-{i}": GOOD for i in range(12)}))
    assert '<ol class="key">' in html and "<li>method-11</li>" in html
    assert '<ol class="key">' not in page(make_run(tmp_path / "few", {"a": GOOD}))


def test_no_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageMistake, match="is no run: run.json: No such file"):
        write_report(tmp_path)
    (make_run(tmp_path / "a", {"a": GOOD}) / "run.json").write_text("{")
    with pytest.raises(UsageMistake, match="damaged"):
        read_run(tmp_path / "a")
    make_run(tmp_path / "b", {"a": GOOD}, facts={"format": 99})
    with pytest.raises(UsageMistake, match="format 99"):
        read_run(tmp_path / "b")


# compare diff


@pytest.mark.parametrize(
    ("higher", "statistic", "expected"),
    [
        (True, "mean", "higher"), (True, "share>=0.95", "higher"), (True, "share<0.5", "lower"),
        (False, "mean", "lower"), (False, "share<0.4", "higher"), (False, "share<calibrated", "higher"),
        (False, "rank-1", "lower"), (False, "chance", ""),
    ],
)  # fmt: skip
def test_what_is_better_depends_on_the_statistic(higher: bool, statistic: str, expected: str) -> None:
    assert better(SimpleNamespace(higher_is_better=higher), statistic) == expected


def test_diff_tells_better_from_worse_beyond_the_interval(tmp_path: Path, cli: Cli) -> None:
    make_run(tmp_path / "1", {"yunet": GOOD})
    moved = {
        ("coverage", "share>=0.95"): 0.95,  # outside .96 to .98: worse
        ("coverage", "share<0.5"): 0.005,  # outside .01 to .03: better, for fewer are missed
        ("psnr-outside-128", "mean<=100"): (32.9, 30.0, 34.0),  # inside
        ("recall", "mean"): 0.91,  # at the end: inside
        ("precision", "precision"): 0.85,  # better
    }
    make_run(tmp_path / "2", {"yunet": moved})
    result = cli("compare", "diff", tmp_path / "1", tmp_path / "2")
    assert result.code == 1
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[2:5] == [
        "tiny-v1 yunet all coverage share>=0.95 0.97 [0.96, 0.98] 0.95 worse",
        "tiny-v1 yunet all coverage share<0.5 0.02 [0.01, 0.03] 0.005 better",
        "tiny-v1 yunet all precision 0.8 [0.79, 0.81] 0.85 better",
    ]
    assert len(lines) == 5
    found = json.loads(cli("compare", "diff", tmp_path / "1", tmp_path / "2", "--json").out)
    assert [(c["metric"], c["old"], c["new"], c["better"]) for c in found["changes"]] == [
        ("coverage", 0.97, 0.95, False), ("coverage", 0.02, 0.005, True), ("precision", 0.8, 0.85, True),
    ]  # fmt: skip


def test_diff_of_equal_or_better_runs_is_well(tmp_path: Path, cli: Cli) -> None:
    make_run(tmp_path / "1", {"yunet": BAD})
    make_run(tmp_path / "2", {"yunet": {**BAD, ("recall", "mean"): 0.9}})
    same = cli("compare", "diff", tmp_path / "1", tmp_path / "1")
    assert (same.code, same.out, same.err) == (0, "nothing moved beyond its interval\n", "")
    assert cli("compare", "diff", tmp_path / "1", tmp_path / "2").code == 0


def test_diff_lists_what_only_one_run_has(tmp_path: Path, cli: Cli) -> None:
    make_run(tmp_path / "1", {"yunet": GOOD, "haar": BAD})
    make_run(tmp_path / "2", {"yunet": {**GOOD, **IDENTITY}, "new": GOOD})
    result = cli("compare", "diff", tmp_path / "1", tmp_path / "2")
    assert result.code == 0
    assert f"only in {tmp_path / '1'}: method haar" in result.out
    assert f"only in {tmp_path / '2'}: method new" in result.out
    assert f"only in {tmp_path / '2'}: figure cosine share<0.4 (1 rows)" in result.out


def test_diff_skips_test_sets_with_another_checksum(tmp_path: Path, cli: Cli) -> None:
    other = {**TESTSET, "name": "other"}
    make_run(tmp_path / "1", {"yunet": GOOD}, facts={"testsets": [TESTSET, other]})
    make_run(tmp_path / "2", {"yunet": BAD}, facts={"testsets": [{**TESTSET, "checksum": "ef" * 32}, other]})
    result = cli("compare", "diff", tmp_path / "1", tmp_path / "2")
    assert (result.code, result.out) == (0, "nothing moved beyond its interval\n")
    assert result.err == "faceblur: tiny-v1: the photos or labels differ (abababababab and efefefefefef); not compared\n"
    make_run(tmp_path / "3", {"yunet": BAD}, facts={"testsets": [{**TESTSET, "checksum": "ef" * 32}]})
    result = cli("compare", "diff", tmp_path / "1", tmp_path / "3")
    assert result.code == 2 and "no test set or no method in common; tiny-v1: the photos" in result.err


def test_diff_does_not_compare_what_was_measured_in_another_way(tmp_path: Path, cli: Cli) -> None:
    def run(number: int, options: str, judge: str, threshold: float, value: float) -> Path:
        more = [
            row("yunet", "over-blur", "mean", value),
            row("yunet", "still-detected", "mean", value, note=judge),
            row("yunet", "cosine", "share<calibrated", value),
            row("yunet", "cosine", "share>=calibrated", value),
            row("yunet", "cosine", "share<0.4", value),
            row("yunet", "reidentified-naive", "rank-1", value, note="embedder own"),
        ]
        folder = make_run(
            tmp_path / str(number), {"yunet": GOOD}, more=more, facts={"thresholds": {"cosine": {"calibrated": threshold}}}
        )
        facts = json.loads((folder / "run.json").read_text())
        next(item for item in facts["metrics"] if item["name"] == "over-blur")["options"] = {"least": options}
        facts["methods"][0]["networks"] = {"reidentified-naive": {"own.onnx": options * 64}}
        (folder / "run.json").write_text(json.dumps(facts))
        return folder

    result = cli("compare", "diff", run(1, "a", "yolo", 0.3, 0.2), run(2, "b", "yunet", 0.31, 0.7))
    assert result.err.splitlines() == [
        "faceblur: over-blur: its options differ; not compared",
        "faceblur: cosine: the calibrated threshold differs; not compared",
        "faceblur: still-detected of yunet: measured by yolo and by yunet; not compared",
        "faceblur: reidentified-naive of yunet: measured by own.onnx aaaaaaaaaaaa and by own.onnx bbbbbbbbbbbb; not compared",
    ]
    assert result.code == 0 and result.out.count("better") == 1 and "share<0.4" in result.out


def test_diff_takes_a_new_failure_for_worse(tmp_path: Path, cli: Cli) -> None:
    make_run(tmp_path / "1", {"yunet": GOOD, "haar": BAD})
    make_run(tmp_path / "2", {"yunet": GOOD, "haar": "no model"})
    result = cli("compare", "diff", tmp_path / "1", tmp_path / "2")
    assert result.code == 1 and "no model" in result.out and "worse" in result.out
    assert cli("compare", "diff", tmp_path / "2", tmp_path / "1").code == 0


def test_diff_takes_a_metric_that_fails_for_worse(tmp_path: Path, cli: Cli) -> None:
    """It has no figures then, which would be a figure that one run has alone."""
    rows = [row("yunet", "over-blur", "mean", 0.1), row("yunet", "over-blur", "", ("", "", ""), error="boom")]
    for number, one in enumerate(rows, 1):
        make_run(tmp_path / str(number), {"yunet": GOOD}, more=[one])
    result = cli("compare", "diff", tmp_path / "1", tmp_path / "2")
    assert result.code == 1 and " ".join(result.out.splitlines()[2].split()) == "tiny-v1 yunet all error of over-blur boom worse"
    assert cli("compare", "diff", tmp_path / "2", tmp_path / "1").code == 0


def test_diff_does_not_compare_the_worst_of_other_attacks(tmp_path: Path, cli: Cli) -> None:
    facts = {"train_on": {"reidentified-parrot": {"name": "others", "version": 1, "checksum": "1"}}}
    naive, parrot = ("reidentified-naive", "rank-1"), ("reidentified-parrot", "rank-1")

    def run(name: str, figures: Figures, worst: float, facts: dict[str, Any]) -> Path:
        return make_run(tmp_path / name, {"yunet": figures}, more=[row("yunet", "reidentified", "rank-1", worst)], facts=facts)

    few, many = run("few", {naive: 0.2}, 0.2, {}), run("many", {naive: 0.2, parrot: 0.6}, 0.6, facts)
    result = cli("compare", "diff", few, many)
    assert result.code == 0 and result.err == "faceblur: reidentified: the attacks differ; not compared\n"
    facts["train_on"]["reidentified-parrot"]["checksum"] = "2"
    result = cli("compare", "diff", many, run("other", {naive: 0.2, parrot: 0.9}, 0.9, facts))
    assert result.code == 0 and "reidentified-parrot: the test sets that it learned from differ; not compared" in result.err


def test_diff_of_a_folder_that_is_no_run_is_a_mistake(tmp_path: Path, cli: Cli) -> None:
    make_run(tmp_path / "1", {"yunet": GOOD})
    for bad in (tmp_path / "none", tmp_path):
        result = cli("compare", "diff", tmp_path / "1", bad)
        assert (result.code, result.out) == (2, "")
        assert len(result.err.splitlines()) == 1 and f"{bad} is no run" in result.err
