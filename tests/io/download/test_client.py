"""From a URL to a whole file, against hosts that cut, lie, change their minds and lead elsewhere."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import ipaddress
import random
import re
import resource
import socket
import threading
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import attrs
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from hailuo_async._io.download.allowed_hosts import Reach, is_public
from hailuo_async._io.download.client import Downloads
from hailuo_async.errors import DownloadError, SessionClosedError, TaskExpiredError

pytestmark = pytest.mark.anyio

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
async def film_host(answer: Answer) -> AsyncGenerator[str, None]:
    """``answer`` on a socket of this machine; gives the URL of a film there, with a secret in its query."""
    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/films/cat.mp4{SECRET}"
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


@pytest.fixture
async def downloads() -> AsyncGenerator[Downloads, None]:
    async with contextlib.aclosing(Downloads(allow_private_network=True, waits_s=(0.0, 0.0, 0.0))) as made:
        yield made


async def files(directory: Path) -> dict[str, bytes]:
    """All that lies in ``directory``."""
    return {path.name: await path.read_bytes() async for path in anyio.Path(directory).iterdir()}


async def refused(downloads: Downloads, url: str, target: Path, **options: Any) -> str:
    """Why the download fails; it says its path and task, and no secret, whoever prints it."""
    with pytest.raises(DownloadError) as caught:
        await downloads.fetch(url, target, task_id="task-1", **options)
    assert (caught.value.path, caught.value.task_id) == (str(target), "task-1")
    assert "secret" not in "".join(await anyio.to_thread.run_sync(traceback.format_exception, caught.value))
    return caught.value.reason


async def test_a_video_arrives_byte_for_byte_and_leaves_nothing_beside_it(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(Shelf()) as url:
        assert await downloads.fetch(url, tmp_path / "cat.mp4") == tmp_path / "cat.mp4"
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_the_host_is_told_nothing_but_what_is_wanted(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(dict(request.headers))
        if len(seen) < 3:
            return web.Response(status=302, headers={"Location": "b.mp4?sig=%2b", "Set-Cookie": "a=b"})
        assert request.raw_path == "/films/b.mp4?sig=%2b"
        return web.Response(body=BODY)

    async with contextlib.aclosing(Downloads(allow_private_network=True)) as downloads, film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert [set(headers) for headers in seen] == [{"Host", "Accept", "Accept-Encoding", "User-Agent"}] * 3
    assert {headers["Accept-Encoding"] for headers in seen} == {"identity"}


async def test_a_file_that_exists_is_refused_before_anything_is_asked_for(downloads: Downloads, tmp_path: Path) -> None:
    target = tmp_path / "cat.mp4"
    await anyio.Path(target).write_bytes(b"old")
    async with film_host(shelf := Shelf()) as url:
        assert await refused(downloads, url, target) == "cannot be written: File exists"
        assert shelf.asked == []
        assert await files(tmp_path) == {"cat.mp4": b"old"}
        await downloads.fetch(url, target, overwrite=True)
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_file_that_appears_meanwhile_is_not_overwritten(downloads: Downloads, tmp_path: Path) -> None:
    target = tmp_path / "cat.mp4"
    shelf = Shelf()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await anyio.Path(target).write_bytes(b"new")
        return await shelf(request)

    async with film_host(answer) as url:
        assert await refused(downloads, url, target) == "cannot be written: File exists"
    found = await files(tmp_path)
    assert (found["cat.mp4"], found["cat.mp4.part"]) == (b"new", BODY)


@pytest.mark.parametrize(
    ("target", "reason"),
    [("", "Is a directory"), ("none/cat.mp4", "No such file or directory"), ("x" * 256, "File name too long")],
)
async def test_where_nothing_can_be_written_nothing_is_asked_for(
    target: str, reason: str, downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(shelf := Shelf()) as url:
        assert await refused(downloads, url, tmp_path / target) == f"cannot be written: {reason}"
    assert shelf.asked == []
    assert await files(tmp_path) == {}


async def test_a_name_that_no_system_takes_is_a_download_error(downloads: Downloads, tmp_path: Path) -> None:
    reason = await refused(downloads, "https://x/", tmp_path / "a\0b")
    assert reason.startswith("cannot be written: ")
    assert "embedded null" in reason  # the rest of the words is each Python's own


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """As on a full disk: no file of this process grows beyond ``size``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_fits_on_a_full_disk_is_kept_to_go_on_with(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(shelf := Shelf()) as url:
        with files_end_at(600_000):
            assert await refused(downloads, url, tmp_path / "cat.mp4") == "cannot be written: File too large"
        assert (await files(tmp_path))["cat.mp4.part"] == BODY[:600_000]
        await downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-1")
    assert shelf.resumed_at() == [600_000]
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_cut_download_goes_on_where_it_was(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(shelf := Shelf(cuts=[900_000, 300_000])) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    first, second = shelf.resumed_at()
    assert 0 < first <= 900_000
    assert first <= second <= first + 300_000
    assert {condition for _, condition in shelf.asked[1:]} == {'"v1"'}
    assert await files(tmp_path) == {"cat.mp4": BODY}


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
async def test_without_a_strong_validator_a_cut_download_begins_anew(
    etag: str | None, downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(shelf := Shelf(etag=etag, cuts=[900_000])) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert shelf.asked == [(None, None), (None, None)]
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_host_without_ranges_sends_all_of_it_again(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(shelf := Shelf(ranges=False, cuts=[900_000])) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert shelf.resumed_at() != [0]
    assert await files(tmp_path) == {"cat.mp4": BODY}


@pytest.mark.parametrize("obeys_if_range", [True, False])
async def test_a_film_that_changes_between_two_tries_is_never_mixed(
    obeys_if_range: bool, downloads: Downloads, tmp_path: Path
) -> None:
    shelf = Shelf(cuts=[900_000], obeys_if_range=obeys_if_range)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if shelf.asked:
            shelf.body, shelf.etag = OTHER, '"v2"'
        return await shelf(request)

    async with film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": OTHER}


async def test_a_refused_range_begins_anew(downloads: Downloads, tmp_path: Path) -> None:
    shelf = Shelf(cuts=[900_000])

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if "Range" in request.headers:
            return web.Response(status=416)
        return await shelf(request)

    async with film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_later_download_goes_on_with_what_an_earlier_one_left(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(shelf := Shelf(cuts=[700_000, 10, 10, 10])) as url:
        reason = await refused(downloads, url, tmp_path / "cat.mp4")
        assert re.fullmatch(r"ClientPayloadError, at the last of 4 tries", reason)
        left = await files(tmp_path)
        assert sorted(left) == ["cat.mp4.part", "cat.mp4.part.json"]
        assert left["cat.mp4.part"] == BODY[: len(left["cat.mp4.part"])]
        await downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-1")
    assert shelf.resumed_at()[-1] == len(left["cat.mp4.part"]) > 0
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_download_of_another_task_does_not_go_on_with_it(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(shelf := Shelf(cuts=[700_000, 10, 10, 10])) as url:
        await refused(downloads, url, tmp_path / "cat.mp4")
        await downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-2")
    assert shelf.asked[-1] == (None, None)
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_body_that_always_ends_short_is_an_error_and_never_a_file(downloads: Downloads, tmp_path: Path) -> None:
    async with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 99) as url:
        assert await refused(downloads, url, tmp_path / "cat.mp4") == "ClientPayloadError, at the last of 4 tries"
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
        ({"body": b'{"code": 404}', "content_type": "application/json"}, "the server sent a page, not a video"),
        ({"body": b"\xef\xbb\xbf \n<!DocType html>"}, "the server sent a page, not a video"),
        ({"body": b'{ "code": 404}'}, "the server sent a page, not a video"),
        (
            {"body": gzip.compress(b"abc"), "headers": {"Content-Encoding": "gzip"}},
            "the server sent it compressed, although asked not to",
        ),
        ({"status": 206, "body": b"abc"}, "the server answered 206"),
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
        ({"status": 302, "headers": {"Location": "//[x/?sig=secret"}}, "what should be the video's URL is none"),
    ],
)
async def test_an_answer_without_a_video_is_refused_and_leaves_nothing(
    answer: dict[str, Any], reason: str, downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(giving(**answer)) as url:
        assert await refused(downloads, url, tmp_path / "cat.mp4") == reason
    assert await files(tmp_path) == {}


async def test_a_page_in_place_of_the_rest_does_not_cost_what_was_there(downloads: Downloads, tmp_path: Path) -> None:
    shelf = Shelf(cuts=[700_000])

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="log in", content_type="text/html") if shelf.asked else await shelf(request)

    async with film_host(answer) as url:
        assert "a page" in await refused(downloads, url, tmp_path / "cat.mp4")
    assert sorted(await files(tmp_path)) == ["cat.mp4.part", "cat.mp4.part.json"]


async def test_a_host_that_is_busy_for_a_moment_is_asked_again(downloads: Downloads, tmp_path: Path) -> None:
    shelf, statuses = Shelf(), [503, 429, 408]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=statuses.pop()) if statuses else await shelf(request)

    async with film_host(answer) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_where_nobody_listens_the_error_says_so(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(Shelf()) as url:
        pass
    reason = await refused(downloads, url, tmp_path / "cat.mp4")
    assert re.fullmatch(r"ClientConnectorError, Connect call failed \(.*\), at the last of 4 tries", reason)


async def test_a_host_name_that_cannot_be_is_not_asked_for_twice(downloads: Downloads, tmp_path: Path) -> None:
    reason = await refused(downloads, f"http://{'a' * 64}.example/{SECRET}", tmp_path / "a")
    assert reason in ("UnicodeError", "UnicodeEncodeError")  # from Python 3.13 on


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


async def test_a_new_url_of_the_same_film_goes_on_and_one_of_another_begins_anew(
    downloads: Downloads, tmp_path: Path
) -> None:
    for place, goes_on in (("cat.mp4", True), ("dog.mp4", False)):
        shelf = Shelf(cuts=[700_000])

        async def answer(request: web.BaseRequest, shelf: Shelf = shelf) -> web.StreamResponse:
            fresh = "fresh" in request.query_string or not shelf.asked
            return await shelf(request) if fresh else web.Response(status=403)

        async with film_host(answer) as url:

            async def refresh(new: str = f"{url.replace('cat.mp4', place)}&fresh") -> str:
                return new

            await downloads.fetch(url, tmp_path / place, refresh=refresh)
        assert (shelf.resumed_at()[0] > 0) == goes_on
    assert await files(tmp_path) == {"cat.mp4": BODY, "dog.mp4": BODY}


async def test_what_asking_for_a_new_url_raises_is_raised(downloads: Downloads, tmp_path: Path) -> None:
    async def refresh() -> str:
        raise TaskExpiredError(task_id="task-1")

    async with film_host(giving(status=404)) as url:
        with pytest.raises(TaskExpiredError):
            await downloads.fetch(url, tmp_path / "cat.mp4", refresh=refresh)
    assert await files(tmp_path) == {}


def _b64(algorithm: str, body: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()


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
    async with film_host(Shelf(headers={header: form.format(_b64(algorithm, BODY))}, cuts=[700_000])) as url:
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": BODY}
    async with film_host(shelf := Shelf(headers={header: form.format(_b64(algorithm, OTHER))})) as url:
        reason = await refused(downloads, url, tmp_path / "dog.mp4")
    assert reason == f"its {algorithm} is not the one that the server told"
    assert len(shelf.asked) == 1
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_checksum_told_before_a_cut_is_checked_by_the_download_that_goes_on(
    downloads: Downloads, tmp_path: Path
) -> None:
    shelf = Shelf(headers={"Content-MD5": _b64("md5", OTHER)}, cuts=[700_000, 10, 10, 10])
    async with film_host(shelf) as url:
        await refused(downloads, url, tmp_path / "cat.mp4")
        shelf.headers = {"Content-MD5": _b64("md5", b"of the rest")}
        assert "its md5 is not" in await refused(downloads, url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {}


async def test_more_than_max_bytes_is_refused_from_the_head_or_as_it_comes(
    downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(Shelf()) as url:
        reason = await refused(downloads, url, tmp_path / "cat.mp4", max_bytes=1_499_999)
        assert reason == "it has 1500000 bytes, more than 1499999"
        await downloads.fetch(url, tmp_path / "cat.mp4", max_bytes=1_500_000)

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"v1"'})
        await response.prepare(request)
        while True:
            await response.write(BODY)

    async with film_host(endless) as url:
        reason = await refused(downloads, url, tmp_path / "dog.mp4", max_bytes=3_000_000)
    assert reason == "it is larger than 3000000 bytes"
    assert await files(tmp_path) == {"cat.mp4": BODY}


@attrs.define
class Stalling:
    """Sends the first 700 000 bytes, then nothing until ``go_on`` is set, and says when it waits."""

    waits: anyio.Event = attrs.field(factory=anyio.Event)
    go_on: anyio.Event = attrs.field(factory=anyio.Event)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"v1"', "Content-Length": str(len(BODY))})
        await response.prepare(request)
        await response.write(BODY[:700_000])
        self.waits.set()
        await self.go_on.wait()
        await response.write(BODY[700_000:])
        return response


async def test_a_connection_that_brings_nothing_is_cut_and_gone_on_with(tmp_path: Path) -> None:
    shelf, stalling = Shelf(), Stalling()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await (shelf if "Range" in request.headers else stalling)(request)

    downloads = Downloads(allow_private_network=True, waits_s=(0.0,) * 9, stall_s=0.1)
    async with film_host(answer) as url, contextlib.aclosing(downloads):
        await downloads.fetch(url, tmp_path / "cat.mp4")
        stalling.go_on.set()
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_download_that_takes_too_long_is_an_error_and_a_later_one_is_not_barred_by_it(
    downloads: Downloads, tmp_path: Path
) -> None:
    stalling = Stalling()
    async with film_host(stalling) as url:
        assert await refused(downloads, url, tmp_path / "cat.mp4", timeout_s=0.2) == "not whole within 0.2 s"
        stalling.go_on.set()
        await downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-1")
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_cancelled_download_keeps_what_it_has_and_a_later_one_goes_on(
    downloads: Downloads, tmp_path: Path
) -> None:
    stalling, shelf = Stalling(), Shelf()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await (shelf if "Range" in request.headers else stalling)(request)

    async with film_host(answer) as url:
        task = asyncio.ensure_future(downloads.fetch(url, tmp_path / "cat.mp4"))
        await stalling.waits.wait()
        while not (await anyio.Path(tmp_path / "cat.mp4.part").stat()).st_size:
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = await files(tmp_path)
        assert sorted(left) == ["cat.mp4.part", "cat.mp4.part.json"]
        stalling.go_on.set()
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert shelf.asked == [(f"bytes={len(left['cat.mp4.part'])}-", '"v1"')]
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_cancelling_a_download_that_has_hardly_begun_does_not_cost_what_was_there(
    downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(Shelf(cuts=[700_000, 10, 10, 10])) as url:
        await refused(downloads, url, tmp_path / "cat.mp4")
        left = await files(tmp_path)
        task = asyncio.ensure_future(downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-1"))
        await anyio.lowlevel.checkpoint()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await files(tmp_path) == left


@pytest.mark.parametrize("times", [1, 2])
async def test_a_thread_is_waited_for_however_often_its_download_is_cancelled(times: int, downloads: Downloads) -> None:
    began, may_end, ended = anyio.Event(), threading.Event(), threading.Event()

    def work() -> None:
        anyio.from_thread.run_sync(began.set)
        may_end.wait()
        ended.set()
        raise OSError("nobody hears it")

    task = asyncio.ensure_future(downloads._in_thread(work))
    await began.wait()
    for _ in range(times):
        task.cancel()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_of_two_downloads_to_one_file_the_second_is_refused(downloads: Downloads, tmp_path: Path) -> None:
    stalling = Stalling()
    other = Downloads(allow_private_network=True)
    async with film_host(stalling) as url, contextlib.aclosing(other), anyio.create_task_group() as group:
        group.start_soon(downloads.fetch, url, tmp_path / "cat.mp4")
        await stalling.waits.wait()
        assert await refused(downloads, url, tmp_path / "cat.mp4") == "another download writes it"
        assert await refused(other, url, tmp_path / "cat.mp4", overwrite=True) == "another download writes it"
        stalling.go_on.set()
    assert await files(tmp_path) == {"cat.mp4": BODY}


@pytest.mark.slow
async def test_twenty_downloads_at_once_are_all_whole_though_a_fifth_is_cut(
    downloads: Downloads, tmp_path: Path
) -> None:
    bodies = {f"/{index}.mp4": random.Random(index).randbytes(1_000_000 + index) for index in range(20)}
    shelves = {path: Shelf(body, f'"{path}"') for path, body in bodies.items()}
    for index in range(0, 20, 5):
        shelves[f"/{index}.mp4"].cuts = [600_000 + index]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await shelves[request.path](request)

    async with film_host(answer) as url, anyio.create_task_group() as group:
        for path in bodies:
            group.start_soon(downloads.fetch, url.replace("/films/cat.mp4", path), tmp_path / path[1:])
    assert await files(tmp_path) == {path[1:]: body for path, body in bodies.items()}
    assert {path for path, shelf in shelves.items() if len(shelf.asked) == 2} == {f"/{i}.mp4" for i in (0, 5, 10, 15)}


def this_host_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return is_public(address) or str(address) == "127.0.0.1"


NEARLY_PUBLIC = Reach(frozenset({"http"}), this_host_is_public)


@attrs.define(eq=False)
class Rebinding(AbstractResolver):
    """Each time another address for the same name."""

    addresses: list[str]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://x.example/", "the URL's scheme is 'http'; only https is allowed"),
        ("https://127.0.0.1:1/", "127.0.0.1 is not a public address (see allow_private_network)"),
        (
            "https://localhost:1/",
            "localhost is at 127.0.0.1, which is not a public address (see allow_private_network)",
        ),
    ],
)
async def test_by_default_only_https_to_public_addresses_is_asked_for(url: str, reason: str, tmp_path: Path) -> None:
    downloads = Downloads(allow_private_network=False, make_resolver=lambda: Rebinding(["127.0.0.1"]))
    async with contextlib.aclosing(downloads):
        assert await refused(downloads, url + SECRET, tmp_path / "cat.mp4") == reason


@pytest.mark.parametrize(
    "place", ["127.0.0.2", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "a.example"]
)
async def test_a_redirect_to_a_private_address_is_refused(place: str, tmp_path: Path) -> None:
    shelf, locations = Shelf(), [f"http://{place}/cat.mp4", "/here"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if locations:
            return web.Response(status=307, headers={"Location": locations.pop()})
        return await shelf(request)

    downloads = Downloads(
        allow_private_network=False, reach=NEARLY_PUBLIC, make_resolver=lambda: Rebinding(["192.168.1.1"])
    )
    async with film_host(answer) as url, contextlib.aclosing(downloads):
        assert "is not a public address" in await refused(downloads, url, tmp_path / "cat.mp4")
        await downloads.fetch(url, tmp_path / "cat.mp4")
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_a_name_that_is_public_at_first_and_private_when_connected_to_again_is_refused(tmp_path: Path) -> None:
    async with film_host(shelf := Shelf(cuts=[700_000])) as url:
        downloads = Downloads(
            allow_private_network=False,
            reach=NEARLY_PUBLIC,
            make_resolver=lambda: Rebinding(["127.0.0.1", "127.0.0.2"]),
            waits_s=(0.0,),
        )
        async with contextlib.aclosing(downloads):
            reason = await refused(downloads, url.replace("127.0.0.1", "x.example"), tmp_path / "cat.mp4")
    assert reason == "x.example is at 127.0.0.2, which is not a public address (see allow_private_network)"
    assert len(shelf.asked) == 1


async def test_through_a_proxy_the_proxy_is_asked_and_the_url_is_still_checked(tmp_path: Path) -> None:
    shelf, asked = Shelf(), list[str]()

    async def proxy(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.raw_path)
        return await shelf(request)

    async with film_host(proxy) as url:
        downloads = Downloads(allow_private_network=False, proxy=url.partition("/films")[0], reach=NEARLY_PUBLIC)
        async with contextlib.aclosing(downloads):
            await downloads.fetch("http://x.example/cat.mp4?sig=1", tmp_path / "cat.mp4")
            assert "10.0.0.1 is not" in await refused(downloads, "http://10.0.0.1/", tmp_path / "dog.mp4")
    assert asked == ["http://x.example/cat.mp4?sig=1"]
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def read(stream: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> bytes:
    async with stream as pieces:
        return b"".join([piece async for piece in pieces])


async def test_a_stream_passes_all_bytes_on_and_goes_on_after_a_cut(downloads: Downloads) -> None:
    shelf = Shelf(headers={"Content-MD5": _b64("md5", BODY)}, cuts=[900_000])
    async with film_host(shelf) as url:
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
        (Shelf(headers={"Content-MD5": _b64("md5", OTHER)}), "its md5 is not the one that the server told"),
        (Shelf(cuts=[900_000, 10, 10, 10]), "ClientPayloadError, at the last of 4 tries"),
    ],
)
async def test_a_stream_that_is_no_video_after_all_ends_with_an_error(
    shelf: Shelf, reason: str, downloads: Downloads
) -> None:
    async with film_host(shelf) as url:
        with pytest.raises(DownloadError) as caught:
            await read(downloads.stream(url))
    assert caught.value.reason == reason


async def test_a_stream_can_be_left_at_any_piece(downloads: Downloads) -> None:
    stalling = Stalling()
    async with film_host(stalling) as url:
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
            async with downloads.stream(url, refresh=refresh, max_bytes=9):
                pytest.fail("there is too much to read")


async def test_after_closing_nothing_is_asked_for(downloads: Downloads, tmp_path: Path) -> None:
    await downloads.aclose()
    with pytest.raises(SessionClosedError):
        await downloads.fetch("https://x.example/", tmp_path / "cat.mp4")
    assert await files(tmp_path) == {}


def test_a_proxys_password_does_not_show() -> None:
    assert "word" not in repr(Downloads(allow_private_network=False, proxy="http://user:word@proxy/"))
