"""Requests left in the service's window, from the headers of every answer.

The service counts the requests of a key in fixed windows of a minute, submits and queries together, and says in every
answer how many are left. Headers are advisory: any may be missing, stale, wrong, or about the
requests of another program with the same key. So two counts run side by side, and the lower one is obeyed: our own,
and the service's last word less what it cannot have counted yet.

- **Which window.** The value of the reset, in the server's clock, names the window; a later one opens the next, an
  earlier one is stale. Where it lies in our clock follows from the answer's own ``Date``; both are whole seconds, so
  every answer gives a bound that is late by up to two, and the least of the bounds stands.
- **Spread.** A part of the window may be spent at once, the rest along a line to its end. Submits may burst further
  than queries, and so go first when both wait.
- **Reserve.** A query leaves enough for the submit that it may lead to, and for those of the queries in flight: no slot
  stands empty because polling spent the window.
- **Closed.** A 429 closes the gate for everyone until the reset, once: refusals of requests that had left before do
  not extend it. One while the service itself tells of requests left is not about the window: it closes for a second,
  or as advised, and for twice as long each time that nothing but a refusal came between. So does one with
  ``Retry-After: 0``. However absurd the headers, the gate is never closed for more than five minutes.

Invariants: in a window no more is granted than its limit; a time that is returned is either not after ``now`` or
ahead of it by at least a tick, and never more than five minutes.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import attrs

from hailuo_async import contract

#: The limit is assumed only where the service refuses and tells none.
_WINDOW_S, _DOCUMENTED_LIMIT = contract.WINDOW_S, contract.SMALLEST_REQUEST_LIMIT

#: Longer than this nothing closes the gate; a reset further ahead is not believed.
_LONGEST_S = 300.0

#: A Retry-After further ahead than this is not believed; a shorter one is cut to the longest closing.
_BELIEVED_S = 3600.0

#: Resets are told in whole seconds: the window may end this much later than they say.
_MARGIN_S = 1.0

#: The least step by which a refusal to send lies in the future.
_TICK_S = 0.01

#: Counts from here on are no counts, and times from here on (the year 2286) no times.
_COUNTS_BELOW, _UNIX_BELOW = 1e9, 1e10

#: However many submits are expected, this share of the budget is left to queries, and at least so many a second.
_LEAST_SHARE, _LEAST_RATE = 0.02, 0.001

#: Seconds to close after a 429 that says nothing, and after a first one that the service's own count denies.
_CLOSE_S, _PAUSE_S = 15.0, 1.0


class Use(enum.Enum):
    """What a request is for; the value is the share of a window that such requests may burst into."""

    SUBMIT = 0.5
    QUERY = 0.3


@attrs.frozen
class Hints:
    """What the headers of one answer say. ``None``: nothing, or nothing that can be believed."""

    limit: int | None = None
    remaining: int | None = None
    reset_at: float | None = None
    """Unix seconds, in the server's clock."""
    date: float | None = None
    """Unix seconds of the answer, in the server's clock."""
    retry_after_s: float | None = None
    ignored: tuple[str, ...] = ()
    """Headers that were there and were not believed, for one warning."""


def read_hints(headers: Mapping[str, str]) -> Hints:
    """The hints in ``headers``, whatever their case. Never raises: what cannot be believed is named in ``ignored``."""
    found = {name.lower(): value.strip() for name, value in headers.items()}
    date = _unix(found.get("date"))
    limit = _count(found.get("x-ratelimit-limit"), least=1)
    remaining = _count(found.get("x-ratelimit-remaining"), least=0)
    reset_at = _reset(found.get("x-ratelimit-reset"), date)
    retry_after_s = _retry_after(found.get("retry-after"), date)
    believed: dict[str, float | None] = {
        "x-ratelimit-limit": limit,
        "x-ratelimit-remaining": remaining,
        "x-ratelimit-reset": reset_at,
        "retry-after": retry_after_s,
        "date": date,
    }
    ignored = tuple(name for name, value in believed.items() if name in found and value is None)
    return Hints(limit, remaining, reset_at, date, retry_after_s, ignored)


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _count(text: str | None, least: int) -> int | None:
    value = _number(text)
    return int(value) if value is not None and least <= value < _COUNTS_BELOW else None


