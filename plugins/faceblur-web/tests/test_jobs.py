"""Videos as jobs: sent, asked for, fetched, forgotten; and nothing stays, whatever happens."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pytest
import videos
from skimage import data

import photos
from faceblur_core.errors import FaceblurError
from faceblur_web import limits as limits_module
from faceblur_web.jobs import Jobs
from faceblur_web.limits import Limits, Refused
from faceblur_web.private import PREFIX, PrivateFolder, check_folder

PHOTO = photos.encoded(data.astronaut(), "JPEG")
GONE = {"error": "there is no such job: it was delivered, cancelled or given up, or never was"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where the servers of a test have their folders; it is empty when they have ended."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def made(path, times):
    """A face that goes to the right, so often, with sound."""
    scene, head = videos.background(), videos.face(data.astronaut())
    pictures = [videos.composite(scene, [(head, 10 + 3 * t, 70)]) for t in range(20)]
    return videos.write(path, pictures * times, audio="aac", options={"preset": "ultrafast"}).read_bytes()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return made(tmp_path_factory.mktemp("clip") / "clip.mp4", 1)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A video that is in work for as long as a test needs it to be."""
    return made(tmp_path_factory.mktemp("clip") / "long.mp4", 50)


def begin(client, body, **query):
    """Send a video; return the job's address."""
    answer = client.post("/v1/jobs", params={"method": "yunet", **query}, content=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.headers["location"]


def until(client, address, *states, seconds=120):
    """Ask until the job is in one of the states; return what is said."""
    end = time.monotonic() + seconds
    while (said := client.get(address).json()).get("state") not in states:
        assert time.monotonic() < end and "state" in said, said
        time.sleep(0.05)
    return said


def until_it_moves(client, address):
    """Ask until some of the video is done."""
    while not until(client, address, "working")["progress"]:
        time.sleep(0.05)


def lying_about(folder):
    """The names of the files and of the folders with something in them, without the locks."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_video_is_sent_asked_for_fetched_and_forgotten(client, clip, folder, tmp_path):
    address = begin(client, clip)
    assert lying_about(folder) == []  # what was sent has no name
    said = until(client, address, "done")
    result = said["result"]
    assert (result["media_type"], result["width"], result["height"], result["frames"]) == ("video/mp4", 320, 240, 20)
    assert result["tracks"] == 1 and 0.02 < result["masked_share"] < 0.3 and result["notes"] == []
    assert said["progress"] == 1 and said["seconds_left"] is said["ahead"] is said["error"] is None
    assert lying_about(folder) == []  # nor has what is ready
    answer = client.get(f"{address}/result")
    assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4"
    assert len(answer.content) == result["bytes"] == int(answer.headers["content-length"])
    (tmp_path / "out.mp4").write_bytes(answer.content)
    (tmp_path / "in.mp4").write_bytes(clip)
    for t, (before, after) in enumerate(
        zip(videos.frames(tmp_path / "in.mp4"), videos.frames(tmp_path / "out.mp4"), strict=True)
    ):
        place = np.s_[100:140, 38 + 3 * t : 76 + 3 * t]
        assert np.abs(before[place].astype(int) - after[place]).mean() > 12
    assert videos.packets(tmp_path / "in.mp4", "audio") == videos.packets(tmp_path / "out.mp4", "audio")
    assert client.delete(address).status_code == 204
    assert client.get(address).json() == client.get(f"{address}/result").json() == client.delete(address).json() == GONE


def test_what_is_asked_for_is_done(client, clip, tmp_path):
    address = begin(client, clip, method="haar+solid", format="mkv", tracking="off", audio="off", crf=40, set="mask.grow=1.2")
    result = until(client, address, "done")["result"]
    assert result["media_type"] == "video/x-matroska" and result["tracks"] is None
    (tmp_path / "out.mkv").write_bytes(client.get(f"{address}/result").content)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video"] and "matroska" in container.format.name


def test_subtitles_are_left_out_where_that_is_asked_for(client, clip, tmp_path):
    (tmp_path / "plain.mp4").write_bytes(clip)
    body = videos.with_subtitles(tmp_path / "plain.mp4", tmp_path / "clip.mkv").read_bytes()
    for asked, expected in (({}, True), ({"subtitles": "off"}, False)):
        address = begin(client, body, method="haar", tracking="off", **asked)
        notes = until(client, address, "done")["result"]["notes"]
        result = client.get(f"{address}/result").content
        assert (b"Hello" in result) == expected == any("subtitle" in note for note in notes)


def test_a_result_is_fetched_in_parts_and_is_there_until_the_last(client, clip):
    address = begin(client, clip)
    size = until(client, address, "done")["result"]["bytes"]

    def part(asked):
        return client.get(f"{address}/result", headers={"range": asked})

    last = part("bytes=-100")
    assert last.status_code == 206 and last.headers["content-range"] == f"bytes {size - 100}-{size - 1}/{size}"
    first, middle = part("bytes=0-999"), part(f"bytes=500-{size - 50}")
    assert len(first.content) == 1000 and first.content[500:] == middle.content[:500]
    for nonsense, code in ((f"bytes={size}-", 416), ("bytes=9-3", 416), ("bytes=-0", 416)):
        assert part(nonsense).status_code == code
    [job] = jobs_of(client)
    assert not job.delivered
    rest = part(f"bytes={size - 100}-")
    assert rest.content == last.content and job.delivered


@pytest.mark.parametrize("asked", ["", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "bytes=x-9"])
def test_what_is_no_range_gets_all(client, clip, asked, monkeypatch):
    from faceblur_web.job_routes import _span

    assert _span(asked, 1000) is None


@pytest.mark.parametrize(
    ("body", "query", "message"),
    [
        (b"no video at all", {}, "not a video, or damaged"),
        (PHOTO, {}, "not a video, or damaged"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", {}, "not a video, or damaged"),
        ("clip", {"set": "mask.grow=99"}, "bad option of mask: grow"),
        ("clip", {"format": "webm"}, "webm holds no audio of the kind aac; choose mkv, or leave the sound out"),
        ("clip", {"method": "yolo", "set": "detector.conf=0.5"}, "method 'yolo' cannot be used on this server"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(client, clip, folder, monkeypatch, tmp_path_factory, body, query, message):
    if query.get("method") == "yolo":
        (models := tmp_path_factory.mktemp("models") / "yolo-face.pt").write_bytes(b"another file")
        monkeypatch.setenv("FACEBLUR_MODELS", str(models.parent))
    address = begin(client, clip if body == "clip" else body, **query)
    said = until(client, address, "failed")
    assert message in said["error"] and "\n" not in said["error"] and "/" not in said["error"] and said["result"] is None
    answer = client.get(f"{address}/result")
    assert answer.status_code == 409 and answer.json() == {"error": said["error"]}
    assert client.delete(address).status_code == 204 and client.get(address).status_code == 404
    assert lying_about(folder) == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"method": "no-such"}, "no method named 'no-such'"),
        ({"method": "../../etc/passwd"}, "method:"),
        ({"set": "detector.weights=model.onnx"}, "cannot be set over the web"),
        ({"format": "exe"}, "format:"),
        ({"crf": 0}, "crf:"),
        ({"tracking": "perhaps"}, "tracking:"),
        ({"name": "x.mp4"}, "name:"),
    ],
)
def test_what_cannot_be_asked_for(client, query, message):
    answer = client.post("/v1/jobs", params={"method": "yunet", **query}, content=b"x")
    assert answer.status_code == 422 and message in answer.json()["error"]


def test_uploads_that_are_refused_leave_their_place(make_client, folder):
    client = make_client(Limits(video_megabytes=1, jobs=1))
    for _ in range(3):
        assert client.post("/v1/jobs?method=yunet", content=bytes(1_000_001)).status_code == 413
        chunks = iter([bytes(600_000)] * 3)  # its length is not announced
        assert client.post("/v1/jobs?method=yunet", content=chunks).json() == {"error": "the video is larger than 1 megabytes"}
        assert client.post("/v1/jobs?method=yunet", content=b"").json() == {"error": "the file is empty"}
        assert client.post("/v1/jobs?method=yunet", files={"video": ("../../x.mp4", b"x")}).status_code == 415
    assert lying_about(folder) == []


def test_photos_are_served_while_a_video_is_in_work_and_jobs_wait_in_line(make_client, long):
    client = make_client(Limits(jobs=3))
    first, second, third = (begin(client, long) for _ in range(3))
    until(client, first, "working")
    assert [client.get(address).json()["ahead"] for address in (first, second, third)] == [None, 1, 2]
    assert client.post("/v1/anonymize?method=yunet", content=PHOTO).headers["faceblur-faces"] == "1"
    answer = client.post("/v1/jobs?method=yunet", content=b"x")
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1 and "busy" in answer.json()["error"]
    assert client.get(first).json()["state"] == "working"
    assert client.delete(first).status_code == 204
    assert until(client, second, "working")["ahead"] is None and client.get(third).json()["ahead"] == 1
    assert client.delete(third).status_code == client.delete(second).status_code == 204
    assert until(client, begin(client, b"x"), "failed")  # the worker is free


def test_progress_and_the_time_left_are_told(client, long):
    address = begin(client, long)
    shares, end = [], time.monotonic() + 120
    while len(shares) < 3 and time.monotonic() < end:
        said = client.get(address).json()
        if said["progress"] and said["progress"] not in shares:
            shares.append(said["progress"])
            assert len(shares) == 1 or said["seconds_left"] > 0
        time.sleep(0.05)
    assert 0 < shares[0] < shares[1] < shares[2] < 1
    client.delete(address)


def jobs_of(client):
    """The jobs of the application in this process, in the order in which they came."""
    return list(client.app.app.state.jobs._jobs.values())


def process_of(job):
    """The process of a job in work, as soon as it has begun."""
    end = time.monotonic() + 60
    while job.process is None and time.monotonic() < end:
        time.sleep(0.05)
    return job.process


def test_a_process_that_crashes_costs_its_job_alone(client, long, clip, folder, caplog):
    address = begin(client, long)
    until(client, address, "working")
    [job] = jobs_of(client)
    os.kill(process_of(job).pid, signal.SIGSEGV)
    assert until(client, address, "failed")["error"] == "the method failed on this video"
    assert "code -11" in caplog.text and lying_about(folder) == []
    assert until(client, begin(client, clip), "done")


def test_a_process_that_says_nonsense_costs_its_job_alone(client, clip, folder, monkeypatch):
    def half_a_line(*_):
        return subprocess.Popen([sys.executable, "-c", "print('{')"], stdout=subprocess.PIPE, text=True)

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "_started", half_a_line)
        assert until(client, begin(client, clip), "failed")["error"] == "the method failed on this video"
    assert until(client, begin(client, clip), "done")


def test_without_a_folder_for_videos_a_server_does_not_begin(monkeypatch, tmp_path):
    check_folder()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(FaceblurError, match=r"no folder for videos \(No such file or directory\); TMPDIR names one"):
        check_folder()


def test_the_process_of_a_video_knows_no_token_and_cannot_take_the_machine_with_it(client, long, monkeypatch, cores):
    monkeypatch.setenv("FACEBLUR_TOKEN", "a-token-for-the-tests")
    monkeypatch.setenv("FACEBLUR_OTHER", "is handed on")
    address = begin(client, long)
    until_it_moves(client, address)
    [job] = jobs_of(client)
    child = job.process.pid
    environment = Path(f"/proc/{child}/environ").read_text()
    assert "FACEBLUR_OTHER=is handed on" in environment and "TOKEN" not in environment
    assert resource.prlimit(child, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(child, resource.RLIMIT_DATA)[0] == 8 * 2**30
    assert Path(f"/proc/{child}/oom_score_adj").read_text() == "1000\n"
    client.delete(address)


@pytest.mark.parametrize(
    ("limits", "message"), [(Limits(silence=0.05), "made no progress"), (Limits(work=0.05), "longer than 1.38889e-05 hours")]
)
def test_a_process_that_takes_too_long_is_ended(make_client, long, limits, message):
    client = make_client(limits)
    assert message in until(client, begin(client, long), "failed")["error"]


def test_who_stops_asking_gives_the_job_up(client, long):
    address = begin(client, long)
    until(client, address, "working")
    [job] = jobs_of(client)
    process, job.asked = process_of(job), job.asked - Limits().forgotten
    assert process.wait(30) == -signal.SIGKILL and job.upload.closed
    assert client.get(address).status_code == 404


def test_a_result_that_nobody_fetches_is_deleted(client, clip):
    address = begin(client, clip)
    until(client, address, "done")
    [job] = jobs_of(client)
    result, job.changed = job.result, job.changed - Limits().kept
    end = time.monotonic() + 30
    while client.get(address).status_code != 404 and time.monotonic() < end:  # asking does not keep it
        time.sleep(0.1)
    assert client.get(address).status_code == 404 and result.closed


def test_a_result_that_was_lost_on_its_way_is_fetched_again_for_a_minute_and_keeps_no_place(make_client, clip):
    client = make_client(Limits(jobs=1))
    address = begin(client, clip)
    until(client, address, "done")
    assert client.post("/v1/jobs?method=yunet", content=clip).status_code == 503
    sent = client.get(f"{address}/result").content
    other = begin(client, b"x")
    assert client.get(f"{address}/result").content == sent and client.get(address).json()["state"] == "done"
    [job, _] = jobs_of(client)
    result, job.delivered = job.result, job.delivered - Limits().again
    end = time.monotonic() + 30
    while client.get(address).status_code != 404 and time.monotonic() < end:
        time.sleep(0.1)
    assert client.get(f"{address}/result").json() == GONE and result.closed
    assert client.get(other).status_code == 200


def test_a_full_disk_is_said_to_be_busy(client, clip, monkeypatch, folder):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(limits_module, "_write", full)
    answer = client.post("/v1/jobs?method=yunet", content=clip)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "60"
    monkeypatch.setattr(PrivateFolder, "free", lambda _: 1000)
    assert client.post("/v1/jobs?method=yunet", content=clip).status_code == 503


FULL = """
import errno
from faceblur_core.errors import FaceblurError
from faceblur_web import video
def run(*_):
    raise FaceblurError("/folder/video.mp4 cannot be written") from OSError(errno.ENOSPC, "No space left on device")
video.Task.run = run
video.main()
"""


def test_a_disk_that_fills_while_a_video_is_written_is_told_as_what_it_is(client, clip, monkeypatch, caplog):
    start = subprocess.Popen

    def as_if_full(command, **how):
        return start([*command[:2], "-c", FULL, command[-1]], **how)

    monkeypatch.setattr(subprocess, "Popen", as_if_full)
    said = until(client, begin(client, clip), "failed")
    assert said["error"] == "the server's disk is full; try again later" and "cannot be written" in caplog.text


def test_a_folder_that_somebody_removed_is_made_anew(client, clip, folder):
    for path in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(path)
    assert until(client, begin(client, clip), "done")
    shutil.rmtree(folder)
    answer = client.post("/v1/jobs?method=yunet", content=clip)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "60"
    folder.mkdir()
    assert until(client, begin(client, clip), "done")


def test_the_end_of_the_server_is_the_end_of_all(make_client, long, clip, folder):
    from starlette.testclient import TestClient

    from faceblur_web.allowed import Catalogue
    from faceblur_web.app import make_app

    with TestClient(make_app(Catalogue(), Limits()), base_url="http://localhost") as client:
        done = begin(client, clip)
        until(client, done, "done")
        until(client, begin(client, long), "working")
        begin(client, long)
        jobs = jobs_of(client)
        process = process_of(jobs[1])
    assert process.poll() == -signal.SIGKILL and all(job.upload.closed for job in jobs) and jobs[0].result is None
    assert not list(folder.glob(f"{PREFIX}*"))


def test_what_a_killed_server_left_is_removed_by_the_next_and_a_living_ones_is_not(folder):
    dead = folder / f"{PREFIX}dead"
    (dead / "job").mkdir(parents=True)
    (dead / ".lock").touch()
    (dead / "job" / ".faceblur-x.part").write_bytes(b"half a video")
    strange = folder / f"{PREFIX}no-lock"
    strange.mkdir()
    living = PrivateFolder()
    next_one = PrivateFolder()
    assert not dead.exists() and living.path.exists() and strange.exists()
    assert living.path.stat().st_mode & 0o777 == 0o700
    for one in (living, next_one):
        one.remove()
    assert list(folder.iterdir()) == [strange]


def test_jobs_have_names_that_cannot_be_guessed_and_paths_do_not_get_in(client):
    names = {begin(client, b"x").rpartition("/")[2] for _ in range(3)}
    assert len(names) == 3 and all(len(name) == 32 for name in names)
    for wrong in ("a" * 32, "short", "..%2f..%2fetc%2fpasswd", "%00" * 32, "é" * 32):
        assert client.get(f"/v1/jobs/{wrong}").status_code in (404, 422)
        assert client.get(f"/v1/jobs/{wrong}/result").status_code in (404, 422)
        assert client.delete(f"/v1/jobs/{wrong}").status_code in (404, 422)


def test_what_a_job_cannot_be_asked_by_is_said(client):
    answer = client.put(f"/v1/jobs/{'a' * 32}")
    assert answer.status_code == 405 and answer.headers["allow"] == "DELETE, GET"


def test_the_token_and_the_origin_are_asked_for_here_too(make_client):
    client = make_client(token="a-token-for-the-tests")
    for method, path in (("POST", ""), ("GET", f"/{'a' * 32}"), ("GET", f"/{'a' * 32}/result"), ("DELETE", f"/{'a' * 32}")):
        assert client.request(method, f"/v1/jobs{path}").status_code == 401
        assert client.request(method, f"/v1/jobs{path}", headers={"origin": "http://evil.example"}).status_code == 403


def test_a_server_that_is_killed_takes_its_process_and_the_uploads_with_it(start_server, long, clip):
    """SIGKILL cannot be caught: what is left is at most a half result, until the next server starts."""
    import httpx

    server = start_server("--method=yunet")
    address = httpx.post(f"{server.url}/v1/jobs?method=yunet", content=long, timeout=60).headers["location"]
    with httpx.Client(base_url=server.url, timeout=60) as client:
        until_it_moves(client, address)
    children = subprocess.run(["ps", "--ppid", str(server.process.pid), "-o", "pid="], capture_output=True, text=True)
    [child] = [int(number) for number in children.stdout.split()]
    server.process.kill()
    end = time.monotonic() + 30
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert lying_about(server.folder / "tmp") == []
    with pytest.raises(Refused):
        Jobs(Limits()).get("x" * 32)
