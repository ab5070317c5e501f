"""``faceblur verify``: what is left in outputs, what is missing, what was never hidden."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import videos
from PIL import Image

from faceblur_core.compare.assess import BlindMeter
from faceblur_core.compare.verified import FoundFace, StillFound, Verified
from faceblur_core.compare.verify import Look
from faceblur_core.datasets.survey import in_order
from photos import encoded, exif, frames, with_thumbnail

# The test's detector ``corner`` finds a face in the first pixels, 4 x 4, wherever the very first is 200, 200, 200.


def bright(seed: int = 0) -> np.ndarray:
    picture = np.random.default_rng(seed).integers(60, 240, (24, 32, 3), np.uint8)
    picture[0, 0] = 200
    return picture


def few(*levels: int) -> np.ndarray:
    """Return a picture of few colours, which GIF keeps: the first is that of the corner."""
    return np.repeat(np.resize(np.repeat(np.uint8(levels), 8), (24, 32))[..., None], 3, axis=2)


def dark(seed: int = 0) -> np.ndarray:
    picture = bright(seed)
    picture[:6, :6] = 30
    return picture


@pytest.fixture
def folders(tmp_path, install, monkeypatch) -> tuple[Path, Path]:
    install("good")
    monkeypatch.chdir(tmp_path)
    for name in ("in", "out"):
        (tmp_path / name / "sub").mkdir(parents=True)
    return tmp_path / "in", tmp_path / "out"


@pytest.fixture
def verify(cli, folders):
    def run(*arguments: object):
        return cli("verify", "out", "--original", "in", "--judge", "corner", "--workers", 2, *arguments)

    return run


def put(path: Path, picture: np.ndarray, **options: object) -> None:
    path.write_bytes(encoded(picture, {".jpg": "JPEG", ".bmp": "BMP"}.get(path.suffix, "PNG"), **options))


def report(verify) -> dict[str, dict]:
    result = verify("--json", "report.json")
    assert result.code in (0, 1), result.err
    return {item["name"]: item for item in json.loads(Path("report.json").read_text())["pictures"]}


def test_what_faceblur_run_makes_is_well(cli, verify, folders):
    originals, _ = folders
    for number, name in enumerate(["a.png", "sub/b.bmp", "c.png"]):
        put(originals / name, few(200, number, 90))
    (originals / "notes.txt").write_text("no picture")
    (originals / "d.gif").write_bytes(frames([few(200, 40), few(90, 40), few(200, 10)], "GIF"))
    for form in ("png", "gif"):
        shutil.rmtree("out")
        assert cli("run", "-m", "corner+solid", "in", "-o", "out", "--format", form).code == 0
        result = verify("--json", "report.json")
        assert (result.code, result.err) == (0, ""), result.err
        assert result.out == "4 pictures: 0 with problems (0 in all), judged by corner\n"
    facts = json.loads(Path("report.json").read_text())
    assert (facts["problems"], facts["judges"], facts["folder"], facts["original"]) == (0, ["corner"], "out", "in")
    assert [(item["name"], item["faces_in_original"]) for item in facts["pictures"]] == [
        ("a.gif", 1), ("c.gif", 1), ("d.gif", 2), ("sub/b.gif", 1)
    ]  # fmt: skip


def test_every_problem_is_one_line_and_in_the_report(verify, folders):
    originals, outputs = folders
    put(originals / "left.png", bright()), put(outputs / "left.png", bright())
    changed = np.where(np.arange(24)[:, None, None] < 8, np.uint8(200), bright())
    put(originals / "sub/still.png", bright()), put(outputs / "sub/still.png", changed)
    put(originals / "new.png", dark()), put(outputs / "new.png", bright())
    unseen = bright()
    unseen[0, 0] = 199
    put(originals / "unseen.png", bright()), put(outputs / "unseen.png", unseen)
    put(originals / "size.png", dark()), put(outputs / "size.png", dark()[1:])
    put(originals / "bad.png", dark()), (outputs / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    (originals / "empty.png").write_bytes(b""), put(outputs / "empty.png", dark())
    put(originals / "gone.jpg", dark()), put(outputs / "more.jpg", dark())
    put(originals / "well.png", bright()), put(outputs / "well.png", dark())
    result = verify("--json", "report.json")
    face = "face at 0 0 4 4 (corner 1.00)"
    lines = [line.removeprefix("faceblur: ") for line in result.err.splitlines()]
    assert result.code == 1 and lines[0].startswith("bad.png: ") and lines[1:] == [
        "empty.png: original: the file is empty",
        "gone.jpg: has no output",
        f"left.png: {face} is still found: nothing was hidden there",
        "more.jpg: has no original",
        f"new.png: {face} is found",
        "size.png: is 32 x 23 pixels, its original 32 x 24 pixels",
        f"sub/still.png: {face} is still found",
        f"unseen.png: {face} of the original: nothing was hidden there",
    ]  # fmt: skip
    assert result.out == "10 pictures: 9 with problems (9 in all), judged by corner\n"
    items = report(verify)
    assert len(items) == 10 and items["gone.jpg"]["output"] is None and items["more.jpg"]["original"] is None
    seen = {"frame": 0, "box": [0, 0, 4, 4], "scores": {"corner": 1.0}}
    assert items["left.png"]["still_found"] == [{**seen, "in_original": True}] and items["left.png"]["not_hidden"] == [seen]
    assert items["new.png"]["still_found"] == [{**seen, "in_original": False}]
    assert items["unseen.png"]["not_hidden"] == [seen] and items["well.png"]["faults"] == []


def test_pictures_in_a_photo_that_are_not_looked_at_are_a_problem(verify, folders):
    originals, outputs = folders
    phone = io.BytesIO()
    Image.fromarray(dark()).save(phone, "MPO", save_all=True, append_images=[Image.fromarray(bright())])
    for folder in folders:
        (folder / "a.jpg").write_bytes(phone.getvalue())
    put(originals / "b.jpg", dark(), exif=with_thumbnail(exif(), encoded(bright(), "JPEG"))), put(outputs / "b.jpg", dark())
    items = report(verify)
    unseen = ["1 more picture in it, such as a thumbnail, not looked at"]
    assert items["a.jpg"]["faults"] == unseen and not items["b.jpg"]["faults"]
    put(outputs / "b.jpg", dark(), exif=with_thumbnail(exif(), encoded(bright(), "JPEG")))
    assert report(verify)["b.jpg"]["faults"] == unseen


def test_compression_alone_hides_nothing_and_turned_originals_fit(verify, folders):
    originals, outputs = folders
    smooth = np.full((24, 32, 3), 200, np.uint8)
    put(originals / "a.png", smooth), put(outputs / "a.jpg", smooth, quality=90)
    put(originals / "t.jpg", np.rot90(smooth).copy(), exif=exif(orientation=6)), put(outputs / "t.jpg", smooth)
    items = report(verify)
    assert len(items["a.jpg"]["not_hidden"]) == 1 and items["t.jpg"]["faults"] == []


def test_later_frames_and_their_number_are_looked_at(verify, folders):
    originals, outputs = folders
    for folder in folders:
        (folder / "a.gif").write_bytes(frames([few(90, 1), few(200, 40), few(90, 2)], "GIF"))
    (originals / "b.gif").write_bytes(frames([dark(1), dark(2)], "GIF"))
    put(outputs / "b.png", dark(1))
    items = report(verify)
    assert [still["frame"] for still in items["a.gif"]["still_found"]] == [1]
    assert items["b.png"]["faults"] == ["is 32 x 24 pixels, 1 frame, its original 32 x 24 pixels, 2 frames"]
    for folder, height in zip(folders, (20, 24), strict=True):
        Image.fromarray(dark()).save(folder / "b.tiff", save_all=True, append_images=[Image.fromarray(dark()[:height])])
    assert report(verify)["b.tiff"]["faults"] == ["frame 1 is 32 x 24 pixels, its original 32 x 20 pixels"]


def test_pairs_are_by_name_first(verify, folders):
    originals, outputs = folders
    for name in ("a.jpg", "a.png", "b.JPG"):
        put(originals / name, dark())
    for name in ("a.jpg", "b.png"):
        put(outputs / name, dark())
    items = report(verify)
    assert {name: Path(item["original"]).name for name, item in items.items()} == {
        "a.jpg": "a.jpg", "a.png": "a.png", "b.png": "b.JPG"
    }  # fmt: skip
    assert items["a.png"]["faults"] == ["has no output"]


def test_a_photo_and_a_video_of_one_name_keep_apart(cli, verify, folders):
    originals, outputs = folders
    put(originals / "clip.jpg", dark()), videos.write(originals / "clip.ts", [dark()] * 2)
    assert cli("run", "-m", "corner", "in", "-o", "out", "--format", "png").code == 0
    found = {name: Path(item["original"]).name for name, item in report(verify).items()}
    assert found == {"clip.mkv": "clip.ts", "clip.png": "clip.jpg"}
    for folder in folders:  # two videos that a run would write to one name are two here
        film(folder / "clip.mkv", dark(), dark())
        shutil.copy(originals / "clip.ts", folder / "clip.ts") if folder == outputs else None
    assert verify().code == 0


def test_outputs_inside_the_originals_are_no_originals(cli, folders):
    originals, _ = folders
    put(originals / "a.png", bright()), (originals / "public").mkdir(), put(originals / "public/a.png", dark())
    result = cli("verify", "in/public", "--original", "in", "--judge", "corner")
    assert (result.code, result.err) == (0, "") and result.out.startswith("1 picture: 0 with")


def test_previews_are_told(cli, verify, folders):
    originals, _ = folders
    put(originals / "a.png", bright())
    assert cli("run", "-m", "corner", "in", "-o", "out", "--preview").code == 0
    assert "is a preview of faceblur run, NOT anonymized" in verify().err


def test_judges_agree_on_one_face_and_a_judge_that_breaks_is_a_line(cli, folders, install):
    originals, outputs = folders
    install("sloppy")
    put(originals / "a.png", bright()), put(outputs / "a.png", bright())
    result = cli("verify", "out", "--original", "in", "--judge", "corner", "--judge", "corner+grey")
    assert "a.png: face at 0 0 4 4 (corner 1.00, corner+grey 1.00) is still found" in result.err
    broken = cli("verify", "out", "--original", "in", "--judge", "corner+quitter")
    assert (broken.code, broken.err) == (1, "faceblur: a.png: could not be judged: SystemExit: 7\n")


def test_the_usual_judges_find_a_portrait(cli, folders, astronaut):
    originals, outputs = folders
    put(originals / "a.png", astronaut), put(outputs / "a.jpg", astronaut, quality=95)
    result = cli("verify", "out", "--original", "in")
    assert result.code == 1 and result.out.endswith("judged by yunet, mediapipe\n")
    assert all(part in result.err.splitlines()[0] for part in ("yunet 0.", "mediapipe 0.", "still found: nothing was"))


@pytest.fixture
def meter(monkeypatch):
    """A face's degree is the level of the pixel at 1, 1, of 250, at 0 not known; it is protected from 0.6 on."""

    class Meter(BlindMeter):
        def __init__(self, options):
            assert options == {}
            self.threshold = 0.6

        def __call__(self, image, faces):
            return [image[1, 1, 0] / 250 or math.nan for _ in faces]

    monkeypatch.setattr("faceblur_core.compare.assess.BlindMeter", Meter)


