"""``faceblur verify``: look at anonymized pictures once more, with other detectors, beside their originals if these are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from faceblur_core.compare.assess import BlindMeter, plan_of, unjudged, why_refused
from faceblur_core.datasets.labels import box_ellipse
from faceblur_core.datasets.survey import Advance, DetectorPool, in_order
from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_core.media.files import read_regular
from faceblur_core.media.images import DEFAULT_MAX_PIXELS, read_photo
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.jobs import Plan
from faceblur_core.types import Image, box_iou
from faceblur_core.weights import present

JUDGES = ("yunet", "mediapipe")  #: those of them that are installed, with their weights
SAME = 0.4  #: intersection over union at which two boxes are of one face
UNCHANGED = 3.0  #: mean difference in a face's box, of 255 levels: up to it, it was encoded anew and nothing more

Box = tuple[float, float, float, float]  #: x1 y1 x2 y2, pixels


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face that judges find."""

    frame: int  #: from 0
    box: Box  #: of the first judge that finds it
    scores: Mapping[str, float]  #: by judge

    def same(self, other: FoundFace) -> bool:
        """Return whether two boxes are of one face."""
        boxes = (np.array([face.box], np.float32) for face in (self, other))
        return self.frame == other.frame and float(box_iou(*boxes)[0, 0]) >= SAME

    def __str__(self) -> str:
        scores = ", ".join(f"{judge} {score:.2f}" for judge, score in self.scores.items())
        place = " ".join(f"{side:.0f}" for side in self.box)
        return f"face at {place} ({scores})" + (f" in frame {self.frame}" if self.frame else "")


@dataclass(frozen=True, slots=True)
class StillFound:
    """A face in an output."""

    face: FoundFace
    in_original: bool = False  #: it is where a face is in the original
    degree: float | None = None  #: of blur, 0..1, where there are no originals
    protected: bool = False  #: it is blurred enough


@dataclass
class Verified:
    """One output beside its original, or alone."""

    name: str  #: of the output, else of the original, relative to its folder
    output: Path | None
    original: Path | None
    faults: list[str] = field(default_factory=list)  #: no counterpart, cannot be read, another size
    faces: int = 0  #: in the original
    still_found: list[StillFound] = field(default_factory=list)
    not_hidden: list[FoundFace] = field(default_factory=list)  #: of the original, where the output is as it was

    def problems(self) -> Iterator[str]:
        """Yield a line for each."""
        yield from self.faults
        open_ = list(self.not_hidden)
        for still in self.still_found:
            if still.protected:
                continue
            if still.degree is not None:
                yield f"{still.face} is found: not protected, degree of blur {still.degree:.2f}"
                continue
            same = [face for face in open_ if face.same(still.face)]
            open_ = [face for face in open_ if face not in same]
            yield f"{still.face} is {'still ' if still.in_original else ''}found" + (": nothing was hidden there" if same else "")
        for face in open_:
            yield f"{face} of the original: nothing was hidden there"


def usual_judges() -> list[str]:
    """Return the judges of JUDGES that can work here. :raises UsageMistake: if none can."""
    plugins = installed_plugins()
    here = [name for name in JUDGES if name in plugins.names("detector")]
    able = [name for name in here if all(map(present, plugins.get("detector", name).component.weights[:1]))]
    if not able:
        raise UsageMistake(f"none of {', '.join(JUDGES)} is here with its weights; name a detector with --judge")
    return able


def pairs(outputs: Path, originals: Path) -> tuple[list[Verified], Counter[str]]:
    """Return what is to be verified, by name, and what is passed over among the outputs.

    Pictures with the same path belong together, up to the suffix where no name is the same.

    :raises UsageMistake: if one of the folders holds no picture, or they are one folder
    """
    if outputs.resolve() == originals.resolve():
        raise UsageMistake(f"{outputs} is both the folder to verify and the one of the originals")
    plans = plan_of(outputs, originals), plan_of(originals, outputs)
    made, given = ({job.name: job.source for job in plan.jobs} for plan in plans)
    both = {name: name for name in made if name in given}
    free = _by_stem(name for name in given if name not in both)
    for name, stem in ((name, _stem(name)) for name in made if name not in both):
        if free.get(stem):
            both[name] = free[stem].pop(0)
    without = set(given) - set(both.values())
    found = [Verified(name, made[name], given[both[name]] if name in both else None) for name in made]
    found += [Verified(name, None, given[name]) for name in without]
    return _by_name(found, plans), plans[0].passed_over


def alone(outputs: Path) -> tuple[list[Verified], Counter[str]]:
    """Return what is to be verified without originals, by name, and what is passed over.

    :raises UsageMistake: if the folder holds no picture
    """
    plan = plan_of(outputs)
    return _by_name([Verified(job.name, job.source, None) for job in plan.jobs], [plan]), plan.passed_over


def _by_name(found: Sequence[Verified], plans: Sequence[Plan]) -> list[Verified]:
    """Return them in order, with the folders that cannot be listed."""
    unlisted = [Verified(str(folder), None, None, [reason]) for plan in plans for folder, reason in plan.unreadable]
    return sorted([*found, *unlisted], key=lambda item: item.name)


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _by_stem(names: Iterator[str]) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = {}
    for name in names:
        stems.setdefault(_stem(name), []).append(name)
    return stems


