"""``Signal``: the only way in which the engine wakes its waiters.

A signal says that something has changed, without a value. So a waiter reads the state itself, waits if it must, and
reads again; a waiter that is cancelled, or woken for nothing, harms no other. A timer ends a wait in the same way, so a
bounded wait costs no task and no cancel scope.
"""

from __future__ import annotations

import asyncio
import math


class Signal:
    """Wakes all waiters. A signal without waiters costs nothing."""

    _waiters: dict[asyncio.Future[None], None] | None = None
    """In the order of waiting."""

    @property
    def is_awaited(self) -> bool:
        """Whether it has waiters."""
        return bool(self._waiters)

    async def wait(self, timeout_s: float = math.inf) -> None:
        """Returns at the next ``notify``, or after ``timeout_s`` seconds. Cancelling it cancels only this wait."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters = self._waiters or {}
        self._waiters[waiter] = None
        timer = None if timeout_s == math.inf else loop.call_later(timeout_s, _wake, waiter)
        try:
            await waiter
        finally:
            if self._waiters is not None:
                self._waiters.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    def notify(self) -> None:
        """Wakes all waiters."""
        if self._waiters:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():  # it may have been cancelled, or timed out, in this loop iteration
        waiter.set_result(None)
