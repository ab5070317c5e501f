"""Anonymize one video: reading, finding and writing overlap, in three threads that hold a few pictures each."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError
from faceblur_core.media.images import PREVIEW, SOFTWARE, Frame
from faceblur_core.media.video import Encoding, Picture, VideoReader, VideoWriter, written_video
from faceblur_core.pipeline import DetectAndObfuscate
from faceblur_core.run.checks import checked_share, hides
from faceblur_core.run.manifest import GivenRow, Row, detections_of, detections_to_json
from faceblur_core.run.people import OPEN, Sightings, Verdicts, Who, without
from faceblur_core.run.preview import draw_preview
from faceblur_core.run.regions import Regions
from faceblur_core.tracking import Tracked, Tracker, Tracking
from faceblur_core.types import Anonymized, Anonymizer, Detections, Image, Mask

if TYPE_CHECKING:
    from av import Packet

AHEAD = 4  #: items that a thread may be ahead of the next
RECEDE = 0.008  #: how far the outline of a pixel mask may go back per picture, as a share of the picture's shorter side

T = TypeVar("T")


class Stopped(Exception):
    """The run ends before its time: the video is given up, without a row."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One picture with what is to be hidden in it."""

    picture: Picture
    tracked: Tracked | None = None  #: its faces, from a method that finds any
    rgb: Image | None = None  #: of the picture, if it is still at hand
    result: Anonymized | None = None  #: from a method that hides without finding
    opened: NDArray[np.bool_] | None = None  #: which of the faces stay open; None: none


@dataclass(frozen=True)
class VideoRun:
    """What is done to a video, and how it is written."""

    anonymizer: Anonymizer
    encoding: Encoding
    tracking: Tracking | None = None
    preview: bool = False
    fail_on_no_face: bool = False
    given: GivenRow | None = None  #: faces in place of those that the method would find
    regions: Regions | None = None  #: where and when faces are hidden; None: everywhere
    who: Who | None = None  #: whose faces stay open; None: nobody's
    export: Callable[[int, float, list[dict[str, Any]]], None] | None = None  #: told each picture's number, time and hidden faces
    watch: Callable[[int, Image, Anonymized], None] | None = (
        None  #: told each picture's number, the picture, and what becomes of it
    )

    def __call__(
        self,
        reader: VideoReader,
        target: Path,
        row: Row,
        stop: threading.Event,
        progress: Callable[[float, float], None] | None = None,
    ) -> None:
        """Write the anonymized video and fill in the row.

        :param stop: ends the work as soon as it is set
        :param progress: is told the seconds that are done and how many there are, 0 if nobody knows
        :raises Stopped: if ``stop`` was set; nothing is left of the target then
        :raises FaceblurError: if the video cannot be anonymized or written
        """
        row.height, row.width = reader.size
        clock = Clock(row.ms)
        finder = self._finder(clock)
        hider = Hider(self.anonymizer, clock, self.regions, self.watch, preview=self.preview)
        with written_video(target, reader, self.encoding, PREVIEW if self.preview else SOFTWARE) as writer:
            read = overlapped(_with_pixels(reader, clock), AHEAD)
            with contextlib.closing(overlapped(finder.find(read), AHEAD)) as found:
                for item in found:
                    if stop.is_set():
                        raise Stopped
                    if not isinstance(item, _Found):
                        writer.copy(item)
                        continue
                    faces = hider.hide(item)
                    if self.export and faces is not None:
                        self.export(item.picture.index, item.picture.time, _exported(faces, *reader.size))
                    with clock("encode"):
                        writer.write(item.picture)
                    if progress:
                        progress(item.picture.time, reader.seconds)
            row.left_open = hider.left_open
            row.outcome = "faces" if hider.any_hidden or hider.left_open else "no-face"
            if self.fail_on_no_face and row.outcome == "no-face":
                raise FaceblurError("no face was found, and --fail-on-no-face says that there is one; nothing was written")
        row.frames, row.masked_share = hider.frames, round(hider.hidden / max(1, hider.frames), 6)
        row.detections = None
        row.video = self._summary(reader, writer, finder)
        row.notes = [text if count == 1 else f"{text}: {count}" for text, count in sorted(reader.notes.items())]

    def _finder(self, clock: Clock) -> _Finder:
        if not isinstance(self.anonymizer, DetectAndObfuscate):
            return _Whole(self.anonymizer, clock)
        if self.given is not None:
            return _Given(self.given, clock)
        return _Detecting(self.anonymizer, clock, self.tracking, self.who)

    def _summary(self, reader: VideoReader, writer: VideoWriter, finder: _Finder) -> dict[str, Any]:
        """Return what a row says of a video beside what it says of a photo."""
        summary: dict[str, Any] = {
            "seconds": round(reader.seconds, 3),
            "frames_per_second": round(float(reader.rate), 3),
            "codec": reader.stream.codec_context.name,
            "encoder": writer.encoder,
            "pixel_format": writer.pixel_format,
        }
        if isinstance(finder, _Detecting) and finder.tracker:
            steady = finder.tracker.steadiness
            before, after = steady.jitter
            summary |= {
                "tracks": steady.tracks,
                "gap_frames_filled_per_1000": round(steady.gaps_per_1000, 2),
                "jitter_detected": round(before, 5),
                "jitter": round(after, 5),
            }
        return summary