def test_a_face_that_is_too_small_to_be_judged_is_told_without_originals(cli, folders, meter):
    picture = bright()
    picture[1, 1] = 0
    put(folders[1] / "small.png", picture)
    result = cli("verify", "out", "--judge", "corner", "--json", "report.json")
    assert '"degree": null' in Path("report.json").read_text()
    assert (
        result.code == 1 and result.err == "faceblur: small.png: face at 0 0 4 4 (corner 1.00) is found: too small to be judged\n"
    )
    assert "0 faces were found that are protected" in result.out


def test_without_originals_faces_that_are_blurred_enough_are_no_problem(cli, folders, meter):
    outputs = folders[1]
    for name, level in (("sharp", 50), ("sub/blurred", 150)):
        picture = bright()
        picture[1, 1] = level
        put(outputs / f"{name}.png", picture)
    put(outputs / "none.png", dark()), (outputs / "bad.png").write_bytes(b"")
    result = cli("verify", "out", "--judge", "corner", "--json", "report.json")
    assert result.code == 1 and result.err.splitlines() == [
        "faceblur: bad.png: the file is empty",
        "faceblur: sharp.png: face at 0 0 4 4 (corner 1.00) is found: not protected, degree of blur 0.20",
    ]
    assert result.out == (
        "4 pictures: 2 with problems (2 in all), judged by corner\n"
        "1 faces were found that are protected: their degree of blur is 0.600 or more\n"
    )
    said = json.loads(Path("report.json").read_text())
    found = {item["name"]: [(face["degree"], face["protected"]) for face in item["still_found"]] for item in said["pictures"]}
    assert said["original"] is None and found == {
        "bad.png": [],
        "none.png": [],
        "sharp.png": [(0.2, False)],
        "sub/blurred.png": [(0.6, True)],
    }
    (outputs / "bad.png").unlink(), (outputs / "sharp.png").unlink()
    (outputs / "notes.txt").write_bytes(b"something")
    result = cli("verify", "out", "--judge", "corner")
    assert (result.code, result.err) == (0, "faceblur: passed over, no photos by name: 1 .txt\n")


