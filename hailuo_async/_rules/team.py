"""What the sessions of one journal know together: the team's slots, its requests, and how long its tasks took.

``TeamState`` is one value. Each session changes it by one step at a time (``exchange``), which the journal applies to
the state as it stands, or not at all; so any number of sessions decide as one would. Times are in the team's clock: on
one machine that of every loop, between machines that of the database.

Invariants:

- ``held`` says for each member what it holds: POSTs on their way, tasks that run, requests granted and not answered;
  and whether it follows jobs of others, so that it is woken when one changes. Each step of a member states its own
  share again, so nothing drifts. What a dead member held is counted until another has taken over its tasks.
- ``slots`` and ``rate_limiter`` are the rules of one session, with the counts of all. A member keeps its own ceiling.
- ``ends`` are the last tasks that ended, oldest first; ``ended`` counts all there ever were. So a member that has seen
  ``n`` of them learns from the last ``ended - n``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, NamedTuple, TypeAlias

import attrs

from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.rate_limiter import RateLimiter
from hailuo_async._rules.slots import Slots

#: The fields of the rules that are state, not arguments: numbers, as JSON has them.
_STATE = {
    kind: tuple(field.name for field in attrs.fields(kind) if field.default is not attrs.NOTHING)
    for kind in (Slots, RateLimiter)
}

#: Ends that are kept for others to learn from. Each session reads them every second at least, and may miss one.
_KEPT_ENDS = 16
#: Each member may have a stock of so many seconds' queries. Each task takes two or three, so one that is granted them
#: with another step asks for none in a step of its own.
_STOCKED_S = 6.0
#: A query is booked for a later time if that is no further ahead. Two hundred members wait twelve seconds for a
#: thousand requests a minute.
_AHEAD_S = 15.0


class Held(NamedTuple):
    """What one member holds."""

    inflight: int = 0
    """POSTs that have left, or are about to, and are not answered."""
    settled: int = 0
    """Tasks that run at the service, as far as the member knows."""
    requests: int = 0
    """Requests that it was granted, and that are not answered."""
    follows: bool = False
    """Whether it waits for jobs of others."""


class End(NamedTuple):
    """How long a task took."""

    member: str
    """The last letters of the name of the session that waited for it."""
    kind: tuple[Any, ...]
    young_s: float
    """Its age when it was last seen running."""
    at_s: float
    """Its age when it was first seen ended."""
    took_s: float
    """How long it held a slot."""


@attrs.define
class TeamState:
    """The team's slots and requests, who holds them, and how long its tasks took."""

    slots: Slots
    rate_limiter: RateLimiter
    held: dict[str, Held] = attrs.field(factory=dict)
    ends: list[End] = attrs.field(factory=list)
    ended: int = 0
    submits_from: float = 0.0
    """No POST may leave before: the journal is a copy that may have lost what some session knows."""
    restored: str = ""
    """Names the last time that a session found the journal restored: others may not see that by themselves."""
    as_of: float = 0.0
    """When it was last changed: later than now only if the team's clock was set back since."""

    @classmethod
    def new(cls, rng: Random) -> TeamState:
        """Nothing is known yet."""
        return cls(Slots(None, rng), RateLimiter())

    def hold(self, member: str, held: Held) -> None:
        """States what ``member`` holds; the slots count the sum over all members."""
        if held == Held():
            self.held.pop(member, None)
        else:
            self.held[member] = held
        shares = self.held.values()
        self.slots.recount(sum(each.inflight for each in shares), sum(each.settled for each in shares))

    def bury(self, member: str, now: float) -> None:
        """``member`` is dead, and its tasks were taken over by others or are in doubt."""
        held = self.held.pop(member, Held())
        for _ in range(held.requests):
            self.rate_limiter.learn(now, RateHeaders(), now)
        self.slots.freed(held.inflight, held.settled)  # no recount, which would undo what others did since

    def followers(self, but: str) -> frozenset[str]:
        """The members that follow jobs of others, except ``but``."""
        return frozenset(member for member, held in self.held.items() if held.follows and member != but)

    def submit_opens_at(self, now: float) -> float:
        """When a POST may leave: a time not after ``now`` is now."""
        slot_at = max(self.submits_from, self.slots.may_start(now))
        return slot_at if slot_at > now else self.rate_limiter.may_send(now, Use.SUBMIT)

    def submit_leaves(self, now: float) -> None:
        """A POST leaves: it takes a slot and a request."""
        self.slots.started(now)
        self.rate_limiter.sent(now, Use.SUBMIT)

    def submit_stayed(self, now: float) -> None:
        """A POST that was to leave did not: its slot and its request are free."""
        self.slots.released()
        self.rate_limiter.learn(now, RateHeaders(), now)

    def teach(self, end: End) -> None:
        """A task ended."""
        self.ended += 1
        self.ends = [*self.ends[1 - _KEPT_ENDS :], end]

    def ends_since(self, seen: int) -> Iterable[End]:
        """What was taught since ``seen`` were, as far as it is kept."""
        new = self.ended - seen
        return self.ends[-new:] if new > 0 else ()


