"""The importers: known answers, the real data sets, and everything that can be wrong with an annotation file."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceblur_core.datasets.labels import BadRow, BadRows, Face, LabelledPhoto, box_ellipse
from faceblur_core.datasets.masks import mask_ellipse
from faceblur_core.datasets.points import face_of
from faceblur_core.datasets.reviewed import read_marks
from faceblur_core.datasets.sources import FORMATS, open_source
from faceblur_core.datasets.survey import completed, survey
from faceblur_core.errors import FaceblurError
from faceblur_core.types import Ellipse
from photos import encoded, exif, png_bomb

HEIGHT, WIDTH = 80, 100
JPEG = encoded(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), "JPEG")
RUBBISH = b"\xff\xfe\x00\x81rubbish\n\x00"
OUTLINE = Ellipse(50, 40, 20, 28, 0.3)  #: upright but for 0.3 radians, for the points and the mask
FOLDER = object()  #: in place of a file's content: a folder of its name


def points68(outline: Ellipse) -> np.ndarray:
    """68 points whose hull, with the forehead that the importer adds, is a regular 27-gon stretched onto an ellipse."""
    turn = 2 * math.pi / 27
    around = np.array([(-math.sin(k * turn), math.cos(k * turn)) for k in range(-8, 19)])  # from ear by chin to ear, and on
    points = np.zeros((68, 2))
    points[:17], forehead = around[:17], around[17:]
    points[17:27] = forehead + np.array([0, (1 - (0.5 + forehead[:, 1].mean()) / 1.5) / 2])
    ring = np.array([(-0.1, 0), (-0.05, -0.05), (0.05, -0.05), (0.1, 0), (0.05, 0.05), (-0.05, 0.05)])
    points[36:42], points[42:48] = ring - np.array([0.4, 0.2]), ring + np.array([0.4, -0.2])
    points[30], points[48], points[54] = (0, 0.1), (-0.3, 0.5), (0.3, 0.5)
    cos, sin = math.cos(outline.angle), math.sin(outline.angle)
    return points * (outline.rx, outline.ry) @ np.array([[cos, sin], [-sin, cos]]) + (outline.cx, outline.cy)


def drawn(outline: Ellipse) -> bytes:
    return encoded((outline.inside(HEIGHT, WIDTH) * 255).astype(np.uint8), "PNG")


def pts_text() -> str:
    return "version: 1\nn_points: 68\n{\n" + "".join(f"{x:.3f} {y:.3f}\n" for x, y in points68(OUTLINE)) + "}\n"


def xml_text(name: str, more: str = "", bounds: str = "11 21 40 60") -> str:
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), bounds.split(), strict=True))
    face = f"<object><name>face</name>{more}<bndbox>{box}</bndbox></object>"
    return f"<annotation>\n<filename>{name}.jpg</filename>\n{face}\n</annotation>\n"


def coco_text() -> str:
    images = ",\n".join(json.dumps({"id": k, "file_name": f"{name}.jpg"}) for k, name in enumerate("abc"))
    faces = ",\n".join(json.dumps({"image_id": k, "category_id": 7, "bbox": [10, 20, 30, 40]}) for k in range(3))
    kinds = '[{"id": 7, "name": "face"}, {"id": 8, "name": "cat"}]'
    return f'{{"categories": {kinds}, "images": [\n{images}],\n"annotations": [\n{faces}]}}\n'


ROW = "10 20 30 40 0 0 0 0 0 0"
CELLS = ",".join(f"{value:.3f}" for value in points68(OUTLINE).ravel())
LABELS = "".join(json.dumps({"input": f"{name}.jpg", "detections": [{"box": [10, 20, 40, 60]}]}) + "\n" for name in "abc")
#: The options of each format, and the files of a set in it: the photos a, b and c with one face each (b two, if in blocks).
SETS: dict[str, tuple[dict[str, str], dict[str, str | bytes]]] = {
    "wider": ({"annotations": "gt.txt"}, {"gt.txt": f"a.jpg\n1\n{ROW}\nb.jpg\n2\n{ROW}\n{ROW}\nc.jpg\n1\n{ROW}\n"}),
    "fddb": ({"folds": "gt.txt"}, {"gt.txt": "a\n1\n9 5 0 50 40 1\nb\n2\n9 5 0 50 40 1\n9 5 1 30 40 1\nc\n1\n9 5 0 50 40 1\n"}),
    "voc": ({"annotations": "xml"}, {f"xml/{name}.xml": xml_text(name) for name in "abc"}),
    "yolo": ({"labels": "txt"}, {f"txt/{name}.txt": "0 0.25 0.5 0.3 0.5\n" for name in "abc"}),
    "coco": ({"annotations": "coco.json"}, {"coco.json": coco_text()}),
    "pts": ({}, {f"photos/{name}.pts": pts_text() for name in "abc"}),
    "points-csv": ({"annotations": "points.csv"}, {"points.csv": ",0,1\n" + "".join(f"{name}.jpg,{CELLS}\n" for name in "abc")}),
    "masks": ({"masks": "masks"}, {f"masks/{name}.png": drawn(OUTLINE) for name in "abc"}),
    "folder": ({}, {}),
    "reviewed": ({"labels": "labels.jsonl"}, {"labels.jsonl": LABELS}),
}
TEXT = [name for name in SETS if name not in ("masks", "folder")]


def write(folder: Path, kind: str, **changed: Any) -> dict[str, Any]:
    """Write a set with its photos, some files of other content; return the source's config."""
    options, files = SETS[kind]
    for name, content in {**{f"photos/{name}.jpg": JPEG for name in "abc"}, **files, **changed}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is FOLDER:
            path.mkdir(exist_ok=True)
        elif content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return {"format": kind, "images": "photos", **options}


