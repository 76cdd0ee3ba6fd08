"""A loop whose hours pass in no time.

On a ``VirtualClockLoop`` nobody waits. Whenever nothing is left to run, its clock jumps to the next timer, so a night's
batch takes seconds, and takes the same course each time. It is for programs that wait for timers and for each other
alone: what waits for a thread, a socket or a child process would wait on a clock that has long gone on.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DeadlockError(RuntimeError):
    """Everything waits, and nothing will ever happen: no timer is set, and nobody else is there to wake anyone."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """A loop whose time starts at 0 and moves only when nothing is ready: to the next timer, at once.

    Raises ``DeadlockError`` out of ``run_forever`` and ``run_until_complete`` where another loop would wait for ever.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumps(self._jump))
        # asyncio runs a timer that is due within this. Its own nanosecond is lost in a clock that shows 100 days.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds of its own clock."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As on any loop. A timer that never comes is not set: waiting for it is waiting for ever."""
        if math.isinf(when):
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    def _jump(self, seconds: float | None) -> None:
        if seconds is None:
            waiting = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self)))
            raise DeadlockError(f"at {self._now:g} s everything waits and no timer is set: {waiting}")
        self._now += seconds


class _Jumps(selectors.DefaultSelector):
    """Where a loop would wait for a socket, at most until its next timer, ``jump`` is told for how long instead."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            self._jump(timeout)
        return ready


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs ``main()`` on a ``VirtualClockLoop`` of its own, and returns its result.

    Raises what it raises, and ``DeadlockError`` when it would wait for ever. What it left running is cancelled.
    """
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())
