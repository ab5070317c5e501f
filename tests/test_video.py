"""``faceblur run`` on videos: moving composites of real photos with known truth, odd files, damaged files, Ctrl-C."""

import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import videos
from PIL import Image

import photos
from conftest import rows, spawn
from faceblur_core.errors import UnreadableImage
from faceblur_core.media.video import ENCODERS, Picture, VideoReader, _closest, without_comments
from faceblur_core.run.video import overlapped
from faceblur_core.tracking import gaps

SIDE = 96


def leftovers(folder):
    return [name for _, _, files in os.walk(folder) for name in files if name.endswith(".part")]


@pytest.fixture(scope="module")
def scene():
    return videos.background()


@pytest.fixture(scope="module")
def head(astronaut):
    return videos.face(astronaut, SIDE)


def walk(scene, head, frames, *, speed=3, start=10, occluded=range(0)):
    """A face that goes from left to right, behind a grey board in some pictures; returns the pictures and where it is."""
    board = np.full((SIDE + 20, SIDE + 20, 3), 128, np.uint8)
    pictures, places = [], []
    for t in range(frames):
        x, y = start + speed * t, 70
        cover = [(board, x - 10, y - 10)] if t in occluded else []
        pictures.append(videos.composite(scene, [(head, x, y), *cover]))
        places.append((x, y))
    return pictures, places


def inner(place):
    """The middle of the face at a place: brows to mouth."""
    x, y = place
    return np.s_[y + 30 : y + 70, max(0, x + 28) : x + 66]


def hidden(before, after, place):
    region = inner(place)
    return np.abs(before[region].astype(int) - after[region]).mean() > 12


@pytest.fixture(scope="module")
def clip(scene, head, tmp_path_factory):
    """A short video with sound; returns its path, pictures and places."""
    pictures, places = walk(scene, head, 40)
    path = videos.write(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures, audio="aac")
    return path, pictures, places


def test_the_face_is_hidden_in_every_picture_and_the_rest_is_kept(cli, clip, tmp_path):
    path, pictures, places = clip
    manifest = tmp_path / "m.jsonl"
    result = cli("run", "-m", "yunet", path, "-o", tmp_path / "out", "--manifest", manifest)
    assert result.code == 0 and result.err == "" and "1 video: 1 with faces (1 in all)" in result.out
    out = videos.frames(tmp_path / "out" / "clip.mp4")
    assert len(out) == len(pictures)
    for before, after, place in zip(videos.frames(path), out, places, strict=True):
        assert hidden(before, after, place)
        assert np.abs(before[200:].astype(int) - after[200:]).mean() < 4  # encoded again, else the same
    [row] = rows(manifest)
    assert (row["outcome"], row["width"], row["height"], row["frames"], row["detections"]) == ("faces", 320, 240, 40, None)
    assert row["video"]["tracks"] == 1 and row["video"]["encoder"] == "libx264" and row["notes"] == []
    assert {"decode", "detect", "track", "encode", "total"} <= set(row["ms"]) and 0.02 < row["masked_share"] < 0.3
    assert row["video"]["jitter"] < row["video"]["jitter_detected"]


