"""Hints that a task may have ended, from a webhook's receiver. They have no signature, so no hint is believed.

A hint about a running task of this session causes a query at once, ahead of the others, at most once a second. The
query goes through the gate like any other, so it never takes a request that submits need. A hint about any other task
costs a look into two small maps: the hint may have come before the answer to its submit was read, or after a query had
found the end by itself. Both maps are bounded, so a stranger who sends a million hints only makes the session forget
hints.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import attrs

from hailuo_async._engine.tracked_job import TrackedJob

#: Seconds between two early queries of one task.
APART_S = 1.0
#: Hints remembered, of each sort.
MAX_REMEMBERED = 1024


@attrs.define(eq=False)
class Notices:
    """Hints about tasks that the poller does not watch yet, or no longer."""

    _early: OrderedDict[str, Hashable] = attrs.field(factory=OrderedDict, init=False)
    _silent: OrderedDict[str, Hashable] = attrs.field(factory=OrderedDict, init=False)
    """The kinds of tasks whose end a query found before any hint."""

    def came_before(self, task_id: str) -> bool:
        """Whether a hint came before the poller watched the task. True only once."""
        return task_id in self._early and self._early.pop(task_id) is None

    def ended_in_silence(self, task_id: str, kind: Hashable) -> None:
        """Notes that a query found the end of a task without a hint."""
        _remember(self._silent, task_id, kind)

    def unwatched(self, task_id: str) -> Hashable | None:
        """Notes a hint about a task that is not watched. Returns its kind, if it ended a moment ago without a hint."""
        if task_id in self._silent:
            return self._silent.pop(task_id)
        _remember(self._early, task_id, None)
        return None


def early_query_at(tracked: TrackedJob, now: float) -> float:
    """When to query a task that a hint announced. ``APART_S`` counts from then."""
    tracked.noticed_at = max(now, tracked.noticed_at + APART_S)
    return tracked.noticed_at


def _remember(held: OrderedDict[str, Hashable], task_id: str, value: Hashable) -> None:
    held[task_id] = value
    held.move_to_end(task_id)
    if len(held) > MAX_REMEMBERED:
        held.popitem(last=False)
