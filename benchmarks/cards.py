"""Write the model cards of faceblur-unet from training runs and published results.

Usage: python benchmarks/cards.py [RUNS] takes each network's config.yaml, log.csv, run.json and curves from RUNS/NAME (such as
runs/train) into plugins/faceblur-unet/cards/NAME, then writes cards/NAME.md; without RUNS only the pages are made anew.
RUNS/NAME-first to -fifth are the runs before, RUNS/NAME-alone is a student without its teacher, RUNS/tried-* are short
runs with one option changed, tried-base with none.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tables import COLUMNS, figure, rows_of, table

ROOT = Path(__file__).parents[1]
CARDS, RESULTS = ROOT / "plugins/faceblur-unet/cards", ROOT / "results"
WEIGHTS = ROOT / "plugins/faceblur-unet/src/faceblur_unet/weights"
UNET = ("unet-", "unet-float-")  #: of their tables in results/
NETWORKS = ("teacher", "student-v2", "student-v1", "student-v0")
KINDS = ("val_mse", "val_mae", "val_ssim", "val_psnr")
CURVES = ("loss", "mse", "mae", "ssim", "psnr")
#: the thesis's own figures on its own validation pictures, from its tables
THESIS = {"teacher": {"val_mse": 5.19e-4, "val_mae": 0.0110, "val_ssim": 0.959, "val_psnr": 34.19}}
FACE_WEIGHT = """Weighting the faces costs error outside of them and hides more: by `faceblur compare` of the two model files,
celebahq's coverage >= 0.95 is 0.949 as it is and 0.887 with `face_weight=0`, its share of cosines < 0.4 is 0.672 and 0.636."""
EARLIER = ("first", "second", "third", "fourth", "fifth")  #: NAME-first is the run whose weights the next one began with
ERRORS = """
Where the error is, by `benchmarks/unet_errors.py`: most of it inside and within a few pixels of the edge of what is to be
blurred. The targets end there, sharply, and where a face ends is not the same in every source, so a network that cannot know
gives something between.
"""
LIGHTER = "03d9b2aee208"
LIGHT = f"""
The data set of manifest `{LIGHTER}` had the same photos and a lighter, smaller blur (sigma 0.11, grow 1.18, feather 0.1:
configs/datasets/faces12k.yaml as of commit 9fad635), under which a detector still finds many faces: `python
benchmarks/target_blur.py celebahq`.
"""
Figure = tuple[str, str, str, int, str]  #: heading, metric, statistic, factor, number format
FIGURES: tuple[Figure, ...] = (
    *(column for column in COLUMNS if column[1] in ("coverage", "still-detected", "cosine", "psnr-outside-128", "touched")),
    ("over-blur", "over-blur", "mean", 1, ".3f"),
    ("target PSNR", "fidelity-psnr", "mean<=100", 1, ".1f"),
    ("target SSIM", "fidelity-ssim", "mean", 1, ".3f"),
)
SLICED = [figure for figure in FIGURES if figure[0] in ("coverage >= 0.95", "still detected", "cosine < 0.4")]

PAGE = """# unet-{name}

{what}

Made by `benchmarks/cards.py` from the training run in [`{name}/`]({name}/) and the tables in `results/`.

| | |
|---|---|
| files | {files} |
| input, output | 128 x 128 x 3, RGB in 0..1; int8 in and out in the int8 files |
| data | {data} |
| training | {training} |
| machine | {machine} |

## Training

{summary}

{curves}

## Validation

The best epoch's figures on {validation} validation pictures, which hold several, small and off-centre faces; the thesis's own
pictures were centred portraits, so its figures are no like for like.

{validated}
{errors}{ablation}{tried}
## On the test sets

`faceblur compare unet` and `unet-float`, then `python benchmarks/publish.py RUN MACHINE unet-` and `unet-float-`. Composited,
as `faceblur run` does; in the row with `whole` without squares (`squares=false`); rows with `raw` are the network's own output,
`composite=false`. Figures are `value [low, high]`, 95 % intervals; definitions: docs/metrics.md.

{compared}
## Per category and group

{sliced}
## Limits

- What the network does not see in 128 pixels it does not hide: faces below about a tenth of the photo's shorter side, or of its
  longer one without squares. `tiles=` helps, at a cost.
- The mask is made from the network's own output. Where a face was hidden but had no detail to lose, or lies beside other detail
  that was lost, the mask can be off by some pixels.
- A share of faces with a cosine below 0.4 is a figure of one face recogniser (MobileFaceNet), not a proof.
- The photos' groups are as the data set's authors labelled them; see the table for where the network is weaker.

## Licence

Code and weights: MIT. The weights were trained on photos whose owners allow research use only (WIDER FACE, CelebA-HQ,
YouTube Faces, Helen, AFW, UTKFace): whether weights made from them may be used commercially is for you to decide.
"""


