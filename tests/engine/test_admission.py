"""How jobs are taken, one at a time or for a stream."""

from __future__ import annotations

import asyncio

import anyio

from hailuo_async._engine.admission import Terms
from hailuo_async._engine.tracked_job import Lane
from hailuo_async.errors import HailuoError

from ..support.crash_journal import never
from ..support.service import Line, job, until


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
