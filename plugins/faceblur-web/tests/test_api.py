"""The API, in this process: what it answers, what it refuses, and that a photo comes out as ``faceblur run`` writes it."""

import base64
import gc
import io
import json
import sys
import threading
import weakref

import numpy as np
import pytest
from PIL import Image
from skimage import data

import photos
from faceblur_core.errors import UsageMistake
from faceblur_core.media.images import encode_pixels, read_photo
from faceblur_web.allowed import Wanted
from faceblur_web.command import _names, _token
from faceblur_web.limits import Budget, Limits
from faceblur_web.page_files import PAGE
from faceblur_web.workers import Busy, Workers

JPEG = encode_pixels(data.astronaut(), "JPEG", quality=90)
TOKEN = "a-token-for-the-tests"


def post(client, what="anonymize", body=JPEG, headers=None, **query):
    return client.post(f"/v1/{what}", params={"method": "yunet", **query}, content=body, headers=headers)


def test_a_face_is_hidden_and_told_of(client):
    answer = post(client)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["faceblur-faces"] == "1" and float(answer.headers["faceblur-masked-share"]) > 0.02
    assert "total;dur=" in answer.headers["server-timing"]
    before, after = data.astronaut().astype(int), np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    assert np.abs(before - after)[80:160, 190:260].mean() > 20 > np.abs(before - after)[300:, :100].mean()


def run(folder, name, body, *options):
    """Return what ``faceblur run`` writes for a file."""
    from faceblur_core.cli import main

    (folder / "in").mkdir()
    (folder / "in" / name).write_bytes(body)
    before, sys.argv = sys.argv, ["faceblur", "run", "-m", "yunet", *options, str(folder / "in"), "-o", str(folder / "out")]
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    assert end.value.code == 0
    return (folder / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("turned.jpg", photos.encoded(photos.turned(data.astronaut(), 6), "JPEG", exif=photos.exif(orientation=6, gps=True))),
        ("deep.png", photos.deep_png(photos.deep(data.astronaut()))),
        ("deep.tiff", photos.deep_tiff(photos.deep(data.astronaut()))),
        ("alpha.png", photos.encoded(np.dstack([data.astronaut(), np.full((512, 512), 77, np.uint8)]), "PNG")),
        ("moving.gif", photos.frames([data.astronaut(), data.astronaut()[:, ::-1]], "GIF", duration=80)),
        ("grey.webp", photos.encoded(data.astronaut()[..., 1], "WEBP")),
    ],
)
def test_the_bytes_are_those_of_faceblur_run(client, tmp_path, name, body):
    """Orientation, 16 bits, alpha, frames: nothing is done differently, and the mark is there."""
    answer = post(client, body=body)
    assert answer.status_code == 200, answer.text
    assert answer.content == run(tmp_path, name, body)
    assert read_photo(answer.content).made == "anonymized" and int(answer.headers["faceblur-faces"]) >= 1


def test_options_and_formats_are_those_of_faceblur_run(client, tmp_path):
    answer = post(client, set=["mask.grow=2", "obfuscator.cells=2"], format="webp", quality=50)
    settings = ["--set", "mask.grow=2", "--set", "obfuscator.cells=2", "--quality", "50"]
    body = run(tmp_path, "a.jpg", JPEG, *settings)
    assert read_photo(answer.content).format == "WEBP" and read_photo(body).format == "JPEG"
    assert post(client, set=["mask.grow=2", "obfuscator.cells=2"], quality=50).content == body


def test_several_methods_are_compared(client):
    answer = post(client, "compare", method=["yunet", "haar+solid", "crowd"]).json()
    assert (answer["width"], answer["height"]) == (512, 512)
    assert [row["method"] for row in answer["results"]] == ["yunet", "haar+solid", "crowd"]
    assert [row["faces"] for row in answer["results"]] == [1, 1, 1]
    assert all(row["ms"]["total"] > 0 and row["masked_share"] > 0.02 for row in answer["results"])
    images = {base64.b64decode(row["image"]) for row in answer["results"]}
    assert len(images) == 2 and all(read_photo(image).made == "anonymized" for image in images)
    assert post(client, "compare", method="yunet", images=False).json()["results"][0]["image"] is None


