"""One photo or video at a time through a method: what ``faceblur run`` does to a file, for servers.

A photo is bytes in and bytes out; a video is read from an open file and written to a folder that the server names. Nothing here
reads or writes a file of the caller's, and a method is named, never a path.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_core.media.images import DEFAULT_MAX_PIXELS, FORMATS, check_format, encode_photo, open_picture, read_photo
from faceblur_core.media.images import only_our_limit as only_our_limit  # for servers
from faceblur_core.media.video import Encoding, VideoReader, held_codecs
from faceblur_core.methods import YAML_SUFFIXES, Method, find_method, named_methods
from faceblur_core.pipeline import close
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.batch import share_cores as share_cores  # for servers
from faceblur_core.run.batch import timed
from faceblur_core.run.checks import checked_share
from faceblur_core.run.manifest import Row
from faceblur_core.run.video import VideoRun
from faceblur_core.tracking import Tracking
from faceblur_core.types import Anonymized, Anonymizer, Image
from faceblur_core.weights import present

DEFAULT_MAX_FRAMES = 500
FORMAT_NAMES = tuple(FORMATS)  #: what a photo can be written as
VIDEO_TYPES: Mapping[str, str] = {  #: what a video can be written as, and what browsers call it
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "webm": "video/webm",
    "avi": "video/x-msvideo",
}


@dataclass(frozen=True, slots=True)
class Offered:
    """One thing that a method's name can be made of."""

    name: str
    kind: Literal["anonymizer", "detector", "obfuscator", "file"]
    summary: str
    licence: str  #: of the code
    missing: str = ""  #: why it cannot be used here, as far as that is known before it is loaded


@dataclass(frozen=True, slots=True)
class Served:
    """An anonymized photo and what is worth telling about it."""

    data: bytes
    format: str  #: one of FORMAT_NAMES
    width: int  #: pixels, upright
    height: int
    frames: int
    faces: int | None  #: None: the method hides without finding faces first
    masked_share: float  #: of all pixels, 0 to 1
    ms: Mapping[str, float]  #: milliseconds by stage, and ``total``

    @property
    def media_type(self) -> str:
        return f"image/{self.format.lower()}"

    @property
    def suffix(self) -> str:
        """The ending of a file of this format, with its dot."""
        return FORMATS[self.format].suffixes[0]


def offered() -> Iterator[Offered]:
    """Yield everything that :func:`named` can put together here; loads nothing."""
    plugins = installed_plugins()
    kinds: tuple[Literal["anonymizer", "detector", "obfuscator"], ...] = ("anonymizer", "detector", "obfuscator")
    for kind in kinds:
        for name in plugins.names(kind):
            try:
                component = plugins.get(kind, name).component
            except FaceblurError as error:  # two plugins offer it
                yield Offered(name, kind, "", "", error.message)
                continue
            yield Offered(name, kind, component.summary, component.licence, _missing(component.weights[:1]))
    for name in named_methods():
        try:
            found = find_method(name, {}, plugins)
        except FaceblurError as error:  # it needs a plugin that is not installed
            yield Offered(name, "file", "", "", error.message.partition(". ")[0])
            continue
        parts = [entry.component for _, entry in found.parts()]
        licence = " AND ".join(sorted({part.licence for part in parts}))
        yield Offered(name, "file", found.summary, licence, "; ".join(filter(None, (_missing(p.weights[:1]) for p in parts))))


def _missing(weights: tuple[Any, ...]) -> str:
    absent = [item.file for item in weights if item.url is None and present(item) is None]
    return f"the model file {absent[0]} is not on this machine" if absent else ""


def named(name: str, options: Mapping[str, Any]) -> Method:
    """Return the method of that name: components such as ``haar+blur``, or one that ships. Never a file of the caller's.

    :param options: dotted, as for ``--set``; checked when the method is loaded
    :raises UsageMistake: if there is none, or it is a file's name
    """
    if name.endswith(YAML_SUFFIXES):
        raise UsageMistake("a method is named here, method files are not read")
    return find_method(name, options, installed_plugins())


