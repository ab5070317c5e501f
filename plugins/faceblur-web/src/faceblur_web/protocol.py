"""Time limits for connections, which uvicorn leaves to a proxy: for the head of a request, and for taking the answer."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class Impatient(H11Protocol):
    """Drops a client that for some seconds sends no whole request head, or takes nothing of an answer."""

    patience: ClassVar[float] = 20

    _head: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        _stop(self._taking)
        self._taking = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _stop(self._taking)

    def connection_lost(self, exc: Exception | None) -> None:
        _stop(self._head)
        _stop(self._taking)
        super().connection_lost(exc)

    def _await_head(self) -> None:
        _stop(self._head)
        self._head = self.loop.call_later(self.patience, self._drop_if_idle)

    def _drop_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def impatient(seconds: float) -> type[Impatient]:
    """Return a protocol with that patience."""
    return type("Impatient", (Impatient,), {"patience": seconds})


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
