"""Ways of counting requests, and ways of saying so: what a gateway may do, as no document says what the service does.

A *count* decides about each request at its arrival and keeps what it needs for that; a *style* writes what the count
says into headers. Any count goes with any style. Requests that are refused do not count.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import formatdate
from random import Random
from typing import Protocol, TypeAlias

import attrs

from hailuo_async.emulator import Reply, Request, Service
from hailuo_async.emulator.routes import Reading
from hailuo_async.emulator.wire import Refusal, refused


@attrs.frozen
class State:
    """What a count could say after a request."""

    limit: int
    remaining: int
    reset_in_s: float
    window_s: float
    retry_in_s: float
    """In how many seconds a request would be taken again."""


class Count(Protocol):
    """Counts requests in one way."""

    def take(self, now: float) -> bool:
        """Whether the request that arrives at ``now`` is within the limit; if so, it counts."""
        ...

    def state(self, now: float) -> State:
        """How the count stands."""
        ...


@attrs.define
class FixedWindow:
    """So many in each window of server time."""

    limit: int
    window_s: float
    _number: int = 0
    _used: int = 0

    def take(self, now: float) -> bool:
        if self._number != (number := math.floor(now / self.window_s)):
            self._number, self._used = number, 0
        is_within = self._used < self.limit
        self._used += is_within
        return is_within

    def state(self, now: float) -> State:
        left_s = (self._number + 1) * self.window_s - now
        return State(self.limit, self.limit - self._used, left_s, self.window_s, left_s)


@attrs.define
class SlidingLog:
    """So many in any stretch of a window's length. The reset is when the oldest leaves the stretch."""

    limit: int
    window_s: float
    _times: deque[float] = attrs.field(factory=deque)

    def take(self, now: float) -> bool:
        while self._times and self._times[0] <= now - self.window_s:
            self._times.popleft()
        is_within = len(self._times) < self.limit
        if is_within:
            self._times.append(now)
        return is_within

    def state(self, now: float) -> State:
        oldest_s = self._times[0] + self.window_s - now if self._times else 0.0
        remaining = self.limit - len(self._times)
        return State(self.limit, remaining, oldest_s, self.window_s, 0.0 if remaining else oldest_s)


@attrs.define
class SlidingCounter:
    """A window's own requests, and those of the window before by the part of it that still lies in the stretch."""

    limit: int
    window_s: float
    _number: int = 0
    _used: int = 0
    _before: int = 0

    def take(self, now: float) -> bool:
        number = math.floor(now / self.window_s)
        if number != self._number:
            self._before = self._used if number == self._number + 1 else 0
            self._number, self._used = number, 0
        is_within = self._weighed(now) + 1 <= self.limit
        self._used += is_within
        return is_within

    def state(self, now: float) -> State:
        left_s = (self._number + 1) * self.window_s - now
        remaining = max(0, math.floor(self.limit - self._weighed(now)))
        return State(self.limit, remaining, left_s, self.window_s, self.window_s / self.limit)

    def _weighed(self, now: float) -> float:
        gone = now / self.window_s - self._number
        return self._used + self._before * (1 - gone)


@attrs.define
class Bucket:
    """A bucket of ``burst`` that is filled at a steady rate. The reset is when it is full."""

    burst: int
    rate_per_s: float
    limit: int
    """What it says is its limit: its burst, or its rate a minute."""
    _level: float = math.inf
    _at: float = 0.0

    def take(self, now: float) -> bool:
        self._level = min(self.burst, self._level + (now - self._at) * self.rate_per_s)
        self._at = now
        is_within = self._level >= 1 - 1e-9
        self._level -= is_within
        return is_within

    def state(self, now: float) -> State:
        full_s, one_s = ((most - self._level) / self.rate_per_s for most in (self.burst, 1))
        return State(self.limit, math.floor(self._level), full_s, 60.0, max(0.0, one_s))


@attrs.define
class Chance:
    """No limit: each request is refused with the probability ``share``."""

    share: float
    rng: Random

    def take(self, now: float) -> bool:
        return self.rng.random() >= self.share

    def state(self, now: float) -> State:
        return State(limit=1000, remaining=900, reset_in_s=60.0, window_s=60.0, retry_in_s=1.0)


Style: TypeAlias = Callable[[State, bool, float], Mapping[str, str]]
"""Headers from a state, for a request that was taken or refused at a time."""


def silent(state: State, is_taken: bool, now: float) -> Mapping[str, str]:
    """Says nothing, ever."""
    return {}


def retry_after(state: State, is_taken: bool, now: float) -> Mapping[str, str]:
    """Says when to come again, to those who were refused."""
    return {} if is_taken else {"Retry-After": str(max(1, math.ceil(state.retry_in_s)))}


def numbers(reset: Callable[[State, float], str] | None) -> Style:
    """The names that the service uses, with the reset in a form of its own, or without one."""

    def write(state: State, is_taken: bool, now: float) -> Mapping[str, str]:
        found = {"X-RateLimit-Limit": str(state.limit), "X-RateLimit-Remaining": str(state.remaining)}
        return found if reset is None else found | {"X-RateLimit-Reset": reset(state, now)}

    return write


unix = numbers(lambda state, now: str(math.ceil(now + state.reset_in_s)))
unix_ms = numbers(lambda state, now: str(round(1000 * (now + state.reset_in_s))))
seconds = numbers(lambda state, now: str(math.ceil(state.reset_in_s)))
milliseconds = numbers(lambda state, now: str(round(1000 * state.reset_in_s)))
http_date = numbers(lambda state, now: formatdate(math.ceil(now + state.reset_in_s), usegmt=True))
no_reset = numbers(None)


def draft_3(state: State, is_taken: bool, now: float) -> Mapping[str, str]:
    """IETF RateLimit, draft 3."""
    return {
        "RateLimit-Limit": f"{state.limit}, {state.limit};w={state.window_s:.0f}",
        "RateLimit-Remaining": str(state.remaining),
        "RateLimit-Reset": str(math.ceil(state.reset_in_s)),
    }


def draft_8(state: State, is_taken: bool, now: float) -> Mapping[str, str]:
    """IETF RateLimit, draft 8."""
    return {
        "RateLimit-Policy": f'"default";q={state.limit};w={state.window_s:.0f}',
        "RateLimit": f'"default";r={state.remaining};t={math.ceil(state.reset_in_s)}',
    }


def requests_names(state: State, is_taken: bool, now: float) -> Mapping[str, str]:
    """The names that services of language models use, with a span as the reset: ``"12s"``, ``"1m3s"``, ``"120ms"``."""
    whole = math.ceil(state.reset_in_s)
    span = f"{round(1000 * state.reset_in_s)}ms" if state.reset_in_s < 1 else f"{whole}s"
    return {
        "X-RateLimit-Limit-Requests": str(state.limit),
        "X-RateLimit-Remaining-Requests": str(state.remaining),
        "X-RateLimit-Reset-Requests": span if whole < 60 else f"{whole // 60}m{whole % 60}s",
    }


@attrs.define(kw_only=True)
class LimitedService(Service):
    """The emulated service behind a gateway that counts requests in its own way."""

    count: Count
    style: Style

    def decide(self, request: Request, reading: Reading, now: float) -> Reply:
        is_taken = self.count.take(now)
        headers = self.style(self.count.state(now), is_taken, now)
        if is_taken:
            return super().decide(request, reading, now).adding(headers)
        reply = refused(Refusal(429, "Rate limit exceeded: too many requests", headers))
        return reply.adding({"Date": formatdate(now, usegmt=True)})