def read(folder: Path, config: dict[str, Any], *, skip: bool = False) -> tuple[list[LabelledPhoto], list[str]]:
    bad = BadRows(skip)
    return open_source("test", config, folder).read(bad), bad.skipped


def imported(folder: Path, kind: str, options: dict[str, Any] | None = None, **changed: Any) -> dict[str, LabelledPhoto]:
    return {photo.name: photo for photo in read(folder, {**write(folder, kind, **changed), **(options or {})})[0]}


def boxes(photo: LabelledPhoto) -> list[tuple[float, ...]]:
    return [tuple(round(value, 6) for value in face.ellipse.bounds()) for face in photo.faces]


# Known answers


def test_wider_is_x_y_w_h_with_flags_and_a_face_of_no_size_is_one_ignored_pixel(tmp_path):
    rows = ["10 20 30 40 2 1 1 0 1 1", "50 20 1 2 1 0 0 1 2 0", "7 9 0 0 0 0 0 0 0 0", "-5 60 20 30 0 0 0 0 0 0"]
    text = "\n".join(["0--Parade/a.jpg", "4", *rows, "b.jpg", "0", "0 0 0 0 0 0 0 0 0 0", "c.jpg", "0", ""])
    found = imported(tmp_path, "wider", **{"gt.txt": text, "photos/0--Parade/a.jpg": JPEG})
    photo = found["0--Parade/a.jpg"]
    assert (photo.height, photo.width) == (HEIGHT, WIDTH)
    assert boxes(photo) == [(10, 20, 40, 60), (50, 20, 51, 22), (7, 9, 8, 10), (-5, 60, 15, 90)]
    flags = ["expression heavy-blur illumination occlusion pose", "blur heavy-occlusion ignore", "ignore", ""]
    assert [" ".join(sorted(face.flags)) for face in photo.faces] == flags
    assert found["b.jpg"].faces == found["c.jpg"].faces == ()


@pytest.mark.parametrize("angle", [0, math.pi / 2, -math.pi / 2, 0.5, -0.5, 2.8])
def test_fddb_angles_turn_clockwise_on_screen(tmp_path, angle):
    face = imported(tmp_path, "fddb", **{"gt.txt": f"a\n1\n30 15 {angle} 50 40 1\n"})["a.jpg"].faces[0]
    large = cv2.ellipse(np.zeros((HEIGHT * 8, WIDTH * 8), np.uint8), ((400, 320), (480, 240), math.degrees(angle)), 255, -1)
    shown, hidden = large[4::8, 4::8] > 0, face.ellipse.inside(HEIGHT, WIDTH)
    assert (shown & hidden).sum() > 0.97 * (shown | hidden).sum()
    rows, columns = np.nonzero(hidden)
    drawn_bounds = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.allclose(face.ellipse.bounds(), drawn_bounds, atol=1)
    if angle == 0.5:  # down to the right, where y points down
        assert hidden[52, 72] and not hidden[28, 72]