class PhotoMethod:
    """A method with its models loaded. One is for one thread.

    :raises UsageMistake: if an option is unknown or does not fit
    :raises FaceblurError: if the method cannot start
    """

    def __init__(self, method: Method, *, max_pixels: int = DEFAULT_MAX_PIXELS, max_frames: int = DEFAULT_MAX_FRAMES) -> None:
        self._anonymizer: Anonymizer = method.make()
        self._max_pixels, self._max_frames = max_pixels, max_frames

    def __call__(self, data: bytes, form: str | None = None, quality: int | None = None) -> Served:
        """Return the photo anonymized: the bytes that ``faceblur run`` writes.

        :param data: the bytes of a picture file
        :param form: one of FORMAT_NAMES; the photo's own if None
        :param quality: 1 to 100 for JPEG, WebP and AVIF
        :raises UnreadableImage: if the photo cannot be read, is too large, or the format could not hold all of it
        :raises FaceblurError: if the method failed or broke its contract
        """
        ms: dict[str, float] = {}
        with timed(ms, "total"):
            with timed(ms, "decode"):
                _check_frames(data, self._max_pixels, self._max_frames)
                photo = read_photo(data, self._max_pixels)
                form = form or photo.format
                check_format(photo, form)
            frames, faces, hidden = [], None, 0.0
            for frame in photo.frames:
                before = frame.rgb()
                result = self._run(before)
                hidden += checked_share(before, result) * result.mask.size
                frames.append(frame.with_hidden(before, result.image, result.mask))
                faces = faces if result.detections is None else (faces or 0) + len(result.detections)
                for stage, spent in (result.info.get("ms") or {}).items():
                    ms[stage] = ms.get(stage, 0.0) + spent
            with timed(ms, "encode"):
                encoded = encode_photo(dataclasses.replace(photo, frames=tuple(frames)), form, quality)
        height, width = photo.frames[0].pixels.shape[:2]
        share = hidden / sum(frame.pixels[..., 0].size for frame in photo.frames)
        return Served(encoded, form, width, height, len(frames), faces, round(share, 6), ms)

    def _run(self, image: Image) -> Anonymized:
        try:
            return self._anonymizer(image)
        except FaceblurError:
            raise
        except Exception as error:  # whatever a stranger's plugin raises
            raise FaceblurError(f"the method failed with {type(error).__name__}") from error

    def close(self) -> None:
        """Free the models."""
        close(self._anonymizer)


def _check_frames(data: bytes, max_pixels: int, most: int) -> None:
    """:raises UnreadableImage: if there are more pictures in the file, each of which would be worked on."""
    try:
        with open_picture(data, max_pixels) as image:
            if image.format in ("JPEG", "MPO"):  # its other pictures are not read
                return
            image.seek(most)
    except Exception:  # fewer pictures, or damage, which the reader names
        return
    raise UnreadableImage(f"more than {most} pictures in one file are not accepted")


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """What a video may cost."""

    pixels: int = 9_000_000  #: of a picture: 4K
    seconds: float = 600
    pictures: int = 36_000
    result_bytes: int = 2_000_000_000


@dataclass(frozen=True, slots=True)
class VideoWish:
    """How a video is to be written."""

    form: str | None = None  #: one of VIDEO_TYPES; None: the video's own, or mkv
    tracking: bool = True  #: whether faces are followed from picture to picture
    audio: bool = True  #: whether sound is copied
    subtitles: bool = True  #: whether subtitles are copied, which may tell where or who
    crf: int | None = None  #: the encoder's constant quality, lower is better


@dataclass(frozen=True, slots=True)
class ServedVideo:
    """An anonymized video and what is worth telling about it."""

    path: Path  #: in the folder that was given
    form: str  #: one of VIDEO_TYPES
    width: int  #: pixels, upright
    height: int
    frames: int
    seconds: float  #: as the file says; 0 if it says nothing
    tracks: int | None  #: faces that were followed; None: the method finds none before hiding, or nothing was tracked
    masked_share: float  #: of all pixels, 0 to 1
    notes: tuple[str, ...]  #: what of the file could not be read or kept
    ms: Mapping[str, float]  #: milliseconds by stage; stages overlap


