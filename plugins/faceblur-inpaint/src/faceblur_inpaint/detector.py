"""The detector ``mask-unet``: the pixels of faces by a 256-pixel network, brought to the photo's size along its edges."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from faceblur_core.backends import load_network
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.letterbox import inner, letterboxed
from faceblur_core.types import Detections, Floats, Image, option
from faceblur_core.weights import locate, weights_file
from faceblur_inpaint import DEFAULT, SHIPPED
from faceblur_inpaint.config import SIZE
from faceblur_inpaint.threshold import Rule, cut_level, regions


@dataclass
class MaskUNetDetector:
    """Marks the pixels of faces by a mask U-Net (Ronneberger et al., MICCAI 2015, trained here to give their probability).

    The photo is reduced to 256 pixels, black bars make it square. Where the network's output is above a level there are
    faces, each connected region one; the mask follows the photo's edges (see ``refine``). Scores are mean probabilities.
    """

    weights: str = option(DEFAULT, "a network that ships, or a model file of faceblur train mask-unet")
    backend: str = option("auto", "what runs the network, see faceblur plugins; auto: by the file's ending")
    threads: Annotated[int, Ge(1), Le(64)] = option(1, "of the backend")
    rule: Rule = option("floored", "where to cut: floored is otsu within floor..threshold; histogram marks in every picture")
    threshold: Annotated[float, Gt(0), Lt(1)] = option(0.5, "fixed: the probability to cut at; floored: the highest")
    floor: Annotated[float, Ge(0), Lt(1)] = option(0.3, "floored: the lowest probability to cut at")
    sure: Annotated[float, Ge(0), Le(1)] = option(0.95, "floored: the probability that a region must reach somewhere")
    least: Annotated[float, Ge(0), Lt(1)] = option(0.0004, "smallest region that counts, as a share of the network's square")
    grow: Annotated[float, Ge(1), Le(5)] = option(1.4, "1.1 hides a tenth more than the network marks, every way")
    band: Annotated[float, Ge(0), Le(1)] = option(0.15, "width of the soft edge, as a share of the region's radius")
    model_files: list[Path] = field(init=False, repr=False)
    network_file: Path = field(init=False, repr=False)
    quantized_file: Path | None = field(init=False, repr=False)
    parameters: int | None = field(init=False, repr=False)  #: of the network, where its file says it

    def __post_init__(self) -> None:
        if self.rule == "floored" and self.floor > self.threshold:
            raise UsageMistake(f"floor={self.floor:g} must not be above threshold={self.threshold:g}")
        self.network_file = weights_file(self.weights, SHIPPED, "mask U-Net weights")
        self.model_files = [self.network_file]
        quantized = f"{self.weights}-int8"
        self.quantized_file = locate(SHIPPED[quantized]) if quantized in SHIPPED else None
        self._network = load_network(self.network_file, self.backend, threads=self.threads)
        self.parameters = getattr(self._network, "parameters", None)
        self._channels = self._find_channels()

    def _find_channels(self) -> int:
        """Return how many channels the network takes, by trying."""
        for channels in (1, 3):
            try:
                made = self._network(np.zeros((1, SIZE, SIZE, channels), np.float32))
            except FaceblurError:
                continue
            if made.shape == (1, SIZE, SIZE, 1):
                return channels
        raise FaceblurError(f"{self.network_file} is no mask U-Net: it makes no mask of {SIZE} x {SIZE} pixels")

    def __call__(self, image: Image) -> Detections:
        from faceblur_inpaint.refine import paint

        rows, columns = inner(*image.shape[:2], SIZE)
        probability = np.ascontiguousarray(self._network(self.network_inputs(image))[0, rows, columns, 0])
        level = cut_level(probability, self.rule, threshold=self.threshold, floor=self.floor)
        sure = self.sure if self.rule == "floored" else 0.0
        found = list(regions(probability, level, least=self.least * SIZE * SIZE, sure=sure))
        if not found:
            return Detections.none()
        mask = np.zeros(image.shape[:2], np.float32)
        for region in found:
            paint(mask, image, region, probability.shape, grow=self.grow, band=self.band)
        boxes = [(one.left, one.top, one.left + one.filled.shape[1], one.top + one.filled.shape[0]) for one in found]
        scale = np.array(image.shape[1::-1]) / probability.shape[::-1]
        scores = np.array([one.score for one in found], np.float32)
        return Detections((np.array(boxes) * [*scale, *scale]).astype(np.float32), scores, mask=mask)

    def network_inputs(self, image: Image) -> Floats:
        """Return what the network is given for an image: 1 x 256 x 256 x channels in 0..1."""
        square = letterboxed(image, SIZE)
        if self._channels == 1:
            import cv2

            square = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)[..., None]
        return square[None] / np.float32(255)