def test_voc_counts_from_1_and_includes_the_last_pixel(tmp_path):
    more = "<part><name>nose</name><bndbox><xmin>1</xmin></bndbox></part><attributes><name>pose</name></attributes>"
    changed = {
        "xml/a.xml": xml_text("a", more + "<difficult>1</difficult><truncated>1</truncated>"),
        "xml/b.xml": xml_text("b", bounds="100 80 100 80"),
        "xml/c.xml": xml_text("c").replace(">face<", ">cat<"),
    }
    found = imported(tmp_path, "voc", **changed)
    assert boxes(found["a.jpg"]) == [(10, 20, 40, 60)]
    assert found["a.jpg"].faces[0].flags == {"ignore", "occlusion"}
    assert boxes(found["b.jpg"]) == [(99, 79, 100, 80)]
    assert found["c.jpg"].faces == ()
    assert boxes(imported(tmp_path / "from 0", "voc", {"origin": 0})["a.jpg"]) == [(11, 21, 41, 61)]


def test_yolo_is_in_shares_of_the_upright_picture(tmp_path):
    turned = encoded(np.zeros((50, 200, 3), np.uint8), "JPEG", exif=exif(orientation=6))  # 50 wide, 200 high
    changed = {"txt/a.txt": "0 0.25 0.5 0.3 0.5 0.1 0.1 2\n1 0.5 0.5 0.1 0.1\n", "txt/b.txt": None, "photos/c.jpg": turned}
    found = imported(tmp_path, "yolo", **changed, **{"txt/classes.txt": "face\n"})
    assert boxes(found["a.jpg"]) == [(10, 20, 40, 60)]
    assert found["b.jpg"].faces == ()
    assert boxes(found["c.jpg"]) == [(5, 50, 20, 150)]


def test_coco_is_x_y_width_height_and_a_crowd_is_ignored(tmp_path):
    text = coco_text().replace('"category_id": 7', '"iscrowd": 1, "category_id": 7', 1)
    text = text.replace("]}\n", ', {"image_id": 2, "category_id": 8, "bbox": null}]}')
    found = imported(tmp_path, "coco", **{"coco.json": text})
    assert [boxes(photo) for photo in found.values()] == [[(10, 20, 40, 60)]] * 3
    assert [set(photo.faces[0].flags) for photo in found.values()] == [{"ignore"}, set(), set()]


@pytest.mark.parametrize("kind", ["pts", "points-csv"])
def test_68_points_become_an_ellipse_up_to_the_hairline_and_five_landmarks(tmp_path, kind):
    face = imported(tmp_path, kind)["b.jpg"].faces[0]
    size = math.sqrt((2 + math.cos(2 * math.pi / 27)) / 3)  # of the ellipse with a 27-gon's moments, to the one around it
    ellipse = face.ellipse
    assert (ellipse.cx, ellipse.cy) == pytest.approx((50, 40), abs=0.01)
    assert (ellipse.rx, ellipse.ry) == pytest.approx((28 * size, 20 * size), abs=0.01)
    assert ellipse.angle == pytest.approx(0.3 + math.pi / 2, abs=0.01)
    cos, sin = math.cos(0.3), math.sin(0.3)
    wanted = [(-0.4, -0.2), (0.4, -0.2), (0, 0.1), (-0.3, 0.5), (0.3, 0.5)]  # the person's right eye, left in the picture, first
    expected = [(50 + 20 * x * cos - 28 * y * sin, 40 + 20 * x * sin + 28 * y * cos) for x, y in wanted]
    assert np.allclose(face.landmarks, expected, atol=0.01)
    assert face.landmarks.dtype == np.float32


def test_a_csv_file_without_a_header_loses_no_row_and_rows_of_one_name_are_faces_of_one_photo(tmp_path):
    found = imported(tmp_path, "points-csv", **{"points.csv": f"a.jpg,{CELLS}\nb.jpg,{CELLS}\na.jpg,{CELLS}\n"})
    assert [len(found[name].faces) for name in ("a.jpg", "b.jpg")] == [2, 1]


@pytest.mark.parametrize(
    "outline", [OUTLINE, Ellipse(50, 40, 30, 20), Ellipse(47.3, 38.6, 20, 31, 0.2), Ellipse(60, 30, 12, 9, 1)]
)
def test_a_mask_becomes_the_ellipse_that_was_drawn(tmp_path, outline):
    (tmp_path / "mask.png").write_bytes(drawn(outline))
    found = mask_ellipse(tmp_path / "mask.png", HEIGHT, WIDTH)
    assert (found.cx, found.cy) == pytest.approx((outline.cx, outline.cy), abs=0.1)
    assert (found.rx, found.ry) == pytest.approx(sorted((outline.rx, outline.ry), reverse=True), abs=0.5)
    turned = found.angle - outline.angle - (0 if outline.rx > outline.ry else math.pi / 2)
    assert math.sin(turned) == pytest.approx(0, abs=0.06)


