"""``faceblur verify``: look at what was anonymized once more, with other detectors, beside the originals if these are there."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from faceblur_core.compare.assess import BlindMeter, unjudged
from faceblur_core.compare.verified import FoundFace, StillFound, Verified
from faceblur_core.datasets.labels import box_ellipse
from faceblur_core.datasets.survey import DetectorPool, why_refused
from faceblur_core.errors import FaceblurError, UsageMistake, pass_on
from faceblur_core.media.files import check_regular, read_regular
from faceblur_core.media.images import DEFAULT_MAX_PIXELS, read_photo
from faceblur_core.media.video import Picture, VideoReader, is_video
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.jobs import Plan, list_files
from faceblur_core.types import Image
from faceblur_core.weights import present

JUDGES = ("yunet", "mediapipe")  #: those of them that are installed, with their weights
VIDEOS = 4  #: in work at a time, each with its original: every decoder has as many threads as there are cores, and their pictures
JOINING = (".png", ".apng", ".webp")  #: what is written there has equal pictures that follow one another as one
UNCHANGED = 3.0  #: mean difference in a face's box, of 255 levels: up to it, it was encoded anew and nothing more


def usual_judges(option: str = "--judge") -> list[str]:
    """Return the judges of JUDGES that can work here.

    :param option: what names others
    :raises UsageMistake: if none can
    """
    plugins = installed_plugins()
    here = [name for name in JUDGES if name in plugins.names("detector")]
    able = [name for name in here if all(map(present, plugins.get("detector", name).component.weights[:1]))]
    if not able:
        raise UsageMistake(f"none of {', '.join(JUDGES)} is here with its weights; name a detector with {option}")
    return able


def pairs(outputs: Path, originals: Path) -> tuple[list[Verified], Counter[str]]:
    """Return what is to be verified, by name, and what is passed over among the outputs.

    Files with the same path belong together, up to the suffix where no name is the same.

    :raises UsageMistake: if one of the folders holds no picture and no video, or they are one folder
    """
    if outputs.resolve() == originals.resolve():
        raise UsageMistake(f"{outputs} is both the folder to verify and the one of the originals")
    plans = list_files(outputs, originals), list_files(originals, outputs)
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

    :raises UsageMistake: if the folder holds no picture and no video
    """
    plan = list_files(outputs)
    return _by_name([Verified(job.name, job.source, None) for job in plan.jobs], [plan]), plan.passed_over


def _by_name(found: Sequence[Verified], plans: Sequence[Plan]) -> list[Verified]:
    """Return them in order, with the folders that cannot be listed."""
    unlisted = [Verified(str(folder), None, None, faults=[reason]) for plan in plans for folder, reason in plan.unreadable]
    return sorted([*found, *unlisted], key=lambda item: item.name)


def _stem(name: str) -> tuple[str, bool]:
    """Return what a file and what a run makes of it have in common: the name without its suffix, and whether it is a video."""
    path = Path(name)
    return path.with_suffix("").as_posix(), is_video(path)


def _by_stem(names: Iterator[str]) -> dict[tuple[str, bool], list[str]]:
    stems: dict[tuple[str, bool], list[str]] = {}
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

    def __call__(self, image: Image, frame: int, time: float | None = None) -> list[FoundFace]:
        """Return the faces of an image, each once, in the order of the judges."""
        found: list[FoundFace] = []
        for name, pool in self._pools.items():
            for face in pool(image):
                box, score = face.ellipse.bounds(), float(face.score or 0.0)
                one = FoundFace(frame, box, {name: score}, time)
                place = next((index for index, other in enumerate(found) if one.same(other)), None)
                if place is None:
                    found.append(one)
                else:
                    other = found[place]
                    scores = {**other.scores, name: max(score, other.scores.get(name, score))}
                    found[place] = FoundFace(frame, other.box, scores, time)
        return found

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


