"""Read a video file picture by picture, hand the pictures to a method, write them back with everything else as it was.

What a method sees is 8-bit RGB, upright. What is written has the file's own pixel format, size, rotation, colour tags
and time stamps; sound and subtitles are copied packet by packet, metadata is dropped. Nothing is held but the pictures
at hand, however long the video is. PyAV does the work.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from faceblur_core.errors import FaceblurError, TooLarge, UnreadableImage, UsageMistake
from faceblur_core.media.files import whole_file
from faceblur_core.media.images import made_by, upright
from faceblur_core.types import Image, Mask

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.codeccontext import VideoCodecContext
    from av.video.format import VideoFormat
    from av.video.stream import VideoStream

MUXERS: Mapping[str, str] = {  #: what can be written, by the file name's ending
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".qt": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
}
#: What is read and becomes .mkv: these hold no mark of ours, or not every kind of sound, or FFmpeg cannot write them well.
_OLD = ".wmv .asf .flv .f4v .mpg .mpeg .m2v .vob .mod .tod .ogv .mxf .rm .rmvb .3gp .3g2 .ts .mts .m2ts .dv .y4m .nut .divx"
READ_ONLY = frozenset(_OLD.split())
VIDEO_SUFFIXES = frozenset(MUXERS) | READ_ONLY
BLOCK = 8  #: pixels, a multiple of what stands behind a sample of any plane
MARGIN = 8  #: pixels around what changed that are converted with it
#: FFmpeg's names of what is read. Others, such as playlists, make it open files and addresses that stand in the file.
DEMUXERS = (
    *("mov", "matroska", "avi", "asf", "flv", "mpeg", "mpegts", "mpegvideo", "ogg", "mxf", "rm", "dv", "yuv4mpegpipe", "nut"),
    *("h264", "hevc", "m4v", "ivf", "obu"),  # streams without a container
)
#: What WebM may hold; any other Matroska is .mkv.
WEBM_CODECS = frozenset(("vp8", "vp9", "av1", "opus", "vorbis", "webvtt"))
#: What reads the transparency of these codecs where the file says that there is one: FFmpeg's own decoders leave it out.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
#: Codecs of which each packet makes one picture, if it is not interlaced. Of others some packets make none, or several.
PICTURE_PER_PACKET = frozenset(("h264", "hevc", "av1", "vp9", "mjpeg", "prores", "dnxhd", "ffv1", "png", "jpeg2000", "utvideo"))
FASTEST = 240  #: frames per second; a rate above it is a wrong guess of the demuxer's

# From AVColorSpace, as frames have it, to the numbers by which swscale calls the same matrices.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


PREROLL = 0.1  #: seconds of sound before the first that is played, which its decoder may need
#: What frames call what says how bright their pixels are meant, or how to show them on other screens.
HDR = {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID", "DOVI_METADATA"}


@dataclass(frozen=True, slots=True)
class Encoder:
    """What is to be known of one of FFmpeg's encoders."""

    codec: str  #: the codec's name, as streams have it
    quality: str = ""  #: its option for constant quality, lower is better; empty: it has none
    default: int = 0  #: of that option
    speed: str = ""  #: its option for speed against size
    pace: str = ""  #: default of that option
    more: Mapping[str, str] = field(default_factory=dict)
    alpha: tuple[str, ...] = ()  #: the containers in which it keeps transparency
    most: int = 51  #: of the option for constant quality
    captions: bool = False  #: whether it writes the closed captions that pictures bring with them
    full: tuple[str, ...] | None = None  #: the containers in which its files say that they are of full range; None: all
    matrix: int = 0  #: the only one from RGB to YUV that its decoders know, as frames have it; 0: files say which

    def check(self, quality: int | None, name: str) -> None:
        """:raises UsageMistake: if such a quality is not on its scale"""
        if quality is not None and self.quality and quality > self.most:
            raise UsageMistake(f"--crf {quality}: the scale of {name} goes from 0 to {self.most}")