# --- videos


def film(path: Path, *pictures: np.ndarray) -> None:
    """Write a video that keeps every bit, 25 pictures a second."""
    videos.write(path, pictures, "ffv1", "bgr0", options={"crf": ""})


def test_a_video_that_faceblur_run_made_is_well(cli, verify, folders):
    originals = folders[0]
    film(originals / "a.mkv", *map(bright, range(6)))
    videos.write(originals / "c.ts", [dark()] * 3)  # written as c.mkv
    put(originals / "b.png", few(200, 40))
    assert cli("run", "-m", "corner+solid", "in", "-o", "out").code == 0
    result = verify("--json", "report.json")
    assert (result.code, result.err) == (0, "")
    assert result.out == "1 picture, 2 videos: 0 with problems (0 in all), judged by corner\n"
    assert [item["faces_in_original"] for item in report(verify).values()] == [6, 1, 0]
    assert cli("run", "-m", "corner+solid", "in", "-o", "out", "--preview", "--overwrite").code == 0
    assert "a.mkv: is a preview of faceblur run, NOT anonymized" in verify().err


def test_a_face_of_a_video_is_told_once_for_as_long_as_it_is_followed(verify, folders):
    originals, outputs = folders
    pictures = [bright(number) for number in range(50)]
    film(originals / "a.mkv", *pictures)
    open_ = {3, 4, 5, 6, 8, 40}
    film(outputs / "a.mkv", *(picture if number in open_ else dark(number) for number, picture in enumerate(pictures)))
    result = verify()
    face, what = "face at 0 0 4 4 (corner 1.00)", "is still found: nothing was hidden there"
    assert result.code == 1 and result.err.splitlines() == [
        f"faceblur: a.mkv: {face} in 5 pictures from 0.12 s to 0.32 s {what}",
        f"faceblur: a.mkv: {face} at 1.60 s {what}",
    ]
    [item] = report(verify).values()
    assert item["faces_in_original"] == 50
    assert [(still["frame"], still["time"]) for still in item["still_found"]] == [
        (n, pytest.approx(n / 25)) for n in sorted(open_)
    ]
    assert [still["frame"] for still in item["not_hidden"]] == sorted(open_)
    assert [line.partition(") ")[2] for line in verify("--every", 4).err.splitlines()] == [
        f"in 2 pictures from 0.16 s to 0.32 s {what}", f"at 1.60 s {what}"
    ]  # fmt: skip


