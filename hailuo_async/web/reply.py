"""Answers as Starlette responses. Needs the extra ``web``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hailuo_async.web.answers import Answer
from hailuo_async.web.intake import Intake

_logger = logging.getLogger("hailuo_async")

#: So much of a body that is too large is read and dropped, and for so long, so that the visitor can read the answer.
_DRAINED_BYTES, _DRAIN_S = 64_000_000, 10.0


class Reply(Response):
    """An ``Answer`` as a Starlette response. A visitor who leaves ends it, and what it reads from is closed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body if isinstance(answer.body, bytes) else None, answer.status, dict(answer.headers))
        self._answer = answer
        if answer.status in (204, 304) or not isinstance(answer.body, bytes) or "Content-Length" in answer.headers:
            kept = answer.headers.get("Content-Length")
            self.raw_headers[:] = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
            if kept is not None:
                self.raw_headers.append((b"content-length", kept.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._answer.body
        if isinstance(body, bytes):
            await self._send_whole(body, receive, send)
            return
        async with anyio.create_task_group() as tasks, contextlib.aclosing(body):
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if await self._send_pieces(body, send):
                await send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()

    async def _send_whole(self, body: bytes, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._answer.headers.get("Connection") == "close":
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await _drain(receive)
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


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _drain(receive: Receive) -> None:
    size = 0
    with anyio.move_on_after(_DRAIN_S):
        while size < _DRAINED_BYTES:
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return


async def create(intake: Intake, request: Request) -> Response:
    """Answers a ``POST`` by ``intake.create``, reading its body in pieces."""
    try:
        return Reply(await intake.create(request.headers, request.stream(), path=request.url.path))
    except ClientDisconnect:  # the client is gone, so no answer reaches it
        return Response(status_code=400)