_WEB = ("webm", "matroska")
_VP9 = {"b": "0", "row-mt": "1", "deadline": "good", "strict": "experimental"}  # as transparency beside 4:2:2 and 4:4:4 counts
_VP8 = {"b": "20M", "deadline": "good", "auto-alt-ref": "0"}  # with such references it takes no transparency
_NVENC = {"rc": "vbr", "b": "0", "s12m_tc": "0"}  # no time of day
ENCODERS: Mapping[str, Encoder] = {
    "libx264": Encoder("h264", "crf", 18, "preset", "medium", captions=True),
    "libx265": Encoder("hevc", "crf", 20, "preset", "medium", {"x265-params": "log-level=error"}, captions=True),
    "libsvtav1": Encoder("av1", "crf", 26, "preset", "8", most=63),
    "libvpx-vp9": Encoder("vp9", "crf", 24, "cpu-used", "4", _VP9, _WEB, 63),
    "libvpx": Encoder("vp8", "crf", 8, "cpu-used", "4", _VP8, _WEB, 63, full=(), matrix=5),
    "prores_ks": Encoder("prores", alpha=("mov", "matroska"), full=()),
    "ffv1": Encoder("ffv1", more={"level": "3", "slicecrc": "1"}, alpha=("mp4", "matroska", "avi"), full=("matroska",)),
    "mpeg4": Encoder("mpeg4", more={"flags": "+qscale", "global_quality": str(3 * 118)}, full=()),
    "mjpeg": Encoder("mjpeg", more={"flags": "+qscale", "global_quality": str(2 * 118)}, matrix=5),
    "h264_nvenc": Encoder("h264", "cq", 20, "preset", "p5", _NVENC, captions=True),
    "hevc_nvenc": Encoder("hevc", "cq", 22, "preset", "p5", _NVENC, captions=True),
    "av1_nvenc": Encoder("av1", "cq", 26, "preset", "p5", _NVENC, most=63, captions=True),
    "h264_qsv": Encoder("h264", "global_quality", 20, "preset", "medium", captions=True),
    "hevc_qsv": Encoder("hevc", "global_quality", 22, "preset", "medium"),
    "h264_amf": Encoder("h264", "qvbr_quality_level", 20, "quality", "balanced", {"rc": "qvbr"}),
    "h264_videotoolbox": Encoder("h264", more={"q": "65"}, captions=True),
    "hevc_videotoolbox": Encoder("hevc", more={"q": "65"}),
}
#: What a container is given where the file's own codec cannot be written with the file's pixel format.
FALLBACKS: Mapping[str, tuple[str, ...]] = {
    "webm": ("libvpx-vp9", "libsvtav1"),
    "avi": ("mpeg4", "ffv1"),
    "mov": ("libx264", "libx265", "prores_ks"),
    "": ("libx264", "libx265", "ffv1"),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How videos are encoded; what is left empty follows the file."""

    encoder: str = ""  #: a key of ENCODERS
    quality: int | None = None  #: the encoder's own scale: CRF for x264, x265, AV1 and VP9; lower is better
    preset: str = ""  #: the encoder's own word for speed against size
    options: tuple[tuple[str, str], ...] = ()  #: more of the encoder's options
    audio: bool = True  #: whether sound is copied
    subtitles: bool = True

    def __post_init__(self) -> None:
        if self.encoder and self.encoder not in ENCODERS:
            raise UsageMistake(f"no video encoder named {self.encoder!r}; it can be: {', '.join(ENCODERS)}")
        if self.encoder and self.quality is not None and not ENCODERS[self.encoder].quality:
            raise UsageMistake(f"encoder {self.encoder} has no CRF; leave out --crf")
        if self.encoder and self.preset and not ENCODERS[self.encoder].speed:
            raise UsageMistake(f"encoder {self.encoder} has no presets; leave out --preset")
        if self.encoder:
            ENCODERS[self.encoder].check(self.quality, self.encoder)


def is_video(path: Path) -> bool:
    """Return whether a file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def held_codecs(suffix: str) -> set[str]:
    """Return the names of the codecs that can be written to files with this ending, one of MUXERS."""
    import av

    with av.open(io.BytesIO(), "w", format=MUXERS[suffix]) as container:
        return container.supported_codecs


def written_as(name: Path) -> Path:
    """Return the file name under which a video of that name is written: its own, or .mkv for what is only read."""
    return name.with_suffix(".mkv") if name.suffix.lower() in READ_ONLY else name


@dataclass(slots=True)
class Picture:
    """One picture of a video."""

    frame: VideoFrame  #: as decoded, in the file's pixel format and orientation
    index: int  #: from 0
    time: float  #: seconds from the first picture
    orientation: int  #: EXIF's number for how the frame must be turned to be upright
    brings: frozenset[str] = frozenset()  #: what the frame brings with it beside its pixels, as FFmpeg calls it

    def rgb(self) -> Image:
        """Return H x W x 3 uint8, upright, read-only: what a method sees."""
        rgb: Image = upright(np.asarray(self.frame.to_ndarray(format="rgb24"), np.uint8), self.orientation)
        rgb.flags.writeable = False
        return rgb

    def hide(self, before: Image, after: Image, mask: Mask | None) -> None:
        """Carry over to the frame what a method changed from ``before`` (as :meth:`rgb`) to ``after``; not its transparency.

        :param mask: H x W, what counts as changed in any case; None: every pixel counts
        """
        if after is before:
            return
        import cv2
        from av import VideoFrame

        touched = np.ones(before.shape[:2], np.bool_)
        if mask is not None:
            alike = cv2.inRange(cv2.absdiff(after, before), (0, 0, 0), (0, 0, 0))
            touched = (alike == 0) | (mask > 0)
        touched = _stored(touched, self.orientation)
        rows, columns = (_around(np.asarray(touched.any(axis=axis))) for axis in (1, 0))
        if rows is None or columns is None:
            return
        stored = np.ascontiguousarray(_stored(after, self.orientation)[rows, columns])
        space, spread = _MATRICES.get(int(self.frame.colorspace)), int(self.frame.color_range) or None
        hidden = VideoFrame.from_ndarray(stored, format="rgb24").reformat(
            format=self.frame.format.name, dst_colorspace=space, dst_color_range=spread
        )
        self.frame.make_writable()  # the decoder may still need its own copy
        for index in range(len(self.frame.planes)):
            here, there = _plane(self.frame, index), _plane(hidden, index)
            down, across = -(-self.frame.height // here.shape[0]), -(-self.frame.width // here.shape[1])
            part = here[rows.start // down :, columns.start // across :][: there.shape[0], : there.shape[1]]
            where = _reduced(touched[rows, columns], *there.shape[:2])[..., None] & _coloured(
                self.frame.format, index, there.shape[2]
            )
            np.copyto(part, there, where=where)


def _stored(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return upright pixels as the file stores them: the inverse of ``upright``."""
    return upright(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def _around(touched: NDArray[np.bool_]) -> slice | None:
    """Return the rows or columns from the first that is touched to the last and some more, None if there are none.

    They begin where samples of every smaller plane begin, and end there or at the picture's edge. What is converted without
    its surroundings has other colours at its edges; they lie in the margin.
    """
    found = np.flatnonzero(touched)
    if not len(found):
        return None
    first, end = int(found[0]) - MARGIN, int(found[-1]) + 1 + MARGIN
    return slice(max(0, first) // BLOCK * BLOCK, min(len(touched), -(-end // BLOCK) * BLOCK))


def _plane(frame: VideoFrame, index: int) -> NDArray[Any]:
    """Return a view of one plane, height x width x bytes of a pixel."""
    plane = frame.planes[index]
    mine = [part for part in frame.format.components if part.plane == index]
    planar = len(mine) * -(-mine[0].bits // 8)
    size = frame.format.padded_bits_per_pixel // 8 if len(frame.planes) == 1 else planar
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)  # type: ignore[call-overload]  # it is a buffer
    if plane.line_size < 0:
        lines = lines[::-1]
    return np.asarray(lines[:, : plane.width * size].reshape(plane.height, plane.width, size))


def _coloured(form: VideoFormat, index: int, size: int) -> NDArray[np.bool_]:
    """Return which of the ``size`` bytes of a pixel, in one plane, are not its transparency."""
    mine = [part for part in form.components if part.plane == index]
    coloured = np.ones(size, np.bool_)
    if any(part.is_alpha for part in mine):
        place = 0 if len(mine) == 1 else form.name.index("a")  # names of packed formats begin with the order: bgra64le
        coloured.reshape(len(mine), -1)[place] = False
    return coloured


@contextlib.contextmanager
def ordinary_threads() -> Iterator[None]:
    """Undo what SVT-AV1 does when root runs it: its threads and the process's first become real-time ones, which starve others.

    A codec whose threads wait busily, such as VP8's, would then wait without end.
    """
    tasks = Path("/proc/self/task")
    ordinary = tasks.is_dir() and os.sched_getscheduler(0) == os.SCHED_OTHER  # elsewhere it is none, or wanted so
    try:
        yield
    finally:
        for task in map(int, os.listdir(tasks) if ordinary else ()):
            with contextlib.suppress(OSError):  # it has ended
                if os.sched_getscheduler(task) in (os.SCHED_FIFO, os.SCHED_RR):
                    os.sched_setscheduler(task, os.SCHED_OTHER, os.sched_param(0))


def _is_rgb(pixel_format: str) -> bool:
    from av.video.format import VideoFormat

    return VideoFormat(pixel_format, 64, 64).is_rgb or pixel_format.startswith("xyz")


def _is_grey(pixel_format: str) -> bool:
    from av.video.format import VideoFormat

    return len(VideoFormat(pixel_format, 64, 64).components) < 3


def _range(frame: VideoFrame) -> int:
    """Return the range of a frame's values, 1 limited or 2 full, as FFmpeg takes it where the file does not say."""
    name = frame.format.name
    if _is_rgb(name) or name.startswith("yuvj"):
        return 2
    return int(frame.color_range) or (2 if _is_grey(name) else 1)


def _matrix_for(frame: VideoFrame, primaries: int) -> int:
    """Return by which matrix a picture of RGB becomes YUV, as frames have it: that of its primaries, else of its size."""
    of_primaries = {1: 1, 5: 5, 6: 6, 7: 7, 9: 9}
    return of_primaries.get(primaries, 1 if frame.width >= 1280 or frame.height > 576 else 6)


def _has_alpha(pixel_format: str) -> bool:
    from av.video.format import VideoFormat

    return any(part.is_alpha for part in VideoFormat(pixel_format, 64, 64).components)


def _reduced(touched: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Return, height x width, where any pixel of the block that stands behind a sample of a smaller plane is touched."""
    down, across = -(-touched.shape[0] // height), -(-touched.shape[1] // width)
    if down == across == 1:
        return touched
    whole = np.zeros((height * down, width * across), np.bool_)
    whole[: touched.shape[0], : touched.shape[1]] = touched
    any_ = np.zeros((height, width), np.bool_)
    for row in range(down):
        for column in range(across):
            any_ |= whole[row::down, column::across]
    return any_


class _Joined:
    """Lets time go on where it begins anew, in a file that was joined of several: all streams are moved alike.

    :param back: seconds; decoding times go back farther only where files were joined
    """

    def __init__(self, back: Fraction) -> None:
        self._back = back
        self._offsets = [Fraction(0)]  #: seconds, of each part
        self._part: dict[int, int] = {}  #: where each stream is
        self._last: dict[int, Fraction] = {}  #: time of the last packet of each stream of pictures or sound, as moved, seconds
        self._now = Fraction(0)

    def move(self, packet: Packet[Any]) -> bool:
        """Give a packet its time in the whole; return whether it is the first of another part."""
        parts = len(self._offsets)
        time = packet.pts if packet.dts is None and packet.stream.type != "video" else packet.dts
        if time is not None:
            self._place(packet, time * packet.time_base)
        moved = round(self._offsets[self._part.get(packet.stream.index, 0)] / packet.time_base)
        if moved:
            packet.pts = None if packet.pts is None else packet.pts + moved
            packet.dts = None if packet.dts is None else packet.dts + moved
        return len(self._offsets) > parts

    def _place(self, packet: Packet[Any], time: Fraction) -> None:
        """Find the part of a packet, and where that part begins."""
        index = packet.stream.index
        mine, last = self._part.get(index, 0), self._last.get(index)
        parts = range(mine, len(self._offsets))
        fitting = [part for part in parts if last is None or time + self._offsets[part] >= last - self._back]
        if not fitting:
            fitting = [len(self._offsets)]
            self._offsets.append(max(self._last.values()) - time)
        # One stream may come to the end of its part after another has left it.
        part = min(fitting, key=lambda part: abs(time + self._offsets[part] - self._now))
        if last is not None and part != mine:
            step = packet.duration * packet.time_base if packet.duration else Fraction(1, 25)
            self._offsets[part] = max(self._offsets[part], last + step - time)
        self._part[index] = part
        if packet.stream.type != "subtitle":  # these come in any order
            self._last[index] = self._now = time + self._offsets[part]


class VideoReader:
    """An open video file. Iterate it for its pictures and, between them, the packets to copy; close it.

    :param source: its path, or the open file, which stays open
    :raises UnreadableImage: if it is no video, is damaged beyond its first picture, or is too large
    """

    def __init__(self, source: Path | BinaryIO, max_pixels: int, *, audio: bool = True) -> None:
        import av

        self.notes: Counter[str] = Counter()  #: what could not be read or is left out, and how often
        try:
            self._container: InputContainer = av.open(
                str(source.absolute()) if isinstance(source, Path) else source,  # FFmpeg takes a colon for the end of a protocol
                "r",
                metadata_errors="replace",
                container_options={"format_whitelist": ",".join(DEMUXERS)},
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise UnreadableImage(f"not a video, or damaged ({_reason(error)})") from error
        try:
            self._open(max_pixels, audio=audio)
        except BaseException:
            self.close()
            raise

    def _open(self, max_pixels: int, *, audio: bool) -> None:
        streams = self._container.streams
        videos = [stream for stream in streams.video if not _is_still(stream) and stream.codec_context is not None]
        if not videos or "image2" in self._container.format.name or self._container.format.name.endswith("_pipe"):
            raise UnreadableImage("it has no video that can be read")
        self.stream: VideoStream = max(videos, key=lambda stream: stream.width * stream.height)
        self._decoder = _decoder(self.stream)
        self._decoder.thread_type = "AUTO"
        self._decoder.options = {"max_pixels": str(max_pixels)}  # the pictures may be larger than the file says
        width, height = self.stream.width, self.stream.height
        if width * height > max_pixels:
            raise TooLarge(f"{width} x {height} pixels are more than {max_pixels / 1e6:g} megapixels")
        self.copied = [stream for stream in streams if self._is_copied(stream, audio=audio)]
        self._last: int | None = None
        self._index = 0
        self._given = 0  #: packets of which the decoder is to make a picture
        self._key: int | None = None  #: time stamp of the first that needs no other
        codec = self.stream.codec_context.codec.canonical_name
        self._countable = codec in PICTURE_PER_PACKET
        self._failed = codec == "hevc"  #: whether the decoder refused a packet; HEVC's drops pictures without a word
        self._joined = _Joined(max(Fraction(1, 5), 4 / self.rate))
        self.matrix: NDArray[np.int32] | None = None  #: the nine numbers of the display matrix
        self._orientation = 1
        self._items = self._read()
        self._ahead: list[Picture | Packet[Any]] = []
        while not self._ahead or not isinstance(self._ahead[-1], Picture):
            item = next(self._items, None)
            if item is None:
                raise UnreadableImage("not one picture of the video can be read")
            self._ahead.append(item)
        self.first: VideoFrame = self._ahead[-1].frame

    def _is_copied(self, stream: Stream, *, audio: bool) -> bool:
        """Return whether a stream is copied; notes what is left out."""
        if stream is self.stream or (stream.type == "audio" and not audio) or _is_still(stream):
            return False  # a still is the cover: a picture that shows faces
        if stream.type in ("audio", "subtitle"):
            if stream.codec_context is not None:
                return True
            self.notes[f"stream {stream.index} ({stream.type}) cannot be read and is left out"] += 1
        else:
            self.notes[f"stream {stream.index} ({stream.type}) may show where or who and is left out"] += 1
        return False

    def unseen(self) -> list[str]:
        """Return, after the last picture, what may show something and was not among the pictures."""
        others = len(self._container.streams.video) - 1
        more = [f"{others} more video tracks or covers, not looked at"] if others else []
        notes = [item for item in sorted(self.notes.items()) if not item[0].startswith("stream ")]  # these say what is not copied
        return more + [text if count == 1 else f"{text}: {count}" for text, count in notes]

    def to_copy(self, *, subtitles: bool) -> list[Stream]:
        """Return the streams to copy, with the subtitles or without."""
        return [stream for stream in self.copied if subtitles or stream.type != "subtitle"]

    def beyond(self, held: set[str], *, subtitles: bool) -> dict[str, str]:
        """Return what of the streams to copy a container does not hold, by their type, in words.

        :param held: the names of the codecs that the container holds
        """
        names: dict[str, set[str]] = {}
        for stream in self.to_copy(subtitles=subtitles):
            if stream.codec_context.name not in held:
                names.setdefault(stream.type, set()).add(stream.codec_context.name)
        return {kind: f"no {kind} of the kind {' or '.join(sorted(found))}" for kind, found in sorted(names.items())}

    @property
    def made(self) -> Literal["", "anonymized", "preview"]:
        """Whether faceblur wrote the file, and then what."""
        return next((made for value in self._container.metadata.values() if (made := made_by(value))), "")

    @property
    def suffix(self) -> str:
        """The ending under which a video of this kind is written, for one that came without a name."""
        family = self._container.format.name.partition(",")[0]
        if family == "mov":
            return ".mov" if self._container.metadata.get("major_brand", "qt").startswith("qt") else ".mp4"
        if family == "matroska":
            codecs = {stream.codec_context.codec.canonical_name for stream in (self.stream, *self.copied)}
            return ".webm" if codecs <= WEBM_CODECS else ".mkv"
        return ".avi" if family == "avi" else ".mkv"

    @property
    def orientation(self) -> int:
        """EXIF's number for how pictures must be turned to be upright."""
        return self._orientation

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright pictures, pixels."""
        height, width = self.first.height, self.first.width
        return (width, height) if self.orientation in (5, 6, 7, 8) else (height, width)

    @property
    def rate(self) -> Fraction:
        """Frames per second, the mean where the rate varies."""
        rates = (self.stream.guessed_rate, self.stream.average_rate)
        return next((rate for rate in rates if rate and rate <= FASTEST), Fraction(25))

    @property
    def seconds(self) -> float:
        """How long the file says that it is; 0 if it says nothing."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        return (self._container.duration or 0) / 1e6

    def __iter__(self) -> Iterator[Picture | Packet[Any]]:
        """Yield pictures and packets of copied streams in the order of the file. Once only."""
        while self._ahead:
            yield self._ahead.pop(0)
        yield from self._items
        if self._failed and self._countable and self._given > self._index:
            self.notes[f"{self._given - self._index} of {self._given} pictures are missing"] += 1
        if self._last is not None and self.stream.time_base:
            start = (self.stream.start_time or 0) * self.stream.time_base
            if not self.stream.duration:  # what is known is how long the file is, from its first sound or picture
                from_zero = "matroska" in self._container.format.name
                start = Fraction(0 if from_zero else self._container.start_time or 0, 1_000_000)
            read = float(self._last * self.stream.time_base - start + 1 / self.rate)
            if read < self.seconds - max(0.5, 0.02 * self.seconds):
                self.notes[f"ends after {read:.1f} s, and says that it has {self.seconds:.1f} s"] += 1

    def _read(self) -> Iterator[Picture | Packet[Any]]:
        import av

        failed = 0
        while failed < 100:  # in a row: a file can be damaged in many places, but must also come to an end
            try:
                for packet in self._container.demux([self.stream, *self.copied]):
                    failed = 0
                    yield from self._items_of(packet)
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                failed += 1
                self.notes[f"damaged places ({_reason(error)})"] += 1

    def _items_of(self, packet: Packet[Any]) -> Iterator[Picture | Packet[Any]]:
        if self._joined.move(packet):
            self.notes["places where time begins anew; the rest follows what was before"] += 1
        if packet.stream is self.stream:
            yield from self._decode(packet)
        elif packet.size:  # an empty one ends its stream
            yield packet

    def _decode(self, packet: Packet[Any]) -> Iterator[Picture]:
        import av

        self._count(packet)
        try:
            frames = self._decoder.decode(packet)
            # Only the decoder that was opened with the file is told how the pictures are turned.
            turned = packet.decode() if self._index == 0 and self._decoder is not self.stream.codec_context else frames
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            self.notes[f"damaged packets of the video ({_reason(error)})"] += 1
            self._failed = True
            return
        if self._index == 0 and turned:
            assert isinstance(turned[0], av.VideoFrame)
            self.matrix = _matrix(turned[0])
            self._orientation = _orientation(self.matrix)
        for frame in frames:
            yield self._picture(frame)

    def _count(self, packet: Packet[Any]) -> None:
        """Count a packet if a picture is to come of it: not if it needs one from before the file begins."""
        if self._key is None and packet.is_keyframe:
            self._key = packet.pts or 0
        known = self._key is not None and (packet.pts is None or packet.pts >= self._key)
        self._given += bool(known and packet.size and not packet.is_discard)

    def _picture(self, frame: VideoFrame) -> Picture:
        self._countable &= not frame.interlaced_frame  # its fields may come in packets of their own
        if frame.is_corrupt:
            self.notes["damaged pictures, repaired by the decoder"] += 1
        brings = _brought(frame)  # now: PyAV's view of it is wrong as soon as the frame is changed
        if frame.format.has_palette or frame.format.is_bit_stream:
            frame = _unfolded(frame)
        if self._index and (frame.width, frame.height) != (self.first.width, self.first.height):
            raise UnreadableImage("the size of the picture changes within the video; split it there")
        tick = self.stream.time_base or Fraction(1, 90_000)
        step = max(1, round(1 / (self.rate * tick)))
        pts = frame.pts if frame.pts is not None else (0 if self._last is None else self._last + step)
        if self._last is not None and pts <= self._last:
            self.notes["time stamps that do not increase"] += 1
            pts = self._last + 1
        frame.pts, frame.time_base = pts, tick
        frame.pict_type = 0  # the encoder chooses for itself
        self._last = pts
        start = pts if self._index == 0 else self.first.pts or 0
        picture = Picture(frame, self._index, float((pts - start) * tick), self._orientation, brings)
        self._index += 1
        return picture

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """Return what decodes a stream. :raises FaceblurError: if it would lose the transparency"""
    from av.codec import CodecContext

    if stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    name = ALPHA_DECODERS.get(stream.codec_context.codec.canonical_name)
    try:
        if name:
            return cast("VideoCodecContext", CodecContext.create(name, "r"))
    except ValueError:  # this installation does not have it
        pass
    raise FaceblurError(f"the transparency of {stream.codec_context.name} cannot be read; convert the video to ProRes or FFV1")


def _unfolded(frame: VideoFrame) -> VideoFrame:
    """Return a frame of a palette or of bits as one of bytes, with transparency if any of it is transparent."""
    made = frame.reformat(format="bgra")
    return made if (_plane(made, 0)[..., 3] < 255).any() else frame.reformat(format="rgb24")


def _is_still(stream: Stream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image))


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or " ".join(str(error).split()))[:200]


def _matrix(frame: VideoFrame) -> NDArray[np.int32] | None:
    """Return the nine numbers of a frame's display matrix; None if it has none."""
    side_data: Any
    try:
        side_data = frame.side_data
        return np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), np.int32)
    except KeyError:
        return None
    except ValueError:  # a kind that PyAV does not know, such as EXIF data, hides all others
        if frame.rotation:
            raise FaceblurError("its pictures are turned and hold data that PyAV cannot read; write them upright first") from None
        return None


def _brought(frame: VideoFrame) -> frozenset[str]:
    """Return the names of a frame's side data; none if there is a kind that PyAV does not know."""
    try:
        side_data: Any = frame.side_data
        return frozenset(data.type.name for data in side_data)
    except ValueError:
        return frozenset()


def _orientation(matrix: NDArray[np.int32] | None) -> int:
    """Return EXIF's number for a display matrix; a slanted one counts as the nearest."""
    if matrix is None:
        return 1
    a, b, c, d = (int(np.sign(matrix[i])) if abs(matrix[i]) > 1 << 15 else 0 for i in (0, 1, 3, 4))
    known = {
        (1, 0, 0, 1): 1,
        (-1, 0, 0, 1): 2,
        (-1, 0, 0, -1): 3,
        (1, 0, 0, -1): 4,
        (0, 1, 1, 0): 5,
        (0, 1, -1, 0): 6,
        (0, -1, -1, 0): 7,
        (0, -1, 1, 0): 8,
    }
    return known.get((a, b, c, d), 1)


@contextlib.contextmanager
def written_video(target: Path, reader: VideoReader, encoding: Encoding, software: str) -> Iterator[VideoWriter]:
    """Yield a writer for a video beside its final name, then finish and rename it; on any failure nothing is left behind.

    :param software: what the file says it was written by
    :raises FaceblurError: if the target cannot be written, or cannot hold what the file has
    """
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with _writing(target):
            name = stack.enter_context(whole_file(target))
        writer = VideoWriter(name, target, reader, encoding, software)
        try:
            yield writer
            writer.finish()
        except BaseException:
            writer.abandon()
            raise


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn what the system or FFmpeg says about writing into an error that names the file."""
    import av

    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        raise FaceblurError(f"{target} cannot be written ({_reason(error)})") from error


class VideoWriter:
    """Writes pictures and packets to a file; see :func:`written_video`."""

    def __init__(self, name: str, target: Path, reader: VideoReader, encoding: Encoding, software: str) -> None:
        import av

        self._target, self._reader = target, reader
        self.notes = reader.notes
        self.encoder = ""  #: the name of the encoder in use
        self.pixel_format = ""  #: FFmpeg's name of what is written
        self._subtitles = encoding.subtitles  #: whether closed captions are wanted
        self._range = 0  #: 1 limited or 2 full, of YUV that is written; 0: as FFmpeg converts it
        self._space: int | None = None  #: swscale's number of the matrix that YUV is written with; None: the pictures' own
        self._durations: dict[int, int] = {}
        self._written = 0
        muxer = MUXERS[target.suffix.lower()]
        options = {"fflags": "+bitexact"}  # no name and version of a library, no random numbers
        if muxer in ("mp4", "mov"):
            options["movflags"] = "+faststart"
        self._container: OutputContainer = av.open(name, "w", format=muxer, container_options=options)
        try:
            self._container.metadata["comment"] = software
            self.stream = self._add_video(muxer, encoding)
            if lacking := reader.beyond(self._container.supported_codecs, subtitles=encoding.subtitles):
                advice = {"audio": "the sound out by --no-audio", "subtitle": "subtitles out by --no-subtitles"}
                raise FaceblurError(
                    f"{muxer} holds {' and '.join(lacking.values())}; name an output that ends in .mkv, "
                    f"or leave {' and '.join(advice[kind] for kind in lacking)}"
                )
            copies = {stream.index: self._add_copy(stream) for stream in reader.to_copy(subtitles=encoding.subtitles)}
            self._copies = {index: stream for index, stream in copies.items() if stream is not None}
            with ordinary_threads():
                self._container.start_encoding()
            unknown = sorted(dict(encoding.options).keys() & self.stream.codec_context.options)  # what it left over
            if unknown:
                raise FaceblurError(f"{self.encoder} has no option {unknown[0]}; correct --encoder-option")
        except (av.error.FFmpegError, ValueError) as error:
            self.abandon()
            asked = encoding.quality is not None or encoding.preset or encoding.options
            mend = "correct --crf, --preset or --encoder-option, or " if asked else ""
            raise FaceblurError(
                f"the video cannot be encoded with {self.encoder} ({_reason(error)}); {mend}choose another with --video-encoder"
            ) from error
        except BaseException:
            self.abandon()
            raise

    def _add_video(self, muxer: str, encoding: Encoding) -> VideoStream:
        source, first = self._reader.stream, self._reader.first
        self.encoder, self.pixel_format = _choose(
            encoding.encoder,
            source.codec_context.codec.canonical_name,
            first.format.name,
            (first.width, first.height),
            muxer,
            self._container.supported_codecs,
        )
        if self.pixel_format != first.format.name.replace("yuvj", "yuv"):
            self.notes[f"pixel format {first.format.name} is written as {self.pixel_format}"] += 1
        for asked, scale, name in (
            (encoding.quality is not None, ENCODERS[self.encoder].quality, "CRF"),
            (encoding.preset, ENCODERS[self.encoder].speed, "presets"),
        ):
            if asked and not scale:
                self.notes[f"encoder {self.encoder} has no {name}; what was asked for does not count"] += 1
        ENCODERS[self.encoder].check(encoding.quality, self.encoder)
        stream: Any = self._container.add_stream(self.encoder, rate=self._reader.rate, options=_options(self.encoder, encoding))
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, self.pixel_format
        context = stream.codec_context
        context.time_base = stream.time_base = _time_base(self.encoder, source.time_base or 1 / self._reader.rate)
        aspect = self._reader.stream.sample_aspect_ratio or source.sample_aspect_ratio or Fraction(1)
        context.sample_aspect_ratio = aspect
        if aspect != 1 and muxer in ("matroska", "webm") and ENCODERS[self.encoder].codec not in ("h264", "hevc"):
            self.notes[f"pixel aspect {aspect} is lost: Matroska is not told of it with {self.encoder}; .mp4 keeps it"] = 1
        self._set_colours(context, muxer)
        if muxer == "avi":
            context.max_b_frames = 0  # it has no place for their time stamps
        if muxer in ("mp4", "mov") and ENCODERS[self.encoder].codec == "hevc":
            context.codec_tag = "hvc1"  # the one that Apple's players read
        if first.interlaced_frame and self.encoder in ("libx264", "libx265", "mpeg4", "prores_ks"):
            context.flags |= 1 << 18 | 1 << 29  # interlaced DCT and motion estimation
        if self._reader.matrix is not None and self._reader.orientation != 1:
            if muxer == "avi":
                raise FaceblurError("AVI cannot hold that a video is turned; name an output that ends in .mkv or .mp4")
            stream.set_display_matrix(self._reader.matrix.tolist())
        made: VideoStream = stream
        return made

    def _set_colours(self, context: Any, muxer: str) -> None:
        """Carry over what the numbers of the pixels mean, as far as what is written can mean it."""
        source, first = self._reader.stream.codec_context, self._reader.first
        for tag in ("color_range", "color_primaries", "color_trc", "colorspace"):
            setattr(context, tag, getattr(source, tag))
        if first.format.name.startswith("yuvj"):
            context.color_range = 2
        if _is_rgb(self.pixel_format) or _is_grey(self.pixel_format):
            return
        self._set_matrix(context)
        self._set_range(context, muxer)

    def _set_range(self, context: Any, muxer: str) -> None:
        """Choose the range of the YUV that is written: the video's, if the file can say so; that of RGB is its own affair."""
        first, full = self._reader.first, ENCODERS[self.encoder].full
        plain = _is_rgb(first.format.name)
        self._range = 2 if not plain and 2 in (context.color_range, int(first.color_range)) else 1
        if self.encoder == "mjpeg":
            if _range(first) == 1:
                self.notes["colours are written in full range, the only one that MJPEG has"] += 1
            self._range = 2
        elif self._range == 2 and full is not None and muxer not in full:
            self.notes[f"colours are written in limited range, the only one that {self.encoder} has in {muxer}"] += 1
            self._range = 1
        if self._range == 2 or context.color_range or plain:  # what has no tag is of limited range, and stays so
            context.color_range = self._range

    def _set_matrix(self, context: Any) -> None:
        """Say how the YUV that is written becomes RGB. Files of RGB have the matrix 0, by which players take YUV for RGB."""
        first, only = self._reader.first, ENCODERS[self.encoder].matrix
        if _is_rgb(first.format.name):
            context.colorspace = only or _matrix_for(first, int(context.color_primaries))
            self._space = _MATRICES[context.colorspace]
        elif context.colorspace == 0:  # ProRes says so where it does not know; then players guess
            context.colorspace = 2
        elif only and context.colorspace in _MATRICES:
            context.colorspace = only
            self._space = _MATRICES[only]

    def _add_copy(self, source: Stream) -> Stream | None:
        try:
            stream = self._container.add_stream_from_template(source)
        except ValueError:
            self.notes[f"stream {source.index} ({source.type}) cannot be copied and is left out"] += 1
            return None
        context: Any = stream.codec_context
        if source.codec_context and source.codec_context.name == "vorbis":
            context.extradata = without_comments(bytes(source.codec_context.extradata or b""))
        if source.type == "subtitle":
            self.notes[f"stream {source.index} (subtitle) is copied as it is, and may tell where or who"] += 1
        if source.time_base:
            stream.time_base = source.time_base
        if source.language:
            stream.metadata["language"] = source.language
        stream.disposition = source.disposition
        return stream

    def write(self, picture: Picture) -> None:
        """Encode one picture. :raises FaceblurError: if the file cannot be written."""
        frame = picture.frame
        self._note_lost(picture.brings)
        if frame.format.name != self.pixel_format and _has_alpha(frame.format.name) and not _has_alpha(self.pixel_format):
            raise FaceblurError(f"the video becomes transparent after {picture.time:.1f} s; split it there")
        frame = self._converted(frame)
        self._written += 1
        if frame.pts is not None and frame.duration:
            self._durations[frame.pts] = frame.duration
        with _writing(self._target), ordinary_threads():
            self._mux(self.stream.encode(frame))

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame with the pixel format, the range and the matrix that are written."""
        if not self._range:
            return frame if frame.format.name == self.pixel_format else frame.reformat(format=self.pixel_format)
        spread = _range(frame)
        if _is_grey(frame.format.name):
            frame = frame.reformat(format=self.pixel_format, dst_color_range=2)  # as it is: swscale takes any grey for full range
        mapped = self._space is not None and _MATRICES.get(int(frame.colorspace)) != self._space
        if frame.format.name == self.pixel_format and spread == self._range and not mapped:
            return frame
        return frame.reformat(
            format=self.pixel_format, dst_colorspace=self._space, src_color_range=spread, dst_color_range=self._range
        )

    def _note_lost(self, brings: frozenset[str]) -> None:
        """Note once what a picture brings with it beside its pixels, if it is lost, or may tell something."""
        if "A53_CC" in brings and self._subtitles:
            copied = ENCODERS[self.encoder].captions
            what = "copied as they are, and may tell where or who" if copied else f"lost: {self.encoder} writes none"
            self.notes[f"closed captions are {what}"] = 1
        if "ICC_PROFILE" in brings:
            self.notes["the pictures' colour profile is lost"] = 1
        if brings & HDR:
            self.notes["HDR metadata (mastering display, light level) is lost"] = 1

    def _mux(self, packets: list[Any]) -> None:
        tick = self._reader.stream.time_base or Fraction(1, 90_000)
        for packet in packets:
            duration = self._durations.pop(round(packet.pts * packet.time_base / tick), None)
            if duration:
                packet.duration = round(duration * tick / packet.time_base)
            self._container.mux(_without_profile(packet) if self.encoder == "mjpeg" else packet)

    def copy(self, packet: Packet[Any]) -> None:
        """Copy one packet of another stream, bit by bit. :raises FaceblurError: if the file cannot be written."""
        import av

        index = packet.stream.index
        stream = self._copies.get(index)
        if stream is None:
            return
        if packet.is_discard and not -PREROLL < float((packet.pts or 0) * (packet.time_base or 0)) < 0:
            self.notes[f"packets of stream {index} that the file says not to play, left out"] += 1
            return
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is None:
            self.notes[f"packets of stream {index} without a time, left out"] += 1
            return
        packet.stream = stream
        with _writing(self._target):
            try:
                self._container.mux(packet)
            except (av.error.ArgumentError, av.error.InvalidDataError):
                self.notes[f"packets of stream {index} that cannot be copied"] += 1

    def finish(self) -> None:
        """Encode what is waiting and end the file. :raises FaceblurError: if the file cannot be written."""
        with _writing(self._target):
            with ordinary_threads():
                packets: list[Any] = self.stream.encode(None)
                if self._written < 3:  # x265 leaves their decoding times as they were in memory
                    for packet in packets:
                        packet.dts = packet.pts
                self._mux(packets)
            self._container.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(Exception):  # whatever it says now, the file is thrown away
            self._container.close()


def _without_profile(packet: Any) -> Any:
    """Return a JPEG picture without its ICC profile, which may name a person or a machine; FFmpeg's encoder copies it."""
    import av

    jpeg = bytes(packet)
    kept, place = jpeg[:2], 2
    while jpeg[place : place + 1] == b"\xff" and jpeg[place + 1] not in b"\xda\xd9":  # until the pixels
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        kept += b"" if jpeg[place + 4 : end].startswith(b"ICC_PROFILE\0") else jpeg[place:end]
        place = end
    if place == len(kept):
        return packet
    made: Any = av.Packet(kept + jpeg[place:])
    for name in ("stream", "time_base", "pts", "dts", "duration", "is_keyframe"):
        setattr(made, name, getattr(packet, name))
    return made


def without_comments(headers: bytes) -> bytes:
    """Return the three headers of Vorbis sound, as containers hold them, without titles, names and cover in the second.

    What is no such headers is returned as it is. Vorbis I specification, 5.2; Matroska's codec mappings.
    """
    first, comments, setup = _vorbis_headers(headers)
    if not comments.startswith(b"\3vorbis"):
        return headers
    empty = b"\3vorbis" + bytes(8) + b"\1"
    return b"\2" + b"\xff" * (len(first) // 255) + bytes([len(first) % 255, len(empty)]) + first + empty + setup


def _vorbis_headers(headers: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the three, laced as Xiph does it or each after its length in 16 bits, as FFmpeg knows them."""
    sizes: list[int] = []
    place = 1
    while len(sizes) < 2 and headers[:1] == b"\2":
        end = place
        while headers[end : end + 1] == b"\xff":
            end += 1
        sizes.append(255 * (end - place) + sum(headers[end : end + 1]))
        place = end + 1
    if sizes:
        second = place + sizes[0]
        return headers[place:second], headers[second : second + sizes[1]], headers[second + sizes[1] :]
    parts = []
    place = 0
    for _ in range(3):
        end = place + 2 + int.from_bytes(headers[place : place + 2], "big")
        parts.append(headers[place + 2 : end])
        place = end
    return parts[0], parts[1], parts[2]


def _choose(encoder: str, codec: str, pixel_format: str, size: tuple[int, int], muxer: str, held: set[str]) -> tuple[str, str]:
    """Return the encoder and the pixel format to write.

    :param encoder: the user's choice, or empty
    :param size: width and height, pixels
    :param held: the names of the codecs that the container holds
    :raises FaceblurError: if this installation cannot run the encoder, or it would lose the video's transparency
    """
    usual = [name for name, row in ENCODERS.items() if row.codec == codec and not _is_hardware(name)]
    fitting = [name for name in (*usual, *FALLBACKS.get(muxer, FALLBACKS[""])) if name in held]
    candidates = [encoder] if encoder else fitting
    if _has_alpha(pixel_format):
        candidates = [name for name in candidates if muxer in ENCODERS[name].alpha]
        if not candidates:
            able = ", ".join(name for name, row in ENCODERS.items() if muxer in row.alpha)
            raise FaceblurError(f"{encoder} loses the video's transparency in {muxer}; choose another --video-encoder: {able}")
    wanted = pixel_format.replace("yuvj", "yuv")
    plain = _is_rgb(wanted)
    found = [(name, _closest(pixel_format, _formats(name, size))) for name in candidates]
    # Of two that lose as much, the first: it is the file's own codec, or one that more players know.
    return min(found, key=lambda choice: (plain and choice[1] != wanted, *_lost(wanted, choice[1])))


def _is_hardware(encoder: str) -> bool:
    return "_" in encoder.removesuffix("_ks")


def _formats(encoder: str, size: tuple[int, int]) -> list[str]:
    """Return the pixel formats that an encoder takes and keeps. :raises FaceblurError: if this installation does not have it.

    Hardware takes RGB, too, and makes of it what it has: YUV 4:2:0. H.264 and HEVC have no half samples of colour: of sizes that
    are not even they keep 4:4:4.

    :param size: width and height, pixels
    """
    from av.codec import Codec

    try:
        forms = Codec(encoder, "w").video_formats or []
    except ValueError:
        raise FaceblurError(f"this installation of PyAV has no encoder {encoder}; choose another with --video-encoder") from None
    if _is_hardware(encoder):
        return [form.name for form in forms if not form.is_rgb or form.name.startswith("gbrp")]
    if ENCODERS[encoder].codec not in ("h264", "hevc"):
        return [form.name for form in forms]
    return [form.name for form in forms if not any(side * part % 64 for side, part in zip(size, _chroma(form.name), strict=True))]


def _closest(pixel_format: str, known: list[str]) -> str:
    """Return the pixel format of ``known`` that loses the least of another."""
    from av.video.format import VideoFormat

    wanted = pixel_format.replace("yuvj", "yuv")  # the same with a range, which is a tag of its own
    if wanted in known or not known:
        return wanted

    def loss(name: str) -> tuple[float, ...]:
        form, mine = VideoFormat(name, 64, 64), VideoFormat(wanted, 64, 64)
        more = abs(math.prod(_chroma(wanted)) - math.prod(_chroma(name)))
        bits = abs(mine.components[0].bits - form.components[0].bits)
        return *_lost(wanted, name), form.is_rgb != mine.is_rgb, more, bits, len(form.components)

    return min((name for name in known if name not in ("cuda", "qsv", "amf")), key=loss, default=wanted)


def _lost(wanted: str, name: str) -> tuple[float, ...]:
    """Return how much of one pixel format another loses, by what is worst: transparency, samples of colour, bits."""
    from av.video.format import VideoFormat

    form, mine = VideoFormat(name, 64, 64), VideoFormat(wanted, 64, 64)
    opaque = _has_alpha(wanted) and not _has_alpha(name)
    (width, height), (other_width, other_height) = _chroma(wanted), _chroma(name)
    missing = width * height - min(width, other_width) * min(height, other_height)
    return opaque, missing, max(0, mine.components[0].bits - form.components[0].bits)


def _chroma(pixel_format: str) -> tuple[int, int]:
    """Return how many samples of colour a pixel format has in 64 x 64 pixels, of each kind: across and down."""
    from av.video.format import VideoFormat

    components = VideoFormat(pixel_format, 64, 64).components
    parts = components[1:3] if len(components) >= 3 else ()  # one component is grey, two are grey and alpha
    return max(((part.width, part.height) for part in parts), default=(0, 0))


def _options(name: str, encoding: Encoding) -> dict[str, str]:
    encoder = ENCODERS[name]
    options = dict(encoder.more)
    if encoder.quality:
        options[encoder.quality] = str(encoder.default if encoding.quality is None else encoding.quality)
    if encoder.speed:
        options[encoder.speed] = encoding.preset or encoder.pace
    if encoder.captions:
        options["a53cc"] = str(int(encoding.subtitles))
    return options | dict(encoding.options)


def _time_base(encoder: str, wanted: Fraction) -> Fraction:
    """Return the unit of time that the encoder counts in: the file's, or the finest that MPEG-4 allows."""
    if encoder != "mpeg4" or wanted.denominator <= 65_535:
        return wanted
    return wanted.limit_denominator(65_535) or Fraction(1, 65_535)


def encoded_clip(pictures: Iterable[Image], rate: Fraction, preset: str = "veryfast") -> bytes:
    """Return pictures of one size, its sides even, as an MP4 with H.264; the same version of PyAV makes the same bytes."""
    import av

    buffer, stream = io.BytesIO(), None
    with av.open(buffer, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": preset})
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
                stream.codec_context.thread_count = 1  # it decides the bytes
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    return buffer.getvalue()