def test_videos_that_do_not_fit_or_cannot_be_read_are_told(verify, folders):
    originals, outputs = folders
    for name, before, after in (("long", 5, 4), ("wide", 3, 3)):
        film(originals / f"{name}.mkv", *map(dark, range(before)))
        film(outputs / f"{name}.mkv", *(dark(number)[:, : 30 if name == "wide" else None] for number in range(after)))
    film(originals / "new.ts.mkv", dark())
    film(originals / "old.mkv", dark()), film(outputs / "new.mkv", dark())
    (outputs / "bad.mp4").write_bytes(b"something"), (originals / "bad.mp4").write_bytes(b"")
    os.mkfifo(outputs / "pipe.mp4")
    found = {name: item["faults"] for name, item in report(verify).items()}
    assert found.pop("bad.mp4")[0].startswith("not a video, or damaged")
    assert found == {
        "long.mkv": ["is 32 x 24 pixels, 4 frames, its original 32 x 24 pixels, 5 frames"],
        "wide.mkv": ["is 30 x 24 pixels, its original 32 x 24 pixels"],
        "new.mkv": ["has no original"],
        "new.ts.mkv": ["has no output"],
        "old.mkv": ["has no output"],
        "pipe.mp4": ["has no original", "not a regular file"],
    }


def test_faces_of_a_video_are_judged_without_the_original_too(cli, folders, meter):
    pictures = [bright(number) for number in range(6)]
    for number, level in enumerate((150, 100, 50, 0, 150, 150)):
        pictures[number][1, 1] = level
    film(folders[1] / "a.mkv", *pictures)
    result = cli("verify", "out", "--judge", "corner")
    assert (result.code, result.err) == (
        1,
        "faceblur: a.mkv: face at 0 0 4 4 (corner 1.00) in 3 pictures from 0.04 s to 0.12 s"
        " is found: not protected, degree of blur 0.20\n",
    )
    assert result.out.splitlines()[1] == "3 faces were found that are protected: their degree of blur is 0.600 or more"


