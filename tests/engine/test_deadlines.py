"""The deadlines of callers who wait for one job: each waits for its own time, and the job goes on until the last."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping
from decimal import Decimal
from typing import TypeAlias

import anyio
import attrs
import pytest

from hailuo_async import AsyncSession, Video, WaitTimeoutError
from hailuo_async._engine.recording import Recorder
from hailuo_async._images.frame import Frame
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record
from hailuo_async._rules.identity import DuplicateNumbers
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.jobs import Job
from hailuo_async.testing import run_virtual

from ..support.service import CONCURRENT, Line, asked_about, finished, job, running, told
from ..support.tables import record_in

CAT = job(key="cat")
End: TypeAlias = tuple[float, float, str | None] | None
"""When a time-out ended a caller's wait, of how many seconds, and for which task; ``None`` if it got the video."""


class Knows(Recorder):
    """A journal that knows jobs by their keys, and is on no disk."""

    def build_intent(
        self, job: Job, frames: Mapping[str, Frame], duplicates: DuplicateNumbers, price: Decimal | None = None
    ) -> Intent | None:
        return Intent(identity=job.key or "", key=job.key, fingerprint="", kind="", model="", facts={}, price=price)

    async def intend(self, intent: Intent) -> Claim:
        return Claim(Record.of(intent, "us", math.inf), ours=True)


@attrs.define
class Slow(Line):
    """Has room from ``room_at`` on, takes ``post_s`` to accept a job, and has its video at ``done_at``."""

    room_at: float = 0.0
    post_s: float = 0.0
    done_at: float = 40.0

    async def send(self, request: Request, timeout_s: float) -> Answer:
        if request.method == "POST":
            self.posts.append(request)
            if anyio.current_time() < self.room_at:
                return told(429, CONCURRENT)
            await anyio.sleep(self.post_s)
            return self.accept()
        task_id, is_done = asked_about(request), anyio.current_time() >= self.done_at
        return told(200, finished(task_id) if is_done else running(task_id))


async def end_of(waiting: Awaitable[Video]) -> End:
    try:
        await waiting
    except WaitTimeoutError as error:
        return round(anyio.current_time(), 3), error.timeout_s, error.task_id
    return None


def ends_of(line: Line, first: float | None, second: float | None, *, later_s: float = 5.0) -> list[End]:
    """How the waits of two callers for one job end, the second of which comes later."""

    async def ask(session: AsyncSession, timeout: float | None, after_s: float) -> End:
        await anyio.sleep(after_s)
        return await end_of(session.generate(CAT, timeout=timeout))

    async def main() -> list[End]:
        async with line.session(poll_interval=(0.1, 0.1)) as session:
            session._running_engine().admission._recorder = Knows()
            return list(await asyncio.gather(ask(session, first, 0), ask(session, second, later_s)))

    return run_virtual(main)


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        (10, 60, [10, None]),
        (60, 10, [None, 15]),
        (10, 20, [10, 25]),
        (20, 10, [20, 15]),
        (10, None, [10, None]),
        (None, 10, [None, 15]),
    ],
)
def test_each_caller_waits_for_its_own_time_and_the_job_goes_on_for_the_longest(
    first: float | None, second: float | None, ends: list[float | None]
) -> None:
    line = Slow()
    waits = zip(ends, (first, second), strict=True)
    assert ends_of(line, first, second) == [None if at is None else (at, timeout, "task-1") for at, timeout in waits]
    assert len(line.posts) == 1


def test_a_caller_whose_time_is_over_leaves_a_job_that_waits_for_its_slot_to_the_others() -> None:
    line = Slow(room_at=20)
    assert ends_of(line, 10, 60) == [(10, 10, None), None]
    assert ends_of(Slow(room_at=20), 60, 10) == [None, (15, 10, None)]


def test_a_caller_whose_time_ends_during_the_post_waits_for_the_task_id() -> None:
    assert ends_of(Slow(post_s=30), 10, 60) == [(30, 10, "task-1"), None]
    assert ends_of(Slow(post_s=30), 10, 60, later_s=20) == [(30, 10, "task-1"), None]
    assert ends_of(Slow(post_s=30), 60, 10) == [None, (30, 10, "task-1")]


def test_a_task_that_is_attached_more_than_once_goes_on_for_the_longest_too() -> None:
    async def main() -> list[End]:
        async with Slow().session(poll_interval=(1, 1)) as session:
            attached = [await session.attach("task-1", timeout=timeout) for timeout in (10, 60, 20)]
            return list(await asyncio.gather(*map(end_of, attached)))

    assert run_virtual(main) == [(10, 10, "task-1"), None, (20, 20, "task-1")]


def test_a_reader_of_what_is_unfinished_waits_without_a_limit() -> None:
    async def main() -> tuple[End, Video | None]:
        async with Slow().session(poll_interval=(0.1, 0.1)) as session:
            admission = session._running_engine().admission
            admission._recorder = Knows()
            generation = await session.submit(CAT, timeout=10)
            recalled = await admission.recall(record_in(JournalState.ACCEPTED, identity="cat", task_id="task-1"))
            hasty = await end_of(generation)
            await recalled.ended()
            return hasty, recalled.video

    hasty, video = run_virtual(main)
    assert (hasty, video is not None) == ((10, 10, "task-1"), True)
