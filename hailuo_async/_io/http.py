"""HTTP to the service: one request in, one ``Answer`` out. No retries, no redirects, no decisions.

Two rules here protect money.

*A POST goes out on a connection of its own.* A kept-alive connection may have been dropped by the server a moment ago,
and a request lost on it leaves a doubt that a fresh connection would not have. Queries may reuse one: asking twice is
free. aiohttp pools connections by a key that has the TLS server name in it (from 3.14.1 on), so naming it for POSTs
alone keeps them apart from the queries' pool, on a session of the caller's too; and a POST's connection is marked so
that it never returns to a pool, even where a server keeps it open after all.

One saving is left out. A POST on a warm connection leaves a doubt where the server closes it as the head arrives;
``Expect: 100-continue`` rules that out. Measured over TLS 1.3 at a round trip of 50 ms, such a POST takes 104 ms and
0.8 ms of CPU, a fresh one 168 ms and 2.3 ms. But a warm connection has a past: the answer to an earlier query that
comes late, or twice, would be read as the answer to the POST, and its task would be lost. And aiohttp waits for the 100
without limit, so a gateway that ignores the header would get the head of a job twice. A fifteenth of a second is
nothing beside the minutes of a job; ``tls`` spares a part of the handshake instead.

*A request whose body was never begun was never accepted.* aiohttp calls ``_Body.write`` when the connection stands. A
failure before the first piece of the body is given to it (DNS, refused, TLS, a proxy's CONNECT, a closed session) is
certainly unsent; any failure after it is a doubt, though only a part of the body may have left: a gateway or a log may
count what has begun. So no list of aiohttp's exceptions decides whether a job is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
from collections.abc import Awaitable, Generator, Iterator, Mapping, Sequence
from typing import TypedDict, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio.to_thread
import attrs
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http import StreamWriter
from anyio import CapacityLimiter
from yarl import URL

from hailuo_async._io.lenient import lenient_connector
from hailuo_async._io.tls import ResumingContext
from hailuo_async._io.transport import CLOSED, FORKED, check_loop, note_not_begun
from hailuo_async._io.wording import describe
from hailuo_async._rules.wire import Answer, Part, Request, Verdict, decipher, unknown, unsent
from hailuo_async.errors import ConfigError, ImageError, JournalError, SessionClosedError, shown
from hailuo_async.settings import Settings, is_http_url, is_this_machine

if "server_hostname" not in ConnectionKey._fields:
    # Better not to start than to send paid jobs over a connection that may be gone.
    raise ImportError("aiohttp is too old to keep paid requests apart: pip install 'aiohttp>=3.14.1'")

#: Seconds to open a connection. One that takes longer nearly always fails.
CONNECT_TIMEOUT_S = 15.0
#: Seconds after the timeout in which an answer that came in time is still read.
LAST_LOOK_S = 0.5
#: Seconds to wait for the end of an answer whose JSON is there. If that never came, a task id would be thrown away.
END_TIMEOUT_S = 0.5
#: Threads that read images while they are sent. More threads than disks and cores gain nothing.
READING_THREADS = 4
#: The service's answers are a few hundred bytes. A larger one is not parsed: that would hold the GIL, and so the loop,
#: in any thread.
MAX_ANSWER_BYTES = 1024 * 1024
#: A longer answer is parsed in a thread, as parsing it on the loop would hold the loop up.
_LONG_ANSWER_BYTES = 64 * 1024


class _Manners(TypedDict, total=False):
    """How aiohttp sends and reads, by the names of its arguments."""

    timeout: aiohttp.ClientTimeout
    raise_for_status: bool
    middlewares: Sequence[aiohttp.ClientMiddlewareType]
    auto_decompress: bool
    max_line_size: int
    max_field_size: int
    max_headers: int


#: Given to aiohttp once, for a session of ours: with each request they would take it 2 microseconds. Over a caller's
#: session each request has them.
_MANNERS: _Manners = {
    "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),  # the whole is bounded by ``_within``
    "raise_for_status": False,
    "middlewares": (),
    "auto_decompress": False,  # would inflate any amount on the loop
    # Headers that are long or many are legal. aiohttp's own bounds would make a doubt of an answer that was paid for.
    "max_line_size": 256 * 1024,
    "max_field_size": 256 * 1024,
    "max_headers": 4096,
}

T = TypeVar("T")


class PermitLapsedError(Exception):
    """The permission to send a request lapsed before all of it had left: it certainly was not accepted."""


#: Why we stop in the middle of a body: half a body cannot be accepted.
_OURS = (ImageError, PermitLapsedError, JournalError, SessionClosedError)


class _Body(aiohttp.payload.Payload):
    """A request's body of known length, read in pieces as the socket takes them."""

    def __init__(self, request: Request, limiter: CapacityLimiter, pid: int) -> None:
        super().__init__(request.body, content_type=request.content_type)
        self._size = request.length
        self._limiter = limiter
        self._opened: list[tuple[bytes, Iterator[bytes]]] = []
        self._is_let_go = self.begun = False
        self._transport: asyncio.Transport | None = None
        self._may_go_on, self._pid = request.may_go_on, pid
        self.problem: ImageError | PermitLapsedError | JournalError | SessionClosedError | None = None

    async def open(self) -> None:
        """Opens every image and reads its first piece, so that a missing one stops the request before it is sent."""
        for part in self._value:
            if isinstance(part, Part):
                pieces = part.pieces()
                self._opened.append((await self._next_piece(pieces), pieces))

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Called by aiohttp once the connection stands. The head of the request leaves before the first piece."""
        if isinstance(writer, StreamWriter) and isinstance(writer.protocol, ResponseHandler):
            writer.protocol.force_close()  # "Connection: close" asks the server; this is certain
            self._transport = writer.transport
        opened = iter(self._opened)
        try:
            for part in self._value:
                if isinstance(part, bytes):
                    await self._pass_on(writer, part)
                    continue
                piece, pieces = next(opened)
                while piece:
                    await self._pass_on(writer, piece)
                    piece = await self._next_piece(pieces)
        except _OURS as error:
            self.problem = error
            raise

    async def _pass_on(self, writer: AbstractStreamWriter, piece: bytes) -> None:
        if os.getpid() != self._pid:
            raise SessionClosedError(reason=FORKED)
        # A process that was stopped for longer than its lease wakes here: another session may have the job by now.
        if self._may_go_on is not None and not self._may_go_on():
            raise PermitLapsedError("the process was stopped for so long that its permission to send had lapsed")
        self.begun = self.begun or not _is_lost(writer)
        await writer.write(piece)

    async def _next_piece(self, pieces: Iterator[bytes]) -> bytes:
        return await anyio.to_thread.run_sync(self._read, pieces, limiter=self._limiter)

    def _read(self, pieces: Iterator[bytes]) -> bytes:
        piece = next(pieces, b"")
        if self._is_let_go:
            _close(pieces)
        return piece

    def let_go(self) -> None:
        """Closes the images, and hangs up. If aiohttp gave up while a thread reads an image, that thread closes it."""
        self._is_let_go = True
        if self._transport is not None:
            self._transport.abort()  # a connection of a caller's session, too: see ``lenient``
        for _, pieces in self._opened:
            _close(pieces)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Not supported: the body is never held whole."""
        raise TypeError("a body is sent in pieces and never held whole: read its pieces instead")


