"""What carries a session's requests: ``http``, or what a caller gives instead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import aiohttp

from hailuo_async.errors import ConfigError

if TYPE_CHECKING:
    from hailuo_async._rules.wire import Answer, Request

CLOSED = "is closed: give one that stays open for as long as this session"
FORKED = "the session belongs to the process that opened it: open another one after each fork; nothing was sent"
_NOT_BEGUN = "it was cancelled before any of the request had left"


class Transport(Protocol):
    """Sends requests. Tests and simulations give another implementation."""

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """Sends ``request`` once. Never raises, but for cancellation: see ``note_not_begun``."""

    async def aclose(self) -> None:
        """Closes its connections."""


def note_not_begun(cancellation: asyncio.CancelledError) -> None:
    """Notes on the cancellation of a request that it certainly was not accepted. Without the note there is a doubt."""
    cancellation.add_note(_NOT_BEGUN)


def was_begun(cancellation: asyncio.CancelledError) -> bool:
    """Whether a part of the cancelled request may have left."""
    return _NOT_BEGUN not in getattr(cancellation, "__notes__", ())


def check_loop(session: aiohttp.ClientSession) -> None:
    """Raises ``ConfigError`` for a session of another loop than the running one: each of its requests would fail."""
    loop = asyncio.get_running_loop()
    if getattr(session, "_loop", loop) is not loop:  # its public property warns
        raise ConfigError(field="client_session", value=session, rule="must be made on the loop that it is used on")
