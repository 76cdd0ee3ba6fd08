"""How jobs are taken, one at a time or for a stream."""

from __future__ import annotations

import asyncio

import anyio

from hailuo_async._engine.admission import Terms
from hailuo_async._engine.tracked_job import Lane
from hailuo_async._io.journal.records import JournalState
from hailuo_async.errors import HailuoError
from hailuo_async.hooks import Ended, SessionEvent

from ..support.crash_journal import never
from ..support.service import Line, job, until
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
