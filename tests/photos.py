"""Make picture files of every kind that a user may have."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms

GPS = {1: "N", 2: (47.0, 30.0, 0.0), 3: "E", 4: (8.0, 30.0, 0.0)}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def opened(path: Path) -> Image.Image:
    """Return a picture file opened, with no file left open."""
    return Image.open(io.BytesIO(path.read_bytes()))


def encoded(pixels: np.ndarray, form: str, mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, form, **options)
    return buffer.getvalue()


def frames(pictures: list[np.ndarray], form: str, **options: object) -> bytes:
    images = [Image.fromarray(picture) for picture in pictures]
    buffer = io.BytesIO()
    images[0].save(buffer, form, save_all=True, append_images=images[1:], **options)
    return buffer.getvalue()


def exif(**tags: object) -> Image.Exif:
    """EXIF with a caption and a maker note, and an orientation and GPS if they are asked for."""
    made = Image.Exif()
    if "orientation" in tags:
        made[274] = tags["orientation"]
    made[270] = "a secret caption"
    made[271] = "Camera Works"
    made[305] = "Camera firmware 9"
    details = made.get_ifd(0x8769)
    details[0x9003] = "2026:01:02 03:04:05"
    details[0x927C] = b"maker note with a serial number"
    details[0xA002], details[0xA003] = 4000, 3000
    if tags.get("gps"):
        made.get_ifd(0x8825).update(GPS)
    return made


def with_thumbnail(made: Image.Exif, jpeg: bytes) -> bytes:
    """EXIF with a second directory behind the first, of a JPEG; Pillow writes none."""
    head, tiff = made.tobytes()[:6], bytearray(made.tobytes()[6:])
    order = "<" if tiff[:2] == b"II" else ">"
    first = struct.unpack(f"{order}I", tiff[4:8])[0]
    following = first + 2 + 12 * struct.unpack(f"{order}H", tiff[first : first + 2])[0]
    start = len(tiff)
    tiff[following : following + 4] = struct.pack(f"{order}I", start)
    entries = struct.pack(f"{order}HHIIHHII", 513, 4, 1, start + 30, 514, 4, 1, len(jpeg))
    return head + bytes(tiff) + struct.pack(f"{order}H", 2) + entries + bytes(4) + jpeg


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return how a camera stores an upright picture under an EXIF orientation."""
    return {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }[orientation](pixels).copy()


def deep(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return 8-bit pixels as 16-bit ones with random low bytes."""
    low = np.random.default_rng(seed).integers(-128, 129, pixels.shape)
    return np.clip(pixels.astype(np.int32) * 257 + low, 0, 65535).astype(np.uint16)


def deep_png(pixels: np.ndarray) -> bytes:
    swapped = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return cv2.imencode(".png", np.ascontiguousarray(swapped))[1].tobytes()


def deep_tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A PNG of a few hundred bytes that says it is 2.5 gigapixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(bytes(1000))), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
