"""A film passed on in pieces."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
from aiohttp import web

from hailuo_async._io.download.client import Downloads
from hailuo_async._io.download.values import Limits
from hailuo_async.errors import DownloadError

from ...support.film_hosts import BODY, OTHER, Shelf, Stalling, base64_of, film_host, giving
from ...support.https import over_both

pytestmark = pytest.mark.anyio


async def read(stream: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> bytes:
    async with stream as pieces:
        return b"".join([piece async for piece in pieces])


@over_both
async def test_a_stream_passes_all_bytes_on_and_goes_on_after_a_cut(
    downloads: Downloads, tls: ssl.SSLContext | None
) -> None:
    shelf = Shelf(headers={"Content-MD5": base64_of("md5", BODY)}, cuts=[900_000])
    async with film_host(shelf, tls) as url:
        assert await read(downloads.stream(url)) == BODY
    assert shelf.resumed_at()[0] > 0


async def test_a_stream_without_a_video_fails_before_its_reader_has_begun(downloads: Downloads) -> None:
    async with film_host(giving(status=403)) as url:
        with pytest.raises(DownloadError) as caught:
            async with downloads.stream(url, task_id="task-1"):
                pytest.fail("there is nothing to read")
    assert str(caught.value) == "the server answered 403: the URL is not valid, or no longer (task task-1)"


@pytest.mark.parametrize(
    ("shelf", "reason"),
    [
        (Shelf(cuts=[900_000], etag=None), "the server cannot go on where it was cut"),
        (Shelf(headers={"Content-MD5": base64_of("md5", OTHER)}), "its md5 is not the one that the server named"),
        (Shelf(cuts=[900_000, 10, 10, 10]), "the connection was cut, at the last of 4 tries"),
    ],
)
async def test_a_stream_that_is_no_video_after_all_ends_with_an_error(
    shelf: Shelf, reason: str, downloads: Downloads
) -> None:
    async with film_host(shelf) as url:
        with pytest.raises(DownloadError) as caught:
            await read(downloads.stream(url))
    assert caught.value.reason == reason


@over_both
async def test_a_stream_can_be_left_at_any_piece(downloads: Downloads, tls: ssl.SSLContext | None) -> None:
    stalling = Stalling()
    async with film_host(stalling, tls) as url:
        async with downloads.stream(url) as pieces:
            assert BODY.startswith(await anext(pieces))
        stalling.go_on.set()


async def test_a_stream_may_use_a_fresh_url_and_has_a_limit(downloads: Downloads) -> None:
    shelf = Shelf()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await shelf(request) if "fresh" in request.query_string else web.Response(status=403)

    async with film_host(answer) as url:

        async def refresh() -> str:
            return f"{url}&fresh"

        with pytest.raises(DownloadError, match="1500000 bytes, more than 9"):
            async with downloads.stream(url, Limits(max_bytes=9), refresh=refresh):
                pytest.fail("there is too much to read")
