"""Notices that a task may have ended, from a webhook's receiver. They have no signature, so none is believed.

A notice about a running task of this session causes a query at once, ahead of the others, at most once a second. The
query goes through the gate like any other, so it never takes a request that submits need. A notice about any other task
is only remembered: it may have come before the answer to its submit was read, or after a query had found the end by
itself. What is remembered is bounded, so a stranger who sends a million notices only makes the session forget some.

While other sessions share the journal, the notice may be about a task of theirs, and ``PassedNotices`` takes it there.
That costs look-ups, so it is bounded: what a flood brings beyond that is dropped, and polling finds those ends.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence

import anyio
import attrs

from hailuo_async._engine.session_state import SessionState
from hailuo_async.errors import JournalError, SessionClosedError

#: Seconds between two early queries of one task.
APART_S = 1.0
#: Notices remembered, of each sort.
MAX_REMEMBERED = 1024
#: Seconds between two look-ups of the sessions that work on tasks, at least.
PASSES_APART_S = 0.25


@attrs.define(eq=False)
class Notices:
    """Notices about tasks that the poller does not watch yet, or no longer."""

    _early: OrderedDict[str, Hashable] = attrs.field(factory=OrderedDict, init=False)
    _ended_without: OrderedDict[str, Hashable] = attrs.field(factory=OrderedDict, init=False)
    """The kinds of tasks whose end a query found before any notice."""

    def came_before(self, task_id: str) -> bool:
        """Whether a notice came before the poller watched the task. True only once."""
        return bool(self._early.pop(task_id, False))

    def ended_without(self, task_id: str, kind: Hashable) -> None:
        """Remembers that a query found the end of a task without a notice."""
        _remember(self._ended_without, task_id, kind)

    def unwatched(self, task_id: str) -> Hashable | None:
        """Remembers a notice about a task that is not watched. Returns the kind of one that ended without a notice."""
        if task_id in self._ended_without:
            return self._ended_without.pop(task_id)
        _remember(self._early, task_id, True)
        return None


@attrs.define(eq=False)
class PassedNotices:
    """Notices on their way to other sessions: the first at once, those that come soon after it together."""

    _session_state: SessionState
    _pass_on: Callable[[Sequence[str]], Awaitable[None]]
    """Looks up which sessions work on those tasks, and tells them."""
    _most: int
    """Notices that one look-up passes on."""
    _waiting: dict[str, None] = attrs.field(factory=dict, init=False)
    _is_passing: bool = attrs.field(default=False, init=False)

    def add(self, task_id: str) -> None:
        """Passes the notice on soon; drops it if too many wait already."""
        if len(self._waiting) < self._most:
            self._waiting[task_id] = None
        if not self._is_passing:
            with contextlib.suppress(SessionClosedError):
                self._session_state.start(self._pass_all())
                self._is_passing = True

    async def _pass_all(self) -> None:
        try:
            while self._waiting:
                task_ids, self._waiting = list(self._waiting), {}
                with contextlib.suppress(JournalError):  # an outage; polling finds their ends
                    await self._pass_on(task_ids)
                await anyio.sleep(PASSES_APART_S)
        finally:
            self._is_passing = False


def _remember(held: OrderedDict[str, Hashable], task_id: str, value: Hashable) -> None:
    held[task_id] = value
    held.move_to_end(task_id)
    if len(held) > MAX_REMEMBERED:
        held.popitem(last=False)
