"""Queries that hang hold up no other, and an answer that lies in the socket is read before it is given up."""

from __future__ import annotations

import asyncio
from itertools import count

import anyio
import pytest

from hailuo_async import WaitTimeoutError
from hailuo_async._engine.in_flight import MAX_QUERIES, MAX_SLOW, SLOW_S
from hailuo_async._engine.poller import QUERY_TIMEOUT_S
from hailuo_async._io.http import LAST_LOOK_S, _within
from hailuo_async._rules.wire import Answer, Request, unknown
from hailuo_async.testing import run_virtual

from ..support.service import Line, asked_about, finished, job, jobs, told


@pytest.mark.parametrize("hanging", [MAX_QUERIES, 3 * MAX_QUERIES, MAX_SLOW + 2 * MAX_QUERIES])
def test_tasks_that_answer_are_not_held_up_by_those_that_hang(hanging: int) -> None:
    under_way = count()
    most = 0

    async def hang_or_finish(request: Request) -> Answer:
        nonlocal most
        if int(asked_about(request).removeprefix("task-")) > hanging:
            return told(200, finished(asked_about(request)))
        held.add(next(under_way))
        most = max(most, len(held))
        try:
            await anyio.sleep(QUERY_TIMEOUT_S)
        finally:
            held.pop()
        return unknown("no answer in time")

    held: set[int] = set()

    async def main() -> float:
        line = Line(on_query=hang_or_finish)
        async with line.session(max_running=hanging + 20, poll_interval=(0.5, 5.0)) as session:
            generations = [await session.submit(each) for each in jobs(hanging + 20)]
            ids = [await generation.accepted() for generation in generations]
            began_at = asyncio.get_running_loop().time()
            for task_id, generation in zip(ids, generations, strict=True):
                if int(task_id.removeprefix("task-")) > hanging:
                    await generation
            return asyncio.get_running_loop().time() - began_at

    rounds = hanging // MAX_QUERIES + 1
    assert run_virtual(main) <= rounds * SLOW_S + 5.0
    assert most <= MAX_QUERIES + MAX_SLOW + 1


def test_an_answer_that_is_there_when_the_time_is_over_is_read() -> None:
    """As after a stop of the process: the loop finds the answer and the timer in one turn."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        loop.call_at(loop.time() + 10.0, answer.set_result, "the answer")
        return await _within(10.0, answer)

    assert run_virtual(main) == "the answer"


def test_what_never_comes_ends_in_a_time_out() -> None:
    async def main() -> float:
        began_at = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await _within(10.0, anyio.sleep_forever())
        return asyncio.get_running_loop().time() - began_at

    assert run_virtual(main) == pytest.approx(10.0 + LAST_LOOK_S)


async def test_a_cancelled_generate_names_its_task_in_a_note_and_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def never(request: Request) -> Answer:
        await anyio.sleep_forever()
        raise WaitTimeoutError(timeout_s=0)

    line = Line(on_query=never)
    async with line.session() as session:
        generating = asyncio.ensure_future(session.generate(job()))
        while not line.queries:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.001)
        generating.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await generating
    assert "task-1" in str(caught.value.__notes__)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [("task-1" in warning, "paid for" in warning) for warning in warnings] == [(True, True)]