def test_pictures_without_a_mask_are_taken_only_if_asked_for(tmp_path):
    config = write(tmp_path, "masks", **{"masks/b.png": None})
    assert [photo.name for photo in read(tmp_path, config)[0]] == ["a.jpg", "c.jpg"]
    assert [len(photo.faces) for photo in read(tmp_path, {**config, "unmasked": True})[0]] == [1, 0, 1]


@pytest.mark.parametrize("kind", ["masks", "pts"])
def test_labels_that_fit_two_pictures_are_bad(tmp_path, kind):
    config = write(tmp_path, kind, **{"photos/b.png": drawn(OUTLINE)})
    with pytest.raises(FaceblurError, match="b.png: b.jpg is there too; labels by the name b fit both"):
        read(tmp_path, config)
    for unmasked in (False, True) if kind == "masks" else (None,):
        found, skipped = read(tmp_path, config if unmasked is None else {**config, "unmasked": unmasked}, skip=True)
        assert [photo.name for photo in found] == ["a.jpg", "c.jpg"] and "b.jpg is there too" in skipped[0]


def test_a_folder_has_no_faces_and_subfolders_count(tmp_path):
    found = imported(tmp_path, "folder", **{"photos/deep/er/d.JPG": JPEG, "photos/notes.txt": "no picture"})
    assert list(found) == ["a.jpg", "b.jpg", "c.jpg", "deep/er/d.JPG"]
    assert not any(photo.faces for photo in found.values())


def test_reviewed_labels_count_where_the_marks_accept_them(tmp_path):
    points = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    first = {"box": [10, 20, 40, 60], "score": 0.5, "landmarks": points, "frame": 0}
    rows = [
        {"input": "a.jpg", "outcome": "error", "detections": []},  # and then tried again
        {"input": "a.jpg", "detections": [first, {"box": [1, 1, 9, 9], "frame": 1}]},
        {"input": "b.jpg", "detections": []},
        {"input": "c.jpg", "detections": [{"box": [10, 20, 40, 60]}]},
    ]
    changed = {
        "labels.jsonl": "\n".join(map(json.dumps, rows)),
        "marks.txt": "\ufeff# a comment\r\naccept a.jpg\r\n\r\nredo c.jpg",
    }
    found = imported(tmp_path, "reviewed", {"marks": "marks.txt"}, **changed)
    assert list(found) == ["a.jpg"]
    assert boxes(found["a.jpg"]) == [(10, 20, 40, 60)]
    assert found["a.jpg"].faces[0].score == 0.5
    assert found["a.jpg"].faces[0].landmarks.tolist() == points
    assert set(imported(tmp_path / "all", "reviewed", **changed)) == {"a.jpg", "b.jpg", "c.jpg"}


@pytest.mark.parametrize(("text", "line"), [("accept a\nkeep b", 2), ("accept", 1), ("accept a\n\nreject a", 3)])
def test_wrong_marks_are_told_with_their_line(tmp_path, text, line):
    (tmp_path / "marks.txt").write_text(text)
    with pytest.raises(FaceblurError, match=f"marks.txt, line {line}: "):
        read_marks(tmp_path / "marks.txt")


# Files as they come


@pytest.mark.parametrize("change", ["crlf", "bom", "no line end", "blank lines below"])
@pytest.mark.parametrize("kind", TEXT)
def test_line_ends_a_byte_order_mark_and_a_missing_last_line_end_do_not_matter(tmp_path, kind, change):
    changes: dict[str, Callable[[str], str]] = {
        "crlf": lambda text: text.replace("\n", "\r\n"),
        "bom": lambda text: "\ufeff" + text,
        "no line end": lambda text: text.removesuffix("\n"),
        "blank lines below": lambda text: text + "\n  \n",
    }
    plain = imported(tmp_path / "plain", kind)
    changed = imported(tmp_path / "changed", kind, **{name: changes[change](text) for name, text in SETS[kind][1].items()})
    assert [boxes(photo) for photo in changed.values()] == [boxes(photo) for photo in plain.values()]
    assert list(changed) == ["a.jpg", "b.jpg", "c.jpg"] and all(photo.faces for photo in changed.values())


