"""TLS for the stand-ins: a certificate, the two sides' contexts, and a server's side that a test holds in its hand."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import anyio
import attrs
import pytest
from aiohttp import web

from hailuo_async._io.tls import ResumingContext
from hailuo_async.emulator import Emulator

#: Certificates that no authority has signed: for this machine, for this machine and expired, for another one that is
#: called ``elsewhere.example``; and the key of all.
CERTIFICATE, EXPIRED, ELSEWHERE, KEY = (
    str(Path(__file__).with_name("tls") / f"{name}.pem") for name in ("certificate", "expired", "elsewhere", "key")
)
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def serving(version: ssl.TLSVersion = TLS_1_3, certificate: str = CERTIFICATE) -> ssl.SSLContext:
    """A server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, KEY)
    context.minimum_version = context.maximum_version = version
    return context


#: For a test that is to hold over both.
over_both = pytest.mark.parametrize("tls", [pytest.param(None, id="http"), pytest.param(serving(), id="https")])

#: For a test of what is said of a certificate that is not trusted: the server's, what the client trusts, and the words.
refused_certificates = pytest.mark.parametrize(
    ("served", "trusted", "words"),
    [
        (EXPIRED, EXPIRED, "certificate has expired; check the clock of this machine"),
        (
            CERTIFICATE,
            EXPIRED,
            "self-signed certificate; check the certificates that this machine trusts (SSL_CERT_FILE)",
        ),
        (ELSEWHERE, ELSEWHERE, "IP address mismatch, certificate is not valid for '127.0.0.1'; check the URL"),
    ],
    ids=["expired", "unknown", "another host's"],
)


def trusting(*certificates: str) -> ResumingContext:
    """A client's context that trusts only ``certificates``, or ``CERTIFICATE``."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context._newest = {}
    for certificate in certificates or (CERTIFICATE,):
        context.load_verify_locations(certificate)
    return context


def client_session() -> aiohttp.ClientSession:
    """A caller's own session, which trusts these stand-ins."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting()))


async def speak_https(emulator: Emulator) -> None:
    """Has a running emulator speak https as well, and name itself so in what it answers from now on."""
    await web.TCPSite(emulator._runner, "127.0.0.1", 0, ssl_context=serving()).start()
    emulator.service.origin = f"https://127.0.0.1:{emulator._runner.addresses[-1][1]}"


# --- Byte by byte -----------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class ServerSide:
    """A server's side of one connection. What is written to ``writer`` leaves as it is: ``seal`` encrypts."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    context: ssl.SSLContext
    _incoming: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO)
    _outgoing: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO)
    _tls: ssl.SSLObject = attrs.field(init=False)
    heard: bytes = attrs.field(default=b"", init=False)
    """What was read."""

    def __attrs_post_init__(self) -> None:
        self._tls = self.context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def flight(self) -> bytes:
        """Hears the client's hello, and gives what is to be said to it; with TLS 1.3 nothing more is needed."""
        self._incoming.write(await self.reader.read(2**16))
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    async def shake(self) -> None:
        """The whole handshake. Raises ``ssl.SSLError`` if it fails, and lets the client know."""
        while True:
            try:
                self._tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                pass
            finally:
                self.writer.write(self._outgoing.read())
            await self._hear()

    async def read(self, end: bytes) -> None:
        """Reads up to ``end``, and what came with it."""
        while end not in self.heard:
            try:
                data = self._tls.read(2**16)
                if not data:
                    raise ConnectionResetError
                self.heard += data
            except ssl.SSLWantReadError:
                await self._hear()

    def seal(self, data: bytes) -> bytes:
        """``data`` as one record."""
        self._tls.write(data)
        return self._outgoing.read()

    def notify(self) -> bytes:
        """``close_notify``: nothing more follows."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._outgoing.read()

    def cut(self) -> None:
        """Drops the connection."""
        self.writer.transport.abort()

    async def _hear(self) -> None:
        data = await self.reader.read(2**16)
        if not data:
            raise ConnectionResetError
        self._incoming.write(data)


@contextlib.asynccontextmanager
async def connections(
    hear: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A TCP server that leaves each connection to ``hear``, and ends it after that; gives its port."""
    open_ones = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):  # ssl.SSLError is an OSError
            await hear(reader, writer)
        writer.transport.abort()
        open_ones.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones)
        await server.wait_closed()
        await asyncio.sleep(0)  # then the sockets are closed


@contextlib.asynccontextmanager
async def cutting_relay(port: int, cut_after: Callable[[], int | None]) -> AsyncIterator[int]:
    """Passes each connection on to ``port``, and cuts it after so many bytes of both sides; gives its own port."""

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        left = cut_after()

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            nonlocal left
            with contextlib.suppress(OSError):
                while (data := await source.read(500)) and (left is None or left > 0):
                    left = None if left is None else left - len(data)
                    target.write(data)
            both.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as both:
                both.start_soon(pass_on, reader, back)
                both.start_soon(pass_on, there, writer)
        finally:
            back.transport.abort()

    async with connections(hear) as own:
        yield own
