"""The priority queues of the poller: watched tasks by when each is due, overdue ones by what a query is worth.

Two heaps. While requests are plenty, tasks leave the first as they fall due. While they are scarce, those that are due
move to the second, which is ordered by when each has probably ended: now, less its worth (the seconds for which it has
probably been finished). As time passes, that estimate only moves later. So an entry that comes up is estimated anew: if
it is still the first, it is the worthiest, else it goes back. To take one out of n costs O(log n); sorting all that are
due cost 14.6 ms with 5,000 of them.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs

from hailuo_async._engine.tracked_job import WatchedTask

#: So many entries are compared again at most: the best of these is hardly worse than the best of all.
_MOST_CHECKED = 16

_Entry: TypeAlias = tuple[float, int, WatchedTask]


@attrs.define(eq=False)
class DueTasks:
    """Tasks to be asked about. Those that have ended meanwhile stay until they come up, and are passed over."""

    _later: list[_Entry] = attrs.field(factory=list, init=False)
    """A heap, by when they are due."""
    _overdue: list[_Entry] = attrs.field(factory=list, init=False)
    """A heap, by when they have probably ended."""
    _ticks: Iterator[int] = attrs.field(factory=itertools.count, init=False)

    @property
    def first_at(self) -> float:
        """When the first is due; the distant past while some are overdue, ``inf`` if there is none."""
        if self._overdue:
            return -math.inf
        return self._later[0][0] if self._later else math.inf

    def push(self, task: WatchedTask, at: float) -> bool:
        """Adds a task that is due ``at``. Returns whether it is the first now."""
        task.due_tick = next(self._ticks)  # an earlier entry of the same task counts no more
        heapq.heappush(self._later, (at, task.due_tick, task))
        return not self._overdue and self._later[0][2] is task

    def pop_earliest(self) -> WatchedTask | None:
        """Takes the next one out, those that are overdue first; ``None`` if it has ended."""
        _, tick, task = heapq.heappop(self._overdue or self._later)
        return task if _counts(task, tick) else None

    def pop_worthiest(self, now: float, worth: Callable[[WatchedTask], float]) -> WatchedTask | None:
        """Takes out the due task that is worth most; ``None`` if no task is left that has not ended."""
        while self._later and self._later[0][0] <= now:
            _, tick, task = heapq.heappop(self._later)
            self._push_overdue(task, tick, now, worth)
        for _ in range(_MOST_CHECKED):
            if not self._overdue:
                return None
            _, tick, task = heapq.heappop(self._overdue)
            self._push_overdue(task, tick, now, worth)
            if self._overdue and self._overdue[0][2] is task:
                break
        return heapq.heappop(self._overdue)[2] if self._overdue else None

    def _push_overdue(self, task: WatchedTask, tick: int, now: float, worth: Callable[[WatchedTask], float]) -> None:
        if _counts(task, tick):
            task.due_tick = next(self._ticks)
            heapq.heappush(self._overdue, (now - worth(task), task.due_tick, task))


def _counts(task: WatchedTask, tick: int) -> bool:
    return task.is_watched and task.due_tick == tick
