"""How the videos of a life are fetched: by the library's own downloads, over a network that cuts and errs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import anyio
import attrs
from multidict import CIMultiDict

from benchmarks.hosts import EPOCH
from benchmarks.network import Network
from hailuo_async._io.download.client import Downloads
from hailuo_async.emulator import Delivery, Request


@attrs.define(eq=False)
class _Content:
    """A body, which may be cut in the middle."""

    body: bytes
    is_whole: bool
    _error: BaseException | None = None

    def set_exception(self, error: BaseException) -> None:
        """Ends the reading with this error."""
        self._error = error

    async def readany(self) -> bytes:
        """Half of what is left; nothing at the end."""
        await anyio.sleep(0.1)
        if self._error is not None:
            raise self._error
        if not self.body and not self.is_whole:
            raise aiohttp.ClientPayloadError("the connection was cut")
        middle = (len(self.body) + 1) // 2
        piece, self.body = self.body[:middle], self.body[middle:]
        return piece


@attrs.frozen
class _Response:
    status: int
    headers: Mapping[str, str]
    content: _Content


@attrs.define(eq=False)
class _Clients:
    """In place of the connections of ``Downloads``."""

    network: Network

    @contextlib.asynccontextmanager
    async def travel(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[_Response]:
        """The answer to a GET."""
        await anyio.sleep(self.network.latency_s)
        if self.network.is_down:
            raise aiohttp.ClientConnectionError("cannot connect")
        reply = self.network.service.handle(Request.to("GET", url, dict(headers)), EPOCH + anyio.current_time())
        if reply.delivery in (Delivery.CUT, Delivery.HANG):
            raise aiohttp.ServerDisconnectedError
        is_whole = reply.delivery is Delivery.WHOLE
        body = reply.body if is_whole else reply.body[: len(reply.body) // 2]
        length = {"Content-Length": str(len(reply.body))}
        yield _Response(reply.status, CIMultiDict({**reply.headers, **length}), _Content(body, is_whole))

    async def aclose(self) -> None:
        """Holds nothing."""


def downloads_over(network: Network) -> Downloads:
    """The library's downloads, over this network."""
    downloads = Downloads(allow_private_network=True)
    clients: Any = _Clients(network)
    downloads._clients = clients
    return downloads
