"""The floors: loops over aiohttp that do what must be done for each job, and check nothing.

``Bare`` is the leanest: POSTs and queries share a pool of connections. What it risks is money. A connection that the
server has dropped a moment ago takes a POST, and no caller can tell whether the server accepted it: aiohttp itself
sends only idempotent methods again, so the job is in doubt, and a caller who sends it again may pay twice.
``BareAlone`` does not risk that: it connects for each POST, as the library does.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from benchmarks.peers.clients import API_KEY, PICTURE_URL, Client, Setup

_MODEL = "/api/v1/minimax/hailuo-2.3-i2v/async"
#: A query at the very moment might come too early.
_MARGIN_S = 0.005
#: Connections: aiohttp's own bound for a pool, and the library's for its queries.
_POOLED, _QUERIES = 100, 32
_PIECE = 192 * 1024
_HEAD, _TAIL = b'{"prompt": "%s", "first_frame_image": "data:image/jpeg;base64,', b'"}'


class Bare(Client):
    """It knows how long a job takes. Its queries are spread over that time, and the last one comes when it is over.

    A picture is read, encoded and sent whole.
    """

    POSTS_ALONE = False

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._number = 0

    async def __aenter__(self) -> Self:
        self._queries = self._open(aiohttp.TCPConnector(limit=_QUERIES if self.POSTS_ALONE else _POOLED))
        self._posts = self._open(aiohttp.TCPConnector(limit=0, force_close=True)) if self.POSTS_ALONE else self._queries
        return self

    def _open(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        return aiohttp.ClientSession(self._setup.base_url, connector=connector, headers=headers)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._queries.close()
        await self._posts.close()

    async def make(self, prompt: str) -> str:
        task_id = await self._submit(prompt)
        loop = asyncio.get_running_loop()
        accepted_at, queries = loop.time(), self._next_queries()
        for number in range(1, queries + 1):
            at = accepted_at + self._setup.pending_s * number / queries + _MARGIN_S
            await asyncio.sleep(at - loop.time())
            data = await self._query(task_id)
        while data["status"] != "success":
            await asyncio.sleep(_MARGIN_S)
            data = await self._query(task_id)
        return str(data["task_id"])

    def _next_queries(self) -> int:
        """So many for the next job that they are right over all jobs: at least one each."""
        number, jobs, queries = self._number, self._setup.jobs, self._setup.queries
        self._number += 1
        return max(1, queries * (number + 1) // jobs - queries * number // jobs)

    async def _submit(self, prompt: str) -> str:
        body = {"prompt": prompt, "first_frame_image": self._image()}
        async with self._posts.post(_MODEL, json=body) as response:
            return await _accepted(response)

    def _image(self) -> str:
        if self._setup.picture is None:
            return PICTURE_URL
        encoded = base64.b64encode(Path(self._setup.picture).read_bytes()).decode("ascii")
        return f"data:image/jpeg;base64,{encoded}"

    async def _query(self, task_id: str) -> dict[str, Any]:
        async with self._queries.get(f"/api/v1/tasks/{task_id}") as response:
            data: dict[str, Any] = (await response.json())["data"]
            return data


class BareAlone(Bare):
    """The same with a connection for each POST, and as few for queries as the library has."""

    POSTS_ALONE = True


class BareInPieces(Bare):
    """The same, but a picture is read and encoded in pieces as it is sent, eight pictures at a time."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._sending = asyncio.Semaphore(8)

    async def _submit(self, prompt: str) -> str:
        assert self._setup.picture is not None
        head, path = _HEAD % prompt.encode("ascii"), Path(self._setup.picture)
        headers = {"Content-Type": "application/json", "Content-Length": str(_length(head, path))}
        async with self._sending, self._posts.post(_MODEL, data=_pieces(head, path), headers=headers) as response:
            return await _accepted(response)


async def _accepted(response: aiohttp.ClientResponse) -> str:
    return str((await response.json())["data"]["task_id"])


def _length(head: bytes, path: Path) -> int:
    return len(head) + (path.stat().st_size + 2) // 3 * 4 + len(_TAIL)


async def _pieces(head: bytes, path: Path) -> AsyncIterator[bytes]:
    yield head
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield base64.b64encode(piece)
    yield _TAIL