@dataclass(frozen=True)
class Look:
    """How files are looked at. One is for all threads."""

    judges: Judges
    meter: BlindMeter | None = None  #: judges the faces that are found where there are no originals
    max_pixels: int = DEFAULT_MAX_PIXELS  #: of a picture that is read
    every: int = 1  #: of a video: every so many pictures one is looked at
    videos: AbstractContextManager[Any] = field(default_factory=lambda: threading.Semaphore(VIDEOS))
    stopped: threading.Event = field(default_factory=threading.Event)  #: set to end before the end of a video

    def __call__(self, item: Verified) -> Verified:
        """Return the item, filled in. :raises FaceblurError: if a judge cannot start"""
        if item.output is None and item.original is None:  # a folder that cannot be listed
            return item
        item.every = self.every
        video = is_video(item.output or item.original or Path())
        with self.videos if video else contextlib.nullcontext():
            self._look(item)
        return item

    def _look(self, item: Verified) -> None:
        try:
            if self.meter and item.output:
                self._alone(item, item.output, self.meter)
            else:
                self._beside(item)
        except FaceblurError:
            raise
        except BaseException as error:  # whatever a stranger's judge raises
            pass_on(error)
            item.faults.append(unjudged(error))

    def _alone(self, item: Verified, output: Path, meter: BlindMeter) -> None:
        for view in self._views(output, "", item):
            if self._passes_over(view):
                continue
            image = view.rgb()
            found = self.judges(image, view.number, view.time)
            places = [box_ellipse(*face.box, *view.size) for face in found]
            item.still_found += [
                StillFound(face, degree=degree, protected=bool(meter.protected(degree)))
                for face, degree in zip(found, meter(image, places), strict=True)
            ]

    def _beside(self, item: Verified) -> None:
        if item.original is None:
            item.faults.append("has no original")
        if item.output is None:
            item.faults.append("has no output")
            return
        counts = [0, 0]
        first: tuple[_View, _View] | None = None
        differs: tuple[_View, _View] | None = None
        outputs: Iterable[_View] = self._views(item.output, "", item)
        originals: Iterable[_View] = self._views(item.original, "original: ", item) if item.original else ()
        if item.output.suffix.lower() in JOINING:
            outputs, originals = list(outputs), list(originals)
            outputs = _in_step(outputs, originals)
        for after, before in zip_longest(outputs, originals):
            counts = [counts[0] + bool(after), counts[1] + bool(before)]
            if after and before:
                first = first or (after, before)
                differs = differs or ((after, before) if after.size != before.size else None)
            self._compare(item, after, before)
        if told := differs or (first if counts[0] != counts[1] else None):
            item.faults.append(_difference(told, counts))

    def _compare(self, item: Verified, after: _View | None, before: _View | None) -> None:
        images: list[Image | None] = [None, None]
        found: list[list[FoundFace]] = [[], []]
        for index, view in enumerate((after, before)):
            if view and not self._passes_over(view):
                images[index] = image = view.rgb()
                found[index] = self.judges(image, view.number, view.time)
        item.faces += len(found[1])
        item.still_found += [StillFound(face, any(face.same(other) for other in found[1])) for face in found[0]]
        output, original = images
        if output is not None and original is not None and output.shape == original.shape:
            item.not_hidden += [face for face in found[1] if _unchanged(face, original, output)]

    def _passes_over(self, view: _View) -> bool:
        return view.time is not None and view.number % self.every > 0

    def _views(self, path: Path, what: str, item: Verified) -> Iterator[_View]:
        """Yield the pictures in a file; where it cannot be read, none or no more, and a fault."""
        try:
            if is_video(path):
                check_regular(path)
                with VideoReader(path, self.max_pixels, audio=False) as reader:
                    _check_made(reader.made, what, item)
                    for picture in reader:
                        if self.stopped.is_set():
                            return
                        if isinstance(picture, Picture):
                            yield _View(picture.index, picture.rgb, reader.size, picture.time)
                    item.faults += [] if what else reader.unseen()
                return
            photo = read_photo(read_regular(path), self.max_pixels)
            _check_made(photo.made, what, item)
            if photo.beside and not what:
                more = f"{photo.beside} more picture{'s' * (photo.beside > 1)} in it"
                item.faults.append(f"{more}, such as a thumbnail, not looked at")
            for number, frame in enumerate(photo.frames):
                if self.stopped.is_set():
                    return
                height, width = frame.pixels.shape[:2]
                yield _View(number, frame.rgb, (height, width), shown=frame.duration or 0)
        except (FaceblurError, OSError) as error:
            item.faults.append(what + why_refused(error))


@dataclass(frozen=True, slots=True)
class _View:
    """A picture of a file that is being read."""

    number: int  #: from 0
    rgb: Callable[[], Image]
    size: tuple[int, int]  #: height and width, pixels
    time: float | None = None  #: in a video, seconds from the first
    shown: float = 0  #: in an animation, milliseconds


def _in_step(outputs: list[_View], originals: list[_View]) -> list[_View]:
    """Return the pictures of an animation, each as often as pictures of the original are shown in its time.

    Equal pictures that follow one another are written as one; where all are equal, as a still. What became one in that way
    differed in faces alone; where more than half of the picture differs, one is missing, and all are given back as they are.
    """
    ends = list(accumulate(view.shown for view in outputs))
    starts = [0, *accumulate(view.shown for view in originals)]
    slack = len(starts)  # times are whole milliseconds in a file
    if not 0 < len(outputs) < len(originals) or (len(outputs) > 1 and abs(ends[-1] - starts[-1]) > slack):
        return outputs
    middles = [(start + end) / 2 for start, end in pairwise(starts)]
    places = [min(bisect_right(ends, middle), len(outputs) - 1) for middle in middles]
    for (place, one), (other_place, other) in pairwise(zip(places, originals, strict=True)):
        if place == other_place and (one.size != other.size or (one.rgb() != other.rgb()).any(axis=2).mean() > 0.5):
            return outputs
    return [dataclasses.replace(outputs[place], number=view.number) for place, view in zip(places, originals, strict=True)]


def _check_made(made: str, what: str, item: Verified) -> None:
    if made == "preview":
        item.faults.append(f"{what}is a preview of faceblur run, NOT anonymized")


def _difference(views: tuple[_View, _View], counts: Sequence[int]) -> str:
    """Return in words how an output and its original differ in size."""
    sizes = [f"{view.size[1]} x {view.size[0]} pixels" for view in views]
    if counts[0] != counts[1]:
        sizes = [f"{size}, {count} frame{'s' * (count > 1)}" for size, count in zip(sizes, counts, strict=True)]
    where = f"frame {views[0].number} " if views[0].number else ""
    return f"{where}is {sizes[0]}, its original {sizes[1]}"


def _unchanged(face: FoundFace, before: Image, after: Image) -> bool:
    height, width = before.shape[:2]
    x1, y1, x2, y2 = np.clip(np.rint(face.box), 0, [width, height, width, height]).astype(int)
    inside = before[y1:y2, x1:x2].astype(np.int16), after[y1:y2, x1:x2].astype(np.int16)
    return bool(inside[0].size) and float(np.abs(inside[0] - inside[1]).mean()) <= UNCHANGED
