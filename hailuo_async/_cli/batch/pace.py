"""How long a batch will still take, from how long its tasks have kept their slots.

A mean since the start would count the ramp-up, and jobs in doubt, as speed. So this simulates the rest of the batch:
each running task gets the rest of a length that was seen, and each waiting job takes the next free slot.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from random import Random

import attrs

from hailuo_async._engine.stream import SAVERS
from hailuo_async.hooks import Accepted, Downloaded, Ended, Refused, Sent, SessionEvent

#: So many of the last lengths are remembered: the service may become slower.
_REMEMBERED = 100
#: Jobs that are simulated one by one, in a few games with different dice; further jobs follow at the same speed.
_PLAYED, _GAMES = 200, 4
#: With fewer lengths the estimate is a range.
_FEW = 8
_FEW_LOW, _FEW_HIGH = 0.7, 1.5
#: Until a task has ended: the seconds that the service works on a video, by its documents and its customers.
USUAL_S = (30.0, 120.0)


@attrs.frozen
class TimeLeft:
    """The seconds that are left, at least and at most; the same number if enough is known."""

    low_s: float
    high_s: float


@attrs.define(eq=False)
class Pace:
    """The speed of a batch, learned as a hook of its session."""

    _sent_at: dict[int, float] = attrs.field(factory=dict, init=False)
    """When each job that has a slot was sent, by its number."""
    _accepted: set[int] = attrs.field(factory=set, init=False)
    _lengths: deque[float] = attrs.field(factory=lambda: deque(maxlen=_REMEMBERED), init=False)
    """Seconds for which tasks kept their slots."""
    _width: int = attrs.field(default=0, init=False)
    """How many jobs had a slot when the last one ended."""
    _saves: deque[float] = attrs.field(factory=lambda: deque(maxlen=_REMEMBERED), init=False)
    """Seconds that it took to save videos."""

    def __call__(self, event: SessionEvent) -> None:
        match event:
            case Sent():
                self._sent_at[event.number] = event.at
            case Accepted():
                self._sent_at.setdefault(event.number, event.at)
                if event.attempt:  # how long one of an earlier run has taken is not known
                    self._accepted.add(event.number)
            case Refused():
                self._sent_at.pop(event.number, None)
            case Ended():
                self._width = len(self._sent_at)  # a slot that is free just now is taken again at once
                sent_at = self._sent_at.pop(event.number, None)
                if event.number in self._accepted and sent_at is not None:
                    self._accepted.discard(event.number)
                    self._lengths.append(event.at - sent_at)
            case Downloaded():
                self._saves.append(event.took_s)
            case _:
                pass

    @property
    def a_minute(self) -> float | None:
        """How many tasks end in a minute while as many run as now."""
        if not self._lengths or not self._sent_at:
            return None
        return 60 * len(self._sent_at) * len(self._lengths) / sum(self._lengths)

    def left(self, now: float, waiting: int, saving: int = 0) -> TimeLeft | None:
        """How long the running, waiting and unsaved jobs will take; ``None`` if nothing is known yet."""
        save_s = sum(self._saves) / len(self._saves) if self._saves else 0.0
        saves_s = save_s * (saving + len(self._sent_at) + waiting) / SAVERS
        if not self._sent_at:
            return TimeLeft(saves_s, saves_s) if saves_s and not waiting else None
        ages = [now - sent_at for sent_at in self._sent_at.values()]
        ages += [math.inf] * min(waiting, self._width - len(ages))
        if not self._lengths:
            low_s, high_s = (_play(ages, waiting, [length]) for length in USUAL_S)
            return TimeLeft(low_s, high_s)
        seconds = max(_play(ages, waiting, list(self._lengths)) + save_s, saves_s)
        is_little = len(self._lengths) < _FEW
        return TimeLeft(seconds * _FEW_LOW, seconds * _FEW_HIGH) if is_little else TimeLeft(seconds, seconds)


def _play(ages: Sequence[float], waiting: int, lengths: Sequence[float]) -> float:
    """Seconds until the last job ends: the mean of a few games."""
    mean = sum(lengths) / len(lengths)
    played = min(waiting, _PLAYED)
    more = (waiting - played) * mean / len(ages)
    games = _GAMES if len(lengths) > 1 else 1
    return more + sum(_game(ages, played, lengths, Random(number)) for number in range(games)) / games


def _game(ages: Sequence[float], waiting: int, lengths: Sequence[float], dice: Random) -> float:
    free_at = [_rest(age, lengths, dice) for age in ages]
    heapq.heapify(free_at)
    for _ in repeat(None, waiting):
        heapq.heapreplace(free_at, free_at[0] + dice.choice(lengths))
    return max(free_at)


def _rest(age: float, lengths: Sequence[float], dice: Random) -> float:
    """The seconds left of a task of that age; a tenth of the mean if it is older than any. A free slot has no end."""
    if age == math.inf:
        return 0.0
    longer = [length for length in lengths if length > age]
    return dice.choice(longer) - age if longer else sum(lengths) / len(lengths) / 10
