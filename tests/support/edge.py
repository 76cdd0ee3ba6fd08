"""The HTTP edge and a server that conducts itself as a test says."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping

from hailuo_async._rules.wire import Answer, Request

from .rawserver import Behaviour, Exchange, RawServer, raw_server
from .service import finished, job, line_to, request_for, taken

POST = request_for(job())


async def accept(exchange: Exchange) -> None:
    """What a well-behaved service does."""
    await exchange.read_body()
    await exchange.reply(200, taken() if exchange.method == "POST" else finished())


def saying(status: int, content: object, headers: Mapping[str, str] | None = None) -> Behaviour:
    async def say(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.reply(status, content, headers)

    return say


async def answer_of(
    behaviour: Behaviour, request: Request = POST, timeout_s: float = 60.0, tls: ssl.SSLContext | None = None
) -> tuple[Answer, RawServer]:
    """What the edge makes of a server that behaves so, and what the server saw."""
    async with raw_server(behaviour, tls) as server, line_to(server.url) as line:
        return await line.send(request, timeout_s), server


def closed_port() -> int:
    """A port of this machine that refuses connections."""
    with socket.socket() as taken_for_a_moment:
        taken_for_a_moment.bind(("127.0.0.1", 0))
        port: int = taken_for_a_moment.getsockname()[1]
        return port
