"""Where a session is in its life, and why it takes nothing more: the one state that all of its rooms ask."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Coroutine
from typing import Any, TypeVar

import attrs

from hailuo_async._engine.signal import Signal
from hailuo_async._engine.workers import Cancel, Workers
from hailuo_async.errors import SessionClosedError

T = TypeVar("T")

_NOT_ENTERED = "the session is not open: use it inside 'async with'; nothing was sent"


class Phase(enum.StrEnum):
    """A session passes through these in their order, each at most once."""

    NEW = "not entered"
    OPENING = "opening"
    OPEN = "open"
    ENDED = "closed"


@attrs.define(eq=False)
class SessionState:
    """Where a session is in its life, and the tasks that run meanwhile."""

    phase: Phase = Phase.NEW
    is_open: bool = attrs.field(default=False, init=False)
    """Whether new work is taken. Asked ten times a job, where CPython 3.11 finds a member of an enum slowly."""
    reason: str = attrs.field(default=_NOT_ENTERED, init=False)
    _cause: BaseException | None = attrs.field(default=None, init=False)
    workers: Workers = attrs.field(factory=Workers, init=False)
    changed: Signal = attrs.field(factory=Signal, init=False)
    """Notified when the phase has changed."""

    def check(self) -> None:
        """Raises ``SessionClosedError`` when nothing more is taken."""
        if not self.is_open:
            raise self.error()

    def start(self, work: Coroutine[Any, Any, T], *, cancel: Cancel = asyncio.Task.cancel) -> asyncio.Task[T]:
        """Runs ``work`` for as long as the engine runs. Raises ``SessionClosedError`` once it does not."""
        if not self.is_open:
            work.close()  # it will not be awaited
            raise self.error()
        return self.workers.start(work, cancel=cancel)

    def begin(self) -> None:
        """Takes work from now on, unless it has ended before."""
        if self.phase is not Phase.ENDED:
            self.phase, self.is_open = Phase.OPEN, True
            self.changed.notify()

    def end(self, reason: str, cause: BaseException | None = None) -> None:
        """Takes nothing more. The first reason given stands."""
        if self.phase is not Phase.ENDED:
            self.phase, self.is_open, self.reason, self._cause = Phase.ENDED, False, reason, cause
            self.changed.notify()

    def error(self) -> SessionClosedError:
        """Why not, as an error of its own."""
        error = SessionClosedError(reason=self.reason)
        error.__cause__ = self._cause
        return error
