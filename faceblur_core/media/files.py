"""Write files so that a name never stands for half a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path`` and rename it; on any failure nothing is left behind.

    :raises OSError: as the system reports it, for example when the disk is full
    """
    descriptor, name = tempfile.mkstemp(prefix=".faceblur-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(name, 0o666 & ~_UMASK)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o022)  # there is no call that only reads it
    os.umask(mask)
    return mask


_UMASK = _umask()
