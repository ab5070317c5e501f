"""Write the model card of faceblur-blurdegree, and its tables in results/.

Usage: python benchmarks/blur_card.py [[RUNS SCORES] COMPARISON MACHINE]; without arguments only the page is made anew.

RUNS holds runs of faceblur train blur-degree, each in a folder blur-degree-BACKBONE, and blur-degree-BACKBONE-first and, if there
is one, -second, with which the network that ships began, one after the other. SCORES holds what faceblur blur-degree wrote of
their networks on three sets: test (the split of blur112), fixed-angle and random-angle. Networks of which neither has anything
stay as they are in the card and the tables. COMPARISON is a run of faceblur compare blind: how often the network, which sees the
result alone, decides as the cosine does. With COMPARISON and MACHINE alone only that table and the page are made anew.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cards import copy_curves, copy_facts, facts_and_config, facts_of, pictures, run_title, runs_before
from tables import rows_of, table, write_rows

from faceblur_blurdegree import DEFAULT, SHIPPED
from faceblur_blurdegree.meter import Meter, load_meter, weights_file
from faceblur_blurdegree.metrics import LEAST
from faceblur_core.testsets.format import open_testset

ROOT = Path(__file__).parents[1]
PLUGIN, RESULTS = ROOT / "plugins/faceblur-blurdegree", ROOT / "results"
CARDS = PLUGIN / "cards"
CURVES = ("loss", "mae", "spearman")
SETS = {"test": "blur112, test", "fixed-angle": "one angle", "random-angle": "any angle"}
TRUSTED = 0.95  #: share of a method's faces on which network and cosine must agree

PAGE = """# {name}

Tells how blurred a face is without the original: {backbone}, {parameters:,} parameters.

Made by `benchmarks/blur_card.py` from the training runs in this folder and the tables in `results/`.

| | |
|---|---|
| file | `{name}.onnx` ({size:,} bytes), weights in 16 bits |
| input, output | N x 3 x 112 x 112, RGB in 0..1, a square 1.2 times as large as the face's box; N x 1, the degree in 0..1 |
| truth | 1 - cosine of the embeddings that MobileFaceNet makes of the sharp and the blurred face, within 0..1 |
| protected | from a degree of {threshold:.3f} on: as little alike are all but 1 of 1,000 pairs of different people |
{runs}
| machine | {machine} |

## Training

{epochs} epochs in {hours:.1f} hours; the best is epoch {best:.0f}. {start}

{curves}

## All networks

On photos that no network was trained on, of people whom none was trained on where the source names them (YouTube Faces): the
test split of blur112, with all kinds of blur, spread evenly over the degrees; and 600 faces each, moved along one angle and
along any. ms: one face, one thread, the network alone. Agreement: share of faces of which "protected or not" is decided as by
the true degree. The goal was a mean absolute error of 0.06 and a rank correlation of 0.95 on motion and defocus; {goal}

{networks}

The network that ships, by kind of blur:

{kinds}

![predictions against the truth on the test split, by kind of blur]({name}/test.png)

Moved along one angle, and along any:

![predictions against the truth, one angle]({name}/fixed-angle.png)
![predictions against the truth, any angle]({name}/random-angle.png)

## Beside the cosine

`faceblur compare blind` hides the faces of three test sets by every method. Does the network, which sees only the result,
decide as the cosine between result and original does, whose calibrated threshold is {cosine:.3f}? `too trusting`: the share of
faces that the network calls protected and the cosine does not. First the faces of {least} pixels and more, then the smaller ones.

{agreement}

{trust}

## Limits

- It is a figure about one face recogniser (MobileFaceNet). Another may see more.
- Small faces look blurred to it: `assess` and `verify` call none below {least} pixels protected.
- It cannot tell a blurred face from one that is out of focus by nature: both are what they look like.
- Near the threshold it errs in both directions. Where an original exists, use `faceblur verify --original`.

## Licence

