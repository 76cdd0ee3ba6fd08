"""Webhooks: a delivery is a hint to ask now, never a fact; and whatever is lost, doubled or made up loses no video."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import mean

import anyio
import attrs
import pytest

from hailuo_async import AsyncSession, Ended, JournalError, SessionClosedError, SessionEvent, Success, WaitTimeoutError
from hailuo_async._engine.notices import MAX_REMEMBERED, Notices, PassedNotices
from hailuo_async._engine.session_state import SessionState
from hailuo_async._rules.wire import Answer, Request, unknown
from hailuo_async.emulator import FaultRates, Faults, Kind, Service
from hailuo_async.testing import run_virtual
from hailuo_async.testing.in_memory import InMemory

from ..support.service import Line, asked_about, finished, job, jobs, never, running, taken, told, until

URL = "https://hooks.example/done"


@attrs.define
class Night:
    """What became of many jobs."""

    delivered: int = 0
    queries: int = 0
    submits: int = 0
    delays_s: list[float] = attrs.field(factory=list)


def night(service: Service, count: int, *, webhook: bool = True, flood: Sequence[str] = ()) -> Night:
    """Many jobs through a session, the service's deliveries handed to it; on the virtual clock."""
    told_of = Night()

    async def carry(session: AsyncSession, line: InMemory) -> None:
        while True:
            await anyio.sleep(0.01)
            now = 1_700_000_000.0 + anyio.current_time()
            for post in service.take_webhooks(now):
                session.notice(post.task_id)
                service.settle_webhook(post, 200, now)
            for task_id in flood:
                session.notice(task_id)

    async def main() -> None:
        line = InMemory(service, api_key=service.api_key, latency_s=0.02)
        session = AsyncSession(
            api_key=service.api_key,
            base_url="http://localhost",
            transport=line,
            rng=Random(3),
            webhook_url=URL if webhook else None,
        )

        def note(event: SessionEvent) -> None:
            if isinstance(event, Ended) and event.late_s is not None:
                told_of.delays_s.append(event.late_s)

        session.hooks.append(note)
        async with session:
            carrying = asyncio.ensure_future(carry(session, line))
            async for outcome in session.stream(jobs(count)):
                told_of.delivered += isinstance(outcome, Success)
            carrying.cancel()

    run_virtual(main)
    told_of.queries = service.ledger.requests[Kind.QUERY]
    told_of.submits = service.ledger.requests[Kind.SUBMIT]
    return told_of


def playing(faults: Faults | None = None) -> Service:
    return Service(generation_s=4, max_running=12, requests_per_minute=None, faults=faults or Faults(), seed=5)


@pytest.mark.slow
def test_while_every_end_is_announced_a_job_takes_little_more_than_one_query() -> None:
    announced, polled = night(playing(), 300), night(playing(), 300, webhook=False)
    assert (announced.delivered, polled.delivered) == (300, 300)
    assert announced.queries <= 1.3 * 300 < polled.queries
    assert mean(announced.delays_s) <= 0.15


@pytest.mark.slow
def test_lost_doubled_and_early_deliveries_lose_no_video() -> None:
    faults = Faults(webhook=FaultRates(lost=0.5, doubled=0.1, early=0.1))
    found, polled = night(playing(faults), 300), night(playing(), 300, webhook=False)
    assert (found.delivered, found.queries < polled.queries) == (300, True)
    assert mean(found.delays_s) <= 0.15


@pytest.mark.slow
def test_a_flood_of_made_up_deliveries_changes_nothing() -> None:
    calm = night(playing(), 60)
    flooded = night(playing(), 60, flood=[f"task-{number}" for number in range(100)])
    assert (flooded.delivered, flooded.submits) == (60, calm.submits)
    assert flooded.queries <= calm.queries + 10


def test_a_notice_has_the_task_asked_about_at_once_and_at_most_once_a_second() -> None:
    async def main() -> list[float]:
        asked: list[float] = []

        async def answer(request: Request) -> Answer:
            asked.append(anyio.current_time())
            return told(200, running(asked_about(request)))

        line = Line(on_query=answer)
        async with line.session(poll_interval=(30, 60), webhook_url=URL) as session:
            task_id = await (await session.submit(job())).accepted()
            for _ in range(990):
                session.notice(task_id)
                await anyio.sleep(0.003)
        assert line.posts[0].headers == {"X-Webhook-URL": URL}
        return asked

    assert run_virtual(main) == pytest.approx([0, 1, 2], abs=0.01)


def test_a_notice_that_came_before_the_answer_to_the_submit_counts() -> None:
    async def main() -> float:
        async def post(request: Request) -> Answer:
            session.notice("task-1")
            await anyio.sleep(1)
            return told(200, taken("task-1"))

        session = Line(on_post=post).session(poll_interval=(30, 60), webhook_url=URL)
        async with session:
            await session.generate(job())
            return anyio.current_time()

    assert run_virtual(main) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("first", [told(200, running("task-1")), unknown("no answer in time")])
