"""The one place where anyone waits for permission: for a slot at the service, and for a request of its budget.

The rules (``_rules/slots``, ``_rules/budget``) decide and never wait; the gate asks them, sleeps until the time they
name, and asks again whenever something has happened. Waiting and taking are two steps: ``wait_for`` returns when the
gate stands open and ``take_…`` goes through, without an await in between. So a waiter that is cancelled has taken
nothing, and leaves no hole.

Three more things close it: images being uploaded (each holds memory), a service that cannot be reached, and the end.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from random import Random
from typing import TypeAlias

import anyio
import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.events import EventEmitter
from hailuo_async._rules.budget import Budget, Use
from hailuo_async._rules.slots import Slots
from hailuo_async._rules.wire import Answer, Refusal, Verdict
from hailuo_async.errors import SessionClosedError

logger = logging.getLogger("hailuo_async")

#: Uploads at once. Each holds a piece of an image, its base64 and the socket's buffer; more would not be faster.
MAX_UPLOADS = 8
#: Seconds to hold back after a connection could not be made; doubled each time up to the longest.
_UNREACHABLE_S, _UNREACHABLE_LONGEST_S = 0.5, 30.0

_OpensAt: TypeAlias = Callable[[float], float]


@attrs.define(eq=False)
class Gate:
    """Grants slots and requests, in the order in which they are waited for."""

    slots: Slots
    budget: Budget
    _rng: Random
    _emitter: EventEmitter = attrs.field(factory=EventEmitter)
    refusals: int = attrs.field(default=0, init=False)
    """Requests that the service refused for being too many, of either kind."""
    _is_closed: bool = attrs.field(default=False, init=False)
    _uploads: int = attrs.field(default=0, init=False)
    _unreachable_s: float = attrs.field(default=_UNREACHABLE_S, init=False)
    _unreachable_until: float = attrs.field(default=-math.inf, init=False)
    _told_limit: int | None = attrs.field(default=None, init=False)
    _told_closed_until: float = attrs.field(default=-math.inf, init=False)
    _told_ignored: bool = attrs.field(default=False, init=False)
    _happened: anyio.Event | None = attrs.field(default=None, init=False)
    """Made by whoever waits, so that what nobody waits for costs nothing."""

    # --- Waiting ---

    async def wait_for_submit(self, is_heavy: bool) -> None:
        """Returns when a POST may leave now. Cancelling it takes nothing."""
        await self._wait_until(lambda now: self._submit_opens_at(now, is_heavy))

    async def wait_for_query(self) -> bool:
        """Returns when a query may leave now, and whether it had to wait. Cancelling it takes nothing."""
        return await self._wait_until(self._query_opens_at)

    async def _wait_until(self, opens_at: _OpensAt) -> bool:
        waited = False
        while not self._is_closed and (at := opens_at(now := loop_time())) > now:
            waited = True
            self._happened = happened = self._happened or anyio.Event()
            with anyio.move_on_after(at - now):
                await happened.wait()
        if self._is_closed:
            raise SessionClosedError(reason="the session is closed; nothing was sent")
        return waited

    def _submit_opens_at(self, now: float, is_heavy: bool) -> float:
        if is_heavy and self._uploads >= MAX_UPLOADS:
            return math.inf
        slot_at = self.slots.may_start(now)
        return max(self._unreachable_until, slot_at if slot_at > now else self.budget.may_send(now, Use.SUBMIT))

    def _query_opens_at(self, now: float) -> float:
        return max(self._unreachable_until, self.budget.may_send(now, Use.QUERY))

    def close(self) -> None:
        """Sends everyone who waits away."""
        self._is_closed = True
        self._wake()

    # --- Going through ---

    def acquire_submit(self, is_heavy: bool) -> float:
        """A POST leaves. Returns the time, for what is learned from its answer."""
        now = loop_time()
        self._uploads += is_heavy
        self.slots.started(now)
        self.budget.sent(now, Use.SUBMIT)
        return now

    def acquire_query(self) -> float:
        """A query leaves, or any other request that is not a submit. Returns the time."""
        now = loop_time()
        self.budget.sent(now, Use.QUERY)
        return now

    # --- Learning ---

    def submit_answered(self, answer: Answer, sent_at: float, is_heavy: bool) -> None:
        """What became of the POST of ``sent_at``: its slot is kept, given back, or shown not to exist."""
        now = loop_time()
        self._uploads -= is_heavy
        if answer.verdict is Verdict.ACCEPTED:
            self.slots.accepted(now)
        elif answer.refusal is Refusal.RUNNING_LIMIT:
            self.refusals += 1
            self.slots.refused(now, sent_at)
        else:
            self.slots.released(now)
        self.request_answered(answer, sent_at)

    def request_answered(self, answer: Answer, sent_at: float) -> None:
        """What the answer to any request of ``sent_at`` says of the budget."""
        now = loop_time()
        self.budget.learn(now, answer.hints, sent_at)
        if answer.refusal is Refusal.REQUEST_RATE:
            self.refusals += 1
            self.budget.refused(now, answer.hints, sent_at)
        if answer.verdict is Verdict.UNSENT and answer.problem is None:
            self._hold_back(now, answer.message)
        elif answer.verdict is not Verdict.UNSENT:
            self._unreachable_s = _UNREACHABLE_S
        self._tell(now, answer)
        self._wake()

    def task_ended(self, ended_at: float | None) -> None:
        """A task of ours ended at the service, at ``ended_at`` if that is known; or nobody waits for it any more."""
        now = loop_time()
        self.slots.ended(now, ended_at)
        self._wake()

    def task_adopted(self) -> None:
        """A task that was submitted elsewhere is waited for here."""
        self.slots.adopted(loop_time())

    def _hold_back(self, now: float, reason: str) -> None:
        if now < self._unreachable_until:
            return
        if self._unreachable_s == 2 * _UNREACHABLE_S:  # the second time in a row: once is nothing to tell
            words = "the service cannot be reached: %s; it is tried again and again: check the network and base_url"
            logger.warning(words, reason)
        self._unreachable_until = now + self._unreachable_s * self._rng.uniform(0.5, 1.0)
        self._unreachable_s = min(_UNREACHABLE_LONGEST_S, 2 * self._unreachable_s)
        self._emitter.gate_closed("unreachable", self._unreachable_until - now)

    def _wake(self) -> None:
        """Lets everyone who waits ask the rules again."""
        if self._happened is not None:
            self._happened.set()
            self._happened = None

    def _tell(self, now: float, answer: Answer) -> None:
        if self.slots.is_settled and self.slots.limit != self._told_limit:
            self._told_limit = self.slots.limit
            logger.info("up to %d tasks run at once", self._told_limit)
        closed_until = self.budget.closed_until
        if closed_until is not None and closed_until > max(now, self._told_closed_until):
            self._told_closed_until = closed_until
            logger.info("the request budget is spent: nothing is sent for %.1f s", closed_until - now)
            self._emitter.gate_closed("request_rate", closed_until - now)
        if answer.hints.ignored and not self._told_ignored:
            self._told_ignored = True
            words = "headers that cannot be believed are ignored: %s; see whether a proxy changes them"
            logger.warning(words, ", ".join(answer.hints.ignored))
