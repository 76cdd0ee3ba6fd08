"""Downloads: a film arrives whole, where it belongs, or not at all."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from aiohttp import web

from hailuo_async._io.download.client import Downloads
from hailuo_async._io.download.values import Limits
from hailuo_async.errors import SessionClosedError

from ...support.film_hosts import BODY, Shelf, Stalling, files, film_host, refused
from ...support.full_disk import files_end_at

pytestmark = pytest.mark.anyio


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
        assert await refused(downloads, url, target) == "is there already: overwrite=True replaces it"
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
        assert await refused(downloads, url, target) == "is there already: overwrite=True replaces it"
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


@pytest.mark.parametrize(("name", "words"), [("a\0b", "embedded null"), ("a\ud800b", "surrogates not allowed")])
async def test_a_name_that_no_system_takes_is_a_download_error(
    name: str, words: str, downloads: Downloads, tmp_path: Path
) -> None:
    reason = await refused(downloads, "https://x/", tmp_path / name)
    assert reason.startswith("cannot be written: ")
    assert words in reason  # the rest of the words is each Python's own


async def test_what_fits_on_a_full_disk_is_kept_to_go_on_with(downloads: Downloads, tmp_path: Path) -> None:
    async with film_host(shelf := Shelf()) as url:
        with files_end_at(600_000):
            assert await refused(downloads, url, tmp_path / "cat.mp4") == "cannot be written: File too large"
        assert (await files(tmp_path))["cat.mp4.part"] == BODY[:600_000]
        await downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-1")
    assert shelf.resumed_at() == [600_000]
    assert await files(tmp_path) == {"cat.mp4": BODY}


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


async def test_more_than_max_bytes_is_refused_from_the_head_or_as_it_comes(
    downloads: Downloads, tmp_path: Path
) -> None:
    async with film_host(Shelf()) as url:
        reason = await refused(downloads, url, tmp_path / "cat.mp4", Limits(max_bytes=1_499_999))
        assert reason == "it has 1500000 bytes, more than 1499999"
        await downloads.fetch(url, tmp_path / "cat.mp4", Limits(max_bytes=1_500_000))

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"v1"'})
        await response.prepare(request)
        while True:
            await response.write(BODY)

    async with film_host(endless) as url:
        reason = await refused(downloads, url, tmp_path / "dog.mp4", Limits(max_bytes=3_000_000))
    assert reason == "it is larger than 3000000 bytes"
    assert await files(tmp_path) == {"cat.mp4": BODY}


async def test_after_closing_nothing_is_asked_for(downloads: Downloads, tmp_path: Path) -> None:
    await downloads.aclose()
    with pytest.raises(SessionClosedError):
        await downloads.fetch("https://x.example/", tmp_path / "cat.mp4")
    assert await files(tmp_path) == {}
