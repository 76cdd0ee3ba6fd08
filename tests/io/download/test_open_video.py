"""A finished video passed on in pieces, without a file: ``AsyncSession.open_video``."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hailuo_async import (
    AsyncSession,
    ConfigError,
    DownloadError,
    HailuoError,
    Resource,
    SessionClosedError,
    TaskExpiredError,
    Video,
)
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.emulator import Emulator, Fault, FaultRates, Faults, Kind

from ...support.leftovers import sockets
from ...support.rawserver import Exchange, raw_server
from ...support.service import Line, emulated, job, refusal, told, until

SIZE = 1_000_000
PIECE = 2**18


@contextlib.asynccontextmanager
async def filmed(**settings: Any) -> AsyncIterator[tuple[Emulator, AsyncSession, Video]]:
    """A video of ``SIZE`` bytes that is ready to be fetched."""
    async with emulated(**({"video_size": SIZE} | settings)) as (emulator, session):
        yield emulator, session, await session.generate(job())


async def whole(session: AsyncSession, video: Video) -> bytes:
    async with session.open_video(video) as pieces:
        return b"".join([piece async for piece in pieces])


def at(url: str) -> Video:
    return Video("task-1", None, (Resource(url, type="video"),))


async def error_of(session: AsyncSession, video: Video) -> HailuoError:
    """Why there is not even a first piece."""
    with pytest.raises(HailuoError) as caught:
        async with session.open_video(video):
            pytest.fail("it was opened")
    return caught.value


# --- What comes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 700_001, SIZE - 1])
async def test_a_video_is_passed_on_from_any_byte_on_and_says_how_large_all_of_it_is(start: int) -> None:
    async with filmed() as (_, session, video):
        film = await whole(session, video)
        async with session.open_video(video, start=start) as pieces:
            size, rest = pieces.size, b"".join([piece async for piece in pieces])
        assert (size, rest) == (SIZE, film[start:])


async def test_a_server_that_knows_no_ranges_is_read_past_what_is_left_out() -> None:
    film = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 3000

    async def all_of_it(exchange: Exchange) -> None:
        await exchange.reply(200, film, {"Content-Type": "video/mp4"})

    async with (
        raw_server(all_of_it) as server,
        Line().session() as session,
        session.open_video(at(f"{server.url}/film.mp4"), start=500_000) as pieces,
    ):
        assert (pieces.size, b"".join([piece async for piece in pieces])) == (len(film), film[500_000:])


async def test_the_pieces_are_those_of_the_file_in_order_and_none_is_large(tmp_path: Path) -> None:
    async with filmed() as (emulator, session, video):
        async with session.open_video(video) as opened:
            pieces = [piece async for piece in opened]
        path = await session.download(video, tmp_path / "cat.mp4")
        assert emulator.ledger.keys_leaked == 0
    assert b"".join(pieces) == path.read_bytes()
    assert (len(path.read_bytes()), {type(piece) for piece in pieces}) == (SIZE, {bytes})
    assert max(map(len, pieces)) < 2 * PIECE


@pytest.mark.slow
async def test_a_video_of_any_size_takes_the_memory_of_a_few_pieces_however_slow_its_reader() -> None:
    async with filmed(video_size=40 * PIECE) as (_, session, video):
        tracemalloc.start()
        try:
            async with session.open_video(video) as pieces:
                async for piece in pieces:
                    assert piece
                    del piece
                    await asyncio.sleep(0.005)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 12 * PIECE  # those of the emulator too


async def test_a_cut_is_gone_on_from_and_the_reader_does_not_see_it() -> None:
    async with filmed(faults=Faults(download=FaultRates(truncated=0.4, cut=0.2))) as (emulator, session, video):
        films = {await whole(session, video) for _ in range(4)}
        assert [len(film) for film in films] == [SIZE]
        assert emulator.ledger.faults[Kind.DOWNLOAD, Fault.TRUNCATED]


@pytest.mark.slow
async def test_an_expired_url_is_asked_for_anew_also_in_the_middle() -> None:
    async with filmed(url_lasts_s=60.0, video_size=20_000_000) as (emulator, session, video):
        emulator.clock_offset_s = 100
        queries = emulator.ledger.requests[Kind.QUERY]
        assert len(await whole(session, video)) == 20_000_000
        assert emulator.ledger.requests[Kind.QUERY] == queries + 1

        fresh = await (await session.attach(video.task_id))
        emulator.next_fault(Kind.DOWNLOAD, Fault.TRUNCATED)
        async with session.open_video(fresh) as pieces:
            emulator.clock_offset_s = 200
            assert sum([len(piece) async for piece in pieces]) == 20_000_000


async def test_a_video_whose_url_is_not_at_hand_is_asked_for() -> None:
    async with filmed() as (_, session, video):
        bare = Video(video.task_id, video.model, (Resource("", type="video"),))
        assert len(await whole(session, bare)) == SIZE


async def test_many_may_read_one_video_at_once() -> None:
    async with filmed() as (_, session, video):
        films = await asyncio.gather(*(whole(session, video) for _ in range(10)))
    assert ({*map(len, films)}, len(set(films))) == ({SIZE}, 1)


# --- What does not ----------------------------------------------------------------------------------------------------


async def test_what_keeps_it_from_coming_is_known_before_the_first_piece() -> None:
    async with filmed() as (emulator, session, video):
        emulator.clock_offset_s = 8 * 24 * 3600
        error = await error_of(session, video)
        assert (type(error), error.task_id) == (TaskExpiredError, video.task_id)
    async with Line().session() as session:
        error = await error_of(session, at("ftp://127.0.0.1/x.mp4?sig=secret"))
        assert (type(error), error.task_id) == (DownloadError, "task-1")
        assert "secret" not in str(error)


async def test_a_video_that_is_larger_than_allowed_is_not_begun() -> None:
    async with filmed() as (_, session, video):
        with pytest.raises(DownloadError) as caught:
            async with session.open_video(video, max_bytes=SIZE - 1):
                pytest.fail("it was opened")
        assert caught.value.task_id == video.task_id
        assert "sig" not in str(caught.value)
        for max_bytes in (0, -1, 1.5, True):
            with pytest.raises(ConfigError):
                session.open_video(video, max_bytes=max_bytes)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [SIZE, SIZE + 1, 10 * SIZE])
async def test_behind_the_end_of_a_video_there_is_nothing_to_pass_on(start: int) -> None:
    async with filmed() as (_, session, video):
        with pytest.raises(DownloadError, match=f"it ends before byte {start}") as caught:
            async with session.open_video(video, start=start):
                pytest.fail("it was opened")
        assert caught.value.task_id == video.task_id
        for wrong in (-1, 1.5, True, "0"):
            with pytest.raises(ConfigError, match="start"):
                session.open_video(video, start=wrong)  # type: ignore[arg-type]


async def test_what_breaks_off_for_good_is_an_error_behind_the_pieces_that_came() -> None:
    async def break_off(exchange: Exchange) -> None:
        if len(server.seen) > 1:
            await exchange.reply(404, b"gone")
            return
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(PIECE))
        exchange.cut()

    async def forget(request: Request) -> Answer:
        return told(404, refusal(404, "Resource not found: no such task"))

    async with (
        raw_server(break_off) as server,
        Line(on_query=forget).session() as session,
        session.open_video(at(f"{server.url}/x.mp4?sig=secret")) as pieces,
    ):
        assert len(await anext(pieces)) == PIECE
        with pytest.raises(TaskExpiredError) as caught:
            await anext(pieces)
    assert caught.value.task_id == "task-1"
    assert "secret" not in str(caught.value)


# --- Left and closed --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["left", "raised", "cancelled"])
async def test_a_reader_who_leaves_in_the_middle_closes_the_connection_and_nothing_else(how: str) -> None:
    async with filmed(video_size=20_000_000) as (_, session, video):
        before = sockets()

        async def read() -> None:
            async with session.open_video(video) as pieces:
                await anext(pieces)
                assert sockets() > before
                if how == "raised":
                    raise LookupError
                if how == "cancelled":
                    reading.cancel()
                    await anext(pieces)

        for _ in range(3):
            reading = asyncio.create_task(read())
            await asyncio.wait([reading])
            assert reading.cancelled() or isinstance(reading.exception(), LookupError | None)
            await until(lambda: sockets() <= before)
        assert len(await whole(session, video)) == 20_000_000
        await session.generate(job())


@pytest.mark.parametrize("is_waiting", [True, False])
async def test_a_session_that_closes_ends_what_is_passed_on_with_an_error(is_waiting: bool) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(PIECE))
        await anyio.sleep_forever()

    async with (
        raw_server(stall) as server,
        Line().session() as session,
        session.open_video(at(server.url)) as pieces,
        anyio.create_task_group() as tasks,
    ):
        assert len(await anext(pieces)) == PIECE
        if is_waiting:
            tasks.start_soon(session.aclose)
        else:
            await session.aclose()
        with anyio.fail_after(60), pytest.raises(SessionClosedError) as caught:
            await anext(pieces)
        assert caught.value.task_id == "task-1"


def test_a_session_that_is_not_open_or_belongs_to_another_loop_opens_nothing() -> None:
    video = at("http://127.0.0.1:9/x.mp4")
    session = Line().session()

    async def fails() -> str:
        with pytest.raises(SessionClosedError) as caught:
            session.open_video(video)
        return str(caught.value)

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert "not open" in first.run(fails())
        first.run(session.__aenter__())
        assert "another event loop" in second.run(fails())
        first.run(session.aclose())


@pytest.mark.slow
async def test_a_hundred_slow_readers_do_not_hold_up_the_next() -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(2**18))
        await anyio.sleep_forever()

    async with raw_server(stall) as server, Line().session() as session, contextlib.AsyncExitStack() as stack:
        for _ in range(101):
            with anyio.fail_after(60):
                await stack.enter_async_context(session.open_video(at(server.url)))
