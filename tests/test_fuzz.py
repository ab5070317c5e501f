"""A thousand damaged files: each is reported or comes out whole, none is lost, nothing hangs, no traceback."""

import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

import photos
from conftest import spawn

SEED, COUNT = 20261120, 1000


def seeds():
    """Small valid files of every kind."""
    rng = np.random.default_rng(SEED)
    picture = rng.integers(0, 256, (24, 32, 3), np.uint8)
    alpha = np.dstack([picture, picture[..., :1]])
    tags = photos.exif(orientation=6, gps=True)
    moving = [np.roll(picture, shift, axis=1) for shift in range(3)]
    buffer = io.BytesIO()
    Image.fromarray(picture).quantize(16).save(buffer, "PNG", transparency=1)
    return {
        ".jpg": [
            photos.encoded(picture, "JPEG", exif=tags, icc_profile=photos.SRGB),
            photos.encoded(picture, "JPEG", progressive=True),
            photos.encoded(alpha, "JPEG", "CMYK"),
            photos.encoded(picture[..., 0], "JPEG"),
        ],
        ".png": [
            photos.encoded(alpha, "PNG", exif=tags),
            buffer.getvalue(),
            photos.deep_png(photos.deep(picture)),
            photos.frames(moving, "PNG", duration=50),
            photos.png_bomb(),
            photos.png_bomb(13_000, 13_000),
        ],
        ".gif": [photos.frames(moving, "GIF", duration=50), photos.encoded(picture, "GIF")],
        ".webp": [photos.encoded(alpha, "WEBP", exif=tags), photos.frames(moving, "WEBP", duration=50, lossless=True)],
        ".tif": [
            photos.encoded(picture, "TIFF", compression="tiff_lzw"),
            photos.deep_tiff(photos.deep(picture), compression="zlib"),
            photos.frames(moving, "TIFF"),
            photos.encoded(alpha, "TIFF", "CMYK"),
        ],
        ".bmp": [photos.encoded(picture, "BMP"), photos.encoded(picture[..., 0], "BMP")],
        ".avif": [photos.encoded(picture, "AVIF"), photos.frames(moving, "AVIF", duration=50)],
    }


def mutated(data, rng):
    """Return the bytes with one to three faults: flips, cuts, repeats, swaps, extreme numbers."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        at = int(rng.integers(len(data)))
        if rng.random() < 0.5:
            at = min(at, int(rng.integers(1, 120)), len(data) - 1)  # headers are where the harm is
        fault = rng.integers(6)
        if fault == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif fault == 1:
            data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
        elif fault == 2:
            del data[at:]
        elif fault == 3:
            del data[at : at + int(rng.integers(1, 20))]
        elif fault == 4:
            data[at:at] = data[at : at + int(rng.integers(1, 40))]
        else:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\1\0\0"])
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(SEED)
    kinds = [(suffix, data) for suffix, some in seeds().items() for data in some]
    for number in range(COUNT):
        suffix, data = kinds[number % len(kinds)]
        name = f"{number:04}{suffix if rng.random() < 0.9 else '.jpg'}"
        (folder / name).write_bytes(mutated(data, rng))
    return folder


def test_a_thousand_damaged_files(folder, tmp_path):
    out, manifest = tmp_path / "out", tmp_path / "m.jsonl"
    done = spawn(
        "run", "-m", "haar", folder, "-o", out, "--manifest", manifest, "--max-megapixels", 100, "--again", "--workers", 2
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, [
        line for line in done.stderr.splitlines() if "internal error" in line
    ]
    rows = {row["input"]: row for row in map(json.loads, manifest.read_text().splitlines())}
    assert set(rows) == {path.name for path in folder.iterdir()} and len(rows) == COUNT
    failed = {name for name, row in rows.items() if row["outcome"] == "error"}
    written = {path.name for path in out.iterdir()}
    assert written == set(rows) - failed and 100 < len(written) < 900
    reported = {line.split(": ")[1].rpartition("/")[2] for line in done.stderr.splitlines() if line.startswith("faceblur: /")}
    assert reported == failed
    for name in written:  # what is written is whole
        with Image.open(out / name) as image:
            for frame in range(getattr(image, "n_frames", 1)):
                image.seek(frame)
                image.load()


def test_a_bomb_in_compressed_text_and_profile_is_stopped(tmp_path):
    from faceblur_core.media.images import _png_chunk

    plain = photos.encoded(np.zeros((8, 8, 3), np.uint8), "PNG")
    packed = zlib.compress(bytes(200_000_000), 9)
    for kind, body in ((b"zTXt", b"k\0\0" + packed), (b"iCCP", b"k\0\0" + packed)):
        (tmp_path / f"{kind.decode()}.png").write_bytes(plain[:33] + _png_chunk(kind, body) + plain[33:])
    done = spawn("run", "-m", "haar", tmp_path, "-o", tmp_path / "out")
    for name in ("zTXt", "iCCP"):
        assert f"{name}.png: the file is damaged (Decompressed data too large" in done.stderr
    assert done.returncode == 1 and not (tmp_path / "out").exists()
