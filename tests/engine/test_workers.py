"""Where a task of the engine may be cut."""

from __future__ import annotations

import asyncio

import pytest

from hailuo_async._engine.workers import Cuttable

from ..support.service import settle

pytestmark = pytest.mark.anyio


async def test_a_task_that_records_an_answer_is_not_cut_and_waits_for_nothing_after_that() -> None:
    cuttable, answered, steps = Cuttable(), asyncio.Event(), list[str]()

    async def work() -> None:
        with cuttable:
            steps.append("asked")
        await answered.wait()
        steps.append("recorded")
        with cuttable:
            steps.append("asked again")

    task = asyncio.ensure_future(work())
    await settle()
    cuttable.cut(task)
    await settle()
    answered.set()
    await asyncio.wait([task])
    assert (steps, task.cancelled()) == (["asked", "recorded"], True)
