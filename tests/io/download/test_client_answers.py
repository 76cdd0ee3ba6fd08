"""Answers of every kind to a download: which bring a film, which are asked for again, and which are refused."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hailuo_async._io.download.client import Downloads
from hailuo_async._io.download.values import Limits
from hailuo_async.errors import SessionClosedError, TaskExpiredError

from ...support.film_hosts import BODY, OTHER, SECRET, Shelf, base64_of, files, film_host, giving, refused, saying

pytestmark = pytest.mark.anyio


async def test_a_body_that_always_ends_short_is_an_error_and_never_a_file(downloads: Downloads, tmp_path: Path) -> None:
    async with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 99) as url:
        assert await refused(downloads, url, tmp_path / "cat.mp4") == "the connection was cut, at the last of 4 tries"
    async with saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n") as url:
        assert "at the last of 4 tries" in await refused(downloads, url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {}


async def test_a_body_whose_end_nothing_tells_is_refused_unless_a_checksum_does(
    downloads: Downloads, tmp_path: Path
) -> None:
    async with saying(b"HTTP/1.0 200 OK\r\n\r\nabc") as url:
        assert "would look like its end" in await refused(downloads, url, tmp_path / "cat.mp4")
    told = b"Content-MD5: " + base64.b64encode(hashlib.md5(b"abc").digest())
    async with saying(b"HTTP/1.0 200 OK\r\n" + told + b"\r\n\r\nabc") as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": b"abc"}


async def test_a_chunked_body_is_whole_when_its_last_chunk_came(downloads: Downloads, tmp_path: Path) -> None:
    async with saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n") as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": b"abc"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"body": b""}, "the server sent nothing"),
        ({"text": "<p>", "content_type": "text/html"}, "the server sent a page, not a video"),
        ({"text": "Not found"}, "the server sent a page, not a video"),
        ({"body": b'{"code": 404}', "content_type": "application/json"}, "the server sent a page, not a video"),
        ({"body": b"\xef\xbb\xbf \n<!DocType html>"}, "the server sent a page, not a video"),
        ({"body": b'{ "code": 404}'}, "the server sent a page, not a video"),
        ({"status": 206, "body": b"abc"}, "the server answered 206, with a part that was not asked for"),
        ({"status": 204}, "the server answered 204"),
        ({"status": 302}, "the server answered 302"),
        ({"status": 400}, "the server answered 400"),
        ({"status": 403}, "the server answered 403: the URL is not valid, or no longer"),
        ({"status": 503}, "the server answered 503, at the last of 4 tries"),
        ({"status": 302, "headers": {"Location": "/again"}}, "more than 5 redirects"),
        (
            {"status": 302, "headers": {"Location": "ftp://x/"}},
            "the URL's scheme is 'ftp'; only http or https is allowed",
        ),
        ({"status": 302, "headers": {"Location": "//[x/?sig=secret"}}, "the video's URL is not valid"),
    ],
)
async def test_an_answer_without_a_video_is_refused_and_leaves_nothing(
    answer: dict[str, Any], reason: str, downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(giving(**answer)) as url:
        assert await refused(downloads, url, tmp_path / "cat.mp4") == reason
    assert await files(tmp_path) == {}


async def test_a_host_that_is_busy_for_a_moment_is_asked_again(downloads: Downloads, tmp_path: Path) -> None:
    shelf, statuses = Shelf(), [503, 429, 408]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=statuses.pop()) if statuses else await shelf(request)

    async with film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": BODY}


@pytest.mark.slow
async def test_a_file_waits_as_long_as_its_host_asks(downloads: Downloads, tmp_path: Path) -> None:
    shelf, asked_at = Shelf(), list[float]()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked_at.append(asyncio.get_running_loop().time())
        return await shelf(request) if len(asked_at) > 1 else web.Response(status=503, headers={"Retry-After": "1"})

    async with film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert asked_at[1] - asked_at[0] >= 1.0


async def test_a_host_that_asks_for_too_long_is_tried_as_usual(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(giving(status=503, headers={"Retry-After": "3600"})) as url:
        reason = await asyncio.wait_for(refused(downloads, url, tmp_path / "cat.mp4"), 60)
    assert reason == "the server answered 503, at the last of 4 tries"


async def test_a_file_that_waits_for_its_host_ends_when_the_downloads_close(
    downloads: Downloads, tmp_path: Path
) -> None:
    is_asked = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        is_asked.set()
        return web.Response(status=503, headers={"Retry-After": "60"})

    async with film_host(answer) as url:
        fetching = asyncio.ensure_future(downloads.fetch(url, tmp_path / "cat.mp4"))
        await is_asked.wait()
        await downloads.aclose()
        with pytest.raises(SessionClosedError):
            await asyncio.wait_for(fetching, 30)


@pytest.mark.slow
async def test_a_reader_waits_two_seconds_in_all_for_its_host(downloads: Downloads) -> None:
    shelf, asked_at = Shelf(), list[float]()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked_at.append(asyncio.get_running_loop().time())
        return await shelf(request) if len(asked_at) > 2 else web.Response(status=503, headers={"Retry-After": "2"})

    async with film_host(answer) as url, downloads.stream(url) as pieces:
        assert b"".join([piece async for piece in pieces]) == BODY
    first, second, third = asked_at
    assert second - first >= 2.0 > third - second


async def test_where_nobody_listens_the_error_says_so(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(Shelf()) as url:
        pass
    reason = await refused(downloads, url, tmp_path / "cat.mp4")
    assert re.fullmatch(r"cannot connect to 127.0.0.1: Connect call failed \(.*\), at the last of 4 tries", reason)


async def test_a_host_name_that_cannot_be_is_not_asked_for_twice(downloads: Downloads, tmp_path: Path) -> None:
    reason = await refused(downloads, f"http://{'a' * 64}.example/{SECRET}", tmp_path / "a")
    assert reason == "the host name in the URL is not valid"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_url_is_asked_for_anew_once(status: int, downloads: Downloads, tmp_path: Path) -> None:
    shelf = Shelf()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await shelf(request) if "fresh" in request.query_string else web.Response(status=status)

    async with film_host(answer) as url:

        async def refresh() -> str:
            return f"{url}&fresh"

        await downloads.fetch(url, tmp_path / "cat.mp4", refresh=refresh)
        assert await files(tmp_path) == {"cat.mp4": BODY}

        async def stale() -> str:
            return url

        reason = await refused(downloads, url, tmp_path / "dog.mp4", refresh=stale)
    assert reason == f"the server answered {status}: the URL is not valid, or no longer"


async def test_what_asking_for_a_new_url_raises_is_raised(downloads: Downloads, tmp_path: Path) -> None:
    async def refresh() -> str:
        raise TaskExpiredError(task_id="task-1")

    async with film_host(giving(status=404)) as url:
        with pytest.raises(TaskExpiredError):
            await downloads.fetch(url, tmp_path / "cat.mp4", refresh=refresh)
    assert await files(tmp_path) == {}


@pytest.mark.parametrize(
    ("header", "form", "algorithm"),
    [
        ("Content-MD5", "{}", "md5"),
        ("x-amz-checksum-sha256", "{}", "sha256"),
        ("Digest", "unixsum=1, SHA-256={}", "sha256"),
        ("Digest", "md5={}", "md5"),
        ("Repr-Digest", "sha-512=:{}:", "sha512"),
    ],
)
async def test_a_checksum_that_is_given_is_checked_over_the_whole_file(
    header: str, form: str, algorithm: str, downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(Shelf(headers={header: form.format(base64_of(algorithm, BODY))}, cuts=[700_000])) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": BODY}
    async with film_host(shelf := Shelf(headers={header: form.format(base64_of(algorithm, OTHER))})) as url:
        reason = await refused(downloads, url, tmp_path / "dog.mp4")
    assert reason == f"its {algorithm} is not the one that the server named"
    assert len(shelf.asked) == 1
    assert await files(tmp_path) == {"cat.mp4": BODY}


# --- Unusual answers that bring a film all the same -------------------------------------------------------------------

FILM = b"\0\0\0\x18ftypmp42" * 1000
PACKED = gzip.compress(FILM, mtime=0)
LENGTH = b"Content-Length: 12000\r\n"


def body(head: bytes, content: bytes = FILM) -> bytes:
    return head + b"\r\n" + content


@pytest.mark.parametrize(
    "raw",
    [
        body(b"HTTP/1.0 200 OK\r\n"),
        body(b"HTTP/1.1 200 OK\r\nConnection: close\r\n"),
        body(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n" % len(PACKED), PACKED),
        body(b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n", PACKED),
        body(b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n", zlib.compress(FILM)),
        body(b"HTTP/1.1 203 Non-Authoritative Information\r\n" + LENGTH),
        body(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-11999/12000\r\n" + LENGTH),
        body(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-11999/*\r\n" + LENGTH),
        *(
            body(b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\n" % label + LENGTH)
            for label in (b"aws-chunked", b"identity", b"", b"gzip", b"br", b"video/mp4", b"\xff\xfe")
        ),
        body(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + LENGTH),
        body(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"2ee0\r\n" + FILM + b"\r\n0\r\n\r\n"),
    ],
)
async def test_a_film_is_had_from_an_unusual_answer(raw: bytes, downloads: Downloads, tmp_path: Path) -> None:
    async with saying(raw) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
        async with downloads.stream(url) as pieces:
            assert b"".join([piece async for piece in pieces]) == FILM
    assert await files(tmp_path) == {"cat.mp4": FILM}


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (
            body(b"HTTP/1.0 200 OK\r\n", b"\x1aE\xdf\xa3 webm"),
            "does not say how long it is, so a cut would look like its end",
        ),
        (body(b"HTTP/1.0 200 OK\r\n", FILM[:-1]), "the film in it is not whole"),
        (
            body(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n", b"\0\0\x10\0mdat" + bytes(2992)),
            "cut before the server sent it",
        ),
        (body(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n", b"\x0b\x02"), "encoded as 'br'"),
    ],
)
async def test_what_nothing_bears_out_is_refused_with_the_rule_and_the_option_that_allows_it(
    raw: bytes, rule: str, downloads: Downloads, tmp_path: Path
) -> None:
    async with saying(raw) as url:
        reason = await refused(downloads, url, tmp_path / "cat.mp4")
        assert rule in reason
        assert "allow_unchecked=True saves" in reason
        assert await files(tmp_path) == {}
        await downloads.fetch(url, tmp_path / "cat.mp4", Limits(allow_unchecked=True))
    assert await files(tmp_path) == {"cat.mp4": raw.partition(b"\r\n\r\n")[2]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PACKED[:-10], "the compressed answer ended before its end, at the last of 4 tries"),
        (PACKED[:-6] + b"wrong!", "what the server sent compressed is damaged, at the last of 4 tries"),
        (gzip.compress(bytes(100_000), mtime=0), "it is larger than 50000 bytes"),
        (gzip.compress(b"<!doctype html>", mtime=0), "the server sent a page, not a video"),
    ],
)
async def test_a_compressed_answer_is_checked_as_any_other(
    content: bytes, reason: str, downloads: Downloads, tmp_path: Path
) -> None:
    async with saying(body(b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n", content)) as url:
        assert await refused(downloads, url, tmp_path / "cat.mp4", Limits(max_bytes=50_000)) == reason
    assert await files(tmp_path) == {}


async def test_the_first_part_of_a_film_that_was_not_asked_for_is_gone_on_from(
    downloads: Downloads, tmp_path: Path
) -> None:
    asked = list[str | None]()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.headers.get("Range"))
        begin = 0 if asked[-1] is None else 5000
        part = FILM[begin : begin + 5000] if begin == 0 else FILM[begin:]
        place = f"bytes {begin}-{begin + len(part) - 1}/{len(FILM)}"
        return web.Response(status=206, body=part, headers={"Content-Range": place, "ETag": '"v1"'})

    async with film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert asked == [None, "bytes=5000-"]
    assert await files(tmp_path) == {"cat.mp4": FILM}


async def test_a_redirect_in_latin_1_leads_where_its_bytes_say(downloads: Downloads, tmp_path: Path) -> None:
    asked = list[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        redirect = b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9?a=%2b\r\nContent-Length: 0\r\n\r\n"
        writer.write(redirect if len(asked) == 1 else body(b"HTTP/1.1 200 OK\r\n" + LENGTH))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        await downloads.fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", tmp_path / "cat.mp4")
    assert asked[1].startswith(b"/caf%E9?a=")
    assert await files(tmp_path) == {"cat.mp4": FILM}
