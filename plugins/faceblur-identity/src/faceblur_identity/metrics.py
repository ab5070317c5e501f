"""Identity metrics. Before and after are aligned by the same landmarks: a detector that fails must not look like privacy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from faceblur_core.alignment import SIDE, align
from faceblur_core.errors import FaceblurError
from faceblur_core.types import Anonymized, Ellipse, Faces, Floats, Image, Observation, Sample, option
from faceblur_identity.embedders import embedder, of_originals

Name = Literal["mobilefacenet", "sface", "buffalo_l"]
RESTORED = 32  #: pixels, side at which the restoring filter works
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  #: of the ridge regression, relative to the mean variance; the best on held-out faces
HELD_OUT = 5  #: every fifth training face
TIE = 1e-6  #: cosines that differ by less are equal: sums in another order


@dataclass(frozen=True)
class _Recognises:
    """What metrics with an embedder have in common."""

    embedder: Name = option("mobilefacenet", "what recognises faces")

    @property
    def note(self) -> str:
        """What a table says beside the figure."""
        return f"embedder {self.embedder}"

    @property
    def model_files(self) -> list[Path]:
        """The recogniser's."""
        return list(getattr(embedder(self.embedder), "model_files", []))


@dataclass(frozen=True)
class Cosine(_Recognises):
    """Cosine of a face's embeddings before and after.

    Of a face without landmarks only one thing is known: untouched it is like itself. It has 1 then, else nan.
    """

    false_match_rate: Annotated[float, Gt(0), Lt(1)] = option(1e-3, "share of pairs of different people above the threshold")

    group: ClassVar[str] = "privacy"
    unit: ClassVar[str] = "cosine"
    per: ClassVar[Literal["face", "image"]] = "face"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    citation: ClassVar[str] = "Deng et al., ArcFace, CVPR 2019; the recogniser as named"
    statistics: ClassVar[tuple[str, ...]] = ("mean", "p95", "share<0.4", "share<calibrated")
    over: ClassVar[str] = "people"

    def __call__(self, sample: Sample, result: Anonymized) -> NDArray[np.float64]:
        """Return one cosine per face."""
        values = np.array([1.0 if _untouched(face, sample.image, result.image) else np.nan for face in sample.faces])
        known = [i for i, points in enumerate(sample.landmarks) if points is not None]
        if known:
            crops, hidden = (_aligned(image, sample.landmarks, known) for image in (sample.image, result.image))
            before = of_originals(self.embedder, crops)
            changed = (crops != hidden).any(axis=(1, 2, 3))
            after = np.array(before)
            if changed.any():
                after[changed] = embedder(self.embedder)(hidden[changed])
            values[known] = np.clip((before * after).sum(axis=1), -1, 1)
        return values

    def calibrate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        """Return ``calibrated``: the cosine at which different people match with the false match rate.

        The first face of every sample with an identity and landmarks takes part.
        """
        vectors, people = [], []
        for sample in samples:
            if sample.identity and sample.landmarks and sample.landmarks[0] is not None:
                vectors.append(embedder(self.embedder)(_aligned(sample.image, sample.landmarks, [0]))[0])
                people.append(sample.identity)
        return {"calibrated": threshold(np.array(vectors), people, self.false_match_rate)}


def threshold(vectors: Floats, people: Sequence[str], false_match_rate: float) -> float:
    """Return the least cosine that at most that share of the pairs of different people reach; nan without a pair."""
    if len(vectors) < 2:
        return math.nan
    cosines = vectors @ vectors.T
    names = np.array(people)
    different = np.triu(names[:, None] != names[None, :], k=1)
    values = np.sort(cosines[different])[::-1]
    if not len(values):
        return math.nan
    return float(np.nextafter(values[min(int(false_match_rate * len(values)), len(values) - 1)], np.float32(2)))


def _untouched(face: Ellipse, before: Image, after: Image) -> bool:
    """Return whether every pixel of a face's bounding box is as it was; a face beyond the image is not."""
    x1, y1, x2, y2 = face.bounds()
    box = slice(max(0, math.floor(y1)), max(0, math.ceil(y2))), slice(max(0, math.floor(x1)), max(0, math.ceil(x2)))
    return before[box].size > 0 and np.array_equal(before[box], after[box])


