"""Downloads that take too long, or are cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from aiohttp import web

from hailuo_async._io.download.client import Downloads
from hailuo_async._io.download.values import Limits

from ...support.film_hosts import BODY, Shelf, Stalling, files, film_host, refused
from ...support.https import over_both

pytestmark = pytest.mark.anyio


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
        assert await refused(downloads, url, tmp_path / "cat.mp4", Limits(timeout_s=0.2)) == "not whole within 0.2 s"
        stalling.go_on.set()
        await downloads.fetch(url, tmp_path / "cat.mp4", task_id="task-1")
    assert await files(tmp_path) == {"cat.mp4": BODY}


@over_both
async def test_a_cancelled_download_keeps_what_it_has_and_a_later_one_goes_on(
    downloads: Downloads, tmp_path: Path, tls: ssl.SSLContext | None
) -> None:
    stalling, shelf = Stalling(), Shelf()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await (shelf if "Range" in request.headers else stalling)(request)

    async with film_host(answer, tls) as url:
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
