"""How jobs are taken, one at a time or for a stream."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import anyio

from hailuo_async._engine.admission import Terms, _let_send
from hailuo_async._engine.tracked_job import Lane, TrackedJob
from hailuo_async._io.journal.kept import KeptClaim, KeptJob
from hailuo_async._io.journal.records import JournalState
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.errors import HailuoError, JobError
from hailuo_async.hooks import Ended, SessionEvent

from ..support.service import Line, job, never, request_for, until
from ..support.tables import record_in


async def test_the_jobs_of_a_stream_are_sent_in_its_order_whichever_of_them_was_ready_first() -> None:
    line, may_go_on = Line(on_query=never), asyncio.Event()
    async with line.session(max_running=1) as session:
        await (await session.submit(job("runs"))).accepted()
        admission, terms = session._running_engine().admission, Terms(lane=Lane())

        async def wait() -> HailuoError | None:
            await may_go_on.wait()
            return None

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(admission.take, job("first"), terms, wait)
            await anyio.lowlevel.checkpoint()
            for prompt in ("second", "third"):
                await admission.take(job(prompt), terms)
            may_go_on.set()
        line.on_query = None
        await until(lambda: len(line.posts) == 4)
    assert line.prompts == ["runs", "second", "first", "third"]


async def test_a_kept_job_that_its_session_has_already_or_that_comes_after_its_end_is_not_taken_over(
    tmp_path: Path,
) -> None:
    may_answer = asyncio.Event()

    async def answer(request: Request) -> Answer:
        await may_answer.wait()
        return line.accept()

    line = Line(on_post=answer)
    claim = KeptClaim(record_in(JournalState.INTENDED), KeptJob("/api/v1/minimax/x/async", {}, {}))
    async with line.session(journal=tmp_path / "batch.db", keep_jobs=True) as session:
        admission, generation = session._running_engine().admission, await session.submit(job(key="cat"))
        await until(lambda: line.posts)
        admission.take_over_kept(claim)  # the answer to an earlier try to take it over was lost, say
        may_answer.set()
        await generation
    admission.take_over_kept(claim)
    assert len(line.posts) == 1


def test_a_job_that_is_found_first_and_then_given_is_sent_as_it_was_given() -> None:
    given, found = TrackedJob(1, request=request_for(job()), is_heavy=True), TrackedJob(0)
    given.payment.price, given.fault = Decimal("0.3"), JobError(field="save_as", value="x", rule="no")
    given.fingerprint, given.is_kept, found.is_followed = "f1", True, True
    _let_send(found, given)
    assert (found.request, found.is_heavy, found.is_kept, found.fault) == (given.request, True, True, given.fault)
    assert (found.fingerprint, found.payment.price) == ("f1", Decimal("0.3"))


async def test_a_task_that_is_taken_over_causes_events_only_once_a_caller_asks_for_it() -> None:
    line, events = Line(on_query=never), list[SessionEvent]()
    async with line.session() as session:
        session.hooks.append(events.append)
        admission = session._running_engine().admission
        for task_id in ("task-1", "task-2"):
            await admission.take_over(record_in(JournalState.ACCEPTED, task_id=task_id, identity=task_id))
        found = await session.attach("task-2")
        assert events == []
        line.on_query = None
        video = await found
        await until(lambda: not session.stats().running)
    assert [event.task_id for event in events if isinstance(event, Ended)] == [video.task_id]
    assert len(events) == 1
