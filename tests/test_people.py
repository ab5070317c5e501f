"""``faceblur run --keep`` and ``--only``, on photos and videos of people whose identity is known."""

import dataclasses

import cv2
import numpy as np
import people
import pytest
import videos
from PIL import Image

from conftest import one_line, rows
from faceblur_core.errors import FaceblurError
from faceblur_core.pipeline import DetectAndObfuscate, MaskShape
from faceblur_core.run.people import HIDE, OPEN, UNSURE, HiddenFaces, People, Sightings, find_landmarks, unit_vectors, without
from faceblur_core.run.regions import Area, Regions
from faceblur_core.run.video import Clock, Hider
from faceblur_core.tracking import Tracked
from faceblur_core.types import Detections

SIDE = 150


@pytest.fixture(scope="module")
def friend(shared):
    return people.Someone(shared, 5)


@pytest.fixture(scope="module")
def stranger(shared):
    return people.Someone(shared, 15)


@pytest.fixture(scope="module")
def scene():
    return videos.background(height=260, width=480)


def face(place):
    """The middle of a head at a place."""
    x, y = place
    return np.s_[y + 55 : y + 95, x + 55 : x + 95]


@pytest.fixture(scope="module")
def both(scene, friend, stranger, tmp_path_factory):
    """A picture of the friend, left, and the stranger, right; returns its path, its pixels and their places."""
    places = (40, 60), (280, 60)
    pixels = videos.composite(scene, [(who.head(SIDE), *at) for who, at in zip((friend, stranger), places, strict=True)])
    path = tmp_path_factory.mktemp("both") / "both.png"
    Image.fromarray(pixels).save(path)
    return path, pixels, places


def opened(before, after, places):
    """Which of the faces are as they were, to the bit."""
    return [bool((before[face(place)] == after[face(place)]).all()) for place in places]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("method", ["yunet+solid", "haar+solid"])
def test_one_person_stays_visible_or_alone_is_hidden(cli, both, friend, tmp_path, method):
    """YuNet gives landmarks; for Haar's faces they are looked for."""
    path, before, places = both
    manifest = tmp_path / "m.jsonl"
    result = cli("run", "-m", method, path, "--keep", friend.references[0], "-o", tmp_path / "a", "--manifest", manifest)
    assert result.code == 0 and "1 faces left open" in result.out, result.err
    after = pixels(tmp_path / "a" / "both.png")
    assert opened(before, after, places) == [True, False] and after[face(places[1])].max() == 0
    [row] = rows(manifest)
    assert row["left_open"] == 1 and len(row["detections"]) == 1 and row["outcome"] == "faces"
    assert "mobilefacenet.onnx" in row["weights"] and "faceblur-identity" in row["versions"]
    assert cli("run", "-m", method, path, "--only", friend.references[0], "-o", tmp_path / "b").code == 0
    assert opened(before, pixels(tmp_path / "b" / "both.png"), places) == [False, True]


def test_who_cannot_be_seen_well_is_hidden_either_way(cli, scene, friend, stranger, tmp_path):
    heads = [cv2.GaussianBlur(who.head(SIDE), (0, 0), 3) for who in (friend, stranger)]
    places = (40, 60), (280, 60)
    before = videos.composite(scene, [(head, *at) for head, at in zip(heads, places, strict=True)])
    Image.fromarray(before).save(tmp_path / "dim.png")
    for option in ("--keep", "--only"):
        result = cli("run", "-m", "yunet+solid", tmp_path / "dim.png", option, friend.references[0], "-o", tmp_path / option)
        assert result.code == 0 and "0 faces left open" in result.out
        after = pixels(tmp_path / option / "dim.png")
        assert [after[face(place)].max() for place in places] == [0, 0]


def test_limits_can_be_given(cli, both, friend, tmp_path):
    path, before, places = both
    for option, limit, value, expected in (
        ("--keep", "--same-from", 0.99, [False, False]),
        ("--keep", "--same-from", -0.9, [True, True]),
        ("--only", "--other-below", -0.9, [False, False]),
    ):
        limits = (limit, value, *(("--other-below", -0.95) if value == -0.9 and limit == "--same-from" else ()))
        base = ("run", "-m", "yunet+solid", path, option, friend.references[0], "-o", tmp_path / "out", "--overwrite")
        assert cli(*base, *limits).code == 0
        assert opened(before, pixels(tmp_path / "out" / "both.png"), places) == expected


