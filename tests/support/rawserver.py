"""A server that does what a test says, byte by byte: what a well-behaved one never would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import attrs


@attrs.define(eq=False)
class Exchange:
    """One request as it came in, and the line to answer it on."""

    connection: int
    """Which connection it came on, counted from 1."""
    method: str
    target: str
    headers: dict[str, str]
    """By name in lower case."""
    reader: asyncio.StreamReader = attrs.field(repr=False)
    writer: asyncio.StreamWriter = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    async def read_body(self) -> bytes:
        """The whole body, as long as its head says."""
        self.body = await self.reader.readexactly(int(self.headers.get("content-length", "0")))
        return self.body

    async def send(self, data: bytes) -> None:
        """Sends ``data`` as it is."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        """Sends a whole answer: ``content`` as JSON, or as it is if it is ``bytes``."""
        await self.send(response(status, content, headers))

    def cut(self) -> None:
        """Drops the connection."""
        self.writer.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


def response(status: int, content: object, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a whole answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@attrs.define(eq=False)
class RawServer:
    """Hears requests, and leaves each to ``behaviour``."""

    behaviour: Behaviour
    seen: list[Exchange] = attrs.field(factory=list)
    connections: int = 0
    url: str = ""
    _open: set[asyncio.Task[None]] = attrs.field(factory=set)

    @property
    def posts(self) -> list[Exchange]:
        return [exchange for exchange in self.seen if exchange.method == "POST"]

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until it ends."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._converse(self.connections, reader, writer)
        writer.transport.abort()
        self._open.discard(task)

    async def _converse(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            exchange = Exchange(number, method, target, headers, reader, writer)
            self.seen.append(exchange)
            await self.behaviour(exchange)

    async def close(self) -> None:
        """Ends every connection that is still open."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open)


@contextlib.asynccontextmanager
async def raw_server(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """A ``RawServer`` on a free port of this machine."""
    raw = RawServer(behaviour)
    server = await asyncio.start_server(raw.hear, "127.0.0.1", 0, limit=2**20, ssl=tls)
    raw.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()
        await raw.close()
        await server.wait_closed()
