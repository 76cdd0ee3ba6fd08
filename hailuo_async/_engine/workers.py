"""The asyncio tasks of one engine, each behind a wall: what one of them raises does not end the others.

Two kinds. *Own* tasks run our code, which bounds itself: they are cancelled and waited for. *Foreign* tasks run what
users hand in, a job source; such code may swallow its cancellation, so it is waited for only so long, and then left
behind with a warning.

A task is cancelled once, as asyncio does it, and not again and again, as anyio's scopes do: what it awaits in its
``finally`` is awaited to its end. What must not be cut short at all, because an answer of the service is being put on
record, is protected the other way round: such a task is cancelled only while it waits inside ``with cuttable``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import attrs

T = TypeVar("T")

logger = logging.getLogger("hailuo_async")

#: Seconds that a foreign task gets to clean up in, once it was cancelled for good.
CLEANUP_S = 5.0

Cancel: TypeAlias = Callable[[asyncio.Task[Any]], object]


@attrs.define(eq=False)
class Cuttable:
    """Marks, as a context manager, where the running task may be cancelled; after the end it cannot be entered."""

    tasks: set[asyncio.Task[Any] | None] = attrs.field(factory=set, init=False)
    """Those that wait inside it."""
    has_ended: bool = attrs.field(default=False, init=False)

    def __enter__(self) -> None:
        if self.has_ended:
            raise asyncio.CancelledError
        self.tasks.add(asyncio.current_task())

    def __exit__(self, *_: object) -> None:
        self.tasks.discard(asyncio.current_task())


@attrs.define(eq=False)
class Workers:
    """Owns the tasks of an engine."""

    _own: dict[asyncio.Task[Any], Cancel] = attrs.field(factory=dict, init=False)
    """Each with what cancels it."""
    _foreign: set[asyncio.Task[Any]] = attrs.field(factory=set, init=False)
    cuttable: Cuttable = attrs.field(factory=Cuttable, init=False)

    def start(self, work: Coroutine[Any, Any, T], *, cancel: Cancel = asyncio.Task.cancel) -> asyncio.Task[T]:
        """Runs ``work`` in a task of its own, which ``cancel`` cancels when the engine ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._own[task] = cancel
        task.add_done_callback(self._forget)
        return task

    def start_foreign(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs ``work``, which runs code of a user, in a task of its own."""
        task = asyncio.get_running_loop().create_task(work)
        self._foreign.add(task)
        task.add_done_callback(self._forget)
        return task

    def cut(self, task: asyncio.Task[Any]) -> None:
        """Cancels ``task`` if it waits inside ``with cuttable``."""
        if task in self.cuttable.tasks:
            task.cancel()

    async def end(self) -> None:
        """Cancels all of them and returns when they have ended; foreign ones get ``CLEANUP_S`` seconds."""
        self.cuttable.has_ended = True
        for task, cancel in list(self._own.items()):
            cancel(task)
        for task in self._foreign:
            if not task.cancelling():  # else it cleans up already, which a second cancellation would cut short
                task.cancel()
        if self._foreign:
            await asyncio.wait(self._foreign, timeout=CLEANUP_S)
        for _ in self._foreign:
            logger.warning("a job source goes on although its session has ended: let CancelledError pass through it")
        while self._own:
            await asyncio.wait(self._own)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._own.pop(task, None)
        self._foreign.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # What can be foreseen is handled where it arises: this is a bug. Its job ends with the session.
            logger.error("a task of the engine failed: please report this", exc_info=error)
