"""The asyncio tasks of one engine, each behind a wall: an exception in one does not end the others.

There are two kinds. *Own* tasks run our code, which bounds itself: the engine cancels them and waits for their end.
*Foreign* tasks run a user's code, a job source. Such code may swallow its cancellation, so the engine waits for it only
``CLEANUP_S`` seconds, and then leaves it with a warning.

The engine cancels a task once, as asyncio does, and not repeatedly, as anyio's scopes do: so the awaits in its
``finally`` finish. A task that records an answer of the service must not be cut at all. It is protected the other way
round: the engine cancels it only while it waits inside ``with cuttable``.
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
class Workers:
    """Owns the tasks of an engine."""

    _own: dict[asyncio.Task[Any], Cancel] = attrs.field(factory=dict, init=False)
    """Each task with the callable that cancels it."""
    _foreign: set[asyncio.Task[Any]] = attrs.field(factory=set, init=False)

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

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancels an own task, in its own way."""
        self._own[task](task)

    async def end(self) -> None:
        """Cancels all tasks and returns when they have ended; foreign ones get ``CLEANUP_S`` seconds."""
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
            # Expected errors are handled at their source, so this is a bug. The task's job ends with the session.
            logger.error("a task of the engine failed: please report this", exc_info=error)


class Cuttable:
    """Marks, as a context manager, where one task may be cancelled. Entering it after it was cut raises."""

    _is_entered = _is_cut = False

    def __enter__(self) -> None:
        if self._is_cut:
            raise asyncio.CancelledError
        self._is_entered = True

    def __exit__(self, *_: object) -> None:
        self._is_entered = False

    def cut(self, task: asyncio.Task[Any]) -> None:
        """Cancels ``task``, whose mark this is, if it waits inside."""
        self._is_cut = True
        if self._is_entered:
            task.cancel()