Code and weights: {licence}. The weights were trained on photos whose owners allow research use only (CelebA-HQ, YouTube
Faces, Helen, AFW, UTKFace, WIDER FACE): whether weights made from them may be used commercially is for you to decide.
"""


def take(runs: Path, scores: Path, machine: str) -> None:
    """Copy what remains of the runs, and write the tables."""
    for run in sorted(runs.glob("blur-degree-*")):
        shutil.rmtree(CARDS / run.name, ignore_errors=True)
        copy_facts(run, CARDS)
    ours = run_of(load_meter(weights_file(DEFAULT)))
    copy_curves(runs / ours, CARDS / ours, CURVES)
    (CARDS / DEFAULT).mkdir(exist_ok=True)
    table_file = RESULTS / f"blur-v1--{machine}.csv"
    rows = {(row["set"], row["network"], row["method"]): row for row in rows_of(table_file)} if table_file.is_file() else {}
    for name, title in SETS.items():
        for row in rows_of(scores / name / "scores.csv"):
            rows[title, row["network"], row["method"]] = {"set": title, **row}
        shutil.copyfile(scores / name / f"{ours}.png", CARDS / DEFAULT / f"{name}.png")
    write_rows(table_file, list(rows.values()))


def decisions(comparison: Path) -> list[dict[str, str]]:
    """Return a row per method over the faces of all test sets, which must be here: how often network and cosine decide alike."""
    facts = json.loads((comparison / "run.json").read_text())
    cosine, degree = facts["thresholds"]["cosine"]["calibrated"], facts["thresholds"]["blur-degree"]["protected"]
    testsets = [open_testset(name) for name in facts["config"]["testsets"]]
    heights = {(testset.title, row["id"]): row["height"] for testset in testsets for row in testset.rows}
    said: dict[str, list[tuple[bool, bool, bool]]] = {}
    for row in rows_of(comparison / "faces.csv"):
        if row["cosine"] and row["blur-degree"]:
            judged = float(row["height"]) * heights[row["testset"], row["id"]] >= LEAST
            decided = judged, float(row["cosine"]) <= cosine, float(row["blur-degree"]) >= degree
            said.setdefault(row["method"], []).append(decided)
    return [_decided(method, np.array(decided), cosine) for method, decided in said.items()]


def _decided(method: str, decided: np.ndarray, threshold: float) -> dict[str, str]:
    judged, by_cosine, by_network = decided.T
    alike, trusting = by_cosine == by_network, by_network & ~by_cosine
    return {
        "method": method,
        "faces": str(judged.sum()),
        "protected by the cosine": f"{by_cosine[judged].mean():.3f}",
        "protected by the network": f"{by_network[judged].mean():.3f}",
        "agreement": f"{alike[judged].mean():.3f}",
        "too trusting": f"{trusting[judged].mean():.3f}",
        "smaller faces": str((~judged).sum()),
        "their agreement": f"{alike[~judged].mean():.3f}",
        "too trusting of them": f"{trusting[~judged].mean():.3f}",
        "threshold": f"{threshold:.4f}",
    }


def run_of(meter: Meter) -> str:
    """Return what the run that made a network is called."""
    return f"{DEFAULT}-{meter.session.get_modelmeta().custom_metadata_map['backbone']}"


def page() -> str:
    meter = load_meter(weights_file(DEFAULT))
    run_name = run_of(meter)
    runs = {folder.name: facts_and_config(folder) for folder in (*runs_before(CARDS, run_name), CARDS / run_name)}
    run, (_, begun) = runs[run_name][0], next(iter(runs.values()))
    scores = rows_of(max(RESULTS.glob("blur-v1--*.csv")))
    blind = rows_of(max(RESULTS.glob("blind-v1--*.csv")))
    networks = overview(scores)
    mine = [row for row in scores if row["network"] == run_name and row["set"] == SETS["test"]]
    return PAGE.format(
        name=DEFAULT,
        run=run_name,
        backbone=run_name.removeprefix(f"{DEFAULT}-"),
        **facts_of(run),
        size=SHIPPED[DEFAULT].size,
        threshold=meter.threshold,
        runs="\n".join(told(name, facts) for name, (facts, _) in runs.items()),
        curves=pictures(run_name, CURVES),
        start=start(begun),
        licence=SHIPPED[DEFAULT].licence.partition(";")[0],
        goal=reached(row for row in mine if row["method"] in ("shake", "linear", "defocus")),
        networks=table(networks, list(networks[0])),
        kinds=table(mine, ("method", "faces", "mae", "spearman", "agreement")),
        cosine=float(blind[0]["threshold"]),
        agreement=table(blind, [key for key in blind[0] if key != "threshold"]),
        trust=trust(blind),
        least=LEAST,
    )


def told(name: str, run: Mapping[str, Any]) -> str:
    """Return a row of the card's table that says what a run did."""
    data = run["data"]
    return (
        f"| {run_title(name)} | [config]({name}/config.yaml), seed {run['seed']}, {run['epochs']} epochs on {data['train']:,} "
        f"faces ({data['val']:,} to validate; labels `{data['labels_sha256'][:12]}`) in {run['seconds'] / 3600:.1f} hours; "
        f"[log]({name}/log.csv) |"
    )


