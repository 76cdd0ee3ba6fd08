"""A stream that saves its videos, left or closed meanwhile: nothing is saved for nobody, and no video is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest

from hailuo_async import Failure, Outcome, SessionClosedError, Success
from hailuo_async._engine.stream import SAVERS
from hailuo_async._rules.wire import Answer, Request

from ..support.films import FILM, films, in_short, names_in, read
from ..support.service import asked_about, job, jobs, running, told, until
from ..support.streams import read_into


async def test_a_stream_that_is_left_saves_nothing_more(tmp_path: Path) -> None:
    async with films(slow=True) as host, host.line().session(max_running=8) as session:
        stream = session.stream(jobs(8), save_to=tmp_path)
        reading = asyncio.ensure_future(anext(stream))
        await until(lambda: session.stats().succeeded == 8 and len(host.under_way) == SAVERS)
        reading.cancel()
        await asyncio.wait([reading])
        host.may_go_on.set()
        await anyio.sleep(0.1)  # long enough for all of them
        assert len(host.asked) == SAVERS
    assert [name for name in names_in(tmp_path) if name.endswith(".mp4")] == []


async def test_tasks_that_end_after_their_stream_was_left_are_not_saved(tmp_path: Path) -> None:
    ended = anyio.Event()
    async with films() as host:
        line = host.line()
        finish = line.on_query
        assert finish is not None

        async def wait_for_end(request: Request) -> Answer:
            return await finish(request) if ended.is_set() else told(200, running(asked_about(request)))

        line.on_query = wait_for_end
        async with line.session(max_running=2) as session:
            stream = session.stream(jobs(2), save_to=tmp_path)
            reading = asyncio.ensure_future(anext(stream))
            await until(lambda: session.stats().running == 2 and line.queries)
            reading.cancel()
            await asyncio.wait([reading])
            ended.set()
            await until(lambda: session.stats().succeeded == 2)
            await anyio.sleep(0.1)  # long enough for them to be asked for
        assert host.asked == []


async def test_what_a_left_stream_had_of_a_video_is_gone_on_with_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "batch.db"
    async with films(slow=True) as host:
        line = host.line()
        async with line.session(journal=path) as session:
            stream = session.stream([job(key="cat")], save_to=tmp_path)
            reading = asyncio.ensure_future(anext(stream))
            await until(lambda: host.under_way)
            reading.cancel()
            host.may_go_on.set()
            outcomes = await read(session, [job(key="cat")], tmp_path)
        assert in_short(outcomes, tmp_path) == ["cat.mp4"]
        assert len(line.posts) == 1
        assert await anyio.Path(tmp_path / "cat.mp4").read_bytes() == FILM


async def test_a_session_that_is_closed_tells_what_it_could_not_save(tmp_path: Path) -> None:
    async with films(slow=True) as host:
        async with host.line().session() as session:
            reading = asyncio.ensure_future(read(session, jobs(8), tmp_path))
            await until(lambda: session.stats().succeeded == 8 and len(host.under_way) == SAVERS)
        outcomes = await reading
    assert [(type(outcome), getattr(outcome, "path", None)) for outcome in outcomes] == [(Success, None)] * 8
    assert [name for name in names_in(tmp_path) if name.endswith(".mp4")] == []


async def test_a_save_that_would_begin_while_the_session_closes_leaves_its_video_to_be_told(tmp_path: Path) -> None:
    """A POST holds the close up; meanwhile a saver becomes free, and the journal is no longer asked about a video."""
    may_land, outcomes = anyio.Event(), list[Outcome]()
    async with films(slow=True) as host:
        line = host.line()

        async def land(request: Request) -> Answer:
            if len(line.posts) > SAVERS + 1:
                await may_land.wait()
            return line.accept()

        line.on_post = land
        async with line.session(journal=tmp_path / "batch.db") as session:
            stream = session.stream(jobs(SAVERS + 2), save_to=tmp_path / "videos")
            reading = asyncio.ensure_future(read_into(outcomes, stream))
            await until(lambda: session.stats().succeeded == SAVERS + 1 and len(host.under_way) == SAVERS)
            await until(lambda: len(line.posts) == SAVERS + 2)
            closing = asyncio.ensure_future(session.aclose())
            await until(lambda: "closed" in repr(session))
            host.may_go_on.set()
            await until(lambda: len([name for name in names_in(tmp_path / "videos") if name.endswith("mp4")]) == SAVERS)
            may_land.set()
            await closing
        with pytest.raises(SessionClosedError):
            await reading
    paths = [outcome.path for outcome in outcomes if isinstance(outcome, Success)]
    assert (len(paths), paths.count(None)) == (SAVERS + 1, 1)
    [unsent] = [outcome.error for outcome in outcomes if isinstance(outcome, Failure)]
    assert (type(unsent), unsent.task_id) == (SessionClosedError, f"task-{SAVERS + 2}")


async def test_a_video_that_comes_while_the_session_closes_is_told_though_it_is_not_saved(tmp_path: Path) -> None:
    may_land, may_end, told_of = anyio.Event(), anyio.Event(), list[Outcome]()
    async with films() as host:
        line = host.line()
        finish = line.on_query
        assert finish is not None

        async def land_late(request: Request) -> Answer:
            if len(line.posts) > 1:
                await may_land.wait()
            return line.accept()

        async def end_late(request: Request) -> Answer:
            await may_end.wait()
            return await finish(request)

        line.on_post, line.on_query = land_late, end_late
        async with line.session() as session:
            reading = asyncio.ensure_future(read_into(told_of, session.stream(jobs(2), save_to=tmp_path)))
            await until(lambda: len(line.posts) == 2 and line.queries)
            closing = asyncio.ensure_future(session.aclose())
            await until(lambda: "closed" in repr(session))
            may_end.set()
            await until(lambda: session.stats().succeeded)
            may_land.set()
            await closing
        with pytest.raises(SessionClosedError):
            await reading
        assert host.asked == []
    assert in_short(told_of, tmp_path) == ["None", "SessionClosedError task-2"]
