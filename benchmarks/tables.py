"""Write results/README.md, and the short table in README.md, from the CSV files in results/.

Usage: python benchmarks/tables.py [--check]
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
README = RESULTS.parent / "README.md"
SHORT = (
    "haar",
    "mediapipe",
    "yunet",
    "yolo",
    "careful",
    "mask-unet+inpaint",
    "unet-teacher-int8",
    "unet-student-v2-int8",
    "unet-student-v1-int8",
    "unet-student-v0-int8",
)
BEGIN, END = "<!-- made by benchmarks/tables.py -->\n", "<!-- end -->\n"
#: heading, metric, statistic, factor, number format
COLUMNS = (
    ("coverage >= 0.95", "coverage", "share>=0.95", 1, ".3f"),
    ("missed per 1000", "coverage", "share<0.5", 1000, ".0f"),
    ("images with a miss", "image-missed", "mean", 1, ".3f"),
    ("gap frames per 1000", "gap-frames", "mean", 1000, ".0f"),
    ("jitter", "jitter", "mean", 1, ".4f"),
    ("still detected", "still-detected", "mean", 1, ".3f"),
    ("cosine < 0.4", "cosine", "share<0.4", 1, ".3f"),
    ("re-identified", "reidentified", "rank-1", 1, ".3f"),
    ("naive", "reidentified-naive", "rank-1", 1, ".3f"),
    ("parrot", "reidentified-parrot", "rank-1", 1, ".3f"),
    ("restoration", "reidentified-restoration", "rank-1", 1, ".3f"),
    ("PSNR outside, 128 px", "psnr-outside-128", "mean<=100", 1, ".1f"),
    ("touched, face-free", "touched", "mean", 1, ".3f"),
    ("AP50", "ap50", "ap50", 1, ".3f"),
)
FRONT = ("coverage >= 0.95", "missed per 1000", "still detected", "cosine < 0.4", "PSNR outside, 128 px")
VIDEO = ("contestant", "pictures/s", "/ deface", "/ floor", "output MB")
SPEED = ("photos/s", "/ deface, one call", "/ deface, call per file", "/ floor, 1 thread", "overhead share")

HEAD = """# Results

Each table is made from the CSV file of its name by `python benchmarks/tables.py`; the JSON files beside them say what it was
measured with. The CSV files of test sets also hold the slices, of the metrics about coverage, identity and the picture outside.
Figures are `value [low, high]`, 95 % intervals.
"""
SET_HEAD = """
## {name}

{summary}: {extent}, {faces} faces; checksum `{checksum}`. Measured by `faceblur compare` with the config of the JSON
file, then `python benchmarks/publish.py RUN {arguments}`; {cpu}; definitions in [docs/metrics.md](../docs/metrics.md).
{remarks}
"""
SPEED_HEAD = """
## {name}

Photos per second, as ratios (2 means twice as fast), medians and extremes of {rounds} rounds. Measured by
`python benchmarks/speed.py {machine} --deface PATH` on {cpu}, {nproc} cores; what is compared is said at its head.
`wider`: 300 photos of 416 or 512 px; `12mp`: 30 photos of 12 megapixels. Overhead share: time per file outside reading,
decoding, detecting, obfuscating, encoding and writing. deface finds faces at full size, faceblur's detectors at a reduced
one unless `tile.size` is set: on `12mp` the two do not look at the same pixels.

`faceblur --help` takes {start} ms of processor time more than `python -c pass`.
"""
VIDEO_HEAD = """
## {name}

Pictures per second on one clip, as ratios (2 means twice as fast), medians and extremes of {rounds} rounds. The clip has
{pictures} pictures of 1280 x 720 pixels, {mb} MB, in which two faces move. Whole commands, measured by
`python benchmarks/video_speed.py {machine} --deface PATH` on {cpu}, {nproc} cores; what is compared is said at its head.
"""
LATENCY_HEAD = """
## {name}

Milliseconds for a photo of {photo} pixels, one thread, whole calls; and as a ratio to MediaPipe's detector on the same photo
(2 means twice as long), median and 5th to 95th percentile of {rounds} rounds. Measured by
`python benchmarks/latency.py {machine}`.
"""
INPAINTING_HEAD = """
## {name}

Seconds for inpainting a face half as high as a photo of 12 megapixels, one thread: faceblur's obfuscator, which fills large
regions in at reduced size, and OpenCV's own function at full size, in one run. Measured by
`python benchmarks/inpainting.py {machine}`.
"""
RULES_HEAD = """
## {name}

