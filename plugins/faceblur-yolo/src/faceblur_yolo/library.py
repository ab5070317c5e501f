"""Ultralytics, kept from talking and from the network."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock


def stay_offline() -> None:
    """Import Ultralytics as we want it: no version check, no download, no telemetry, no pip, and Pillow as it was."""
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    from PIL import Image

    pillows = Image.open
    import ultralytics.utils  # noqa: F401

    Image.open = pillows  # Ultralytics' own wants another package for what is no picture


@contextlib.contextmanager
def kept_quiet(*, verbose: bool = False) -> Iterator[None]:
    """Keep Ultralytics to its trade: it fetches no font, calls no service; with ``verbose`` it says what it does."""
    if verbose:
        os.environ["YOLO_VERBOSE"] = "true"
    stay_offline()
    from ultralytics.data import base as data_base
    from ultralytics.data import utils as data_utils
    from ultralytics.utils import LOGGER, callbacks

    level = LOGGER.level
    LOGGER.setLevel(logging.INFO if verbose else logging.ERROR)
    try:
        with (
            mock.patch.object(data_utils, "check_font", _nothing),  # it would download Arial, for plots that are not made
            mock.patch.object(callbacks, "add_integration_callbacks", _nothing),  # telemetry, trackers, Ultralytics' platform
            mock.patch.object(data_base, "LOCAL_RANK", -1 if verbose else 1),  # the bar of cache=ram asks for no other sign
        ):
            yield
    finally:
        LOGGER.setLevel(level)


def _nothing(*_: Any) -> None:
    """Do nothing."""


def one_line(error: Exception) -> str:
    """Return what an error says, in one line without the signs that Ultralytics likes."""
    return " ".join(str(error).encode("ascii", "ignore").decode().split())[:300] or type(error).__name__
