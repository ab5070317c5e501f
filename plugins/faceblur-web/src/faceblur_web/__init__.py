"""A web page and a REST API for faceblur: drop photos or a video, compare methods, download."""

from __future__ import annotations

from collections.abc import Iterable

from faceblur_core import Component, hookimpl


@hookimpl
def faceblur_commands() -> Iterable[Component]:
    yield Component(
        name="serve",
        summary="Serve a web page and a REST API that anonymize photos and videos",
        factory="faceblur_web.command:serve",
        licence="MIT AND BSD-3-Clause",
    )