def test_several_people_and_folders_of_photos(cli, both, friend, stranger, tmp_path):
    path, before, places = both
    album = tmp_path / "album"
    album.mkdir()
    for photo in friend.references:
        (album / photo.name).write_bytes(photo.read_bytes())
    (album / "notes.txt").write_text("no photo")
    base = ("run", "-m", "yunet+solid", path, "--keep", album)
    assert cli(*base, "-o", tmp_path / "a").code == 0
    assert opened(before, pixels(tmp_path / "a" / "both.png"), places) == [True, False]
    assert cli(*base, "--keep", stranger.references[0], "-o", tmp_path / "b").code == 0
    assert opened(before, pixels(tmp_path / "b" / "both.png"), places) == [True, True]


@pytest.mark.parametrize("option", ["--keep", "--only"])
def test_a_folder_of_several_people_is_refused(cli, both, friend, stranger, tmp_path, option):
    """What they have in common is neither: of the two who are to be hidden, one would be left open."""
    path, _, _ = both
    album = tmp_path / "album"
    album.mkdir()
    for photo in (*friend.references, stranger.references[0]):
        (album / photo.name).write_bytes(photo.read_bytes())
    one_line(
        cli("run", "-m", "yunet+solid", path, option, album, "-o", tmp_path / "a"), 2, f"{stranger.references[0].name} is not"
    )
    assert not (tmp_path / "a").exists()


def test_resume_knows_other_references_for_other_settings(cli, both, friend, tmp_path):
    path, _, _ = both
    base = ("run", "-m", "yunet", path, "-o", tmp_path / "out", "--manifest", tmp_path / "m.jsonl", "--resume")
    reference = tmp_path / "reference.jpg"
    reference.write_bytes(friend.references[0].read_bytes())
    keep = ("--keep", reference)
    assert "1 with faces" in cli(*base, *keep).out
    assert "1 done before" in cli(*base, *keep).out
    renamed = reference.rename(tmp_path / "renamed.jpg")
    assert "1 done before" in cli(*base, "--keep", renamed).out  # the same person by the same photo
    assert "1 with faces" in cli(*base, "--only", renamed).out
    renamed.write_bytes(friend.references[1].read_bytes())
    assert "1 with faces" in cli(*base, "--only", renamed).out
    assert "1 with faces" in cli(*base, "--only", renamed, "--other-below", 0.05).out
    assert "1 with faces" in cli(*base).out


def test_a_preview_shows_who_stays_open(cli, both, friend, tmp_path):
    path, _, places = both
    assert cli("run", "-m", "yunet", path, "--keep", friend.references[0], "-o", tmp_path, "--preview").code == 0
    drawn = pixels(tmp_path / "both.png").astype(int)
    for place, green in zip(places, (True, False), strict=True):
        part = drawn[place[1] : place[1] + SIDE, place[0] : place[0] + SIDE]
        assert ((part == [64, 224, 64]).all(axis=2).sum() > 100) == green
        assert ((part == [255, 64, 64]).all(axis=2).sum() > 100) != green