def start(config: Mapping[str, Any]) -> str:
    """Return in words what the first run began with."""
    frozen = f"; its first {config['frozen']} layers stayed as they were" if config["frozen"] else ""
    return f"The first run began with the recogniser whose cosine it tells, `{config['start']}` of faceblur-identity{frozen}."


def reached(rows: Iterable[dict[str, str]]) -> str:
    """Return in words whether the goal is reached."""
    found = list(rows)
    worst = max(float(row["mae"]) for row in found), min(float(row["spearman"]) for row in found)
    said = f"the worst of the three kinds has {worst[0]:.3f} and {worst[1]:.3f}."
    return ("it is reached: " if worst[0] <= 0.06 and worst[1] >= 0.95 else "it is missed: ") + said


def overview(scores: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return a row per network: size, time, and the figures on each set."""
    result = []
    for name in dict.fromkeys(row["network"] for row in scores):
        rows = {row["set"]: row for row in scores if row["network"] == name and row["method"] == "all"}
        first = rows[SETS["test"]]
        line = {
            "network": name.removeprefix("blur-degree-"),
            "parameters": first["parameters"],
            "bytes": first["bytes"],
            "ms": first["ms"],
        }
        for title, row in rows.items():
            line |= {f"MAE, {title}": row["mae"], f"Spearman, {title}": row["spearman"]}
        result.append(line | {"agreement": first["agreement"]})
    return sorted(result, key=lambda line: float(line[f"MAE, {SETS['test']}"]))


def trust(blind: list[dict[str, str]]) -> str:
    """Return in words for which methods the network must not be trusted."""
    smaller = [float(row["their agreement"]) for row in blind]
    low, high = min(smaller), max(smaller)
    said = [f"**Do not trust it on faces lower than {LEAST} pixels**: the two agree on {low:.0%} to {high:.0%} of them."]
    doubtful = [row for row in blind if float(row["agreement"]) < TRUSTED]
    named = ", ".join(f"`{row['method']}` ({float(row['agreement']):.1%})" for row in doubtful)
    if named:
        said.append(f"Of larger ones they agree on less than {TRUSTED:.0%} on the outputs of {named}: do not trust it there.")
    else:
        said.append(f"Of larger ones they agree on at least {TRUSTED:.0%} on the outputs of every method.")
    return " ".join(said)


if __name__ == "__main__":
    if len(sys.argv) not in (1, 3, 5):
        sys.exit(__doc__)
    if len(sys.argv) > 1:
        *taken, comparison, machine = sys.argv[1:]
        if taken:
            take(*map(Path, taken), machine)
        write_rows(RESULTS / f"blind-v1--{machine}.csv", decisions(Path(comparison)))
    (CARDS / f"{DEFAULT}.md").write_text(page())