def take(runs: Path) -> None:
    """Copy what remains of each run; the curves only as pictures."""
    others = [runs / f"{name}-{kind}" for name in NETWORKS for kind in (*EARLIER, "alone")]
    for run in (*sorted(runs.glob("tried-*")), *others):
        copy_facts(run, CARDS)
    for name in NETWORKS:
        source, target = runs / name, CARDS / name
        if not (source / "model.keras").is_file():
            print(f"{source} holds no finished run; its card stays as it is")
            continue
        copy_facts(source, CARDS)
        copy_curves(source, target, CURVES)


def copy_facts(run: Path, cards: Path) -> None:
    """Copy what tells how a run went, if there is such a run; of folders only what follows sets/ or runs/ stays."""
    if (run / "run.json").is_file():
        (cards / run.name).mkdir(parents=True, exist_ok=True)
        for file in ("log.csv", "run.json"):
            shutil.copyfile(run / file, cards / run.name / file)
        config = re.sub(r"^(\w+: ).*/((?:sets|runs)/)", r"\1\2", (run / "config.yaml").read_text(), flags=re.MULTILINE)
        (cards / run.name / "config.yaml").write_text(config)


def copy_curves(run: Path, target: Path, curves: Sequence[str]) -> None:
    """Copy the pictures of some curves."""
    for curve in curves:
        shutil.copyfile(run / "curves" / f"{curve}.png", target / f"{curve}.png")


def take_run(run: Path, cards: Path, name: str, curves: Sequence[str]) -> None:
    """Copy what remains of a run to the folder of that name, and nothing else there."""
    shutil.rmtree(cards / name, ignore_errors=True)
    copy_facts(run, cards)
    copy_curves(run, cards / name, curves)


def runs_before(folder: Path, name: str) -> list[Path]:
    """Return the folders of the runs, of those that were made, that a run went on from: the first one first."""
    return [folder / f"{name}-{number}" for number in EARLIER if (folder / f"{name}-{number}" / "run.json").is_file()]


def run_title(name: str) -> str:
    """Return how a card calls a run: by its number, or the training if it is the last one."""
    number = name.rpartition("-")[2]
    return f"{number} run" if number in EARLIER else "training"


def facts_and_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the run.json and the config.yaml of a run that was taken into the cards."""
    return json.loads((folder / "run.json").read_text()), yaml.safe_load((folder / "config.yaml").read_text())


def facts_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every card tells of a run, from its run.json."""
    return {
        **{key: run[key] for key in ("parameters", "seed", "epochs")},
        **{key: run["data"][key] for key in ("train", "val")},
        "machine": f"{run['machine']}; {', '.join(f'{key} {value}' for key, value in run['versions'].items())}",
        "hours": run["seconds"] / 3600,
        "best": run["best"]["epoch"],
    }


def pictures(name: str, curves: Sequence[str]) -> str:
    """Return the curves of a run as Markdown."""
    return "\n".join(f"![{curve} over the epochs, training blue, validation red]({name}/{curve}.png)" for curve in curves)


def published(
    prefixes: Sequence[str],
    methods: Sequence[str],
    figures: Sequence[Figure] = FIGURES,
    *,
    sliced: bool = False,
) -> str:
    """Return a heading and a table for each test set, a row per method, with what is remarked on it, or per slice of the first.

    :param prefixes: of the files in results/ that hold them, a longer one behind the shorter one that it begins with
    """
    testsets: dict[str, list[dict[str, str]]] = {}
    remarks: dict[str, list[str]] = {}
    paths = {path: prefix for prefix in prefixes for path in RESULTS.glob(f"{prefix}*.csv")}
    for path, prefix in sorted(paths.items()):
        about = path.with_suffix(".json")
        if not about.is_file():
            continue
        testset = path.stem.removeprefix(prefix)
        mine = [row for row in rows_of(path) if row["method"] in methods and row["value"]]
        testsets.setdefault(testset, []).extend(mine)
        if mine and not sliced:
            remarks.setdefault(testset, []).extend(json.loads(about.read_text()).get("remark", "").split(". "))
    parts = []
    for testset, rows in sorted(testsets.items()):
        found = {(row["method"], row["slice"], row["metric"], row["statistic"]): row for row in rows}
        keys = (
            [(methods[0], part) for part in dict.fromkeys(row["slice"] for row in rows)]
            if sliced
            else [(m, "all") for m in methods]
        )
        lines = []
        for method, part in keys:
            line = {"slice" if sliced else "method": part if sliced else method}
            for heading, metric, statistic, factor, form in figures:
                row = found.get((method, part, metric, statistic))
                line[heading] = figure(row, factor, form) if row else ""
            if any(list(line.values())[1:]):
                lines.append(line)
        used = [column for column in lines[0] if any(line[column] for line in lines)] if lines else []
        if lines and not (sliced and len(lines) < 2):
            remarked = dict.fromkeys(one.removesuffix(".") for one in remarks.get(testset, []) if one)
            parts.append(f"### {testset}\n\n{table(lines, used)}\n" + (f"\n{'. '.join(remarked)}.\n" if remarked else ""))
    return "\n".join(parts) or "Not published yet.\n"


