"""Streams: pulled as there is room, told as they end, and stopped the moment they are left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, cast

import anyio
import pytest

from hailuo_async import (
    AsyncSession,
    AuthenticationError,
    Failure,
    ImageError,
    ImageToVideo,
    InsufficientBalanceError,
    JobError,
    JobNotFoundError,
    JournalState,
    Outcome,
    SessionClosedError,
    SpendingLimitError,
    SubmissionUnknownError,
    Success,
    TaskFailedError,
)
from hailuo_async._engine.dispatcher import Dispatcher
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.stream import GATHER_S, LOOKAHEAD, LOOKAHEAD_ON_RECORD, SLOW_ITEM_S, Stream
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._rules.wire import Answer, Request, unknown
from hailuo_async.emulator import Service
from hailuo_async.testing import InMemory, run_virtual

from ..support.service import (
    Line,
    asked_about,
    failed,
    finished,
    job,
    jobs,
    never,
    prompt_of,
    refusal,
    running,
    settle,
    told,
    until,
)
from ..support.streams import Source, as_async, collect, read_into
from ..support.tables import record_in

# --- All of them ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [iter, list, as_async], ids=["iterator", "list", "async iterator"])
async def test_every_job_is_sent_once_and_told_once(wrap: Callable[[Iterator[ImageToVideo]], Any]) -> None:
    line = Line()
    async with line.session() as session:
        outcomes = await collect(session.stream(wrap(jobs(100))))
    assert sorted(outcome.index for outcome in outcomes) == list(range(100))
    assert all(isinstance(outcome, Success) for outcome in outcomes)
    assert {outcome.index: outcome.job.prompt for outcome in outcomes if outcome.job} == {
        number: f"job {number}" for number in range(100)
    }
    assert sorted(line.prompts, key=str) == sorted((f"job {number}" for number in range(100)), key=str)


async def test_an_empty_stream_ends_at_once() -> None:
    async with Line().session() as session:
        assert await collect(session.stream([])) == []


async def test_outcomes_come_in_the_order_in_which_the_tasks_end() -> None:
    ends = ["task-3", "task-1", "task-2"]

    async def end_in_order(request: Request) -> Answer:
        task_id = asked_about(request)
        if len(line.posts) == 3 and ends and ends[0] == task_id:
            ends.pop(0)
            return told(200, finished(task_id))
        return told(200, running(task_id))

    line = Line(on_query=end_in_order)
    async with line.session(max_running=3) as session:
        outcomes = await collect(session.stream(jobs(3)))
    assert [outcome.video.task_id for outcome in outcomes if isinstance(outcome, Success)] == [
        "task-3",
        "task-1",
        "task-2",
    ]


async def test_one_jobs_error_is_a_failure_and_the_others_go_on() -> None:
    async def some_fail(request: Request) -> Answer:
        return told(200, failed("task-2") if asked_about(request) == "task-2" else finished(asked_about(request)))

    async def some_are_refused(request: Request) -> Answer:
        match prompt_of(request):
            case "refused":
                return told(422, refusal(422, "Value out of range: prompt"))
            case "lost":
                return unknown("the connection was cut")
        return line.accept()

    given: list[Any] = [job("one"), b"not a job", ImageToVideo(b"no image"), job("refused"), job("lost"), job("two")]
    line = Line(on_post=some_are_refused, on_query=some_fail)
    async with line.session(max_running=1) as session:
        outcomes = {outcome.index: outcome for outcome in await collect(session.stream(given))}
    errors = {index: type(each.error) for index, each in outcomes.items() if isinstance(each, Failure)}
    rejected = errors.pop(3)
    assert rejected.__name__ == "RequestRejectedError"
    assert errors == {1: JobError, 2: ImageError, 4: SubmissionUnknownError, 5: TaskFailedError}
    assert isinstance(outcomes[0], Success)
    assert len(line.posts) == 4


async def test_a_job_on_record_that_is_forgotten_as_it_is_resumed_is_a_failure_without_a_job() -> None:
    state, error = SessionState(), JobNotFoundError(key="cat")
    state.begin()

    async def forgotten(record: object, find_fault: object) -> TrackedJob:
        raise error

    records = [record_in(JournalState.INTENDED)]
    stream = Stream(records, forgotten, lambda _: True, cast(Dispatcher, None), state)
    outcomes = [outcome async for outcome in stream.outcomes()]
    await state.workers.end()
    assert outcomes == [Failure(None, "cat", 0, error)]


# --- Lazy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [LOOKAHEAD, LOOKAHEAD_ON_RECORD])
@pytest.mark.parametrize("is_half_sent", [False, True])
async def test_a_stream_pulls_a_few_ahead_and_several_more_once_half_of_those_are_sent(
    ahead: int, is_half_sent: bool, tmp_path: Path
) -> None:
    source, line = Source(), Line(on_query=never)
    sent, pulled = (ahead // 2, ahead + ahead // 2) if is_half_sent else (3, ahead)
    journal = tmp_path / "batch.db" if ahead == LOOKAHEAD_ON_RECORD else None
    async with (
        line.session(max_running=sent, journal=journal) as session,
        contextlib.aclosing(session.stream(source)) as stream,
    ):
        first = asyncio.ensure_future(anext(stream))
        await until(lambda: len(line.posts) >= sent and session.stats().queued >= pulled - sent)
        await settle()
        assert (len(line.posts), source.pulled, session.stats().queued) == (sent, pulled, pulled - sent)
        first.cancel()
        await asyncio.wait([first])


def test_a_full_stream_whose_slots_are_slow_does_not_wait_until_half_of_its_jobs_are_sent() -> None:
    async def slowly() -> list[int]:
        source, service = Source(), Service(max_running=1, generation_s=100.0)
        pulled = []
        line, key = InMemory(service), service.api_key
        session = AsyncSession(api_key=key, base_url="http://localhost", transport=line, rng=Random(0))
        async with session, contextlib.aclosing(session.stream(source)) as stream:
            for _ in range(4):
                await anext(stream)
                await anyio.sleep(GATHER_S)
                pulled.append(source.pulled)
        return pulled[1:]  # before the limit was known, three had left, and two of those came back

    assert run_virtual(slowly) == [LOOKAHEAD + sent for sent in (3, 4, 5)]


@pytest.mark.slow
async def test_a_slow_source_holds_the_loop_for_one_item_at_a_time() -> None:
    turns: list[int] = []
    turn = 0

    async def turn_round() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def slow() -> Iterator[ImageToVideo]:
        for each in jobs(8):
            until_s = time.perf_counter() + 2 * SLOW_ITEM_S
            while time.perf_counter() < until_s:
                pass
            turns.append(turn)
            yield each

    async with Line().session() as session:
        other = asyncio.create_task(turn_round())
        await collect(session.stream(slow()))
        other.cancel()
    assert len(set(turns)) == 8


async def test_a_slow_reader_holds_everything_back() -> None:
    source, line = Source(), Line()
    async with line.session(max_running=2) as session, contextlib.aclosing(session.stream(source)) as stream:
        await anext(stream)
        await until(lambda: session.stats().succeeded > LOOKAHEAD and not session.stats().queued)
        await settle()
        held_back_at = source.pulled
        await settle()
        assert source.pulled == held_back_at <= 3 * LOOKAHEAD + 2
        for _ in range(3 * LOOKAHEAD):
            await anext(stream)
        assert source.pulled > held_back_at


async def test_a_stream_that_is_never_read_pulls_nothing() -> None:
    source = Source()
    async with Line().session() as session:
        stream = session.stream(source)
        await settle()
        await stream.aclose()
    assert source.pulled == 0


# --- Ended by what every job would meet -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "Authentication failed: revoked", AuthenticationError),
        (403, "Authentication failed: not here", AuthenticationError),
        (402, "insufficient balance", InsufficientBalanceError),
    ],
)
async def test_what_every_job_would_meet_ends_it_after_what_runs_was_told(
    status: int, message: str, kind: type[Exception]
) -> None:
    async def accept_two(request: Request) -> Answer:
        return line.accept() if len(line.posts) <= 2 else told(status, refusal(status, message))

    async def finish_when_refused(request: Request) -> Answer:
        task_id = asked_about(request)
        return told(200, finished(task_id) if len(line.posts) > 2 else running(task_id))

    line, told_of = Line(on_post=accept_two, on_query=finish_when_refused), list[Outcome]()
    async with line.session(max_running=3) as session:
        with pytest.raises(kind):
            await read_into(told_of, session.stream(Source()))
        assert {type(outcome) for outcome in told_of} == {Success}
        assert len(told_of) == 2
        assert len(line.posts) == 3
        line.on_post = None
        await session.generate(job("afterwards"))


async def test_a_streams_max_jobs_ends_it_before_anything_more_is_sent() -> None:
    line, told_of = Line(), list[Outcome]()
    async with line.session() as session:
        with pytest.raises(SpendingLimitError) as caught:
            await read_into(told_of, session.stream(Source(), max_jobs=7))
        assert (caught.value.max_jobs, len(told_of), len(line.posts)) == (7, 7, 7)
        await session.generate(job("the session itself is not spent"))


async def test_a_source_that_raises_ends_it_with_its_own_error_after_what_runs() -> None:
    async def broken() -> AsyncIterator[ImageToVideo]:
        for item in jobs(2):
            yield item
        await until(lambda: len(line.queries) > 2)
        raise LookupError("the caller's own")

    async def finish_late(request: Request) -> Answer:
        return told(200, finished(asked_about(request)) if len(line.queries) > 10 else running(asked_about(request)))

    line, told_of = Line(on_query=finish_late), list[Outcome]()
    async with line.session() as session:
        with pytest.raises(LookupError, match="the caller's own"):
            await read_into(told_of, session.stream(broken()))
    assert sorted(outcome.index for outcome in told_of) == [0, 1]


async def test_closing_the_session_ends_a_stream_with_an_error_and_names_what_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line, told_of = Line(on_query=never), list[Outcome]()
    async with line.session(max_running=2) as session:
        reading = asyncio.ensure_future(read_into(told_of, session.stream(Source())))
        await until(lambda: len(line.queries) > 2)
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await reading
    assert caplog.records == []
    errors = [outcome.error for outcome in told_of if isinstance(outcome, Failure)]
    assert [(type(error), error.task_id) for error in errors] == [
        (SessionClosedError, "task-1"),
        (SessionClosedError, "task-2"),
    ]


async def test_a_stream_whose_source_still_waits_does_not_end_as_if_it_were_done() -> None:
    async def endless() -> AsyncIterator[ImageToVideo]:
        yield job()
        await anyio.sleep_forever()

    async with Line().session() as session:
        stream = session.stream(endless())
        assert isinstance(await anext(stream), Success)
        reading = asyncio.ensure_future(anext(stream))
        await settle()
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await reading


# --- Beside each other ------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_later_submit_is_not_behind_a_whole_stream() -> None:
    line = Line()
    async with line.session(max_running=2) as session:
        streams = [asyncio.ensure_future(collect(session.stream(jobs(60)))) for _ in range(2)]
        await until(lambda: len(line.posts) > 10)
        before = len(line.posts)
        await session.generate(job("mine"))
        assert line.prompts.index("mine") - before <= 2 * LOOKAHEAD + 2
        assert {len(outcomes) for outcomes in await asyncio.gather(*streams)} == {60}


async def test_a_reader_in_another_task_than_the_one_that_made_it_is_no_matter() -> None:
    async with Line().session() as session:
        stream = session.stream(jobs(3))
        first = await asyncio.ensure_future(anext(stream))
        rest = await asyncio.ensure_future(collect(stream))
    assert sorted([first.index, *(outcome.index for outcome in rest)]) == [0, 1, 2]


async def test_on_a_session_that_is_not_open_nothing_is_pulled() -> None:
    source = Source()
    session: AsyncSession = Line().session()
    with pytest.raises(SessionClosedError):
        session.stream(source)
    async with session:
        pass
    with pytest.raises(SessionClosedError):
        await collect(session.stream(source))
    assert source.pulled == 0