REAL = [
    ("wider/images", "wider", {"annotations": "wider/wider_face_split/wider_face_train_bbx_gt.txt"}, 1765, 10786),
    ("wider/images", "wider", {"annotations": "wider/wider_face_split/wider_face_val_bbx_gt.txt"}, 685, 7022),
    ("fddb/originalPics", "fddb", {"folds": "fddb/FDDB-folds"}, 283, 499),
    ("helen_afw", "pts", {}, 1385, 1385),
    ("ytf/train", "points-csv", {"annotations": "ytf/train_keypoints.csv"}, 1248, 1248),
    ("ytf/test", "points-csv", {"annotations": "ytf/test_keypoints.csv"}, 366, 366),
    ("celebahq/train/images", "masks", {"masks": "celebahq/train/masks"}, 1000, 1000),
    ("utkface/train", "folder", {}, 1000, 0),
    ("negatives/train", "folder", {}, 188, 0),
]


@pytest.mark.parametrize(("images", "kind", "options", "photos", "faces"), REAL)
def test_the_real_sets_are_read_whole(shared, images, kind, options, photos, faces):
    found, _ = read(shared / "data", {"format": kind, "images": images, **options})
    assert (len(found), sum(len(photo.faces) for photo in found)) == (photos, faces)
    heights = [face.height / photo.height for photo in found for face in photo.faces]
    assert not heights or (min(heights) > 0 and max(heights) < 1.6)


# Files that are wrong. All are told in one line with the file and the line; --skip-bad leaves out the photo concerned.

Edit = Callable[[Any], Any]


def line(number: int, new: str) -> Edit:
    return lambda text: "\n".join([new if at == number else old for at, old in enumerate(text.split("\n"), start=1)])


def without(number: int) -> Edit:
    return lambda text: "\n".join([old for at, old in enumerate(text.split("\n"), start=1) if at != number])


def swap(old: str, new: str) -> Edit:
    return lambda text: text.replace(old, new)


def cut(characters: int) -> Edit:
    return lambda content: content[:-characters]


def become(content: Any) -> Edit:
    return lambda _: content


HUGE = 10**400
#: One row or object of b: the file, the line, how it reads with the wrong part, wrong parts.
ROWS: dict[str, tuple[str, int, str, list[str]]] = {
    "wider": ("gt.txt", 7, "%s 0 0 0 0 0", [
        "10 20 -30 40 0", "10 20 30 -40 0", "100 20 30 40 0", "10 80 30 40 0", "10 900 0 0 0", "nan 20 30 40 0", "nan 20 0 0 0",
        "10 20 inf 0 0", "-1e308 20 1.5e308 40 0", "10 20 30 40 3", "10 20 30 40", "10 20 30 40 0 0"]),
    "fddb": ("gt.txt", 7, "%s 1", [
        "-9 5 0 50 40", "9 0 0 50 40", "9 5 0 50 90", "9 5 0 -20 40", "9 5 nan 50 40", "9 5 0 inf 40", "1e308 1e308 0.7 50 40",
        "9 5 0 50"]),
    "voc": ("xml/b.xml", 3, "<object><name>face</name><bndbox><xmin>1</xmin><ymin>1</ymin>%s</bndbox></object>", [
        "<xmax>0</xmax><ymax>9</ymax>", "<xmax>nan</xmax><ymax>9</ymax>", "<xmax>9</xmax><ymax>inf</ymax>", "<xmax>9</xmax>",
        "<xmax>x</xmax><ymax>9</ymax>", "<xmax>9</xmax><ymax></ymax>", "<xmin>101</xmin><xmax>200</xmax><ymax>9</ymax>"]),
    "yolo": ("txt/b.txt", 1, "%s", [
        "0 0.25 0.5 -0.3 0.5", "0 1.2 0.5 0.3 0.5", "0 nan 0.5 0.3 0.5", "0 0.25 0.5 inf 0.5", "0 25 40 30 40", "0 0.25 0.5 0.3",
        "face 0.25 0.5 0.3 0.5", "0.5 0.25 0.5 0.3 0.5", "0 0.25 0.5 0 0.5", "0 0.2_5 0.5 0.3 0.5"]),
    "coco": ("coco.json", 7, '{"image_id": 1, "category_id": 7, "bbox": %s},', [
        "[10, 20, -30, 40]", "[10, 80, 30, 40]", "[NaN, 20, 30, 40]", "[10, 20, 1e999, 40]", f"[{HUGE}, 20, 30, 40]", "null",
        "[10, 20, 30]", '["10", 20, 30, 40]', '[1, 1, 9, 9], "category_id": [7]', '[1, 1, 9, 9], "category_id": 9']),
    "pts": ("photos/b.pts", 20, "%s", ["nan 1", "1 -inf", "1 x", "1", "1 2 3"]),
    "points-csv": ("points.csv", 3, "b.jpg,%s", [
        CELLS[: CELLS.rindex(",")], CELLS + ",1", "5" + ",5" * 135, CELLS.replace(".", "00."),
        *(CELLS.replace("50.000", wrong) for wrong in ("nan", "inf", "1e38", "1e300", "x", ""))]),
    "reviewed": ("labels.jsonl", 2, '{"input": "b.jpg", "detections": %s}', [
        '[{"box": [40, 20, 10, 60]}]', '[{"box": [-9, 20, 0, 60]}]', '[{"box": [NaN, 2, 1, 6]}]', '[{"box": [1, 2, 1e999, 6]}]',
        f'[{{"box": [1, 2, {HUGE}, 6]}}]', '[{"box": [1, 2, 3]}]', "null", "[5]", "[", '[{"box": [1, 2, 3, 4], "score": NaN}]',
        '[{"box": [1, 2, 3, 4], "landmarks": [[1, 2]]}]', '[], "outcome": "error"', '[], "left_open": 1',
        '[], "input": 5', "[" * 10**5]),
}  # fmt: skip