The mask U-Net by the rule that cuts its output and by how far masks are grown, on the validation pictures of masks256:
mean IoU to pixel masks (n = {iou}), share of the faces of a tenth of the height or more that are covered by 0.95 ({coverage}),
by source, and share of face-free pictures of which more than 1 % is hidden ({touched}). Measured by
`python benchmarks/mask_rules.py masks256 WEIGHTS MASKS {machine}`.
"""
MCU_HEAD = """
## {name}

The int8 networks that ship as generated C, beside TensorFlow Lite for Microcontrollers: on this machine, and on simulated boards
whose linker enforces a limit of RAM. Bytes of RAM with frame and stack; instructions of one picture, counted by QEMU.
Measured by `python benchmarks/mcu_exact.py PHOTOS`.
"""
DETECTORS_HEAD = """
## {name}

What the detectors find on their own, of faces of at least a tenth of the picture's height; smaller faces and boxes count for
nothing. Recall and precision at an IoU of 0.5 and the default threshold; the best recall at any threshold whose precision is 0.90
and 0.95; AP50 of these faces and of all; on face-free photos the share with a box. Measured by
`python benchmarks/detectors.py {machine}`.
"""
BLUR_HEAD = """
## {name}

Networks of faceblur-blurdegree on faces with known degrees of blur: the test split of blur112, and 600 faces each moved along one
angle and along any. Milliseconds for one face, one thread, the network alone. Measured by
`faceblur blur-degree`, see [the card](../plugins/faceblur-blurdegree/cards/blur-degree.md).
"""
ERRORS_HEAD = """
## {name}

Where the errors of the float U-Nets are, on {pictures} validation pictures of faces12k, by the distance to what is to be blurred:
`python benchmarks/unet_errors.py DATASET`. The squared error is of pixels in 0..1.
"""
BLIND_HEAD = """
## {name}