def test_bad_references_are_one_line(cli, both, friend, stranger, scene, tmp_path, install):
    install("good")
    path, _, _ = both
    files = {
        "nobody.png": scene,
        "small.png": videos.composite(scene, [(friend.head(36), 40, 60)]),
        "dim.png": cv2.GaussianBlur(friend.head(SIDE), (0, 0), 3),
    }
    for name, image in files.items():
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "noise.jpg").write_bytes(b"no photo")
    (tmp_path / "empty").mkdir()
    me, base = friend.references[0], ("run", "-m", "yunet", path, "-o", tmp_path / "out")
    for arguments, message in (
        (("--keep", path), "shows 2 faces; it must show the person's face and no other"),
        (("--only", tmp_path / "nobody.png"), "shows 0 faces"),
        (("--keep", tmp_path / "dim.png"), "too small, too blurred or turned away"),
        (("--keep", tmp_path / "small.png"), "small.png"),
        (("--keep", tmp_path / "noise.jpg"), "noise.jpg: "),
        (("--keep", tmp_path / "empty"), "holds no photo"),
        (("--keep", tmp_path / "none.jpg"), "there is no photo"),
        (("--keep", tmp_path / "no\n\x1b[31mne.jpg"), r"no\n\x1b[31mne.jpg of the person"),
        (("--keep", me, "--only", me), "use one of them"),
        (("--keep", me, "--embedder", "mobilfacenet"), "Did you mean mobilefacenet?"),
        (("--keep", me, "--other-below", 0.9), "is above --same-from 0.4"),
        (("--embedder", "means"), "--embedder needs --keep or --only"),
        (("--same-from", 0.5), "--same-from needs --keep or --only"),
        (("--keep", me, "--detections", tmp_path / "noise.jpg"), "--keep cannot be used with it"),
        (("-m", "wipe", "--keep", me), "needs a detector such as yunet"),
    ):
        result = cli(*base, *arguments)
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1, result.err
    result = cli("run", "-m", "yunet", path, "-o", me, "--keep", me, "--overwrite", "--format", "jpeg")
    assert result.code == 2 and "would be written over" in result.err
    assert not (tmp_path / "out").exists()


def test_without_landmarks_nobody_is_recognised(cli, both, friend, tmp_path, monkeypatch):
    """Where YuNet is not installed, and the method's detector gives no landmarks."""
    from faceblur_core.run import people as module

    monkeypatch.setattr(module, "FINDER", "nothing-like-it")
    result = cli("run", "-m", "haar", both[0], "--keep", friend.references[0], "-o", tmp_path / "out")
    assert result.code == 2 and "install faceblur-opencv" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("made", [None, [[1.0]], np.ones((2, 1)), np.array([[3.0, 4.0]]), np.array([[np.nan]]), np.zeros((1, 4))])
def test_an_embedder_whose_vectors_are_no_unit_vectors_is_refused(made):
    with pytest.raises(FaceblurError, match=r"embedder function returned (no array|vectors that are not of length 1)"):
        unit_vectors(lambda faces: made, np.zeros((1, 112, 112, 3), np.uint8))


def test_without_an_embedder_it_is_said_what_to_install(cli, both, friend, tmp_path, monkeypatch, install):
    monkeypatch.setenv("FACEBLUR_DISABLE_PLUGINS", "identity")
    install()
    result = cli("run", "-m", "yunet", both[0], "--keep", friend.references[0], "-o", tmp_path / "out")
    assert result.code == 2 and "install faceblur-identity" in result.err and result.err.count("\n") == 1
    monkeypatch.undo()


# Videos


def moving(scene, *actors):
    """A video's pictures of heads that move: each actor is a head and its places, later ones in front."""
    return [
        videos.composite(scene, [(head, *places[t]) for head, places in actors if places[t] is not None])
        for t in range(len(actors[0][1]))
    ]


def near(before, after, place):
    return np.abs(before[face(place)].astype(int) - after[face(place)]).mean() < 4


@pytest.fixture(scope="module")
def walk(scene, friend, stranger, tmp_path_factory):
    """Both beside each other, walking slowly: path and places."""
    places = [(20 + 2 * t, 60) for t in range(16)], [(300 - 2 * t, 50) for t in range(16)]
    pictures = moving(scene, (friend.head(SIDE), places[0]), (stranger.head(SIDE), places[1]))
    return videos.write(tmp_path_factory.mktemp("walk") / "walk.mp4", pictures), places