def _unix(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _reset(text: str | None, date: float | None) -> float | None:
    value = _number(text)
    if value is None or not 0 < value < _UNIX_BELOW:
        return None
    if date is not None and not -_MARGIN_S <= value - date <= _LONGEST_S:
        return None
    return value


def _retry_after(text: str | None, date: float | None) -> float | None:
    value, until = _number(text), _unix(text)
    if until is not None and date is not None:
        value = until - date
    return value if value is not None and 0 <= value <= _BELIEVED_S else None


@attrs.define
class Budget:
    """Grants requests, counts them, and learns from the answers. All times are loop seconds."""

    _limit: int | None = attrs.field(default=None, init=False)
    _sent: int = attrs.field(default=0, init=False)
    """Requests of ours that count, or may count, in this window."""
    _carried: int = attrs.field(default=0, init=False)
    """Those of them that left before it began."""
    _told: int | None = attrs.field(default=None, init=False)
    """The least that the service said was left in this window."""
    _inflight: int = attrs.field(default=0, init=False)
    _start: float = attrs.field(default=-math.inf, init=False)
    _end: float = attrs.field(default=-math.inf, init=False)
    _reset_at: float | None = attrs.field(default=None, init=False)
    """The server's name for this window, once it was told."""
    _last_reset_at: float = attrs.field(default=-math.inf, init=False)
    """The name of the window before."""
    _closed_at: float = attrs.field(default=-math.inf, init=False)
    _closed_until: float = attrs.field(default=-math.inf, init=False)
    _pause_s: float = attrs.field(default=_PAUSE_S, init=False)
    """How long the last pause was."""
    _heard: int = attrs.field(default=0, init=False)
    """Answers to requests that left since the gate was last closed."""

    @property
    def limit(self) -> int | None:
        """Requests in a window, as the service says; ``None`` until it does."""
        return self._limit

    @property
    def closed_until(self) -> float | None:
        """Until when a 429 has closed, or had closed, the gate; ``None`` if none ever did."""
        return None if self._closed_until == -math.inf else self._closed_until

    def remaining(self, now: float) -> int | None:
        """Requests left in this window by the lower count; ``None`` while no limit is known."""
        self._roll(now)
        return self._left()

    def may_send(self, now: float, use: Use) -> float:
        """When such a request may leave: ``now`` or earlier is now. A later time is a time to ask again."""
        if now < self._closed_until:
            return self._closed_until
        self._roll(now)
        left = self._left()
        if left is None:
            return now
        opens_at = self._end if left <= self._reserve(use, left) else self._line(use, left)
        return now if opens_at <= now else max(opens_at, now + _TICK_S)

    def sent(self, now: float, use: Use) -> None:
        """A request leaves. It counts from now on, whatever becomes of it; ``learn`` must follow, once."""
        self._roll(now)
        self._inflight += 1
        self._sent += 1

    def learn(self, now: float, hints: Hints, sent_at: float) -> None:
        """The request of ``sent_at`` was answered, or failed (``Hints()``). Answers may come in any order."""
        self._inflight = max(0, self._inflight - 1)
        self._heard += sent_at >= self._closed_at
        self._roll(now)
        if hints.limit is not None:
            self._limit = hints.limit
        if not self._belongs(now, hints, sent_at):
            return
        if hints.remaining is not None:
            self._told = hints.remaining if self._told is None else min(self._told, hints.remaining)
        elif self._told is not None:
            self._told = max(0, self._told - 1)

    def refused(self, now: float, hints: Hints, sent_at: float) -> None:
        """429 for requests: closes the gate, unless the request had left before the gate was last closed."""
        if sent_at < self._closed_at:
            return
        advised = now if hints.retry_after_s is None else now + hints.retry_after_s
        if hints.retry_after_s == 0 or (self._told is not None and self._left()):
            until = max(advised, min(self._end, now + self._next_pause_s()))
        else:
            until = advised if self._reset_at is None else max(advised, self._end)
            until = self._end = min(until if until > now else now + _CLOSE_S, now + _LONGEST_S)
        if self._limit is None:
            self._limit = max(_DOCUMENTED_LIMIT, self._sent)
        self._closed_at, self._heard = now, 0
        self._closed_until = min(until, now + _LONGEST_S)

    def _next_pause_s(self) -> float:
        """A second; twice the last pause where the first answer after it is the refusal that asks for this one."""
        self._pause_s = _PAUSE_S if self._heard > 1 else 2 * self._pause_s
        return self._pause_s

    def query_rate(self, now: float, submit_rate: float) -> float | None:
        """Queries per second that this window and the next can bear besides ``submit_rate``; ``None``: any number."""
        self._roll(now)
        left = self._left()
        if left is None:
            return None
        ahead_s = max(0.0, self._end - now) + _WINDOW_S
        whole = self._limit if self._limit is not None else left
        return max((left + whole) / ahead_s - submit_rate, _LEAST_SHARE * whole / _WINDOW_S, _LEAST_RATE)

    def _left(self) -> int | None:
        counts = []
        if self._limit is not None:
            counts.append(self._limit - self._sent)
        if self._told is not None:
            counts.append(self._told - self._inflight)
        return max(0, min(counts)) if counts else None

    def _reserve(self, use: Use, left: int) -> int:
        return 0 if use is Use.SUBMIT else min(1 + self._inflight, (self._sent + left) // 4)

    def _line(self, use: Use, left: int) -> float:
        """When the next request lies on the line from the burst, at the window's start, to all of it at its end."""
        whole = self._sent + left
        burst = max(5.0, use.value * whole)
        if self._sent + 1 <= burst:
            return self._start
        return self._start + (self._end - self._start) * (self._sent + 1 - burst) / (whole - burst)

    def _roll(self, now: float) -> None:
        """Begin a window when the last is over. Until it is told, it ends as late as a window can."""
        if now < self._end:
            return
        if self._reset_at is not None:
            self._last_reset_at = self._reset_at
        self._open(now, now + _WINDOW_S, None)

    def _open(self, now: float, end: float, reset_at: float | None) -> None:
        self._start, self._end, self._reset_at = now, end, reset_at
        # What left in the last window may arrive in this one. What left before that cannot: no answer takes so long.
        self._carried = min(self._inflight, self._sent - self._carried)
        self._sent, self._told = self._carried, None

    def _belongs(self, now: float, hints: Hints, sent_at: float) -> bool:
        """Whether the hints are about this window; places its end, and opens the next if they are about that."""
        reset_at = hints.reset_at
        if reset_at is None:
            return sent_at >= self._start
        ahead_s = _WINDOW_S if hints.date is None else reset_at - hints.date + _MARGIN_S
        name = self._reset_at
        if reset_at <= self._last_reset_at + _MARGIN_S or (name is not None and reset_at < name - _MARGIN_S):
            return False
        if name is None:
            self._reset_at, self._end = reset_at, now + ahead_s
        elif reset_at > name + _MARGIN_S:
            self._last_reset_at = name
            self._open(now, now + ahead_s, reset_at)
            self._sent += 1
        else:
            self._end = min(self._end, now + ahead_s)
        return True
