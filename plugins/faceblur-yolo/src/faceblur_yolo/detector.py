"""Ultralytics YOLO: Jocher et al., https://github.com/ultralytics/ultralytics (AGPL-3.0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from faceblur_core.closeups import with_closeups
from faceblur_core.errors import FaceblurError, UsageMistake
from faceblur_core.types import Detections, Floats, Image, option
from faceblur_core.weights import weights_file
from faceblur_yolo import DEFAULT, SHIPPED
from faceblur_yolo.library import stay_offline

FACES_OVERLAP, PERSONS_OVERLAP = 0.5, 0.7  #: intersection over union; persons stand before each other more than faces do


@dataclass
class YoloDetector:
    """A face model reports faces. Of a person model the head part of each person is reported. Scores from 0 to 1."""

    weights: str = option(DEFAULT, "a network that ships, or a model file, .pt or .onnx, here or in FACEBLUR_MODELS")
    conf: Annotated[float, Ge(0), Le(1)] = option(0.25, "weakest face to report")
    iou: Annotated[float, Gt(0), Le(1)] | None = option(None, "boxes that overlap more are one; by default 0.5, with persons 0.7")
    imgsz: Annotated[int, Ge(32)] = option(480, "longer side in pixels at which the network looks; most others learned at 640")
    closeup: Annotated[int, Ge(0)] = option(256, "the same in a second look, for faces that fill the image; 0: no such look")
    max_det: Annotated[int, Ge(1)] = option(300, "most faces per image")
    classes: list[str] | None = option(None, "class names to hide; by default faces, else the heads of persons")
    device: str = option("cpu", "cpu, cuda:0, mps")
    head: Annotated[float, Gt(0)] = option(0.6, "height of a person's head part as a share of the person's width")
    model_files: list[Path] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.model_files = [weights_file(self.weights, SHIPPED, "YOLO weights")]
        stay_offline()
        from ultralytics import YOLO
        from ultralytics.utils.torch_utils import select_device

        try:
            select_device(self.device, verbose=False)
        except (ValueError, RuntimeError):
            raise UsageMistake(f"device={self.device}: PyTorch finds no such device here") from None
        self._wanted: list[int] | None = None
        self._persons: list[int] = []
        try:
            self._model = YOLO(str(self.model_files[0]), task="detect")
            names = self._names()
        except Exception as error:  # torch, onnxruntime and zipfile each raise their own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise FaceblurError(f"{self.model_files[0]} is no model that Ultralytics can load: {reason}") from error
        self._wanted, self._persons = choose_classes(names, self.classes)
        self._closeup = self.closeup if self._takes(self.closeup) else 0

    def _names(self) -> dict[int, str]:
        blank = np.zeros((32, 32, 3), np.uint8)
        names = self._predict(blank, self.imgsz).names  # an .onnx file tells its classes only when it is run
        return {int(index): str(name) for index, name in names.items()}

    def _predict(self, bgr: Image, imgsz: int):  # type: ignore[no-untyped-def]
        return self._model.predict(
            bgr,
            conf=self.conf,
            iou=self._overlap,
            imgsz=imgsz,
            max_det=self.max_det,
            classes=self._wanted,
            device=self.device,
            verbose=False,
        )[0]

    @property
    def _overlap(self) -> float:
        return self.iou or (PERSONS_OVERLAP if self._persons else FACES_OVERLAP)

    def __call__(self, image: Image) -> Detections:
        bgr = np.ascontiguousarray(image[..., ::-1])
        return with_closeups(
            lambda side: self._look(bgr, side), self.imgsz, self._closeup, max(image.shape[:2]), self._overlap, self.max_det
        )

    def _takes(self, imgsz: int) -> bool:
        """Return whether the model takes pictures of that size, too: most exported files are for one."""
        if not imgsz or self.model_files[0].suffix == ".pt":
            return True
        try:
            self._predict(np.zeros((32, 32, 3), np.uint8), imgsz)
        except Exception:  # the runtimes have a dozen kinds of their own
            return False
        return True

    def _look(self, bgr: Image, imgsz: int) -> Detections:
        found = self._predict(bgr, imgsz).boxes
        boxes, index = found.xyxy.cpu().numpy(), found.cls.cpu().numpy().astype(int)
        person = np.isin(index, self._persons)
        boxes = np.where(person[:, None], head_part(boxes, self.head), boxes)
        return Detections(boxes, found.conf.cpu().numpy()).with_area()  # some lay in the bars around the photo


def choose_classes(names: Mapping[int, str], wanted: Sequence[str] | None) -> tuple[list[int], list[int]]:
    """Return the indices of the classes to report, and which of them are persons, of whom only the head is hidden.

    :raises UsageMistake: if a wanted class is not in the model, or the list of them is empty, or there is none and the model
        knows neither faces nor persons
    """
    if wanted is not None and not wanted:
        raise UsageMistake("detector.classes: name one class or more")
    if wanted is None:
        faces = [index for index, name in names.items() if "face" in name.lower()]
        chosen = faces or [index for index, name in names.items() if name.lower() == "person"]
        if not chosen:
            known = ", ".join(list(names.values())[:10])
            raise UsageMistake(f"the model has no class face or person ({known}); choose with detector.classes=[…]")
    else:
        unknown = [name for name in wanted if name not in names.values()]
        if unknown:
            raise UsageMistake(f"detector.classes: the model has no class {unknown[0]!r}; it has: {', '.join(names.values())}")
        chosen = [index for index, name in names.items() if name in wanted]
    return chosen, [index for index in chosen if names[index].lower() == "person"]


def head_part(boxes: Floats, head: float) -> Floats:
    """Return the upper parts of N x 4 person boxes: ``head`` widths high, but at most 0.6 of the person's height."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    parts = boxes.copy()
    parts[:, 3] = boxes[:, 1] + np.minimum(head * width, 0.6 * height)
    return parts
