"""The service on a socket: aiohttp carries requests in and replies out, well or badly, as the core says.

Nothing is decided here. Bodies that take long to read are read in a thread, and so are the films on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread
import attrs
from aiohttp import web

from .faults import Fault, Faults, Kind
from .film_cache import FilmCache
from .films import FilmOrder, PlainFilm, choose_portion
from .ledger import Ledger
from .routes import Reading, is_upload, read
from .sender import WebhookSender
from .service import Service
from .wire import Delivery, Refusal, Reply, Request

MAX_BODY_BYTES = 64 * 1024 * 1024
#: Reading a body of this size takes 0.8 ms; the largest, with 19 MiB of image, took 130 ms.
_READ_OFF_LOOP_BYTES = 256 * 1024
_READERS = 4
_PIECE_BYTES = 256 * 1024
#: How long a close waits for answers that are still being sent.
_CLOSING_S = 1.0


class Emulator:
    """A stand-in for the Modellix API on a socket of this machine, while its context is entered.

    ``port`` 0 takes a free one. Server time is ``clock()``, in Unix seconds, plus ``clock_offset_s``. Further settings
    are those of ``Service``, without ``origin``; they may be set while it runs, on ``service``. Or give a ``service``
    of your own without them. Webhooks are called on this machine only, unless ``webhooks_anywhere`` is true. The
    context is entered once; entering and leaving may happen in different tasks of one loop.

    Raises ``ValueError`` for a setting out of its range, ``TypeError`` for one that does not exist, and ``OSError`` on
    entering if the port cannot be had.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
        clock_offset_s: float = 0.0,
        webhooks_anywhere: bool = False,
        service: Service | None = None,
        **settings: Any,
    ) -> None:
        self.service: Service = Service(**settings) if service is None else service
        self.clock_offset_s = clock_offset_s
        self._clock = clock
        self._host = host
        self._port = port
        self._closing = asyncio.Event()
        self._sender = WebhookSender(self.service, self._now, webhooks_anywhere)
        self._uploading = 0
        self._readers = anyio.CapacityLimiter(_READERS)
        self._rendered: FilmCache | None = None
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLOSING_S)

    @property
    def url(self) -> str:
        """Its origin, without a slash at the end. Known once the context is entered."""
        return self.service.origin

    @property
    def api_key(self) -> str:
        """The one key that it takes."""
        return self.service.api_key

    @property
    def ledger(self) -> Ledger:
        """What it has seen: each request, and sums over all of them."""
        return self.service.ledger

    @property
    def faults(self) -> Faults:
        """How likely each request is to go wrong. May be replaced while it runs."""
        return self.service.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.service.faults = faults

    def next_fault(self, kind: Kind | str, fault: Fault | str) -> None:
        """Lets the next request of this kind meet this fault; see ``Service.next_fault``."""
        self.service.next_fault(kind, fault)

    async def __aenter__(self) -> Self:
        if self.service.render:
            self._rendered = await FilmCache.open()
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self._port).start()
        except BaseException:
            await self._close()
            raise
        self.service.origin = _origin(self._host, self._runner.addresses[0][1])
        self._sender.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        self._closing.set()
        await self._runner.cleanup()
        await self._sender.aclose()
        if self._rendered is not None:
            await self._rendered.aclose()

    def _now(self) -> float:
        return self._clock() + self.clock_offset_s

    async def _answer(self, incoming: web.Request) -> web.StreamResponse:
        try:
            request, reading = await self._receive(incoming)
        except ConnectionError:  # the client left before its body had come
            return _cut(incoming)
        reply = self.service.decide(request, reading, self._now())
        self._sender.wake()
        if reply.preceded_by is not None:
            await self._sender.send(reply.preceded_by)
        if reply.delivery is Delivery.HANG:
            await self._closing.wait()
        if reply.delivery in (Delivery.HANG, Delivery.CUT):
            return _cut(incoming)
        if reply.film is not None:
            return await self._show_or_cut(incoming, request, reply, reply.film)
        if reply.delivery is Delivery.TRUNCATED:
            return await _send(incoming, reply, _reader(reply.body), 0, len(reply.body))
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def _receive(self, incoming: web.Request) -> tuple[Request, Reading]:
        """The request with its whole body, and what was read in it."""
        request = Request(
            incoming.method, incoming.path, incoming.query, incoming.headers, connection=_connection_name(incoming)
        )
        with self._counted(request) as refusal:
            try:
                body = await incoming.read()
                if is_upload(request):
                    await asyncio.sleep(self.service.upload_s)
            except web.HTTPRequestEntityTooLarge:
                body, refusal = b"", Refusal.of(413, "a request may have at most 64 MiB")
        request = attrs.evolve(request, body=body)
        if refusal is not None:
            return request, refusal
        if len(body) < _READ_OFF_LOOP_BYTES:
            return request, read(request)
        return request, await anyio.to_thread.run_sync(read, request, limiter=self._readers)

    @contextlib.contextmanager
    def _counted(self, request: Request) -> Iterator[Refusal | None]:
        """Counts ``request`` among the uploads on their way, if it is one; the refusal if there are too many."""
        counts = is_upload(request)
        self._uploading += counts
        limit = self.service.uploads_at_once
        try:
            over = counts and limit is not None and self._uploading > limit
            yield Refusal(429, f"Concurrency limit exceeded: {limit} uploads at once") if over else None
        finally:
            self._uploading -= counts

    async def _show_or_cut(
        self, incoming: web.Request, request: Request, reply: Reply, order: FilmOrder
    ) -> web.StreamResponse:
        """``_show``, but for a client that left, or a server that closes, while the film was made or sent."""
        try:
            return await self._show(incoming, request, reply, order)
        except ConnectionError:
            return _cut(incoming)
        except Exception:
            if not self._closing.is_set():
                raise
            return _cut(incoming)

    async def _show(
        self, incoming: web.Request, request: Request, reply: Reply, order: FilmOrder
    ) -> web.StreamResponse:
        """Sends a film, or the part of it that the request asks for."""
        plain = PlainFilm(order.task_id, self.service.video_size)
        film = plain if self._rendered is None else await self._rendered.film(order)
        portion = choose_portion(request.headers, film.size, film.etag)
        partial = attrs.evolve(reply, status=portion.status).adding(portion.headers)
        return await _send(incoming, partial, film.read, portion.start, portion.stop)