def test_a_face_that_moves_and_one_beside_it_are_told_apart():
    def still(frame, x, **more):
        return StillFound(FoundFace(frame, (x, 0, x + 40, 40), {"corner": 1.0}, frame / 25), **more)

    item = Verified("a.mkv", Path("a"), Path("b"))
    for frame in range(10):
        item.still_found += [still(frame, 12 * frame + 30, in_original=frame % 2 == 0), still(frame, 12 * frame)]
    assert item.problems() == [
        "face at 30 0 70 40 (corner 1.00) in 10 pictures from 0.00 s to 0.36 s is still found",
        "face at 0 0 40 40 (corner 1.00) in 10 pictures from 0.00 s to 0.36 s is found",
    ]
    far = [still(0, 0), still(1, 300), still(2, 0)]
    assert len(Verified("a.mkv", Path("a"), Path("b"), still_found=far).problems()) == 2
    seldom = [still(frame, 0) for frame in range(0, 300, 30)]
    assert [len(Verified("a.mkv", Path("a"), Path("b"), every, still_found=seldom).problems()) for every in (29, 30)] == [10, 1]


def test_what_of_a_video_could_not_be_looked_at_is_told(verify, folders):
    for folder in folders:
        film(folder / "a.mkv", *map(dark, range(40)))
        with av.open(str(folder / "two.mkv"), "w") as container:
            sides = (64, 32)
            streams = [container.add_stream("mpeg4", rate=25, width=side, height=side) for side in sides]
            for stream, side in zip(streams, sides, strict=True):
                for _ in range(3):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")))
                container.mux(stream.encode(None))
    whole = (folders[1] / "a.mkv").read_bytes()
    (folders[1] / "a.mkv").write_bytes(whole[: len(whole) // 2])
    found = {name: item["faults"] for name, item in report(verify).items()}
    assert any("ends after" in fault for fault in found["a.mkv"]) and any("its original" in fault for fault in found["a.mkv"])
    assert found["two.mkv"] == ["1 more video tracks or covers, not looked at"]


def test_it_is_said_when_pictures_are_left_out(verify, folders):
    for folder in folders:
        film(folder / "a.mkv", *map(dark, range(5)))
    assert verify("--every", 2).out.endswith("judged by corner; of the videos one picture in 2\n")
    verify("--every", 2, "--json", "report.json")
    assert json.loads(Path("report.json").read_text())["every"] == 2


def test_an_interruption_gives_up_what_is_looked_at(cli, folders, monkeypatch):
    for folder in folders:
        put(folder / "a.png", bright())
    given = []

    def in_order(look, items, workers, advance, stop):
        given.append((look, stop))
        raise KeyboardInterrupt

    monkeypatch.setattr("faceblur_core.datasets.survey.in_order", in_order)
    cli("verify", "out", "--original", "in", "--judge", "corner")
    [(look, stop)] = given
    stop()
    assert look.stopped.is_set()


def test_what_works_in_order_is_told_to_stop_at_the_end_and_before_it():
    for taken in (1, 3):
        told = []
        results = in_order(lambda item: item, [1, 2, 3], 1, None, lambda told=told: told.append(True))
        assert [next(results) for _ in range(taken)] == [1, 2, 3][:taken] and not told
        results.close()
        assert told == [True]


def test_a_long_video_is_given_up_when_it_is_to_stop(folders):
    film(folders[1] / "a.mkv", *map(bright, range(10)))
    seen = []

    def judges(image, frame, time):
        seen.append(frame)
        if frame == 3:
            look.stopped.set()
        return []

    look = Look(judges)
    look(Verified("a.mkv", folders[1] / "a.mkv", folders[1] / "a.mkv"))
    assert max(seen) == 3


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere", "--original", "in"], "nowhere"),
        (["out", "--original", "in", "--judge", "nobody"], "no method named 'nobody'"),
        (["out", "--original", "in", "--judge", "wipe"], "finds no boxes"),
        (["out", "--original", "in", "--judge", "corner", "--judge", "corner"], "--judge corner is given twice"),
        (["in", "--original", "./in", "--judge", "corner"], "both the folder to verify and"),
        (["out", "--original", "in/sub", "--judge", "corner"], "no photos in in/sub, and no videos"),
        (["out", "--original", "in", "--judge", "corner", "--json", "in/a.png"], "is one of the pictures"),
        (["out", "--original", "in", "--judge", "corner", "--json", "no/r.json"], "no is no folder"),
        (
            ["out", "--original", "in", "--judge", "corner", "--json", "mine.json"],
            "mine.json is there and is no report of faceblur",
        ),
    ],
)
def test_mistakes_are_one_line(cli, folders, arguments, part):
    for folder in folders:
        put(folder / "a.png", bright())
    before = (folders[0] / "a.png").read_bytes()
    Path("mine.json").write_text('{"mine": 1}')
    result = cli("verify", *arguments)
    assert result.code in (1, 2) and result.err.count("\n") == 1 and part in result.err, result.err
    assert result.code == 2 or part == "finds no boxes"
    assert (folders[0] / "a.png").read_bytes() == before and Path("mine.json").read_text() == '{"mine": 1}'


