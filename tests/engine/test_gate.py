"""The gate: its waiters, its grants and its log."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import anyio
import pytest

from hailuo_async import AsyncSession, SessionClosedError
from hailuo_async._engine.gate import MAX_HEAVY, Gate
from hailuo_async._engine.session_state import SessionState
from hailuo_async._rules.rate_limiter import RateLimiter
from hailuo_async._rules.reachability import Reachability
from hailuo_async._rules.slots import Slots
from hailuo_async._rules.wire import Answer, unknown, unsent
from hailuo_async.emulator import DEFAULT_API_KEY, Kind, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.service import CONCURRENT, TOO_MANY, jobs, settle, taken, told

ACCEPTED = told(200, taken())


def make_gate(max_running: int | None = 1) -> Gate:
    state = SessionState()
    state.begin()
    return Gate(Slots(max_running, Random(0)), RateLimiter(), Reachability(Random(0)), state)


async def submit(gate: Gate, answer: Answer, is_heavy: bool = False) -> None:
    """One submit through the gate, answered at once."""
    await gate.wait_for_submit(lambda: is_heavy)
    gate.submit_answered(answer, gate.acquire_submit(is_heavy), is_heavy)


async def test_a_waiter_that_is_cancelled_has_taken_nothing() -> None:
    gate = make_gate()
    await submit(gate, ACCEPTED)
    waiters = [asyncio.ensure_future(submit(gate, ACCEPTED)) for _ in range(3)]
    await settle()
    waiters[0].cancel()
    await settle()
    assert gate.slots.running == 1
    gate.task_ended(None)
    await settle()
    assert (waiters[0].cancelled(), gate.slots.running) == (True, 1)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)


async def test_closing_sends_everyone_away() -> None:
    gate = make_gate()
    await submit(gate, ACCEPTED)
    waiters = [asyncio.ensure_future(submit(gate, ACCEPTED)) for _ in range(3)]
    await settle()
    gate._session_state.end("closed")
    gate.wake()
    ends = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(end) for end in ends} == {SessionClosedError}
    for wait in (gate.wait_for_submit(bool), gate.wait_for_query()):
        with pytest.raises(SessionClosedError):
            await wait


async def test_heavy_posts_are_few_at_once_and_hold_up_nothing_else() -> None:
    gate = make_gate(None)
    for number in range(3 * MAX_HEAVY):
        gate.submit_answered(ACCEPTED, gate.acquire_submit(False), False)
        assert gate.slots.running == number + 1
    sent_at = [gate.acquire_submit(True) for _ in range(MAX_HEAVY)]
    heavy = asyncio.ensure_future(gate.wait_for_submit(lambda: True))
    await settle()
    assert not heavy.done()
    await gate.wait_for_query()
    for at in sent_at[1:]:
        gate.submit_answered(unknown("cut"), at, True)
    await heavy


def test_a_service_that_cannot_be_reached_is_tried_less_and_less_often_by_everyone_together() -> None:
    async def main() -> list[float]:
        gate, tries = make_gate(), []
        for _ in range(10):
            await gate.wait_for_query()
            tries.append(anyio.current_time())
            gate.request_answered(unsent("cannot connect"), gate.acquire_query())
        await gate.wait_for_query()
        gate.request_answered(ACCEPTED, gate.acquire_query())
        gate.request_answered(unsent("cannot connect"), gate.acquire_query())
        before = anyio.current_time()
        await gate.wait_for_submit(bool)
        return [*(b - a for a, b in pairwise(tries)), anyio.current_time() - before]

    *gaps, after_success = run_virtual(main)
    assert gaps[0] <= 0.5
    assert all(15 <= gap <= 30 for gap in gaps[-2:])
    assert after_success <= 0.5


def test_a_request_that_is_cancelled_says_nothing_of_whether_the_service_can_be_reached() -> None:
    async def main() -> float:
        gate = make_gate()
        for _ in range(10):
            await gate.wait_for_query()
            gate.request_answered(unsent("cannot connect"), gate.acquire_query())
            gate.request_answered(unknown("cancelled"), gate.acquire_query())
        before = anyio.current_time()
        await gate.wait_for_query()
        return anyio.current_time() - before

    assert run_virtual(main) >= 15


def test_a_burst_that_fails_at_once_is_one_lesson() -> None:
    async def main() -> float:
        gate = make_gate()
        for sent_at in [gate.acquire_query() for _ in range(20)]:
            gate.request_answered(unsent("cannot connect"), sent_at)
        await gate.wait_for_query()
        return anyio.current_time()

    assert run_virtual(main) <= 0.5


def test_both_kinds_of_429_are_counted_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hailuo_async")

    async def main() -> None:
        gate = make_gate(None)
        gate.submit_answered(told(429, CONCURRENT), gate.acquire_submit(False), False)
        for sent_at in [gate.acquire_query() for _ in range(5)]:
            gate.request_answered(told(429, TOO_MANY, {"Retry-After": "20"}), sent_at)
        assert gate.refusals == 6
        assert await gate.wait_for_query()
        assert anyio.current_time() >= 20

    run_virtual(main)
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("the request budget is spent: nothing is sent for 20.0 s") == 1


def test_headers_that_cannot_be_believed_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gate = make_gate()
        for _ in range(5):
            gate.request_answered(told(200, taken(), {"X-RateLimit-Remaining": "-4"}), gate.acquire_query())

    run_virtual(main)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert ["x-ratelimit-remaining" in record.getMessage() for record in warnings] == [True]


def test_a_request_of_an_unlimited_service_never_waits() -> None:
    async def main() -> bool:
        gate = make_gate(None)
        waited = [await gate.wait_for_query() for _ in range(100)]
        return any(waited)

    assert not run_virtual(main)


@pytest.mark.slow
def test_hundreds_of_jobs_share_three_slots_within_the_request_rate() -> None:
    service = Service(generation_s=90)

    async def main() -> int:
        transport = InMemory(service)
        async with AsyncSession(api_key=DEFAULT_API_KEY, base_url="http://localhost", transport=transport) as session:
            made = await asyncio.gather(*(session.generate(each) for each in jobs(120)))
            return len({video.task_id for video in made})

    assert run_virtual(main) == 120
    assert service.ledger.submits_accepted == 120
    assert service.ledger.most_running == 3
    assert service.ledger.statuses[Kind.QUERY, 429] == 0


async def test_a_session_that_runs_as_many_as_it_may_waits_for_no_limit_that_its_team_shares() -> None:
    gate = make_gate(1)
    assert gate.is_open_here(False)
    await submit(gate, ACCEPTED)
    assert not gate.is_open_here(False)
    gate.task_ended(None)
    assert gate.is_open_here(False)
