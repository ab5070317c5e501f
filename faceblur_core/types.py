"""What crosses a plugin boundary: NumPy arrays, frozen dataclasses and Protocols, nothing else.

Coordinates are pixels of the upright image, x to the right, y down, and pixel (i, j) fills the square from
(j, i) to (j + 1, i + 1); so a box that covers an H x W image is ``(0, 0, W, H)``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.uint8]  #: H x W x 3, RGB
Mask = NDArray[np.float32]  #: H x W, 0 = keep, 1 = hide
Floats = NDArray[np.float32]
Faces = NDArray[np.uint8]  #: N x 112 x 112 x 3, RGB, aligned


def option(default: Any, help: str) -> Any:
    """Return a dataclass field that is an option of a component: its default (``...``: it must be given) and one line of help.

    Ranges go into the type, where pydantic finds them: ``scale: Annotated[float, Gt(1)] = option(1.1, "…")``.
    """
    if default is ...:
        return field(metadata={"help": help})
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def _frozen(values: ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    try:
        array = np.array(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Detections.{name} must have the shape {shape}: {error}") from None
    if array.shape != shape and array.size:  # nothing has any shape; four faces' transposed boxes would be others
        raise ValueError(f"Detections.{name} must have the shape {shape}, not {array.shape}")
    array = array.reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError(f"Detections.{name} must be finite")
    array.flags.writeable = False
    return array


def _frozen_mask(values: Any) -> Mask:
    """Return a mask as a copy that cannot be written, or itself if it is one that owns its values."""
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype != np.float32:
        raise ValueError("Detections.mask must be a float32 array, H x W")
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # nan fails too
        raise ValueError("Detections.mask is a mask that is not within 0..1")
    mask: Mask = values
    if not mask.flags.owndata or mask.flags.writeable:
        mask = mask.copy()
        mask.flags.writeable = False
    return mask


@dataclass(frozen=True, slots=True)
class Detections:
    """Faces found in one image: parallel arrays, copied, checked and made read-only when created.

    A box is the whole face, from the top of the forehead to the chin and from ear to ear, as WIDER FACE
    draws it; a detector trained on another convention corrects its boxes. A box may reach over the
    image's edge, and should where the face does.

    :raises ValueError: if the arrays differ in length, are not finite, a box has x2 < x1 or y2 < y1, or the mask leaves 0..1.
    """

    boxes: Floats  #: N x 4, x1 y1 x2 y2, pixels
    scores: Floats  #: N, on the detector's own scale, higher is surer
    landmarks: Floats | None = None  #: N x 5 x 2: right eye, left eye, nose, right and left mouth corner (of the person)
    mask: Mask | None = None  #: H x W, the union of the faces, if the detector finds pixels

    def __post_init__(self) -> None:
        count = np.size(self.scores)
        put = object.__setattr__  # frozen for everybody else
        put(self, "scores", _frozen(self.scores, (count,), "scores"))
        put(self, "boxes", _frozen(self.boxes, (count, 4), "boxes"))
        if (self.boxes[:, 2:] < self.boxes[:, :2]).any():
            raise ValueError("Detections.boxes must be x1 y1 x2 y2 with x2 >= x1 and y2 >= y1")
        if self.landmarks is not None:
            put(self, "landmarks", _frozen(self.landmarks, (count, 5, 2), "landmarks"))
        if self.mask is not None:
            put(self, "mask", _frozen_mask(self.mask))

    @classmethod
    def none(cls) -> Detections:
        """Return the empty result."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self.scores)

    def longer_sides(self) -> Floats:
        """Return the longer side of each box, pixels."""
        sides: Floats = (self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1, initial=0)
        return sides

    def with_area(self) -> Detections:
        """Return the detections whose boxes hold anything: one that was cut off at the edge of a photo may hold nothing."""
        return self.select(np.flatnonzero((self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1)))

    def select(self, index: NDArray[Any] | Sequence[int]) -> Detections:
        """Return the detections that ``index`` (integers or booleans) picks, in its order; the mask stays."""
        picked = np.asarray(index) if len(index) else np.empty(0, np.intp)
        landmarks = None if self.landmarks is None else self.landmarks[picked]
        return Detections(self.boxes[picked], self.scores[picked], landmarks, self.mask)

    def shifted(self, dx: float, dy: float) -> Detections:
        """Return boxes and landmarks moved by (dx, dy) pixels, as from a tile back to its image; drops the mask."""
        landmarks = None if self.landmarks is None else self.landmarks + np.array([dx, dy], np.float32)
        return Detections(self.boxes + np.array([dx, dy, dx, dy], np.float32), self.scores, landmarks)

    def scaled(self, fx: float, fy: float) -> Detections:
        """Return boxes and landmarks multiplied by (fx, fy), as from a reduced image to its original; drops the mask."""
        landmarks = None if self.landmarks is None else self.landmarks * np.array([fx, fy], np.float32)
        return Detections(self.boxes * np.array([fx, fy, fx, fy], np.float32), self.scores, landmarks)

    def reframed(self, dx: float, dy: float, width: float, height: float) -> Detections:
        """Return each box with its centre moved by (dx, dy) box sizes and its sides multiplied by (width, height).

        For detectors whose boxes follow another convention than the one above.
        """
        size = self.boxes[:, 2:] - self.boxes[:, :2]
        centre = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2 + size * np.array([dx, dy], np.float32)
        half = size * np.array([width, height], np.float32) / 2
        return dataclasses.replace(self, boxes=np.concatenate([centre - half, centre + half], axis=1))

    def nms(self, iou: float) -> Detections:
        """Return what greedy non-maximum suppression leaves: best score first, none overlapping a kept one by > iou."""
        left = list(np.argsort(-self.scores, kind="stable"))
        keep: list[int] = []
        while left:
            best = left.pop(0)
            keep.append(best)
            overlap = box_iou(self.boxes[[best]], self.boxes[left])[0]
            left = [index for index, value in zip(left, overlap, strict=True) if value <= iou]
        return self.select(keep)

    @staticmethod
    def concat(parts: Sequence[Detections]) -> Detections:
        """Return all detections of ``parts`` in order. Landmarks stay only if every non-empty part has them."""
        full = [part for part in parts if len(part)]
        masks = [part.mask for part in parts if part.mask is not None]
        mask = np.maximum.reduce(masks) if masks else None
        if not full:
            return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), mask=mask)
        points = [part.landmarks for part in full if part.landmarks is not None]
        return Detections(
            np.concatenate([part.boxes for part in full]),
            np.concatenate([part.scores for part in full]),
            np.concatenate(points) if len(points) == len(full) else None,
            mask,
        )


