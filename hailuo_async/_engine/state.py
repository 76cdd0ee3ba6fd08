"""Whether the engine runs, and why it does not: what everyone asks before taking anything on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from anyio.abc import TaskGroup

from hailuo_async.errors import SessionClosedError

_NOT_ENTERED = "the session is not open: use it inside 'async with'"


@attrs.define(eq=False)
class EngineState:
    """Whether the engine runs, and why it does not."""

    reason: str = _NOT_ENTERED
    cause: BaseException | None = None
    tasks: TaskGroup | None = None

    def check(self) -> TaskGroup:
        """Raises ``SessionClosedError`` when nothing more is taken."""
        if self.tasks is None:
            raise self.error()
        return self.tasks

    def start_soon(self, tracked: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs ``tracked`` for as long as the engine runs. Raises ``SessionClosedError`` once it does not."""
        self.check().start_soon(tracked)

    def end(self, reason: str, cause: BaseException | None = None) -> None:
        """Takes nothing more. The first reason given stands."""
        if self.tasks is not None:
            self.tasks, self.reason, self.cause = None, reason, cause

    def error(self) -> SessionClosedError:
        """Why not, as an error of its own."""
        error = SessionClosedError(reason=self.reason)
        error.__cause__ = self.cause
        return error