FILES = {kind: row[0] for kind, row in ROWS.items()} | {"masks": "masks/b.png", "folder": "photos/b.jpg"}
Fault = tuple[Edit, int | None, str | None]  #: what is wrong, the line told first, the photos left; None: --skip-bad is no help


def blocks(row: str) -> list[Fault]:
    """What can be wrong with the count in a file of blocks."""
    return [
        (cut(5), 10, "ab"), (cut(len(row) + 1), 9, "ab"), (cut(len(row) + 3), 8, "ab"), (line(6, "o" + row), 6, "ac"),
        (line(5, "1"), 7, "ac"), (line(5, "3"), 8, "ac"), (line(5, "0"), 6, "ac"), (without(5), 4, "ac"), (without(1), 1, "bc"),
        *((line(5, count), 4, "ac") for count in ("-2", "nan", "inf", "1.5", "two")), (line(1, row), 1, "bc"),
    ]  # fmt: skip


NO_FILE: list[Fault] = [(become(RUBBISH), 1, None), (become(None), None, None), (become(FOLDER), None, None)]
NO_OWN_FILE: list[Fault] = [(become(RUBBISH), 1, "ac"), (become(FOLDER), 1, "ac")]
OTHER: dict[str, list[Fault]] = {
    "wider": [*blocks(ROW), *NO_FILE],
    "fddb": [*blocks("9 5 0 50 40 1"), *NO_FILE],
    "voc": [
        *((become(f"<?xml version='1.0' encoding='{name}'?><a/>"), 1, "ac") for name in ("utf-7", "base64", "idna", "x")),
        *NO_OWN_FILE, (cut(40), 3, "ac"), (become(""), 1, "ac"), (swap("<name>face</name>", ""), 3, "ac"), (without(2), 1, "ac")],
    "yolo": [(cut(4), 1, "ac"), (lambda text: text + "0 1", 2, "ac"), *NO_OWN_FILE],
    "coco": [
        *((line(7, f"{item},"), 7, "abc") for item in ('{"image_id": 9}', '{"image_id": [1]}', "5", "null")), *NO_FILE,
        (line(3, '{"file_name": "b.jpg"},'), 7, "ac"), (line(3, '{"id": 0},'), 7, "c"), (line(3, '{"id": 1},'), 3, "ac"),
        (line(3, r'{"id": 1, "file_name": "\ud800\n\u0000"},'), 3, "ac"), (swap('"face"', "5"), None, None),
        (swap("categories", "kinds"), None, None), (cut(9), 8, None), (become("[]"), 1, None), (become("[" * 10**5), 1, None)],
    "pts": [
        (cut(40), 69, "ac"), (without(20), 71, "ac"), (line(20, "1 1\n1 1"), 73, "ac"), (swap(".", "00."), 4, "ac"), *NO_OWN_FILE,
        (line(20, "1e300 1"), 4, "ac"), (become("5 5\n" * 68), 1, "ac"), (become(""), 1, "ac")],
    "points-csv": [(cut(9), 4, "ab"), (line(3, 'b.jpg,"1'), 4, None), *NO_FILE],
    "reviewed": [(cut(9), 3, "ab"), (line(2, "{}"), 2, "ac"), (line(2, "5"), 2, "ac"), *NO_FILE],
    "masks": [
        *((edit, None, "ac") for edit in (cut(300), become(RUBBISH), become(b""))),
        (become(encoded(np.full((HEIGHT, WIDTH), 127, np.uint8), "PNG")), None, "ac"),
        (become(encoded(np.full((WIDTH, HEIGHT), 255, np.uint8), "PNG")), None, "ac")],
    "folder": [(become(content), None, "ac") for content in (JPEG[:20], RUBBISH, b"", png_bomb())],
}  # fmt: skip
FAULTS = [(kind, line(number, row % part), number, "ac") for kind, (_, number, row, parts) in ROWS.items() for part in parts]
FAULTS += [(kind, *fault) for kind, faults in OTHER.items() for fault in faults]


