"""``hailuo_async.testing``: hours pass at once, in order, and what would wait for ever is told so."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys

import anyio
import pytest

from hailuo_async.testing import DeadlockError, VirtualClockLoop, run_virtual


def test_a_day_passes_at_once_and_to_the_second() -> None:
    async def main() -> float:
        await anyio.sleep(24 * 3600)
        return anyio.current_time()

    assert run_virtual(main) == 24 * 3600


def test_a_timer_further_away_than_a_loop_may_wait_at_a_time_is_reached() -> None:
    async def main() -> float:
        await anyio.sleep(400 * 24 * 3600)
        return anyio.current_time()

    assert run_virtual(main) == 400 * 24 * 3600


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    async def main() -> list[tuple[float, int]]:
        woken: list[tuple[float, int]] = []

        async def sleeper(seconds: int) -> None:
            await anyio.sleep(seconds)
            woken.append((anyio.current_time(), seconds))

        async with anyio.create_task_group() as tasks:
            for seconds in (50, 7, 1000, 7):
                tasks.start_soon(sleeper, seconds)
        return woken

    assert run_virtual(main) == [(7, 7), (7, 7), (50, 50), (1000, 1000)]


def test_time_stands_still_while_something_is_ready() -> None:
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtual(main) == 0


def test_a_deadline_passes_for_what_never_happens() -> None:
    async def main() -> tuple[bool, float]:
        with anyio.move_on_after(30) as scope:
            await anyio.Event().wait()
        return scope.cancelled_caught, anyio.current_time()

    assert run_virtual(main) == (True, 30)


def test_waiting_for_what_never_happens_is_a_deadlock_that_names_who_waits() -> None:
    async def main() -> None:
        await anyio.sleep(5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.Event().wait, name="the one at the door")
            tasks.start_soon(anyio.sleep_forever, name="the one in bed")

    with pytest.raises(
        DeadlockError, match=r"at 5 s .*: Task-\d+, the one at the door, the one in bed; .*URLs as images"
    ):
        run_virtual(main)


def test_a_timer_that_never_comes_can_be_cancelled_and_holds_nothing_up() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(math.inf, pytest.fail).cancel()
        loop.call_at(math.inf, pytest.fail)
        await anyio.sleep(1)
        return loop.time()

    assert run_virtual(main) == 1


def test_what_main_raises_comes_out_and_what_it_left_is_cancelled() -> None:
    left: list[asyncio.Task[None]] = []

    async def main() -> None:
        left.append(asyncio.create_task(anyio.sleep(3600)))
        await anyio.sleep(1)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        run_virtual(main)
    assert left[0].cancelled()


def test_each_run_has_a_loop_of_its_own_that_starts_at_zero() -> None:
    async def main() -> tuple[type[object], float]:
        return type(asyncio.get_running_loop()), anyio.current_time()

    assert [run_virtual(main), run_virtual(main)] == [(VirtualClockLoop, 0), (VirtualClockLoop, 0)]


def test_what_is_called_from_outside_is_heard_before_any_time_passes() -> None:
    async def main() -> float:
        called = anyio.Event()
        asyncio.get_running_loop().call_soon_threadsafe(called.set)
        await called.wait()
        return anyio.current_time()

    assert run_virtual(main) == 0


@pytest.mark.slow
def test_programs_have_all_of_it_without_pytest() -> None:
    program = "import sys; from hailuo_async.testing import *; print(InMemory, run_virtual, 'pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
