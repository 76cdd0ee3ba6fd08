"""Learns from a session's events which jobs wait, in which order, and how long a job takes, in the loop's time."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from statistics import fmean

import attrs

from hailuo_async.hooks import Accepted, Ended, JobEvent, Queued, Refused, SessionEvent
from hailuo_async.outcomes import Stats, Status

#: Before the first job has ended: a generation takes 30 to 120 seconds, says the service.
_FIRST_GUESS_S = 90.0
#: So many of the last jobs of a kind are averaged.
_LAST = 20


@attrs.define(eq=False)
class Line:
    """Learns from a session's events. Holds a few words for each job that has not ended, and nothing of others."""

    _waiting: dict[str, int] = attrs.field(factory=dict, init=False)
    """The number of each job that waits for a slot, by its key."""
    _numbers: list[int] = attrs.field(factory=list, init=False)
    """The same numbers in their order, which is that of the line."""
    _began: dict[str, float] = attrs.field(factory=dict, init=False)
    _took: dict[tuple[str, int], deque[float]] = attrs.field(factory=dict, init=False)

    def hear(self, event: SessionEvent) -> None:
        if not isinstance(event, JobEvent) or event.key is None:
            return
        if (number := self._waiting.pop(event.key, None)) is not None:
            del self._numbers[bisect_left(self._numbers, number)]
        match event:
            case Queued() | Refused():
                self._waiting[event.key] = event.number
                insort(self._numbers, event.number)
            case Accepted():
                self._began[event.key] = asyncio.get_running_loop().time()
            case Ended():
                self._began.pop(event.key, None)
                self._learn(event)

    def _learn(self, ended: Ended) -> None:
        if ended.status is Status.SUCCESS and ended.ran_s is not None and ended.job is not None:
            kind = ended.job.model, ended.job.duration
            self._took.setdefault(kind, deque(maxlen=_LAST)).append(ended.ran_s)

    def knows(self, key: str) -> bool:
        return key in self._waiting or key in self._began

    def place(self, key: str) -> int | None:
        """Its place among those who wait in this session, from 1; ``None`` for a job that does not wait here."""
        number = self._waiting.get(key)
        return None if number is None else 1 + bisect_left(self._numbers, number)

    def seconds_left(self, key: str, model: str | None, duration: int, stats: Stats) -> float | None:
        """How many seconds a job of this session will still take, as far as can be said; ``None`` for one of others."""
        took = self._took.get((model or "", duration))
        usual_s = fmean(took) if took else _FIRST_GUESS_S
        if (began := self._began.get(key)) is not None:
            return max(1.0, began + usual_s - asyncio.get_running_loop().time())
        place = self.place(key)
        return None if place is None else usual_s * (1 + (stats.running + place - 1) // max(1, stats.limit))