def test_how_large_a_picture_may_be_can_be_said(verify, folders):
    for folder in folders:
        put(folder / "a.png", np.zeros((1000, 1100, 3), np.uint8))
    result = verify("--max-megapixels", 1)
    assert result.code == 1 and "a.png: 1100 x 1000 pixels are more than 1 megapixels (--max-megapixels)" in result.err
    assert verify("--max-megapixels", 2).code == 0


def test_a_pipe_is_not_waited_for(verify, folders):
    for folder in folders:
        os.mkfifo(folder / "a.png")
    assert report(verify)["a.png"]["faults"] == ["not a regular file", "original: not a regular file"]
    assert report(verify)["a.png"]["faults"], "the report takes the place of the one before"


def test_without_a_judge_there_is_a_clear_line(cli, folders, monkeypatch, tmp_path):
    for folder in folders:
        put(folder / "a.png", bright())
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path / "no-models"))
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path / "no-cache"))
    result = cli("verify", "out", "--original", "in")
    assert (result.code, result.err.count("\n")) == (2, 1) and "name a detector with --judge" in result.err


def test_the_report_is_whole_or_not_there(verify, folders, monkeypatch):
    for folder in folders:
        put(folder / "a.png", dark())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("faceblur_core.media.files.os.replace", full)
    result = verify("--json", "report.json")
    assert (result.code, result.err) == (1, "faceblur: report.json cannot be written (No space left on device)\n")
    assert not list(Path().glob("*report*")) and not list(Path().glob(".faceblur*"))
