"""How much the server takes on: bytes per upload, bytes in hand, requests at a time, seconds to wait for a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass

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

    @property
    def upload_bytes(self) -> int:
        return self.megabytes * 1_000_000

    @property
    def pixels(self) -> int:
        return self.megapixels * 1_000_000


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


async def read_body(request: Request, lease: Lease, limits: Limits) -> bytes:
    """Return the body of a request, from memory alone.

    :raises Refused: if it is too large or comes too slowly
    :raises Busy: if other requests hold too much
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > limits.upload_bytes:
        raise Refused(413, _too_large(limits))
    parts: list[bytes] = []
    size, started = 0, time.monotonic()
    try:
        async with contextlib.aclosing(request.stream()) as stream:
            while part := await _soon(anext(stream), limits.patience):  # the last one is empty
                size += len(part)
                if size > limits.upload_bytes:
                    raise Refused(413, _too_large(limits))
                if time.monotonic() - started > limits.patience + size / SLOWEST:
                    raise TimeoutError
                lease.take(len(part))
                parts.append(part)
    except TimeoutError:
        raise Refused(408, "the upload came too slowly") from None
    except ClientDisconnect:
        raise Refused(400, "the upload was cut off") from None
    return b"".join(parts)


async def _soon(part: Awaitable[bytes], seconds: float) -> bytes:
    async with asyncio.timeout(seconds):
        return await part


@contextlib.contextmanager
def only_our_limit() -> Iterator[None]:
    """Lift Pillow's own limit of pixels while ours is in force."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _too_large(limits: Limits) -> str:
    return f"the photo is larger than {limits.megabytes} megabytes"
