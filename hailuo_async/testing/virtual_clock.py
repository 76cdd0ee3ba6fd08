"""A loop whose hours pass in no time.

Whenever a ``VirtualClockLoop`` has nothing left to run, its clock jumps to the next timer, so a night's batch takes
seconds, and takes the same course each time. It is for programs that wait only for timers and for each other: while a
task waits for a thread, a socket or a child process, the clock would jump on.
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


_ADVICE = "this loop waits for no thread or socket: here a session takes URLs as images, and no journal or download"


class DeadlockError(RuntimeError):
    """All tasks wait, and will for ever: no timer is set that could wake one."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """A loop whose time starts at 0 and moves only when nothing is ready: to the next timer, at once.

    Raises ``DeadlockError`` out of ``run_forever`` and ``run_until_complete`` where another loop would wait for ever.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumps(self._jump))
        # asyncio runs a timer that is due within this. Its default, a nanosecond, is lost in a clock at 100 days.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As on any loop, but a timer at infinity is not set, so that a task which waits for it counts as waiting."""
        if math.isinf(when):
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    def _jump(self, seconds: float | None) -> None:
        if seconds is None:
            waiting = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self)))
            raise DeadlockError(f"at {self._now:g} s all tasks wait and no timer is set: {waiting}; {_ADVICE}")
        self._now += seconds


class _Jumps(selectors.DefaultSelector):
    """A selector that does not wait for sockets: it gives ``jump`` the time that it would have waited."""

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

    Raises the exceptions of ``main``, and ``DeadlockError`` if it would wait for ever. Running tasks are cancelled.
    """
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())