@pytest.mark.parametrize("tracking", ["on", "off"])
def test_in_a_video_one_stays_visible_or_alone_is_hidden(cli, walk, friend, tmp_path, tracking):
    path, places = walk
    before = videos.frames(path)
    for option, who in (("--keep", 0), ("--only", 1)):
        manifest = tmp_path / f"{option}.jsonl"
        out = tmp_path / option
        base = ("run", "-m", "yunet+solid", path, "-o", out, "--tracking", tracking, "--manifest", manifest)
        result = cli(*base, option, friend.references[0])
        assert result.code == 0, result.err
        after = videos.frames(out / "walk.mp4")
        assert all(near(before[t], after[t], places[who][t]) for t in range(16))
        assert all(after[t][face(places[1 - who][t])].mean() < 25 for t in range(16))
        assert rows(manifest)[0]["left_open"] == 16 and "recognise" in rows(manifest)[0]["ms"]


def test_regions_exports_and_previews_know_who_is_open(cli, walk, friend, tmp_path):
    path, places = walk
    before = videos.frames(path)
    base = ("run", "-m", "yunet+solid", path, "--keep", friend.references[0])
    (tmp_path / "r.yaml").write_text("only: [{from: 0.4}]")
    boxes = tmp_path / "boxes.jsonl"
    assert cli(*base, "-o", tmp_path / "a", "--regions", tmp_path / "r.yaml", "--export-detections", boxes).code == 0
    after = videos.frames(tmp_path / "a" / "walk.mp4")
    assert [near(before[t], after[t], places[1][t]) for t in range(16)] == [t < 10 for t in range(16)]
    assert all(near(before[t], after[t], places[0][t]) for t in range(16))
    assert [len(row["detections"]) for row in rows(boxes)] == [int(t >= 10) for t in range(16)]
    assert cli(*base, "-o", tmp_path / "b", "--preview").code == 0
    drawn = videos.frames(tmp_path / "b" / "walk.mp4")[8].astype(int) - before[8]
    for (x, y), colour in ((places[0][8], 1), (places[1][8], 0)):  # green about the friend, red on the stranger
        part = drawn[y : y + SIDE, x : x + SIDE]
        mine, other = (((part[..., one] - part[..., 1 - one]) > 30).sum() for one in (colour, 1 - colour))
        assert mine > 100 and mine > 5 * other


def test_people_who_cross_never_open_the_wrong_one(cli, scene, friend, stranger, tmp_path):
    """The stranger passes behind the friend, and before: wherever the stranger's face is to be seen, it is hidden."""
    frames, side = 34, 110
    left, right = [(-40 + 12 * t, 60) for t in range(frames)], [(360 - 12 * t, 75) for t in range(frames)]
    middle = np.s_[40:70, 40:70]
    for name, order in (("behind", 1), ("before", -1)):
        actors = [(stranger.head(side), right), (friend.head(side), left)][::order]
        path = videos.write(tmp_path / f"{name}.mp4", moving(scene, *actors))
        assert cli("run", "-m", "yunet+solid", path, "--keep", friend.references[0], "-o", tmp_path / "out").code == 0
        after = videos.frames(tmp_path / "out" / f"{name}.mp4")
        kept = 0
        for t, ((x, y), (u, v)) in enumerate(zip(left, right, strict=True)):
            covered = name == "behind" and abs(x - u) < side and abs(y - v) < side
            if -20 <= u <= scene.shape[1] - side + 20 and not covered:
                assert after[t][v : v + side, u if u > 0 else 0 : u + side][middle].mean() < 25, (name, t)
            if 0 <= x <= scene.shape[1] - side:
                kept += after[t][y : y + side, x : x + side][middle].mean() > 60
        assert kept > 12, name


def test_a_cut_from_one_to_the_other_opens_only_the_one(cli, scene, friend, stranger, tmp_path):
    place = (160, 60)
    heads = [friend.head(SIDE)] * 12 + [stranger.head(SIDE)] * 12 + [friend.head(SIDE)] * 12
    pictures = [videos.composite(scene, [(head, place[0] + t % 3, place[1])]) for t, head in enumerate(heads)]
    path = videos.write(tmp_path / "cut.mp4", pictures)
    assert cli("run", "-m", "yunet+solid", path, "--keep", friend.references[0], "-o", tmp_path / "out").code == 0
    black = [picture[face(place)].mean() < 25 for picture in videos.frames(tmp_path / "out" / "cut.mp4")]
    assert all(black[12:24]) and not any(black[:6] + black[30:])