def test_a_notice_while_a_query_is_under_way_has_the_task_asked_about_again(first: Answer) -> None:
    async def main() -> list[float]:
        asked: list[float] = []

        async def answer(request: Request) -> Answer:
            asked.append(anyio.current_time())
            if len(asked) == 1:
                await anyio.sleep(5)
                return first
            return told(200, finished("task-1"))

        async with Line(on_query=answer).session(poll_interval=(30, 60), webhook_url=URL) as session:
            generation = await session.submit(job())
            session.notice(await generation.accepted())
            await anyio.sleep(2)
            session.notice("task-1")
            await generation
        return asked

    assert run_virtual(main) == pytest.approx([0, 5], abs=0.01)


@pytest.mark.parametrize("task_id", ["", "no such task", "x" * 1000, None, 5, "task-9"])
def test_a_notice_about_anything_else_costs_nothing(task_id: str) -> None:
    async def main() -> int:
        line = Line()
        async with line.session(webhook_url=URL) as session:
            session.notice(task_id)
            await anyio.sleep(10)
        return len(line.queries)

    assert run_virtual(main) == 0


async def test_a_closed_session_takes_no_notices() -> None:
    async with Line().session() as session:
        pass
    session.notice("task-1")  # belongs to nobody here any more, and costs nothing
    with pytest.raises(SessionClosedError):
        Line().session().notice("task-1")


def test_notices_about_tasks_that_are_not_watched_are_remembered_up_to_a_bound() -> None:
    notices = Notices()
    for number in range(2 * MAX_REMEMBERED):
        assert notices.unwatched(f"task-{number}") is None
    assert not notices.came_before("task-0")
    assert notices.came_before(f"task-{2 * MAX_REMEMBERED - 1}")
    assert not notices.came_before(f"task-{2 * MAX_REMEMBERED - 1}")
    notices.ended_without("task-a", "kind")
    assert (notices.unwatched("task-a"), notices.unwatched("task-a")) == ("kind", None)


@pytest.mark.slow
async def test_a_notice_reaches_the_session_on_the_same_journal_that_works_the_task(tmp_path: Path) -> None:
    async def answer(request: Request) -> Answer:
        state = finished if len(working.queries) > 1 else running
        return told(200, state(asked_about(request)))

    working, told_of = Line(on_query=answer), Line()
    settings = {"journal": tmp_path / "batch.db", "poll_interval": (300, 600), "webhook_url": URL}
    async with working.session(**settings) as worker, told_of.session(**settings) as other:
        generation = await worker.submit(job())
        task_id = await generation.accepted()
        other.notice("task-99")
        other.notice(task_id)
        await until(lambda: len(working.queries) == 1)  # polling alone would wait for minutes
        other.notice(task_id)
        await generation
    assert [asked_about(query) for query in working.queries] == [task_id, task_id]
    assert told_of.queries == []


def test_a_flood_of_notices_causes_few_look_ups_and_the_first_notice_waits_for_none() -> None:
    async def main() -> list[tuple[float, int]]:
        passed: list[tuple[float, int]] = []

        async def pass_on(task_ids: Sequence[str]) -> None:
            passed.append((anyio.current_time(), len(task_ids)))

        state = SessionState()
        notices = PassedNotices(state, pass_on, 32)
        notices.add("task-1")  # the session is not open yet
        state.begin()
        for number in range(100):
            for each in range(100):
                notices.add(f"task-{number}-{each}")
            await anyio.sleep(0.01)
        await state.workers.end()
        return passed

    passed = run_virtual(main)
    assert passed[0][0] == pytest.approx(0)
    assert len(passed) <= 5
    assert max(count for _, count in passed) <= 32


def test_an_outage_of_the_journal_only_loses_notices() -> None:
    async def main() -> list[list[str]]:
        asked: list[list[str]] = []

        async def pass_on(task_ids: Sequence[str]) -> None:
            asked.append(list(task_ids))
            raise JournalError(path="batch.db", reason="it is away")

        state = SessionState()
        notices = PassedNotices(state, pass_on, 32)
        state.begin()
        for name in ("task-1", "task-2"):
            notices.add(name)
            await anyio.sleep(1)
        return asked

    assert run_virtual(main) == [["task-1"], ["task-2"]]


async def test_a_notice_reaches_a_job_whose_task_was_attached_before_its_answer_and_given_up() -> None:
    answered = asyncio.Event()

    async def accept(request: Request) -> Answer:
        await answered.wait()
        return line.accept()

    line = Line(on_post=accept, on_query=never)
    async with line.session(poll_interval=(60, 60)) as session:
        submitted = await session.submit(job())
        await until(lambda: line.posts)
        attached = await session.attach("task-1", timeout=0.2)
        answered.set()
        await submitted.accepted()
        with pytest.raises(WaitTimeoutError):
            await attached
        line.on_query = None
        session.notice("task-1")
        with anyio.fail_after(20):
            assert (await submitted).task_id == "task-1"