def _is_lost(writer: AbstractStreamWriter) -> bool:
    """Whether the connection is gone: then aiohttp's writer raises, and passes nothing on."""
    return isinstance(writer, StreamWriter) and (writer.transport is None or writer.transport.is_closing())


def _close(pieces: Iterator[bytes]) -> None:
    if isinstance(pieces, Generator):
        with contextlib.suppress(ValueError):  # "generator already executing", in the other thread
            pieces.close()


@attrs.define(eq=False)
class Http:
    """A ``Transport`` over aiohttp. It sends the key only in the head of requests to its one origin."""

    _origin: str
    _api_key: str = attrs.field(repr=False)
    _session: aiohttp.ClientSession
    _owns_session: bool
    tls: ResumingContext | None = None
    """What certificates are checked with, unless the session is the caller's."""
    _limiter: CapacityLimiter = attrs.field(factory=lambda: CapacityLimiter(READING_THREADS), init=False)
    _pid: int = attrs.field(factory=os.getpid, init=False)  # a forked child has a copy of all that waits to be sent
    _url: URL = attrs.field(init=False)
    _headers: Mapping[str, str] = attrs.field(init=False, repr=False)
    """What every request says, unless the session is ours: then that says it."""
    _manners: _Manners = attrs.field(init=False)
    """The same of how it is sent and read."""

    def __attrs_post_init__(self) -> None:
        self._url = URL(self._origin)
        self._headers, self._manners = ({}, {}) if self._owns_session else (_headers(self._api_key), _MANNERS)

    @classmethod
    def open(
        cls, settings: Settings, session: aiohttp.ClientSession | None, tls: ResumingContext | None = None
    ) -> Http:
        """A transport to the service of ``settings``, over the caller's ``session`` or over a new one with ``tls``.

        Raises ``ConfigError`` for a ``session`` of another loop, or a proxy in the environment that cannot be used.
        """
        if session is not None:
            check_loop(session)
            return cls(settings.base_url, settings.api_key, session, False)
        resolver = _LoopbackResolver() if settings.base_url.startswith("http:") else None
        own = aiohttp.ClientSession(
            headers=_headers(settings.api_key),
            proxy=proxy_for(settings.base_url),
            connector=lenient_connector(resolver, tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # would look for a proxy in a thread, for every request, and read .netrc
            **_MANNERS,
        )
        return cls(settings.base_url, settings.api_key, own, True, tls)

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """Sends ``request`` once, to this service's origin. A POST can be charged for. Cancelling tears the request."""
        if os.getpid() != self._pid:
            return unsent(FORKED, SessionClosedError(reason=FORKED))
        if self._session.closed:
            # A closed session stays closed, so the caller gets the error at once instead of a retry.
            return unsent(CLOSED, ConfigError(field="client_session", value=self._session, rule=CLOSED))
        is_alone = request.method == "POST" or request.is_alone
        body = _Body(request, self._limiter, self._pid) if is_alone else None  # its writing marks the connection
        try:
            if body is not None:
                await body.open()
            return await _within(timeout_s, self._exchange(request, body))
        except asyncio.CancelledError as cancellation:
            if body is not None and not body.begun:
                note_not_begun(cancellation)
            raise
        except Exception as error:  # aiohttp's, the system's, or those of a caller's own hooks, which raise ours, too
            is_begun, problem = (False, None) if body is None else (body.begun, body.problem)
            problem = error if isinstance(error, _OURS) and request.method == "POST" and not is_begun else problem
            if problem is not None:  # we cut it short ourselves: half a body is not accepted
                return unsent(str(problem), problem)
            return unknown(describe(error)) if is_begun else unsent(describe(error))
        finally:
            if body is not None:
                body.let_go()

    async def _exchange(self, request: Request, body: _Body | None) -> Answer:
        url = self._url_of(request.path)
        async with await self._session.request(  # without the await aiohttp wraps it once more
            request.method,
            url,
            data=body,
            headers=self._headers_of(request, is_alone=body is not None),
            allow_redirects=False,
            server_hostname=None if body is None else url.host,
            **self._manners,
        ) as response:
            content, cut = await _read(response)
            problem = cut or _strange_encoding(response.headers)
        if len(content) > MAX_ANSWER_BYTES:
            problem, content = f"an answer of more than {MAX_ANSWER_BYTES} bytes", b""
        read = functools.partial(decipher, response.status, response.headers, content, self._api_key)
        answer = read() if len(content) <= _LONG_ANSWER_BYTES else await anyio.to_thread.run_sync(read)
        # A body that cannot be read may refuse by its status, but never accept. One that can is as it was asked for,
        # and whole: an object that was cut is no JSON. So an acceptance counts though its connection ended badly.
        is_unread = answer.whole is None and answer.verdict is Verdict.UNKNOWN
        return attrs.evolve(answer, message=problem) if problem and is_unread else answer

    def _url_of(self, path: str) -> URL:
        if "?" in path:  # a path with a query, which the service may name for a task
            return URL(self._origin + path, encoded=True)
        return self._url.with_path(path, encoded=True)  # at a third of the price

    def _headers_of(self, request: Request, *, is_alone: bool) -> Mapping[str, str]:
        headers = {**self._headers, **request.headers}
        if is_alone:
            headers["Connection"] = "close"
        if request.method == "POST":
            headers["Content-Type"] = request.content_type
        return headers

    async def aclose(self) -> None:
        """Closes the aiohttp session if it was made here."""
        try:
            if self._owns_session:
                await self._session.close()
        finally:
            if self.tls is not None:
                self.tls.forget()


def _headers(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}", "Accept": "application/json", "Accept-Encoding": "identity"}


async def _within(timeout_s: float, exchange: Awaitable[T]) -> T:
    """Raises ``TimeoutError`` if the exchange takes longer, but only after a last look at the socket.

    If the process was stopped, or its loop was held up, the answer may lie in the socket when the time is over. The
    loop then finds both in one iteration, and a plain timer would throw the answer away.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.Timeout(None) as limit:
        time_is_over = loop.call_later(timeout_s, lambda: limit.reschedule(loop.time() + LAST_LOOK_S))
        try:
            return await exchange
        finally:
            time_is_over.cancel()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for ``url`` (``HTTPS_PROXY``, ``NO_PROXY`` and their like).

    Raises ``ConfigError``, naming the variable, for one that aiohttp cannot use: it would fail at every request.
    """
    parts = urlsplit(url)
    if is_this_machine(parts.hostname or "") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = getproxies().get(parts.scheme)
    if proxy is not None and not is_http_url(proxy):
        rule = "must be http://host:port or https://host:port, the proxies that aiohttp can use; unset it to go without"
        raise ConfigError(field=_variable_of(parts.scheme, proxy), value=_without_credentials(proxy), rule=rule)
    return proxy


def _variable_of(scheme: str, proxy: str) -> str:
    """The environment variable that names ``proxy``."""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    return next((name for name in names if os.environ.get(name) == proxy), names[1])


def _without_credentials(proxy: str) -> str:
    scheme, mark, rest = proxy.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


@attrs.define(eq=False)
class _LoopbackResolver(AbstractResolver):
    """Resolves ``localhost`` to this machine, without DNS or the hosts file: over http the key goes nowhere else."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Both loopback addresses, or the one of ``family``."""
        if not is_this_machine(host):
            raise OSError(None, f"{host} is not this machine")
        both = (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for address, kind in both
            if family in (kind, socket.AF_UNSPEC)
        ]

    async def close(self) -> None:
        """Holds nothing."""


def _strange_encoding(headers: Mapping[str, str]) -> str | None:
    """What is wrong with an answer that says it is encoded, although ``identity`` was asked for."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return None
    return f"an answer in {shown(encoding)}, although it was asked for as it is: see whether a proxy does that"


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, str | None]:
    """The body, or some more than an answer may have; of one that was cut what came, and why that may be too little."""
    answer = bytearray()
    try:
        while not response.content.at_eof():
            async with asyncio.timeout(END_TIMEOUT_S) if _is_whole(answer) else contextlib.nullcontext():
                answer += await response.content.readany()
            if len(answer) > MAX_ANSWER_BYTES:
                response.close()
                break
    except (aiohttp.ClientError, OSError) as error:
        return bytes(answer), describe(error) if response.ok else None  # any other status alone tells enough
    return bytes(answer), None


def _is_whole(answer: bytearray) -> bool:
    """Whether the JSON of an answer is there to its end: more may never come, where its length is wrong."""
    with contextlib.suppress(ValueError, RecursionError):
        return len(answer) <= _LONG_ANSWER_BYTES and answer.rstrip().endswith(b"}") and bool(json.loads(answer))
    return False
