"""The files of the page, and whether the server is well."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from faceblur_core import __version__

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in ("app", "api", "slider", "zip")},
}


def add_page(app: FastAPI) -> None:
    """Add the files of the page, read now: no request opens a file."""
    for path, (name, media_type) in PAGE.items():
        content = files("faceblur_web").joinpath("page", name).read_bytes()
        app.add_route(path, _answering(content, media_type), methods=["GET"])

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    app.add_route("/health", health, methods=["GET"])


def _answering(content: bytes, media_type: str) -> Callable[[Request], Response]:
    async def send(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return send
