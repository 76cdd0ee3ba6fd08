"""Server-sent events of one job: each change once, a heartbeat between them, and an end that closes.

The id of an event is the status that it tells, so a browser that reconnects, to this process or to another one, gets
the events after it. A browser that comes back after the end gets a 204, which tells it not to reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import attrs

from hailuo_async._engine.generation import Generation
from hailuo_async.errors import HailuoError, SessionClosedError
from hailuo_async.outcomes import Status
from hailuo_async.web.answers import EVENT_HEADERS, RETRY_AFTER_S, Answer, json_answer
from hailuo_async.web.signals import ended_by_signals

#: Proxies cut a connection that is silent for a minute or less.
HEARTBEAT_S = 15.0
#: Streams that may be open at once in one process: each is a connection and two small tasks.
MAX_STREAMS = 4000
#: What a browser waits before it comes back, in milliseconds.
_RETRY_MS = 2000

Describe = Callable[[], Awaitable[dict[str, object]]]


@attrs.define(eq=False)
class EventStreams:
    """The streams of one process: how many are open, and their common end."""

    _open: int = attrs.field(default=0, init=False)
    _stopped: asyncio.Future[None] | None = attrs.field(default=None, init=False)
    _signals: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack, init=False)

    def stop(self) -> None:
        """Ends the open streams, as the server stops. Browsers reconnect when it is there again."""
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.set_result(None)

    def answer(self, generation: Generation, describe: Describe, headers: Mapping[str, str]) -> Answer:
        """The events of ``generation`` from where the visitor's ``Last-Event-ID`` left off."""
        last = headers.get("Last-Event-ID", "")
        if last == generation.status and generation.status.is_final:
            return Answer(204, {})
        if self._open >= MAX_STREAMS:
            words = {"error": "TooManyStreams", "message": "too many wait for events: ask for the status instead"}
            return json_answer(words, 503, {"Retry-After": str(RETRY_AFTER_S)})
        return Answer(200, EVENT_HEADERS, self._events(generation, describe, last))

    async def _events(self, generation: Generation, describe: Describe, last: str) -> AsyncGenerator[bytes]:
        if not self._open:
            self._signals.enter_context(ended_by_signals(self.stop))
        self._open += 1
        self._stopped = self._stopped or asyncio.get_running_loop().create_future()
        changes = _changes(generation, self._stopped)
        try:
            yield f"retry: {_RETRY_MS}\n\n".encode()
            async for status in changes:
                if status is None:
                    yield b": still here\n\n"
                elif status != last:
                    content = await describe()
                    yield event(json.dumps({**content, "status": str(status)}, default=str), str(status))
                last = ""
        finally:
            self._open -= 1
            if not self._open:
                self._signals.close()
            await changes.aclose()


def event(data: str, id: str) -> bytes:
    """One event. ``data`` is one line, as JSON is."""
    return f"id: {id}\ndata: {data}\n\n".encode()


async def _changes(generation: Generation, stopped: asyncio.Future[None]) -> AsyncGenerator[Status | None]:
    """Each status of ``generation``; ``None`` where nothing has changed for a while.

    Ends without the last status if the session closes under it: the job goes on, and the browser comes back for it.
    """
    updates = generation.updates()
    coming: asyncio.Future[Status | None] = asyncio.ensure_future(_next(updates))
    try:
        while True:
            waited_for: list[asyncio.Future[Any]] = [coming, stopped]
            await asyncio.wait(waited_for, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return
            if not coming.done():
                yield None
                continue
            status = coming.result()
            if status is None or (status is Status.ABANDONED and await _is_closing(generation)):
                return
            yield status
            coming = asyncio.ensure_future(_next(updates))
    finally:
        coming.cancel()
        await asyncio.wait([coming])
        await updates.aclose()


async def _next(updates: AsyncGenerator[Status]) -> Status | None:
    return await anext(updates, None)


async def _is_closing(generation: Generation) -> bool:
    try:
        await generation
    except HailuoError as error:
        return isinstance(error, SessionClosedError)
    return False