def test_methods_are_listed_with_the_limits(client):
    listed = client.get("/v1/methods").json()
    found = {row["name"]: row for row in listed["methods"]}
    assert found["haar"]["kind"] == "detector" and found["haar"]["usable"] and found["careful"]["kind"] == "file"
    assert found["blur"]["kind"] == "obfuscator" and listed["max_bytes"] == 32_000_000 and "webp" in listed["formats"]


def test_a_method_without_its_model_is_said_to_be_unusable(make_client, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEBLUR_MODELS", str(tmp_path))
    monkeypatch.setenv("FACEBLUR_CACHE", str(tmp_path))
    monkeypatch.setattr("faceblur_core.weights.package_folder", lambda _: None)
    client = make_client()
    rows = {row["name"]: row for row in client.get("/v1/methods").json()["methods"]}
    assert not rows["yolo"]["usable"] and "yolo-face.pt" in rows["yolo"]["why"]
    answer = post(client, method="yolo")
    assert answer.status_code == 422 and answer.json() == {"error": "method 'yolo' cannot be used on this server"}
    answer = post(client, "compare", method=["yolo", "haar"]).json()["results"]
    assert answer[0]["error"] == "method 'yolo' cannot be used on this server" and answer[1]["faces"] == 1


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"method": "no-such"}, "no method named 'no-such'"),
        ({"method": "yunet+no-such"}, "no obfuscator named"),
        ({"method": "methods.yaml"}, "method files are not read"),
        ({"method": "../../etc/passwd"}, "method:"),
        ({"method": "a\\b"}, "method:"),
        ({"method": "haar|yunet|mediapipe|yolo|mask-unet"}, "at most 4 detectors"),
        ({"set": ["detector.weights=model.onnx"]}, "cannot be set over the web"),
        ({"method": "unet", "set": ["weights=/etc/passwd"]}, "set:"),
        ({"method": "unet", "set": ["weights=passwd"]}, "cannot be set over the web"),
        ({"set": ["detector.backend=x"]}, "cannot be set over the web"),
        ({"set": ["tile.size=32"]}, "cannot be set over the web"),
        ({"set": ["mask.grow=99"]}, "bad option of mask: grow"),
        ({"set": ["mask.grow"]}, "set:"),
        ({"set": ["detector.min_neighbors=3"]}, "no option of method"),
        ({"method": "haar", "set": ["detector.min_neighbors=0"]}, "detector.min_neighbors must be at least 1"),
        ({"method": "haar|yunet", "set": ["detector.haar.min_neighbors=0.0"]}, "min_neighbors must be at least 1"),
        ({"set": ["mask.grow=2"] * 20}, "set:"),
        ({"format": "exe"}, "format:"),
        ({"quality": 1000}, "quality:"),
    ],
)
def test_what_cannot_be_asked_for(client, query, message):
    answer = post(client, **query)
    assert answer.status_code == 422 and list(answer.json()) == ["error"]
    assert message in answer.json()["error"] and "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the file is empty"),
        (b"GIF89a", "not a picture"),
        (JPEG[: len(JPEG) // 2], "the file is damaged"),
        (photos.png_bomb(), "more than 50 megapixels"),
        (photos.png_bomb(60_000, 2_000), "more than 50 megapixels"),
        (photos.frames([np.full((1, 1, 3), n % 256, np.uint8) for n in range(502)], "GIF"), "more than 500 pictures"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    ],
)
def test_photos_that_cannot_be_read(client, body, message):
    answer = post(client, body=body)
    assert answer.status_code == 422 and message in answer.json()["error"]


def test_what_is_too_large_is_refused_as_early_as_possible(make_client):
    client = make_client(Limits(megabytes=1))
    assert post(client, body=bytes(1_000_001)).status_code == 413
    chunks = iter([bytes(600_000)] * 3)  # its length is not announced
    assert post(client, body=chunks).json() == {"error": "the photo is larger than 1 megabytes"}


def test_a_form_is_refused(client):
    answer = client.post("/v1/anonymize?method=yunet", files={"photo": ("../../x.jpg", JPEG)})
    assert answer.status_code == 415 and "not a form" in answer.json()["error"]


def test_what_hides_behind_a_picture_is_not_passed_on(client):
    """A file that is a JPEG and a script, and one that is a PNG with a comment, come out as pictures alone."""
    script = b"<script>alert(1)</script>"
    for body in (JPEG + script, JPEG[:2] + b"\xff\xfe" + (len(script) + 2).to_bytes(2, "big") + script + JPEG[2:]):
        answer = post(client, body=body)
        assert answer.status_code == 200 and script not in answer.content


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "a@localhost@b"]
)
def test_another_name_is_refused(client, host):
    """A page can make its own name stand for this machine, but the name stays in the header."""
    answer = client.get("/v1/methods", headers={"host": host})
    assert answer.status_code == 421 and answer.headers["x-content-type-options"] == "nosniff"