def check_told(folder: Path, config: dict[str, Any], file: str, number: int | None, left: str | None) -> None:
    """Hold that a fault is told in one line with its file and line, and that skipping it leaves those photos."""
    where = f"{folder / file}, line {number}: " if number else f"{folder / file}"
    with pytest.raises(FaceblurError) as error:
        read(folder, config)
    assert where in error.value.message and error.value.message.isprintable() and len(error.value.message) < 500
    if left is None:
        with pytest.raises(FaceblurError):
            read(folder, config, skip=True)
        return
    found, skipped = read(folder, config, skip=True)
    assert [photo.name for photo in found] == [f"{name}.jpg" for name in left]
    assert skipped and skipped[0].startswith(where)
    assert left == "abc" or config["format"] == "folder" or all(photo.faces for photo in found)


@pytest.mark.parametrize(("kind", "edit", "number", "left"), FAULTS, ids=[f"{fault[0]}-{at}" for at, fault in enumerate(FAULTS)])
def test_every_fault_of_an_annotation_is_one_line_and_costs_its_photo(tmp_path, kind, edit, number, left):
    file = FILES[kind]
    config = write(tmp_path, kind, **{file: edit(SETS[kind][1].get(file, JPEG))})
    check_told(tmp_path, config, file, number, left)


PICTURES = {
    "wider": ("gt.txt", 4), "fddb": ("gt.txt", 4), "voc": ("xml/b.xml", 2), "yolo": ("txt/b.txt", 1), "coco": ("coco.json", 3),
    "pts": ("photos/b.pts", 1), "points-csv": ("points.csv", 3), "masks": ("masks/b.png", None), "reviewed": ("labels.jsonl", 2),
}  # fmt: skip


@pytest.mark.parametrize("picture", [None, FOLDER, RUBBISH, b"", JPEG[:20], png_bomb()], ids=range(6))
@pytest.mark.parametrize("kind", PICTURES)
def test_a_missing_or_damaged_picture_is_one_line_and_costs_only_itself(tmp_path, kind, picture):
    file, number = PICTURES[kind]
    if kind == "yolo" and isinstance(picture, bytes):
        file, number = "photos/b.jpg", None
    check_told(tmp_path, write(tmp_path, kind, **{"photos/b.jpg": picture}), file, number, "ac")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_missing_folder_of_pictures_is_told(tmp_path, kind):
    config = write(tmp_path, kind)
    with pytest.raises(FaceblurError, match="nowhere"):
        read(tmp_path, {**config, "images": "nowhere"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"format": "widr"}, "wider"),
        ({"identity": "."}, "needs a group"),
        ({"identity": "(x)?"}, "finds nobody in the name a.jpg"),
        ({"identity": "("}, "no regular expression"),
        ({"groups": "(?P<age>.)", "bins": {"age": [10]}}, "needs numbers for the group age, not a"),
        ({"bins": {"age": []}}, "should be numbers that rise"),
        ({"bins": {"age": [20, 10]}}, "should be numbers that rise"),
        ({"image": "photos"}, "images"),
    ],
)
def test_a_wrong_source_is_told(tmp_path, config, message):
    with pytest.raises(FaceblurError, match=message):
        read(tmp_path, {**write(tmp_path, "folder"), **config})


