"""``faceblur run`` as a user types it, on real photos and on every kind of bad input."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import photos
from conftest import rows, spawn
from faceblur_core.cli.output import workers_option
from faceblur_core.media.images import read_photo
from faceblur_core.run.manifest import ManifestWriter

FACE = np.s_[85:155, 190:255]  # inside the astronaut's face


@pytest.fixture
def portrait(tmp_path, astronaut):
    """A folder with one portrait, PNG."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(astronaut).save(folder / "portrait.png")
    return folder


def pixels(path):
    return np.asarray(photos.opened(path).convert("RGB")).astype(int)


def hidden(path, astronaut, region=FACE):
    return np.abs(pixels(path)[region] - astronaut[region].astype(int)).mean() > 15


def no_leftovers(folder):
    return not [name for _, _, files in os.walk(folder) for name in files if name.endswith(".part")]


def test_the_face_is_hidden_and_the_rest_is_not_touched(cli, portrait, tmp_path, astronaut):
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out")
    assert result.code == 0 and "1 photo: 1 with faces (1 in all), 0 without" in result.out and result.err == ""
    out = tmp_path / "out" / "portrait.png"
    assert hidden(out, astronaut)
    assert (pixels(out)[300:] == astronaut[300:]).all()


def test_an_animation_as_tiff_loses_its_times_and_says_so(cli, astronaut, tmp_path):
    first, *others = [Image.fromarray(astronaut[:200, 100 + 20 * number : 300 + 20 * number]) for number in range(3)]
    first.save(tmp_path / "a.webp", save_all=True, append_images=others, duration=[40, 80, 120])
    first.save(tmp_path / "pages.tiff", save_all=True, append_images=others)
    result = cli("run", "-m", "haar", tmp_path / "a.webp", "-o", tmp_path / "out", "--format", "tiff")
    assert result.code == 0 and "a.webp: TIFF says nothing of times: how long each picture was shown is lost" in result.err
    with Image.open(tmp_path / "out" / "a.tiff") as made:
        assert made.n_frames == 3
    for source, form in (("a.webp", "gif"), ("pages.tiff", "tiff")):
        result = cli("run", "-m", "haar", tmp_path / source, "-o", tmp_path / form, "--format", form)
        assert (result.code, result.err) == (0, "")


def test_folders_are_mirrored_and_other_files_left_alone(cli, portrait, tmp_path):
    (portrait / "deep" / "er").mkdir(parents=True)
    shutil.copy(portrait / "portrait.png", portrait / "deep" / "er" / "B.PNG")
    for name in ("notes.txt", "more.txt", *(f"file.{letter}" for letter in "abcdef")):
        (portrait / name).write_text("hello")
    for name in (".hidden.png", ".hidden.mp4", ".hidden"):
        (portrait / name).write_text("x")
    (portrait / ".folder").mkdir()
    shutil.copy(portrait / "portrait.png", portrait / ".folder")
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out")
    more = "no photos by name: 2 .txt, 1 .a, 1 .b, 1 .c, 1 .d and 2 more kinds"
    assert (result.code, result.err) == (0, f"faceblur: passed over, 1 hidden folder; 2 hidden files; {more}\n")
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    assert written == {"portrait.png", "deep/er/B.PNG"}


def test_globs_and_single_files(cli, portrait, tmp_path):
    shutil.copy(portrait / "portrait.png", portrait / "odd[1].png")
    assert cli("run", "-m", "haar", portrait / "*.png", "-o", tmp_path / "glob").out.startswith("2 photos")
    assert (tmp_path / "glob" / "odd[1].png").exists()
    assert cli("run", "-m", "haar", portrait / "odd[1].png", "-o", tmp_path / "one" / "renamed.webp").code == 0
    assert photos.opened(tmp_path / "one" / "renamed.webp").format == "WEBP"


def test_the_format_can_be_chosen(cli, portrait, tmp_path):
    assert cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--format", "jpeg", "--quality", 80).code == 0
    assert photos.opened(tmp_path / "out" / "portrait.jpg").format == "JPEG"


@pytest.mark.parametrize("orientation", [6, 8])
def test_sideways_photos_are_read_upright(cli, tmp_path, astronaut, orientation):
    data = photos.encoded(
        photos.turned(astronaut, orientation), "JPEG", quality=95, exif=photos.exif(orientation=orientation, gps=True)
    )
    (tmp_path / "photo.jpg").write_bytes(data)
    result = cli("run", "-m", "haar", tmp_path / "photo.jpg", "-o", tmp_path / "out", "--keep-metadata")
    assert "1 with faces" in result.out and hidden(tmp_path / "out" / "photo.jpg", astronaut)
    tags = photos.opened(tmp_path / "out" / "photo.jpg").getexif()
    assert not tags.get_ifd(0x8825) and tags.get(274) is None and tags[271] == "Camera Works"


def test_transparent_photos_hide_in_colour_not_in_alpha(cli, tmp_path, astronaut):
    alpha = np.full(astronaut.shape[:2], 255, np.uint8)
    alpha[80:120, 200:240] = 0  # a hole in the face itself
    Image.fromarray(np.dstack([astronaut, alpha])).save(tmp_path / "photo.png")
    assert cli("run", "-m", "haar", tmp_path / "photo.png", "-o", tmp_path / "out").code == 0
    out = np.asarray(photos.opened(tmp_path / "out" / "photo.png"))
    assert np.array_equal(out[..., 3], alpha)
    assert np.abs(out[FACE][..., :3].astype(int) - astronaut[FACE]).mean() > 15


def test_deep_photos_stay_deep(cli, tmp_path, astronaut):
    picture = photos.deep(astronaut)
    (tmp_path / "photo.png").write_bytes(photos.deep_png(picture))
    assert cli("run", "-m", "haar", tmp_path / "photo.png", "-o", tmp_path / "out").code == 0
    out = read_photo((tmp_path / "out" / "photo.png").read_bytes()).frames[0].pixels
    assert out.dtype == np.uint16 and np.array_equal(out[300:], picture[300:])
    assert np.abs(out[FACE].astype(int) - picture[FACE]).mean() > 15 * 257


def test_cmyk_photos_are_handled(cli, tmp_path, astronaut):
    Image.fromarray(astronaut).convert("CMYK").save(tmp_path / "photo.jpg", quality=95)
    assert "1 with faces" in cli("run", "-m", "haar", tmp_path / "photo.jpg", "-o", tmp_path / "out").out
    assert photos.opened(tmp_path / "out" / "photo.jpg").mode == "CMYK"
    assert hidden(tmp_path / "out" / "photo.jpg", astronaut)


