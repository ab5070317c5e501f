"""Read a picture file whole, hand its pixels to a method, write it back as it was.

What a method sees is always 8-bit RGB, upright. What is written has the file's own depth, channels and frames: 16-bit
stays 16-bit, alpha stays, CMYK stays CMYK. What cannot be kept whole is refused by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageCms, ImageSequence, UnidentifiedImageError
from PIL.ExifTags import IFD, Base

from faceblur_core import __version__
from faceblur_core.errors import TooLarge, UnreadableImage
from faceblur_core.media.gif import in_palette, largest_size
from faceblur_core.types import Image, Mask

Mode = Literal["L", "LA", "RGB", "RGBA", "CMYK"]
_PROGRAM, _NOT_ANONYMIZED = "faceblur ", "preview, not anonymized, by faceblur "
SOFTWARE = f"{_PROGRAM}{__version__}"  #: written into every anonymized file, so that a later run knows it
BMP_MARKS = {"anonymized": b"FBLR", "preview": b"FBPV"}  #: the same, in four bytes that BMP reserves for the writing program
PREVIEW = f"{_NOT_ANONYMIZED}{__version__}"  #: written into previews instead
DEFAULT_QUALITY = {"JPEG": 95, "WEBP": 90, "AVIF": 90}
DEFAULT_MAX_PIXELS = 200_000_000  #: of all frames together
NO_RAW = "raw photos are not supported; convert it to 16-bit TIFF or PNG"


@dataclass(frozen=True, slots=True)
class Format:
    """What a file format can hold."""

    suffixes: tuple[str, ...]  #: the first is given to new files
    modes: tuple[Mode, ...]
    depths: tuple[int, ...] = (8,)
    frames: bool = False


FORMATS: Mapping[str, Format] = {
    "PNG": Format((".png", ".apng"), ("L", "LA", "RGB", "RGBA"), (8, 16), frames=True),
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), ("L", "RGB", "CMYK")),
    "WEBP": Format((".webp",), ("RGB", "RGBA"), frames=True),
    "TIFF": Format((".tiff", ".tif"), ("L", "LA", "RGB", "RGBA", "CMYK"), (8, 16), frames=True),
    "BMP": Format((".bmp", ".dib"), ("L", "RGB")),
    "AVIF": Format((".avif",), ("RGB", "RGBA"), frames=True),
    "GIF": Format((".gif",), ("L", "RGB", "RGBA"), frames=True),
}
FORMAT_OF = {suffix: name for name, form in FORMATS.items() for suffix in form.suffixes}

# All that --keep-metadata keeps. What is not named here may hold a place, a thumbnail, a serial number or a comment: GPS,
# the thumbnail's directory, maker notes, owner and serial numbers, captions and comments, XMP, IPTC, Photoshop blocks.
KEPT_TAGS = (Base.Make, Base.Model, Base.DateTime, Base.Artist, Base.Copyright)
_TIMES = "DateTimeOriginal DateTimeDigitized OffsetTime OffsetTimeOriginal OffsetTimeDigitized SubsecTimeOriginal"
_EXPOSURE = "ExposureTime FNumber ExposureProgram ISOSpeedRatings ExifVersion ShutterSpeedValue ApertureValue ExposureMode"
_LIGHT = "BrightnessValue ExposureBiasValue MaxApertureValue MeteringMode LightSource Flash WhiteBalance SceneCaptureType"
_LENS = "FocalLength FocalLengthIn35mmFilm DigitalZoomRatio LensSpecification LensMake LensModel ColorSpace"
KEPT_DETAILS = frozenset(Base[name].value for name in f"{_TIMES} {_EXPOSURE} {_LIGHT} {_LENS}".split())


#: What a file is that Pillow cannot read: what stands at which place, and its name.
UNREAD = (
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), "HEIC"),
    (0, (b"\xff\x0a", b"\0\0\0\x0cJXL "), "JPEG XL"),
    (0, (b"8BPS",), "Photoshop"),
    (0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF of this kind"),
)
#: Numbers of ITU-T H.273 for what a viewer takes for granted: those of BT.709, BT.601 and sRGB, or none.
USUAL_PRIMARIES, USUAL_TRANSFERS = (1, 2, 5, 6), (1, 2, 6, 13, 14, 15)
PNG_HEAD = 8 + 25  #: bytes of signature and IHDR, after which a PNG may say what must stand before the pixels
PNG_TYPE = 25  #: the byte that tells which channels a PNG has
COLOUR_CHUNKS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4}  #: of PNG, how its numbers become colours; their sizes


@dataclass(frozen=True, slots=True)
class Frame:
    """One upright picture of a file, with its own channels and depth."""

    pixels: NDArray[Any]  #: H x W x channels of the mode, uint8 or uint16
    mode: Mode
    duration: float | None = None  #: milliseconds, in animations
    changed: NDArray[np.bool_] | None = None  #: H x W, in pictures of a GIF: the pixels that a method changed

    @property
    def depth(self) -> int:
        """8 or 16 bits per channel."""
        return self.pixels.dtype.itemsize * 8

    def rgb(self) -> Image:
        """Return H x W x 3 uint8, read-only: what a method sees. Alpha is left out, not applied."""
        if self.mode == "CMYK":
            rgb = np.asarray(PillowImage.fromarray(self.pixels, "CMYK").convert("RGB"))
        else:
            color = self._color() if self.depth == 8 else _to_8_bit(self._color())
            rgb = np.ascontiguousarray(np.broadcast_to(color, (*color.shape[:2], 3)))
        rgb.flags.writeable = False
        return rgb

    def _color(self) -> NDArray[Any]:
        return self.pixels[..., : {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}[self.mode]]

    def with_hidden(self, before: Image, after: Image, mask: Mask) -> Frame:
        """Return this frame with what a method changed from ``before`` (as :meth:`rgb`) to ``after`` carried over.

        Pixels that it left alone keep every bit, in every mode and depth; alpha is never changed.
        """
        if after is before:
            return self
        if self.mode == "RGB" and self.depth == 8 and self.changed is None:
            return dataclasses.replace(self, pixels=after)
        touched = (after != before).any(axis=2, keepdims=True) | (mask > 0)[..., None]
        changed = None if self.changed is None else self.changed | touched[..., 0]
        hidden = _from_rgb(after, self.mode)
        color = self._color()
        if self.depth == 16:  # the low byte fades out with the mask, so that no edge shows and no detail is kept
            low = color.astype(np.int32) - _to_8_bit(color).astype(np.int32) * 257
            kept = np.rint(low * (1 - np.clip(mask, 0, 1)[..., None])).astype(np.int32)
            hidden = np.clip(hidden.astype(np.int32) * 257 + kept, 0, 65535).astype(np.uint16)
        pixels = self.pixels.copy()
        np.copyto(pixels[..., : color.shape[2]], hidden, where=touched)
        return dataclasses.replace(self, pixels=pixels, changed=changed)


def _to_8_bit(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_rgb(rgb: Image, mode: Mode) -> NDArray[np.uint8]:
    """Return 8-bit RGB in the colour channels of ``mode``."""
    if mode in ("RGB", "RGBA"):
        return rgb
    converted = np.asarray(PillowImage.fromarray(rgb).convert("CMYK" if mode == "CMYK" else "L"))
    return converted.reshape(*rgb.shape[:2], -1)


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture file, decoded."""

    format: str  #: a key of FORMATS
    frames: tuple[Frame, ...]
    icc_profile: bytes | None = None
    exif: bytes | None = None  #: what --keep-metadata keeps
    loop: int | None = None  #: how often an animation repeats, 0 for ever
    encoder: Mapping[str, Any] = field(default_factory=dict)  #: how it was compressed
    made: Literal["", "anonymized", "preview"] = ""  #: by faceblur, and then which
    colour: Mapping[bytes, bytes] = field(default_factory=dict)  #: a PNG's chunks of COLOUR_CHUNKS
    beside: int = 0  #: how many pictures the file has that are left out: thumbnails, a phone's second picture


