"""Hints that a task may have ended, as a webhook's receiver gives them. Without a signature, none is believed.

A hint about a task that runs here has it asked about at once, ahead of the line, at most once a second; the query goes
through the gate like any other, so it never takes what submits need. A hint about any other task costs a look into two
small maps: it may have come before the answer to its submit was read, or after a query had found the end by itself.
Both maps are bounded, so a stranger who sends a million hints makes the session forget hints, and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import attrs

from hailuo_async._engine.tracked_job import TrackedJob

#: A task is asked about early at most once in so many seconds.
APART_S = 1.0
#: Hints that are remembered, of each sort.
MAX_REMEMBERED = 1024


@attrs.define(eq=False)
class Notices:
    """What was announced of tasks that are not watched: not yet, or no longer."""

    _early: OrderedDict[str, Hashable] = attrs.field(factory=OrderedDict, init=False)
    _silent: OrderedDict[str, Hashable] = attrs.field(factory=OrderedDict, init=False)
    """The kinds of tasks whose end a query found before any hint."""

    def came_before(self, task_id: str) -> bool:
        """Whether a hint came before the task was known here. Told once."""
        return task_id in self._early and self._early.pop(task_id) is None

    def ended_in_silence(self, task_id: str, kind: Hashable) -> None:
        """A query found the end of a task, and no hint had come."""
        _remember(self._silent, task_id, kind)

    def unwatched(self, task_id: str) -> Hashable | None:
        """A hint about a task that is not watched. Its kind, if it ended a moment ago without one."""
        if task_id in self._silent:
            return self._silent.pop(task_id)
        _remember(self._early, task_id, None)
        return None


def early_query_at(tracked: TrackedJob, now: float) -> float:
    """When a task that was announced is to be asked about. Its next early query is counted from then."""
    tracked.noticed_at = max(now, tracked.noticed_at + APART_S)
    return tracked.noticed_at


def _remember(held: OrderedDict[str, Hashable], task_id: str, value: Hashable) -> None:
    held[task_id] = value
    held.move_to_end(task_id)
    if len(held) > MAX_REMEMBERED:
        held.popitem(last=False)
