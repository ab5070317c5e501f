"""What is said when something is wrong: JSON with one line, to whoever asked, and to whoever runs the server."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Scope

from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_web.allowed import CLIENTS
from faceblur_web.guard import extra_headers
from faceblur_web.limits import Refused
from faceblur_web.workers import Busy

_log = logging.getLogger("faceblur_web")


def add_errors(app: FastAPI) -> None:
    """Answer every error with JSON of one line."""

    def say(status: int, message: str, retry_after: int = 1) -> JSONResponse:
        line = " ".join(message.split())
        return JSONResponse({"error": line}, status, headers=dict(extra_headers(status, retry_after)))

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> Response:
        return say(503, str(error), error.retry_after)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return say(error.status, error.message)

    @app.exception_handler(FaceblurError)
    async def ours(_: Request, error: FaceblurError) -> Response:
        report(error)
        return say(422 if isinstance(error, CLIENTS) else 500, shown(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return say(422, f"{first['loc'][1] if len(first['loc']) > 1 else first['loc'][0]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        response = say(error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        if error.status_code == 405:  # what was raised knows the first route of this path alone
            response.headers["allow"] = ", ".join(sorted(_verbs(app, request.scope)))
        return response

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return say(500, f"internal error, {type(error).__name__}")


def _verbs(app: FastAPI, scope: Scope) -> set[str]:
    """Return the HTTP methods that a request's path can be asked by."""
    found: set[str] = set()
    for route in app.routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found


def report(error: FaceblurError) -> None:
    """Log what whoever runs the server has to mend. It names no photo and shows none."""
    if not isinstance(error, (UsageMistake, UnreadableImage)):
        _log.warning("%s%s", error.message, f": {error.__cause__}" if error.__cause__ else "")


def shown(error: FaceblurError) -> str:
    """Return what a client is told: of its own mistakes all, of the server's nothing that names its folders."""
    return error.message if isinstance(error, CLIENTS) else "the method failed on this photo"
