"""The queries in flight: few that are fresh, and those that hang beside them, so that they hold up no other.

An answer takes a fraction of a second. A query without one after ``SLOW_S`` will probably never get one, so it counts
as fresh no longer and goes on beside them. If too many hang, the one that has hung longest is cancelled: asking
again is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.signal import Signal

#: Fresh queries at once. The rate limiter allows far fewer a second; this bounds what a burst takes.
MAX_QUERIES = 32
#: A query that takes longer than this hangs, and no longer counts as fresh.
SLOW_S = 2.0
#: Queries that may hang at once, each with its connection.
MAX_SLOW = 96


@attrs.define(eq=False)
class InFlight:
    """Owns the tasks in which queries wait for their answers."""

    _cut: Callable[[asyncio.Task[None]], None]
    """Cancels a query, unless its answer is there."""
    _fresh: dict[asyncio.Task[None], float] = attrs.field(factory=dict, init=False)
    """Each with the time at which it was sent, the first first."""
    _slow: dict[asyncio.Task[None], None] = attrs.field(factory=dict, init=False)
    _given_up: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _landed: Signal = attrs.field(factory=Signal, init=False)

    async def wait_for_room(self) -> None:
        """Returns when one more may leave. Cancelling it takes nothing."""
        while len(self._fresh) >= MAX_QUERIES:
            query, sent_at = next(iter(self._fresh.items()))
            left_s = sent_at + SLOW_S - loop_time()
            if left_s > 0:
                await self._landed.wait(left_s)
            else:
                self._set_aside(query)

    def add(self, query: asyncio.Task[None], sent_at: float) -> None:
        """Counts a query that leaves now, ``sent_at`` in loop time."""
        self._fresh[query] = sent_at
        query.add_done_callback(self._land)

    def is_given_up(self) -> bool:
        """Whether the running task is a query that was cancelled because too many hang."""
        return asyncio.current_task() in self._given_up

    def _set_aside(self, query: asyncio.Task[None]) -> None:
        del self._fresh[query]
        self._slow[query] = None
        if len(self._slow) > MAX_SLOW:
            longest = next(iter(self._slow))
            del self._slow[longest]
            self._given_up.add(longest)
            self._cut(longest)

    def _land(self, query: asyncio.Task[None]) -> None:
        self._fresh.pop(query, None)
        self._slow.pop(query, None)
        self._given_up.discard(query)
        self._landed.notify()
