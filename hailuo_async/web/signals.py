"""Hears that the process is asked to end, as soon as its server does.

A server such as uvicorn first waits for each open answer, and only then says that it stops (lifespan shutdown). An
answer without an end of its own, as a stream of events, would hold it up until it is killed. So while such answers are
open, a handler stands before the server's own for SIGINT and SIGTERM: it ends them, and calls that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import attrs

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@attrs.define(eq=False)
class _Handler:
    """Calls ``stop`` on the loop, and then the handler that stood here before."""

    _loop: asyncio.AbstractEventLoop
    _stop: Callable[[], None]
    before: Callable[..., Any]
    is_done: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.is_done:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._stop)
        self.before(number, frame)


@contextlib.contextmanager
def ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Calls ``stop`` on the running loop when a signal asks this process to end, if its server has a handler for it.

    Only in the main thread, where signals arrive: elsewhere this does nothing.
    """
    placed: list[tuple[signal.Signals, _Handler]] = []
    is_main = threading.current_thread() is threading.main_thread()
    for number in _NUMBERS if is_main else ():
        before = signal.getsignal(number)
        if callable(before):
            placed.append((number, _Handler(asyncio.get_running_loop(), stop, before)))
            signal.signal(number, placed[-1][1])
    try:
        yield
    finally:
        for number, handler in placed:
            handler.is_done = True
            _remove_done(number)


def _remove_done(number: int) -> None:
    """Takes out the handlers that are done, wherever they stand: the streams of two studios may end in any order."""
    first = signal.getsignal(number)
    handler = living = _living(first)
    while isinstance(handler, _Handler):
        handler.before = _living(handler.before)
        handler = handler.before
    if living is not first:
        signal.signal(number, living)


def _living(handler: Any) -> Any:
    while isinstance(handler, _Handler) and handler.is_done:
        handler = handler.before
    return handler
