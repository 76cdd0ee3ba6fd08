"""``stop()``: nothing more is sent, and what runs is delivered."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hailuo_async import Failure, OutcomeStream, Success
from hailuo_async._rules.wire import Answer, Request

from ..support.films import films, in_short
from ..support.service import CONCURRENT, Line, asked_about, finished, job, jobs, running, told, until
from ..support.streams import Source, collect


async def test_nothing_more_is_sent_and_what_runs_is_yielded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hailuo_async")
    may_end = anyio.Event()

    async def end_late(request: Request) -> Answer:
        return told(200, finished(asked_about(request)) if may_end.is_set() else running(asked_about(request)))

    source, line = Source(), Line(on_query=end_late)
    async with line.session(max_running=3) as session:
        stream = session.stream(source)
        reading = asyncio.ensure_future(collect(stream))
        await until(lambda: len(line.posts) == 3 and session.stats().queued)
        stream.stop()
        stream.stop()
        pulled = source.pulled
        assert session.stats().queued == 0
        may_end.set()
        outcomes = await reading
        assert {outcome.index for outcome in outcomes if isinstance(outcome, Success)} == {0, 1, 2}
        assert (len(outcomes), len(line.posts), source.pulled) == (3, 3, pulled)
        await session.generate(job("the session goes on"))
    assert "goes on as task" not in caplog.text


async def test_a_post_under_way_is_delivered_if_it_is_accepted_and_not_repeated_if_it_is_refused() -> None:
    may_answer, answers = anyio.Event(), [told(429, CONCURRENT)]

    async def answer_late(request: Request) -> Answer:
        await may_answer.wait()
        return answers.pop() if answers else line.accept()

    line = Line(on_post=answer_late)
    async with line.session(max_running=2) as session:
        stream = session.stream(jobs(10))
        reading = asyncio.ensure_future(collect(stream))
        await until(lambda: len(line.posts) == 2)
        stream.stop()
        may_answer.set()
        outcomes = await reading
    assert [type(outcome) for outcome in outcomes] == [Success]
    assert len(line.posts) == 2


async def test_what_runs_is_saved_after_a_stop(tmp_path: Path) -> None:
    async with films(slow=True) as host, host.line().session(max_running=2) as session:
        stream = session.stream(jobs(2), save_to=tmp_path)
        reading = asyncio.ensure_future(collect(stream))
        await until(lambda: session.stats().succeeded == 2)
        stream.stop()
        host.may_go_on.set()
        assert sorted(in_short(await reading, tmp_path)) == ["task-1.mp4", "task-2.mp4"]


async def test_a_stream_stopped_before_it_is_read_sends_nothing_and_ends() -> None:
    source, line = Source(), Line()
    async with line.session() as session:
        stream = session.stream(source)
        stream.stop()
        assert await collect(stream) == []
    assert (source.pulled, line.posts) == (0, [])


async def test_a_source_that_waits_is_not_waited_for_after_a_stop() -> None:
    closed = []

    async def endless() -> AsyncGenerator[Any]:
        try:
            yield job()
            await anyio.sleep_forever()
        finally:
            closed.append(True)

    async with Line().session() as session:
        stream = session.stream(endless())
        assert isinstance(await anext(stream), Success)
        stream.stop()
        assert await collect(stream) == []
    assert closed == [True]


async def test_it_is_an_async_generator_to_who_takes_one() -> None:
    async with Line().session(max_running=1) as session:
        stream = session.stream(jobs(9))
        assert isinstance(stream, AsyncGenerator)
        assert isinstance(stream, OutcomeStream)
        first = anext(stream)
        assert inspect.isawaitable(first)
        async with contextlib.aclosing(stream):
            assert isinstance(await first, Success)
            assert isinstance(await stream.asend(None), Success)
            with pytest.raises(LookupError):
                await stream.athrow(LookupError("the reader's own"))
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        stream.stop()


async def test_one_job_and_what_holds_no_jobs_are_refused_with_what_to_give() -> None:
    wrong: list[Any] = [job(), 5, None, collect]
    async with Line().session() as session:
        for given in wrong:
            with pytest.raises(TypeError, match=r"stream\(\) takes"):
                session.stream(given)
        [failure] = await collect(session.stream("x"))  # type: ignore[arg-type]
        assert isinstance(failure, Failure)