def test_names_say_who_it_is_and_which_group_and_a_survey_leaves_out_what_cannot_be_decoded(tmp_path):
    names = ["9_1_ann", "10_0_bob", "75_2_bob"]
    changed: dict[str, Any] = {f"photos/{name}.jpg": None for name in "abc"} | {f"photos/{name}.jpg": JPEG for name in names}
    config = write(tmp_path, "folder", **changed, **{"photos/1_1_cut.jpg": JPEG[:-200]})
    known = {"names": {"sex": {"0": "male", "1": "female"}}, "bins": {"age": [0, 10, 60]}}
    rules = {"identity": r"_([a-z]+)\.", "groups": r"(?P<age>\d+)_(?P<sex>\d)(?P<none>_x)?", **known}
    source = open_source("test", {**config, **rules}, tmp_path)
    bad = BadRows(skip=True)
    found = [item.photo for item in survey(source, bad, workers=2)]
    assert [photo.identity for photo in found] == ["bob", "bob", "ann"]
    assert [dict(photo.groups) for photo in found] == [
        {"age": "10-59", "sex": "male"}, {"age": "60+", "sex": "2"}, {"age": "0-9", "sex": "female"},
    ]  # fmt: skip
    assert len(bad.skipped) == 1 and bad.skipped[0].startswith(f"{tmp_path / 'photos/1_1_cut.jpg'}: ")
    with pytest.raises(FaceblurError, match=r"1_1_cut\.jpg"):
        survey(source, BadRows(), workers=1)


# Properties

side = st.floats(-1e3, 1e3)


@given(side, side, side, side)
def test_a_box_is_the_bounds_of_its_ellipse_or_is_refused(x1, y1, x2, y2):
    good = x2 > x1 and y2 > y1 and x1 < WIDTH and y1 < HEIGHT and x2 > 0 and y2 > 0
    if good:
        assert box_ellipse(x1, y1, x2, y2, HEIGHT, WIDTH).bounds() == pytest.approx((x1, y1, x2, y2), abs=1e-9)
    else:
        with pytest.raises(BadRow):
            box_ellipse(x1, y1, x2, y2, HEIGHT, WIDTH)


@settings(max_examples=40)
@given(st.lists(st.integers(-40, 140) | st.floats(width=32), min_size=136, max_size=136))
def test_any_68_points_are_a_finite_ellipse_or_are_refused(values):
    try:
        ellipse = face_of(np.array(values, np.float32).reshape(68, 2), HEIGHT, WIDTH).ellipse
    except BadRow:
        return
    assert all(map(math.isfinite, ellipse.bounds())) and min(ellipse.rx, ellipse.ry) > 0


WORDS = st.sampled_from(
    ["nan", "-1", "1e999", "0", "9" * 400, "\n", "\0", "\ufeff", "[", "}", '"', "<object>", "&a;", ",", "null", "a.jpg"]
)


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("kind", [*TEXT, "masks", "folder"])
def test_a_damaged_file_gives_sound_faces_or_one_line(kind, data):
    files: dict[str, Any] = SETS[kind][1] or {"photos/b.jpg": JPEG}
    file = data.draw(st.sampled_from(sorted(files)))
    content = files[file].encode() if isinstance(files[file], str) else files[file]
    at = data.draw(st.integers(0, len(content)))
    until = at + data.draw(st.integers(0, 12))
    new = data.draw(st.binary(max_size=6) | WORDS.map(str.encode))
    with tempfile.TemporaryDirectory() as name:
        config = write(Path(name), kind, **{file: content[:at] + new + content[until:]})
        for skip in (False, True):
            with contextlib.suppress(FaceblurError):
                ellipses = [face.ellipse for photo in read(Path(name), config, skip=skip)[0] for face in photo.faces]
                assert all(min(ellipse.rx, ellipse.ry) > 0 and all(map(math.isfinite, ellipse.bounds())) for ellipse in ellipses)


def test_found_landmarks_go_to_the_face_that_they_lie_in_and_to_one_only():
    def face(x, landmarks=None, width=20.0):
        points = None if landmarks is None else np.full((5, 2), landmarks, np.float32) + np.eye(5, 2, dtype=np.float32)
        return Face(Ellipse(x, 50, width / 2, 20), landmarks=points)

    def middles(faces, found):
        return [None if one.landmarks is None else round(float(one.landmarks[0].mean() - 0.5)) for one in completed(faces, found)]

    assert middles([face(50), face(60)], [face(61, 60), face(50, 50)]) == [50, 60], "the nearest, whatever comes first"
    assert middles([face(50), face(60)], [face(57, 57)]) == [None, 57], "one is not given to two"
    assert middles([face(50, 49), face(90)], [face(50, 50)]) == [50, None], "what is found is taken before one's own"
    assert middles([face(50, 49)], [face(52)]) == [49]
    wide = face(50, 62, width=40)
    assert middles([face(45)], [wide]) == [None], "they lie in nobody's box"
    assert middles([], [wide]) == middles([], []) == []