def box_iou(a: Floats, b: Floats) -> Floats:
    """Return the N x M intersections over unions of N x 4 and M x 4 boxes; 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=-1)
    area = np.prod(a[:, 2:] - a[:, :2], axis=-1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=-1)[None]
    union = area - intersection
    return np.asarray(np.divide(intersection, union, out=np.zeros_like(union), where=union > 0), np.float32)


@dataclass(frozen=True, slots=True)
class Anonymized:
    """What a method gives back for one image."""

    image: Image  #: same shape as the input; may be the input itself where nothing was hidden
    mask: Mask  #: where the method hid something: a pixel with mask 0 is the input's to the bit
    detections: Detections | None = None  #: the faces, if the method finds any before hiding them
    info: Mapping[str, Any] = field(default_factory=dict)  #: anything else; ``ms``: {stage: milliseconds}


@dataclass(frozen=True, slots=True)
class Ellipse:
    """A face's true outline.

    ``angle`` (radians) turns the x axis onto the axis of half-length ``rx``, clockwise as seen on screen.
    """

    cx: float
    cy: float
    rx: float  #: half axis, pixels
    ry: float  #: the other half axis, pixels
    angle: float = 0.0

    def half_extent(self) -> tuple[float, float]:
        """Return half the width and half the height of its bounding box, pixels."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return math.hypot(self.rx * cos, self.ry * sin), math.hypot(self.rx * sin, self.ry * cos)

    def bounds(self) -> tuple[float, float, float, float]:
        """Return x1, y1, x2, y2 of its bounding box, pixels."""
        dx, dy = self.half_extent()
        return self.cx - dx, self.cy - dy, self.cx + dx, self.cy + dy

    def reach(self, height: int, width: int) -> NDArray[np.float64]:
        """Return, H x W, how far each pixel's centre lies from the ellipse's: 0 there, 1 on the outline, 2 at twice that."""
        return self._reach(slice(0, height), slice(0, width))

    def _reach(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        y, x = np.ogrid[rows.start + 0.5 : rows.stop, columns.start + 0.5 : columns.stop]
        dx, dy = x - self.cx, y - self.cy
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.asarray(np.hypot((dx * cos + dy * sin) / self.rx, (dy * cos - dx * sin) / self.ry))

    def inside(self, height: int, width: int, grow: float = 1.0) -> NDArray[np.bool_]:
        """Return the H x W array that is True where a pixel's centre lies in the ellipse grown by ``grow``."""
        result = np.zeros((height, width), np.bool_)
        dx, dy = self.half_extent()  # most faces are small: only their box is computed
        rows = slice(max(0, math.floor(self.cy - grow * dy)), min(height, math.ceil(self.cy + grow * dy)))
        columns = slice(max(0, math.floor(self.cx - grow * dx)), min(width, math.ceil(self.cx + grow * dx)))
        if rows.start < rows.stop and columns.start < columns.stop:
            result[rows, columns] = self._reach(rows, columns) <= grow
        return result


@dataclass(frozen=True, slots=True)
class Sample:
    """One item of a test set: the image and what is known to be true of it."""

    id: str
    image: Image
    faces: tuple[Ellipse, ...] = ()
    identity: str | None = None  #: the person, the same in all photos of one
    categories: frozenset[str] = frozenset()
    groups: Mapping[str, str] = field(default_factory=dict)  #: such as ``{"gender": "female"}``
    ignored: tuple[Ellipse, ...] = ()  #: faces that no method is held to: hiding them or not counts for nothing
    landmarks: tuple[Floats | None, ...] = ()  #: of ``faces``, one by one: 5 x 2 as in Detections, or None; empty: of none
    clip: str = ""  #: the video that the image is a picture of; empty: a photo
    frame: int = 0  #: which of its pictures, from 0
    tracks: tuple[int, ...] = ()  #: of ``faces``, one by one: a number for each face of the clip; empty: a photo


class Detector(Protocol):
    """Finds faces.

    May have ``model_files``, the paths it loaded: the manifest records their checksums; and ``parameters``, how many its
    networks have, for a comparison's table of costs.
    """

    def __call__(self, image: Image) -> Detections: ...


class Obfuscator(Protocol):
    """Hides what the mask marks and leaves every pixel with mask 0 alone: a blur, a mosaic, an inpainting."""

    def __call__(self, image: Image, mask: Mask) -> Image: ...


class Anonymizer(Protocol):
    """A complete method: one row of a comparison. May have ``model_files`` and ``parameters``, as a :class:`Detector`."""

    def __call__(self, image: Image) -> Anonymized: ...


class Embedder(Protocol):
    """Recognises faces: the cosine of two vectors says how alike two faces are. Faces come aligned by ``alignment.align``."""

    threshold: ClassVar[float | None]  #: cosine from which two faces are surely one person; None: nobody has measured it
    different: ClassVar[float | None]  #: cosine below which they are surely two people, if both can be seen well
    origin: ClassVar[str]  #: where these limits come from: the faces and the error rates, one line; empty without limits

    def __call__(self, faces: Faces) -> Floats:
        """Return N x D unit vectors, each face's the same whatever the others are."""
        ...


class Predictor(Protocol):
    """A loaded network: N x H x W x C float32 in, the same layout out."""

    def __call__(self, batch: Floats) -> Floats: ...


class Backend(Protocol):
    """Runs model files of one format, and lowers them to TensorFlow Lite for microcontrollers if it can.

    With a class attribute ``by_name_only`` that is true, ``backend=auto`` passes it over.
    """

    suffixes: ClassVar[tuple[str, ...]]  #: the file name endings that it reads, such as ``(".onnx",)``

    def load(self, path: Path) -> Predictor:
        """Load a model. :raises FaceblurError: if the file is missing or is no such model."""
        ...

    def to_tflite(self, path: Path) -> bytes:
        """Return the model as a float ``.tflite`` file. :raises FaceblurError: if the format has no way there."""
        ...


class Metric(Protocol):
    """Scores one result against one sample.

    It may also have ``group`` (``privacy``, ``utility``, ``fidelity``, ``detection``; where tables put it) and
    ``statistics``: what is said of its values over many samples, of ``mean``, ``median``, ``p5`` and other percentiles,
    ``share>=0.95`` and the like with >=, <=, < or >. Without it: the mean. ``over`` is what intervals draw, ``images``
    or ``people``. If it has a field ``avoid``, it is told the names of the method's own detectors there. If it has a method
    ``calibrate(samples)``, what that returns, {name: threshold}, can stand in ``share<name``. With a class attribute
    ``by_name_only`` that is true, a comparison of all metrics passes it over; with one, ``clips``, it is only for test sets of
    clips; with one, ``attack``, a comparison that does not name its metrics takes it if that is among its ``attacks``.

    ``note`` is a line for tables. A metric that asks a detector has ``judge``, that detector's name, empty if there is none:
    it is recorded, and figures of different judges are not compared. Of the options, ``embedder`` and ``train_on`` take what
    the comparison says.
    """

    unit: ClassVar[str]
    per: ClassVar[Literal["face", "image"]]
    higher_is_better: ClassVar[bool]
    range: ClassVar[tuple[float, float]]  #: the least and the greatest value
    citation: ClassVar[str]

    def __call__(self, sample: Sample, result: Anonymized) -> NDArray[np.float64]:
        """Return one value per face of ``sample.faces``, or an array of one value for the image; nan: not defined there."""
        ...


Observation = Mapping[str, NDArray[Any]]  #: what a pooled metric keeps of one sample


class PooledMetric(Protocol):
    """Scores all results of a method on a test set at once: what is no mean over faces or images, such as AP or rank-1.

    ``group``, ``over``, ``avoid``, ``by_name_only``, ``clips``, ``attack`` and ``note`` as for :class:`Metric`. Where a figure
    is not made of all observations that are not empty, ``counted(prepared)`` returns the indices of those that it is made of:
    tables give their number.
    """

    unit: ClassVar[str]
    per: ClassVar[Literal["set"]]
    higher_is_better: ClassVar[bool]
    range: ClassVar[tuple[float, float]]
    citation: ClassVar[str]

    def observe(self, sample: Sample, result: Anonymized) -> Observation:
        """Return what is needed of one sample; empty if it takes no part."""
        ...

    def prepare(self, observations: Sequence[Observation], training: Sequence[Observation]) -> Any:
        """Return what :meth:`figures` works on.

        :param training: observations of the test set that ``train_on`` names, if the metric has that option
        """
        ...

    def figures(self, prepared: Any, weights: NDArray[np.float64]) -> Mapping[str, float]:
        """Return figures by name; observation i counts ``weights[i]`` times (for bootstrap intervals). nan: not defined."""
        ...


@runtime_checkable
class HasModelFiles(Protocol):
    """A component that loaded files: their checksums go into every manifest and result."""

    model_files: Sequence[Path]


@runtime_checkable
class HasNetwork(Protocol):
    """A component around one network: what quantization and the export to microcontrollers ask of it."""

    network_file: Path  #: the model, in a format that some backend reads
    quantized_file: Path | None  #: the same network in int8, as .tflite, if it is at hand; else it is quantized anew

    def network_inputs(self, image: Image) -> Floats:
        """Return what the network is given for an image: N x H x W x C, float32."""
        ...
