"""Coverage and "still detected" of every method on FDDB: writes results/fddb-v1--<machine>.csv.

Definitions: docs/metrics.md. Intervals: 95 %, bootstrap over images. The judge of "still detected" is YuNet, and the
YOLO face model for methods that use YuNet themselves. Usage: python benchmarks/fddb.py MACHINE [METHOD[,SETTING…] …]
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from faceblur_core.builtin.metrics import Coverage
from faceblur_core.media.images import read_photo
from faceblur_core.methods import find_method, parse_settings
from faceblur_core.pipeline import close, model_files
from faceblur_core.plugins import distribution_versions, installed_plugins
from faceblur_core.types import Detector, Image, Sample, box_iou
from faceblur_core.weights import sha256_of
from truth import fddb

RESAMPLES, SEED, MATCH = 1000, 0, 0.4
METHODS = [
    *("haar", "mediapipe", "mediapipe,detector.range=short", "yunet", "yolo", "haar|yunet|mediapipe"),
    *("yunet+pixelate", "yunet+solid", "yunet+inpaint", "yunet+gaussian", "yunet+median", "yunet+bilateral", "yunet+box"),
    *("haar+median", "mediapipe+gaussian", "yunet,mask.grow=1.3", "yunet,mask.grow=1.5", "careful", "two-of-three", "crowd"),
]


def ellipse_boxes(sample: Sample) -> np.ndarray:
    """Return the boxes around the truth ellipses, N x 4."""
    rows = []
    for face in sample.faces:
        half_x = np.hypot(face.rx * np.cos(face.angle), face.ry * np.sin(face.angle))
        half_y = np.hypot(face.rx * np.sin(face.angle), face.ry * np.cos(face.angle))
        rows.append((face.cx - half_x, face.cy - half_y, face.cx + half_x, face.cy + half_y))
    return np.float32(rows).reshape(-1, 4)


def still_detected(judge: Detector, sample: Sample, image: Image) -> np.ndarray:
    """Return for each face whether the judge finds it at an IoU of at least MATCH."""
    return (box_iou(ellipse_boxes(sample), judge(image).boxes) >= MATCH).any(axis=1)


def interval(per_image: Sequence[np.ndarray], statistic: Callable[[np.ndarray], float]) -> str:
    """Return ``value [low, high]`` of a statistic of all faces, images drawn with replacement."""
    random = np.random.default_rng(SEED)
    count = len(per_image)
    draws = [
        statistic(np.concatenate([per_image[index] for index in random.integers(0, count, count)])) for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{statistic(np.concatenate(per_image)):.3f} [{low:.3f}, {high:.3f}]"


def row(text: str, samples: Sequence[Sample], judges: dict[str, Detector], before: dict[str, list[np.ndarray]]) -> dict[str, str]:
    """Measure one method; a method that fails keeps its row, with the error."""
    name, *settings = text.split(",")
    coverage, detected = [], []
    try:
        method = find_method(name, parse_settings(settings), installed_plugins())
        anonymize = method.make()
        judge = "yolo" if "yunet" in method.detectors else "yunet"
        for sample in samples:
            result = anonymize(sample.image)
            coverage.append(Coverage()(sample, result))
            detected.append(still_detected(judges[judge], sample, result.image))
    except Exception as error:
        return {"method": text, "error": f"{type(error).__name__}: {error}"}
    versions = distribution_versions(["faceblur-core", *(entry.distribution for _, entry in method.parts())])
    weights = {path.name: sha256_of(path)[:12] for path in model_files(anonymize)}
    close(anonymize)
    missed = [np.array([(shares < 0.5).any()]) for shares in coverage]
    return {
        "method": text,
        "images": str(len(samples)),
        "faces": str(sum(map(len, coverage))),
        "coverage mean": interval(coverage, np.mean),
        "coverage p5": interval(coverage, lambda x: float(np.quantile(x, 0.05))),
        "coverage >= 0.95": interval(coverage, lambda x: float(np.mean(x >= 0.95))),
        "missed per 1000": interval(coverage, lambda x: 1000 * float(np.mean(x < 0.5))),
        "images with a miss": interval(missed, np.mean),
        "still detected": interval(detected, np.mean),
        "judge": judge,
        "judge on originals": interval(before[judge], np.mean),
        "weights": " ".join(f"{file}={digest}" for file, digest in weights.items()),
        "versions": " ".join(f"{dist}={version}" for dist, version in versions.items()),
        "error": "",
    }


def main(machine: str, methods: Sequence[str]) -> None:
    samples = [Sample(path.stem, read_photo(path.read_bytes()).frames[0].rgb(), tuple(faces)) for path, faces in fddb()]
    judges = {name: installed_plugins().make("detector", name) for name in ("yunet", "yolo")}
    before = {name: [still_detected(judge, sample, sample.image) for sample in samples] for name, judge in judges.items()}
    rows = []
    for text in methods:
        rows.append(row(text, samples, judges, before))
        print({key: value for key, value in rows[-1].items() if key not in ("weights", "versions")}, flush=True)
    path = Path(__file__).parents[1] / "results" / f"fddb-v1--{machine}.csv"
    columns = list(max(rows, key=len))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or METHODS)
