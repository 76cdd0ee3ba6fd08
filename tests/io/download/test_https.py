"""Videos over https: what only TLS can get wrong."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from hailuo_async._io.download.allowed_hosts import Reach
from hailuo_async._io.download.client import Downloads

from ...support.film_hosts import BODY, SECRET, Shelf, files, film_host, giving, refused
from ...support.https import ServerSide, connections, refused_certificates, serving, trusting
from ...support.leftovers import sockets
from ...support.service import settle
from .test_container import FILM

pytestmark = pytest.mark.anyio

HTTPS_ALONE = Reach(frozenset({"https"}), lambda address: True)


@asynccontextmanager
async def host(*answers: Callable[[ServerSide], Awaitable[None]]) -> AsyncIterator[str]:
    """A host that conducts itself on each connection as the next of ``answers`` says; gives the URL of a film there."""
    left = list(answers)

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        side = ServerSide(reader, writer, serving())
        await side.shake()
        await side.read(b"\r\n\r\n")
        await left.pop(0)(side)
        await writer.drain()

    async with connections(hear) as port:
        yield f"https://127.0.0.1:{port}/cat.mp4{SECRET}"


def sends(body: bytes, *, says_length: bool = False, notifies: bool = False) -> Callable[[ServerSide], Awaitable[None]]:
    """An answer with ``body``, whose end is the connection's."""

    async def send(side: ServerSide) -> None:
        length = f"Content-Length: {len(FILM)}\r\n" if says_length else ""
        side.writer.write(side.seal(f'HTTP/1.1 200 Told\r\nETag: "v1"\r\n{length}\r\n'.encode()))
        side.writer.write(side.seal(body) + (side.notify() if notifies else b""))

    return send


@pytest.mark.parametrize("notifies", [True, False])
@pytest.mark.parametrize("says_length", [True, False])
async def test_a_film_that_is_cut_is_asked_for_again_whether_or_not_tls_calls_that_its_end(
    says_length: bool, notifies: bool, downloads: Downloads, tmp_path: Path
) -> None:
    cut = sends(FILM[:-100], says_length=says_length, notifies=notifies)
    async with host(cut, sends(FILM, notifies=notifies)) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": FILM}


@refused_certificates
async def test_a_certificate_that_is_refused_ends_the_download_at_once_and_says_what_to_check(
    served: str, trusted: str, words: str, tmp_path: Path
) -> None:
    downloads = Downloads(allow_private_network=True, waits_s=(60.0,), tls=trusting(trusted))
    tried = 0

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        tried += 1
        await ServerSide(reader, writer, serving(certificate=served)).shake()

    async with connections(hear) as port, aclosing(downloads):
        reason = await refused(downloads, f"https://127.0.0.1:{port}/cat.mp4{SECRET}", tmp_path / "cat.mp4")
    assert reason.startswith(f"cannot connect to 127.0.0.1: its certificate is refused: {words}")
    assert tried == 1


async def test_a_redirect_leads_from_https_to_https_and_never_to_http(tmp_path: Path) -> None:
    downloads = Downloads(allow_private_network=False, reach=HTTPS_ALONE, tls=trusting())
    places = dict[str, str]()

    async def lead_on(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": places[request.query_string]})

    async with (
        aclosing(downloads),
        film_host(Shelf(), serving()) as secure,
        film_host(giving(body=b"in the clear")) as plain,
        film_host(lead_on, serving()) as url,
    ):
        places |= {"sig=secret": secure, "sig=secret&plain": plain}
        await downloads.fetch(url, tmp_path / "cat.mp4")
        reason = await refused(downloads, f"{url}&plain", tmp_path / "dog.mp4")
    assert reason == "the URL's scheme is 'http'; only https is allowed"
    assert await files(tmp_path) == {"cat.mp4": BODY}


@pytest.mark.skipif(sys.platform != "linux", reason="looks in /proc")
async def test_a_download_that_is_given_up_leaves_no_connection_though_the_host_never_ends_its_own(
    downloads: Downloads, tmp_path: Path
) -> None:
    async def stall(side: ServerSide) -> None:
        await sends(FILM[:-100], says_length=True)(side)
        stalled.set()
        await anyio.sleep_forever()

    stalled = anyio.Event()
    async with host(stall) as url:
        before = sockets()
        async with anyio.create_task_group() as group:
            group.start_soon(downloads.fetch, url, tmp_path / "cat.mp4")
            await stalled.wait()
            group.cancel_scope.cancel()
        await settle()
        assert len(sockets() - before) == 1  # the host's
