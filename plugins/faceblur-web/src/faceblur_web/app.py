"""The application: the API, and what it is made of."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

from fastapi import FastAPI, Query, Request, Response

from faceblur_core import __version__
from faceblur_core.errors import FaceblurError, UnreadableImage, UsageMistake
from faceblur_core.service import FORMAT_NAMES, PhotoMethod, Served, only_our_limit
from faceblur_web.allowed import MOST_METHODS, Catalogue, Wanted
from faceblur_web.described import BINARY, body, errors
from faceblur_web.failures import add_errors, report, shown
from faceblur_web.guard import LEASE, Guard
from faceblur_web.job_routes import add_jobs
from faceblur_web.jobs import Jobs
from faceblur_web.limits import Limits, Refused, no_form, read_body
from faceblur_web.models import Anonymize, Compare, Comparison, Method, Methods, Result, Writing
from faceblur_web.page_files import add_page
from faceblur_web.workers import Shelf, Workers

T = TypeVar("T")
MOST_TOGETHER = 2  #: pictures in the answer to one comparison, in largest uploads

GONE = 499  #: what nobody reads: the client has left

_IMAGE = {
    200: {
        "description": "The anonymized photo.",
        "content": {"image/*": BINARY},
        "headers": {
            "Faceblur-Faces": {
                "description": "How many were found; absent if the method finds none before hiding.",
                "schema": {},
            },
            "Faceblur-Masked-Share": {"description": "Share of the photo that was hidden.", "schema": {}},
            "Server-Timing": {"description": "Milliseconds by stage.", "schema": {}},
        },
    }
}


def make_app(
    catalogue: Catalogue,
    limits: Limits,
    *,
    workers: int = 1,
    waiting: int = 16,
    hosts: frozenset[str] = frozenset(),
    token: str | None = None,
) -> Guard:
    """Return the ASGI application. Its workers live from its start to its end."""
    pool = Workers(workers, waiting, lambda wanted: wanted.load(functools.partial(PhotoMethod, max_pixels=limits.pixels)))

    jobs = Jobs(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        jobs.start()
        pool.start()
        sweeper = asyncio.create_task(_sweep(jobs))
        try:
            with only_our_limit():
                yield
        finally:
            sweeper.cancel()
            await asyncio.to_thread(jobs.close)
            await asyncio.to_thread(pool.close)

    app = FastAPI(
        title="faceblur",
        version=__version__,
        summary="Hides the faces in photos and videos.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.jobs = jobs
    add_errors(app)
    add_page(app)
    _add_api(app, catalogue, limits, pool)
    add_jobs(app, catalogue, limits, jobs)
    _describe(app, token is not None)
    return Guard(app, limits, hosts, token)


async def _sweep(jobs: Jobs) -> None:
    """Drop the jobs that nobody wants any more, from time to time."""
    while True:
        await asyncio.sleep(1)
        jobs.sweep()


def _describe(app: FastAPI, has_token: bool) -> None:
    """Tell OpenAPI about the token."""
    if has_token:
        schema = app.openapi()
        schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]


def _add_api(app: FastAPI, catalogue: Catalogue, limits: Limits, pool: Workers) -> None:
    @app.get("/v1/methods", responses=errors(401, 403, 421, 503))
    def methods() -> Methods:
        """List what photos and videos can be anonymized with, and the limits of this server."""
        rows = [
            Method(name=m.name, kind=m.kind, summary=m.summary, licence=m.licence, usable=not m.missing, why=m.missing)
            for m in catalogue.methods()
        ]
        formats = [name.lower() for name in FORMAT_NAMES]
        return Methods(
            methods=rows,
            formats=formats,
            max_bytes=limits.upload_bytes,
            max_pixels=limits.pixels,
            max_methods=MOST_METHODS,
            max_video_bytes=limits.video_bytes,
            max_video_pixels=limits.video_pixels,
            max_video_seconds=limits.video_seconds,
        )

    @app.post(
        "/v1/anonymize",
        response_class=Response,
        openapi_extra=body("photo", "image/jpeg", "image/png"),
        responses={**_IMAGE, **errors(400, 401, 403, 408, 413, 415, 421, 422, 500, 503)},
    )
    async def anonymize(request: Request, ask: Annotated[Anonymize, Query()]) -> Response:
        """Return the photo in the body with its faces hidden: upright, without metadata, marked as made by faceblur."""
        wanted = catalogue.wanted(ask.method, ask.settings)
        data = await _upload(request, limits)
        served = await _outcome(request, pool.submit(lambda shelf: _apply(shelf, wanted, data, ask)))
        request.scope[LEASE].take(len(served.data))
        return Response(served.data, media_type=served.media_type, headers=_facts(served))

    @app.post(
        "/v1/compare",
        openapi_extra=body("photo", "image/jpeg", "image/png"),
        responses=errors(400, 401, 403, 408, 413, 415, 421, 422, 503),
    )
    async def compare(request: Request, ask: Annotated[Compare, Query()]) -> Comparison:
        """Run several methods on the photo in the body, one after the other; give times and numbers of faces."""
        wanted = [catalogue.wanted(method, ask.settings) for method in dict.fromkeys(ask.methods)]
        data = await _upload(request, limits)
        room = MOST_TOGETHER * limits.upload_bytes
        found = await _outcome(request, pool.submit(lambda shelf: _compare(shelf, wanted, data, ask, room)))
        request.scope[LEASE].take(2 * sum(len(result.image or "") for result in found.results))
        return found


async def _upload(request: Request, limits: Limits) -> bytes:
    """Return the bytes of the photo. :raises Refused: if there is a form in its place, and as :func:`read_body`."""
    no_form(request, "photo")
    return await read_body(request, request.scope[LEASE], limits)


async def _outcome(request: Request, future: Future[T]) -> T:
    """Return what a worker makes, or take the task back if the client leaves before it begins."""
    task = asyncio.wrap_future(future)
    while not task.done():
        await asyncio.wait([task], timeout=0.5)
        if not task.done() and await request.is_disconnected():
            task.cancel()
            raise Refused(GONE, "the client has left")
    return task.result()


def _apply(shelf: Shelf, wanted: Wanted, data: bytes, ask: Writing) -> Served:
    return shelf.get(wanted)(data, ask.form.upper() if ask.form else None, ask.quality)


def _compare(shelf: Shelf, wanted: list[Wanted], data: bytes, ask: Compare, room: int) -> Comparison:
    """Return what each method gives; of the pictures ``room`` bytes together, for a result can be far larger than a photo."""
    comparison = Comparison(results=[])
    for item in wanted:
        try:
            served = _apply(shelf, item, data, ask)
        except (UsageMistake, UnreadableImage):
            raise  # the next method would say the same
        except FaceblurError as error:
            report(error)
            comparison.results.append(Result(method=item.method, error=shown(error)))
            continue
        comparison.width, comparison.height = served.width, served.height
        given = len(served.data) if ask.images else 0
        if given > room:
            comparison.results.append(Result(method=item.method, error="too large to be given with the others; ask for it alone"))
            continue
        room -= given
        comparison.results.append(
            Result(
                method=item.method,
                faces=served.faces,
                masked_share=served.masked_share,
                ms={stage: round(ms, 2) for stage, ms in served.ms.items()},
                media_type=served.media_type,
                image=base64.b64encode(served.data).decode() if ask.images else None,
            )
        )
    return comparison


def _facts(served: Served) -> dict[str, str]:
    """Return what is told about a result, as headers."""
    facts = {
        "content-disposition": f'attachment; filename="anonymized{served.suffix}"',
        "faceblur-masked-share": f"{served.masked_share:g}",
        "server-timing": ", ".join(f"{stage};dur={ms:.2f}" for stage, ms in served.ms.items()),
    }
    return facts if served.faces is None else {**facts, "faceblur-faces": str(served.faces)}
