"""What a session may hold and pay for at most, and what is refused before it costs anything."""

from __future__ import annotations

import asyncio

import pytest

from hailuo_async import ConfigError, Failure, ImageToVideo, Outcome, QueueFullError, SpendingLimitError, Success
from hailuo_async._rules.wire import Answer, Request

from ..support.service import Line, job, jobs, never, picture, refusal, told, until
from ..support.streams import read_into


async def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room() -> None:
    line = Line(on_query=never)
    async with line.session(max_running=1, max_queued=2) as session:
        running_ = await session.submit(job("runs"))
        await running_.accepted()
        for prompt in ("one", "two"):
            await session.submit(job(prompt))
        with pytest.raises(QueueFullError) as caught:
            await session.submit(job("three"))
        assert (caught.value.max_queued, session.stats().queued) == (2, 2)
        line.on_query = None
        await running_
        await until(lambda: session.stats().queued < 2)
        await session.generate(job("four"))
    assert line.prompts == ["runs", "one", "two", "four"]


async def test_jobs_whose_images_are_still_looked_at_count_as_queued() -> None:
    line = Line()
    async with line.session(max_queued=2) as session:
        heavy = [asyncio.ensure_future(session.submit(ImageToVideo(picture(1000, 1000)))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await session.submit(job())
        for generation in await asyncio.gather(*heavy):
            await generation


async def test_no_more_is_ever_paid_for_than_max_jobs() -> None:
    line = Line()
    async with line.session(max_jobs=3) as session:
        ends = await asyncio.gather(*map(session.generate, jobs(10)), return_exceptions=True)
        assert sum(isinstance(end, SpendingLimitError) for end in ends) == 7
        with pytest.raises(SpendingLimitError) as caught:
            await session.submit(job())
        assert caught.value.max_jobs == 3
    assert len(line.posts) == 3


async def test_what_was_never_accepted_does_not_count_as_paid_for() -> None:
    async def refuse_some(request: Request) -> Answer:
        return told(422, refusal(422, "no")) if len(line.posts) <= 2 else line.accept()

    line = Line(on_post=refuse_some)
    async with line.session(max_jobs=2, max_running=1) as session:
        ends = await asyncio.gather(*map(session.generate, jobs(2)), return_exceptions=True)
        assert [type(end).__name__ for end in ends] == ["RequestRejectedError"] * 2
        outcomes: list[Outcome] = []
        with pytest.raises(SpendingLimitError):
            await read_into(outcomes, session.stream(jobs(30)))
    assert [type(outcome) for outcome in outcomes] == [Success] * 2
    assert len(line.posts) == 4


async def test_a_stream_sends_another_job_in_place_of_one_that_was_refused_before_max_jobs_ends_it() -> None:
    async def refuse_the_first(request: Request) -> Answer:
        return told(422, refusal(422, "no")) if len(line.posts) == 1 else line.accept()

    line, outcomes = Line(on_post=refuse_the_first), list[Outcome]()
    async with line.session() as session:
        with pytest.raises(SpendingLimitError):
            await read_into(outcomes, session.stream(jobs(9), max_jobs=3))
    assert [type(outcome) for outcome in outcomes] == [Failure, Success, Success, Success]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5"])
async def test_a_deadline_that_cannot_be_is_refused_before_anything_is_sent(timeout: float) -> None:
    line = Line()
    async with line.session() as session:
        with pytest.raises(ConfigError):
            await session.generate(job(), timeout=timeout)
        with pytest.raises(ConfigError):
            session.stream(jobs(1), timeout=timeout)
    assert line.posts == []