def _aligned(image: Image, landmarks: Sequence[Floats | None], which: Sequence[int]) -> Faces:
    crops = [align(image, points) for i in which if (points := landmarks[i]) is not None]
    return np.array(crops, np.uint8).reshape(-1, SIDE, SIDE, 3)


@dataclass(frozen=True)
class Naive(_Recognises):
    """Rank of the right person when an anonymized photo is compared with original photos of everybody.

    The first face of every photo takes part. Of each person the first half of the photos, by name, is the gallery and the
    rest are probes: so photos of one occasion are seldom on both sides. A person is as like as their likest photo.
    """

    attack: ClassVar[str] = "naive"

    group: ClassVar[str] = "privacy"
    unit: ClassVar[str] = "share of photos"
    per: ClassVar[Literal["set"]] = "set"
    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    over: ClassVar[str] = "people"
    citation: ClassVar[str] = "closed-set identification, Phillips et al., 2011; parrot: Newton et al., 2005; details here"

    def observe(self, sample: Sample, result: Anonymized) -> Observation:
        """Return the person and the face before and after, aligned; nothing without a person or landmarks."""
        if not sample.identity or not sample.landmarks or sample.landmarks[0] is None:
            return {}
        before, after = (_aligned(image, sample.landmarks, [0]) for image in (sample.image, result.image))
        return {"person": np.array(sample.identity), **self._keep(before, after)}

    def _keep(self, before: Faces, after: Faces) -> dict[str, NDArray[Any]]:
        recognise = embedder(self.embedder)
        return {"before": recognise(before)[0], "after": recognise(after)[0]}

    def prepare(self, observations: Sequence[Observation], training: Sequence[Observation]) -> Ranks:
        """Return the rank of every probe."""
        return ranks(observations, gallery="before")

    def counted(self, prepared: Ranks) -> NDArray[np.intp]:
        """Return which observations a share is one of: the probes."""
        return prepared.probes

    def figures(self, prepared: Ranks, weights: NDArray[np.float64]) -> Mapping[str, float]:
        """Return ``rank-1``, ``rank-5`` and ``chance``, the rank-1 of a guess; nan without a probe."""
        mine = weights[prepared.probes]
        total = mine.sum()
        if not total:
            return dict.fromkeys(("rank-1", "rank-5", "chance"), math.nan)
        shares = {f"rank-{k}": min(1.0, float(mine @ prepared.within(k) / total)) for k in (1, 5)}
        return {**shares, "chance": 1 / prepared.people}


@dataclass(frozen=True, slots=True)
class Ranks:
    """The outcome of an identification."""

    probes: NDArray[np.intp]  #: which observations are probes
    above: NDArray[np.intp]  #: for each probe, the people who are liker to it than the right one
    level: NDArray[np.intp]  #: the others who are just as like
    people: int

    def within(self, k: int) -> NDArray[np.float64]:
        """Return how probable it is, for each probe, that the right person is among the k likest when ties are drawn."""
        return np.clip((k - self.above) / (self.level + 1), 0.0, 1.0)


