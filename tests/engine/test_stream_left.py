"""A stream that is left, in whatever way, stops at once: nothing more is pulled or sent, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hailuo_async import ImageToVideo, Outcome, SessionClosedError, Stats
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.stream import LOOKAHEAD, Stream
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.testing import run_virtual

from ..support.service import CONCURRENT, Line, job, jobs, never, picture, settle, told, until
from ..support.streams import Source, as_async


async def leave_by_break(stream: Any) -> None:
    async with contextlib.aclosing(stream):
        async for _ in stream:
            break


async def leave_by_an_exception(stream: Any) -> None:
    with contextlib.suppress(KeyError):
        async with contextlib.aclosing(stream):
            async for _ in stream:
                raise KeyError("the reader's own")


async def leave_by_forgetting(stream: Any) -> None:
    async for _ in stream:
        break
    del stream


async def leave_by_a_timeout(stream: Any) -> None:
    async with contextlib.aclosing(stream):
        with anyio.move_on_after(0.05):
            async for _ in stream:
                pass


async def leave_by_cancellation(stream: Any) -> None:
    async def read() -> None:
        async with contextlib.aclosing(stream):
            async for _ in stream:
                pass

    task = asyncio.ensure_future(read())
    await settle()
    task.cancel()
    await asyncio.wait([task])


async def test_a_job_of_a_stream_that_was_left_is_sent_again_if_another_caller_has_joined_it(tmp_path: Path) -> None:
    may_answer = asyncio.Event()

    async def refuse_once(request: Request) -> Answer:
        await may_answer.wait()
        return told(429, CONCURRENT) if len(line.posts) == 1 else line.accept()

    line = Line(on_post=refuse_once)
    async with line.session(journal=tmp_path / "batch.db") as session:
        async with contextlib.aclosing(session.stream([job(key="cat")])) as stream:
            reading = asyncio.ensure_future(anext(stream))
            await until(lambda: line.posts)
            reading.cancel()
            await asyncio.wait([reading])
        joined = await session.submit(job(key="cat"))
        may_answer.set()
        assert (await joined).task_id == "task-1"
    assert len(line.posts) == 2


async def test_a_job_that_is_taken_just_as_its_stream_stops_is_not_sent() -> None:
    state, tracked, withheld = SessionState(), TrackedJob(0), list[TrackedJob]()
    state.begin()

    async def take_late(item: object, find_fault: object) -> TrackedJob:
        with contextlib.suppress(asyncio.CancelledError):  # it was on record by then
            await anyio.sleep_forever()
        return tracked

    def withhold(job: TrackedJob) -> None:
        withheld.append(job)
        job.is_withheld = True
        job.fail(Event.ABANDON, SessionClosedError(reason="not sent"))

    dispatcher: Any = SimpleNamespace(withhold=withhold)
    stream = Stream([job()], take_late, lambda _: True, dispatcher, state)
    reading = asyncio.ensure_future(read_all(stream))
    await settle()
    stream.stop_nowait()
    assert await reading == []
    assert withheld == [tracked]
    await state.workers.end()


async def read_all(stream: Stream) -> list[Outcome]:
    return [outcome async for outcome in stream.outcomes()]


LEAVES = [leave_by_break, leave_by_an_exception, leave_by_forgetting, leave_by_a_timeout, leave_by_cancellation]


@pytest.mark.slow
@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("wrap", [iter, as_async], ids=["sync", "async"])
async def test_however_it_is_left_nothing_more_is_pulled_or_sent(
    leave: Callable[[Any], Awaitable[None]], wrap: Callable[[Any], Any]
) -> None:
    source, line = Source(), Line()
    async with line.session(max_running=2) as session:
        await leave(session.stream(wrap(iter(source))))
        gc.collect()
        await settle()  # a POST whose turn had come may still begin
        at_leaving = source.pulled, len(line.posts)
        await settle()
        assert (source.pulled, len(line.posts)) == at_leaving
        assert session.stats().queued == 0


def test_a_post_under_way_when_the_stream_is_left_is_not_sent_again_once_refused() -> None:
    async def refuse_late(request: Request) -> Answer:
        await anyio.sleep(5)
        return told(429, CONCURRENT)

    async def main() -> None:
        line = Line(on_post=refuse_late)
        async with line.session(max_running=1) as session:
            with anyio.move_on_after(1):
                await anext(session.stream(jobs(5)))
            await anyio.sleep(600)  # longer than any hold after a refusal
            assert (len(line.posts), session.stats().abandoned) == (1, 5)

    run_virtual(main)


async def test_the_ids_of_tasks_that_go_on_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hailuo_async")
    line = Line(on_query=never)
    async with line.session(max_running=2) as session:
        stream = session.stream(jobs(5))
        reading = asyncio.ensure_future(anext(stream))
        await until(lambda: session.stats().running == 2 and len(line.queries) > 2)
        reading.cancel()
        await asyncio.wait([reading])
        assert [each for each in ("task-1", "task-2") if f"goes on as task {each}" in caplog.text] == [
            "task-1",
            "task-2",
        ]


async def test_a_source_is_closed_when_the_stream_is_left() -> None:
    closed = []

    async def source() -> AsyncIterator[ImageToVideo]:
        try:
            async for item in as_async(jobs(1000)):
                yield item
        finally:
            closed.append(True)

    async with Line().session(max_running=1) as session:
        await leave_by_break(session.stream(source()))
        await until(lambda: closed)


async def test_jobs_whose_images_are_looked_at_when_it_is_left_are_not_sent() -> None:
    content = await anyio.to_thread.run_sync(picture, 1000, 1000)

    def mixed() -> Iterator[ImageToVideo]:
        yield job("light")
        while True:
            yield ImageToVideo(content, prompt="heavy")

    line = Line()
    async with line.session(max_running=1) as session:
        await leave_by_break(session.stream(mixed()))
        posts = len(line.posts)
        await until(lambda: (session.stats().queued, session.stats().running) == (0, 0))
        assert len(line.posts) <= posts + 1  # one whose turn had come may still have begun


def _is_held_back(stats: Stats) -> bool:
    """All that was pulled has ended, and more of it is unread than makes the feeder pull."""
    return (stats.queued, stats.running) == (0, 0) and stats.succeeded > LOOKAHEAD + 8


@pytest.mark.slow
async def test_room_that_its_last_reading_made_is_not_used_any_more() -> None:
    source, line = Source(), Line()
    async with line.session(max_running=2) as session:
        stream = session.stream(source)
        await anext(stream)
        await until(lambda: _is_held_back(session.stats()))
        held_back_at = source.pulled
        for _ in range(LOOKAHEAD + 8):  # more are there: none of these reads lets the feeder run
            await anext(stream)
        await stream.aclose()
        await settle()
        assert source.pulled == held_back_at
