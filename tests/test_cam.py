"""``faceblur cam``: the loop with pictures and a screen of the test's own; a video file as the camera."""

import sys
import time
import types

import numpy as np
import pytest
import videos

from faceblur_core.errors import FaceblurError
from faceblur_core.media import camera
from faceblur_core.media.camera import Camera
from faceblur_core.methods import find_method
from faceblur_core.plugins import installed_plugins
from faceblur_core.run.live import Live
from faceblur_core.tracking import Tracking
from faceblur_core.types import Anonymized, Detections

FACE = np.s_[80:160, 190:255]  # of the astronaut


class Screen:
    """Keeps what it is shown."""

    def __init__(self, most=1000):
        self.pictures, self.most, self.closed = [], most, False

    def show(self, picture):
        self.pictures.append(picture.copy())
        return len(self.pictures) < self.most

    def close(self):
        self.closed = True


@pytest.fixture
def method():
    return find_method("haar+solid", {}, installed_plugins()).make()


def replaced(method, **changes):
    import dataclasses

    return dataclasses.replace(method, **changes)


class Panic(BaseException):
    """What libraries in Rust raise is no Exception."""


class Scripted:
    """A detector that finds the astronaut's face, fails, or finds nothing, as its script says."""

    def __init__(self, script):
        self.script = iter(script)

    def __call__(self, image):
        step = next(self.script)
        if step == "fail":
            raise RuntimeError("camera shy")
        if step == "panic":
            raise Panic
        return Detections([[178, 65, 270, 176]], [0.9]) if step == "face" else Detections.none()


def black(pictures, region=FACE):
    return [bool((picture[region] == 0).all()) for picture in pictures]


def test_every_picture_is_shown_with_its_face_hidden(method, astronaut):
    screen = Screen()
    live = Live(replaced(method, detector=Scripted(["face"] * 8)))
    live.run([astronaut] * 8, [screen])
    assert live.shown == 8 and black(screen.pictures) == [True] * 8 and not live.failures
    assert all((picture[400:] == astronaut[400:]).all() for picture in screen.pictures)


def test_a_face_is_hidden_before_it_is_found_and_while_it_is_lost(method, astronaut):
    script = ["none"] * 6 + ["face"] * 4 + ["none"] * 8 + ["face"] * 2
    screen = Screen()
    Live(replaced(method, detector=Scripted(script))).run([astronaut] * 20, [screen])
    assert black(screen.pictures) == [False] * 3 + [True] * 17
    screen = Screen()
    without = Tracking(look_ahead=0, hold=2)
    Live(replaced(method, detector=Scripted(script)), without).run([astronaut] * 20, [screen])
    assert black(screen.pictures) == [False] * 6 + [True] * 6 + [False] * 6 + [True] * 2


def test_faces_that_are_pixels_and_no_boxes_are_hidden(method, astronaut):
    mask = np.zeros(astronaut.shape[:2], np.float32)
    mask[FACE] = 1
    screen = Screen()
    Live(replaced(method, detector=lambda image: Detections(np.empty((0, 4)), [], mask=mask))).run([astronaut] * 2, [screen])
    assert black(screen.pictures) == [True] * 2


def test_what_fails_is_black_and_never_shown_as_it_is(method, astronaut):
    screen = Screen()
    live = Live(replaced(method, detector=Scripted(["face", "fail", "face", "none", "panic"])))
    live.run([astronaut] * 5, [screen])
    assert [not picture.any() for picture in screen.pictures] == [False, True, False, False, True]
    assert black(screen.pictures) == [True] * 5 and live.failures == {"RuntimeError": 1, "Panic": 1}

    def forgets(image, mask):
        return image.copy()

    screen = Screen()
    live = Live(replaced(method, detector=Scripted(["face"] * 3), obfuscator=forgets))
    live.run([astronaut] * 3, [screen])
    assert not any(picture.any() for picture in screen.pictures) and live.failures.total() == 3


def test_methods_that_do_not_find_faces_first(astronaut):
    def whole(image):
        if calls.append(1) or len(calls) == 2:
            raise FaceblurError("not now")
        return Anonymized(255 - image, np.ones(image.shape[:2], np.float32))

    calls, screen = [], Screen()
    live = Live(whole)
    live.run([astronaut] * 3, [screen])
    assert [int(picture.mean()) for picture in screen.pictures] == [
        int((255 - astronaut).mean()),
        0,
        int((255 - astronaut).mean()),
    ]
    assert live.failures == {"not now": 1}


def test_it_ends_when_a_screen_is_closed(method, astronaut):
    screens = [Screen(), Screen(most=2)]
    Live(replaced(method, detector=Scripted(["none"] * 9))).run([astronaut] * 9, screens)
    assert [len(screen.pictures) for screen in screens] == [2, 2]


@pytest.fixture
def clip(astronaut, tmp_path):
    return videos.write(tmp_path / "clip.mp4", [astronaut] * 12)