def page(name: str) -> str:
    run = json.loads((CARDS / name / "run.json").read_text())
    log, best, facts = rows_of(CARDS / name / "log.csv"), run["best"], facts_of(run)
    student = name != "teacher"
    sizes = {path.name: path.stat().st_size for path in sorted(WEIGHTS.glob(f"unet-{name}*.tflite"))}
    validated = [{"": "here", **{kind: f"{best[kind]:.4g}" for kind in KINDS}}]
    if name in THESIS:
        validated.append({"": "thesis", **{kind: f"{THESIS[name][kind]:.4g}" for kind in KINDS}})
    methods = [f"unet-{name}{form}" for form in ("-int8", "", "-int8 whole", "-int8 raw")]
    return PAGE.format(
        name=name,
        what=f"An end-to-end U-Net that blurs faces: {facts['parameters']:,} parameters"
        + (", distilled from `unet-teacher`." if student else "."),
        files=", ".join(f"`{file}` ({size:,} bytes)" for file, size in sizes.items()),
        data=f"`faceblur dataset build faces12k`: {facts['train']:,} pairs to train, {facts['val']:,} to validate; "
        f"manifest `{run['data']['manifest_sha256'][:12]}`",
        training=f"[config]({name}/config.yaml), seed {facts['seed']}, {facts['epochs']} epochs; [log]({name}/log.csv)",
        machine=facts["machine"],
        summary=f"{len(log)} epochs in {facts['hours']:.1f} hours; the best is epoch {facts['best']:.0f}." + earlier(name),
        curves=pictures(name, CURVES),
        validation=f"{facts['val']:,}",
        validated=table(validated, list(validated[0])) + "\n",
        errors=errors(f"unet-{name}"),
        ablation=ablation(name, best),
        tried=tried(),
        compared=published(UNET, methods),
        sliced=published(UNET, methods[:1], SLICED, sliced=True),
    )


def earlier(name: str) -> str:
    """Return what there is to say of the runs whose weights this one began with."""
    folders = runs_before(CARDS, name)
    if not folders:
        return ""
    runs = [json.loads((folder / "run.json").read_text()) for folder in folders]
    rows = [
        {
            "earlier run": f"[{folder.name}]({folder.name}/log.csv), [config]({folder.name}/config.yaml)",
            "epochs": str(run["epochs"]),
            "best": f"{run['best']['epoch']:.0f}",
            "val_psnr": f"{run['best']['val_psnr']:.4g}",
            "data": f"manifest `{run['data']['manifest_sha256'][:12]}`",
        }
        for folder, run in zip(folders, runs, strict=True)
    ]
    light = LIGHT if any(run["data"]["manifest_sha256"].startswith(LIGHTER) for run in runs) else ""
    began = "It began with the best weights of an earlier one" + (", as that one had." if len(rows) > 1 else ".")
    return f" {began}\n\n{table(rows, list(rows[0]))}\n{light}"


def errors(network: str) -> str:
    """Return where on the validation pictures a network's error is, if that was measured."""
    rows = [row for row in rows_of(RESULTS / "errors-v1.csv") if row["network"] == network]
    if not rows:
        return ""
    return f"{ERRORS}\n{table(rows, ['where', 'share of pixels', 'share of error', 'mse', 'pictures'])}\n"


def tried() -> str:
    """Return what single options change in short runs."""
    if not (CARDS / "tried-base").is_dir():
        return ""
    base = yaml.safe_load((CARDS / "tried-base/config.yaml").read_text())
    rows = []
    for path in sorted(CARDS.glob("tried-*/run.json")):
        config = yaml.safe_load(path.with_name("config.yaml").read_text())
        changed = [f"`{key}={config[key]}`" for key in config if config[key] != base.get(key)]
        best = json.loads(path.read_text())["best"]
        rows.append({"": ", ".join(changed) or "as it is", **{kind: f"{best[kind]:.4g}" for kind in KINDS}})
    rows.sort(key=lambda row: float(row["val_mse"]))
    return (
        f"\n## What was tried\n\nThe smallest network, epochs: {base['epochs']}, without a teacher"
        f" ([config](tried-base/config.yaml)), and the same with one option changed.\n\n{table(rows, list(rows[0]))}\n\n"
        f"{FACE_WEIGHT}\n"
    )


def ablation(name: str, best: dict[str, float]) -> str:
    """Return the comparison with the same student trained without its teacher, if that was done."""
    alone = CARDS / f"{name}-alone" / "run.json"
    if not alone.is_file():
        return ""
    first = CARDS / f"{name}-first" / "run.json"  # trained anew, as the one without was
    best = json.loads(first.read_text())["best"] if first.is_file() else best
    other = json.loads(alone.read_text())["best"]
    rows = [
        {"": label, **{kind: f"{values[kind]:.4g}" for kind in KINDS}}
        for label, values in (("with the teacher", best), ("without", other))
    ]
    which = "The first run with the teacher, and the same" if first.is_file() else "The same"
    return f"\n{which} network, data, seed and epochs without its teacher:\n\n{table(rows, list(rows[0]))}\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take(Path(sys.argv[1]))
    for each in NETWORKS:
        if (CARDS / each / "run.json").is_file():
            (CARDS / f"{each}.md").write_text(page(each))
