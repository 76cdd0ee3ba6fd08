"""The only place that waits for permission to send: a POST needs a free slot and a request, a query a request alone.

Three rules decide, and never wait. The gate asks them, sleeps until the time that they name, and asks again after every
change:

- ``_rules/slots``, a concurrency limiter: how many tasks may run at the service at once.
- ``_rules/rate_limiter``: how many requests may leave, and when.
- ``_rules/reachability``, a backoff: nothing leaves for a while after a connection that could not be made.

Two more things close the gate: heavy POSTs under way (each holds memory), and the end of the engine. Whether a job may
be paid for (``spending_limit``), and when a task is worth a query (``_rules/cadence``), is decided before the gate.

Waiting and acquiring are two steps: ``wait_for_…`` returns when the gate is open, and the caller then calls
``acquire_…`` without an await in between. So a waiter that is cancelled has acquired nothing to give back.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs

from hailuo_async._engine.clock import running_clock
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.signal import Signal
from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.rate_limiter import RateLimiter
from hailuo_async._rules.reachability import Reachability
from hailuo_async._rules.slots import Slots
from hailuo_async._rules.wire import Answer, Refusal, Verdict

if TYPE_CHECKING:
    from hailuo_async._engine.team_limits import TeamRateLimiter, TeamSlots

logger = logging.getLogger("hailuo_async")

#: Heavy POSTs at once. Each holds a piece of an image, its base64 and the socket's buffer; more would not be faster.
MAX_HEAVY = 8
#: A single failure is not logged: connections fail now and then.
_FAILURES_LOGGED = 2

_OpensAt: TypeAlias = Callable[[float], float]


@attrs.define(eq=False)
class Gate:
    """Grants slots and requests, in the order of the waits."""

    slots: Slots | TeamSlots
    rate_limiter: RateLimiter | TeamRateLimiter
    _reachability: Reachability
    _session_state: SessionState
    _emitter: EventEmitter = attrs.field(factory=EventEmitter)
    refusals: int = attrs.field(default=0, init=False)
    """Requests that the service refused as too many: 429 for the request rate, or for running tasks."""
    _heavy: int = attrs.field(default=0, init=False)
    _logged_limit: int | None = attrs.field(default=None, init=False)
    _logged_closed_until: float = attrs.field(default=-math.inf, init=False)
    _has_logged_ignored: bool = attrs.field(default=False, init=False)
    _changed: Signal = attrs.field(factory=Signal, init=False)
    _now: Callable[[], float] = attrs.field(factory=running_clock, init=False)

    # --- Waiting ---

    def wait_for_submit(self, is_heavy: Callable[[], bool]) -> Awaitable[bool]:
        """Returns when a POST may leave now. A cancelled wait has acquired nothing.

        ``is_heavy`` is asked again after each wait: meanwhile another POST may have become the next.
        """
        return self._wait_until(functools.partial(self._submit_opens_at, is_heavy))

    def wait_for_query(self) -> Awaitable[bool]:
        """Returns when a query may leave now: whether it had to wait. A cancelled wait has acquired nothing."""
        return self._wait_until(self._query_opens_at)

    async def _wait_until(self, opens_at: _OpensAt) -> bool:
        waited = False
        while self._session_state.is_open and (at := opens_at(now := self._now())) > now:
            waited = True
            await self._changed.wait(at - now)
        self._session_state.check()
        return waited

    def _submit_opens_at(self, is_heavy: Callable[[], bool], now: float) -> float:
        if self._heavy >= MAX_HEAVY and is_heavy():
            return math.inf
        slot_at = self.slots.may_start(now)
        # Without a slot the rate limiter is not asked: its answer would be out of date when a slot is free.
        return max(
            self._reachability.opens_at, slot_at if slot_at > now else self.rate_limiter.may_send(now, Use.SUBMIT)
        )

    def _query_opens_at(self, now: float) -> float:
        return max(self._reachability.opens_at, self.rate_limiter.may_send(now, Use.QUERY))

    def wake(self) -> None:
        """Wakes all waiters: they ask the rules again, or stop if the engine has ended."""
        self._changed.notify()

    @property
    def unreachable_since(self) -> float:
        """When the last row of connections that could not be made began, in loop time."""
        return self._reachability.failing_since

    # --- Going through ---

    def acquire_submit(self, is_heavy: bool) -> float:
        """Counts a POST that leaves now. Returns the time, by which the rules know it when its answer comes."""
        now = self._now()
        self._heavy += is_heavy
        self.slots.started(now)
        self.rate_limiter.sent(now, Use.SUBMIT)
        return now

    def acquire_query(self) -> float:
        """Counts a query, or any other request but a submit, that leaves now. Returns the time."""
        now = self._now()
        self.rate_limiter.sent(now, Use.QUERY)
        return now

    # --- Learning ---

    def submit_answered(self, answer: Answer, sent_at: float, is_heavy: bool) -> None:
        """Learns from the answer to the POST of ``sent_at``: its slot is kept, given back, or shown not to exist."""
        self._heavy -= is_heavy
        if answer.verdict is Verdict.ACCEPTED:
            self.slots.accepted()
        elif answer.refusal is Refusal.RUNNING_LIMIT:
            self.refusals += 1
            self.slots.refused(self._now(), sent_at)
        else:
            # A POST in doubt frees its slot, too: if its task does run, the next refusal corrects the count.
            self.slots.released()
        self.request_answered(answer, sent_at)

    def submit_withdrawn(self, acquired_at: float, is_heavy: bool) -> None:
        """Gives back what a POST had acquired that was not begun."""
        now = self._now()
        self._heavy -= is_heavy
        self.slots.released()
        self.rate_limiter.learn(now, RateHeaders(), acquired_at)
        self._changed.notify()

    def submit_not_granted(self, is_heavy: bool) -> None:
        """Notes that the team granted a POST nothing: other sessions were quicker, or had waited longer."""
        self._heavy -= is_heavy
        self._changed.notify()

    def is_open_here(self, is_heavy: bool) -> bool:
        """Whether only the limits that a team shares can keep a POST from leaving."""
        if self.slots.is_full or not self._session_state.is_open or (is_heavy and self._heavy >= MAX_HEAVY):
            return False
        return self._reachability.opens_at <= self._now()

    def request_answered(self, answer: Answer, sent_at: float) -> None:
        """Learns from the answer to any request of ``sent_at``: its rate headers, and that the service is reachable."""
        now = self._now()
        self.rate_limiter.learn(now, answer.rate_headers, sent_at)
        if answer.refusal is Refusal.REQUEST_RATE:
            self.refusals += 1
            self.rate_limiter.refused(now, answer.rate_headers, sent_at)
        if answer.status is not None:  # a request that was cancelled, or timed out, has reached nothing for certain
            self._reachability.reached()
        elif answer.verdict is Verdict.UNSENT and answer.problem is None:
            self._hold_back(now, answer.message)  # with a problem of ours the network was not tried
        self._report(now, answer)
        self._changed.notify()

    def task_ended(self, ended_at: float | None) -> None:
        """Frees the slot of a task that ended, at ``ended_at`` if known, or that the poller no longer watches."""
        self.slots.ended(ended_at)
        self._changed.notify()

    def task_adopted(self) -> None:
        """Counts the slot of a task that was submitted elsewhere."""
        self.slots.adopted()

    def _hold_back(self, now: float, reason: str) -> None:
        if not self._reachability.failed(now):
            return
        if self._reachability.failures == _FAILURES_LOGGED:
            message = "the service cannot be reached: %s; the session keeps trying: check the network and base_url"
            logger.warning(message, reason)
        self._emitter.gate_closed("unreachable", self._reachability.opens_at - now)

    def _report(self, now: float, answer: Answer) -> None:
        if self.slots.knows_limit and self.slots.limit != self._logged_limit:
            self._logged_limit = self.slots.limit
            logger.info("up to %d tasks run at once", self._logged_limit)
        closed_until = self.rate_limiter.closed_until
        if closed_until is not None and closed_until > max(now, self._logged_closed_until):
            self._logged_closed_until = closed_until
            logger.info("the request budget is spent: nothing is sent for %.1f s", closed_until - now)
            self._emitter.gate_closed("request_rate", closed_until - now)
        if answer.rate_headers.ignored and not self._has_logged_ignored:
            self._has_logged_ignored = True
            message = "headers with impossible values are ignored: %s; check whether a proxy changes them"
            logger.warning(message, ", ".join(answer.rate_headers.ignored))
