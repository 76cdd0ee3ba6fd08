"""Hosts of films that cut, lie, change their minds and lead elsewhere, and what is left on the disk."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import ssl
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import attrs
import pytest
from aiohttp import web

from hailuo_async._io.download.client import Downloads
from hailuo_async._io.download.values import USUAL, Limits
from hailuo_async.errors import DownloadError

BODY = random.Random(5).randbytes(1_500_000)


OTHER = random.Random(6).randbytes(1_400_000)


SECRET = "?sig=secret"


Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@attrs.define
class Shelf:
    """A host of one film. ``cuts`` holds, for each request, after how many bytes of its answer the line is cut."""

    body: bytes = BODY
    etag: str | None = '"v1"'
    headers: dict[str, str] = attrs.field(factory=dict)
    cuts: list[int] = attrs.field(factory=list)
    ranges: bool = True
    obeys_if_range: bool = True
    asked: list[tuple[str | None, str | None]] = attrs.field(factory=list)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        wanted, condition = request.headers.get("Range"), request.headers.get("If-Range")
        self.asked.append((wanted, condition))
        start = 0
        if wanted and self.ranges and (condition == self.etag or not self.obeys_if_range):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        response = web.StreamResponse(status=206 if start else 200, headers=self.headers)
        if self.etag:
            response.headers["ETag"] = self.etag
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        rest = memoryview(self.body)[start:]
        response.content_length = len(rest)
        await response.prepare(request)
        if self.cuts:
            await response.write(rest[: self.cuts.pop(0)])
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write(rest)
        return response

    def resumed_at(self) -> list[int]:
        """Where each request after the first began."""
        return [0 if wanted is None else int(wanted[6:-1]) for wanted, _ in self.asked[1:]]


@asynccontextmanager
async def film_host(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncGenerator[str, None]:
    """``answer`` on a socket of this machine; gives the URL of a film there, with a secret in its query."""
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/films/cat.mp4{SECRET}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def saying(raw: bytes) -> AsyncGenerator[str, None]:
    """A host that answers each request with ``raw`` and closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/cat.mp4{SECRET}"


def giving(**answer: Any) -> Answer:
    """Always the same answer."""

    async def give(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(**answer)

    return give


async def files(directory: Path) -> dict[str, bytes]:
    """All that lies in ``directory``."""
    return {path.name: await path.read_bytes() async for path in anyio.Path(directory).iterdir()}


async def refused(downloads: Downloads, url: str, target: Path, limits: Limits = USUAL, **options: Any) -> str:
    """Why the download fails; it says its path and task, and no secret, whoever prints it."""
    with pytest.raises(DownloadError) as caught:
        await downloads.fetch(url, target, limits, task_id="task-1", **options)
    assert (caught.value.path, caught.value.task_id) == (str(target), "task-1")
    assert "secret" not in "".join(await anyio.to_thread.run_sync(traceback.format_exception, caught.value))
    return caught.value.reason


@attrs.define
class Stalling:
    """Sends more than one piece, then nothing until ``go_on`` is set, and says when it waits."""

    waits: anyio.Event = attrs.field(factory=anyio.Event)
    go_on: anyio.Event = attrs.field(factory=anyio.Event)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"v1"', "Content-Length": str(len(BODY))})
        await response.prepare(request)
        await response.write(BODY[:1_200_000])
        self.waits.set()
        await self.go_on.wait()
        await response.write(BODY[1_200_000:])
        return response


def base64_of(algorithm: str, body: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()
