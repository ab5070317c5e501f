"""What every request passes before the application sees it, and what every answer carries."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faceblur_web.limits import Budget, Limits, Refused

LEASE = "faceblur_web.lease"  #: where in the scope a request finds its lease
PIECE = 256 * 1024  #: bytes that are sent at a time, so that a client that stands still is noticed
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_OPEN = ("/v1/", "/openapi.json")  #: what the token protects; the page itself holds no secret


@dataclass
class Guard:
    """An ASGI application around another.

    :param hosts: names under which the server may be reached, beside ``localhost`` and addresses. A page elsewhere could
        point a name of its own at this machine (DNS rebinding), but not an address
    """

    app: ASGIApp
    limits: Limits
    hosts: frozenset[str] = frozenset()
    token: str | None = None
    budget: Budget = field(init=False)
    _requests: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(self.limits.in_hand * self.limits.upload_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            return
        answer = _Answer(send)
        refused = self._refused(scope)
        if refused:
            await answer.refuse(refused)
            return
        self._requests += 1
        lease = scope[LEASE] = self.budget.lease()
        try:
            await self.app(scope, receive, answer)
        finally:
            lease.release()
            self._requests -= 1

    def _refused(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        if self._requests >= self.limits.requests:
            return Refused(503, "the server is busy; try again later")
        if not self._known_host(headers.getlist("host")):
            return Refused(421, "the server does not go by this name; --allow-host adds one")
        if _cross_origin(scope, headers):
            return Refused(403, "requests from other sites are refused")
        if self.token and scope["path"].startswith(_OPEN) and not _bears(headers, self.token):
            return Refused(401, "this needs the token, as 'Authorization: Bearer TOKEN'")
        return None

    def _known_host(self, given: list[str]) -> bool:
        if len(given) != 1:
            return False
        name = host_name(given[0])
        return name == "localhost" or name in self.hosts or _is_address(name)


def host_name(host: str) -> str:
    """Return the name or address in a Host header, without its port; empty if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cross_origin(scope: Scope, headers: Headers) -> bool:
    """Return whether a page of another site made the request. Following a link to our page is no such thing."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        return True
    fetched_from = headers.get("sec-fetch-site", "none")
    follows_link = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET" and scope["path"] == "/"
    return fetched_from not in ("none", "same-origin") and not follows_link


def _bears(headers: Headers, token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())


@dataclass
class _Answer:
    """Sends with our headers on everything, long bodies in pieces."""

    send: Send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_raw(HEADERS.items())]}
        body = message.get("body", b"")
        if len(body) <= PIECE:
            await self.send(message)
            return
        view = memoryview(body)
        for start in range(0, len(body), PIECE):
            more = message.get("more_body", False) or start + PIECE < len(body)
            await self.send({"type": message["type"], "body": bytes(view[start : start + PIECE]), "more_body": more})

    async def refuse(self, refused: Refused) -> None:
        """Answer with the error."""
        body = json.dumps({"error": refused.message}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), *extra_headers(refused.status)]
        await self({"type": "http.response.start", "status": refused.status, "headers": _raw(headers)})
        await self({"type": "http.response.body", "body": body})


def extra_headers(status: int, retry_after: int = 1) -> list[tuple[str, str]]:
    """Return the headers that an error of this status has beside the usual ones."""
    more: dict[int, tuple[str, Any]] = {401: ("www-authenticate", "Bearer"), 503: ("retry-after", str(retry_after))}
    return [more[status]] if status in more else []


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]