# What vouches for what


def tracked(tracks, boxes, seen=True):
    return Tracked(
        Detections(boxes, np.ones(len(boxes), np.float32)), np.array(tracks, np.intp), np.full(len(boxes), seen, np.bool_)
    )


def decided(verdicts, boxes=None, look_ahead=24):
    """What becomes of one face with a verdict per picture (None: not found), another one at ``boxes`` if given."""
    sightings, ready, mine = Sightings(), [], np.array([[0, 0, 10, 10]], np.float32)
    for t in range(len(verdicts) + look_ahead):
        if t < len(verdicts):
            found = [] if verdicts[t] is None else [0]
            other = [] if boxes is None or boxes[t] is None else [1]
            places = np.concatenate([mine[: len(found)], *([np.array([boxes[t]], np.float32)] if other else [])])
            sightings.see(np.array(found + other, np.intp), places, np.array([verdicts[t]] * len(found) + [UNSURE] * len(other)))
        if t >= look_ahead:
            ready.append(bool(sightings.opened(tracked([0], mine))[0]))
    return ready


def test_sightings_vouch_for_each_other():
    sure, unsure, other, gone = OPEN, UNSURE, HIDE, None
    assert decided([sure] * 6) == [True] * 6
    assert decided([sure, sure]) == [False] * 2  # too few
    assert decided([unsure] * 8) == [False] * 8
    assert decided([other] * 8) == [False] * 8
    held = [sure] * 4 + [unsure, gone, unsure] + [sure] * 4
    assert decided(held) == [True] * 11  # between two sure ones
    assert decided([unsure, unsure, *[sure] * 4, unsure]) == [False, False, True, True, True, True, False]  # not beyond them
    long = [sure] * 4 + [unsure] * 12 + [sure] * 4
    assert decided(long) == [True] * 4 + [False] * 12 + [True] * 4
    doubted = [sure] * 8 + [other] + [sure] * 8
    assert decided(doubted) == [True] * 3 + [False] * 11 + [True] * 3


def test_close_to_others_only_the_picture_itself_counts():
    held = [OPEN] * 4 + [UNSURE] * 3 + [OPEN] * 4
    far, close = [60, 0, 70, 10], [14, 0, 24, 10]
    assert decided(held, [far] * 11) == [True] * 11
    assert decided(held, [far] * 5 + [close] + [far] * 5) == [True] * 4 + [False] * 3 + [True] * 4
    assert decided([OPEN] * 6, [close] * 6) == [True] * 6


def test_without_look_ahead_only_what_is_past_counts():
    assert decided([OPEN] * 5, look_ahead=0) == [False, False, True, True, True]
    assert decided([OPEN] * 4 + [UNSURE] + [OPEN] * 2, look_ahead=0) == [False] * 2 + [True] * 2 + [False] + [True] * 2


def test_verdicts_of_both_modes():
    keep = People("keep", "x", 0.5, 0.1, (("a",), ("b",)), np.eye(3, dtype=np.float32)[:2])
    only = dataclasses.replace(keep, mode="only")
    for vector, expected in (([0.5, 0, 0.8], 1), ([0.05, 0.05, 0.99], -1), ([0.05, 0.3, 0.9], 0), ([0.05, 0.6, 0.7], 1)):
        assert keep.verdict(np.float32(vector)) == expected and only.verdict(np.float32(vector)) == -expected
    assert keep.verdict(None) == only.verdict(None) == UNSURE


def test_an_opened_face_leaves_a_pixel_mask_but_takes_nothing_from_others():
    mask = np.zeros((100, 200), np.float32)
    mask[30:70, 30:70] = mask[30:70, 72:112] = 1
    boxes = np.array([[30, 30, 70, 70], [72, 30, 112, 70]], np.float32)
    left = without(mask, boxes[:1], boxes[1:], MaskShape())
    assert left[30:70, 72:112].all() and left[50, 34] == 0 and left[30:70, 30:45].sum() == 0
    assert without(mask, boxes[:0], boxes, MaskShape()) is mask


