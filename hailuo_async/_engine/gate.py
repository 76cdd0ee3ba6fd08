"""The one place where anyone waits for permission: for a slot at the service, and for a request of its budget.

The rules (``_rules/slots``, ``_rules/budget``, ``_rules/reachability``) decide and never wait. The gate asks them,
sleeps until the time they name, and asks again whenever something has changed. Waiting and acquiring are two steps:
``wait_for_…`` returns when the gate stands open and ``acquire_…`` goes through, without an await in between. So a
waiter that is cancelled has acquired nothing, and leaves no hole.

Two more things close it: images being uploaded (each holds memory), and the end of the engine.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.signal import Signal
from hailuo_async._engine.state import EngineState
from hailuo_async._rules.budget import Budget, Hints, Use
from hailuo_async._rules.reachability import Reachability
from hailuo_async._rules.slots import Slots
from hailuo_async._rules.wire import Answer, Refusal, Verdict

if TYPE_CHECKING:
    from hailuo_async._engine.team_views import TeamBudget, TeamSlots

logger = logging.getLogger("hailuo_async")

#: Uploads at once. Each holds a piece of an image, its base64 and the socket's buffer; more would not be faster.
MAX_UPLOADS = 8
#: The first failure in a row is nothing to log: connections fail now and then.
_FAILURES_LOGGED = 2

_OpensAt: TypeAlias = Callable[[float], float]


@attrs.define(eq=False)
class Gate:
    """Grants slots and requests, in the order in which they are waited for."""

    slots: Slots | TeamSlots
    budget: Budget | TeamBudget
    _reachability: Reachability
    _engine_state: EngineState
    _emitter: EventEmitter = attrs.field(factory=EventEmitter)
    refusals: int = attrs.field(default=0, init=False)
    """Requests that the service refused for being too many, of either kind."""
    _uploads: int = attrs.field(default=0, init=False)
    _logged_limit: int | None = attrs.field(default=None, init=False)
    _logged_closed_until: float = attrs.field(default=-math.inf, init=False)
    _has_logged_ignored: bool = attrs.field(default=False, init=False)
    _changed: Signal = attrs.field(factory=Signal, init=False)

    # --- Waiting ---

    async def wait_for_submit(self, is_heavy: bool) -> None:
        """Returns when a POST may leave now. Cancelling it takes nothing."""
        await self._wait_until(lambda now: self._submit_opens_at(now, is_heavy))

    async def wait_for_query(self) -> bool:
        """Returns when a query may leave now, and whether it had to wait. Cancelling it takes nothing."""
        return await self._wait_until(self._query_opens_at)

    async def _wait_until(self, opens_at: _OpensAt) -> bool:
        waited = False
        while self._engine_state.is_open and (at := opens_at(now := loop_time())) > now:
            waited = True
            await self._changed.wait(at - now)
        self._engine_state.check()
        return waited

    def _submit_opens_at(self, now: float, is_heavy: bool) -> float:
        if is_heavy and self._uploads >= MAX_UPLOADS:
            return math.inf
        slot_at = self.slots.may_start(now)
        return max(self._reachability.opens_at, slot_at if slot_at > now else self.budget.may_send(now, Use.SUBMIT))

    def _query_opens_at(self, now: float) -> float:
        return max(self._reachability.opens_at, self.budget.may_send(now, Use.QUERY))

    def wake(self) -> None:
        """Lets everyone who waits ask the rules again, or leave where the engine has ended."""
        self._changed.notify()

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

    def submit_withdrawn(self, acquired_at: float, is_heavy: bool) -> None:
        """The POST that was to leave was not begun: what it had acquired is free again."""
        now = loop_time()
        self._uploads -= is_heavy
        self.slots.released(now)
        self.budget.learn(now, Hints(), acquired_at)
        self._changed.notify()

    def submit_withheld(self, is_heavy: bool) -> None:
        """The POST that was to leave was granted nothing: others of the team were quicker, or came first."""
        self._uploads -= is_heavy
        self._changed.notify()

    def is_open_here(self, is_heavy: bool) -> bool:
        """Whether a POST could leave but for the limits that a team shares."""
        if not self._engine_state.is_open or (is_heavy and self._uploads >= MAX_UPLOADS):
            return False
        return self._reachability.opens_at <= loop_time()

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
            self._reachability.reached()
        self._report(now, answer)
        self._changed.notify()

    def task_ended(self, ended_at: float | None) -> None:
        """A task of ours ended at the service, at ``ended_at`` if that is known; or nobody waits for it any more."""
        now = loop_time()
        self.slots.ended(now, ended_at)
        self._changed.notify()

    def task_adopted(self) -> None:
        """A task that was submitted elsewhere is waited for here."""
        self.slots.adopted(loop_time())

    def _hold_back(self, now: float, reason: str) -> None:
        if not self._reachability.failed(now):
            return
        if self._reachability.failures == _FAILURES_LOGGED:
            message = "the service cannot be reached: %s; it is tried again and again: check the network and base_url"
            logger.warning(message, reason)
        self._emitter.gate_closed("unreachable", self._reachability.opens_at - now)

    def _report(self, now: float, answer: Answer) -> None:
        if self.slots.is_settled and self.slots.limit != self._logged_limit:
            self._logged_limit = self.slots.limit
            logger.info("up to %d tasks run at once", self._logged_limit)
        closed_until = self.budget.closed_until
        if closed_until is not None and closed_until > max(now, self._logged_closed_until):
            self._logged_closed_until = closed_until
            logger.info("the request budget is spent: nothing is sent for %.1f s", closed_until - now)
            self._emitter.gate_closed("request_rate", closed_until - now)
        if answer.hints.ignored and not self._has_logged_ignored:
            self._has_logged_ignored = True
            message = "headers that cannot be believed are ignored: %s; see whether a proxy changes them"
            logger.warning(message, ", ".join(answer.hints.ignored))
