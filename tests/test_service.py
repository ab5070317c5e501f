"""One photo or video at a time through a method: the same as ``faceblur run``, for servers."""

import dataclasses
import io

import av
import numpy as np
import pytest
import videos
from PIL import Image

import photos
from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_core.media.images import read_photo
from faceblur_core.service import VIDEO_TYPES, PhotoMethod, VideoLimits, VideoMethod, VideoWish, named, offered
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


@pytest.mark.parametrize("form", ["GIF", "PNG"])
def test_no_picture_is_counted_of_an_animation_that_says_it_is_too_large(form, portrait, monkeypatch):
    """To come to the next picture Pillow makes room for the one before."""
    body = photos.frames([portrait, np.zeros_like(portrait)], form)
    method = PhotoMethod(named("haar", {"detector.profile": "no"}), max_pixels=220 * 220 - 1)
    monkeypatch.setattr(type(Image.open(io.BytesIO(body))), "seek", lambda image, frame: pytest.fail("counted"))
    with pytest.raises(UnreadableImage, match="220 x 220 pixels"):
        method(body)


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


def clip(path, portrait, *, frames=12, **options):
    """Write a video of a face that moves to the right."""
    scene = videos.background()
    return videos.write(path, [videos.composite(scene, [(portrait[:160, :160], 4 * t, 40)]) for t in range(frames)], **options)


def streams(path):
    with av.open(str(path)) as container:
        return [(stream.type, stream.codec_context.name) for stream in container.streams]


@pytest.fixture
def served(portrait, tmp_path):
    """Serve a clip under a name without an ending, by options; returns what was served and the clip."""

    def serve(name="clip.mp4", wish=None, limits=None, progress=None, **options):
        source = clip(tmp_path / name, portrait, **options)
        (folder := tmp_path / "served").mkdir()
        method = VideoMethod(named("haar", {"detector.profile": "no"}), limits)
        with source.open("rb") as file:
            return method(file, folder, wish, progress), source

    return serve


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.mp4", {"audio": "aac"}),
        ("clip.mov", {"audio": "pcm_s16le"}),
        ("clip.mkv", {"audio": "aac"}),
        ("clip.webm", {"codec": "libvpx-vp9", "audio": "libopus", "options": {"crf": "30"}}),
        ("clip.avi", {"codec": "mpeg4", "audio": "aac"}),
        ("clip.ts", {}),
    ],
)
def test_a_video_is_written_as_by_faceblur_run(served, tmp_path, cli, name, options):
    """Its kind is found in its content, for no name comes with it."""
    shares = []
    result, source = served(name, VideoWish(crf=2), progress=shares.append, **options)
    assert cli("run", "-m", "haar", "--set", "detector.profile=no", "--crf", "2", source, "-o", tmp_path / "run").code == 0
    [expected] = (tmp_path / "run").iterdir()
    assert result.path.name == f"video{expected.suffix}" and videos.times(result.path) == videos.times(expected)
    assert streams(result.path) == streams(expected)
    pairs = zip(videos.frames(result.path), videos.frames(expected), strict=True)  # x264 makes other bytes from the same pictures
    assert max(np.abs(ours.astype(int) - theirs).mean() for ours, theirs in pairs) < 1
    assert VIDEO_TYPES[result.form].startswith("video/") and result.frames == 12 == len(shares)
    assert shares == sorted(shares) and 0 <= shares[0] < 0.5 < shares[-1] <= 1
    assert result.tracks == 1 and 0.02 < result.masked_share < 0.6
    ignored = "encoder mpeg4 has no CRF; what was asked for does not count"
    assert result.notes == ((ignored,) if options.get("codec") == "mpeg4" else ())


def test_what_is_wished_for_a_video(served):
    result, _ = served("clip.mov", VideoWish("mkv", tracking=False, audio=False, crf=40), audio="pcm_s16le")
    assert result.path.suffix == ".mkv" and result.tracks is None
    assert streams(result.path) == [("video", "h264")]


def test_subtitles_are_copied_or_left_out_as_is_wished(portrait, tmp_path):
    source = videos.with_subtitles(clip(tmp_path / "plain.mkv", portrait), tmp_path / "clip.mkv")
    method = VideoMethod(named("haar", {"detector.profile": "no"}))
    kept = {}
    for name, wish in (("with", VideoWish()), ("without", VideoWish("mp4", subtitles=False))):
        (folder := tmp_path / name).mkdir()
        with source.open("rb") as file:
            kept[name] = [kind for kind, _ in streams(method(file, folder, wish).path)]
    assert kept == {"with": ["video", "subtitle"], "without": ["video"]}
    (folder := tmp_path / "refused").mkdir()
    with source.open("rb") as file, pytest.raises(UsageMistake, match="mp4 holds no subtitle .*; choose mkv, or leave subtitles"):
        method(file, folder, VideoWish("mp4"))
    both = videos.with_subtitles(clip(tmp_path / "loud.mkv", portrait, audio="aac"), tmp_path / "both.mkv")
    refused = r"webm holds no audio .* and no subtitle .*the sound and subtitles"
    with both.open("rb") as file, pytest.raises(UsageMistake, match=refused):
        method(file, folder, VideoWish("webm"))


def test_a_form_that_cannot_hold_the_sound_is_refused(served, tmp_path):
    with pytest.raises(UsageMistake, match="webm holds no audio of the kind aac; choose mkv"):
        served("clip.mp4", VideoWish("webm"), audio="aac")
    assert list((tmp_path / "served").iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(pixels=50_000), "320 x 240 pixels are more"),
        (VideoLimits(seconds=0.2), "longer than 0.00333333 minutes"),
        (VideoLimits(pictures=5), "more than 5 pictures"),
        (VideoLimits(result_bytes=10), "larger than 1e-05 megabytes"),
    ],
)
def test_a_video_beyond_the_limits_is_refused_and_leaves_nothing(served, tmp_path, limits, message):
    with pytest.raises(UnreadableImage, match=message):
        served(limits=limits)
    assert list((tmp_path / "served").iterdir()) == []


@pytest.mark.parametrize("body", [b"", b"no video", b"ffconcat version 1.0\nfile /etc/passwd\n", photos.png_bomb()])
def test_what_is_no_video_is_refused(tmp_path, body):
    (tmp_path / "file").write_bytes(body)
    with (tmp_path / "file").open("rb") as file, pytest.raises(UnreadableImage):
        VideoMethod(named("haar", {}))(file, tmp_path)


def test_a_method_that_fails_on_a_video_is_one_line(served, tmp_path, monkeypatch):
    monkeypatch.setattr("faceblur_core.service.VideoRun.__call__", lambda *_: {}["a folder"])
    with pytest.raises(FaceblurError, match="the method failed with KeyError"):
        served()