#: Gives the bytes of a body from one place up to another. May block.
_Reader = Callable[[int, int], bytes]


def _reader(body: bytes) -> _Reader:
    return lambda start, stop: body[start:stop]


async def _send(incoming: web.Request, reply: Reply, read: _Reader, start: int, stop: int) -> web.StreamResponse:
    """Sends a body from ``start`` up to ``stop`` in pieces; of a truncated reply half of it, and then hangs up."""
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = stop - start
    truncated = reply.delivery is Delivery.TRUNCATED
    end = (start + stop) // 2 if truncated else stop
    await response.prepare(incoming)
    for at in range(start, end, _PIECE_BYTES):
        await response.write(await anyio.to_thread.run_sync(read, at, min(at + _PIECE_BYTES, end)))
    if truncated and incoming.transport is not None:
        incoming.transport.close()  # not abort(), which would throw away what is still to be sent
    return response


def _cut(incoming: web.Request) -> web.StreamResponse:
    """Closes the connection. aiohttp wants a response; this one is never sent."""
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response()


def _connection_name(incoming: web.Request) -> str:
    """The client's end of the connection, which no other has while it lasts."""
    peer = incoming.transport.get_extra_info("peername") if incoming.transport is not None else None
    return f"{peer[0]}:{peer[1]}" if peer else ""


def _origin(host: str, port: int) -> str:
    """Where a client of this machine reaches a server bound to ``host``."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
