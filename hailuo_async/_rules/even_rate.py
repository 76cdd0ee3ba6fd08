"""Requests that leave evenly, at a rate that is measured or found.

``_rules/rate_limiter`` assumes an even rate where it cannot see windows. Each request puts the next one off by one over
the rate. A submit need not wait while the service says that some are left, and then later requests wait
longer; nor need a query while plenty are left. The rate is

- **measured**, where answers tell a count: what was answered, plus what the count grew by, in a time. A count that was
  full cannot grow, so then the rate is only raised;
- **found**, where they do not. A refusal lowers the rate at once. When requests are taken again it falls to the number
  that was taken from one recovery to the next; if that is at once, the service counts over a moment, and the rate was
  hardly too high. While requests have to wait the rate rises, slowly at first and faster the longer nothing is refused.
  What came in a bunch before the first refusal shows how many requests may leave early, or late and catch up.

All state is plain numbers, so that processes can share it.
"""

from __future__ import annotations

import enum
import math

import attrs

from hailuo_async.contract import SMALLEST_REQUEST_LIMIT, WINDOW_S

#: The least step by which a refusal to send lies in the future; and by which a query lets a submit go first.
TICK_S = 0.01
#: No rate is lower, in requests a second: each request puts the next one off, and the rate may rise meanwhile.
LEAST_RATE = 1 / WINDOW_S
#: Seconds to close after a first 429 that names no time, and the longest of such pauses at an even rate.
_PAUSE_S, LONGEST_PAUSE_S = 1.0, 8.0

#: A rate is measured over so many seconds at least, and follows what is measured with this time constant, or with half
#: of the time that the service looks back if that is longer: where a log slides, nothing comes back for most of it.
_MEASURE_S, _FOLLOW_S = 5.0, 15.0
#: What is left beyond this part of the most is plenty, and is spent in so many seconds.
_PLENTY, _SURPLUS_S = 0.2, 20.0
#: A refusal lowers a rate to this part; more if it comes soon after the last, and at most to the third.
_FALL, _FALL_SOON, _FALL_MOST = 0.93, 0.85, 0.5
#: It comes soon if fewer requests than this were taken since the last.
_SOON = 4
#: No rate is found below this, a quarter of the service's smallest limit: so few requests are hardly refused for their
#: number. A gateway that refuses now and then, at random, would bring the rate down to nothing.
_LOWEST = SMALLEST_REQUEST_LIMIT / WINDOW_S / 4
#: Taken again within this: the service counts over a moment.
_BRIEF_S = 2.5
#: A rate rises by this share a second, more with the square of the time since a refusal: twice that after so long.
_RISE, _RISE_S = 0.0004, 45.0
#: So many requests before a refusal tell a rate, and this part of them may leave early. After fewer, the rate
#: rises by a fifth a second at first, and by a quarter of that after each refusal.
_TELLING, _BURST, _STEEPEST = 10, 0.1, 0.2
#: So many before the first refusal, in less than a minute, are likely to be all of a minute: others may take some.
_MINUTE_LIMIT = 0.6 * SMALLEST_REQUEST_LIMIT


class Use(enum.Enum):
    """What a request is for; the value is the share of a window that such requests may burst into."""

    SUBMIT = 0.5
    QUERY = 0.3