class Judges:
    """Methods that find faces, in turn."""

    def __init__(self, names: Sequence[str]) -> None:
        """:raises UsageMistake: if one is unknown, named twice or finds no boxes."""
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UsageMistake(f"--judge {twice[0]} is given twice")
        self._pools = {name: DetectorPool([name]) for name in names}

    def __call__(self, image: Image, frame: int) -> list[FoundFace]:
        """Return the faces of an image, each once, in the order of the judges."""
        found: list[FoundFace] = []
        for name, pool in self._pools.items():
            for face in pool(image):
                box, score = face.ellipse.bounds(), float(face.score or 0.0)
                one = FoundFace(frame, box, {name: score})
                place = next((index for index, other in enumerate(found) if one.same(other)), None)
                if place is None:
                    found.append(one)
                else:
                    other = found[place]
                    scores = {**other.scores, name: max(score, other.scores.get(name, score))}
                    found[place] = FoundFace(frame, other.box, scores)
        return found

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def verify(
    items: Sequence[Verified],
    judges: Judges,
    workers: int,
    advance: Advance | None = None,
    meter: BlindMeter | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[Verified]:
    """Yield the items in order, filled in.

    :param meter: judges the faces that are found where there are no originals
    :param max_pixels: of a picture that is read
    :raises FaceblurError: if a judge cannot start
    """
    return in_order(lambda item: _look(item, judges, meter, max_pixels), items, workers, advance)


def _look(item: Verified, judges: Judges, meter: BlindMeter | None, max_pixels: int) -> Verified:
    if item.output is None and item.original is None:  # a folder that cannot be listed
        return item
    try:
        if meter and item.output:
            _look_alone(item, _read(item.output, "", item, max_pixels), judges, meter)
        else:
            _look_beside(item, judges, max_pixels)
    except FaceblurError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's judge raises
        item.faults.append(unjudged(error))
    return item


def _look_alone(item: Verified, frames: Sequence[Image], judges: Judges, meter: BlindMeter) -> None:
    for number, image in enumerate(frames):
        found = judges(image, number)
        degrees = meter(image, [box_ellipse(*face.box, *image.shape[:2]) for face in found])
        item.still_found += [
            StillFound(face, degree=degree, protected=bool(meter.protected(degree)))
            for face, degree in zip(found, degrees, strict=True)
        ]


def _look_beside(item: Verified, judges: Judges, max_pixels: int) -> None:
    if item.original is None:
        item.faults.append("has no original")
    if item.output is None:
        item.faults.append("has no output")
        return
    output = _read(item.output, "", item, max_pixels)
    original = _read(item.original, "original: ", item, max_pixels) if item.original else []
    before, after = (
        [face for number, frame in enumerate(frames) for face in judges(frame, number)] for frames in (original, output)
    )
    item.faces = len(before)
    item.still_found = [StillFound(face, any(face.same(other) for other in before)) for face in after]
    sizes = [_size(frames) for frames in (output, original)]
    if sizes[0] == sizes[1]:
        item.not_hidden = [face for face in before if _unchanged(face, original[face.frame], output[face.frame])]
    elif output and original:
        item.faults.append(f"is {sizes[0]}, its original {sizes[1]}")


def _read(path: Path, what: str, item: Verified, max_pixels: int) -> list[Image]:
    """Return the frames of a picture; none, and a fault, if it cannot be read."""
    try:
        photo = read_photo(read_regular(path), max_pixels)
    except (UnreadableImage, OSError) as error:
        item.faults.append(what + why_refused(error))
        return []
    if photo.made == "preview":
        item.faults.append(f"{what}is a preview of faceblur run, NOT anonymized")
    return [frame.rgb() for frame in photo.frames]


def _size(frames: Sequence[Image]) -> str:
    height, width = frames[0].shape[:2] if frames else (0, 0)
    return f"{width} x {height} pixels" + (f", {len(frames)} frames" if len(frames) > 1 else "")


def _unchanged(face: FoundFace, before: Image, after: Image) -> bool:
    height, width = before.shape[:2]
    x1, y1, x2, y2 = np.clip(np.rint(face.box), 0, [width, height, width, height]).astype(int)
    inside = before[y1:y2, x1:x2].astype(np.int16), after[y1:y2, x1:x2].astype(np.int16)
    return bool(inside[0].size) and float(np.abs(inside[0] - inside[1]).mean()) <= UNCHANGED


def as_json(item: Verified) -> dict[str, object]:
    """Return an item for the report."""
    return {
        "name": item.name,
        "output": str(item.output) if item.output else None,
        "original": str(item.original) if item.original else None,
        "faults": item.faults,
        "faces_in_original": item.faces,
        "still_found": [{**_face_json(still.face), **_told_of(still)} for still in item.still_found],
        "not_hidden": [_face_json(face) for face in item.not_hidden],
    }


def _told_of(still: StillFound) -> dict[str, object]:
    if still.degree is None:
        return {"in_original": still.in_original}
    return {"degree": round(still.degree, 4), "protected": still.protected}


def _face_json(face: FoundFace) -> dict[str, object]:
    scores = {judge: round(score, 4) for judge, score in face.scores.items()}
    return {"frame": face.frame, "box": [round(side, 1) for side in face.box], "scores": scores}
