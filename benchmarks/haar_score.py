"""Find which share of the Haar cascades' hits are faces, by the weight that the cascade gives them: a logistic curve each.

Usage: python benchmarks/haar_score.py. It looks at every third training photo of WIDER FACE. The two figures that it prints of
each cascade are SHARES in faceblur_opencv/haar.py, which makes scores of weights. A hit is a face if it overlaps a labelled one
by more than a half (intersection over union).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from faceblur_core.datasets.survey import in_order, pixels_of
from faceblur_core.types import box_iou
from faceblur_opencv.haar import HaarDetector, logistic
from truth import wider

EVERY, WORKERS = 3, 2
BINS = (-np.inf, 1, 2, 3, 4, 6, 8, np.inf)


def looked_at(photo: tuple[Path, np.ndarray]) -> dict[str, np.ndarray]:
    """Return of each cascade N x 2: the weight of each hit, and whether it is a face."""
    path, truth = photo
    found = HaarDetector().hits(pixels_of(path.read_bytes()))  # made anew: a cascade is for one thread
    overlaps = {name: box_iou(hits.boxes, truth.astype(np.float32)).max(axis=1, initial=0) for name, hits in found.items()}
    return {name: np.stack([hits.scores, overlaps[name] > 0.5], axis=1) for name, hits in found.items()}


def fitted(weights: np.ndarray, faces: np.ndarray) -> tuple[float, float]:
    """Return middle and width of the logistic curve that makes the labels likeliest, by Newton's method."""
    inputs = np.stack([weights, np.ones_like(weights)], axis=1)
    curve = np.zeros(2)
    for _ in range(30):
        share = 1 / (1 + np.exp(-inputs @ curve))
        curve += np.linalg.solve((inputs.T * (share * (1 - share))) @ inputs, inputs.T @ (faces - share))
    return float(-curve[1] / curve[0]), float(1 / curve[0])


def main() -> None:
    """Print the curves, and beside them the shares in the hits."""
    photos = wider("train")[::EVERY]
    seen = list(in_order(looked_at, photos, WORKERS))
    for name in HaarDetector().hits(np.zeros((64, 64, 3), np.uint8)):
        weights, faces = np.concatenate([one[name] for one in seen]).astype(np.float64).T
        middle, width = fitted(weights, faces)
        print(f"{name}: {len(weights)} hits in {len(photos)} photos, middle {middle:.2f}, width {width:.2f}")
        for low, high in pairwise(BINS):
            here = (weights >= low) & (weights < high)
            if here.any():
                curve = logistic(weights[here], middle, width)
                print(f"  {low:4} to {high:4}: {here.sum():4} hits, faces {faces[here].mean():.2f}, curve {curve.mean():.2f}")


if __name__ == "__main__":
    main()
