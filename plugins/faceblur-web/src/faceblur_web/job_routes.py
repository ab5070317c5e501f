"""The API of jobs: a video is sent, asked for until it is done, fetched and forgotten."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from starlette.types import Receive, Scope, Send

from faceblur_core.errors import UnreadableImage
from faceblur_core.service import VIDEO_TYPES, VideoWish
from faceblur_web.allowed import Catalogue
from faceblur_web.described import BINARY, body, errors
from faceblur_web.guard import PIECE
from faceblur_web.jobs import Job, Jobs
from faceblur_web.limits import Limits, Refused, no_form, write_body
from faceblur_web.models import JobState, Made, Video

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{32}$")]

_RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The anonymized video.", "content": {"video/*": BINARY}},
    206: {"description": "The part of it that the header Range asked for.", "content": {"video/*": BINARY}},
}


def add_jobs(app: FastAPI, catalogue: Catalogue, limits: Limits, jobs: Jobs) -> None:
    """Add the routes."""

    @app.post(
        "/v1/jobs",
        status_code=202,
        openapi_extra=body("video"),
        responses=errors(400, 401, 403, 408, 413, 415, 421, 422, 503),
    )
    async def begin(request: Request, response: Response, ask: Annotated[Video, Query()]) -> JobState:
        """Take the video in the body and return at once; the job's `id` is the only way to it."""
        wanted = catalogue.wanted(ask.method, ask.settings)
        no_form(request, "video")
        with jobs.place():
            upload = jobs.nameless()
            try:
                await write_body(request, upload, limits)
                if not os.fstat(upload.fileno()).st_size:
                    raise UnreadableImage("the file is empty")
                wish = VideoWish(ask.form, tracking=ask.tracking, audio=ask.audio, subtitles=ask.subtitles, crf=ask.crf)
                job = jobs.add(upload, wanted, wish)
            except BaseException:
                upload.close()
                raise
        response.headers["location"] = f"/v1/jobs/{job.id}"
        return _state(jobs, job)

    @app.get("/v1/jobs/{job}", responses=errors(401, 403, 404, 421, 422, 503))
    async def ask(job: Name) -> JobState:
        """Say how far a job is. Ask every few seconds: a job that nobody asks for is given up."""
        return _state(jobs, jobs.get(job))

    @app.get(
        "/v1/jobs/{job}/result", response_class=Response, responses={**_RESULT, **errors(401, 403, 404, 409, 416, 421, 422, 503)}
    )
    async def result(request: Request, job: Name) -> Response:
        """Return the video. It is deleted a minute after all of it was sent, in one answer or in parts in order, or by DELETE."""
        found = jobs.get(job)
        if found.result is None:
            raise Refused(409, found.error or "the video is not done yet")
        return _Delivery(jobs, found, _span(request.headers.get("range", ""), found.facts["bytes"]))

    @app.delete("/v1/jobs/{job}", status_code=204, responses=errors(401, 403, 404, 421, 422, 503))
    async def cancel(job: Name) -> None:
        """End a job, whatever it does, and delete all that it has."""
        jobs.drop(jobs.get(job))


def _state(jobs: Jobs, job: Job) -> JobState:
    left = job.seconds_left
    return JobState(
        id=job.id,
        state=job.state,
        progress=job.progress,
        seconds_left=None if left is None else round(left, 1),
        ahead=jobs.ahead(job),
        error=job.error or None,
        result=Made(media_type=VIDEO_TYPES[job.facts["form"]], **job.facts) if job.facts else None,
    )


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """Return the first byte that a Range header asks for and the one after the last; None: all, in an answer of its own kind.

    :raises Refused: if there are no such bytes
    """
    found = _RANGE.fullmatch(asked)
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    start, end = (int(first), int(last or size) + 1) if first else (size - int(last), size)
    start, end = max(0, start), min(size, end)
    if start >= end:
        raise Refused(416, f"the video has {size} bytes")
    return start, end


class _Delivery(Response):
    """Sends a result, whole or in part, and notes what was sent."""

    def __init__(self, jobs: Jobs, job: Job, span: tuple[int, int] | None) -> None:
        size = job.facts["bytes"]
        self._jobs, self._job = jobs, job
        self._start, self._end = span or (0, size)
        headers = {
            "content-length": str(self._end - self._start),
            "content-disposition": f'attachment; filename="anonymized.{job.facts["form"]}"',
            "accept-ranges": "bytes",
        }
        if span:
            headers["content-range"] = f"bytes {self._start}-{self._end - 1}/{size}"
        super().__init__(None, 206 if span else 200, headers, VIDEO_TYPES[job.facts["form"]])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._job.result is None:  # dropped a moment ago
            raise Refused(404, "there is no such job any more")
        file = os.dup(self._job.result.fileno())  # its own, for the job may be dropped while it is sent
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._send(file, Request(scope, receive), send)
        finally:
            os.close(file)

    async def _send(self, file: int, request: Request, send: Send) -> None:
        at = self._start
        while at < self._end:
            piece = await asyncio.to_thread(os.pread, file, min(PIECE, self._end - at), at)
            more = at + len(piece) < self._end
            await send({"type": "http.response.body", "body": piece, "more_body": more})
            if more and await request.is_disconnected():
                return
            at += len(piece)
            self._jobs.note_sent(self._job, self._start, at)
