"""What a job source does to its stream, and to nothing else: raise, clean up, or refuse to be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from hailuo_async import ImageToVideo, SpendingLimitError, Success
from hailuo_async._engine.workers import CLEANUP_S
from hailuo_async.testing import run_virtual

from ..support.service import Line, job, jobs, never, settle, until
from ..support.streams import as_async, read_into


class Failed(BaseException):
    """As ``pytest.fail()`` raises it: no ``Exception``."""


ERRORS = [SystemExit(3), KeyboardInterrupt(), Failed("no"), asyncio.CancelledError()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("wrap", [iter, as_async], ids=["sync", "async"])
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_whatever_a_source_raises_is_raised_where_it_is_read_and_ends_nothing_else(
    error: BaseException, wrap: Any, count: int
) -> None:
    def source() -> Iterator[ImageToVideo]:
        yield from jobs(count)
        raise error

    line = Line()
    async with line.session() as session:
        other = await session.submit(job("another caller's"))
        with pytest.raises(type(error)) as caught:
            await read_into([], session.stream(wrap(source())))
        assert caught.value is error
        assert (await other).task_id
        assert (await session.generate(job("the next"))).task_id


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_what_is_no_exception_does_not_wait_for_what_runs(error: BaseException) -> None:
    line = Line(on_query=never)

    async def source() -> AsyncIterator[ImageToVideo]:
        yield job()
        await until(lambda: line.queries)
        raise error

    async with line.session() as session:
        with pytest.raises(type(error)):
            await read_into([], session.stream(source()))
        assert session.stats().running == 1


async def test_an_exception_group_of_the_sources_own_arrives_as_it_is() -> None:
    error = ExceptionGroup("the source's own", [LookupError("one")])

    async def source() -> AsyncIterator[ImageToVideo]:
        yield job()
        raise error

    async with Line().session() as session:
        with pytest.raises(ExceptionGroup) as caught:
            await read_into([], session.stream(source()))
    assert caught.value is error


@pytest.mark.parametrize("waits", [False, True], ids=["at its yield", "while it waits"])
async def test_the_cleanup_of_a_source_is_awaited_to_its_end_before_the_stream_is_left(waits: bool) -> None:
    steps = []

    async def source() -> AsyncIterator[ImageToVideo]:
        try:
            async for each in as_async(jobs(1 if waits else 1000)):
                yield each
            await anyio.sleep_forever()
        finally:
            for step in range(3):  # as a database cursor closes: several round trips
                await asyncio.sleep(0.001)
                steps.append(step)

    async with Line().session(max_running=1) as session:
        async with contextlib.aclosing(session.stream(source())) as stream:
            assert isinstance(await anext(stream), Success)
        assert steps == [0, 1, 2]


async def test_a_job_that_ends_the_stream_as_it_is_taken_does_not_cut_the_cleanup_of_the_source() -> None:
    """A job of URLs is taken by the feeder itself, which must not cancel itself."""
    steps = []

    async def source() -> AsyncIterator[ImageToVideo]:
        try:
            for each in jobs(3):
                yield each
        finally:
            for step in range(3):
                await asyncio.sleep(0.001)
                steps.append(step)

    outcomes: list[Any] = []
    async with Line().session() as session:
        with pytest.raises(SpendingLimitError):
            await read_into(outcomes, session.stream(source(), max_jobs=1))
    assert len(outcomes) == 1
    assert steps == [0, 1, 2]


async def test_the_cleanup_of_a_source_is_awaited_also_when_the_session_is_closed() -> None:
    steps = []

    async def source() -> AsyncIterator[ImageToVideo]:
        try:
            yield job()
            await anyio.sleep_forever()
        finally:
            await asyncio.sleep(0.001)
            steps.append("closed")

    async with Line(on_query=never).session() as session:
        reading = asyncio.ensure_future(read_into([], session.stream(source())))
        await until(lambda: session.stats().running)
    await asyncio.wait([reading])
    assert steps == ["closed"]
    reading.exception()


def test_a_source_that_swallows_cancellation_does_not_hold_the_close(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> float:
        let_go = anyio.Event()

        async def stubborn() -> AsyncIterator[ImageToVideo]:
            yield job()
            while not let_go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await let_go.wait()

        session = Line(on_query=never).session()
        await session.__aenter__()
        reading = asyncio.ensure_future(read_into([], session.stream(stubborn())))
        await until(lambda: session.stats().running)
        reading.cancel()
        await settle()
        began_at = asyncio.get_running_loop().time()
        await session.aclose(0.5)
        took_s = asyncio.get_running_loop().time() - began_at
        let_go.set()
        await asyncio.wait([reading])
        return took_s

    assert run_virtual(main) <= 0.5 + CLEANUP_S
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [warning for warning in warnings if "let CancelledError pass" in warning] != []