class VideoMethod:
    """A method with its models loaded, for videos. One is for one thread.

    :raises UsageMistake: if an option is unknown or does not fit
    :raises FaceblurError: if the method cannot start
    """

    def __init__(self, method: Method, limits: VideoLimits | None = None) -> None:
        self._anonymizer: Anonymizer = method.make()
        self._limits = limits or VideoLimits()

    def __call__(
        self, source: BinaryIO, folder: Path, wish: VideoWish | None = None, progress: Callable[[float], None] | None = None
    ) -> ServedVideo:
        """Write the anonymized video into an empty folder: what ``faceblur run`` writes. On any failure nothing is left there.

        :param source: the video, an open file that can be sought
        :param progress: is told the share that is done, 0 to 1, after each picture; what it raises ends the work
        :raises UnreadableImage: if the video cannot be read or is beyond the limits
        :raises UsageMistake: if what is in it cannot be written in the form that was asked for
        :raises FaceblurError: if the method failed or broke its contract, or the video cannot be written
        """
        wish, size = wish or VideoWish(), os.fstat(source.fileno()).st_size
        if not size:
            raise UnreadableImage("the file is empty")
        encoding = Encoding(quality=wish.crf, audio=wish.audio, subtitles=wish.subtitles)
        row, written = Row(input="", outcome="error"), 0

        def watch(time: float, seconds: float) -> None:
            nonlocal written
            written += 1
            self._check(time, written, sum(entry.stat().st_size for entry in os.scandir(folder)))
            if progress:
                progress(min(1.0, time / seconds if seconds > 0 else source.tell() / size))

        with VideoReader(source, self._limits.pixels, audio=wish.audio) as reader:
            self._check(reader.seconds, 0, 0)
            target = folder / f"video{_video_suffix(reader, wish)}"
            run = VideoRun(self._anonymizer, encoding, Tracking() if wish.tracking else None)
            try:
                run(reader, target, row, threading.Event(), watch)
            except (FaceblurError, OSError):
                raise
            except Exception as error:  # whatever a stranger's plugin or a decoder raises
                raise FaceblurError(f"the method failed with {type(error).__name__}") from error
            seconds = reader.seconds
        tracks, form = (row.video or {}).get("tracks"), target.suffix[1:]
        notes, share = tuple(row.notes), row.masked_share
        return ServedVideo(target, form, row.width, row.height, row.frames, seconds, tracks, share, notes, row.ms)

    def _check(self, seconds: float, pictures: int, result_bytes: int) -> None:
        """:raises UnreadableImage: if that is beyond the limits"""
        limits = self._limits
        if seconds > limits.seconds:
            raise UnreadableImage(f"the video is longer than {limits.seconds / 60:g} minutes")
        if pictures > limits.pictures:
            raise UnreadableImage(f"the video has more than {limits.pictures} pictures")
        if result_bytes > limits.result_bytes:
            raise UnreadableImage(f"the result would be larger than {limits.result_bytes / 1e6:g} megabytes")

    def close(self) -> None:
        """Free the models."""
        close(self._anonymizer)


def _video_suffix(reader: VideoReader, wish: VideoWish) -> str:
    """Return the ending of the file to write. :raises UsageMistake: if one was asked for that cannot hold what is copied"""
    suffix = f".{wish.form}" if wish.form else reader.suffix
    lacking = reader.beyond(held_codecs(suffix), subtitles=wish.subtitles)
    if not lacking:
        return suffix
    if wish.form:
        advice = {"audio": "the sound", "subtitle": "subtitles"}
        leave = " and ".join(advice[kind] for kind in lacking)
        raise UsageMistake(f"{wish.form} holds {' and '.join(lacking.values())}; choose mkv, or leave {leave} out")
    return ".mkv"
