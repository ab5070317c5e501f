"""How much the server takes on: bytes per upload, bytes in hand, requests and jobs at a time, seconds to wait for a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass
from typing import BinaryIO

from starlette.requests import ClientDisconnect, Request

from faceblur_web.workers import Busy

SLOWEST = 10_000  #: bytes per second of an upload, after the first seconds


@dataclass(frozen=True)
class Limits:
    """What can be set when the server is started, and what cannot."""

    megabytes: int = 32  #: of one upload
    megapixels: int = 50  #: of one photo, all frames together
    requests: int = 250  #: at a time, slow uploads and downloads included
    in_hand: int = 8  #: uploads and results in memory, in largest uploads
    patience: float = 20  #: seconds for the next bytes of a request, or until a client takes more of an answer
    video_megabytes: int = 500  #: of one upload
    video_minutes: float = 10
    jobs: int = 8  #: videos on their way, waiting, in work or ready, until they are delivered
    video_pixels: int = 9_000_000  #: of one picture: 4K
    forgotten: float = 300  #: seconds without a question until a job is given up
    kept: float = 900  #: seconds for which a result is kept
    again: float = 60  #: seconds for which it can be fetched again after all of it was sent
    work: float = 3 * 3600  #: seconds that one video may be in work
    silence: float = 300  #: seconds without progress until it is given up

    @property
    def upload_bytes(self) -> int:
        return self.megabytes * 1_000_000

    @property
    def pixels(self) -> int:
        return self.megapixels * 1_000_000

    @property
    def video_bytes(self) -> int:
        return self.video_megabytes * 1_000_000

    @property
    def result_bytes(self) -> int:
        return 4 * self.video_bytes  # a phone's video may well grow when it is encoded again

    @property
    def video_seconds(self) -> float:
        return 60 * self.video_minutes

    @property
    def video_pictures(self) -> int:
        return int(60 * self.video_seconds)  # 60 a second


class Refused(Exception):
    """A request that cannot be answered as it is: an HTTP status and one line for who sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Budget:
    """The bytes that all requests together may hold. For the event loop's thread alone."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0

    def lease(self) -> Lease:
        """Return a lease that holds nothing yet."""
        return Lease(self)


class Lease:
    """What one request holds of the budget, until it is answered."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def take(self, count: int) -> None:
        """:raises Busy: if others hold too much; a request alone is never refused."""
        others = self._budget.held - self._held
        if others and self._budget.held + count > self._budget.total:
            raise Busy
        self._held += count
        self._budget.held += count

    def release(self) -> None:
        """Give everything back."""
        self._budget.held -= self._held
        self._held = 0


def no_form(request: Request, what: str) -> None:
    """:raises Refused: if there is a form in place of a file's bytes"""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise Refused(415, f"send the {what}'s bytes as the body, not a form")


async def read_body(request: Request, lease: Lease, limits: Limits) -> bytes:
    """Return the body of a request, from memory alone: a photo.

    :raises Refused: if it is too large or comes too slowly
    :raises Busy: if other requests hold too much
    """
    parts: list[bytes] = []
    async with contextlib.aclosing(_parts(request, "photo", limits.megabytes, limits.patience)) as body:
        async for part in body:
            lease.take(len(part))
            parts.append(part)
    return b"".join(parts)


async def write_body(request: Request, file: BinaryIO, limits: Limits) -> None:
    """Write the body of a request, a video, to a file, and go back to its beginning.

    :raises Refused: if it is too large or comes too slowly
    :raises Busy: if there is no room for it
    """
    try:
        async with contextlib.aclosing(_parts(request, "video", limits.video_megabytes, limits.patience)) as body:
            async for part in body:
                await asyncio.to_thread(_write, file, part)
    except OSError:  # the disk is full
        raise Busy(60) from None
    file.seek(0)


def _write(file: BinaryIO, part: bytes) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[file.write(rest) :]


async def _parts(request: Request, what: str, megabytes: int, patience: float) -> AsyncGenerator[bytes]:
    """Yield the body of a request as it comes. :raises Refused: if it is too large or comes too slowly"""
    most, too_large = megabytes * 1_000_000, Refused(413, f"the {what} is larger than {megabytes} megabytes")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > most:
        raise too_large
    size, started = 0, time.monotonic()
    try:
        async with contextlib.aclosing(request.stream()) as stream:
            while part := await _soon(anext(stream), patience):  # the last one is empty
                size += len(part)
                if size > most:
                    raise too_large
                if time.monotonic() - started > patience + size / SLOWEST:
                    raise TimeoutError
                yield part
    except TimeoutError:
        raise Refused(408, "the upload came too slowly") from None
    except ClientDisconnect:
        raise Refused(400, "the upload was cut off") from None


async def _soon(part: Awaitable[bytes], seconds: float) -> bytes:
    async with asyncio.timeout(seconds):
        return await part
