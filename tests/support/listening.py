"""What a hook is told while a session works over a line, on the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anyio

from hailuo_async import AsyncSession, SessionEvent
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.testing import run_virtual

from .service import Line, job, taken, told

JOB = job("nobody else's business", key="cat")


def told_of(
    line: Line, work: Callable[[AsyncSession], Awaitable[object]] | None = None, **settings: Any
) -> list[SessionEvent]:
    """Everything that a hook is told while ``work`` is done over ``line``: else, while ``JOB`` is, however it ends."""

    async def generate(session: AsyncSession) -> None:
        await asyncio.gather(session.generate(JOB), return_exceptions=True)

    async def main() -> list[SessionEvent]:
        events: list[SessionEvent] = []
        async with line.session(rng=Random(1), **settings) as session:
            session.hooks.append(events.append)
            await (work or generate)(session)
        return events

    return run_virtual(main)


def line_that(*answers: Answer | tuple[int, object], **more: Any) -> Line:
    """Answers the first POSTs so, each after a second, and accepts those that follow."""
    left = list(answers)

    async def post(request: Request) -> Answer:
        await anyio.sleep(1)
        answer = left.pop(0) if left else (200, taken())
        return answer if isinstance(answer, Answer) else told(*answer)

    return Line(on_post=post, **more)


def of_the_job(at: float, task_id: str | None = None) -> dict[str, Any]:
    """What every event of ``JOB`` tells, when it was taken at 0."""
    return {"at": at, "number": 0, "job": JOB, "key": "cat", "task_id": task_id, "waited_s": at}