class Clock:
    """Adds up milliseconds by stage; each stage belongs to one thread."""

    def __init__(self, ms: dict[str, float]) -> None:
        self._ms = ms

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._ms[stage] = self._ms.get(stage, 0.0) + (time.perf_counter() - started) * 1e3


def overlapped(items: Generator[T], size: int) -> Generator[T]:
    """Yield ``items`` while a thread makes the next ones, at most ``size`` ahead. Closing it ends the thread and ``items``."""
    ahead: queue.Queue[tuple[bool, Any]] = queue.Queue(size)  #: (True, item), or (False, why it ended)
    ended = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, ahead, ended), name="faceblur-ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ahead.get()
            if more:
                yield item
            elif item is not None:
                raise item
            else:
                return
    finally:
        ended.set()
        thread.join()


def _fill(items: Generator[Any], ahead: queue.Queue[tuple[bool, Any]], ended: threading.Event) -> None:
    def put(entry: tuple[bool, Any]) -> bool:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                ahead.put(entry, timeout=0.1)
                return True
        return False

    try:
        with contextlib.closing(items):
            for item in items:
                if not put((True, item)):
                    return
        put((False, None))
    except BaseException as error:  # it is raised where the items are wanted
        put((False, error))


def _with_pixels(reader: VideoReader, clock: Clock) -> Generator[tuple[Picture, Image] | Packet[Any]]:
    """Yield pictures as a method sees them, and packets to copy."""
    items = iter(reader)
    while True:
        with clock("decode"):
            item = next(items, None)
            if item is None:
                return
            ready = (item, item.rgb()) if isinstance(item, Picture) else item
        yield ready


class _Finder(Protocol):
    """Finds in every picture what is to be hidden; packets pass through at once."""

    def find(self, items: Generator[tuple[Picture, Image] | Packet[Any]]) -> Generator[_Found | Packet[Any]]: ...


@dataclass
class _Detecting:
    """Detects and, if asked to, tracks and recognises."""

    method: DetectAndObfuscate
    clock: Clock
    tracking: Tracking | None
    who: Who | None = None
    tracker: Tracker | None = field(init=False)
    _sightings: Sightings = field(init=False, default_factory=Sightings)

    def __post_init__(self) -> None:
        self.tracker = Tracker(self.tracking) if self.tracking else None

    def find(self, items: Generator[tuple[Picture, Image] | Packet[Any]]) -> Generator[_Found | Packet[Any]]:
        waiting: deque[Picture] = deque()  #: pictures that the tracker holds back; their pixels are not held
        with contextlib.closing(items):
            for item in items:
                if not isinstance(item, tuple):
                    yield item
                    continue
                picture, rgb = item
                with self.clock("detect"):
                    found = self.method.detector(rgb)
                verdicts = self._verdicts(rgb, found)
                if self.tracker is None:
                    yield _Found(picture, _untracked(found), rgb, opened=None if verdicts is None else verdicts == OPEN)
                    continue
                waiting.append(picture)
                for tracked in self._tracked(self.tracker, found, verdicts):
                    yield self._chosen(waiting.popleft(), tracked)
            if self.tracker is not None:
                for tracked in self.tracker.flush():
                    yield self._chosen(waiting.popleft(), tracked)

    def _verdicts(self, rgb: Image, found: Detections) -> Verdicts | None:
        if self.who is None:
            return None
        with self.clock("recognise"):
            return self.who.verdicts(rgb, found)

    def _tracked(self, tracker: Tracker, found: Detections, verdicts: Verdicts | None) -> list[Tracked]:
        """Return the pictures whose turn it is when another one was seen."""
        with self.clock("track"):
            ready = list(tracker.push(found))
            if verdicts is not None:
                self._sightings.see(tracker.linked, found.boxes, verdicts)
            return ready

    def _chosen(self, picture: Picture, tracked: Tracked) -> _Found:
        return _Found(picture, tracked, opened=None if self.who is None else self._sightings.opened(tracked))