def read_photo(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Photo:
    """Decode the bytes of a picture file, all frames, upright.

    :raises UnreadableImage: if it is empty, damaged, no picture, too large, or of a kind that could not be kept whole
    """
    if not data:
        raise UnreadableImage("the file is empty")
    try:
        with open_picture(data, max_pixels) as image:
            return _decode(image, data, max_pixels)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(_unread(data)) from None
    except PillowImage.DecompressionBombError:
        raise UnreadableImage("too many pixels for Pillow's limit") from None
    except MemoryError:
        raise UnreadableImage("too large for this machine's memory") from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(f"the file is damaged ({reason[:200]})") from error


def open_picture(data: bytes, max_pixels: int) -> PillowImage.Image:
    """Return the first picture of a file, before anything of it is decoded.

    :raises UnreadableImage: if its format is not supported, or it says that it is too large
    :raises Exception: whatever Pillow raises if it is damaged, or no picture
    """
    if data.startswith(b"GIF8"):  # of which Pillow makes room for the first picture when it opens it
        _check_size(largest_size(data), 1, max_pixels)
    image = PillowImage.open(io.BytesIO(data))
    if _form(image) not in FORMATS:
        raise UnreadableImage(f"the format {_form(image)} is not supported; it can be: {', '.join(FORMATS)}")
    _check_size(image.size, 1, max_pixels)
    return image


def _unread(data: bytes) -> str:
    """Return what is said of a file that Pillow does not know, by its first bytes."""
    name = next((name for place, marks, name in UNREAD if data[place:].startswith(marks)), "")
    return f"{name} cannot be read; convert it to PNG or JPEG" if name else "not a picture, or of a format that cannot be read"


def photo_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of a picture file, upright, without decoding its pixels.

    :raises OSError: if the file cannot be opened
    :raises UnreadableImage: if it is no picture
    """
    try:
        with path.open("rb") as file, PillowImage.open(file) as image:
            turned = image.format != "TIFF" and image.getexif().get(Base.Orientation, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            raise UnreadableImage(_unread(file.read(16))) from None


def _decode(image: PillowImage.Image, data: bytes, max_pixels: int) -> Photo:
    form = _form(image)
    exif = image.getexif()
    orientation = exif.get(Base.Orientation, 1)  # asked for now, for counting frames makes Pillow forget it
    icc_profile, loop = _profile_alone(image.info.get("icc_profile")), image.info.get("loop")
    pages = _pages(image, form)
    depth = _depth(image, form, data, pages)
    count = len(pages)
    _check_size(image.size, count, max_pixels)
    if form == "GIF" and count > 1 and data.rstrip(b"\0")[-1:] != b";":
        raise UnreadableImage("the file is damaged (it ends before its last picture)")
    if count > 1 and image.info.get("default_image"):
        raise UnreadableImage("an animated PNG with a separate still picture is not supported")
    frames = _deep_frames(image, data, pages, orientation, max_pixels) if depth == 16 else _frames(image, form, pages, max_pixels)
    return Photo(
        form,
        _alike(frames) if form != "TIFF" else frames,
        icc_profile,
        _kept_exif(exif),
        loop,
        _encoder(image, form, data),
        _made(image, exif, data),
        _colour_chunks(data, has_profile=icc_profile is not None) if form == "PNG" else {},
        getattr(image, "n_frames", 1) - count + (form != "TIFF" and _has_thumbnail(exif)),
    )


def _has_thumbnail(exif: PillowImage.Exif) -> bool:
    with contextlib.suppress(Exception):  # whatever Pillow raises where this part is damaged; the picture can be whole
        return Base.JpegIFOffset in exif.get_ifd(IFD.IFD1)
    return False


def _form(image: PillowImage.Image) -> str:
    return {"MPO": "JPEG", "DIB": "BMP"}.get(image.format or "", image.format or "")


def _made(image: PillowImage.Image, exif: PillowImage.Exif, data: bytes) -> Literal["", "anonymized", "preview"]:
    comment = image.info.get("comment", b"") if image.format == "GIF" else b""  # where a GIF says it
    said = comment.decode("latin-1") if isinstance(comment, bytes) and comment else str(exif.get(Base.Software, ""))
    mark = data[6:10] if image.format == "BMP" else b""
    if mark == BMP_MARKS["preview"]:
        return "preview"
    return "anonymized" if mark == BMP_MARKS["anonymized"] else made_by(said)


def made_by(software: str) -> Literal["", "anonymized", "preview"]:
    """Return what the text says that a file was written by: SOFTWARE, PREVIEW of any version, or something else."""
    if software.startswith(_NOT_ANONYMIZED):
        return "preview"
    return "anonymized" if software.startswith(_PROGRAM) else ""


def _profile_alone(profile: bytes | None) -> bytes | None:
    """Return an ICC profile without what may be hidden behind its last tag; None if it is no profile (ICC.1, 7.2 and 7.3)."""
    if not profile or len(profile) < 132 or profile[36:40] != b"acsp":
        return None
    count = int.from_bytes(profile[128:132], "big")
    table = profile[132 : 132 + 12 * count]
    if len(table) < 12 * count:
        return None
    ends = [offset + size for _, offset, size in struct.iter_unpack(">4sII", table)]
    end = (max([132 + 12 * count, *ends]) + 3) // 4 * 4
    return None if max(ends, default=0) > len(profile) else struct.pack(">I", min(end, len(profile))) + profile[4:end]


def _colour_chunks(data: bytes, *, has_profile: bool) -> dict[bytes, bytes]:
    """Return the chunks of a PNG file that say how its numbers become colours; no sRGB where there is a profile."""
    found: dict[bytes, bytes] = {}
    place = 8
    while place + 12 <= len(data) and (kind := data[place + 4 : place + 8]) != b"IDAT":
        size = int.from_bytes(data[place : place + 4], "big")
        if COLOUR_CHUNKS.get(kind) == size and not (kind == b"sRGB" and has_profile):
            found[kind] = data[place + 8 : place + 8 + size]
        place += 12 + size
    return found


def _is_usual(colour: Mapping[bytes, bytes]) -> bool:
    """Return whether the chunks say what a viewer takes for granted of a picture without any; cICP goes before sRGB and gAMA."""
    if code := colour.get(b"cICP"):
        return code[0] in USUAL_PRIMARIES and code[1] in USUAL_TRANSFERS
    gamma = int.from_bytes(colour.get(b"gAMA", b""), "big") / 100_000
    return b"sRGB" in colour or not gamma or abs(gamma - 1 / 2.2) < 0.01


def _check_size(size: tuple[int, int], count: int, max_pixels: int) -> None:
    if size[0] * size[1] * count > max_pixels:
        pictures = f" x {count} pictures" if count > 1 else ""
        raise TooLarge(f"{size[0]} x {size[1]} pixels{pictures} are more than {max_pixels / 1e6:g} megapixels")


def _depth(image: PillowImage.Image, form: str, data: bytes, pages: list[int]) -> int:
    """Return 8 or 16. :raises UnreadableImage: for depths that would be lost."""
    if form == "AVIF":
        found = data.find(b"av1C")
        if found >= 0 and len(data) > found + 6 and data[found + 6] & 0x40:
            raise UnreadableImage("10- and 12-bit AVIF is not supported, its depth would be lost; convert it to 16-bit PNG")
        found = data.find(b"colrnclx") + 8
        if found > 8 and "icc_profile" not in image.info and not _is_usual({b"cICP": data[found + 1 : found + 4 : 2]}):
            raise UnreadableImage("AVIF with colours beyond sRGB and no profile is not supported; convert it to PNG")
        return 8
    if form == "PNG":
        if data[24] == 16 and image.mode == "I;16" and "transparency" in image.info:
            raise UnreadableImage("16-bit grey PNG with a transparent colour is not supported; convert it to 16-bit RGBA")
        return 16 if data[24] == 16 else 8
    if form == "TIFF":
        return _tiff_depth(image, data, pages)
    return 8


def _tiff_depth(image: Any, data: bytes, pages: list[int]) -> int:
    """Return 8 or 16. :raises UnreadableImage: if pages differ in depth or profile, or one would lose something."""
    if data[8:10] == b"CR" or image.tag_v2.get(254, 0) & 1:  # CR2; a preview comes first
        raise UnreadableImage(NO_RAW)
    depths, profiles = set(), set()
    for number in pages:
        image.seek(number)
        _check_whole(image)
        depths.add(_page_depth(image))
        profiles.add(image.tag_v2.get(34675))
    image.seek(0)
    if len(profiles) > 1:
        raise UnreadableImage("a TIFF whose pages have different colour profiles is not supported; split it")
    if len(depths) > 1:
        raise UnreadableImage("a TIFF with pages of 8 and of 16 bits is not supported; split it")
    return depths.pop()


def _pages(image: Any, form: str) -> list[int]:
    """Return the numbers of the pictures in a file that are no smaller copies of others; the first always counts."""
    if not FORMATS[form].frames:
        return [0]  # a JPEG's others are previews
    numbers = range(getattr(image, "n_frames", 1))
    if form != "TIFF":
        return list(numbers)
    kept = []
    for number in numbers:
        image.seek(number)
        if not image.tag_v2.get(254, 0) & 1 or number == 0:
            kept.append(number)
    image.seek(0)
    return kept


def _check_whole(page: Any) -> None:
    """Most raw photos are TIFF files, too: Pillow reads their preview. :raises UnreadableImage: if there is more to a page."""
    if 50706 in page.tag_v2 or page.tag_v2.get(262) in (32803, 34892):  # DNGVersion; what a sensor saw
        raise UnreadableImage(NO_RAW)
    if 330 in page.tag_v2:
        raise UnreadableImage("a raw photo, or a TIFF with pictures inside its pages, is not supported; convert it to plain TIFF")


def _page_depth(page: Any) -> int:
    bits, kind = page.tag_v2.get(258, (1,)), page.tag_v2.get(339, (1,))
    deepest = max(bits) if isinstance(bits, tuple) else bits
    if deepest > 16 or 3 in (kind if isinstance(kind, tuple) else (kind,)):
        raise UnreadableImage(f"{deepest}-bit TIFF is not supported; convert it to 16 bits")
    if page.mode != "P" and page.tag_v2.get(277, 1) != len(page.getbands()):
        raise UnreadableImage(f"TIFF with {page.tag_v2[277]} channels is not supported; convert it to RGB or RGBA")
    inverted, planar, premultiplied = page.tag_v2.get(262) == 0, page.tag_v2.get(284) == 2, 1 in page.tag_v2.get(338, ())
    if deepest > 8 and (page.mode not in ("I;16", "RGB", "RGBA") or inverted or planar or premultiplied):
        raise UnreadableImage(f"16-bit TIFF of this layout ({page.mode}) is not supported; convert it to plain 16-bit RGB")
    return 16 if deepest > 8 else 8


def _frames(image: PillowImage.Image, form: str, pages: list[int], max_pixels: int) -> tuple[Frame, ...]:
    frames, total = [], 0
    for number, page in enumerate(ImageSequence.Iterator(image) if pages != [0] else [image]):
        if number not in pages:
            continue
        total += page.size[0] * page.size[1]  # the pages of a TIFF differ in size
        _check_size((total, 1), 1, max_pixels)
        frames.append(_frame(page, upright_already=form == "TIFF"))
        if len(frames) == len(pages):
            break
    return tuple(frames)


def _frame(page: PillowImage.Image, *, upright_already: bool) -> Frame:
    orientation = 1 if upright_already else page.getexif().get(Base.Orientation, 1)  # Pillow turns TIFF itself
    page.load()
    duration = page.info.get("duration")
    mode = page.mode
    if mode in ("L", "1") and "transparency" in page.info and page.format == "PNG":
        mode = "LA"  # a profile for grey fits no other colours
    elif mode == "P" or (mode in ("RGB", "L", "1") and "transparency" in page.info):
        mode = "RGBA" if "transparency" in page.info or (page.palette and page.palette.mode == "RGBA") else "RGB"
    if mode in ("1", "PA"):
        mode = {"1": "L", "PA": "RGBA"}[mode]
    if mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        raise UnreadableImage(f"pictures of mode {mode} are not supported; convert it to RGB")
    pixels = np.asarray(page.convert(mode) if mode != page.mode else page)
    pixels = upright(pixels.reshape(*pixels.shape[:2], -1), orientation)
    changed = np.zeros(pixels.shape[:2], np.bool_) if page.format == "GIF" else None
    return Frame(pixels, mode, duration, changed)  # type: ignore[arg-type]


def _deep_frames(
    image: PillowImage.Image, data: bytes, numbers: list[int], orientation: int, max_pixels: int
) -> tuple[Frame, ...]:
    """Read 16-bit pictures with OpenCV, for Pillow has no 16-bit RGB; Pillow has the last word on damaged files."""
    import cv2

    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise UnreadableImage("animated 16-bit PNG is not supported")
    total = 0
    for page in ImageSequence.Iterator(image):
        total += page.size[0] * page.size[1]
        _check_size((total, 1), 1, max_pixels)
        page.load()
    ok, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    pages = [pages[number] for number in numbers] if ok else []
    if not pages or any(page.dtype != np.uint16 for page in pages):
        raise UnreadableImage("16-bit pictures of this kind cannot be read; convert it to 16-bit RGB")
    deep = [np.asarray(page, np.uint16) for page in pages]
    if image.format == "PNG" and data[PNG_TYPE] == 4:  # grey with alpha, of whose grey OpenCV makes three channels
        deep = [page[..., [0, 3]] for page in deep]
    turned = 1 if image.format == "TIFF" else orientation  # OpenCV turns TIFF itself
    return tuple(_deep_frame(page, turned) for page in deep)


def _deep_frame(page: NDArray[np.uint16], orientation: int) -> Frame:
    pixels = page.reshape(*page.shape[:2], -1)
    if pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    mode: Mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]  # type: ignore[assignment]
    return Frame(upright(pixels, orientation), mode)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return the pixels as EXIF orientation 1 to 8 asks to show them; other values mean 1."""
    turns: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: p[::-1].swapaxes(0, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: p[:, ::-1].swapaxes(0, 1),
    }
    return np.ascontiguousarray(turns[orientation](pixels)) if orientation in turns else np.ascontiguousarray(pixels)


def _alike(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Return the frames of an animation in one mode, with alpha if any of them has it."""
    modes = {frame.mode for frame in frames}
    if len(modes) == 1:
        return frames
    mode: Mode = "RGBA" if modes & {"RGBA", "LA"} else "RGB"
    return tuple(_as_mode(frame, mode) for frame in frames)


def _as_mode(frame: Frame, mode: Mode) -> Frame:
    """Return an 8-bit frame in another mode that holds at least as much."""
    if frame.mode == mode:
        return frame
    alpha = frame.pixels[..., -1:] if frame.mode in ("LA", "RGBA") else np.full_like(frame.pixels[..., :1], 255)
    pixels = np.concatenate([frame.rgb(), alpha], axis=2) if mode == "RGBA" else frame.rgb()
    return dataclasses.replace(frame, pixels=pixels, mode=mode)


def _kept_exif(exif: PillowImage.Exif) -> bytes:
    kept = PillowImage.Exif()
    for tag in KEPT_TAGS:
        if isinstance(exif.get(tag), str):
            kept[tag] = _as_bytes(exif[tag])
    details = {tag: value for tag, value in exif.get_ifd(IFD.Exif).items() if tag in KEPT_DETAILS and _is_short(value)}
    if details:
        kept.get_ifd(IFD.Exif).update(details)
    return kept.tobytes()


def _is_short(value: Any) -> bool:
    """Return whether a value is of the size that the kept details have; a longer one holds something else."""
    if isinstance(value, (str, bytes)):
        return len(value) <= (64 if isinstance(value, str) else 4)
    return not isinstance(value, tuple) or len(value) <= 4


def _as_bytes(value: Any) -> Any:
    """Return text as the bytes that Pillow read it from: writing it as text, it would lose what is not ASCII."""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


def _encoder(image: PillowImage.Image, form: str, data: bytes) -> dict[str, Any]:
    """Return how the file was compressed, as far as that can be kept."""
    if form == "JPEG":
        from PIL.JpegImagePlugin import get_sampling

        sampling = get_sampling(image)
        tables = getattr(image, "quantization", None)
        kept: dict[str, Any] = {"qtables": tables} if tables else {}
        return kept | ({"subsampling": sampling} if sampling >= 0 else {})
    if form == "WEBP":
        lossless, lossy = data.find(b"VP8L"), data.find(b"VP8 ")
        return {"lossless": True, "exact": True} if lossless >= 0 and (lossy < 0 or lossless < lossy) else {}
    if form == "TIFF":
        compression = image.info.get("compression", "raw")
        return {"compression": compression if compression in ("raw", "tiff_lzw", "packbits") else "tiff_adobe_deflate"}
    return {}


def encode_pixels(pixels: NDArray[np.uint8], form: str, **options: Any) -> bytes:
    """Return H x W or H x W x 3 pixels as the bytes of a plain file of a Pillow format; ``options`` are Pillow's."""
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def frames_in(encoded: bytes) -> int:
    """Return how many pictures are in a file that :func:`encode_photo` made."""
    with PillowImage.open(io.BytesIO(encoded)) as image:
        return int(getattr(image, "n_frames", 1))


def check_format(photo: Photo, form: str) -> None:
    """:raises UnreadableImage: if a picture of that format could not hold all of the photo."""
    can = FORMATS[form]
    if form != "PNG" and photo.icc_profile is None and not _is_usual(photo.colour):
        raise UnreadableImage(f"its colours are not those that {form} has without a profile; choose png")
    if len(photo.frames) > 1 and form != "TIFF":
        _check_several(photo, form)
    for frame in photo.frames:
        if frame.depth not in can.depths:
            raise UnreadableImage(f"{form} has no 16-bit pictures; choose png or tiff")
        if frame.mode in ("LA", "RGBA") and "RGBA" not in can.modes:
            raise UnreadableImage(f"{form} has no transparency; choose png or webp")
        if frame.mode == "CMYK" and "CMYK" not in can.modes:
            raise UnreadableImage(f"{form} has no CMYK pictures; choose jpeg or tiff")
        if form == "GIF" and frame.mode in ("LA", "RGBA") and not np.isin(frame.pixels[..., -1], (0, 255)).all():
            raise UnreadableImage("GIF has no half-transparent pixels; choose png or webp")
    if len(photo.frames) > 1 and not can.frames:
        raise UnreadableImage(f"{form} holds one picture, the file has {len(photo.frames)}; choose webp, gif or tiff")


def _check_several(photo: Photo, form: str) -> None:
    if any(frame.depth == 16 for frame in photo.frames):
        raise UnreadableImage(f"{form} holds no more than one 16-bit picture, the file has {len(photo.frames)}; choose tiff")
    if len({frame.pixels.shape[:2] for frame in photo.frames}) > 1:
        raise UnreadableImage(f"{form} holds no pictures of different sizes; choose tiff")


def encode_photo(
    photo: Photo,
    form: str | None = None,
    quality: int | None = None,
    *,
    keep_metadata: bool = False,
    software: str = SOFTWARE,
) -> bytes:
    """Return the photo as the bytes of a file.

    :param form: a key of FORMATS; the photo's own if None
    :param quality: 1 to 100 for JPEG, WebP and AVIF; if None a JPEG keeps its own quantization tables
    :param keep_metadata: keep :data:`KEPT_TAGS` and :data:`KEPT_DETAILS` of the EXIF data, and no more
    :param software: what the file says it was written by
    :raises UnreadableImage: if the format could not hold all of the photo, or its encoder refuses it
    """
    form = form or photo.format
    check_format(photo, form)
    try:
        return _with_colour(_encoded(photo, form, quality, keep_metadata=keep_metadata, software=software), photo, form)
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # each encoder has limits and messages of its own
        height, width = photo.frames[0].pixels.shape[:2]
        raise UnreadableImage(f"{width} x {height} pixels cannot be written as {form} ({error}); choose png") from error


def _encoded(photo: Photo, form: str, quality: int | None, *, keep_metadata: bool, software: str) -> bytes:
    kept = PillowImage.Exif()
    if keep_metadata and photo.exif:
        kept.load(photo.exif)
    exif = PillowImage.Exif() if form == "TIFF" else kept  # libtiff writes no directory in a directory: no lens, no exposure
    for tag in KEPT_TAGS:
        if tag in kept:
            exif[tag] = _as_bytes(kept[tag])
    exif[Base.Software] = software
    if photo.frames[0].depth == 16:
        return (_deep_png if form == "PNG" else _deep_tiff)(photo, exif)
    photo = _with_fitting_profile(photo, form)
    pictures = list(_pictures(photo, form))
    options = _save_options(photo, form, quality, exif)
    buffer = io.BytesIO()
    pictures[0].save(buffer, form, **options, **_animation(photo, form, pictures))
    written = buffer.getvalue()
    if form == "BMP":
        written = written[:6] + BMP_MARKS["anonymized" if software == SOFTWARE else "preview"] + written[10:]
    return written


def _with_colour(written: bytes, photo: Photo, form: str) -> bytes:
    """Return a file with the photo's colour chunks if it is a PNG."""
    chunks = b"".join(_png_chunk(kind, body) for kind, body in photo.colour.items())
    return written[:PNG_HEAD] + chunks + written[PNG_HEAD:] if form == "PNG" else written


def _with_fitting_profile(photo: Photo, form: str) -> Photo:
    """Return the photo in sRGB and without its profile, if the format holds none or the channels must change."""
    channels_stay = all(frame.mode in FORMATS[form].modes for frame in photo.frames)
    if photo.icc_profile is None or (channels_stay and form not in ("BMP", "GIF")):
        return photo
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(photo.icc_profile))
        frames = tuple(_in_srgb(frame, profile) for frame in photo.frames)
    except ImageCms.PyCMSError:  # a damaged profile, or one of another kind than the pixels: nobody could apply it
        frames = photo.frames
    return dataclasses.replace(photo, frames=frames, icc_profile=None)


def _in_srgb(frame: Frame, profile: ImageCms.ImageCmsProfile) -> Frame:
    color = np.ascontiguousarray(frame._color())
    picture = PillowImage.fromarray(color.squeeze(2) if color.shape[2] == 1 else color)
    converted = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # it is None only when it works in place
    alpha = [frame.pixels[..., -1:]] if frame.mode in ("LA", "RGBA") else []
    pixels = np.concatenate([np.asarray(converted), *alpha], axis=2)
    return dataclasses.replace(frame, pixels=pixels, mode="RGBA" if alpha else "RGB")


def _pictures(photo: Photo, form: str) -> Iterator[PillowImage.Image]:
    can = FORMATS[form]
    for frame in photo.frames:
        if frame.mode not in can.modes:
            frame = _as_mode(frame, "RGBA" if frame.mode == "LA" else "RGB")
        if form == "GIF" and frame.changed is not None:
            opaque = frame.pixels[..., 3] > 0 if frame.mode == "RGBA" else np.ones_like(frame.changed)
            if picture := in_palette(frame.rgb(), opaque, frame.changed):
                yield picture
                continue
        yield PillowImage.fromarray(
            np.ascontiguousarray(frame.pixels.squeeze(2) if frame.mode == "L" else frame.pixels), frame.mode
        )


def _save_options(photo: Photo, form: str, quality: int | None, exif: PillowImage.Exif) -> dict[str, Any]:
    options: dict[str, Any] = {"icc_profile": photo.icc_profile} if photo.icc_profile else {}
    if form in ("BMP", "GIF"):  # these have no place for a profile or for metadata
        return {"comment": exif[Base.Software].encode()} if form == "GIF" else {}
    options["exif"] = exif.tobytes()
    kept = photo.encoder if photo.format == form else {}
    if form in DEFAULT_QUALITY:
        options |= {"quality": quality or DEFAULT_QUALITY[form]}
    if form == "JPEG" and quality is None and "qtables" in kept and photo.frames[0].mode != "CMYK":
        options.pop("quality")
    if quality is None or form == "TIFF":
        options |= kept if form != "JPEG" or "quality" not in options else {}
    if form == "TIFF":
        options.setdefault("compression", "tiff_adobe_deflate")
    return options


def _animation(photo: Photo, form: str, pictures: list[PillowImage.Image]) -> dict[str, Any]:
    if len(pictures) == 1:
        return {}
    options: dict[str, Any] = {"save_all": True, "append_images": pictures[1:]}
    durations = [frame.duration for frame in photo.frames]
    if any(value is not None for value in durations):
        options["duration"] = [round(value or 0) for value in durations]
    if photo.loop is not None:
        options["loop"] = photo.loop
    elif photo.format == "GIF" and form in ("PNG", "WEBP"):
        options["loop"] = 1  # what a GIF does that does not say; these would go on for ever
    if form == "GIF" and photo.frames[0].mode == "RGBA":
        options["disposal"] = 2
    return options


def _deep_tiff(photo: Photo, exif: PillowImage.Exif) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    text = [(tag.value, "s", 0, _as_bytes(exif[tag]), True) for tag in KEPT_TAGS if tag in exif]
    with tifffile.TiffWriter(buffer) as writer:
        for frame in photo.frames:
            writer.write(
                frame.pixels.squeeze(2) if frame.mode == "L" else frame.pixels,
                photometric="rgb" if frame.mode in ("RGB", "RGBA") else "minisblack",
                extrasamples=["unassalpha"] if frame.mode in ("LA", "RGBA") else None,
                compression="zlib",
                iccprofile=photo.icc_profile,
                software=exif[Base.Software],
                extratags=text,
                metadata=None,
            )
    return buffer.getvalue()


def _deep_png(photo: Photo, exif: PillowImage.Exif) -> bytes:
    import cv2

    pixels = photo.frames[0].pixels
    if pixels.shape[2] == 2:
        data = _grey_with_alpha(pixels)
    else:
        order = [0] if pixels.shape[2] == 1 else [2, 1, 0, 3][: pixels.shape[2]]
        ok, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels[..., order]))
        if not ok:
            raise UnreadableImage("the 16-bit picture cannot be written")
        data = encoded.tobytes()
    extra = _png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    if photo.icc_profile:
        extra = _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.icc_profile)) + extra
    return data[:PNG_HEAD] + extra + data[PNG_HEAD:]


def _grey_with_alpha(pixels: NDArray[np.uint16]) -> bytes:
    """Return H x W x 2 as a PNG, which OpenCV and Pillow write with more channels or fewer bits."""
    height, width = pixels.shape[:2]
    lines = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.pad(lines, ((0, 0), (1, 0)))  # each line begins with the number of its filter: none
    head = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _png_chunk(b"IDAT", zlib.compress(filtered.tobytes())) + _png_chunk(b"IEND", b"")


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@contextlib.contextmanager
def only_our_limit() -> Iterator[None]:
    """Lift Pillow's own limit of pixels while ``max_pixels`` is in force."""
    before, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        PillowImage.MAX_IMAGE_PIXELS = before