def test_addresses_localhost_and_allowed_names_are_taken(make_client):
    client = make_client(hosts=frozenset({"faces.example"}))
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.5", "faces.example:443"):
        assert client.get("/health", headers={"host": host}).status_code == 200, host


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:81"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_are_refused(client, headers):
    answer = post(client, headers=headers)
    assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
    assert client.options("/v1/anonymize", headers=headers).status_code == 403


def test_our_own_page_and_links_to_it_are_not(client):
    assert post(client, headers={"origin": "http://localhost", "sec-fetch-site": "same-origin"}).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/v1/methods", headers=link).status_code == 403


def test_the_token_is_asked_for(make_client):
    client = make_client(token=TOKEN)
    for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"authorization": "Bearer \xe9"}):
        answer = client.get("/v1/methods", headers={name: value.encode("latin-1") for name, value in given.items()})
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/openapi.json", headers={"authorization": "x"}).status_code == 401
    assert post(client).status_code == 401
    assert post(client, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/").status_code == 200  # it holds no secret, and asks for the token


def test_an_open_interface_demands_a_token():
    for host in ("0.0.0.0", "::", "192.168.1.5", "faces.example"):
        with pytest.raises(UsageMistake, match="needs --token"):
            _token(None, host)
        assert len(_token("new", host)) >= 32
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert _token(None, host) is None
    with pytest.raises(UsageMistake, match="16 letters"):
        _token("short", "0.0.0.0")


@pytest.mark.parametrize("name", ["faces.example:8443", "https://faces.example", "faces.example/"])
def test_a_name_that_nobody_would_be_known_by_is_refused(name):
    assert _names(["Faces.example", "other.example"]) == {"faces.example", "other.example"}
    with pytest.raises(UsageMistake, match="takes a name alone"):
        _names([name])


def test_every_answer_has_the_strict_headers(client):
    for answer in (client.get("/"), post(client), post(client, body=b"x"), client.get("/nothing"), client.put("/v1/anonymize")):
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(client):
    for path in PAGE:
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"] == PAGE[path][1]
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "style=" not in text and "onclick=" not in text


@pytest.mark.parametrize(
    "path", ["/../app.py", "/%2e%2e/app.py", "/app.py", "/page/index.html", "//etc/passwd", "/docs", "/redoc"]
)
def test_no_path_reaches_the_file_system(client, path):
    answer = client.get(path)
    assert answer.status_code == 404 and answer.json() == {"error": "Not Found"}


def test_only_named_methods_are_offered(make_client):
    client = make_client(only=("haar", "crowd"))
    offered = {row["name"] for row in client.get("/v1/methods").json()["methods"] if row["kind"] != "obfuscator"}
    assert offered == {"haar", "crowd"}
    assert post(client, method="haar+solid").status_code == 200
    for method in ("yunet", "haar|yunet", "unet"):
        assert post(client, method=method).json() == {"error": f"method {method!r} is not offered here"}


def test_a_plugins_failure_is_one_line_without_details(client, monkeypatch):
    monkeypatch.setattr("faceblur_core.service.read_photo", lambda *_: 1 / 0)
    assert post(client).status_code == 500 and post(client).json() == {"error": "internal error, ZeroDivisionError"}
    monkeypatch.setattr("faceblur_core.service.read_photo", lambda *_: sys.exit("/some/folder"))
    assert post(client).json() == {"error": "the method failed on this photo"}


def test_a_method_that_fails_does_not_spoil_a_comparison(client, monkeypatch):
    monkeypatch.setattr("faceblur_yolo.detector.YoloDetector.__call__", lambda *_: {}["a folder"])
    answer = post(client, "compare", method=["yolo", "yunet"]).json()["results"]
    assert answer[0]["error"] == "the method failed on this photo" and answer[0]["faces"] is None and answer[1]["faces"] == 1


def test_a_full_queue_says_when_to_come_again():
    begun, go = threading.Event(), threading.Event()

    def slow(_):
        begun.set()
        return go.wait(30)

    workers = Workers(1, 2, load=None)
    workers.start()
    first = workers.submit(slow)
    begun.wait(30)
    left, second = workers.submit(slow), workers.submit(lambda _: "done")
    with pytest.raises(Busy) as busy:
        workers.submit(slow)
    assert busy.value.retry_after >= 1
    assert left.cancel()  # its client has gone
    third = workers.submit(lambda _: "done")  # in its place, before anything else is done
    with pytest.raises(Busy):
        workers.submit(slow)
    go.set()
    assert first.result(30) and second.result(30) == "done" and left.cancelled() and third.result(30) == "done"
    workers.submit(lambda _: None).result(30)
    workers.close()


def test_what_is_taken_back_holds_no_photo():
    """A worker may be long at another."""

    class Photo:
        pass

    photo, workers = Photo(), Workers(1, 2, load=None)  # not started
    held, future = weakref.ref(photo), workers.submit(lambda _, photo=photo: photo)
    del photo
    assert held() and future.cancel()
    gc.collect()
    assert held() is None


def test_a_comparison_gives_no_more_pictures_than_it_can_carry(make_client):
    photo = photos.encoded(np.zeros((600, 800, 3), np.uint8), "PNG")  # 1.4 MB as a bitmap
    client = make_client(Limits(megabytes=1))
    asked = {"method": ["haar", "yunet", "haar+solid"], "format": "bmp"}
    results = post(client, "compare", photo, **asked).json()["results"]
    assert [bool(result["image"]) for result in results] == [True, False, False]
    assert {result["error"] for result in results[1:]} == {"too large to be given with the others; ask for it alone"}
    results = post(client, "compare", photo, images="false", **asked).json()["results"]
    assert [result["error"] for result in results] == [None] * 3


def test_too_much_in_hand_is_refused_but_never_a_lone_request():
    budget = Budget(100)
    first, second = budget.lease(), budget.lease()
    first.take(150)
    with pytest.raises(Busy):
        second.take(1)
    first.release()
    second.take(90)
    assert budget.held == 90
    second.release()
    assert budget.held == 0


def test_too_many_requests_at_a_time_are_refused(make_client):
    client = make_client(Limits(requests=0))
    answer = client.get("/")
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1" and "busy" in answer.json()["error"]


def test_workers_keep_few_methods_and_close_the_others(make_client, monkeypatch):
    loaded, closed = [], []
    original = Wanted.load

    def load(wanted, max_pixels):
        made = original(wanted, max_pixels)
        loaded.append(wanted)
        monkeypatch.setattr(made, "close", lambda: closed.append(wanted), raising=False)
        return made

    monkeypatch.setattr("faceblur_web.allowed.Wanted.load", load)
    client = make_client()
    for tenth in (*range(10, 20), 19):
        assert post(client, method="yunet", set=[f"mask.grow={tenth / 10}"]).status_code == 200
    assert len(loaded) == 10 and closed == loaded[:4]


def test_nothing_is_logged_that_tells_of_a_photo(client, caplog):
    caplog.set_level("INFO", logger="faceblur_web")
    post(client, body=b"secret content")
    post(client, method="secret-name")
    post(client)
    assert "secret" not in json.dumps([record.getMessage() for record in caplog.records if record.name == "faceblur_web"])
