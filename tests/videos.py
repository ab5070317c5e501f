"""Make small videos with known truth, and look into videos."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from faceblur_core.media.video import ordinary_threads

RATE = Fraction(25)


def background(height: int = 240, width: int = 320) -> np.ndarray:
    """A picture without a face, from scikit-image."""
    from skimage import data

    return np.ascontiguousarray(data.coffee()[60 : 60 + height, 100 : 100 + width])


def face(astronaut: np.ndarray, side: int = 96) -> np.ndarray:
    """A real face with its hair, side x side; the face fills about the middle."""
    from PIL import Image

    return np.asarray(Image.fromarray(astronaut[40:200, 144:304]).resize((side, side), Image.Resampling.LANCZOS))


def composite(scene: np.ndarray, pieces: Sequence[tuple[np.ndarray, int, int]]) -> np.ndarray:
    """Return the scene with pieces on it, each with the x and y of its upper left corner; what leaves the scene is cut off."""
    made = scene.copy()
    height, width = scene.shape[:2]
    for piece, x, y in pieces:
        left, top, right, bottom = max(0, x), max(0, y), min(width, x + piece.shape[1]), min(height, y + piece.shape[0])
        if left < right and top < bottom:
            made[top:bottom, left:right] = piece[top - y : bottom - y, left - x : right - x]
    return made


def write(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    rate: Fraction = RATE,
    times: Sequence[int] | None = None,
    tick: Fraction | None = None,
    rotation: int = 0,
    audio: str = "",
    metadata: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video; ``times`` are in units of ``tick`` seconds, ``audio`` is a codec for a tone as long as the video."""
    tick = tick or 1 / rate
    with ordinary_threads(), av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, options={"crf": "15", "g": "12", **(options or {})})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pix_fmt
        stream.codec_context.time_base = stream.time_base = tick
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream(audio, rate=48_000) if audio else None
        times = times or range(len(pictures))
        seconds = float((times[-1] + 1) * tick)
        if sound is not None:
            for packet in _tone(sound, seconds):
                container.mux(packet)
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgba" if picture.shape[2] == 4 else "rgb24")
            space, spread = (tags or {}).get("colorspace"), (tags or {}).get("color_range")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=space, dst_color_range=spread)
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_subtitles(source: Path, path: Path, cover: bytes = b"") -> Path:
    """Write what is in a file with subtitles in German, ``Hello``, and a cover picture as an attachment of Matroska."""
    words = path.with_suffix(".srt")
    words.write_text("1\n00:00:00,100 --> 00:00:00,300\nHello\n")
    with av.open(str(source)) as pictures, av.open(str(words)) as lines, av.open(str(path), "w") as container:
        copies = {
            (one, stream.index): container.add_stream_from_template(stream) for one in (pictures, lines) for stream in one.streams
        }
        copies[lines, 0].metadata["language"] = "deu"
        if cover:
            container.add_attachment("cover.jpg", "image/jpeg", cover)
        for one in (pictures, lines):
            for packet in one.demux():
                if packet.size:
                    packet.stream = copies[one, packet.stream.index]
                    container.mux(packet)
    return path


def _tone(stream: av.AudioStream, seconds: float) -> list[av.Packet]:
    size = stream.codec_context.frame_size or 1024
    packets = []
    for start in range(0, int(seconds * 48_000), size):
        wave = np.sin(2 * np.pi * 440 * np.arange(start, start + size) / 48_000) * 0.3
        layout, form = stream.codec_context.layout.name, stream.codec_context.format.name
        samples = wave.astype(np.float32) if form.startswith("flt") else (wave * 32_000).astype(np.int16)
        channels = stream.codec_context.layout.nb_channels
        planes = np.tile(samples, (channels, 1)) if form.endswith("p") else np.repeat(samples, channels)[None]
        frame = av.AudioFrame.from_ndarray(planes, format=form, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def frames(path: Path) -> list[np.ndarray]:
    """Return all pictures as stored, RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times(path: Path) -> list[float]:
    """Return the times of all pictures, seconds."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[bytes, float]]:
    """Return all packets of the first stream of a kind: bytes and time in seconds."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [(bytes(packet), float(packet.pts * packet.time_base)) for packet in container.demux(stream) if packet.size]
