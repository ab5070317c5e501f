"""Requests that no well-meaning client makes, by chance: for tests of the web server and ``benchmarks/web_hostile.py``."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import videos
from skimage import data

import photos

SMALL = data.astronaut()[40:200:2, 140:300:2]
PICTURES = [
    photos.encoded(SMALL, "JPEG", exif=photos.exif(orientation=6, gps=True)),
    photos.encoded(SMALL, "PNG"),
    photos.encoded(np.dstack([SMALL, SMALL[..., 0]]), "WEBP"),
    photos.encoded(SMALL, "TIFF", compression="tiff_lzw"),
    photos.encoded(SMALL, "BMP"),
    photos.encoded(SMALL, "AVIF"),
    photos.frames([SMALL, SMALL[::-1]], "GIF"),
    photos.deep_png(photos.deep(SMALL)),
    photos.deep_tiff(photos.deep(SMALL)),
    photos.png_bomb(),
]


def _clip() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        head = videos.face(data.astronaut())
        scene = videos.background()
        return videos.write(
            Path(folder) / "clip.mp4", [videos.composite(scene, [(head, 9 * t, 70)]) for t in range(6)]
        ).read_bytes()


VIDEOS = [
    _clip(),
    b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    b"ffconcat version 1.0\nfile /etc/passwd\n",
    b"RIFF\xff\xff\xff\xffAVI LIST",
]


def spoilt(chance: random.Random, kinds: list[bytes] = PICTURES) -> bytes:
    """Return a file's bytes with something wrong."""
    body = bytearray(chance.choice(kinds))
    match chance.randrange(6):
        case 0:
            del body[chance.randrange(len(body)) :]
        case 1:
            for _ in range(chance.randrange(1, 30)):
                body[chance.randrange(len(body))] = chance.randrange(256)
        case 2:
            at = chance.randrange(min(200, len(body)))  # in the header, where sizes and offsets are
            body[at : at + 4] = chance.randbytes(4)
        case 3:
            body += chance.choice([b"<script>", b"PK\x03\x04" + bytes(100), b"%PDF-1.7", *PICTURES])
        case 4:
            body = bytearray(
                chance.choice([b"<?php ", b"#!/bin/sh\n", b"GIF89a", b"\xff\xd8\xff", b"RIFF\xff\xff\xff\xffWEBP"]) + body
            )
        case _:
            body = bytearray(chance.randbytes(chance.randrange(3000)))
    return bytes(body)


METHODS = [*["yunet"] * 10, "haar+solid", "../../etc/passwd", "a.yaml", "\0", "yunet|" * 50, "é", ""]
OPTIONS = [*[""] * 6, "mask.grow=2", "detector.weights=/etc/passwd", "a" * 5000]
FORMATS = [*[""] * 6, "gif", "tiff", "mkv", "../x"]


def query(chance: random.Random) -> dict[str, str]:
    """Return what is asked for; some of it is allowed."""
    asked = {"method": chance.choice(METHODS), "set": chance.choice(OPTIONS), "format": chance.choice(FORMATS)}
    return {name: value for name, value in asked.items() if value}


NAMES = ["a" * 32, "..%2f..%2fetc%2fpasswd", "%00", "x", "'--", "%c3%a9" * 11]


def request(chance: random.Random) -> tuple[str, str, dict[str, str], bytes]:
    """Return an HTTP method, a path, a query and a body: photos and videos that are spoilt, and jobs that there are not."""
    match chance.randrange(8):
        case 0 | 1 | 2 | 3:
            return "POST", "/v1/anonymize", query(chance), spoilt(chance)
        case 4:
            return "POST", "/v1/compare", query(chance), spoilt(chance)
        case 5 | 6:
            return "POST", "/v1/jobs", query(chance), spoilt(chance, VIDEOS)
        case _:
            path = f"/v1/jobs/{chance.choice(NAMES)}{chance.choice(['', '/result'])}"
            return chance.choice(["GET", "DELETE", "PUT"]), path, {}, b""
