"""The jobs that wait for a slot, first come first served; a stream stands in the queue with one job at a time.

A stream looks ahead, so it has several jobs ready. If all of them stood in the queue, a caller with a single job would
wait behind them. So the jobs of one stream form a *lane*: only the first of a lane stands in the queue, and the next
joins at the end when that one was sent or taken out. Those that were given to a session before, and left unsent, come
first: they have waited longest, while the stream has many more ahead.

The job that waits since the earliest time is sent first. A single job waits since it was asked for. The next job of a
lane counts from when the one before it leaves, or from ``TURN_S`` after the other's time if that is later. So sessions
that share a journal can tell which job came first, and a stream that began a moment before others does not get their
slots. A job that was refused for want of a slot, or that was not granted one, keeps its time. A job that is taken out
leaves its entry in the heap until that comes up: so ten thousand callers who leave at once cost no search each.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import attrs

from hailuo_async._engine.clock import running_clock
from hailuo_async._engine.tracked_job import Lane, TrackedJob

#: Seconds between the times of two jobs of a lane, at least; and how far ahead of the clock one may be, at most.
TURN_S, AHEAD_S = 1.0, 20.0
#: Entries of jobs that were taken out may outnumber those that wait by this many before the heap is made again.
_MAX_STALE = 64


@attrs.define(eq=False)
class SubmitQueue:
    """Owns the order in which jobs are sent."""

    _now: Callable[[], float] = attrs.field(factory=running_clock)
    _heap: list[tuple[float, int, TrackedJob]] = attrs.field(factory=list, init=False)
    """By the time since when each waits, and by number among those who came at once."""
    _waiting: dict[TrackedJob, None] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def standing(self) -> int:
        """How many jobs stand in the queue: of each stream, one."""
        return sum(tracked.waits_since is not None for tracked in self._waiting)

    def put(self, tracked: TrackedJob) -> None:
        """Puts a job at the end, or behind the others of its lane, or back to where it was."""
        self._waiting[tracked] = None
        lane = tracked.lane
        if lane is None or lane.first is None:
            self._stand(tracked)
        elif tracked.waits_since is None or _order(lane.first) < _order(tracked):
            self._stand_behind(lane, tracked)
        else:  # it comes back, and stands again instead of the one that came after it
            self._stand_behind(lane, lane.first)
            self._stand(tracked)

    def first(self) -> TrackedJob | None:
        """The job that is sent next. It stays."""
        while self._heap and not self._stands(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def take(self, tracked: TrackedJob) -> bool:
        """Takes a job out, to be sent or because it will not be. Whether it was in."""
        if tracked not in self._waiting:
            return False
        del self._waiting[tracked]
        self._advance(tracked.lane, tracked)
        if len(self._heap) > 2 * len(self._waiting) + _MAX_STALE:
            self._heap = [entry for entry in self._heap if self._stands(*entry)]
            heapq.heapify(self._heap)
        return True

    def take_all(self) -> list[TrackedJob]:
        """Takes all jobs out, in the order of their numbers."""
        jobs = sorted(self._waiting, key=lambda tracked: tracked.number)
        self._heap.clear()
        self._waiting.clear()
        for tracked in jobs:
            if tracked.lane is not None:
                tracked.lane.first = None
                tracked.lane.others.clear()
        return jobs

    def _stands(self, since: float, _: int, tracked: TrackedJob) -> bool:
        return tracked in self._waiting and tracked.waits_since == since

    def _stand(self, tracked: TrackedJob) -> None:
        if tracked.waits_since is None:
            tracked.waits_since = tracked.taken_at if tracked.lane is None else self._now()
        if tracked.lane is not None:
            tracked.lane.first = tracked
        heapq.heappush(self._heap, (tracked.waits_since, tracked.number, tracked))

    def _stand_behind(self, lane: Lane, tracked: TrackedJob) -> None:
        tracked.waits_since = None
        heapq.heappush(lane.others, (not tracked.was_left, tracked.number, tracked))

    def _advance(self, lane: Lane | None, tracked: TrackedJob) -> None:
        if lane is None or lane.first is not tracked:
            return
        lane.first = None
        while lane.others and lane.first is None:
            if (candidate := heapq.heappop(lane.others)[-1]) in self._waiting:
                candidate.waits_since = self._counts_from(tracked)
                self._stand(candidate)

    def _counts_from(self, before: TrackedJob) -> float:
        now = self._now()
        at = now if before.waits_since is None else before.waits_since + TURN_S
        return max(now, min(at, now + AHEAD_S))


def _order(tracked: TrackedJob) -> tuple[float, int]:
    return (math.inf if tracked.waits_since is None else tracked.waits_since, tracked.number)