def ranks(observations: Sequence[Observation], gallery: str, probe: str = "after") -> Ranks:
    """Return the ranks when ``probe`` vectors are compared with ``gallery`` vectors."""
    photos: dict[str, list[int]] = {}
    for index, seen in enumerate(observations):
        if seen:
            photos.setdefault(str(seen["person"]), []).append(index)
    several = {person: indices for person, indices in photos.items() if len(indices) > 1}
    if len(several) < 2:  # nobody to be taken for
        return Ranks(*(np.empty(0, np.intp) for _ in range(3)), people=0)
    shown = [np.stack([observations[i][gallery] for i in indices[: len(indices) // 2]]) for indices in several.values()]
    probes = [(i, number) for number, indices in enumerate(several.values()) for i in indices[len(indices) // 2 :]]
    likeness = np.array([[float((vectors @ observations[i][probe]).max()) for vectors in shown] for i, _ in probes])
    right = np.array([number for _, number in probes])
    lead = likeness - likeness[np.arange(len(probes)), right][:, None]
    above, level = (lead > TIE).sum(axis=1), (np.abs(lead) <= TIE).sum(axis=1) - 1
    return Ranks(np.array([i for i, _ in probes], np.intp), above, level, len(several))


@dataclass(frozen=True)
class Parrot(Naive):
    """The same with a gallery that is anonymized by the same method (Newton et al., 2005)."""

    attack: ClassVar[str] = "parrot"

    def prepare(self, observations: Sequence[Observation], training: Sequence[Observation]) -> Ranks:
        """Return the rank of every probe."""
        return ranks(observations, gallery="after")


@dataclass(frozen=True)
class Restoration(Naive):
    """The same after a filter has tried to undo the method: the linear one with the least squared error (Wiener's).

    It is learned by ridge regression from aligned faces of other people before and after, 32 x 32 pixels, and what it
    changes is added to the anonymized face.
    """

    attack: ClassVar[str] = "restoration"
    train_on: str = option("", "test set of other people on which the filter is learned")

    def _keep(self, before: Faces, after: Faces) -> dict[str, NDArray[Any]]:
        return {"face_before": before[0], "face_after": after[0]}

    def prepare(self, observations: Sequence[Observation], training: Sequence[Observation]) -> Ranks:
        """Return the rank of every probe. :raises FaceblurError: if there is not enough to learn from."""
        pairs = [seen for seen in training if seen]
        if not any(observations):
            return ranks([], gallery="before")
        if len(pairs) <= HELD_OUT:
            raise FaceblurError(f"{len(pairs)} faces of test set {self.train_on!r} are too few to learn from")
        recognise = embedder(self.embedder)
        restore = Wiener([pair["face_after"] for pair in pairs], [pair["face_before"] for pair in pairs])
        seen = [
            {
                "person": one["person"],
                "before": recognise(one["face_before"][None])[0],
                "after": recognise(restore(one["face_after"])[None])[0],
            }
            if one
            else {}
            for one in observations
        ]
        return ranks(seen, gallery="before")


class Wiener:
    """The linear filter from anonymized to original faces with the least squared error on training pairs."""

    def __init__(self, after: Sequence[Image], before: Sequence[Image]) -> None:
        x, y = np.stack([_small(face) for face in after]), np.stack([_small(face) for face in before])
        held = np.arange(len(x)) % HELD_OUT == 0
        errors = [float(np.square(self._fit(x[~held], y[~held], p)(x[held]) - y[held]).mean()) for p in PENALTIES]
        self.penalty = PENALTIES[int(np.argmin(errors))]
        self._filter = self._fit(x, y, self.penalty)

    @staticmethod
    def _fit(x: Floats, y: Floats, penalty: float) -> Any:
        """Return ridge regression in its dual form: as many unknowns as faces, not as pixels."""
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        centred = (x - mean_x).astype(np.float64)
        gram = centred @ centred.T
        ridge = penalty * max(float(np.trace(gram)) / len(x), 1e-9)
        dual = np.linalg.solve(gram + ridge * np.eye(len(x)), (y - mean_y).astype(np.float64))

        def apply(new: Floats) -> Floats:
            return np.asarray(mean_y + ((new - mean_x) @ centred.T) @ dual, np.float32)

        return apply

    def __call__(self, face: Image) -> Image:
        """Return a face, 112 x 112 x 3, restored."""
        import cv2

        small = _small(face)
        change = (self._filter(small[None])[0] - small).reshape(RESTORED, RESTORED, 3)
        larger = cv2.resize(change, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        return np.clip(np.rint(face + larger), 0, 255).astype(np.uint8)


def _small(face: Image) -> Floats:
    import cv2

    return np.asarray(cv2.resize(face, (RESTORED, RESTORED), interpolation=cv2.INTER_AREA), np.float32).ravel()
