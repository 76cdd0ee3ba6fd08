"""Processes on one virtual clock, which can be stopped, and killed, at any moment.

Everything that a process does on the loop runs in its context. While it is stopped its callbacks and timers wait, as
those of a process under SIGSTOP do, and what it has given to the network goes on without it. One that is killed stays
stopped. What it gives to a thread is done on the loop's own, a moment later: so all takes the same course each time.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar, TypeVarTuple
from unittest.mock import patch

import anyio.lowlevel
import anyio.to_thread
import attrs

from hailuo_async.testing import VirtualClockLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: What a thread takes for its work.
_THREAD_S = 0.002

_PROCESS: ContextVar[Process | None] = ContextVar("_PROCESS", default=None)


@attrs.define(eq=False)
class Process:
    """What runs in ``context``, and its tasks."""

    name: str
    context: Context = attrs.field(factory=contextvars.copy_context, init=False)
    is_stopped: bool = attrs.field(default=False, init=False)
    is_killed: bool = attrs.field(default=False, init=False)
    _waiting: deque[_Callback] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self.context.run(_PROCESS.set, self)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process."""
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    def stop(self, for_s: float) -> None:
        """Stops it, as SIGSTOP does, and lets it go on after so many seconds."""
        self.is_stopped = True
        asyncio.get_running_loop().call_later(for_s, self.go_on, context=Context())

    def kill(self) -> None:
        """Stops it for good."""
        self.is_stopped = self.is_killed = True

    def bury(self) -> None:
        """Lets one that was killed go on, so that it can be closed."""
        self.is_killed = False
        self.go_on()

    def go_on(self) -> None:
        """Lets it go on, as SIGCONT does: what has become due meanwhile runs now, in that order."""
        if self.is_killed:
            return
        self.is_stopped = False
        loop = asyncio.get_running_loop()
        while self._waiting:
            waiting = self._waiting.popleft()
            loop.call_soon(waiting.go_on, context=waiting.context)


def outside(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task of no process, which goes on if that of its caller is stopped or killed: the network, or a server."""
    return asyncio.get_running_loop().create_task(work, context=Context())


@attrs.define(eq=False)
class _Callback:
    """A callback of a process. It is not called while that is stopped, and not after ``handle`` was cancelled."""

    process: Process
    callback: Callable[..., object]
    args: tuple[Any, ...]
    handle: asyncio.Handle | None = None
    context: Context | None = None

    def __call__(self) -> None:
        if not self.process.is_stopped:
            self.callback(*self.args)
        else:
            self.context = contextvars.copy_context()
            self.process._waiting.append(self)

    def go_on(self) -> None:
        """Calls it late."""
        if self.handle is None or not self.handle.cancelled():
            self()


class _Task(asyncio.Task[T]):
    """A task whose hash is its number, not its address: a set of tasks has the same order each time."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **named: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **named)

    def __hash__(self) -> int:
        return self._number


class ProcessLoop(VirtualClockLoop):
    """A virtual clock with processes."""

    def __init__(self) -> None:
        super().__init__()
        self.set_task_factory(lambda loop, work, **named: _Task(work, loop=loop, **named))

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        gated = _Callback(process, callback, args)
        gated.handle = super().call_soon(gated, context=context)
        return gated.handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        gated = _Callback(process, callback, args)
        gated.handle = handle = super().call_at(when, gated, context=context)
        return handle


async def _run_in_thread(
    work: Callable[[*Ts], T], *args: *Ts, limiter: anyio.CapacityLimiter | None = None, **_: object
) -> T:
    """In place of ``anyio.to_thread.run_sync``: does ``work`` a moment later, even if its caller is cancelled then."""
    await anyio.lowlevel.checkpoint()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def do() -> None:
        asyncio._set_running_loop(None)  # as in a thread
        try:
            settle = functools.partial(done.set_result, work(*args))
        except Exception as error:
            settle = functools.partial(done.set_exception, error)
        finally:
            asyncio._set_running_loop(loop)
        if not done.done():
            settle()

    async with limiter or anyio.to_thread.current_default_thread_limiter():
        loop.call_later(_THREAD_S, do)
        with anyio.CancelScope(shield=True):
            await done
    return done.result()


def run_processes(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """``run_virtual``, on a ``ProcessLoop``."""
    thread = patch.object(anyio.to_thread, "run_sync", _run_in_thread)
    with thread, asyncio.Runner(loop_factory=ProcessLoop) as runner:
        return runner.run(main())