def test_sound_is_copied_bit_by_bit_and_stays_in_time(cli, clip, tmp_path):
    path, _, _ = clip
    assert cli("run", "-m", "haar", path, "-o", tmp_path / "a").code == 0
    assert cli("run", "-m", "haar", path, "-o", tmp_path / "b", "--no-audio").code == 0
    before, after = videos.packets(path, "audio"), videos.packets(tmp_path / "a" / "clip.mp4", "audio")
    assert [data for data, _ in before] == [data for data, _ in after]
    assert np.allclose([time for _, time in before], [time for _, time in after], atol=0.001)
    assert np.allclose(videos.times(path), videos.times(tmp_path / "a" / "clip.mp4"), atol=0.001)
    with av.open(str(tmp_path / "b" / "clip.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("length", [1, 7, 15])
def test_an_occluded_face_has_no_gap_with_tracking(cli, scene, head, tmp_path, length):
    """The board lets the face be seen by a person before and after; what stands there is hidden all the time."""
    hole = range(20, 20 + length)
    pictures, places = walk(scene, head, 55, occluded=hole)
    path = videos.write(tmp_path / "walk.mp4", pictures)
    lost = {}
    for tracking in ("on", "off"):
        options = ("--tracking", tracking, "-o", tmp_path / tracking)
        assert cli("run", "-m", "yunet+solid", path, *options).code == 0
        out = videos.frames(tmp_path / tracking / "walk.mp4")
        black = [picture[inner(place)].mean() < 25 for picture, place in zip(out, places, strict=True)]
        lost[tracking] = gaps(black).sum()
    assert lost == {"on": 0, "off": length}


def test_a_face_that_leaves_and_one_that_comes_are_hidden(cli, scene, head, tmp_path):
    """Two faces cross; one is hidden behind the other, each leaves the picture on its side."""
    mirrored = np.ascontiguousarray(head[:, ::-1])
    places = [[(-30 + 5 * t, 60), (260 - 5 * t, 72)] for t in range(60)]
    pictures = [videos.composite(scene, [(mirrored, *second), (head, *first)]) for first, second in places]
    path = videos.write(tmp_path / "cross.mp4", pictures)
    assert cli("run", "-m", "yunet+solid", path, "-o", tmp_path / "out").code == 0
    for picture, both in zip(videos.frames(tmp_path / "out" / "cross.mp4"), places, strict=True):
        for x, y in both:
            if x + 20 >= 0 and x + 76 <= scene.shape[1]:  # the face is in the picture whole
                assert picture[inner((x, y))].mean() < 25


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_rotation_flag_is_kept_and_the_face_found_upright(cli, scene, head, tmp_path, rotation):
    pictures, places = walk(scene, head, 12)
    turns = {90: -1, 180: 2, -90: 1}[rotation]  # the flag says how to turn back, counter-clockwise
    path = videos.write(tmp_path / "turned.mp4", [np.rot90(picture, turns) for picture in pictures], rotation=rotation)
    manifest = tmp_path / "m.jsonl"
    assert cli("run", "-m", "yunet+solid", path, "-o", tmp_path / "out", "--manifest", manifest).code == 0
    assert (rows(manifest)[0]["width"], rows(manifest)[0]["height"]) == (320, 240)
    with av.open(str(tmp_path / "out" / "turned.mp4")) as container:
        stored = list(container.decode(video=0))
    assert all(frame.rotation in (rotation, -rotation if rotation == 180 else rotation) for frame in stored)
    for frame, place in zip(stored, places, strict=True):
        assert np.rot90(frame.to_ndarray(format="rgb24"), -turns)[inner(place)].mean() < 25


def test_a_turned_video_is_not_written_where_that_would_be_lost(cli, tmp_path):
    path = videos.write(tmp_path / "turned.mp4", [np.zeros((48, 64, 3), np.uint8)] * 3, rotation=90)
    result = cli("run", "-m", "haar", path, "-o", tmp_path / "new.avi")
    assert result.code == 1 and "AVI cannot hold that a video is turned" in result.err and not (tmp_path / "new.avi").exists()


def test_odd_frame_rates_and_varying_ones_are_kept(cli, scene, head, tmp_path):
    pictures, _ = walk(scene, head, 20)
    steps = np.random.default_rng(0).integers(1, 120, 20)
    varying = [int(value) for value in np.cumsum(steps) - steps[0]]
    cases = {
        "ntsc.mp4": {"rate": Fraction(30_000, 1001)},
        "slow.mkv": {"rate": Fraction(7)},
        "film.mov": {"rate": Fraction(24_000, 1001)},
        "varying.mp4": {"times": varying, "tick": Fraction(1, 1000)},
        "varying.mkv": {"times": varying, "tick": Fraction(1, 1000)},
        "late.mp4": {"times": range(50, 70), "tick": Fraction(1, 25), "audio": "aac"},
    }
    for name, options in cases.items():
        videos.write(tmp_path / name, pictures, **options)
    boxes = tmp_path / "boxes.jsonl"
    boxes.write_text("".join(json.dumps({"input": name, "detections": [{"box": [9, 9, 60, 60]}]}) + "\n" for name in cases))
    names = [tmp_path / name for name in cases]
    assert cli("run", "-m", "haar", *names, "-o", tmp_path / "out", "--detections", boxes).code == 0
    for name in cases:
        before, after = videos.times(tmp_path / name), videos.times(tmp_path / "out" / name)
        assert np.allclose(before, after, atol=0.0011), name
        if name.startswith("varying"):
            continue
        with av.open(str(tmp_path / name)) as one, av.open(str(tmp_path / "out" / name)) as other:
            assert float(one.streams.video[0].average_rate) == pytest.approx(float(other.streams.video[0].average_rate), rel=0.02)


KINDS = {
    "deep.mkv": ("libx264", "yuv420p10le", {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}),
    "full.mp4": ("libx264", "yuv420p", {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 2}),
    "studio.mov": ("libx264", "yuv422p", {"colorspace": 5, "color_primaries": 6, "color_trc": 6, "color_range": 1}),
    "sharp.mp4": ("libx264", "yuv444p", {}),
    "grey.mkv": ("libx264", "gray", {}),
    "hevc.mp4": ("libx265", "yuv420p10le", {}),
    "web.webm": ("libvpx-vp9", "yuv420p", {"colorspace": 1, "color_range": 1}),
    "av1.mkv": ("libsvtav1", "yuv420p", {}),
    "lossless.mkv": ("ffv1", "bgra", {}),
    "old.avi": ("mpeg4", "yuv420p", {}),
    "camera.avi": ("mjpeg", "yuvj422p", {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_pixel_format_codec_and_colours_are_kept(cli, scene, head, tmp_path, name):
    codec, pix_fmt, tags = KINDS[name]
    pictures, places = walk(scene, head, 6)
    quiet = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    path = videos.write(tmp_path / name, pictures, codec, pix_fmt, tags=tags, options=quiet)
    result = cli("run", "-m", "haar+solid", path, "-o", tmp_path / "out", "--detections", given(tmp_path, name, places))
    assert result.code == 0 and result.err == "", result.err
    with av.open(str(path)) as before, av.open(str(tmp_path / "out" / name)) as after:
        one, other = before.streams.video[0].codec_context, after.streams.video[0].codec_context
        assert (one.name, one.pix_fmt, one.width, one.height) == (other.name, other.pix_fmt, other.width, other.height)
        for tag in ("colorspace", "color_primaries", "color_trc", "color_range"):
            assert getattr(one, tag) == getattr(other, tag), tag
    for before, after, place in zip(videos.frames(path), videos.frames(tmp_path / "out" / name), places, strict=True):
        assert after[inner(place)].mean() < 25
        assert np.abs(before[210:].astype(int) - after[210:]).mean() < 5


TRANSPARENT = {
    "film.mov": ("prores_ks", "yuva444p10le", "prores"),
    "title.mov": ("qtrle", "argb", "prores"),
    "web.webm": ("libvpx-vp9", "yuva420p", "vp9"),
    "sharp.webm": ("libvpx-vp9", "yuva444p", "vp9"),
    "old.webm": ("libvpx", "yuva420p", "vp8"),
    "planes.mkv": ("ffv1", "yuva420p", "ffv1"),
    "grey.mkv": ("ffv1", "ya8", "ffv1"),
    "deep.mkv": ("ffv1", "rgba64le", "ffv1"),
    "packed.avi": ("ffv1", "bgra", "ffv1"),
    "stills.mov": ("png", "rgba", "prores"),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_is_kept_under_the_mask_too(cli, scene, head, tmp_path, name):
    codec, pix_fmt, written = TRANSPARENT[name]
    pictures, places = walk(scene, head, 6, start=100)
    alpha = np.zeros((*scene.shape[:2], 1), np.uint8)
    alpha[:, :160], alpha[80:160, :120] = 255, 128
    more = {"libvpx": {"auto-alt-ref": "0"}, "libvpx-vp9": {"strict": "experimental"}}.get(codec)
    path = videos.write(tmp_path / name, [np.dstack([picture, alpha]) for picture in pictures], codec, pix_fmt, options=more)
    base = ("run", "-m", "haar+solid", path, "--detections", given(tmp_path, name, places), "-o")
    result = cli(*base, tmp_path / "out")
    assert result.code == 0, result.err
    with VideoReader(tmp_path / "out" / name, 10**8) as reader:
        assert reader.stream.codec_context.codec.canonical_name == written
        seen = [item.frame.to_ndarray(format="rgba") for item in reader if isinstance(item, Picture)]
    for picture, place in zip(seen, places, strict=True):
        assert picture[inner(place)][..., :3].mean() < 25
        assert np.abs(picture[..., 3].astype(int) - alpha[..., 0]).mean() < 2
    result = cli(*base, tmp_path / "x.mkv", "--video-encoder", "libx264")
    assert result.code == 1 and "libx264 loses the video's transparency in matroska; choose another" in result.err


def test_transparency_that_begins_within_a_video_is_refused(cli, scene, tmp_path):
    path = tmp_path / "stills.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = *scene.shape[:2], "pal8"
        for number in range(3):
            buffer = io.BytesIO()
            Image.fromarray(scene).quantize(16).save(buffer, "PNG", **({"transparency": 0} if number == 2 else {}))
            packet = av.Packet(buffer.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    result = cli("run", "-m", "haar", path, "-o", tmp_path / "out")
    assert result.code == 1 and "the video becomes transparent after 0.1 s; split it there" in result.err, result.err


def test_a_transparent_video_keeps_its_rotation_flag(cli, scene, tmp_path):
    path = tmp_path / "turned.mkv"
    clear = np.dstack([scene, np.full(scene.shape[:2], 128, np.uint8)])
    videos.write(path, [clear] * 3, "libvpx-vp9", "yuva420p", rotation=90)
    assert cli("run", "-m", "haar", path, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl").code == 0
    assert rows(tmp_path / "m.jsonl")[0]["width"] == scene.shape[0]
    with av.open(str(tmp_path / "out" / "turned.mkv")) as container:
        assert next(container.decode(video=0)).rotation == 90


def given(folder, name, places):
    """Write the true boxes of a walk, to be hidden without a detector."""
    boxes = [{"frame": t, "box": [x + 20, y + 20, x + 76, y + 84]} for t, (x, y) in enumerate(places)]
    (folder / "boxes.jsonl").write_text(json.dumps({"input": name, "detections": boxes}) + "\n")
    return folder / "boxes.jsonl"


def test_metadata_is_dropped_and_the_output_marked(cli, scene, head, tmp_path):
    secret = {"title": "At home", "location": "+47.1+008.5/", "creation_time": "2026-01-02T03:04:05", "artist": "someone"}
    pictures, _ = walk(scene, head, 8)
    for name in ("a.mp4", "b.mkv", "c.webm", "d.avi", "e.mov"):
        codec = "libvpx-vp9" if name == "c.webm" else "libx264"
        path = videos.write(tmp_path / name, pictures, codec, metadata=secret)
        assert cli("run", "-m", "haar", path, "-o", tmp_path / "out").code == 0
        out = tmp_path / "out" / name
        with av.open(str(out)) as container:
            said = " ".join([*container.metadata.values(), *container.streams[0].metadata.values()])
        assert not any(value[:6] in said for value in secret.values()) and "faceblur 0" in said
        assert b"At home" not in out.read_bytes() and b"+47.1" not in out.read_bytes()
        assert "1 skipped, made by faceblur" in cli("run", "-m", "haar", out, "-o", tmp_path / "again").out
    assert cli("run", "-m", "haar", tmp_path / "out" / "a.mp4", "-o", tmp_path / "again", "--again").code == 0


def test_a_cover_picture_is_left_out_and_subtitles_are_kept(cli, scene, head, tmp_path):
    pictures, _ = walk(scene, head, 10)
    path = videos.with_subtitles(videos.write(tmp_path / "plain.mkv", pictures), tmp_path / "rich.mkv", photo_bytes(head))
    result = cli("run", "-m", "haar", path, "-o", tmp_path / "out")
    assert result.code == 0 and "stream 1 (subtitle) is copied as it is, and may tell where or who" in result.err
    with av.open(str(tmp_path / "out" / "rich.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "subtitle"]
        assert container.streams[1].language in ("deu", "ger")
    assert videos.packets(path, "subtitle") == videos.packets(tmp_path / "out" / "rich.mkv", "subtitle")
    result = cli("run", "-m", "haar", path, "-o", tmp_path / "bare", "--no-subtitles")
    assert result.code == 0 and "is copied" not in result.err and b"Hello" not in (tmp_path / "bare" / "rich.mkv").read_bytes()


def photo_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def test_what_a_container_cannot_hold_is_refused_by_name(cli, clip, scene, head, tmp_path):
    pictures, _ = walk(scene, head, 6)
    path = videos.write(tmp_path / "sound.mkv", pictures, audio="pcm_s16le")
    result = cli("run", "-m", "haar", path, "-o", tmp_path / "sound.webm")
    assert result.code == 1 and "webm holds no audio of the kind pcm_s16le; name an output that ends in .mkv" in result.err
    assert not (tmp_path / "sound.webm").exists() and not leftovers(tmp_path)
    both = videos.with_subtitles(videos.write(tmp_path / "aac.mkv", pictures, audio="aac"), tmp_path / "both.mkv")
    result = cli("run", "-m", "haar", both, "-o", tmp_path / "sound.webm")
    assert result.code == 1 and "webm holds no audio of the kind aac and no subtitle of the kind" in result.err
    assert "leave the sound out by --no-audio and subtitles out by --no-subtitles" in result.err
    assert cli("run", "-m", "haar", path, "-o", tmp_path / "sound.webm", "--no-audio").code == 0
    with av.open(str(tmp_path / "sound.webm")) as container:
        assert container.streams.video[0].codec_context.name in ("vp9", "libvpx-vp9")


def test_old_containers_become_mkv(cli, scene, head, tmp_path):
    pictures, _ = walk(scene, head, 6)
    folder = tmp_path / "in"
    folder.mkdir()
    videos.write(folder / "tv.ts", pictures, audio="aac")
    videos.write(folder / "phone.3gp", pictures)
    result = cli("run", "-m", "haar", folder, "-o", tmp_path / "out")
    assert result.code == 0 and {path.name for path in (tmp_path / "out").iterdir()} == {"tv.mkv", "phone.mkv"}
    assert len(videos.frames(tmp_path / "out" / "tv.mkv")) == 6
    assert cli("run", "-m", "haar", folder / "tv.ts", "-o", tmp_path / "x.ts").code == 2


def test_photos_and_videos_in_one_folder(cli, clip, astronaut, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    os.link(clip[0], folder / "clip.mp4")
    Image.fromarray(astronaut).save(folder / "photo.png")
    base = ("run", "-m", "haar", folder, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    result = cli(*base)
    assert result.code == 0 and result.out.startswith("2 files: 2 with faces")
    assert {row["input"]: row["frames"] for row in rows(tmp_path / "m.jsonl")} == {"clip.mp4": 40, "photo.png": 1}
    assert "2 done before" in cli(*base, "--resume").out
    assert "1 done before" not in cli(*base, "--resume", "--tracking", "off").out
    for source, target in (("clip.mp4", "x.png"), ("photo.png", "x.mp4")):
        result = cli("run", "-m", "haar", folder / source, "-o", tmp_path / target)
        assert result.code == 2 and "is named as" in result.err


def test_damaged_files(cli, clip, tmp_path):
    good = clip[0].read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in (
        ("empty.mp4", b""),
        ("text.mp4", b"just words, no video at all"),
        ("cut.mp4", good[: len(good) // 2]),  # its index is at the end, and missing
        ("noise.mkv", np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()),
        ("photo.mp4", photo_bytes(clip[1][0])),
    ):
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.mp4")
    os.link(clip[0], folder / "good.mp4")
    result = cli("run", "-m", "haar", folder, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    assert result.code == 1 and len(result.err.splitlines()) == 6 and "internal error" not in result.err, result.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.mp4"]


@pytest.mark.parametrize(("name", "codec"), [("tv.ts", "libx264"), ("tv.mpg", "mpeg1video")])
def test_a_file_that_was_joined_of_several_keeps_its_times_and_sound(cli, scene, tmp_path, name, codec):
    one, joined, out = (tmp_path / place for place in (f"one.{name}", name, "out.mkv"))
    videos.write(one, [np.roll(scene, t, axis=1) for t in range(25)], codec, audio="mp2", options={"b": "3M"})
    joined.write_bytes(one.read_bytes() * 3)
    result = cli("run", "-m", "haar", joined, "-o", out, "--detections", given(tmp_path, name, []))
    assert result.code == 0 and result.err.endswith("places where time begins anew; the rest follows what was before: 2\n")
    times, sound = videos.times(out), videos.packets(out, "audio")
    assert len(times) == 75 and np.diff(times).min() > 0.038 and np.diff(times).max() < 0.2
    assert [data for data, _ in sound] == [data for data, _ in videos.packets(joined, "audio")]
    heard = [time for _, time in sound]
    assert np.diff(heard).min() > 0.02 and np.diff(heard).max() < 0.2
    for part in range(3):  # sound and picture stay together
        together = times[25 * part] - heard[len(heard) // 3 * part]
        assert together == pytest.approx(videos.times(one)[0] - videos.packets(one, "audio")[0][1], abs=0.05)


def test_what_is_left_of_a_damaged_video_survives(cli, scene, head, tmp_path):
    pictures, _ = walk(scene, head, 60)
    data = bytearray(videos.write(tmp_path / "whole.mkv", pictures, audio="aac").read_bytes())
    (tmp_path / "short.mkv").write_bytes(data[: len(data) * 2 // 3])
    rng = np.random.default_rng(3)
    for start in (len(data) // 3, len(data) // 2):
        data[start : start + 3000] = rng.integers(0, 256, 3000, np.uint8).tobytes()
    (tmp_path / "holes.mkv").write_bytes(data)
    for name in ("short.mkv", "holes.mkv"):
        result = cli("run", "-m", "haar", tmp_path / name, "-o", tmp_path / "out", "--manifest", tmp_path / f"{name}.jsonl")
        [row] = rows(tmp_path / f"{name}.jsonl")
        assert result.code == 0 and row["notes"], name
        assert all(line.startswith(f"faceblur: {tmp_path / name}: ") for line in result.err.splitlines())
        assert 15 < len(videos.frames(tmp_path / "out" / name)) < 60
    assert "ends after" in " ".join(rows(tmp_path / "short.mkv.jsonl")[0]["notes"])


def remuxed(source, path, change):
    """Copy the packets of a video, each as ``change`` makes it of its number and bytes, without those of which it makes none."""
    with av.open(str(source)) as before, av.open(str(path), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for number, packet in enumerate(packet for packet in before.demux(video=0) if packet.size):
            if data := change(number, bytes(packet)):
                made = av.Packet(data)
                made.pts, made.dts, made.duration, made.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
                made.is_keyframe, made.stream = packet.is_keyframe, stream
                after.mux(made)
    return path


@pytest.mark.parametrize(
    ("codec", "name", "refused"),
    [("libx265", "a.mkv", 0), ("libx265", "a.mp4", 0), ("libvpx-vp9", "a.webm", 4), ("mjpeg", "a.avi", 1)],
)
def test_how_many_pictures_are_missing_is_told(cli, scene, tmp_path, codec, name, refused):
    """Some decoders drop pictures and raise nothing."""
    options = {"x265-params": "log-level=error:keyint=12"} if codec == "libx265" else {}
    pictures = [np.roll(scene, 2 * t, axis=1) for t in range(24)]
    source = videos.write(tmp_path / name, pictures, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", options=options)
    hole = remuxed(
        source, tmp_path / f"hole{name}", lambda number, data: data[:8] + bytes(len(data) - 8) if number == 6 else data
    )
    result = cli("run", "-m", "haar", source, hole, "-o", tmp_path / "out")
    left = len(videos.frames(tmp_path / "out" / hole.name))
    assert result.code == 0 and left < 24 and f"{hole}: {24 - left} of 24 pictures are missing" in result.err
    assert result.err.count("damaged packets") == (refused > 0) and f"{source}: " not in result.err


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx265", {"x265-params": "log-level=error:keyint=12:min-keyint=12:scenecut=0:open-gop=1:bframes=4"}),
        ("libx264", {"x264-params": "keyint=12:scenecut=0:open-gop=1:bframes=4"}),
        ("libx264", {"flags": "+ildct+ilme"}),
        ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "1M"}),
    ],
)
def test_no_picture_is_missed_that_no_player_shows(cli, scene, tmp_path, codec, options):
    """What was cut out of a longer video may begin with pictures that need others, before the first whole one."""
    pictures = [np.roll(scene, 2 * t, axis=1) for t in range(48)]
    source = videos.write(tmp_path / "whole.mkv", pictures, codec, options=options)
    part = remuxed(source, tmp_path / "part.mkv", lambda number, data: data if number >= 5 else b"")
    result = cli("run", "-m", "haar", source, part, "-o", tmp_path / "out")
    assert result.code == 0 and "missing" not in result.err


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_no_half_file(scene, head, tmp_path, end):
    pictures, _ = walk(scene, head, 60, speed=1)
    path = videos.write(tmp_path / "long.mp4", pictures * 20)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "faceblur_core", "run", "-m", "yunet", path, "-o", out, "--manifest", tmp_path / "m.jsonl"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not leftovers(tmp_path):
        time.sleep(0.05)
        assert process.poll() is None
    time.sleep(0.3)
    os.killpg(process.pid, end)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if end == signal.SIGINT else -end)
    assert err.endswith("faceblur: interrupted\n") and "Traceback" not in err
    assert not list(out.iterdir()) and not (tmp_path / "m.jsonl").read_text()


def test_a_full_disk_leaves_no_half_file(clip, tmp_path):
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.argv = ["faceblur", "run", "-m", "haar", {str(clip[0])!r}, "-o", {str(tmp_path / "out")!r}]
from faceblur_core.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "clip.mp4 cannot be written" in done.stderr, done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_nothing_is_overwritten_unasked(cli, clip, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "clip.mp4").write_text("mine")
    result = cli("run", "-m", "haar", clip[0], "-o", out)
    assert result.code == 2 and (out / "clip.mp4").read_text() == "mine"
    result = cli("run", "-m", "haar", clip[0], "-o", out, "--manifest", tmp_path / "m.jsonl", "--resume")
    assert result.code == 1 and "--overwrite replaces it" in result.err and (out / "clip.mp4").read_text() == "mine"


def test_a_preview_shows_the_face(cli, clip, tmp_path):
    path, _, places = clip
    result = cli("run", "-m", "yunet", path, "-o", tmp_path / "out", "--preview")
    assert result.code == 0 and "NOT anonymized" in result.out
    out = videos.frames(tmp_path / "out" / "clip.mp4")
    edges = [
        np.abs(np.diff(picture[inner(place)].astype(int), axis=0)).mean() for picture, place in zip(out, places, strict=True)
    ]
    assert min(edges) > 2
    with VideoReader(tmp_path / "out" / "clip.mp4", 10**8) as reader:
        assert reader.made == "preview"


def test_a_video_without_a_face(cli, scene, tmp_path):
    path = videos.write(tmp_path / "empty.mp4", [np.roll(scene, t, axis=1) for t in range(8)])
    result = cli("run", "-m", "yunet", path, "-o", tmp_path / "a")
    assert result.code == 0 and "0 with faces" in result.out
    result = cli("run", "-m", "yunet", path, "-o", tmp_path / "b", "--fail-on-no-face")
    assert result.code == 1 and "no face was found" in result.err and not list((tmp_path / "b").iterdir())


def test_methods_without_detections_run_picture_by_picture(cli, clip, tmp_path, install):
    install("good")
    result = cli("run", "-m", "wipe", clip[0], "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    assert result.code == 0, result.err
    assert "tracks" not in rows(tmp_path / "m.jsonl")[0]["video"] and rows(tmp_path / "m.jsonl")[0]["frames"] == 40
    little = cli("run", "-m", "wipe", "--set", "level=1", clip[0], "-o", tmp_path / "little", "--fail-on-no-face")
    assert little.code == 1 and "no face was found" in little.err and not list((tmp_path / "little").iterdir())


def test_a_plugin_that_breaks_its_contract_costs_its_video(cli, clip, tmp_path, install):
    install("sloppy")
    for method, message in (("shrinker", "plugin sloppy returned an image"), ("haar+nothing", "and left it as it was")):
        result = cli("run", "-m", method, clip[0], "-o", tmp_path / "out")
        assert result.code == 1 and message in result.err and not list((tmp_path / "out").glob("*"))


def test_encoders_and_their_options(cli, clip, tmp_path):
    base = ("run", "-m", "haar", clip[0], "-o")
    assert cli(*base, tmp_path / "small.mp4", "--crf", 40, "--preset", "ultrafast").code == 0
    assert cli(*base, tmp_path / "large.mp4", "--crf", 10, "--encoder-option", "tune=film").code == 0
    assert (tmp_path / "small.mp4").stat().st_size * 2 < (tmp_path / "large.mp4").stat().st_size
    before = os.sched_getscheduler(0)
    assert cli(*base, tmp_path / "other.mkv", "--video-encoder", "libsvtav1").code == 0
    assert {os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")} == {before}  # root's SVT-AV1 changes it
    for options, message in (
        (("--video-encoder", "x264"), "no video encoder named 'x264'; it can be: libx264"),
        (("--video-encoder", "ffv1", "--crf", 3), "ffv1 has no CRF"),
        (("--video-encoder", "ffv1", "--preset", "fast"), "ffv1 has no presets; leave out --preset"),
        (("--encoder-option", "tune"), "not of the form name=value"),
    ):
        result = cli(*base, tmp_path / "bad.mkv", *options)
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1
    old = videos.write(tmp_path / "old.avi", [np.zeros((48, 64, 3), np.uint8)] * 2, codec="mpeg4")
    result = cli("run", "-m", "haar", old, "-o", tmp_path / "new.avi", "--crf", 3, "--preset", "fast")
    for scale in ("CRF", "presets"):
        assert result.code == 0 and f"encoder mpeg4 has no {scale}; what was asked for does not count" in result.err
    result = cli(*base, tmp_path / "bad.mkv", "--preset", "warp")
    assert (
        result.code == 1
        and "cannot be encoded with libx264" in result.err
        and "correct --crf, --preset or" in result.err
        and not (tmp_path / "bad.mkv").exists()
    )
    for options in (("--crf", 52), ("--crf", 64, "--video-encoder", "libsvtav1")):
        result = cli(*base, tmp_path / "bad.mkv", *options)
        assert result.code in (1, 2) and f"--crf {options[1]}: the scale of " in result.err
        assert not (tmp_path / "bad.mkv").exists()
    result = cli(*base, tmp_path / "bad.mkv", "--encoder-option", "tnue=grain")
    assert result.code == 1 and "libx264 has no option tnue" in result.err and not (tmp_path / "bad.mkv").exists()


def test_options_for_photos_are_said_to_be_that(cli, clip, tmp_path):
    base = ("run", "-m", "haar", clip[0], "-o", tmp_path / "out", "--dry-run")
    assert cli(*base).err == ""
    said = cli(*base, "--keep-metadata", "--quality", 80).err
    assert said.startswith("faceblur: --quality and --keep-metadata for photos alone: a video") and said.count("\n") == 1


def test_options_for_videos_are_said_to_be_that(cli, clip, tmp_path):
    (tmp_path / "a.png").write_bytes(photos.encoded(np.zeros((40, 40, 3), np.uint8), "PNG"))
    given = ("--crf", 10, "--no-audio", "--tracking", "off", "--preset", "silly", "--encoder-option", "a=b")
    said = cli("run", "-m", "haar", tmp_path / "a.png", "-o", tmp_path / "out", *given).err
    options = "--tracking and --no-audio and --crf and --preset and --encoder-option"
    assert said == f"faceblur: {options} for videos alone, and there is none among the inputs\n"
    wrong = cli("run", "-m", "haar", clip[0], "-o", tmp_path / "out", "--look-ahead", 3, "--tracking", "off")
    assert wrong.code == 2 and "leave it out with --tracking off" in wrong.err and wrong.err.count("\n") == 1


def test_motion_jpeg_is_full_range_whatever_the_video_was(cli, tmp_path):
    ramp = np.repeat(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))[..., None], 3, axis=2)
    for number, tags in enumerate(({}, {"color_range": 1}, {"color_range": 2})):
        source = videos.write(tmp_path / f"{number}.mp4", [ramp] * 3, tags=tags)
        made = tmp_path / f"{number}.avi"
        result = cli("run", "-m", "haar", source, "-o", made, "--video-encoder", "mjpeg")
        assert result.code == 0 and ("colours are written in full range" in result.err) == (number < 2), result.err
        with av.open(str(source)) as before, av.open(str(made)) as after:
            assert after.streams.video[0].codec_context.pix_fmt == "yuvj420p"
            was, now = (next(one.decode(video=0)) for one in (before, after))
            luma = [frame.to_ndarray()[:48].astype(float) for frame in (was, now)]
            if number < 2:
                luma[0] = (luma[0] - 16) * 255 / 219
            assert np.abs(luma[0] - luma[1]).mean() < 2 and np.ptp(luma[0]) > 210


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "target", "encoder"),
    [
        ("mjpeg", "yuvj422p", "out.mov", "prores_ks"),
        ("libx264", "yuvj420p", "out.mp4", "mpeg4"),
        ("libx264", "yuvj420p", "out.mkv", "libvpx"),
        ("libx264", "yuvj420p", "out.avi", "ffv1"),
        ("libx264", "yuvj420p", "out.mkv", "ffv1"),
        ("libx265", "gray", "out.mkv", "libvpx"),
        ("png", "rgb24", "out.mov", "prores_ks"),
    ],
)
def test_full_range_becomes_limited_where_a_file_cannot_say_it(cli, tmp_path, codec, pix_fmt, target, encoder):
    ramp = np.repeat(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))[..., None], 3, axis=2)
    tags = {} if codec == "png" else {"color_range": 2}
    quiet = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    source = videos.write(tmp_path / "in.mov", [ramp] * 3, codec, pix_fmt, tags=tags, options=quiet)
    result = cli("run", "-m", "haar", source, "-o", tmp_path / target, "--video-encoder", encoder)
    kept = (target, encoder) == ("out.mkv", "ffv1")
    noted = f"colours are written in limited range, the only one that {encoder} has in " in result.err
    assert result.code == 0 and noted == (codec != "png" and not kept), result.err
    with av.open(str(tmp_path / target)) as after:
        frame = next(after.decode(video=0))
        assert int(frame.color_range) == 2 if kept else int(frame.color_range) < 2
        assert np.abs(in_rgb(frame) - ramp).mean() < 2


COLOURS = {  # codec, pixel format, tags and width of a video; name and encoder of what it becomes; its matrix and range
    "stills": ("png", "rgb24", {}, 320, "out.mov", "libx264", 6, 1),
    "large stills": ("png", "rgb24", {}, 1280, "out.mov", "libx264", 1, 1),
    "wide colours": ("libx264rgb", "rgb24", {"color_primaries": 9}, 320, "out.mp4", "libx264", 9, 1),
    "screen": ("libx264rgb", "rgb24", {}, 320, "out.avi", "", 6, 1),
    "transparent": ("png", "rgba", {}, 320, "out.mov", "", 6, 1),
    "old": ("png", "rgb24", {}, 320, "out.avi", "mpeg4", 2, 0),
    "photos": ("png", "rgb24", {}, 1280, "out.avi", "mjpeg", 5, 2),
    "planes": ("libx265", "gbrp", {}, 320, "out.mp4", "", 0, 2),
    "film": ("prores_ks", "yuv444p10le", {}, 320, "out.mp4", "libx264", 2, 0),
    "web": ("libx264", "yuv444p", {"colorspace": 1, "color_range": 1}, 320, "out.webm", "libvpx", 5, 1),
    "camera": ("libx264", "yuv444p", {"colorspace": 1, "color_range": 1}, 320, "out.avi", "mjpeg", 5, 2),
}


def in_rgb(frame) -> np.ndarray:
    """Return a picture by its own tags, with no library's guesses; what has none is small and of limited range."""
    if not frame.format.name.startswith("yuv"):
        return frame.to_ndarray(format="rgb24").astype(float)
    space, full = int(frame.colorspace), int(frame.color_range) == 2
    depth = frame.format.components[0].bits
    planes = []
    for plane in frame.planes[:3]:
        values = np.frombuffer(plane, np.uint8 if depth == 8 else np.uint16).reshape(plane.height, -1)[:, : plane.width]
        whole = values.repeat(frame.height // plane.height, 0).repeat(frame.width // plane.width, 1)
        planes.append(whole / 2.0 ** (depth - 8))
    assert space != 0, "players take it for green, blue and red"
    low, heights = (0, (255, 255)) if full else (16, (219, 224))
    light, blue, red = (planes[0] - low) / heights[0], (planes[1] - 128) / heights[1], (planes[2] - 128) / heights[1]
    kr, kb = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(space, (0.299, 0.114))
    r, b = light + 2 * (1 - kr) * red, light + 2 * (1 - kb) * blue
    return np.dstack([r, (light - kr * r - kb * b) / (1 - kr - kb), b]).clip(0, 1) * 255


@pytest.mark.parametrize("name", COLOURS)
def test_tags_and_values_of_colours_agree(cli, scene, tmp_path, name):
    """RGB's own tags, of no matrix and full range, are not true of the YUV that it becomes."""
    codec, pix_fmt, tags, width, target, encoder, space, spread = COLOURS[name]
    picture = np.tile(scene[:120], (1, width // scene.shape[1], 1))
    if pix_fmt == "rgba":
        picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    quiet = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    path = videos.write(tmp_path / "in.mov", [picture] * 3, codec, pix_fmt, tags=tags, options=quiet)
    if codec == "prores_ks":  # cameras leave its byte for the matrix 0, which elsewhere means RGB
        parts = path.read_bytes().split(b"icpf")
        path.write_bytes(b"icpf".join([parts[0], *(part[:16] + b"\0" + part[17:] for part in parts[1:])]))
    chosen = ("--video-encoder", encoder) if encoder else ()
    result = cli("run", "-m", "haar", path, "-o", tmp_path / target, *chosen)
    assert result.code == 0, result.err
    with av.open(str(path)) as before, av.open(str(tmp_path / target)) as after:
        was, now = (next(container.decode(video=0)) for container in (before, after))
        assert (int(now.colorspace), int(now.color_range)) == (space, spread)
        change = in_rgb(now) - (picture[..., :3] if codec == "prores_ks" else in_rgb(was))
        assert np.abs(change).mean() < 4 and np.abs(change.mean((0, 1))).max() < 2


def test_too_many_pixels_are_refused(cli, tmp_path):
    path = videos.write(tmp_path / "wide.mp4", [np.zeros((900, 1200, 3), np.uint8)] * 2)
    result = cli("run", "-m", "haar", path, "-o", tmp_path / "out", "--max-megapixels", 1)
    assert result.code == 1 and "1200 x 900 pixels are more than 1 megapixels (--max-megapixels)" in result.err


def test_runs_in_a_process_of_its_own_say_nothing_else(clip, tmp_path):
    done = spawn("run", "-m", "haar", clip[0], "-o", tmp_path / "out", "--video-encoder", "libx265")
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("1 video")


def test_a_reader_holds_few_pictures(clip, tmp_path, monkeypatch):
    with VideoReader(clip[0], 10**8) as reader:
        assert reader.size == (240, 320) and reader.seconds == pytest.approx(1.6, abs=0.1) and reader.made == ""
    with pytest.raises(UnreadableImage):
        VideoReader(clip[0].parent / "nothing.mp4", 10**8)
    monkeypatch.chdir(tmp_path)
    os.link(clip[0], "10:30.mp4")
    VideoReader(Path("10:30.mp4"), 10**8).close()  # its name begins with no protocol


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"])
def test_a_playlist_does_not_open_the_files_that_it_names(clip, tmp_path, text):
    """A file that calls itself a video could otherwise bring another one, which nobody meant to read, into the result."""
    (tmp_path / "other.mp4").write_bytes(clip[0].read_bytes())
    (tmp_path / "list.mp4").write_text(text.format("other.mp4"))
    with pytest.raises(UnreadableImage, match="not a video"):
        VideoReader(tmp_path / "list.mp4", 10**8)


def test_work_ahead_is_bounded_and_errors_arrive():
    made = []

    def numbers(fail_at=None):
        for value in range(100):
            if value == fail_at:
                raise KeyError(value)
            made.append(value)
            yield value

    ahead = overlapped(numbers(), 3)
    assert next(ahead) == 0
    time.sleep(0.3)
    assert len(made) <= 6
    ahead.close()
    assert list(overlapped(numbers(), 3)) == list(range(100))
    with pytest.raises(KeyError):
        list(overlapped(numbers(fail_at=5), 3))


def test_the_nearest_pixel_format_is_chosen():
    h264 = ["yuv420p", "yuv422p", "yuv444p", "nv12", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray", "gray10le"]
    assert _closest("yuvj420p", h264) == "yuv420p"
    assert _closest("bgr24", h264) == "yuv444p"
    assert _closest("bgr24", ["yuv444p", "yuv422p", "bgr0"]) == "bgr0"
    assert _closest("yuyv422", ["yuv440p", "yuv422p", "yuv444p"]) == "yuv422p"
    assert _closest("yuv411p", ["yuv420p", "yuv422p", "yuv444p"]) == "yuv422p"
    assert _closest("p010le", h264) == "yuv420p10le"
    assert _closest("yuv422p12le", h264) == "yuv422p10le"
    assert _closest("yuva444p12le", ["yuv422p10le", "yuv444p10le", "yuva444p10le"]) == "yuva444p10le"
    assert set(ENCODERS) >= {"libx264", "libx265", "h264_nvenc"}


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "written", "least"),
    [
        ("rawvideo", "bgr24", ("ffv1", "bgr0"), 0),
        ("utvideo", "gbrp", ("ffv1", "bgr0"), 0),
        ("png", "rgb24", ("ffv1", "bgr0"), 0),
        ("rawvideo", "yuyv422", ("ffv1", "yuv422p"), 1),
        ("rawvideo", "yuv420p", ("mpeg4", "yuv420p"), 5),
        ("utvideo", "yuv420p", ("mpeg4", "yuv420p"), 5),
    ],
)
def test_what_has_no_encoder_of_its_own_is_written_with_the_least_loss(cli, scene, tmp_path, codec, pix_fmt, written, least):
    source = videos.write(tmp_path / "in.avi", [scene] * 3, codec, pix_fmt)
    result = cli("run", "-m", "haar", source, "-o", tmp_path / "out.avi")
    assert result.code == 0, result.err
    with av.open(str(tmp_path / "out.avi")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == written
    for before, after in zip(videos.frames(source), videos.frames(tmp_path / "out.avi"), strict=True):
        assert np.abs(before.astype(int) - after).mean() <= least


@pytest.mark.parametrize(
    ("name", "codec", "target", "encoder", "written"),
    [
        ("in.flv", "flv", "out.mp4", "", ("h264", "yuv444p")),
        ("in.flv", "flv", "out.mkv", "", ("h264", "yuv444p")),
        ("in.webm", "libvpx-vp9", "out.mp4", "libx265", ("hevc", "yuv444p")),
        ("in.webm", "libvpx-vp9", "out.mp4", "", ("vp9", "yuv420p")),
    ],
)
def test_h264_and_hevc_hold_sizes_that_are_not_even(cli, scene, tmp_path, name, codec, target, encoder, written):
    """They have no half samples of colour: such a video is written in 4:4:4."""
    source = videos.write(tmp_path / name, [scene[:119, :161]] * 3, codec, "yuv420p")
    result = cli("run", "-m", "haar", source, "-o", tmp_path / target, *(("--video-encoder", encoder) if encoder else ()))
    assert result.code == 0, result.err
    assert ("pixel format yuv420p is written as yuv444p" in result.err) == (written[1] == "yuv444p")
    with av.open(str(tmp_path / target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == (*written, 161, 119)
    for before, after in zip(videos.frames(source), videos.frames(tmp_path / target), strict=True):
        assert np.abs(before.astype(int) - after).mean() < 6


def test_faces_are_exported_picture_by_picture_and_fed_back(cli, clip, tmp_path):
    path, _, places = clip
    boxes = tmp_path / "boxes.jsonl"
    base = ("run", path, "-m", "yunet+solid")
    assert cli(*base, "-o", tmp_path / "a", "--export-detections", boxes).code == 0
    found = rows(boxes)
    assert [row["frame"] for row in found] == list(range(40)) and found[5]["time"] == pytest.approx(0.2)
    assert all(len(row["detections"]) == 1 and row["detections"][0]["track"] == 0 for row in found)
    result = cli(*base, "-o", tmp_path / "b", "--detections", boxes)
    assert result.code == 0, result.err
    for one, other in zip(videos.frames(tmp_path / "a" / "clip.mp4"), videos.frames(tmp_path / "b" / "clip.mp4"), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 1
    found[7]["detections"] = []
    boxes.write_text("".join(json.dumps(row) + "\n" for row in found))
    assert cli(*base, "-o", tmp_path / "c", "--detections", boxes).code == 0
    open_ = [
        picture[inner(place)].mean() > 60
        for picture, place in zip(videos.frames(tmp_path / "c" / "clip.mp4"), places, strict=True)
    ]
    assert open_.index(True) == 7 and sum(open_) == 1
    for change, message in (
        (found[:12] + found[13:], "no row was given for frame 12"),
        ([*found, {**found[0], "frame": 40}], "frame 40, the file has 40"),
    ):
        boxes.write_text("".join(json.dumps(row) + "\n" for row in change))
        result = cli(*base, "-o", tmp_path / "d", "--detections", boxes)
        assert result.code == 1 and message in result.err and not list((tmp_path / "d").iterdir())


def test_a_video_whose_faces_are_wanted_and_in_no_file_is_done_again(cli, clip, tmp_path):
    base = ("run", clip[0], "-m", "yunet+solid", "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl", "--resume")
    wanted = ("--export-detections", tmp_path / "boxes.jsonl")
    assert cli(*base).code == 0
    assert "done before" in cli(*base).out
    assert "done before" not in cli(*base, *wanted).out and len(rows(tmp_path / "boxes.jsonl")) == 40
    assert "done before" in cli(*base, *wanted).out and len(rows(tmp_path / "boxes.jsonl")) == 40


def brought_with(path) -> set[str]:
    """Return what the pictures of a video bring with them."""
    with av.open(str(path)) as container:
        return {data.type.name for frame in container.decode(video=0) for data in frame.side_data}


def encoded(path, encoder, pixel_format, prefix=b"", **options):
    """Write five pictures; each packet begins with the prefix."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=25, options={"preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
        for number in (*range(5), None):
            frame = None
            if number is not None:
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8)).reformat(format=pixel_format)
                frame.pts = number
            for packet in stream.encode(frame):
                other = av.Packet(prefix + bytes(packet))
                other.pts, other.dts, other.time_base, other.stream = packet.pts, packet.dts, packet.time_base, stream
                container.mux(other)
    return path


def test_closed_captions_are_left_out_with_the_subtitles_and_told_otherwise(cli, tmp_path):
    captions = b"\xb5\0\x31GA94\x03\x42\xff\xfc\x94\x2c\xfc\xc8\x49\xff"  # ATSC A/53, two pairs of characters
    message = b"\0\0\0\1\x06\x04" + bytes([len(captions)]) + captions + b"\x80"
    clip = encoded(tmp_path / "told.ts", "libx264", "yuv420p", message, bf="0")
    copied = "closed captions are copied as they are, and may tell where or who"
    assert "A53_CC" in brought_with(clip)
    for options, kept, note in (
        ((), True, copied),
        (("--no-subtitles",), False, ""),
        (("--video-encoder", "libx265"), True, copied),
        (("--video-encoder", "libx265", "--no-subtitles"), False, ""),
        (("--video-encoder", "ffv1"), False, "closed captions are lost: ffv1 writes none"),
    ):
        result = cli("run", "-m", "haar", clip, "-o", tmp_path / "out.mkv", "--overwrite", *options)
        assert result.code == 0 and result.err.count("closed captions") == (1 if note else 0) and note in result.err
        assert ("A53_CC" in brought_with(tmp_path / "out.mkv")) == kept


def test_comments_in_the_headers_of_copied_sound_are_dropped(cli, tmp_path):
    def headers(path):
        with av.open(str(path)) as container:
            return bytes(container.streams.audio[0].codec_context.extradata)

    comments = b"\3vorbis" + bytes(4) + struct.pack("<II", 1, 300) + b"TITLE=" + b"at home" * 42 + b"\1"
    with av.open(str(tmp_path / "plain.mkv"), "w") as container:
        sound = container.add_stream("vorbis", rate=48_000, options={"strict": "experimental"})
        sound.layout = "stereo"
        noise = np.random.default_rng(0).normal(0, 0.1, (2, 24_000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, 0
        for part in (frame, None):
            container.mux(sound.encode(part))
    plain = headers(tmp_path / "plain.mkv")
    first, second = plain[1], plain[2]
    told = b"\2" + bytes([first, 255, len(comments) - 255]) + plain[3 : 3 + first] + comments + plain[3 + first + second :]
    assert without_comments(told) == without_comments(plain) == plain and without_comments(b"\2") == b"\2"
    lengths = (part for body in (plain[3 : 3 + first], comments, plain[3 + first + second :]) for part in (len(body), body))
    in_16_bits = b"".join(part if isinstance(part, bytes) else struct.pack(">H", part) for part in lengths)
    assert without_comments(in_16_bits) == plain
    assert without_comments(b"") == b"" and without_comments(b"no headers") == b"no headers"
    encoded(tmp_path / "pictures.mkv", "libx264", "yuv420p")
    with contextlib.ExitStack() as stack:
        clip = stack.enter_context(av.open(str(tmp_path / "clip.mkv"), "w"))
        parts = [stack.enter_context(av.open(str(tmp_path / f"{name}.mkv"))) for name in ("pictures", "plain")]
        streams = [clip.add_stream_from_template(part.streams[0]) for part in parts]
        streams[1].codec_context.extradata = told
        for part, stream in zip(parts, streams, strict=True):
            for packet in part.demux():
                if packet.size:
                    packet.stream = stream
                    clip.mux(packet)
    assert b"at home" in headers(tmp_path / "clip.mkv")
    result = cli("run", "-m", "haar", tmp_path / "clip.mkv", "-o", tmp_path / "out.mkv")
    assert result.code == 0 and headers(tmp_path / "out.mkv") == plain
    assert b"at home" not in (tmp_path / "out.mkv").read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_that_was_cut_away_does_not_come_back(cli, tmp_path, suffix):
    """Two seconds of a tone before two of silence; an edit list says to begin with the silence."""
    with av.open(str(tmp_path / "whole.mp4"), "w") as container:
        video, sound = container.add_stream("libx264", rate=25, options={"bf": "0"}), container.add_stream("aac", rate=48_000)
        video.width, video.height, video.pix_fmt, sound.layout = 64, 64, "yuv420p", "mono"
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8)).reformat(format="yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
        time = np.arange(4 * 48_000) / 48_000
        tone = np.where(time < 2, np.sin(2 * np.pi * 440 * time), 0).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux([*video.encode(None), *sound.encode(frame), *sound.encode(None)])
    keep = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    cut, out = tmp_path / "cut.mp4", tmp_path / f"out{suffix}"
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(cut), "w", container_options=keep) as container:
        streams = [container.add_stream_from_template(stream) for stream in whole.streams]
        for packet in whole.demux():
            if packet.size:
                packet.pts, packet.dts = (round(at - 2 / packet.time_base) for at in (packet.pts, packet.dts))
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    result = cli("run", "-m", "haar", cut, "-o", out)
    assert result.code == 0 and "packets of stream 1 that the file says not to play, left out" in result.err
    with av.open(str(out)) as container:
        heard = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
        assert (np.abs(heard) > 0.3).sum() < 0.1 * 48_000 and len(heard) == pytest.approx(2 * 48_000, rel=0.06)
    with av.open(str(out)) as container:
        assert sum(packet.size > 0 for packet in container.demux(audio=0)) == pytest.approx(2 / (1024 / 48_000), abs=6)


def test_lost_hdr_metadata_is_told(cli, tmp_path):
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    params = {"x265-params": f"log-level=error:{display}"}
    clip = encoded(tmp_path / "hdr.mkv", "libx265", "yuv420p10le", **params)
    assert {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} <= brought_with(clip)
    result = cli("run", "-m", "haar", clip, "-o", tmp_path / "out.mkv")
    assert result.code == 0 and result.err.count("HDR metadata (mastering display, light level) is lost") == 1
    assert "MASTERING_DISPLAY_METADATA" not in brought_with(tmp_path / "out.mkv")


def test_regions_and_times_are_chosen(cli, clip, tmp_path):
    path, _, places = clip  # 25 pictures per second, from x = 10 to 127
    regions = tmp_path / "regions.yaml"
    base = ("run", path, "-m", "yunet+solid", "--regions", regions)

    def black(name, text):
        regions.write_text(text)
        result = cli(*base, "-o", tmp_path / name)
        assert result.code == 0, result.err
        return videos.frames(tmp_path / name / "clip.mp4")

    spans = black("spans", "only: [{from: 0.4, to: 0:01.2}]")
    assert [picture[inner(place)].mean() < 25 for picture, place in zip(spans, places, strict=True)] == [
        10 <= t < 30 for t in range(40)
    ]
    part = black("part", "only: [{box: [0, 0, 100, 240]}]")
    assert part[0][inner(places[0])].mean() < 25 and part[39][inner(places[39])].mean() > 60
    kept = black("kept", "keep: [{box: [0, 0, 140, 240]}]")
    assert kept[0][inner(places[0])].mean() > 60 and kept[39][inner(places[39])].mean() < 25
    always = black("always", "keep: [{}]\nalways: [{box: [280, 200, 320, 240], from: 1}]")
    assert all((picture[210:230, 290:310].mean() < 10) == (t >= 25) for t, picture in enumerate(always))
    for text, message in (
        ("never: []", "unknown key 'never'; it takes only, keep, always"),
        ("only: 3", "only must be a list of areas"),
        ("only: [{boxes: 1}]", "only, entry 1: an area has box, from and to"),
        ("keep: [{box: [1, 2, 3]}]", "box must be [x1, y1, x2, y2] in pixels"),
        ("keep: [{box: [5, 5, 3, 9]}]", "is empty"),
        ("only: [{from: soon}]", "'soon' is no time"),
        ("only: [{from: 5, to: 4}]", "'to' must be later than 'from'"),
    ):
        regions.write_text(text)
        result = cli(*base, "-o", tmp_path / "bad")
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1


def test_choosing_is_refused_where_it_could_not_be_done(cli, clip, astronaut, tmp_path, install):
    install("good")
    (tmp_path / "r.yaml").write_text("keep: []")
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    for arguments, message in (
        (("-m", "wipe", clip[0], "--regions", tmp_path / "r.yaml"), "finds no faces before it hides them"),
        (("-m", "wipe", clip[0], "--export-detections", tmp_path / "d.jsonl"), "finds no faces before it hides them"),
        (("-m", "haar", tmp_path / "photo.png", "--regions", tmp_path / "r.yaml"), "--regions is for videos"),
        (("-m", "haar", clip[0], "--export-detections", clip[0]), "choose another name"),
        (("-m", "haar", clip[0], "--regions", tmp_path / "none.yaml"), "none.yaml"),
    ):
        result = cli("run", *arguments, "-o", tmp_path / "out")
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1, result.err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def picture(astronaut):
    """A picture with one face."""
    return videos.composite(videos.background(), [(videos.face(astronaut), 100, 80)])


def camera(path, picture, **options):
    """A video of three JPEG pictures, saved with these options."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95, **options)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuvj420p"
        stream.codec_context.open()
        for index in range(3):
            packet = av.Packet(buffer.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 10)
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
    return path


@pytest.mark.parametrize(("turned", "code"), [(1, 0), (6, 1)])
def test_pictures_of_a_camera_with_exif_data(cli, picture, tmp_path, turned, code):
    """PyAV raises where a picture holds data of a kind that it does not know."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "SECRETMAKE", turned
    source = camera(tmp_path / "exif.avi", picture, exif=exif.tobytes())
    result = cli("run", "-m", "yunet+solid", source, "-o", tmp_path / "out.avi")
    assert result.code == code and "internal" not in result.err, result.err
    if code:
        assert "turned" in result.err and not (tmp_path / "out.avi").exists()
    else:
        assert len(videos.frames(tmp_path / "out.avi")) == 3 and b"SECRETMAKE" not in (tmp_path / "out.avi").read_bytes()


@pytest.mark.parametrize("method", ["yunet+solid", "none"])
def test_colour_profiles_of_a_camera_s_pictures_are_dropped(cli, install, picture, tmp_path, method):
    install("good")
    source = camera(tmp_path / "icc.avi", picture, icc_profile=photos.SRGB)
    assert b"ICC_PROFILE" in source.read_bytes()
    name = "corner+solid" if method == "none" else method  # finds nothing: pictures go to the encoder as they are
    result = cli("run", "-m", name, source, "-o", tmp_path / "out.avi", "--video-encoder", "mjpeg")
    assert result.code == 0 and result.err.count("colour profile is lost") == 1, result.err
    with av.open(str(tmp_path / "out.avi")) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert len(packets) == 3 and not any(b"ICC_PROFILE" in packet for packet in packets)
    assert len(videos.frames(tmp_path / "out.avi")) == 3


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [("prores_ks", "yuv422p10le", "a.mov"), ("mpeg4", "yuv420p", "a.avi"), ("libx264", "yuv420p", "a.mp4")],
)
def test_interlaced_stays_interlaced(cli, picture, tmp_path, codec, pix_fmt, name):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], pix_fmt
        stream.codec_context.flags |= 1 << 18 | 1 << 29
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert cli("run", "-m", "yunet+solid", tmp_path / name, "-o", tmp_path / f"out-{name}").code == 0
    for path in (tmp_path / name, tmp_path / f"out-{name}"):
        with av.open(str(path)) as container:
            assert all(frame.interlaced_frame for frame in container.decode(video=0))


@pytest.mark.parametrize(
    ("codec", "name", "lost"), [("libvpx-vp9", "out.mkv", 1), ("libvpx-vp9", "out.mp4", 0), ("libx264", "out.mkv", 0)]
)
def test_a_pixel_aspect_is_kept_or_its_loss_told(cli, picture, tmp_path, codec, name, lost):
    shape = {"sample_aspect_ratio": Fraction(16, 11)}
    source = videos.write(tmp_path / "in.mp4", [picture] * 3, codec, tags=shape)
    result = cli("run", "-m", "yunet+solid", source, "-o", tmp_path / name)
    assert result.code == 0 and result.err.count("pixel aspect 16/11 is lost") == lost, result.err
    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.video[0]
        assert (stream.sample_aspect_ratio == Fraction(16, 11)) is not bool(lost)


def test_a_file_whose_first_picture_comes_late_does_not_end_early(cli, picture, tmp_path):
    source = videos.write(tmp_path / "late.mkv", [picture] * 5, rate=Fraction(10), times=range(50, 55))
    result = cli("run", "-m", "yunet+solid", source, "-o", tmp_path / "out.mkv")
    assert result.code == 0 and "ends after" not in result.err, result.err


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_hevc_of_one_picture_or_two(cli, picture, tmp_path, name):
    """The library gives these few no decoding times; what is in their place differs from run to run."""
    for count in (1, 2, 2, 2):
        source = videos.write(
            tmp_path / "in.mkv", [picture] * count, "libx265", options={"x265-params": "log-level=error:bframes=0"}
        )
        result = cli("run", "-m", "yunet+solid", source, "-o", tmp_path / name, "--overwrite")
        assert result.code == 0 and len(videos.frames(tmp_path / name)) == count, result.err