@attrs.define(kw_only=True, eq=False)
class EvenRate:
    """The half of ``RateLimiter`` that counts answers and keeps a rate: the other adds windows, and chooses.

    Times are loop seconds.
    """

    _inflight: int = 0
    _answered: int = 0
    _reported: int | None = None  # what the service says is left: in a window the least, else the last
    _reported_at: float = -math.inf
    _full: int = 0  # the most that it ever said is left
    _newest_at: float = -math.inf  # when the youngest request that was answered had left

    # An even rate
    _rate: float | None = None  # requests a second; None while windows are assumed
    _next_at: float = -math.inf  # when the next request is due
    _last_sent_at: float = -math.inf
    _burst: float = 0.0  # so many requests may leave before they are due, where answers carry no count
    _short_rate: float | None = None  # where it stands for short windows: their own rate

    # A rate that is measured
    _mark: int | None = None  # the reported count and the answers so far, when the measuring began
    _mark_at: float = -math.inf
    _longest_s: float = 0.0  # the furthest ahead that a reset was seen
    _slack: int = 0  # the most requests in flight since: the measure may be wrong by so many
    _was_full: bool = False  # whether the count was full since, so that it could not grow

    # A rate that is found
    _recovered_at: float = -math.inf  # when requests were first taken after the last refusal, or at all
    _cycle_began_at: float = -math.inf  # the same for the refusal before
    _taken: int | None = None  # requests taken from then to the last refusal, until the rate is found from them
    _is_found: bool = False  # whether a rate was found
    _rise: float = 0.0  # by which share the rate rises in a second, beside what comes with time
    _quiet_from: float = -math.inf  # when a refusal last came, or the even rate began

    # Refusals
    _closed_at: float = -math.inf
    _pause_s: float = _PAUSE_S  # how long the last pause was
    _answers: int = 0  # answers to requests that left since the gate was last closed

    def _rate_opens_at(self, now: float, use: Use) -> float:
        rate = self._rate or LEAST_RATE
        due_at = self._next_at
        if self._taken is not None and self._answers == 0 and self._last_sent_at >= self._closed_at:
            due_at = max(due_at, self._last_sent_at + LONGEST_PAUSE_S)  # one request finds out whether it is over
        if self._reported is None:
            return due_at - self._burst / rate if use is Use.SUBMIT else due_at + TICK_S
        kept = self._reserve(use, self._full)
        spare = self._reported - self._inflight - kept
        if spare >= 1 and (use is Use.SUBMIT or spare > _PLENTY / 2 * self._full):
            return now
        missing = 1 + kept - self._level(now)
        return max(due_at, now + missing / rate)

    def _reserve(self, use: Use, whole: int) -> int:
        return 0 if use is Use.SUBMIT else min(1 + self._inflight, whole // 4)

    def _level(self, now: float) -> float:
        """What is left by now, if the reported count has grown at the rate since."""
        grown = (self._rate or 0.0) * (now - self._reported_at)
        return min(self._full + 1, (self._reported or 0) - self._inflight + grown)

    def _planned(self, now: float) -> float:
        """Requests a second that may leave: the rate, and a part of what is left beyond what is plenty."""
        surplus = (
            0.0
            if self._reported is None or self._short_rate is not None
            else max(0.0, self._level(now) - self._full * _PLENTY)
        )
        return (self._rate or LEAST_RATE) + surplus / _SURPLUS_S

    def _put_off_next(self, now: float) -> None:
        """Puts the next request off, as one leaves; the rate rises where no count tells how far it may."""
        gap_s = 1 / self._planned(now)
        if self._reported is None and now <= self._next_at + 2 * TICK_S:  # it had to wait until it was due
            quiet = (now - self._quiet_from) / _RISE_S
            risen = (self._rise + _RISE * (1 + quiet * quiet)) * min(now - self._last_sent_at, 1.0)
            self._rate = (self._rate or LEAST_RATE) * (1 + min(risen, _STEEPEST))
        self._next_at = max(self._next_at, now - self._burst * gap_s) + gap_s

    def _measured(self, now: float, remaining: int) -> float:
        """Requests a second: those answered since the mark, and those that the count grew by."""
        if self._mark is None or now <= self._mark_at:
            return 0.0
        return (remaining + self._answered - self._mark) / (now - self._mark_at)

    def _begin_measure(self, now: float, remaining: int) -> None:
        self._mark, self._mark_at = remaining + self._answered, now
        self._slack, self._was_full = self._inflight, False

    def _measure(self, now: float, remaining: int) -> None:
        """Follows what is measured. While the count is full it cannot grow, so then the rate is only raised."""
        self._reported, self._reported_at = remaining, now
        self._was_full = self._was_full or remaining >= self._full - 1 - self._slack
        span_s = now - self._mark_at
        if self._mark is None:
            self._begin_measure(now, remaining)
        elif span_s >= (_MEASURE_S if self._short_rate is None else max(_MEASURE_S, 1.1 * self._longest_s)):
            rate, measured = self._rate or LEAST_RATE, self._measured(now, remaining)
            is_scarce = not self._was_full and remaining <= self._full * _PLENTY
            if is_scarce:
                self._short_rate = None  # a short window would have been full at its beginning
            if self._short_rate is not None:
                rate = min(self._short_rate, 1.01 * rate)
            elif measured > rate or is_scarce:
                rate += (measured - rate) * min(1.0, span_s / max(_FOLLOW_S, self._longest_s / 2))
            self._rate = max(rate, LEAST_RATE)
            self._begin_measure(now, remaining)

    def _note_recovery(self, now: float, sent_at: float) -> None:
        """Notes the first answer since the gate was closed: unless it is a refusal, requests are taken again."""
        if sent_at < self._closed_at:
            return
        if self._answers and self._taken is not None:
            self._find_rate()
        self._answers += 1
        if self._answers == 1 and self._closed_at > -math.inf:
            self._recovered_at = now

    def _lower_rate(self, now: float) -> None:
        """A refusal lowers the rate, unless the one before has not been followed by anything else."""
        self._quiet_from = now
        if self._answers <= 1 and self._taken is not None:
            return
        self._cycle_began_at, self._taken = self._recovered_at, max(1, self._answers - 1)
        self._rise /= 4
        self._burst /= 2
        if self._is_found or self._reported is not None:
            self._rate = _FALL * (self._rate or LEAST_RATE)
        else:
            self._rate = self._taken / max(1.0, now - self._cycle_began_at)

    def _find_rate(self) -> None:
        """Requests are taken again: the rate falls to the number taken from one recovery to the next.

        Where that is at once, the service counts over a moment, and the rate that failed was hardly too high.
        """
        taken, self._taken = self._taken or 1, None
        is_brief = self._recovered_at - self._closed_at < _BRIEF_S
        found = taken / max(TICK_S, self._recovered_at - self._cycle_began_at)
        if self._reported is not None:
            return
        if not self._is_found:
            self._is_found = True
            self._rate, self._burst, self._rise = found, taken * _BURST, 0.0
            if taken < _TELLING:
                self._burst, self._rise = 0.0, _STEEPEST
            elif taken >= _MINUTE_LIMIT and not is_brief and self._closed_at - self._cycle_began_at < WINDOW_S:
                self._rate = taken / WINDOW_S
        elif self._rate is not None and is_brief:
            self._rate *= _FALL_SOON if taken < _SOON else 1.0
        elif self._rate is not None:
            self._rate = min(max(found, _FALL_MOST * self._rate), self._rate)
        self._rate = max(self._rate or 0.0, _LOWEST)

    def _next_pause_s(self) -> float:
        """A second; twice the last pause where the first answer after it is the refusal that asks for this one."""
        self._pause_s = _PAUSE_S if self._answers > 1 else 2 * self._pause_s
        return self._pause_s
