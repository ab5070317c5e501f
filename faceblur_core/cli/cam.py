"""``faceblur cam``."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING

import click

from faceblur_core.errors import FaceblurError, UsageMistake

if TYPE_CHECKING:
    from faceblur_core.media.camera import Sink


@click.command()
@click.option("--device", default="0", show_default=True, help="Number of the camera, /dev/video0, or a video file.")
@click.option("-m", "--method", default="yunet", show_default=True, help="A method, as for faceblur run.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the method. Repeatable.")
@click.option("--size", metavar="WIDTHxHEIGHT", help="Size that the camera is asked for, such as 1280x720.")
@click.option("--virtual", is_flag=True, help="Send the pictures to a virtual camera, for other programs.")
@click.option(
    "--look-ahead",
    type=click.IntRange(0, 60),
    default=3,
    show_default=True,
    help="Pictures held back, so that a face is hidden before it is first found.",
)
def cam(device: str, method: str, settings: tuple[str, ...], size: str | None, virtual: bool, look_ahead: int) -> None:
    """Show the webcam with faces hidden, in a window or as a virtual camera.

    A picture that cannot be anonymized is black, and one that is not ready in time is left out: none is ever shown as it is.
    Escape, q or Ctrl-C ends it.

    \b
    faceblur cam
    faceblur cam --method mediapipe+solid --virtual
    """
    import dataclasses

    from faceblur_core.media.camera import Camera
    from faceblur_core.methods import find_method
    from faceblur_core.options import parse_settings
    from faceblur_core.pipeline import close
    from faceblur_core.plugins import installed_plugins
    from faceblur_core.run.live import LIVE, Live

    found = find_method(method, parse_settings(settings), installed_plugins())
    found.resolved()
    asked = _size(size)
    with contextlib.ExitStack() as stack:
        anonymizer = found.make()
        stack.callback(close, anonymizer)
        camera = stack.enter_context(contextlib.closing(Camera(device, asked)))
        sinks = _sinks(camera.rate, virtual=virtual)
        for sink in sinks:
            stack.callback(sink.close)
        live = Live(anonymizer, dataclasses.replace(LIVE, look_ahead=look_ahead))
        try:
            with contextlib.suppress(KeyboardInterrupt):  # the usual end where there is no window
                live.run(camera, sinks)
        finally:
            for reason, count in live.failures.most_common():
                click.echo(f"faceblur: {count} pictures were black: {reason}", err=True)
            click.echo(f"{live.shown} pictures shown, {live.failures.total()} of them black")
    if live.failures:
        sys.exit(1)


def _size(text: str | None) -> tuple[int, int] | None:
    """:raises UsageMistake: if it is no size"""
    if text is None:
        return None
    numbers = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    if not numbers:
        raise UsageMistake(f"--size {text!r} is not of the form 1280x720")
    return int(numbers[1]), int(numbers[2])


def _sinks(rate: float, *, virtual: bool) -> list[Sink]:
    """Return a window, where there is a display, and the virtual camera, if asked for.

    :raises FaceblurError: if there is neither
    """
    from faceblur_core.media.camera import VirtualCamera, Window

    sinks: list[Sink] = [VirtualCamera(rate)] if virtual else []
    try:
        sinks.append(Window("faceblur"))
    except FaceblurError:
        if not sinks:
            raise
    return sinks