Change: TypeAlias = Callable[[TeamState], object]
"""Something that a member publishes to the team."""


@attrs.frozen(kw_only=True)
class MemberStep:
    """What one member publishes to the team, and asks of it, in one step."""

    member: str
    now: float
    held: Held
    """After ``changes``, and before what is granted now."""
    changes: tuple[Change, ...] = ()
    submits: int = 0
    """How many POSTs it would send now."""
    queries: int = 0
    """How many other requests it would like to have in hand."""
    is_query_due: bool = True
    """Whether a query waits for one of those."""


@attrs.frozen
class Grant:
    """What a member was granted. Its queries may leave at ``query_at``; if there are none, it may ask again then."""

    submits: int = 0
    queries: int = 0
    query_at: float = 0.0


def exchange(state: TeamState, step: MemberStep, members: int) -> Grant:
    """Applies ``step`` to ``state``, for one of so many live ``members``, and decides what is granted."""
    state.as_of = step.now
    for change in step.changes:
        change(state)
    state.hold(step.member, step.held)
    submits = _take_submits(state, step)
    queries, query_at = _take_queries(state, step, members)
    held = step.held
    requests = held.requests + submits + queries
    state.hold(step.member, held._replace(inflight=held.inflight + submits, requests=requests))
    return Grant(submits, queries, query_at)


def _take_submits(state: TeamState, step: MemberStep) -> int:
    taken = 0
    while taken < step.submits and state.submit_opens_at(step.now) <= step.now:
        state.submit_leaves(step.now)
        taken += 1
    return taken


def _take_queries(state: TeamState, step: MemberStep, members: int) -> tuple[int, float]:
    """As many as are asked for and may leave now, but for more than one no more than each member's share.

    If none may leave yet, and one is due, it is booked for the next of the times that are spread over the window. So
    each of many members that wait for a request asks once, and not again whenever another was quicker.
    """
    taken, limiter = 0, state.rate_limiter
    rate = limiter.query_rate(step.now, 0.0)
    most = step.queries if rate is None else min(step.queries, max(1, int(_STOCKED_S * rate / members)))
    while taken < most:
        at = limiter.may_send(step.now, Use.QUERY)
        is_booked = at > step.now
        if is_booked and (taken or not step.is_query_due or not limiter.can_book(at, step.now + _AHEAD_S)):
            return taken, step.now if taken else at
        limiter.sent(step.now, Use.QUERY, at)
        taken += 1
        if is_booked:
            return taken, at
    return taken, step.now


# --- As text ----------------------------------------------------------------------------------------------------------


def dump_state(state: TeamState) -> str:
    """``state`` as JSON, for ``load_state``."""
    content = {
        "slots": _dump(state.slots),
        "budget": _dump(state.rate_limiter),  # its name on disk
        "held": state.held,
        "ends": state.ends,
        "ended": state.ended,
        "submits_from": state.submits_from,
        "restored": state.restored,
        "as_of": state.as_of,
    }
    return json.dumps(content, separators=(",", ":"))


def load_state(text: str | None, rng: Random) -> TeamState:
    """The state that ``dump_state`` wrote; a new one without a text, or if another version of the library wrote it."""
    state = TeamState.new(rng)
    if not text:
        return state
    try:
        content = json.loads(text)
        _fill(state.slots, content["slots"])
        _fill(state.rate_limiter, content["budget"])
        state.held = {member: Held(*held) for member, held in content["held"].items()}
        state.ends = [End(member, tuple(kind), *ages) for member, kind, *ages in content["ends"]]
        state.ended = content["ended"]
        state.submits_from, state.as_of = content["submits_from"], content["as_of"]
        state.restored = content["restored"]
    except (AttributeError, KeyError, TypeError, ValueError):
        return TeamState.new(rng)
    return state


def _dump(rules: Slots | RateLimiter) -> dict[str, Any]:
    return {name: getattr(rules, name) for name in _STATE[type(rules)]}


def _fill(rules: Slots | RateLimiter, content: Mapping[str, Any]) -> None:
    for name in _STATE[type(rules)]:
        setattr(rules, name, content[name])