def _untracked(found: Detections) -> Tracked:
    return Tracked(found, np.arange(len(found)), np.ones(len(found), np.bool_))


@dataclass(frozen=True)
class _Whole:
    """Runs a method that hides without saying first what it found."""

    anonymizer: Anonymizer
    clock: Clock

    def find(self, items: Generator[tuple[Picture, Image] | Packet[Any]]) -> Generator[_Found | Packet[Any]]:
        with contextlib.closing(items):
            for item in items:
                if not isinstance(item, tuple):
                    yield item
                    continue
                with self.clock("anonymize"):
                    result = self.anonymizer(item[1])
                yield _Found(item[0], rgb=item[1], result=result)


class _Given:
    """Takes the faces that were given, as they are."""

    def __init__(self, given: GivenRow, clock: Clock) -> None:
        self._every = [item for item in given.detections if "frame" not in item]
        self._of: dict[int, list[Mapping[str, Any]]] = {}
        self._frames = given.frames
        for item in given.detections:
            if "frame" in item:
                self._of.setdefault(item["frame"], []).append(item)
        self._clock = clock

    def find(self, items: Generator[tuple[Picture, Image] | Packet[Any]]) -> Generator[_Found | Packet[Any]]:
        frames = 0
        with contextlib.closing(items):
            for item in items:
                if not isinstance(item, tuple):
                    yield item
                    continue
                picture, rgb = item
                frames = picture.index + 1
                if self._frames is not None and picture.index not in self._frames:
                    raise FaceblurError(f"no row was given for frame {picture.index}; an empty list says that it has no face")
                mine = [*self._every, *self._of.get(picture.index, ())]
                yield _Found(picture, _untracked(detections_of(mine, picture.index, *rgb.shape[:2])), rgb)
        last = max([*self._of, *(self._frames or ())], default=0)
        if last >= frames:
            raise FaceblurError(f"a box was given for frame {last}, the file has {frames}, counted from 0")


