"""One photo at a time through a method: the same as ``faceblur run``, for servers."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import photos
from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_core.media.images import read_photo
from faceblur_core.service import PhotoMethod, named, offered
from faceblur_core.types import Anonymized


def made(**options):
    """Return the frontal Haar cascade with the blur, loaded."""
    return PhotoMethod(named("haar", {"detector.profile": "no", **options}))


@pytest.fixture
def portrait(astronaut):
    """The astronaut's head."""
    return astronaut[20:240, 110:330]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "GIF"])
def test_the_bytes_are_those_of_faceblur_run(form, portrait, tmp_path, cli):
    body = photos.encoded(portrait, form)
    served = made(**{"mask.grow": "2"})(body)
    source = tmp_path / f"in{served.suffix}"
    source.write_bytes(body)
    assert (
        cli("run", "-m", "haar", "--set", "mask.grow=2", "--set", "detector.profile=no", source, "-o", tmp_path / "out").code == 0
    )
    assert served.data == (tmp_path / "out" / source.name).read_bytes()
    assert (served.format, served.media_type) == (form, f"image/{form.lower()}")
    assert (served.width, served.height, served.frames, served.faces) == (220, 220, 1, 1)
    assert {"decode", "detect", "obfuscate", "encode", "total"} == set(served.ms)


def test_frames_and_faces_are_added_up(portrait):
    served = made()(photos.frames([portrait, np.zeros_like(portrait), portrait], "GIF"))
    assert served.frames == 3 and served.faces == 2
    assert served.masked_share == pytest.approx(2 / 3 * made()(photos.encoded(portrait, "GIF")).masked_share, rel=0.1)


def test_a_method_that_finds_no_boxes_counts_no_faces(portrait):
    method = made()
    method._anonymizer = lambda image: Anonymized(image, np.zeros(image.shape[:2], np.float32))
    assert method(photos.encoded(portrait, "PNG")).faces is None


def test_format_and_quality_can_be_asked_for(portrait):
    body = photos.encoded(portrait, "PNG")
    small, large = made()(body, "WEBP", 10), made()(body, "WEBP", 90)
    assert read_photo(small.data).format == "WEBP" and len(small.data) < len(large.data) / 2
    with pytest.raises(UnreadableImage, match="no 16-bit pictures"):
        made()(photos.deep_png(photos.deep(portrait)), "JPEG")


def test_what_a_format_cannot_hold_is_one_line():
    wide = photos.encoded(np.zeros((1, 20_000, 3), np.uint8), "PNG")
    with pytest.raises(UnreadableImage, match="20000 x 1 pixels cannot be written as WEBP"):
        made()(wide, "WEBP")


def test_limits_are_kept(portrait):
    method = named("haar", {})
    with pytest.raises(UnreadableImage, match="megapixels"):
        PhotoMethod(method, max_pixels=10_000)(photos.encoded(portrait, "PNG"))
    pages = photos.frames([np.full((2, 2, 3), level, np.uint8) for level in range(6)], "GIF")
    assert PhotoMethod(method, max_frames=6)(pages).frames == 6
    with pytest.raises(UnreadableImage, match="more than 5 pictures"):
        PhotoMethod(method, max_frames=5)(pages)


def test_a_method_is_named_and_never_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("method: haar")
    for name in ("mine.yaml", str(tmp_path / "mine.yaml"), "mine.yml"):
        with pytest.raises(UsageMistake, match="method files are not read"):
            named(name, {})
    assert named("crowd", {}).spec == "yunet+blur"


def test_options_are_checked_when_the_method_is_loaded():
    with pytest.raises(UsageMistake, match="bad option of mask: grow"):
        made(**{"mask.grow": "99"})
    with pytest.raises(UsageMistake, match="no option of method 'haar'"):
        made(**{"mask.grou": "2"})


def test_everything_is_offered_with_what_it_lacks(install, monkeypatch, tmp_path):
    install("broken")
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path))
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path))
    rows = {(row.kind, row.name): row for row in offered()}
    assert rows["detector", "haar"].missing == "" and rows["obfuscator", "blur"].summary
    assert "Apache-2.0" in rows["file", "crowd"].licence
    assert rows["detector", "yunet"].missing == ""  # it is downloaded


def test_a_method_that_breaks_its_contract_gives_nothing_away(portrait):
    method = made()
    real = method._anonymizer
    method._anonymizer = lambda image: dataclasses.replace(real(image), mask=np.zeros(image.shape[:2], np.float32))
    with pytest.raises(FaceblurError, match="hid nothing"):
        method(photos.encoded(portrait, "PNG"))
    method._anonymizer = lambda image: Anonymized(image[:5], np.zeros(image.shape[:2], np.float32))
    with pytest.raises(FaceblurError, match="returned an image"):
        method(photos.encoded(portrait, "PNG"))


def test_what_a_plugin_raises_is_one_line(portrait):
    method = made()
    method._anonymizer = lambda image: {}["what"]
    with pytest.raises(FaceblurError, match="the method failed with KeyError"):
        method(photos.encoded(portrait, "PNG"))


def test_no_metadata_is_passed_on(portrait):
    body = photos.encoded(portrait, "JPEG", exif=photos.exif(orientation=6, gps=True))
    found = Image.open(io.BytesIO(made()(body).data)).getexif()
    assert list(found) == [305] and found[305].startswith("faceblur ")
