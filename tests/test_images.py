"""Reading and writing picture files: nothing may get lost on the way."""

import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

import photos
from faceblur_core.errors import UnreadableImage
from faceblur_core.media.gif import largest_size
from faceblur_core.media.images import FORMATS, PREVIEW, SOFTWARE, Frame, Photo, encode_photo, read_photo

RNG = np.random.default_rng(0)
SMOOTH = np.clip(np.add.outer(np.arange(40) * 3, np.arange(60) * 2)[..., None] + [0, 20, 40], 0, 255).astype(np.uint8)
NOISE = RNG.integers(0, 256, (40, 60, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (40, 60, 1), np.uint8)


def hide(photo, rows=slice(10, 20), columns=slice(10, 30)):
    """Blacken a rectangle of every frame, as a method would."""
    import dataclasses

    out = []
    for frame in photo.frames:
        before = frame.rgb()
        mask = np.zeros(before.shape[:2], np.float32)
        mask[rows, columns] = 1
        after = before.copy()
        after[rows, columns] = 0
        out.append(frame.with_hidden(before, after, mask))
    return dataclasses.replace(photo, frames=tuple(out))


def outside(pixels):
    kept = np.ones(pixels.shape[:2], bool)
    kept[10:20, 10:30] = False
    return pixels[kept]


LOSSLESS = {
    "PNG L": (photos.encoded(NOISE[..., 0], "PNG"), "L", 8),
    "PNG LA": (photos.encoded(np.dstack([NOISE[..., :1], ALPHA]), "PNG"), "LA", 8),
    "PNG RGB": (photos.encoded(NOISE, "PNG"), "RGB", 8),
    "PNG RGBA": (photos.encoded(np.dstack([NOISE, ALPHA]), "PNG"), "RGBA", 8),
    "PNG L 16": (photos.deep_png(photos.deep(NOISE[..., 0])), "L", 16),
    "PNG RGB 16": (photos.deep_png(photos.deep(NOISE)), "RGB", 16),
    "PNG RGBA 16": (photos.deep_png(photos.deep(np.dstack([NOISE, ALPHA]))), "RGBA", 16),
    "TIFF L": (photos.encoded(NOISE[..., 0], "TIFF"), "L", 8),
    "TIFF RGB": (photos.encoded(NOISE, "TIFF", compression="tiff_lzw"), "RGB", 8),
    "TIFF RGBA": (photos.encoded(np.dstack([NOISE, ALPHA]), "TIFF"), "RGBA", 8),
    "TIFF CMYK": (photos.encoded(np.dstack([NOISE, ALPHA]), "TIFF", "CMYK"), "CMYK", 8),
    "TIFF L 16": (photos.deep_tiff(photos.deep(NOISE[..., 0])), "L", 16),
    "TIFF RGB 16": (photos.deep_tiff(photos.deep(NOISE), compression="zlib"), "RGB", 16),
    "TIFF RGBA 16": (photos.deep_tiff(photos.deep(np.dstack([NOISE, ALPHA])), extrasamples=["unassalpha"]), "RGBA", 16),
    "BMP L": (photos.encoded(NOISE[..., 0], "BMP"), "L", 8),
    "BMP RGB": (photos.encoded(NOISE, "BMP"), "RGB", 8),
    "WEBP RGB": (photos.encoded(NOISE, "WEBP", lossless=True), "RGB", 8),
    "WEBP RGBA": (photos.encoded(np.dstack([NOISE, ALPHA]), "WEBP", lossless=True, exact=True), "RGBA", 8),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_files_keep_every_bit_outside_the_mask(kind):
    data, mode, depth = LOSSLESS[kind]
    photo = read_photo(data)
    assert (photo.format, photo.frames[0].mode, photo.frames[0].depth) == (kind.split()[0], mode, depth)
    again = read_photo(encode_photo(hide(photo)))
    before, after = photo.frames[0], again.frames[0]
    assert (again.format, after.mode, after.depth) == (photo.format, mode, depth) and again.made
    assert np.array_equal(outside(before.pixels), outside(after.pixels))
    assert (after.rgb()[10:20, 10:30] == 0).all()
    if mode in ("LA", "RGBA"):
        assert np.array_equal(before.pixels[..., -1], after.pixels[..., -1])  # alpha is no hiding place


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_picture_that_is_left_alone_comes_back_the_same(kind):
    photo = read_photo(LOSSLESS[kind][0])
    assert np.array_equal(read_photo(encode_photo(photo)).frames[0].pixels, photo.frames[0].pixels)


def test_sixteen_bits_fade_out_with_the_mask_and_keep_no_detail_under_it():
    photo = read_photo(photos.deep_png(photos.deep(NOISE)))
    frame = photo.frames[0]
    before = frame.rgb()
    after = np.where(np.arange(60)[None, :, None] < 30, np.uint8(99), before)
    mask = np.zeros((40, 60), np.float32)
    mask[:, :30] = 1
    hidden = frame.with_hidden(before, after, mask)
    assert (hidden.pixels[:, :30] == 99 * 257).all() and np.array_equal(hidden.pixels[:, 30:], frame.pixels[:, 30:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pictures_are_turned_upright(orientation, form):
    data = photos.encoded(photos.turned(SMOOTH, orientation), form, exif=photos.exif(orientation=orientation))
    photo = read_photo(data)
    assert photo.frames[0].pixels.shape == SMOOTH.shape
    assert np.abs(photo.frames[0].rgb().astype(int) - SMOOTH).mean() < 4
    again = Image.open(io.BytesIO(encode_photo(photo, keep_metadata=True)))
    assert again.getexif().get(274) is None and again.size == (60, 40)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_deep_pictures_are_turned_upright(orientation):
    stored = photos.turned(photos.deep(SMOOTH), orientation)
    made = photos.exif(orientation=orientation).tobytes().removeprefix(b"Exif\0\0")
    png = photos.deep_png(stored)
    photo = read_photo(png[:33] + photos.png_chunk(b"eXIf", made) + png[33:])
    assert np.array_equal(photo.frames[0].pixels, photos.deep(SMOOTH))
    tiff = photos.deep_tiff(stored, extratags=[(274, "H", 1, orientation, True)])
    assert np.array_equal(read_photo(tiff).frames[0].pixels, photos.deep(SMOOTH))
    grey = photos.deep_tiff(photos.turned(photos.deep(SMOOTH[..., 0]), orientation), extratags=[(274, "H", 1, orientation, True)])
    assert np.array_equal(read_photo(grey).frames[0].pixels[..., 0], photos.deep(SMOOTH[..., 0]))


WITH_METADATA = {
    "JPEG": {"exif": photos.exif(gps=True, orientation=6), "comment": b"a secret", "icc_profile": photos.SRGB},
    "PNG": {"exif": photos.exif(gps=True), "icc_profile": photos.SRGB},
    "WEBP": {"exif": photos.exif(gps=True), "icc_profile": photos.SRGB, "xmp": b"<x>secret</x>"},
    "TIFF": {"exif": photos.exif(gps=True), "icc_profile": photos.SRGB},
    "AVIF": {"exif": photos.exif(gps=True), "icc_profile": photos.SRGB, "xmp": b"<x>secret</x>"},
}


@pytest.mark.parametrize("form", WITH_METADATA)
def test_metadata_is_dropped_and_the_profile_kept(form):
    data = photos.encoded(SMOOTH, form, **WITH_METADATA[form])
    written = encode_photo(read_photo(data))
    image = Image.open(io.BytesIO(written))
    assert image.info["icc_profile"] == photos.SRGB
    tags = dict(image.getexif())
    assert tags.get(305) == SOFTWARE
    assert not {271, 274, 0x8825, 0x8769} & set(tags) and not image.getexif().get_ifd(0x8825)
    assert b"secret" not in written and b"Camera" not in written


@pytest.mark.parametrize("form", WITH_METADATA)
def test_kept_metadata_holds_no_place_no_thumbnail_and_no_maker_note(form):
    data = photos.encoded(SMOOTH, form, **WITH_METADATA[form])
    written = encode_photo(read_photo(data), keep_metadata=True)
    tags = Image.open(io.BytesIO(written)).getexif()
    details = tags.get_ifd(0x8769)
    assert tags[271] == "Camera Works" and tags[305] == SOFTWARE
    assert form == "TIFF" or details[0x9003] == "2026:01:02 03:04:05"  # Pillow writes no such details into TIFF
    assert not tags.get_ifd(0x8825) and not tags.get_ifd(1) and 0x927C not in details and 0xA002 not in details
    assert b"serial" not in written and b"secret" not in written


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("form", WITH_METADATA)
def test_tiff_takes_the_metadata_of_every_format_but_lens_and_exposure(form, compression):
    more = {"compression": compression} if form == "TIFF" else {}
    photo = read_photo(photos.encoded(SMOOTH, form, **WITH_METADATA[form], **more))
    tags = Image.open(io.BytesIO(encode_photo(photo, "TIFF", keep_metadata=True))).getexif()
    assert tags[271] == "Camera Works" and tags[305] == SOFTWARE and 0x8769 not in tags


@pytest.mark.parametrize("keep_metadata", [False, True])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_thumbnail_is_dropped(form, keep_metadata):
    thumbnail = photos.encoded(NOISE[::4, ::4].copy(), "JPEG")
    data = photos.encoded(SMOOTH, form, exif=photos.with_thumbnail(photos.exif(), thumbnail))
    assert read_photo(data).beside == 1 and thumbnail in data
    written = encode_photo(read_photo(data), keep_metadata=keep_metadata)
    assert read_photo(written).beside == 0 and thumbnail[-500:] not in written


def test_the_second_picture_of_a_phones_file_is_dropped():
    first, second = Image.fromarray(SMOOTH), Image.fromarray(NOISE)
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    assert read_photo(buffer.getvalue()).beside == 1
    written = encode_photo(read_photo(buffer.getvalue()), keep_metadata=True)
    image = Image.open(io.BytesIO(written))
    assert image.format == "JPEG" and getattr(image, "n_frames", 1) == 1
    assert len(written) < len(photos.encoded(NOISE, "JPEG"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_smaller_copies_among_the_pages_of_a_tiff_are_dropped(dtype):
    pages = [np.full((40, 60, 3), 1 + number, dtype) for number in range(2)]
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in pages:
            writer.write(page, photometric="rgb")
            writer.write(page[::4, ::4], photometric="rgb", subfiletype=1)
    data = buffer.getvalue()
    photo = read_photo(data)
    assert [frame.pixels.shape[:2] for frame in photo.frames] == [(40, 60)] * 2 and read_photo(data).beside == 2
    assert all(np.array_equal(frame.pixels, page) for frame, page in zip(photo.frames, pages, strict=True))
    written = encode_photo(photo)
    assert len(read_photo(written).frames) == 2 and read_photo(written).beside == 0


def test_a_gif_that_ends_between_two_pictures_is_damaged_and_not_short():
    data = photos.frames(MOVING, "GIF", duration=50)
    assert len(read_photo(data + b"\0\0").frames) == 3
    with pytest.raises(UnreadableImage, match="it ends before its last picture"):
        read_photo(data[:-1])


def test_times_are_kept_where_one_picture_has_none():
    photo = read_photo(photos.frames(MOVING, "GIF", duration=[100, 200, 300]))
    first, *others = photo.frames
    untimed = dataclasses.replace(photo, frames=(dataclasses.replace(first, duration=None), *others))
    assert [frame.duration for frame in read_photo(encode_photo(untimed)).frames[1:]] == [200, 300]


def test_a_jpeg_keeps_its_own_quality():
    for quality, subsampling in ((60, 2), (95, 0)):
        data = photos.encoded(SMOOTH, "JPEG", quality=quality, subsampling=subsampling)
        source, again = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(encode_photo(read_photo(data))))
        assert again.quantization == source.quantization
        assert abs(len(encode_photo(read_photo(data))) - len(data)) < 200
    lower = Image.open(io.BytesIO(encode_photo(read_photo(data), quality=30)))
    assert lower.quantization != source.quantization


def test_cmyk_jpegs_stay_cmyk():
    cmyk = np.asarray(Image.fromarray(SMOOTH).convert("CMYK"))
    photo = read_photo(photos.encoded(cmyk, "JPEG", "CMYK", quality=95))
    assert photo.frames[0].mode == "CMYK"
    assert np.abs(photo.frames[0].rgb().astype(int) - SMOOTH).mean() < 6
    again = read_photo(encode_photo(hide(photo)))
    assert again.frames[0].mode == "CMYK" and again.frames[0].rgb()[12:18, 14:26].max() < 30
    assert np.abs(again.frames[0].pixels[25:].astype(int) - photo.frames[0].pixels[25:]).mean() < 3


def test_palettes_become_true_colour_with_their_transparency():
    palette = Image.fromarray(SMOOTH).quantize(64)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    photo = read_photo(buffer.getvalue())
    assert photo.frames[0].mode == "RGBA"
    again = Image.open(io.BytesIO(encode_photo(photo)))
    assert np.array_equal(np.asarray(again), np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGBA")))


def test_black_and_white_becomes_grey():
    photo = read_photo(photos.encoded(SMOOTH[..., 0] > 90, "PNG"))
    assert photo.frames[0].mode == "L" and set(np.unique(photo.frames[0].pixels)) == {0, 255}


MOVING = [np.roll(SMOOTH, shift * 7, axis=1) for shift in range(3)]


@pytest.mark.parametrize(
    ("form", "options", "error"),
    [
        ("GIF", {"duration": [100, 200, 300], "loop": 0}, 40),
        ("WEBP", {"duration": [100, 200, 300], "loop": 2, "lossless": True}, 0),
        ("PNG", {"duration": [100, 200, 300], "loop": 3}, 0),
        ("AVIF", {"duration": [100, 200, 300]}, 10),
        ("TIFF", {}, 0),
    ],
)
def test_every_frame_of_an_animation_is_handled(form, options, error):
    photo = read_photo(photos.frames(MOVING, form, **options))
    assert len(photo.frames) == 3
    again = read_photo(encode_photo(hide(photo)))
    assert len(again.frames) == 3 and again.format == form and again.loop == photo.loop
    for picture, before, after in zip(MOVING, photo.frames, again.frames, strict=True):
        assert before.duration == after.duration
        assert (form == "TIFF") == (after.duration is None)
        kept = np.abs(outside(after.rgb()).astype(int) - outside(picture))
        assert kept.mean() <= error / 4 and kept.max() <= max(error, 60 * bool(error))
        assert after.rgb()[12:18, 14:26].max() <= 12


def test_pages_of_different_sizes_stay_different():
    photo = read_photo(photos.frames([SMOOTH, SMOOTH[:30, :45]], "TIFF"))
    again = read_photo(encode_photo(hide(photo)))
    assert [frame.pixels.shape for frame in again.frames] == [(40, 60, 3), (30, 45, 3)]
    for form in set(FORMATS) - {"TIFF"}:
        with pytest.raises(UnreadableImage, match="no pictures of different sizes; choose tiff"):
            encode_photo(photo, form)


def test_deep_pages_stay_deep():
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for picture in MOVING:
            writer.write(photos.deep(picture), photometric="rgb")
    photo = read_photo(buffer.getvalue())
    with pytest.raises(UnreadableImage, match="no more than one 16-bit picture, the file has 3; choose tiff"):
        encode_photo(photo, "PNG")
    again = read_photo(encode_photo(photo))
    assert [np.array_equal(frame.pixels, photos.deep(picture)) for frame, picture in zip(again.frames, MOVING, strict=True)] == [
        True
    ] * 3


def test_text_that_is_not_ascii_survives_in_kept_metadata():
    made = photos.exif()
    made[33432] = "© Jörg".encode()
    made.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0at home, 5 Main St"
    made.get_ifd(0x8769)[0xA430], made.get_ifd(0x8769)[0xA431] = "the owner", "serial 123"
    written = encode_photo(read_photo(photos.encoded(SMOOTH, "JPEG", exif=made)), keep_metadata=True)
    assert "© Jörg".encode() in written
    assert b"Main St" not in written and b"owner" not in written and b"serial" not in written


def test_a_profile_that_the_format_cannot_hold_is_applied():
    for form in ("BMP", "GIF"):
        photo = read_photo(photos.encoded(SMOOTH, "PNG", icc_profile=photos.SRGB))
        again = read_photo(encode_photo(photo, form))
        assert again.icc_profile is None and np.abs(again.frames[0].rgb().astype(int) - SMOOTH).mean() < 12
    damaged = read_photo(photos.encoded(SMOOTH, "PNG", icc_profile=b"no profile at all" * 20))
    assert read_photo(encode_photo(damaged, "BMP")).frames[0].pixels.shape == SMOOTH.shape


def test_a_grey_profile_is_not_put_on_a_colour_picture():
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = read_photo(photos.encoded(SMOOTH[..., 0], "PNG", icc_profile=grey))
    assert read_photo(encode_photo(photo, "WEBP")).icc_profile is None
    assert read_photo(encode_photo(photo)).icc_profile == grey


def test_nothing_hides_behind_a_profile():
    written = encode_photo(read_photo(photos.encoded(SMOOTH, "PNG", icc_profile=photos.SRGB + b"secret" * 99)))
    assert Image.open(io.BytesIO(written)).info["icc_profile"] == photos.SRGB


def test_what_a_method_sees_cannot_be_written_to():
    for data, _, _ in LOSSLESS.values():
        with pytest.raises(ValueError, match="read-only"):
            read_photo(data).frames[0].rgb()[0] = 0


def mixed_tiff(*pages):
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in pages:
            writer.write(page, photometric="rgb" if page.ndim == 3 else "minisblack")
    return buffer.getvalue()


def two_profiles():
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(SMOOTH, photometric="rgb")
        writer.write(SMOOTH, photometric="rgb", iccprofile=photos.SRGB)
    return buffer.getvalue()


def test_half_transparent_pixels_are_not_flattened_to_gif():
    photo = read_photo(LOSSLESS["PNG RGBA"][0])
    with pytest.raises(UnreadableImage, match="no half-transparent pixels"):
        encode_photo(photo, "GIF")


def test_nothing_hides_inside_a_profile_or_a_kept_detail():
    longer = photos.SRGB + b"ICCTAILSECRET" * 4
    longer = len(longer).to_bytes(4, "big") + longer[4:]  # the header says that it belongs to it
    made = photos.exif()
    made.get_ifd(0x8769)[0x9000] = b"0230EXIFVERSECRET"
    data = photos.encoded(SMOOTH, "JPEG", icc_profile=longer, exif=made)
    written = encode_photo(read_photo(data), keep_metadata=True)
    assert b"SECRET" in data and b"SECRET" not in written
    assert Image.open(io.BytesIO(written)).info["icc_profile"] == photos.SRGB


@pytest.mark.parametrize("kind", ["8 bits, one shade transparent", "1 bit, one transparent", "16 bits with alpha"])
def test_grey_with_transparency_stays_grey_beside_its_profile(kind):
    profile = photos.SRGB[:16] + b"GRAY" + photos.SRGB[20:]  # fits no coloured pixels
    buffer = io.BytesIO()
    if kind[0] == "8":
        Image.fromarray(NOISE[..., 0]).save(buffer, "PNG", transparency=int(NOISE[0, 0, 0]), icc_profile=profile)
    elif kind[:2] == "1 ":
        Image.fromarray(NOISE[..., 0]).convert("1").save(buffer, "PNG", transparency=0, icc_profile=profile)
    else:
        pixels = np.dstack([photos.deep(NOISE)[..., :1], photos.deep(SMOOTH)[..., :1]])
        frame = Frame(pixels, "LA")
        buffer.write(encode_photo(Photo("PNG", (frame,), profile)))
    photo = read_photo(buffer.getvalue())
    assert photo.frames[0].mode == "LA" and photo.frames[0].depth == (16 if kind[:2] == "16" else 8)
    assert kind[:2] != "16" or np.array_equal(photo.frames[0].pixels, pixels)
    assert len(np.unique(photo.frames[0].pixels[..., 1])) > 1
    written = encode_photo(photo)
    assert written[25] == 4 and Image.open(io.BytesIO(written)).info["icc_profile"] == profile  # the colour type
    assert np.array_equal(read_photo(written).frames[0].pixels, photo.frames[0].pixels)


@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("kind", ["full", "few", "transparent", "grey"])
def test_a_gif_keeps_the_colours_of_all_that_nobody_changed(kind, pictures):
    """Its 256 colours are those of the pixels that stay; what is hidden gets the nearest of them, or what is free."""
    rng = np.random.default_rng(5)
    colours = rng.integers(0, 256, (20 if kind == "few" else 255 if kind == "transparent" else 256, 3), np.uint8)
    colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1) if kind == "grey" else colours
    images = []
    for _ in range(pictures):
        image = Image.fromarray(rng.permutation(np.arange(60 * 80) % len(colours)).astype(np.uint8).reshape(60, 80), "P")
        image.putpalette(colours.tobytes())
        images.append(image)
    buffer = io.BytesIO()
    more = {"transparency": 7, "disposal": 2} if kind == "transparent" else {}
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=50, **more)
    photo = read_photo(buffer.getvalue())
    assert len(photo.frames) == pictures
    mask = np.zeros((60, 80), np.float32)
    mask[10:40, 20:60] = 1
    ramp = np.dstack(
        np.broadcast_arrays(np.arange(60, dtype=np.uint8)[:, None] * 4, np.arange(80, dtype=np.uint8) * 3, np.uint8(90))
    )
    frames = []
    for frame in photo.frames:
        before = frame.rgb()
        frames.append(frame.with_hidden(before, np.where(mask[..., None] > 0, ramp, before), mask))
    written = read_photo(encode_photo(dataclasses.replace(photo, frames=tuple(frames)))).frames
    assert len(written) == pictures
    for before, after in zip(photo.frames, written, strict=True):
        shown = before.pixels[..., 3] > 0 if before.mode == "RGBA" else np.ones((60, 80), bool)
        assert np.array_equal(shown, after.pixels[..., 3] > 0 if after.mode == "RGBA" else np.ones((60, 80), bool))
        outside, inside = shown & (mask == 0), shown & (mask > 0)
        assert np.array_equal(before.rgb()[outside], after.rgb()[outside])
        error = np.abs(after.rgb()[inside].astype(int) - (ramp if kind != "grey" else after.rgb())[inside])
        assert error.mean() < (3 if kind == "few" else 25) and not np.array_equal(before.rgb()[inside], after.rgb()[inside])


def test_previews_are_marked_in_every_format():
    for form in FORMATS:
        written = encode_photo(read_photo(photos.encoded(SMOOTH, "PNG")), form, software=PREVIEW)
        assert read_photo(written).made == "preview", form


def nested_tiff(photometric, **options):
    """A TIFF file as cameras write it: a preview, and the photo inside its page."""
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(SMOOTH[::4, ::4], photometric="rgb", subifds=1, metadata=None, **options)
        writer.write(photos.deep(SMOOTH[..., 0]), photometric=photometric, metadata=None)
    return buffer.getvalue()


REFUSED = {
    "raw photo": (nested_tiff("cfa", subfiletype=1), "raw photos are not supported"),
    "dng": (photos.deep_tiff(SMOOTH, extratags=[(50706, "B", 4, bytes([1, 4, 0, 0]), True)]), "raw photos are not supported"),
    "pictures in a page": (nested_tiff("minisblack"), "TIFF with pictures inside its pages"),
    "8 and 16 bits": (mixed_tiff(SMOOTH, photos.deep(SMOOTH)), "pages of 8 and of 16 bits"),
    "planar": (
        photos.deep_tiff(np.moveaxis(photos.deep(SMOOTH), 2, 0), planarconfig="separate", metadata=None),
        "16-bit TIFF of this layout",
    ),
    "premultiplied": (
        photos.deep_tiff(photos.deep(np.dstack([NOISE, ALPHA])), extrasamples=["assocalpha"]),
        "16-bit TIFF of this layout",
    ),
    "unknown channel": (photos.deep_tiff(np.dstack([NOISE, ALPHA]), extrasamples=["unspecified"]), "TIFF with 4 channels"),
    "profiles that differ": (
        two_profiles(),
        "pages have different colour profiles",
    ),
    "16 and 8 bits": (mixed_tiff(photos.deep(SMOOTH), SMOOTH), "pages of 8 and of 16 bits"),
    "empty": (b"", "the file is empty"),
    "text": (b"this is a text file\n" * 50, "not a picture"),
    "truncated": (photos.encoded(NOISE, "JPEG")[:-800], "damaged"),
    "truncated png": (photos.encoded(NOISE, "PNG")[:-800], "damaged"),
    "truncated 16-bit png": (photos.deep_png(photos.deep(NOISE))[:-4000], "damaged"),
    "bomb": (photos.png_bomb(), "too many pixels"),
    "float tiff": (photos.deep_tiff(NOISE[..., 0].astype(np.float32)), "32-bit TIFF is not supported"),
    "other format": (photos.encoded(NOISE, "PPM"), "the format PPM is not supported; it can be: PNG, JPEG"),
    "lab": (photos.encoded(NOISE, "TIFF", "LAB"), "mode LAB"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_kept_whole_is_refused_by_name(kind):
    data, message = REFUSED[kind]
    with pytest.raises(UnreadableImage, match=message) as caught:
        read_photo(data)
    assert "\n" not in caught.value.message


def test_deep_avif_is_refused_rather_than_flattened():
    import cv2

    ok, data = cv2.imencode(".avif", SMOOTH.astype(np.uint16) * 4, [cv2.IMWRITE_AVIF_DEPTH, 10])
    assert ok
    with pytest.raises(UnreadableImage, match="10- and 12-bit AVIF"):
        read_photo(data.tobytes())


def test_a_picture_of_a_gif_may_be_transparent_all_over():
    pictures = [np.zeros((40, 60, 4), np.uint8) for _ in range(3)]
    for picture in pictures[1:]:
        picture[5:20, 5:30] = (200, 30, 10, 255)
    pictures[2][:3] = (1, 2, 3, 255)
    photo = read_photo(photos.frames(pictures, "GIF", duration=50, disposal=2))
    assert not photo.frames[0].pixels[..., 3].any()
    again = read_photo(encode_photo(photo))
    for before, after in zip(photo.frames, again.frames, strict=True):
        assert np.array_equal(before.pixels[..., 3], after.pixels[..., 3])
        assert np.array_equal(before.rgb()[before.pixels[..., 3] > 0], after.rgb()[after.pixels[..., 3] > 0])


def test_no_room_is_made_for_what_a_gif_only_claims(monkeypatch):
    """Pillow makes it when it opens a file whose picture is to be wiped away after it was shown."""
    data = bytearray(photos.frames(MOVING, "GIF", duration=50, disposal=2))
    assert largest_size(bytes(data)) == (60, 40)
    for cut in range(0, len(data), 7):
        assert max(largest_size(bytes(data[:cut]))) <= 60
    picture = data.index(b"\x2c" + bytes(4) + (60).to_bytes(2, "little"))
    data[picture + 5 : picture + 9] = (60000).to_bytes(2, "little") * 2
    monkeypatch.setattr(Image, "open", lambda file: pytest.fail("opened"))
    with pytest.raises(UnreadableImage, match="60000 x 60000 pixels are more than 200 megapixels"):
        read_photo(bytes(data))


def test_the_pixel_limit_counts_all_frames(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UnreadableImage, match="50000 x 50000 pixels are more than 200 megapixels"):
        read_photo(photos.png_bomb())
    with pytest.raises(UnreadableImage, match="60 x 40 pixels x 3 pictures are more than"):
        read_photo(photos.frames(MOVING, "GIF", duration=50), max_pixels=5000)
    with pytest.raises(UnreadableImage, match="more than"):
        read_photo(photos.frames([SMOOTH[:5, :5], SMOOTH, SMOOTH], "TIFF"), max_pixels=4000)
    with pytest.raises(UnreadableImage, match="more than"):
        read_photo(mixed_tiff(photos.deep(SMOOTH[:5, :5]), photos.deep(SMOOTH)), max_pixels=1000)


@pytest.mark.parametrize(
    ("kind", "form", "message"),
    [
        ("PNG RGBA", "JPEG", "JPEG has no transparency"),
        ("PNG RGB 16", "JPEG", "JPEG has no 16-bit"),
        ("TIFF L 16", "WEBP", "WEBP has no 16-bit"),
        ("TIFF CMYK", "PNG", "PNG has no CMYK"),
    ],
)
def test_a_format_that_would_lose_something_is_refused(kind, form, message):
    with pytest.raises(UnreadableImage, match=message):
        encode_photo(read_photo(LOSSLESS[kind][0]), form)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_gif_that_plays_once_does_so_in_other_formats(form):
    pictures = [Image.fromarray(np.roll(SMOOTH, shift, axis=1)) for shift in (0, 20, 40)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=50)
    photo = read_photo(buffer.getvalue())
    assert photo.loop is None and Image.open(io.BytesIO(encode_photo(photo, form))).info["loop"] == 1


def test_an_animation_is_not_cut_down_to_one_picture():
    with pytest.raises(UnreadableImage, match="holds one picture, the file has 3"):
        encode_photo(read_photo(photos.frames(MOVING, "GIF", duration=50)), "JPEG")


@pytest.mark.parametrize("form", FORMATS)
def test_any_plain_photo_can_be_written_as_any_format(form):
    for picture in (SMOOTH, SMOOTH[..., 0]):
        again = read_photo(encode_photo(read_photo(photos.encoded(picture, "PNG")), form))
        assert again.format == form
        assert np.abs(again.frames[0].rgb().astype(int) - np.atleast_3d(picture)).mean() < (12 if form == "GIF" else 4)
        assert again.made


GAMMA, PRIMARIES = struct.pack(">I", 45455), struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
HDR = bytes((9, 16, 0, 1))  # BT.2020, PQ


def chunks(data):
    """Return the chunks of a PNG before its pixels."""
    found, place = {}, 8
    while (kind := data[place + 4 : place + 8]) != b"IDAT":
        size = int.from_bytes(data[place : place + 4], "big")
        found[kind.decode()] = data[place + 8 : place + 8 + size]
        assert int.from_bytes(data[place + 8 + size : place + 12 + size], "big") == zlib.crc32(data[place + 4 : place + 8 + size])
        place += 12 + size
    return found


def with_chunks(data, *more):
    return data[:33] + b"".join(photos.png_chunk(kind, body) for kind, body in more) + data[33:]


@pytest.mark.parametrize("kind", ["PNG L", "PNG RGBA", "PNG RGB 16"])
def test_a_png_says_as_before_how_its_numbers_become_colours(kind):
    told = ((b"gAMA", GAMMA), (b"cHRM", PRIMARIES), (b"sRGB", b"\0"), (b"cICP", HDR), (b"tEXt", b"Author\0me"))
    data = with_chunks(LOSSLESS[kind][0], *told)
    written = chunks(encode_photo(hide(read_photo(data))))
    assert {name: written.get(name) for name in ("gAMA", "cHRM", "sRGB", "cICP", "tEXt")} == {
        "gAMA": GAMMA, "cHRM": PRIMARIES, "sRGB": b"\0", "cICP": HDR, "tEXt": None,
    }  # fmt: skip
    longer = chunks(encode_photo(read_photo(with_chunks(LOSSLESS[kind][0], (b"gAMA", GAMMA + b"somebody's address")))))
    assert "gAMA" not in longer and "cICP" not in chunks(encode_photo(read_photo(LOSSLESS[kind][0])))
    plain = encode_photo(read_photo(LOSSLESS[kind][0]), "TIFF")
    linear = struct.pack(">I", 100_000)
    for more, fits in (
        (told, False),
        ([(b"cICP", bytes((1, 13, 0, 1))), (b"gAMA", linear)], True),
        ([(b"gAMA", GAMMA)], True),
        ([(b"gAMA", linear)], False),
        ([(b"gAMA", linear), (b"sRGB", b"\0")], True),
    ):
        photo = read_photo(with_chunks(LOSSLESS[kind][0], *more))
        if fits:
            assert encode_photo(photo, "TIFF") == plain
            continue
        with pytest.raises(UnreadableImage, match="its colours are not those that TIFF has"):
            encode_photo(photo, "TIFF")
        encode_photo(
            dataclasses.replace(photo, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()), "TIFF"
        )


def test_colours_of_an_avif_that_would_be_lost_are_refused():
    data = photos.encoded(SMOOTH, "AVIF")
    place = data.find(b"colrnclx") + 8
    assert place > 8 and read_photo(data).format == "AVIF"
    for offset, number in ((1, 12), (3, 16)):  # P3, PQ
        other = bytearray(data)
        other[place + offset] = number
        with pytest.raises(UnreadableImage, match="AVIF with colours beyond sRGB"):
            read_photo(bytes(other))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\x0a" + bytes(50), "JPEG XL"),
        (b"8BPS\0\x01" + bytes(50), "Photoshop"),
        (photos.deep_tiff(NOISE.astype(np.float32)), "TIFF of this kind"),
        (photos.deep_tiff(photos.deep(NOISE)[..., [0, 0, 0, 0, 1]], extrasamples=["unspecified"] * 2), "TIFF of this kind"),
    ],
)
def test_what_cannot_be_read_is_named(data, name):
    with pytest.raises(UnreadableImage) as caught:
        read_photo(data)
    assert caught.value.message == f"{name} cannot be read; convert it to PNG or JPEG"