class Hider:
    """Hides what was found, picture by picture in order."""

    def __init__(
        self,
        anonymizer: Anonymizer,
        clock: Clock,
        regions: Regions | None,
        watch: Callable[[int, Image, Anonymized], None] | None = None,
        *,
        preview: bool,
    ) -> None:
        self._anonymizer, self._clock, self._regions, self._preview = anonymizer, clock, regions, preview
        self._watch = watch
        self._held: Mask | None = None  #: the last pixel mask
        self.frames = 0
        self.hidden = 0.0  #: sum of the masks' means
        self.any_hidden = False
        self.left_open = 0  #: faces left open because of who they are, counted once per picture

    def hide(self, found: _Found) -> Tracked | None:
        """Hide in ``found.picture``; return the faces that were hidden, None if the method knows of none.

        :raises FaceblurError: if the method broke its contract
        """
        self.frames += 1
        tracked, result, rgb, opened = found.tracked, found.result, found.rgb, Detections.none()
        if tracked is not None:
            tracked, opened = self._chosen(tracked, found)
            if not self._is_work(tracked, opened, found.picture.time):
                if self._watch:
                    rgb = found.picture.rgb() if rgb is None else rgb
                    nothing = np.zeros(rgb.shape[:2], np.float32)
                    self._watch(found.picture.index, rgb, Anonymized(rgb, nothing, tracked.detections))
                return tracked  # the picture stays as it is, to the bit
        if rgb is None:
            with self._clock("convert"):
                rgb = found.picture.rgb()
        if tracked is not None:
            with self._clock("obfuscate"):
                result = self.obfuscated(rgb, tracked, opened, found.picture.time)
        assert result is not None
        share = checked_share(rgb, result)
        self.hidden += share
        self.any_hidden = self.any_hidden or hides(result.mask)
        if self._watch:
            self._watch(found.picture.index, rgb, result)
        with self._clock("convert"):
            if self._preview:
                found.picture.hide(rgb, draw_preview(Frame(rgb, "RGB"), result, opened).pixels, None)
            elif share:
                found.picture.hide(rgb, result.image, result.mask)
        return tracked

    def _is_work(self, tracked: Tracked, opened: Detections, time: float) -> bool:
        """Return whether anything is hidden in a picture, or drawn on it."""
        always = self._regions is not None and any(area.holds(time) for area in self._regions.always)
        faces = len(tracked.detections) > 0 or tracked.detections.mask is not None
        return faces or always or (self._preview and len(opened) > 0)

    def _chosen(self, tracked: Tracked, found: _Found) -> tuple[Tracked, Detections]:
        """Return the faces that are to be hidden, and those that stay open because of who they are."""
        faces, opened = tracked.detections, Detections.none()
        chosen = np.ones(len(faces), np.bool_)
        if self._regions is not None:
            chosen = self._regions.hidden(faces.boxes, found.picture.time)
        if found.opened is not None:
            opened = dataclasses.replace(faces.select(found.opened & chosen), mask=None)
            self.left_open += len(opened)
            chosen = chosen & ~found.opened
        if chosen.all():
            return tracked, opened
        return Tracked(faces.select(chosen), tracked.tracks[chosen], tracked.seen[chosen]), opened

    def obfuscated(self, rgb: Image, tracked: Tracked, opened: Detections, time: float) -> Anonymized:
        """Return the next picture with its faces hidden, but for the opened ones."""
        assert isinstance(self._anonymizer, DetectAndObfuscate)
        found, (height, width) = tracked.detections, rgb.shape[:2]
        mask = self._anonymizer.mask(found, height, width)
        if found.mask is not None:
            mask = self._steadied(mask, dataclasses.replace(found.select(~tracked.seen), mask=None))
            mask = without(mask, opened.boxes, found.boxes, self._anonymizer.mask)
            if self._regions is not None:  # a face that is to be hidden is hidden whole, also where it leaves its region
                shapes = self._anonymizer.mask(dataclasses.replace(found, mask=None), height, width)
                mask = np.maximum(self._regions.limit(mask, time), shapes)
            found = dataclasses.replace(found, mask=mask)
        if self._regions is not None:
            self._regions.cover(mask, time)
        return Anonymized(self._anonymizer.obfuscator(rgb, mask), mask, found)

    def _steadied(self, mask: Mask, filled: Detections) -> Mask:
        """Return a pixel mask that recedes slowly from the last one, with the faces in gaps added as shapes."""
        import cv2

        assert isinstance(self._anonymizer, DetectAndObfuscate)
        if self._held is not None:
            step = max(1, round(RECEDE * min(mask.shape)))
            receding = cv2.erode(self._held, np.ones((2 * step + 1, 2 * step + 1), np.uint8))
            mask = np.maximum(mask, np.asarray(receding, np.float32))
        self._held = mask
        return np.maximum(mask, self._anonymizer.mask(filled, *mask.shape)) if len(filled) else mask


def _exported(tracked: Tracked, height: int, width: int) -> list[dict[str, Any]]:
    """Return the faces of one picture as ``{"box", "score", "track", "seen"}``, without those that have left it."""
    boxes = tracked.detections.boxes
    inside = [boxes[:, 2:] > 0, boxes[:, :2] < [width, height], boxes[:, 2:] - boxes[:, :2] >= 1]
    there = np.asarray(np.concatenate(inside, axis=1).all(axis=1), np.bool_)
    rows = detections_to_json([tracked.detections.select(there)])
    return [
        {**row, "track": int(track), "seen": bool(seen)}
        for row, track, seen in zip(rows, tracked.tracks[there], tracked.seen[there], strict=True)
    ]