def test_a_file_stands_in_for_a_camera(clip, astronaut):
    source = Camera(str(clip))
    pictures = list(source)
    source.close()
    assert 1 <= len(pictures) <= 12 and source.rate == 25
    assert all(picture.shape == astronaut.shape for picture in pictures)
    assert np.abs(pictures[0].astype(int) - astronaut).mean() < 8  # RGB, not BGR


def test_pictures_that_nobody_takes_in_time_are_dropped(clip):
    source = Camera(str(clip))
    taken = 0
    for _ in source:
        taken += 1
        time.sleep(0.2)
    source.close()
    assert taken < 8  # of 12, in half a second


def test_the_last_picture_of_a_file_is_shown_however_late_it_is_asked_for(astronaut, tmp_path):
    source = Camera(str(videos.write(tmp_path / "one.mp4", [astronaut])))
    time.sleep(0.3)
    assert len(list(source)) == 1
    source.close()


def test_a_file_that_does_not_say_how_long_it_is_plays_at_its_own_speed(clip, monkeypatch):
    """As what browsers record."""
    import cv2

    real = cv2.VideoCapture

    class Endless:
        def __init__(self, device):
            self.capture = real(device)

        def get(self, key):
            return -2.3e17 if key == cv2.CAP_PROP_FRAME_COUNT else self.capture.get(key)

        def __getattr__(self, name):
            return getattr(self.capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Endless)
    source = Camera(str(clip))
    assert source._pause == 1 / 25
    source.close()


class Device:
    """A capture that gives pictures until it is unplugged, or its driver fails."""

    def __init__(self, picture, error=None):
        self.left, self.picture, self.error, self.asked = 3, picture, error, {}

    def __call__(self, device):
        return self

    def set(self, key, value):
        self.asked[key] = value

    def get(self, key):
        return 0.0

    def read(self):
        self.left -= 1
        if self.left < 0 and self.error:
            raise self.error
        return self.left >= 0, self.picture

    def release(self):
        pass


@pytest.mark.parametrize("error", [None, RuntimeError("the driver is gone")])
def test_a_camera_that_ends_is_an_error(cli, astronaut, monkeypatch, error):
    import cv2

    device, screen = Device(astronaut, error), Screen()
    monkeypatch.setattr(cv2, "VideoCapture", device)
    monkeypatch.setattr(camera, "Window", lambda title: screen)
    result = cli("cam", "--device", "7", "-m", "yunet+solid", "--size", "640x360")
    assert result.code == 1 and result.err == "faceblur: camera 7 gives no more pictures\n"
    assert f"{len(screen.pictures)} pictures shown" in result.out and screen.closed
    assert device.asked == {cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 360}


def test_the_command(cli, clip, monkeypatch):
    screen = Screen()
    monkeypatch.setattr(camera, "Window", lambda title: screen)
    result = cli("cam", "--device", clip, "-m", "yunet+solid")
    assert result.code == 0 and result.err == "", result.err
    assert f"{len(screen.pictures)} pictures shown, 0 of them black" in result.out
    assert screen.pictures and all(picture[FACE].mean() < 20 for picture in screen.pictures) and screen.closed


def test_pictures_go_to_a_virtual_camera(cli, clip, monkeypatch):
    sent = []

    class VirtualCamera:
        def __init__(self, width, height, fps):
            sent.append((width, height, fps))

        def send(self, picture):
            sent.append(picture.copy())

        def close(self):
            sent.append("closed")

    def no_window(title):
        raise FaceblurError("no display")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.SimpleNamespace(Camera=VirtualCamera))
    monkeypatch.setattr(camera, "Window", no_window)
    result = cli("cam", "--device", clip, "-m", "yunet+solid", "--virtual")
    assert result.code == 0, result.err
    assert sent[0] == (512, 512, 25) and sent[-1] == "closed" and len(sent) > 2
    assert all(picture[FACE].mean() < 20 for picture in sent[1:-1])

    def full(self, picture):
        raise ValueError("unexpected image size")

    monkeypatch.setattr(VirtualCamera, "send", full)
    result = cli("cam", "--device", clip, "--virtual")
    assert result.code == 1 and "takes no more pictures (unexpected image size)" in result.err and result.err.count("\n") == 1

    def nowhere(**options):
        raise RuntimeError("'v4l2loopback' backend: no device found")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.SimpleNamespace(Camera=nowhere))
    result = cli("cam", "--device", clip, "--virtual")
    assert result.code == 1 and "no virtual camera" in result.err and result.err.count("\n") == 1


def test_what_is_missing_is_said_in_one_line(cli, clip, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    for arguments, code, message in (
        (("--device", clip), 1, "display"),
        (("--device", clip, "--virtual"), 1, "pip install 'faceblur-core[cam]'"),
        (("--device", tmp_path / "none.mp4"), 1, "none.mp4 cannot be opened"),
        (("--device", clip, "--size", "large"), 2, "not of the form 1280x720"),
        (("--device", clip, "-m", "yunnet"), 2, "Did you mean yunet"),
    ):
        result = cli("cam", *arguments)
        assert result.code == code and message in result.err and result.err.count("\n") == 1, result.err