Whether the network that ships in faceblur-blurdegree, which sees results alone, calls a face protected where the cosine between
result and original does (threshold {threshold}), and how often it does where the cosine does not: of faces of 40 pixels and more,
then of smaller ones. `faceblur compare blind`; made by `python benchmarks/blur_card.py`. Of faces without landmarks those are
among them of which nothing has changed: the others have no cosine.
"""


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows to a CSV file; what a row does not have stays empty. Columns in that order, or as they first appear."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *([row[column].replace("|", "\\|") for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(row: dict[str, str], factor: int, form: str) -> str:
    """Return ``value [low, high]``."""
    value, low, high = (f"{float(row[key]) * factor:{form}}" if row[key] else "" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if low else value


def wide(path: Path) -> list[dict[str, str]]:
    """Return a published table as one row per method, with the columns that have figures."""
    rows = [row for row in rows_of(path) if row["slice"] == "all"]
    found = {(row["method"], row["metric"], row["statistic"]): row for row in rows if row["value"]}
    result = []
    for method in dict.fromkeys(row["method"] for row in rows):
        line = {"method": method}
        for heading, metric, statistic, factor, form in COLUMNS:
            if any(key[1:] == (metric, statistic) for key in found):
                row = found.get((method, metric, statistic))
                line[heading] = figure(row, factor, form) if row else "-"
        result.append(line)
    return result


def set_section(path: Path) -> str:
    rows, about = rows_of(path), json.loads(path.with_suffix(".json").read_text())
    testset = about["testset"]
    judges = sorted({row["note"] for row in rows if row["metric"] == "still-detected" and row["note"]})
    thresholds = [f"{value['calibrated']:.3f}" for value in about["thresholds"].values() if "calibrated" in value]
    remarks = [f"Still detected: the judge is {' or '.join(judges)}, never the method's own detector."] if judges else []
    remarks += [f"The calibrated threshold of the cosine is {thresholds[0]}."] if thresholds else []
    remarks += [about["remark"]] if "remark" in about else []
    chance = [row["value"] for row in rows if row["statistic"] == "chance" and row["slice"] == "all" and row["value"]]
    remarks += [f"Re-identified: rank-1 of the worst attack; a guess would have {float(chance[0]):.3f}."] if chance else []
    prefix = path.stem.partition(f"{testset['name']}-v")[0]
    head = SET_HEAD.format(
        name=path.stem,
        arguments=f"{path.stem.partition('--')[2]} {prefix}".strip(),
        summary=testset["summary"],
        extent=f"{testset['clips']} clips of {testset['photos']} pictures"
        if "clips" in testset
        else f"{testset['photos']} photos",
        faces=testset["faces"],
        checksum=testset["checksum"][:12],
        cpu=about["machine"],
        remarks=" ".join(remarks),
    )
    lines = wide(path)
    failed = "".join(f"\n{text}\n" for text in dict.fromkeys(_failures(rows)))
    return f"{head}\n{table(lines, list(lines[0]))}\n{failed}"


def _failures(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """Yield what a method or a metric failed on."""
    for row in rows:
        name = " ".join(f"`{word}`" for word in (row["method"], row["metric"]) if word)
        if row["error"]:
            yield f"{name}: {row['error']}"
        elif row["metric"] == "images without output" and float(row["value"] or 0):
            yield f"`{row['method']}`, {row['value']} of {row['count']} {row['metric']}: {row['note']}"


def speed_section(path: Path) -> str:
    start, *rows = rows_of(path)
    facts = {"name": path.stem, "machine": path.stem.partition("--")[2], "rounds": rows[0]["rounds"], "start": start["cpu ms"]}
    head = SPEED_HEAD.format(cpu=start["cpu"], nproc=start["nproc"], **facts)
    return f"{head}\n{table(rows, ('set', 'contestant', *SPEED))}\n"


def video_section(path: Path) -> str:
    rows = rows_of(path)
    facts = {key: rows[0][key] for key in ("rounds", "pictures", "cpu", "nproc")}
    head = VIDEO_HEAD.format(name=path.stem, machine=path.stem.partition("--")[2], mb=rows[0]["clip MB"], **facts)
    return f"{head}\n{table(rows, VIDEO)}\n"


def latency_section(path: Path) -> str:
    rows = [{**row, "/ mediapipe": f"{row['/ mediapipe']} [{row['low']}, {row['high']}]"} for row in rows_of(path)]
    head = LATENCY_HEAD.format(
        name=path.stem, machine=path.stem.partition("--")[2], photo=rows[0]["photo"], rounds=rows[0]["rounds"]
    )
    return f"{head}\n{table(rows, ('network', 'ms', '/ mediapipe'))}\n"


def rules_section(path: Path) -> str:
    rows = rows_of(path)
    counts = {key: rows[0][f"n {key}"] for key in ("iou", "coverage", "touched")}
    head = RULES_HEAD.format(name=path.stem, machine=path.stem.partition("--")[2], **counts)
    return f"{head}\n{table(rows, [key for key in rows[0] if not key.startswith('n ')])}\n"


def plain_section(head: str, path: Path, rows: list[dict[str, str]] | None = None, hidden: str = "") -> str:
    """Return a head, which may tell of the machine and of the value that all rows have in a hidden column, and a whole table."""
    rows = rows or rows_of(path)
    facts = {"name": path.stem, "machine": path.stem.partition("--")[2], hidden: rows[0].get(hidden)}
    return f"{head.format(**facts)}\n{table(rows, [key for key in rows[0] if key != hidden])}\n"


def blur_section(path: Path) -> str:
    return plain_section(BLUR_HEAD, path, [row for row in rows_of(path) if row["method"] == "all"], hidden="method")


def page() -> str:
    """Return the whole page."""
    special = {
        "speed": speed_section,
        "video": video_section,
        "latency": latency_section,
        "inpainting": partial(plain_section, INPAINTING_HEAD),
        "mask": rules_section,
        "mcu": partial(plain_section, MCU_HEAD),
        "detectors": partial(plain_section, DETECTORS_HEAD),
        "blur": blur_section,
        "errors": partial(plain_section, ERRORS_HEAD, hidden="pictures"),
        "blind": partial(plain_section, BLIND_HEAD, hidden="threshold"),
    }
    paths = sorted(RESULTS.glob("*.csv"))
    return HEAD + "".join(special.get(path.name.partition("-")[0], set_section)(path) for path in paths)


def front_page() -> str:
    """Return README.md with the short table made anew."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    (path,) = RESULTS.glob("fddb-*.csv")  # figures of one comparison
    every = {row["method"]: row for row in wide(path)}
    rows = [every[method] for method in SHORT if method in every]
    return f"{before}{BEGIN}\n{table(rows, ('method', *FRONT))}\n\n{END}{after}"


if __name__ == "__main__":
    pages = {RESULTS / "README.md": page(), README: front_page()}
    for path, text in pages.items():
        if "--check" not in sys.argv:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} is not what the CSV files say: run python benchmarks/tables.py")
