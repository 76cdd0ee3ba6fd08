"""Answers as Starlette responses. Needs the extra ``web``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

import anyio
import attrs
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hailuo_async.web.answers import Answer
from hailuo_async.web.intake import Intake

_logger = logging.getLogger("hailuo_async")

#: So much of a body is dropped after its answer, and for so many seconds. Then a connection of HTTP/1 is cut.
_DROPPED_BYTES, _DROP_S = 256_000_000, 30.0
#: A short body, whose length has so many digits at most, is dropped before its answer, for so many seconds at most.
_SHORT_DIGITS, _SHORT_S = 5, 1.0


@attrs.define(eq=False)
class Body:
    """The body of a request: its pieces, and the rest of them where the answer is known before it has come.

    The rest is read and dropped, within bounds, before the answer ends (RFC 9112, 9.6). If a server closed the
    connection before, the operating system would reset it, and a client that still writes would read no answer. A
    body that ``request`` has read already, ``await request.body()``, is read from there.
    """

    request: Request
    _max_dropped: int = attrs.field(default=_DROPPED_BYTES, kw_only=True)
    _drop_s: float = attrs.field(default=_DROP_S, kw_only=True)
    is_over: bool = attrs.field(default=False, init=False)
    """Whether no more of it comes."""
    _stream: AsyncGenerator[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._stream = self.request.stream()

    @property
    def is_short(self) -> bool:
        """Whether less than 100,000 bytes of it are announced, or nothing."""
        length = self.request.headers.get("content-length", "0")
        return "transfer-encoding" not in self.request.headers and len(length) <= _SHORT_DIGITS

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it comes. Raises ``ClientDisconnect``."""
        while not self.is_over:
            if piece := await self._next():
                yield piece

    async def drop(self, within_s: float | None = None) -> None:
        """Reads what still comes, and keeps nothing of it."""
        size = 0
        with anyio.move_on_after(within_s or self._drop_s), contextlib.suppress(ClientDisconnect):
            while size < self._max_dropped and not self.is_over:
                size += len(await self._next())

    async def _next(self) -> bytes:
        try:
            return await anext(self._stream)
        except StopAsyncIteration:
            self.is_over = True
            return b""
        except ClientDisconnect:
            self.is_over = True
            raise
        except asyncio.CancelledError:  # which ends the generator, not what the request knows
            self._stream = self.request.stream()
            raise


class Reply(Response):
    """An ``Answer`` as a Starlette response. A visitor who leaves ends it, and what it reads from is closed.

    Give it the ``request`` body where that was read, or should have been: what is left of it is dropped.
    """

    def __init__(self, answer: Answer, request: Body | None = None) -> None:
        super().__init__(answer.body if isinstance(answer.body, bytes) else None, answer.status, dict(answer.headers))
        self._answer, self._request = answer, request
        if answer.status in (204, 304) or not isinstance(answer.body, bytes) or "Content-Length" in answer.headers:
            kept = answer.headers.get("Content-Length")
            self.raw_headers[:] = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
            if kept is not None:
                self.raw_headers.append((b"content-length", kept.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._answer.body
        if isinstance(body, bytes):
            await self._send_whole(body, scope, send)
            return
        async with anyio.create_task_group() as tasks, contextlib.aclosing(body):
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if await self._send_pieces(body, send):
                await send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()

    async def _send_whole(self, body: bytes, scope: Scope, send: Send) -> None:
        rest = await _rest_of(self._request)
        headers = list(self.raw_headers)
        if rest is not None and scope["http_version"].startswith("1"):
            headers.append((b"connection", b"close"))  # more may come than is dropped
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        if rest is not None:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await rest.drop()
            body = b""
        await send({"type": "http.response.body", "body": body})

    async def _send_pieces(self, body: AsyncGenerator[bytes], send: Send) -> bool:
        """Whether all of them were sent. If not, the server cuts the connection, as it lacks the end."""
        try:
            async for piece in body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Exception as error:
            _logger.warning("an answer was cut: %s: %s", type(error).__name__, error)
            return False
        return True


async def _rest_of(body: Body | None) -> Body | None:
    """``body``, if more of it may come. A short one is dropped here, so that its connection stays."""
    if body is not None and body.is_short:
        await body.drop(_SHORT_S)
    return None if body is None or body.is_over else body


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def create(intake: Intake, request: Request) -> Response:
    """Answers a ``POST`` by ``intake.create``, reading its body in pieces."""
    body = Body(request)
    try:
        return Reply(await intake.create(request.headers, body.pieces(), path=request.url.path), body)
    except ClientDisconnect:  # the client is gone, so no answer reaches it
        return Response(status_code=400)
