"""The team's limits, for the gate of one session: it asks them for permission, and reports what its requests led to.

They have the methods of ``Slots`` and ``RateLimiter``. They answer from the session's view of the team, and
publish each report. They own what the session holds itself, which each of its steps states again. Times are the loop's.
"""

from __future__ import annotations

import math

import attrs

from hailuo_async._engine.team_line import TeamLine
from hailuo_async._engine.team_view import TeamView
from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders

#: Requests of queries that are asked for at once. Where they are short, the state grants fewer.
_STOCK = 4


@attrs.define(eq=False)
class TeamSlots:
    """The team's slots, as ``Slots`` has them."""

    _view: TeamView
    _line: TeamLine
    _ceiling: int | None
    tentative: int = attrs.field(default=0, init=False)
    """POSTs whose grant is asked for: by this session's view they may leave."""
    inflight: int = attrs.field(default=0, init=False)
    settled: int = attrs.field(default=0, init=False)

    @property
    def running(self) -> int:
        """POSTs and tasks of this session that take a slot."""
        return self.inflight + self.tentative + self.settled

    @property
    def limit(self) -> int:
        """How many tasks of the whole team may run at once; or of this session, if its ceiling is lower."""
        limit = self._view.state.slots.limit
        return limit if self._ceiling is None else min(limit, self._ceiling)

    @property
    def knows_limit(self) -> bool:
        """Whether the limit is known."""
        return self._view.state.slots.knows_limit

    @property
    def is_full(self) -> bool:
        """Whether this session runs as many as it may itself."""
        return self._ceiling is not None and self.running >= self._ceiling

    def may_start(self, now: float) -> float:
        """When the next POST may leave; ``inf``: something has to happen first."""
        if self.is_full or (self._line.is_called and self.tentative):
            return math.inf
        if self._line.is_called:
            return now
        at = self._view.state.submit_opens_at(now + self._view.clock.offset_s)
        return self._line.turn_opens_at(now, self._view.in_loop_time(at, now))

    def started(self, now: float) -> None:
        """Counts a POST whose grant is asked for."""
        self.tentative += 1
        self._view.state.slots.started(now + self._view.clock.offset_s)

    def answered(self, asked: int, granted: int) -> None:
        """Counts the answers to so many of those."""
        self.tentative -= asked
        self.inflight += granted

    def accepted(self) -> None:
        """Notes that the service accepted the job."""
        self.inflight -= 1
        self.settled += 1
        self._view.publish(lambda state: state.slots.accepted())

    def refused(self, now: float, started_at: float) -> None:
        """Notes that the service had no slot for the POST that left at ``started_at``."""
        offset_s = self._view.clock.offset_s
        self.inflight -= 1
        self._view.publish(lambda state: state.slots.refused(now + offset_s, started_at + offset_s))

    def released(self) -> None:
        """Gives back the slot of a POST that made no task."""
        self.inflight -= 1
        self._view.publish(lambda state: state.slots.released())

    def ended(self, ended_at: float | None = None) -> None:
        """Frees the slot of a task of this session that has ended."""
        at = None if ended_at is None else ended_at + self._view.clock.offset_s
        self.settled -= 1
        self._view.publish(lambda state: state.slots.ended(at))

    def adopted(self) -> None:
        """Counts the slot of a task that was submitted elsewhere, and for which this session waits."""
        self.settled += 1
        self._view.publish(lambda state: state.slots.adopted())


@attrs.define(eq=False)
class TeamRateLimiter:
    """The team's requests, as ``RateLimiter`` has them.

    Queries take theirs from a small stock, which steps fill. While no limit is known, or no other session is there, no
    stock is needed: a later step reports what was sent.
    """

    _view: TeamView
    requests: int = attrs.field(default=0, init=False)
    """Those that were granted, or counted, and are not answered."""
    is_query_due: bool = attrs.field(default=False, init=False)
    """Whether a query waits for the stock to be filled."""
    _stock: int = attrs.field(default=0, init=False)
    """Those of ``requests`` that have not left."""
    _query_at: float = attrs.field(default=-math.inf, init=False)
    """When the stock may be used; or, if there is none, when it may be asked for again."""

    @property
    def closed_until(self) -> float | None:
        """Until when a 429 has closed the gate for the whole team."""
        at = self._view.state.rate_limiter.closed_until
        return None if at is None else at - self._view.clock.offset_s

    def remaining(self, now: float) -> int | None:
        """Requests left in this window."""
        return self._view.state.rate_limiter.remaining(now + self._view.clock.offset_s)

    def may_send(self, now: float, use: Use) -> float:
        """When such a request may leave. That of a POST goes with its slot: ``TeamSlots.may_start`` asks for both."""
        if use is not Use.QUERY:
            return now
        at = now + self._view.clock.offset_s
        if self._needs_no_stock(at):
            return self._view.in_loop_time(self._view.state.rate_limiter.may_send(at, use), now)
        return self._stock_opens_at(now)

    def _needs_no_stock(self, at: float) -> bool:
        if self._stock:
            return False
        return self._view.members <= 1 or self._view.state.rate_limiter.query_rate(at, 0.0) is None

    def _stock_opens_at(self, now: float) -> float:
        if not (self._stock or self.is_query_due) and self._query_at <= now:
            self.is_query_due = True
            self._view.commit_soon()
        return math.inf if self.is_query_due else self._query_at

    def sent(self, now: float, use: Use) -> None:
        """Counts a request that leaves. In the journal, the request of a POST is counted with its grant."""
        at = now + self._view.clock.offset_s
        if use is not Use.QUERY:
            self._view.state.rate_limiter.sent(at, use)
        elif self._stock:
            self._stock -= 1
        else:
            self.requests += 1
            self._view.publish(lambda state: state.rate_limiter.sent(at, Use.QUERY), is_urgent=False)

    def learn(self, now: float, headers: RateHeaders, sent_at: float) -> None:
        """Learns from the answer to the request of ``sent_at``, or from its failure."""
        offset_s = self._view.clock.offset_s
        self.requests -= 1
        self._view.publish(
            lambda state: state.rate_limiter.learn(now + offset_s, headers, sent_at + offset_s), is_urgent=False
        )

    def refused(self, now: float, headers: RateHeaders, sent_at: float) -> None:
        """Closes the gate for the whole team, after a 429 for requests."""
        offset_s = self._view.clock.offset_s
        self._view.publish(lambda state: state.rate_limiter.refused(now + offset_s, headers, sent_at + offset_s))

    def query_rate(self, now: float, submit_rate: float) -> float | None:
        """Queries per second that the whole team can bear."""
        return self._view.state.rate_limiter.query_rate(now + self._view.clock.offset_s, submit_rate)

    # --- The stock ---

    def wants(self, now: float, *, is_soon: bool) -> int:
        """How many requests a step is to ask for that is made now in any case; ``is_soon``: queries will be needed."""
        is_soon = is_soon and not self._stock and not self._needs_no_stock(now + self._view.clock.offset_s)
        return _STOCK if self.is_query_due or is_soon else 0

    def answered(self, query_at: float, queries: int = 0, posts: int = 0) -> None:
        """Counts the requests that a step was granted. Those of queries may leave at ``query_at``."""
        self.is_query_due, self._query_at = False, query_at
        self._stock += queries
        self.requests += queries + posts
