"""Signals: a waiter that leaves harms no other, and a wait may be bounded."""

from __future__ import annotations

import asyncio

from hailuo_async._engine.signal import Signal
from hailuo_async.testing import run_virtual


async def test_all_that_wait_are_woken_and_who_comes_later_is_not() -> None:
    signal = Signal()
    signal.notify()
    waiting = [asyncio.ensure_future(signal.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    signal.notify()
    await asyncio.wait(waiting)
    assert [task.cancelled() for task in waiting] == [False, True, False]
    later = asyncio.ensure_future(signal.wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not later.done()
    signal.notify()
    await later


def test_a_wait_ends_with_its_time_or_with_the_signal_whichever_is_first() -> None:
    async def main() -> list[float]:
        signal, loop, ends = Signal(), asyncio.get_running_loop(), []
        loop.call_later(3.0, signal.notify)
        for timeout_s in (1.0, 60.0, 2.0):
            await signal.wait(timeout_s)
            ends.append(loop.time())
        return [round(end - ends[0] + 1.0, 3) for end in ends]

    assert run_virtual(main) == [1.0, 3.0, 5.0]


async def test_a_waiter_that_is_cancelled_in_the_turn_of_its_signal_is_cancelled() -> None:
    signal = Signal()
    waiting = asyncio.ensure_future(signal.wait())
    await asyncio.sleep(0)
    signal.notify()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    signal.notify()
