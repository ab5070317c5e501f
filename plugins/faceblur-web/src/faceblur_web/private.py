"""What nobody else sees: a folder of the server's own for videos, which are too large for memory, and no traces of crashes.

An upload lies there as a file without a name, which the system frees when nobody has it open, however the server ends. Only
what is being written has a name; the next server removes what one that was killed has left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from faceblur_core.errors import FaceblurError

PREFIX = "faceblur-serve-"
_LOCK = ".lock"


class PrivateFolder:
    """A new folder that only this user may enter; for one server. ``TMPDIR`` says where."""

    def __init__(self) -> None:
        remove_left_behind()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def nameless(self) -> BinaryIO:
        """Return an empty file without a name. :raises OSError: as the system reports it"""
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self.path, buffering=0))

    def subfolder(self) -> Path:
        """Return a new, empty folder inside. :raises OSError: as the system reports it"""
        return Path(tempfile.mkdtemp(dir=self.path))

    def free(self) -> int:
        """Return how many bytes there is room for."""
        return shutil.disk_usage(self.path).free

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def check_folder() -> None:
    """:raises FaceblurError: if there is no folder for videos"""
    try:
        tempfile.TemporaryDirectory(prefix=PREFIX).cleanup()
    except OSError as error:
        raise FaceblurError(f"there is no folder for videos ({error.strerror}); TMPDIR names one") from error


def taken_out(path: Path) -> BinaryIO:
    """Open a file and take its name away. :raises OSError: as the system reports it"""
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - it is closed when the result is
    path.unlink()
    return file


def leave_no_core() -> None:
    """Let the system write no file of this process's memory if it crashes: there are faces in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def remove_left_behind() -> None:
    """Remove the folders of servers that were killed: those that nobody holds the lock of."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another server's that has just begun, or another user's
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