def test_bad_files_do_not_stop_the_others(cli, portrait, tmp_path, astronaut):
    good = photos.encoded(astronaut, "JPEG")
    bad = {
        "empty.jpg": b"",
        "text.jpg": b"just words",
        "truncated.jpg": good[: len(good) // 2],
        "phone.heic": b"\0\0\0\x18ftypheic",
        "camera.cr2": photos.encoded(astronaut, "TIFF"),  # Pillow reads the preview in it
        "bomb.png": photos.png_bomb(),
    }
    for name, data in bad.items():
        (portrait / name).write_bytes(data)
    os.mkfifo(portrait / "pipe.png")
    os.symlink("nowhere.png", portrait / "dangling.png")
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    assert result.code == 1
    lines = result.err.splitlines()
    assert len(lines) == len(bad) + 2 and all(line.startswith("faceblur: ") for line in lines)
    for name in (*bad, "pipe.png", "dangling.png"):
        assert sum(f"/{name}: " in line for line in lines) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["portrait.png"]
    outcomes = {row["input"]: row["outcome"] for row in rows(tmp_path / "m.jsonl")}
    assert outcomes.pop("portrait.png") == "faces" and set(outcomes.values()) == {"error"} and len(outcomes) == len(bad) + 2


def test_mixed_sizes_in_one_call(cli, tmp_path, astronaut):
    """Every picture of a call comes out as it does alone."""
    sizes = [(512, 512), (300, 400), (512, 512), (90, 700), (640, 480)]
    for index, size in enumerate(sizes):
        Image.fromarray(astronaut).resize(size).save(tmp_path / f"{index}.png")
    names = [tmp_path / f"{index}.png" for index in range(len(sizes))]
    assert cli("run", "-m", "haar", *names, "-o", tmp_path / "all", "--workers", 3).code == 0
    for name in names:
        assert cli("run", "-m", "haar", name, "-o", tmp_path / "alone").code == 0
        assert (tmp_path / "all" / name.name).read_bytes() == (tmp_path / "alone" / name.name).read_bytes()


def test_a_missing_file_is_a_usage_error(cli, tmp_path):
    result = cli("run", "-m", "haar", tmp_path / "nothing.jpg", "-o", tmp_path / "out")
    assert result.code == 2 and result.err == f"faceblur: no file or folder {tmp_path / 'nothing.jpg'}\n"
    assert cli("run", "-m", "haar", tmp_path / "*.jpg", "-o", tmp_path / "out").code == 2
    assert cli("run", "-m", "haar", tmp_path, "-o", tmp_path / "out").code == 2
    assert not (tmp_path / "out").exists()


def test_own_outputs_are_never_processed(cli, portrait, tmp_path):
    assert cli("run", "-m", "haar", portrait, "-o", portrait / "out").code == 0
    before = (portrait / "out" / "portrait.png").read_bytes()
    again = cli("run", "-m", "haar", portrait, "-o", portrait / "out", "--overwrite")
    assert again.code == 0 and again.out.startswith("1 photo:")
    assert (portrait / "out" / "portrait.png").read_bytes() == before and not (portrait / "out" / "out").exists()
    other = cli("run", "-m", "haar", portrait, "-o", tmp_path / "second")
    assert "1 skipped, made by faceblur (--again takes them)" in other.out and other.code == 0
    assert not (tmp_path / "second" / "out").exists()
    taken = cli("run", "-m", "haar", portrait / "out", "-o", tmp_path / "third", "--again")
    assert taken.code == 0 and (tmp_path / "third" / "portrait.png").exists()


def test_nothing_is_overwritten_unasked(cli, portrait, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "portrait.png").write_text("mine")
    result = cli("run", "-m", "haar", portrait, "-o", out)
    assert result.code == 2 and "--overwrite" in result.err and (out / "portrait.png").read_text() == "mine"
    assert cli("run", "-m", "haar", portrait / "portrait.png", "-o", portrait / "portrait.png", "--overwrite").code == 2
    assert cli("run", "-m", "haar", portrait, "-o", portrait, "--overwrite").code == 2
    assert cli("run", "-m", "haar", portrait, "-o", out, "--overwrite").code == 0


def test_two_inputs_never_share_an_output(cli, portrait, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(portrait / "portrait.png", other)
    result = cli("run", "-m", "haar", portrait, other, "-o", tmp_path / "out")
    assert result.code == 2 and "would both be written to" in result.err and not (tmp_path / "out").exists()
    photos.opened(portrait / "portrait.png").save(portrait / "portrait.bmp")
    assert cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--format", "webp").code == 2


def without_privilege(arguments):
    """Run as somebody whom file permissions stop: root's exception from them is taken away."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-m", "faceblur_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_folder_without_permission_is_reported(portrait, tmp_path):
    locked = portrait / "locked"
    locked.mkdir()
    unreadable = portrait / "unreadable.png"
    shutil.copy(portrait / "portrait.png", unreadable)
    locked.chmod(0)
    unreadable.chmod(0)
    try:
        done = without_privilege(["run", "-m", "haar", portrait, "-o", tmp_path / "out"])
    finally:
        locked.chmod(0o755)
    assert done.returncode == 1
    assert f"faceblur: {locked}: the folder cannot be read (Permission denied)" in done.stderr
    assert f"faceblur: {unreadable}: Permission denied" in done.stderr
    assert (tmp_path / "out" / "portrait.png").exists() and "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_reported(portrait, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o555)
    done = without_privilege(["run", "-m", "haar", portrait, "-o", out])
    out.chmod(0o755)
    assert done.returncode == 1 and "Permission denied" in done.stderr and "Traceback" not in done.stderr
    assert not list(out.iterdir())


@pytest.mark.parametrize("name", ["locked/x.jpg", "y" * 300 + ".jpg"])
@pytest.mark.parametrize("option", ["-o", "--manifest", "--export-detections", "--keep"])
def test_a_name_that_cannot_be_looked_up_is_one_line(portrait, tmp_path, option, name):
    (tmp_path / "locked").mkdir(mode=0)
    output = ("-o", tmp_path / "out") if option != "-o" else ()
    done = without_privilege(["run", "-m", "haar", portrait / "portrait.png", *output, option, tmp_path / name])
    (tmp_path / "locked").chmod(0o755)
    assert done.returncode in (1, 2) and str(tmp_path / name) in done.stderr and done.stderr.count("\n") == 1


def test_a_full_disk_leaves_no_half_file(portrait, tmp_path):
    """The system refuses to write more than 40 kB to any file, as a full disk does; the portrait needs more."""
    Image.new("RGB", (20, 20)).save(portrait / "small.png")
    code = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
sys.argv = ["faceblur", "run", "-m", "haar", {str(portrait)!r}, "-o", {str(tmp_path / "out")!r}]
from faceblur_core.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        done.returncode == 1
        and done.stderr
        == f"faceblur: {portrait / 'portrait.png'}: {tmp_path / 'out' / 'portrait.png'} cannot be written (File too large)\n"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small.png"] and no_leftovers(tmp_path)


def test_no_space_for_the_manifest_ends_the_run_in_one_line(portrait, tmp_path):
    done = spawn("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--manifest", "/dev/full", "--overwrite")
    assert done.returncode == 1 and done.stderr == "faceblur: manifest /dev/full: No space left on device\n"


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_faces_at_every_border_are_hidden_to_the_last_pixel(cli, tmp_path, astronaut, side, shared):
    crop = {"left": np.s_[:, 210:], "right": np.s_[:, :240], "top": np.s_[110:], "bottom": np.s_[:150]}[side]
    picture = np.ascontiguousarray(astronaut[crop])
    Image.fromarray(picture).save(tmp_path / "photo.png")
    assert (
        cli("run", "-m", "yunet+solid", "--set", "obfuscator.color=#00ff00", tmp_path / "photo.png", "-o", tmp_path / "out").code
        == 0
    )
    green = (pixels(tmp_path / "out" / "photo.png") == (0, 255, 0)).all(axis=2)
    line = {"left": green[:, 0], "right": green[:, -1], "top": green[0], "bottom": green[-1]}[side]
    assert line.sum() >= 40, "the face is cut off here, so its cut must be hidden up to the edge"


def test_ctrl_c_leaves_whole_files_and_ends_with_130(portrait, tmp_path):
    for index in range(400):
        os.link(portrait / "portrait.png", portrait / f"{index:03}.png")
    out, manifest = tmp_path / "out", tmp_path / "m.jsonl"
    command = [sys.executable, "-m", "faceblur_core", "run", "-m", "haar", portrait, "-o", out, "--manifest", manifest]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (out.is_dir() and any(out.glob("*.png"))):
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.endswith("faceblur: interrupted\n") and "Traceback" not in err
    written = list(out.iterdir())
    assert 0 < len(written) < 401 and no_leftovers(out)
    for path in written:
        photos.opened(path).load()
    assert {row["input"] for row in rows(manifest)} == {path.name for path in written}  # what was written is known
    for path in sorted(portrait.iterdir())[len(written) + 5 :]:
        if path.name not in {done.name for done in written}:
            path.unlink()
    done = spawn("run", "-m", "haar", portrait, "-o", out, "--manifest", manifest, "--resume")
    assert done.returncode == 0 and f"{len(written)} done before" in done.stdout
    assert {path.name for path in out.iterdir()} == {path.name for path in portrait.iterdir()}


def test_resume_does_what_is_not_done_and_nothing_else(cli, portrait, tmp_path):
    for name in ("b.png", "c.png"):
        shutil.copy(portrait / "portrait.png", portrait / name)
    out, manifest = tmp_path / "out", tmp_path / "m.jsonl"
    base = ("run", "-m", "haar", portrait, "-o", out, "--manifest", manifest)
    assert cli(*base).code == 0
    assert cli(*base).code == 2  # the manifest is there, and so are the outputs
    assert "3 done before" in cli(*base, "--resume").out and len(rows(manifest)) == 3
    (out / "b.png").unlink()  # lost
    (out / "c.png").write_bytes((out / "portrait.png").read_bytes() + b"x")  # changed
    resumed = cli(*base, "--resume")
    assert "1 done before" in resumed.out and "2 with faces" in resumed.out and resumed.code == 0
    changed = cli(*base, "--resume", "--set", "mask.grow=2")
    assert "3 with faces" in changed.out and "done before" not in changed.out
    with manifest.open("a") as file:
        file.write('{"input": "portrait.png", "outc')  # the machine went down while it wrote
    assert "3 done before" in cli(*base, "--resume", "--set", "mask.grow=2").out
    rows(manifest)


def test_resume_never_replaces_a_file_that_is_not_ours(cli, portrait, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(portrait / "portrait.png", out / "portrait.png")
    result = cli("run", "-m", "haar", portrait, "-o", out, "--manifest", tmp_path / "m.jsonl", "--resume")
    assert result.code == 1 and "--overwrite replaces it" in result.err
    assert (out / "portrait.png").read_bytes() == (portrait / "portrait.png").read_bytes()


def test_the_manifest_says_everything(cli, portrait, tmp_path, shared):
    Image.new("RGB", (50, 40), "grey").save(portrait / "empty.png")
    manifest = tmp_path / "m.jsonl"
    assert (
        cli(
            "run", "-m", "yunet+pixelate", "--set", "obfuscator.cells=5", portrait, "-o", tmp_path / "out", "--manifest", manifest
        ).code
        == 0
    )
    by_name = {row["input"]: row for row in rows(manifest)}
    face, empty = by_name["portrait.png"], by_name["empty.png"]
    assert (
        (face["outcome"], empty["outcome"]) == ("faces", "no-face") and empty["detections"] == [] and empty["masked_share"] == 0
    )
    assert face["width"] == face["height"] == 512 and face["method"] == "yunet+pixelate"
    assert face["options"]["obfuscator.cells"] == 5 and face["options"]["detector.score_threshold"] == 0.6
    [found] = face["detections"]
    assert (
        np.abs(np.array(found["box"]) - [178, 65, 269, 176]).max() < 5
        and 0.8 < found["score"] <= 1
        and len(found["landmarks"]) == 5
    )
    assert 0.02 < face["masked_share"] < 0.15
    import hashlib

    for key, path in (("input_sha256", portrait / "portrait.png"), ("output_sha256", tmp_path / "out" / "portrait.png")):
        assert face[key] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert face["weights"]["yunet.onnx"].startswith("25a606a1")
    assert {"faceblur-core", "faceblur-opencv", "numpy", "opencv-python-headless"} <= set(face["versions"])
    assert {"decode", "detect", "obfuscate", "encode", "total"} <= set(face["ms"])


def test_boxes_can_be_edited_and_fed_back(cli, portrait, tmp_path, astronaut):
    boxes = tmp_path / "boxes.jsonl"
    boxes.write_text('\ufeff{"file": "portrait.png", "detections": [{"box": [300, 300, 400, 400]}]}\r\n\r\n', encoding="utf-8")
    result = cli("run", "-m", "haar+solid", portrait, "-o", tmp_path / "out", "--detections", boxes)
    assert result.code == 0, result.err
    out = pixels(tmp_path / "out" / "portrait.png")
    assert (out[320:380, 320:380] == 0).all() and (out[:250] == astronaut[:250]).all()
    manifest = tmp_path / "m.jsonl"
    assert cli("run", "-m", "haar", portrait, "-o", tmp_path / "a", "--manifest", manifest).code == 0
    assert cli("run", "-m", "haar", portrait, "-o", tmp_path / "b", "--detections", manifest).code == 0
    a, b = pixels(tmp_path / "a" / "portrait.png"), pixels(tmp_path / "b" / "portrait.png")
    assert np.abs(a - b).mean() < 0.2  # boxes in a manifest are rounded to a hundredth of a pixel


def test_the_manifest_of_a_resumed_run_is_fed_back_with_its_last_rows(cli, portrait, tmp_path):
    base = ("run", "-m", "haar", portrait, "-o", tmp_path / "a", "--manifest", tmp_path / "m.jsonl", "--resume")
    photo = (portrait / "portrait.png").read_bytes()
    Image.new("RGB", (512, 512)).save(portrait / "portrait.png")
    assert cli(*base).code == 0
    (portrait / "portrait.png").write_bytes(photo)  # another version
    assert cli(*base, "--set", "detector.min_neighbors=999").code == cli(*base).code == 0
    assert [len(row["detections"]) for row in rows(tmp_path / "m.jsonl")] == [0, 0, 1]
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "b", "--detections", tmp_path / "m.jsonl")
    assert "1 with faces (1 in all), 0 without" in result.out and result.code == 0


def test_rows_without_a_checksum_that_differ_are_an_error(cli, portrait, tmp_path):
    boxes = [{"file": "portrait.png", "detections": [{"box": [at, 90, at + 50, 150]}]} for at in (100, 200)]
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "b", "--detections", boxed(tmp_path, *boxes))
    assert result.code == 1 and "has 2 rows for it that differ" in result.err


def boxed(tmp_path, *rows_):
    """Write given boxes, one row per argument."""
    (tmp_path / "boxes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_))
    return tmp_path / "boxes.jsonl"


def test_a_box_without_a_frame_counts_for_every_frame(cli, tmp_path, astronaut):
    (tmp_path / "photo.webp").write_bytes(photos.frames([astronaut] * 3, "WEBP", duration=90, lossless=True))
    moved = [np.roll(astronaut, shift, axis=0) for shift in range(3)]
    (tmp_path / "photo.webp").write_bytes(photos.frames(moved, "WEBP", duration=90, lossless=True))
    box = [200, 90, 250, 150]
    boxes = boxed(tmp_path, {"file": "photo.webp", "detections": [{"box": box}]})
    assert cli("run", "-m", "haar+solid", tmp_path / "photo.webp", "-o", tmp_path / "out", "--detections", boxes).code == 0
    image = photos.opened(tmp_path / "out" / "photo.webp")
    for frame in range(3):
        image.seek(frame)
        assert (np.asarray(image.convert("RGB"))[110:130, 215:235] == 0).all()
    late = boxed(tmp_path, {"file": "photo.webp", "detections": [{"box": box, "frame": 3}]})
    result = cli("run", "-m", "haar", tmp_path / "photo.webp", "-o", tmp_path / "b", "--detections", late)
    assert result.code == 1 and "a box was given for frame 3, the file has 3, counted from 0" in result.err


def test_given_boxes_are_never_taken_for_another_photo(cli, portrait, tmp_path):
    shutil.copy(portrait / "portrait.png", portrait / "twin.png")
    import hashlib

    digest = hashlib.sha256((portrait / "portrait.png").read_bytes()).hexdigest()
    box = {"box": [200, 90, 250, 150]}
    boxes = boxed(
        tmp_path,
        {"input": "portrait.png", "input_sha256": digest, "detections": [box]},
        {"input": "twin.png", "input_sha256": digest, "detections": []},
    )
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--detections", boxes)
    assert "1 with faces (1 in all), 1 without" in result.out
    for row, message in (
        ({"input": "portrait.png", "input_sha256": "0" * 64, "detections": [box]}, "was made from another version of the photo"),
        ({"input": "portrait.png", "detections": [{"box": [5000, 5000, 5100, 5100]}]}, "lies outside the picture of 512 x 512"),
    ):
        result = cli("run", "-m", "haar", portrait / "portrait.png", "-o", tmp_path / "b", "--detections", boxed(tmp_path, row))
        assert result.code == 1 and message in result.err and not list(tmp_path.glob("b/*"))
    by_content = boxed(tmp_path, {"input": "elsewhere/p.png", "input_sha256": digest, "detections": [box]})
    assert cli("run", "-m", "haar", portrait / "twin.png", "-o", tmp_path / "c", "--detections", by_content).code == 0


def test_the_manifest_never_destroys_the_boxes_or_a_photo(cli, portrait, tmp_path):
    boxes = boxed(tmp_path, {"file": "portrait.png", "detections": []})
    before = boxes.read_text()
    for manifest in (boxes, portrait / "portrait.png"):
        result = cli(
            "run", "-m", "haar", portrait, "-o", tmp_path / "out", "--detections", boxes, "--manifest", manifest, "--overwrite"
        )
        assert result.code == 2 and "choose another name" in result.err
    assert boxes.read_text() == before and not (tmp_path / "out").exists()
    os.link(boxes, tmp_path / "same.jsonl")
    boxes.rename(tmp_path / "boxes.png")
    (tmp_path / "mine.yaml").write_text("method: haar")
    for arguments in (
        ("haar", "-o", tmp_path / "out", "--detections", tmp_path / "boxes.png", "--manifest", tmp_path / "same.jsonl"),
        ("haar", "-o", tmp_path / "boxes.png", "--detections", tmp_path / "boxes.png"),
        (tmp_path / "mine.yaml", "-o", tmp_path / "out", "--manifest", tmp_path / "mine.yaml"),
        ("haar", "-o", tmp_path, "--manifest", tmp_path),
    ):
        assert cli("run", portrait / "portrait.png", "--overwrite", "-m", *arguments).code == 2
    assert (tmp_path / "same.jsonl").read_text() == before and (tmp_path / "mine.yaml").read_text() == "method: haar"


def test_odd_file_names_are_handled(cli, portrait, tmp_path):
    odd = ["with space.png", "ünïcödé.png", "line\nbreak.png", "sep\u2028arator.png", "-m.png", "x" * 240 + ".png"]
    for name in odd:
        shutil.copy(portrait / "portrait.png", portrait / name)
    shutil.copy(portrait / "portrait.png", os.fsencode(portrait) + b"/not-utf8-\xff.png")
    base = ("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    result = cli(*base)
    assert result.code == 0 and f"{len(odd) + 2} with faces" in result.out, result.err
    assert f"{len(odd) + 2} done before" in cli(*base, "--resume").out
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for more in (("--dry-run",), ("--resume", "--manifest", tmp_path / "n.jsonl")):
        done = spawn("run", "-m", "haar", portrait, "-o", tmp_path / "\udcff", *more, env=strict)
        assert done.returncode == 0 and "/\\udcff" in done.stdout, done.stderr
    assert cli("run", "-m", "haar", portrait / ("y" * 300 + ".png"), "-o", tmp_path / "b").code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("portrait.png", "twin.png", "-o", "out.jpg"), "names one file, but the input is a folder or several files"),
        ((".", "-o", "out.jpg"), "names one file"),
        (("portrait.png", "-o", "out.heic"), ".heic cannot be written"),
        (("portrait.png", "-o", "out.png", "--format", "jpeg"), "contradict each other"),
    ],
)
def test_an_output_that_cannot_be_meant_is_a_usage_error(cli, portrait, monkeypatch, arguments, message):
    shutil.copy(portrait / "portrait.png", portrait / "twin.png")
    monkeypatch.chdir(portrait)
    result = cli("run", "-m", "haar", *arguments)
    assert result.code == 2 and message in result.err
    assert sorted(path.name for path in portrait.iterdir()) == ["portrait.png", "twin.png"]


def test_linked_folders_are_mentioned_and_linked_files_read(cli, portrait, tmp_path):
    (portrait / "again").symlink_to(portrait)
    (portrait / "linked.png").symlink_to(portrait / "portrait.png")
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out")
    assert result.code == 0 and "2 with faces" in result.out and "passed over, 1 linked folder\n" in result.err


@pytest.mark.parametrize("option", ["--manifest", "--export-detections"])
def test_two_runs_do_not_write_one_file(cli, portrait, tmp_path, option):
    base = ("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--overwrite", option, tmp_path / "m.jsonl")
    assert cli(*base).code == 0
    before = (tmp_path / "m.jsonl").read_text()
    with contextlib.closing(ManifestWriter(tmp_path / "m.jsonl", resume=False, overwrite=True)):
        result = cli(*base)
    assert result.code == 2 and "m.jsonl is being written by another run; wait for it" in result.err
    assert (tmp_path / "m.jsonl").read_text() == before and cli(*base).code == 0


def test_resuming_harms_no_file_that_is_no_manifest(cli, portrait, tmp_path):
    for name, content in (
        ("photo.jpg", b"\xff\xd8 some bytes"),
        ("notes.txt", b"first line\nlast line"),
        ("mixed.txt", b'{"input": "z"}\nimportant notes'),
    ):
        (tmp_path / name).write_bytes(content)
        result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--manifest", tmp_path / name, "--resume")
        assert result.code == 2 and (tmp_path / name).read_bytes() == content


def test_a_run_that_cannot_start_leaves_the_old_manifest(cli, portrait, tmp_path):
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text('{"input": "old"}\n')
    base = ("run", "-m", "yolo", portrait, "-o", tmp_path / "out", "--overwrite")
    for files in (("--manifest", old, "--export-detections", new), ("--manifest", new, "--export-detections", old)):
        assert cli(*base, *files, "--set", "detector.weights=nowhere.pt").code == 2
        assert old.read_text() == '{"input": "old"}\n' and not new.exists()


def test_old_boxes_are_emptied_though_no_file_gives_new_ones(cli, portrait, tmp_path):
    (tmp_path / "faces.jsonl").write_text('{"input": "portrait.png", "detections": []}\n')
    (portrait / "portrait.png").write_text("no picture")
    base = ("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--overwrite")
    assert cli(*base, "--export-detections", tmp_path / "faces.jsonl").code == 1
    assert (tmp_path / "faces.jsonl").read_text() == ""


def test_a_resumed_run_has_the_faces_of_what_was_done_before_too(cli, portrait, tmp_path):
    def run(*more):
        return cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl", *more)

    exported = tmp_path / "faces.jsonl"
    Image.new("RGB", (200, 200)).save(portrait / "empty.png")
    assert run().code == 0
    assert "2 done before" in run("--resume", "--export-detections", exported).out
    found = sorted(map(json.loads, exported.read_text().splitlines()), key=lambda row: row["input"])
    assert [(row["input"], len(row["detections"])) for row in found] == [("empty.png", 0), ("portrait.png", 1)]
    Image.new("RGB", (200, 201)).save(portrait / "more.png")
    exported.write_text(exported.read_text() + '{"input": "cut o')
    assert "2 done before" in run("--resume", "--export-detections", exported).out
    assert len(exported.read_text().splitlines()) == 3, "each once"
    assert run("--overwrite", "--export-detections", tmp_path / "all.jsonl").code == 0
    anew, resumed = (sorted(path.read_text().splitlines()) for path in (tmp_path / "all.jsonl", exported))
    assert anew == resumed
    assert run("--resume", "--export-detections", exported, "--set", "detector.profile=false").code == 0
    assert "3 done before" in run("--resume", "--set", "detector.profile=false").out
    assert "3 with faces" not in run("--resume").out and len(exported.read_text().splitlines()) == 6
    assert "3 done before" in run("--resume", "--export-detections", exported).out
    last = {row["input"]: row for row in map(json.loads, exported.read_text().splitlines())}
    assert sorted(json.dumps(row) for row in last.values()) == anew, "the last row of each is of the last settings"


def test_what_hides_without_boxes_is_done_once(cli, portrait, tmp_path, monkeypatch):
    monkeypatch.setattr("faceblur_core.run.batch.detections_to_json", lambda found: [])
    base = ("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl", "--resume")
    assert cli(*base, "--export-detections", tmp_path / "faces.jsonl").code == 0
    assert "1 done before" in cli(*base, "--export-detections", tmp_path / "faces.jsonl").out


def test_a_hand_edited_last_row_without_its_line_end_counts(cli, portrait, tmp_path):
    base = ("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    assert cli(*base).code == 0
    (tmp_path / "m.jsonl").write_text((tmp_path / "m.jsonl").read_text().rstrip("\n"))
    assert "1 done before" in cli(*base, "--resume").out


def test_a_preview_never_replaces_an_output(cli, portrait, tmp_path):
    base = ("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    assert cli(*base).code == 0
    before = (tmp_path / "out" / "portrait.png").read_bytes()
    assert cli(*base, "--resume", "--preview").code == 1
    assert (tmp_path / "out" / "portrait.png").read_bytes() == before


def test_a_glob_may_write_beside_its_photos(cli, portrait, monkeypatch):
    monkeypatch.chdir(portrait.parent)
    result = cli("run", "-m", "haar", "in/*.png", "-o", ".")
    assert result.out.startswith("1 photo") and (portrait.parent / "portrait.png").exists()
    assert "1 with faces" in cli("run", "-m", "haar", "*", "-o", "out").out
    again = cli("run", "-m", "haar", "*", "-o", "out", "--overwrite")
    assert again.out.startswith("2 photos") and again.code == 0 and not (portrait.parent / "out" / "out").exists()
    assert "'..' after a wildcard" in cli("run", "-m", "haar", "*/../in/*.png", "-o", "deep").err


def test_empty_arguments_and_files_in_the_way_are_usage_errors(cli, portrait, tmp_path):
    (tmp_path / "file").write_text("x")
    for arguments, message in (
        (("", "-o", "out"), "an input is empty"),
        ((portrait, "-o", ""), "-o is empty"),
        ((portrait, "-o", tmp_path / "file"), "is no folder"),
        ((portrait, "-o", tmp_path / "file" / "deep"), "is no folder"),
    ):
        result = cli("run", "-m", "haar", *arguments)
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("nanmask", "a mask that is not within 0..1"),
        ("emptymask", "found 1 faces and hid nothing"),
        ("emptymask|haar", "found 1 faces and hid nothing"),
        ("flat", "found a face at [60.0, 60.0, 60.0, 200.0] and did not hide it"),
        ("shares", "found a face at [0.2, 0.1, 0.8, 0.9] and did not hide it"),
        ("transposed", "Detections.boxes must have the shape (2, 4), not (4, 2)"),
        ("haar+nothing", "and left it as it was"),
        ("unchanged", "says that it hid something, but the picture is unchanged"),
        ("haar+inplace", "read-only"),
        ("haar+quitter", "SystemExit: 7 (--verbose shows where)"),
        ("panicking", "Panic: no way on (--verbose shows where)"),
        ("listless", "detector 'listless' of plugin sloppy has model_files that are no list of paths; its author must mend that"),
    ],
)
def test_a_plugin_that_would_let_a_face_through_writes_nothing(cli, portrait, tmp_path, install, method, message):
    install("sloppy")
    result = cli("run", "-m", method, portrait, "-o", tmp_path / "out")
    assert result.code == 1 and message in result.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("tupled", "detector 'tupled' of plugin sloppy returned tuple, not Detections"),
        ("haar|tupled", "detector 'tupled' of plugin sloppy returned tuple, not Detections"),
        ("tupled --set tile=64", "detector 'tupled' of plugin sloppy returned tuple, not Detections"),
        ("tupled --set border=0.5", "detector 'tupled' of plugin sloppy returned tuple, not Detections"),
        ("uncalled", "detector 'uncalled' of plugin sloppy has no __call__(image); its author must mend that"),
        ("haar+forgetful", "obfuscator 'forgetful' of plugin sloppy returned NoneType as an image, not (512, 512, 3) uint8"),
        ("bare", "anonymizer 'bare' of plugin sloppy returned ndarray, not Anonymized"),
        ("shrinker", "anonymizer 'shrinker' of plugin sloppy returned an image (511, 512, 3) uint8, not (512, 512, 3) uint8"),
        ("odd", "anonymizer 'odd' of plugin sloppy returned NoneType as info, not a mapping"),
        ("odd --set what=ms", "anonymizer 'odd' of plugin sloppy returned info['ms']={'find': 'long'}, not milliseconds"),
        ("odd --set what=detections", "anonymizer 'odd' of plugin sloppy returned ndarray, not Detections"),
        ("odd --set what=mask", "anonymizer 'odd' of plugin sloppy returned NoneType as a mask, not (512, 512) float32"),
    ],
)
def test_what_a_plugin_returns_is_checked_and_its_author_named(cli, portrait, tmp_path, install, method, message):
    install("sloppy")
    result = cli("run", portrait, "-o", tmp_path / "out", "-m", *method.split())
    assert result.code == 1 and message in result.err and result.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_obfuscator_that_hides_one_face_and_not_the_other_writes_nothing(cli, portrait, tmp_path, install):
    install("sloppy")
    faces = [{"box": [178, 65, 269, 176]}, {"box": [400, 300, 440, 340]}]
    (tmp_path / "faces.jsonl").write_text(json.dumps({"input": str(portrait / "portrait.png"), "detections": faces}))
    run = ("run", "-m", "haar+half", portrait, "-o", tmp_path / "out", "--detections", tmp_path / "faces.jsonl")
    result = cli(*run)
    assert result.code == 1 and "found a face at [400.0, 300.0, 440.0, 340.0] and left it as it was" in result.err
    for small_or_left in ([400, 300, 440, 315], [10, 300, 50, 340]):  # of a small face nobody can say that; half hides the left
        faces[1]["box"] = small_or_left
        (tmp_path / "faces.jsonl").write_text(json.dumps({"input": str(portrait / "portrait.png"), "detections": faces}))
        assert cli(*run, "--overwrite").code == 0


def test_an_error_of_a_plugin_that_nobody_expected_is_one_line(cli, portrait, tmp_path, install):
    install("sloppy")
    run = cli("run", "-m", "careless", portrait, "-o", tmp_path / "out")
    label = cli("dataset", "label", "--method", "careless", portrait, "-o", tmp_path / "faces.jsonl")
    place = r"plugin sloppy \(sloppyplug\), sloppyplug\.py:\d+, KeyError: 'nothing'"
    assert run.code == 1 and re.fullmatch(rf"faceblur: .*portrait\.png: {place} \(--verbose shows where\)\n", run.err)
    assert label.code == 1 and re.fullmatch(rf"faceblur: {place}\n", label.err)
    panic = cli("dataset", "label", "--method", "panicking", portrait, "-o", tmp_path / "faces.jsonl")
    assert panic.code == 1 and re.fullmatch(rf"faceblur: {place.partition(', Key')[0]}, Panic: no way out\n", panic.err)
    fileless = cli("run", "-m", "fileless", portrait, "-o", tmp_path / "out")
    assert re.search(r"plugin sloppy \(sloppyplug\), sloppyplug\.py:\d+, FileNotFoundError: .*nowhere", fileless.err)
    unlabelled = cli("dataset", "label", "--method", "fileless", portrait, "-o", tmp_path / "faces.jsonl")
    line = r"faceblur: plugin sloppy \(sloppyplug\), sloppyplug\.py:\d+, .*nowhere.*: No such file or directory\n"
    assert unlabelled.code == 1 and re.fullmatch(line, unlabelled.err)


def test_an_option_of_any_type_has_its_place_in_the_manifest(cli, portrait, tmp_path, install):
    install("sloppy")
    result = cli("run", "-m", "haar+pathological", portrait, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "m.jsonl").read_text())["options"]["obfuscator.folder"] == "somewhere"


def test_names_cannot_write_to_the_terminal(cli, tmp_path):
    (tmp_path / "a\x1b[31m\nb.png").write_text("no picture")
    result = cli("run", "-m", "haar", tmp_path, "-o", tmp_path / "out")
    assert "a\\x1b[31m\\nb.png: not a picture" in result.err and result.err.count("\n") == 1


def test_the_limits_of_a_format_are_named(cli, tmp_path):
    Image.new("RGB", (17_000, 2)).save(tmp_path / "wide.png")
    result = cli("run", "-m", "haar", tmp_path / "wide.png", "-o", tmp_path / "out", "--format", "webp")
    assert result.code == 1 and "17000 x 2 pixels cannot be written as WEBP" in result.err and "internal" not in result.err


def test_it_works_without_a_stderr(portrait, tmp_path):
    command = f"'{sys.executable}' -m faceblur_core run -m haar '{portrait}' -o '{tmp_path / 'out'}' 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and "1 with faces" in done.stdout


def test_options_are_checked_also_where_they_are_not_used(cli, portrait, tmp_path):
    boxes = boxed(tmp_path, {"file": "portrait.png", "detections": []})
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "o", "--detections", boxes, "--set", "tile.foo=3")
    assert result.code == 2 and "named 'tile.foo'" in result.err


def test_border_is_short_for_its_share(cli, portrait, tmp_path):
    manifest = tmp_path / "m.jsonl"
    run = ("run", "-m", "haar", portrait, "-o", tmp_path / "o", "--manifest", manifest)
    assert cli(*run, "--set", "border=0.5").code == 0 and rows(manifest)[0]["options"]["border.share"] == 0.5
    assert cli(*run, "--overwrite", "--set", "border=3").err.startswith("faceblur: bad option of border: share=3:")


def test_tile_is_short_for_its_size(cli, portrait, tmp_path):
    manifest = tmp_path / "m.jsonl"
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "o", "--set", "tile=300", "--manifest", manifest)
    assert result.code == 0
    options = rows(manifest)[0]["options"]
    assert options["tile.size"] == 300 and "tile" not in options


BAD_BOXES = {
    '{"file": "portrait.png", "detections": [{"box": [5, 5, 1, 9]}]}': "line 1: box [5, 5, 1, 9] is empty",
    '\n{"file": "portrait.png", "detections": [{"box": [5, 5, NaN, 9]}]}': "line 2: a detection needs 'box'",
    '{"file": "portrait.png", "detections": [{"box": [5, 5, 9]}]}': "line 1: a detection needs 'box'",
    '{"file": "portrait.png", "detections": 3}': "line 1: needs a list 'detections'",
    '{"detections": []}': "line 1: needs 'input'",
    "[1, 2]": "line 1: not a JSON object",
    "{oops": "line 1: no JSON",
}


@pytest.mark.parametrize("text", BAD_BOXES)
def test_bad_boxes_are_named_with_their_line(cli, portrait, tmp_path, text):
    (tmp_path / "boxes.jsonl").write_text(text)
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--detections", tmp_path / "boxes.jsonl")
    assert result.code == 2 and BAD_BOXES[text] in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_method_without_boxes_does_not_say_that_there_is_no_face(cli, portrait, tmp_path, install, astronaut):
    install("good")
    Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(portrait / "bright.png")
    base = ("run", portrait / "bright.png", "-o", tmp_path / "a", "--manifest", tmp_path / "m.jsonl")
    assert cli(*base, "-m", "wipe").code == 0
    assert rows(tmp_path / "m.jsonl")[0]["outcome"] == "faces" and rows(tmp_path / "m.jsonl")[0]["detections"] is None
    result = cli("run", portrait / "bright.png", "-m", "haar", "-o", tmp_path / "b", "--detections", tmp_path / "m.jsonl")
    assert result.code == 1 and "has no boxes for it, only null" in result.err and not (tmp_path / "b").exists()
    assert cli("run", portrait / "portrait.png", "-m", "haar", "-o", tmp_path / "a", *base[4:], "--resume").code == 0
    result = cli("run", portrait, "-m", "haar", "-o", tmp_path / "c", "--detections", tmp_path / "m.jsonl")
    assert "1 with faces (1 in all), 0 without, 1 failed" in result.out


def test_a_photo_without_given_boxes_is_not_passed_through(cli, portrait, tmp_path):
    (tmp_path / "boxes.jsonl").write_text('{"file": "other.png", "detections": []}')
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--detections", tmp_path / "boxes.jsonl")
    assert result.code == 1 and "has no row for it" in result.err and not list(tmp_path.glob("out/*"))


def test_a_photo_without_a_face_can_be_an_error(cli, portrait, tmp_path):
    Image.new("RGB", (50, 40), "grey").save(portrait / "empty.png")
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--fail-on-no-face")
    assert result.code == 1 and "empty.png: no face was found" in result.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["portrait.png"]


def test_pixels_that_change_a_little_are_no_face(cli, portrait, tmp_path, install):
    install("good")
    base = ("run", "-m", "wipe", "--set", "level=1", portrait, "--manifest", tmp_path / "m.jsonl")
    assert cli(*base, "-o", tmp_path / "a").code == 0 and rows(tmp_path / "m.jsonl")[0]["outcome"] == "no-face"
    result = cli(*base[:-1], tmp_path / "n.jsonl", "-o", tmp_path / "b", "--fail-on-no-face")
    assert result.code == 1 and "portrait.png: no face was found" in result.err


def test_a_preview_is_drawn_and_never_taken_for_an_output(cli, portrait, tmp_path, astronaut):
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--preview")
    assert result.code == 0 and "NOT anonymized" in result.out
    out = tmp_path / "out" / "portrait.png"
    changed = np.abs(pixels(out) - astronaut).max(axis=2) > 0
    assert 0.01 < changed.mean() < 0.2 and "not anonymized" in photos.opened(out).getexif()[305]
    assert "1 skipped, made by faceblur" in cli("run", "-m", "haar", tmp_path / "out", "-o", tmp_path / "real").out


def test_a_dry_run_writes_nothing(cli, portrait, tmp_path):
    result = cli("run", "-m", "haar", portrait, "-o", tmp_path / "out", "--dry-run")
    assert result.code == 0 and result.out == f"{portrait / 'portrait.png'} -> {tmp_path / 'out' / 'portrait.png'}\n"
    assert not (tmp_path / "out").exists()


def test_an_animation_is_hidden_in_every_frame(cli, tmp_path, astronaut):
    moved = [np.roll(astronaut, shift, axis=1) for shift in (0, 100, 200)]
    (tmp_path / "photo.webp").write_bytes(photos.frames(moved, "WEBP", duration=[90, 90, 90], loop=0, lossless=True))
    manifest = tmp_path / "m.jsonl"
    assert cli("run", "-m", "haar", tmp_path / "photo.webp", "-o", tmp_path / "out", "--manifest", manifest).code == 0
    assert sorted({found["frame"] for found in rows(manifest)[0]["detections"]}) == [0, 1, 2]
    image = photos.opened(tmp_path / "out" / "photo.webp")
    for index, picture in enumerate(moved):
        image.seek(index)
        region = np.s_[85:155, 190 + 100 * index : 255 + 100 * index]
        assert np.abs(np.asarray(image.convert("RGB"))[region].astype(int) - picture[region]).mean() > 15
    assert cli("run", "-m", "haar", tmp_path / "photo.webp", "-o", tmp_path / "b", "--detections", manifest).code == 0


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_pictures_that_become_equal_are_told_and_verified_all_the_same(cli, tmp_path, astronaut, form):
    moved = [astronaut.copy() for _ in range(4)]
    for shade, picture in enumerate(moved):
        picture[140:150, 215:230] = 60 * shade  # the mouth
        picture[300:340, 60:120] = 200 * (shade > 2)  # the last differs elsewhere, too
    name = f"photo.{form.lower()}"
    for folder, pictures, told in (
        ("four", moved, "2 of 4 in the file"),
        ("three", moved[:3], "1 of 3 in the file; it is no"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(photos.frames(pictures, form, duration=[90] * len(pictures), lossless=True))
        boxes = boxed(tmp_path, {"file": name, "detections": [{"box": [178, 65, 269, 176]}]})
        result = cli("run", "-m", "haar+solid", tmp_path / folder, "-o", tmp_path / "out" / folder, "--detections", boxes)
        assert result.code == 0 and f"equal pictures that follow one another are one: {told}" in result.err, result.err
        checked = cli("verify", tmp_path / "out" / folder, "--original", tmp_path / folder, "--judge", "haar")
        assert checked.code == 0, checked.out + checked.err


BAD_COMMANDS = {
    ("-m", "hear"): "no method named 'hear'. Did you mean haar?",
    ("-m", "haar+blurr"): "no obfuscator named 'blurr'. Did you mean blur?",
    ("-m", "haar|haar"): "names a detector twice",
    ("-m", "haar", "--set", "grow=1"): "no option of method 'haar' named 'grow'",
    ("-m", "haar", "--set", "mask.grow"): "is not of the form name=value",
    ("-m", "haar", "--set", "mask.grow=big"): "bad option of mask: grow=big: Input should be a valid number",
    ("-m", "haar", "--set", "detector.min_neighbours=3"): "Did you mean detector.min_neighbors",
    ("-m", "haar|yunet", "--set", "detector.votes=3"): "detector.votes=3 must be from 1 to 2",
    ("-m", "haar|yunet", "--set", "detector.scale_factor=3"): "Did you mean detector.haar.scale_factor?",
    ("-m", "haar", "--set", "tile.size=5"): "tile.size=5 is too small; at least 16 pixels",
    ("-m", "haar", "--resume"): "--resume needs --manifest",
    ("-m", "haar", "--workers", "0"): "0 is not in the range 1<=x<=64. (faceblur run --help explains)",
    ("-m", "haar", "--nonsense"): "No such option '--nonsense'. (faceblur run --help explains)",
    ("-m", "nowhere.yaml"): "method file nowhere.yaml: No such file or directory",
}


@pytest.mark.parametrize("arguments", BAD_COMMANDS)
def test_wrong_commands_are_one_line_and_exit_2(cli, portrait, tmp_path, arguments, shared):
    result = cli("run", *arguments, portrait, "-o", tmp_path / "out")
    assert result.code == 2 and BAD_COMMANDS[arguments] in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_method_file_is_a_method(cli, portrait, tmp_path, astronaut):
    (tmp_path / "mine.yaml").write_text(
        "method: haar+solid\nsummary: mine\noptions:\n  obfuscator: {color: '#0000ff'}\n  mask.grow: 1.0\n"
    )
    assert cli("run", "-m", tmp_path / "mine.yaml", portrait, "-o", tmp_path / "a").code == 0
    assert (pixels(tmp_path / "a" / "portrait.png")[110:130, 215:230] == (0, 0, 255)).all()
    assert cli("run", "-m", tmp_path / "mine.yaml", "--set", "obfuscator.color=#ff0000", portrait, "-o", tmp_path / "b").code == 0
    assert (pixels(tmp_path / "b" / "portrait.png")[110:130, 215:230] == (255, 0, 0)).all()
    for text in ("- a list", "method: 3", "method: haar\nextra: 1", "method: [haar", "method: haar\noptions: 3"):
        (tmp_path / "bad.yaml").write_text(text)
        result = cli("run", "-m", tmp_path / "bad.yaml", portrait, "-o", tmp_path / "c")
        assert result.code == 2 and "method file" in result.err and result.err.count("\n") == 1


def test_a_plugin_that_breaks_its_contract_costs_its_photo_only(cli, portrait, tmp_path, install):
    install("sloppy")
    result = cli("run", "-m", "shrinker", portrait, "-o", tmp_path / "out")
    assert result.code == 1 and re.search(
        r"portrait.png: anonymizer 'shrinker' of plugin sloppy returned an image \(511, 512, 3\)", result.err
    )


def test_output_does_not_depend_on_the_number_of_workers(cli, tmp_path, shared):
    chosen = sorted((shared / "data" / "fddb" / "originalPics").rglob("*.jpg"))[:12]
    for workers in (1, 4):
        assert cli("run", "-m", "yunet", *chosen, "-o", tmp_path / str(workers), "--workers", workers).code == 0
    for path in chosen:
        assert (tmp_path / "1" / path.name).read_bytes() == (tmp_path / "4" / path.name).read_bytes()


def test_a_terminal_sees_progress(portrait, tmp_path):
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "faceblur_core", "run", "-m", "haar", str(portrait), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, text=True, env={**os.environ, "TERM": "xterm"})
    os.close(follower)
    assert done.returncode == 0 and b"anonymizing" in os.read(leader, 100_000)


def test_real_photos_with_every_detector(cli, tmp_path, shared):
    chosen = sorted((shared / "data" / "celebahq" / "test").rglob("*.jpg"))[:6]
    for method in ("haar", "yunet", "mediapipe", "yolo", "yolo-onnx"):
        result = cli("run", "-m", method, *chosen, "-o", tmp_path / method)
        assert result.code == 0 and result.err == "", result.err
        for path in chosen:
            original, out = cv2.imread(str(path)).astype(int), cv2.imread(str(tmp_path / method / path.name)).astype(int)
            middle = np.s_[100:180, 90:170]
            assert np.abs(original[middle] - out[middle]).mean() > 8, f"{method} {path.name}"


def test_a_machine_of_very_many_cores_begins_with_as_many_workers_as_may_be_asked_for(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 128)

    @click.command()
    @workers_option()
    def command(workers):
        click.echo(workers)

    assert CliRunner().invoke(command).output == "64\n"
