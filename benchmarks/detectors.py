"""How well each detector finds faces of a tenth of the picture's height or more, and how often it finds one where none is.

Usage: python benchmarks/detectors.py MACHINE [DETECTOR…] on the test sets wider, fddb and negatives; writes
results/detectors-v1--MACHINE.csv, a row per detector and test set; rows of detectors that are not named stay as they are. Smaller
faces and detections count for nothing, as outside an area range of COCO. Recall and precision are told at the detector's own
threshold, then the best recall at which precision is still 0.90 and 0.95 at any threshold, AP50 of these faces and of all, and
the share of face-free photos with a box.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
from tables import rows_of, write_rows

from faceblur_core.builtin.metrics import Ap50, match
from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.testsets.format import open_testset
from faceblur_core.types import Anonymized, Detections, Sample

RESULTS = Path(__file__).parents[1] / "results"
LEAST = 0.1  #: height of the smallest face that counts, as a share of the picture's
#: option that holds the threshold, its value when nothing is to be left out
THRESHOLDS = {
    "haar": None,
    "mediapipe": ("min_detection_confidence", 0.1),
    "yunet": ("score_threshold", 0.1),
    "yolo": ("conf", 0.02),
    "yolo-onnx": ("conf", 0.02),
}
TESTSETS = ("wider", "fddb", "negatives")


def large(sample: Sample, found: Detections) -> tuple[Sample, Detections]:
    """Return what counts: smaller faces are ignored; smaller detections are left out unless they find a face that counts."""
    height = LEAST * len(sample.image)
    tall = [2 * face.half_extent()[1] >= height for face in sample.faces]
    counted = tuple(face for face, is_tall in zip(sample.faces, tall, strict=True) if is_tall)
    rest = tuple(face for face, is_tall in zip(sample.faces, tall, strict=True) if not is_tall)
    truth = dataclasses.replace(sample, faces=counted, ignored=(*sample.ignored, *rest))
    high = found.boxes[:, 3] - found.boxes[:, 1] >= height
    kept = [index for index in range(len(found)) if high[index] or match(found.select([index]), truth).found.any()]
    return truth, found.select(kept)


def recalls(scores: np.ndarray, correct: np.ndarray, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision at each threshold, from the highest on."""
    order = np.argsort(-scores, kind="mergesort")
    hits = np.cumsum(correct[order])
    last = np.append(np.diff(scores[order]) != 0, True) if len(scores) else np.zeros(0, bool)
    return hits[last] / faces, (hits / np.arange(1, len(hits) + 1))[last]


def measured(detector, threshold: float, testset) -> dict[str, str]:
    """Return the figures of one detector on one test set."""
    ap50, observed, everything, touched = Ap50(), [], [], []
    for sample in testset.samples():
        found = detector(sample.image)
        result = Anonymized(sample.image, np.zeros(sample.image.shape[:2], np.float32), found)
        truth, counted = large(sample, found)
        everything.append(ap50.observe(sample, result))
        observed.append(ap50.observe(truth, dataclasses.replace(result, detections=counted)))
        touched.append(bool((found.scores >= threshold).any()))
    scores, correct = (np.concatenate([seen[key] for seen in observed]) for key in ("scores", "correct"))
    faces = int(sum(seen["faces"] for seen in observed))
    if not faces:
        return {"photos": str(len(observed)), "faces": "0", "photos with a box": f"{np.mean(touched):.3f}"}
    own = scores >= threshold
    recall, precision = recalls(scores, correct, faces)
    weights = np.ones(len(observed))
    return {
        "photos": str(len(observed)),
        "faces": str(faces),
        "recall": f"{correct[own].sum() / faces:.3f}",
        "precision": f"{correct[own].mean():.3f}",
        "recall at 0.90": f"{recall[precision >= 0.90].max(initial=0):.3f}",
        "recall at 0.95": f"{recall[precision >= 0.95].max(initial=0):.3f}",
        "AP50": f"{ap50.figures(ap50.prepare(observed, []), weights)['ap50']:.3f}",
        "AP50, all faces": f"{ap50.figures(ap50.prepare(everything, []), weights)['ap50']:.3f}",
    }


def main(machine: str, names: list[str]) -> None:
    plugins, table = installed_plugins(), RESULTS / f"detectors-v1--{machine}.csv"
    rows = [row for row in rows_of(table) if row["detector"] not in names] if table.is_file() else []
    for name in names:
        lowest = THRESHOLDS[name]
        detector = plugins.make("detector", name, dict([lowest]) if lowest else {})
        threshold = getattr(plugins.factory("detector", name), lowest[0]) if lowest else 0.0
        for text in TESTSETS:
            testset = open_testset(text)
            figures = measured(detector, threshold, testset)
            rows.append({"test set": testset.title, "detector": name, "threshold": f"{threshold:g}", **figures})
            print(*rows[-1].values(), flush=True)
        close(detector)
    known = list(THRESHOLDS)
    rows.sort(key=lambda row: (TESTSETS.index(row["test set"].rpartition("-")[0]), known.index(row["detector"])))
    write_rows(table, rows)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if unknown := [name for name in sys.argv[2:] if name not in THRESHOLDS]:
        sys.exit(f"no detector {unknown[0]}; known: {', '.join(THRESHOLDS)}")
    main(sys.argv[1], sys.argv[2:] or list(THRESHOLDS))
