"""Pictures from a webcam, and where they go: a window, a virtual camera."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faceblur_core.errors import FaceblurError, MissingDependency
from faceblur_core.types import Image

USUAL_RATE = 30.0  #: pictures per second, where a device does not say
FASTEST = 240.0
_NO_CAMERA = "camera {} cannot be opened; --device takes a number, a device such as /dev/video0, a file"


class Sink(Protocol):
    """Takes pictures one after the other."""

    def show(self, picture: Image) -> bool:
        """Show a picture, H x W x 3; return whether more are wanted."""
        ...

    def close(self) -> None: ...


class Camera:
    """A webcam, or a video file in its place, played at its own speed. Iterate it for the newest picture; close it.

    A thread reads all the time, and what is not asked for in time is dropped, so nothing ever lags behind.

    :param device: a number, a device such as ``/dev/video0``, or a file
    :param size: width and height that the device is asked for
    :raises FaceblurError: if it cannot be opened or gives no picture
    """

    def __init__(self, device: str, size: tuple[int, int] | None = None) -> None:
        import cv2

        try:
            self._capture: Any = cv2.VideoCapture(int(device) if device.isdecimal() else device)
        except cv2.error:  # a number that is too large
            raise FaceblurError(_NO_CAMERA.format(device)) from None
        if size:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        rate = float(self._capture.get(cv2.CAP_PROP_FPS) or 0)
        self.rate = rate if 1 <= rate <= FASTEST else USUAL_RATE  #: pictures per second
        self._device, self._is_file = device, Path(device).is_file()
        self._pause = 1 / self.rate if self._is_file else 0.0  #: between pictures, seconds
        first = self._read()
        if first is None:
            self._capture.release()
            raise FaceblurError(_NO_CAMERA.format(device))
        self._newest: Image | None = first
        self._changed = threading.Condition()
        self._ended = False
        self._error: Exception | None = None  #: what the device failed with
        self._thread = threading.Thread(target=self._follow, name="faceblur-camera", daemon=True)
        self._thread.start()

    def _read(self) -> Image | None:
        """Return the next picture, RGB; None at the end."""
        there, picture = self._capture.read()
        return np.ascontiguousarray(picture[..., ::-1]) if there and picture is not None else None

    def _follow(self) -> None:
        due = time.monotonic()
        picture: Image | None = None
        while not self._ended:
            due += self._pause
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                picture = self._read()
            except Exception as error:  # OpenCV's, or a driver's
                picture, self._error = None, error
            with self._changed:
                self._newest = self._newest if picture is None else picture  # the last one may not be taken yet
                self._ended = self._ended or picture is None
                self._changed.notify()

    def __iter__(self) -> Iterator[Image]:
        """:raises FaceblurError: if the device fails or ends; a file ends as it should"""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._ended)
                picture, self._newest = self._newest, None
            if picture is None:
                break
            yield picture
        if self._error or not self._is_file:
            raise FaceblurError(f"camera {self._device} gives no more pictures")

    def close(self) -> None:
        """Give the device back."""
        self._ended = True
        self._thread.join(timeout=5)
        self._capture.release()


class Window:
    """A window on the screen, by Tk. Escape, q, or closing it ends the show.

    :raises FaceblurError: if there is no display
    :raises MissingDependency: if Python came without Tk
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise MissingDependency("a preview needs tkinter, which this Python came without (Debian: python3-tk)") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise FaceblurError("there is no display for a preview; --virtual sends the pictures to a virtual camera") from error
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self._end)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda event: self._end())
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._open = True

    def _end(self) -> None:
        self._open = False

    def show(self, picture: Image) -> bool:
        import tkinter

        from PIL import Image as PillowImage
        from PIL import ImageTk

        shown = PillowImage.fromarray(picture)
        try:
            shown.thumbnail((self._root.winfo_screenwidth(), self._root.winfo_screenheight()))
            self._photo = ImageTk.PhotoImage(shown, master=self._root)  # Tk keeps no reference of its own
            self._label.configure(image=self._photo)
            self._root.update()
        except tkinter.TclError:  # the display is gone
            return False
        return self._open

    def close(self) -> None:
        import tkinter

        with contextlib.suppress(tkinter.TclError):  # it is closed already
            self._root.destroy()


class VirtualCamera:
    """A camera that other programs find, by pyvirtualcam: v4l2loopback on Linux, OBS elsewhere.

    :raises MissingDependency: if pyvirtualcam is not installed
    """

    def __init__(self, rate: float) -> None:
        try:
            import pyvirtualcam
        except ImportError as error:
            raise MissingDependency("--virtual needs pyvirtualcam: pip install 'faceblur-core[cam]'") from error
        self._module, self._rate = pyvirtualcam, rate
        self._camera: Any = None

    def show(self, picture: Image) -> bool:
        """:raises FaceblurError: if this machine has no virtual camera, or it fails"""
        height, width = picture.shape[:2]
        if self._camera is None:
            try:
                self._camera = self._module.Camera(width=width, height=height, fps=self._rate)
            except (RuntimeError, OSError) as error:
                raise FaceblurError(
                    f"no virtual camera ({' '.join(str(error).split())[:120]}); "
                    "on Linux load the module v4l2loopback, elsewhere install OBS"
                ) from error
        try:
            self._camera.send(picture)
        except (RuntimeError, ValueError, OSError) as error:
            raise FaceblurError(f"the virtual camera takes no more pictures ({' '.join(str(error).split())[:120]})") from error
        return True

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