TWO = Detections(
    [[30, 30, 70, 70], [112, 30, 152, 70]], [0.9, 0.9], mask=np.pad(np.ones((40, 122), np.float32), ((30, 30), (30, 48)))
)


class OnlyTheFirst:
    """Is sure of the first face, and of no other."""

    def verdicts(self, image, found):
        return np.array([OPEN] + [UNSURE] * (len(found) - 1), np.int8)


def test_methods_that_give_pixels_open_a_face_in_photos_and_videos():
    image = np.full((100, 200, 3), 90, np.uint8)
    finder = HiddenFaces(lambda image: TWO, OnlyTheFirst(), MaskShape())
    found = finder(image)
    assert finder.opened.boxes.tolist() == [[30, 30, 70, 70]] and found.boxes.tolist() == [[112, 30, 152, 70]]
    method = DetectAndObfuscate(lambda image: TWO, lambda image, mask: np.where(mask[..., None] > 0, np.uint8(0), image))
    hider = Hider(method, Clock({}), None, preview=False)
    both = tracked([0, 1], TWO.boxes)
    first, second = (
        dataclasses.replace(both, detections=TWO.select([i]), tracks=both.tracks[[i]], seen=both.seen[[i]]) for i in (0, 1)
    )
    result = hider.obfuscated(image, second, first.detections, 0.0)
    for mask in (found.mask, result.mask):
        assert mask[30:70, 30:80].sum() == 0 and mask[30:70, 112:152].all()


@pytest.mark.parametrize("regions", [Regions(keep=(Area((0, 0, 140, 100)),)), Regions(only=(Area((140, 0, 200, 100)),))])
def test_methods_that_give_pixels_hide_a_face_whole_that_leaves_a_region(regions):
    image = np.full((100, 200, 3), 90, np.uint8)
    method = DetectAndObfuscate(lambda image: TWO, lambda image, mask: np.where(mask[..., None] > 0, np.uint8(0), image))
    hider = Hider(method, Clock({}), regions, preview=False)
    second = dataclasses.replace(tracked([0], TWO.boxes[1:]), detections=TWO.select([1]))
    assert regions.hidden(TWO.boxes, 0.0).tolist() == [False, True]
    mask = hider.obfuscated(image, second, Detections.none(), 0.0).mask
    shape = method.mask(dataclasses.replace(second.detections, mask=None), 100, 200)
    assert (mask >= shape).all() and mask[50, 114] == 1 and mask[:, :90].max() == 0


def test_landmarks_are_found_in_an_enlarged_part(shared, astronaut):
    from faceblur_core.plugins import installed_plugins

    finder = installed_plugins().make("detector", "yunet")
    whole = finder(astronaut)
    found = find_landmarks(astronaut, whole.boxes[0], finder)
    assert np.abs(found - whole.landmarks[0]).max() < 8  # of a face of 91 x 111 pixels
    small = cv2.resize(astronaut, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert np.abs(find_landmarks(small, whole.boxes[0] / 4, finder) - whole.landmarks[0] / 4).max() < 2
    assert find_landmarks(astronaut, np.array([300, 300, 380, 400], np.float32), finder) is None


def test_a_box_that_holds_a_small_face_beside_a_large_one_has_no_landmarks():
    """Methods that find pixels may put two people into one box: it must not be opened for the sake of the larger."""
    points = np.zeros((5, 2))
    one = Detections([[80, 80, 240, 240]], [0.9], [points])  # in CROP_SIDE pixels, where the box is the middle half
    small = Detections([[82, 150, 112, 190], [100, 80, 240, 240]], [0.9, 0.9], [points, points])
    beside = Detections([[20, 80, 70, 160], [80, 80, 240, 240]], [0.9, 0.9], [points, points])
    image, box = np.zeros((160, 160, 3), np.uint8), np.array([40, 40, 120, 120], np.float32)
    assert [find_landmarks(image, box, lambda _, found=found: found) is None for found in (one, small, beside)] == [
        False, True, False,
    ]  # fmt: skip
