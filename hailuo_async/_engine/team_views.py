"""The team's limits, for the gate of one session: it asks them for leave, and reports what its requests led to.

They have the methods of ``Slots`` and ``Budget``. They answer from the session's view of the team, and pass each report
to ``Team``, which tells the other sessions. Times are the loop's.
"""

from __future__ import annotations

import attrs

from hailuo_async._engine.team import Team
from hailuo_async._rules.budget import Hints, Use


@attrs.define(eq=False)
class TeamSlots:
    """The team's slots, as ``Slots`` has them, for the gate of one session. Times are the loop's."""

    _team: Team

    @property
    def running(self) -> int:
        """POSTs and tasks of this session that take a slot."""
        return self._team.running

    @property
    def limit(self) -> int:
        """How many tasks of the whole team may run at once; or of this session, if its ceiling is lower."""
        limit, ceiling = self._team.view.slots.limit, self._team.ceiling
        return limit if ceiling is None else min(limit, ceiling)

    @property
    def is_settled(self) -> bool:
        """Whether the limit is known."""
        return self._team.view.slots.is_settled

    def may_start(self, now: float) -> float:
        """When the next POST may leave; ``inf``: something has to happen first."""
        return self._team.submit_opens_at(now)

    def started(self, now: float) -> None:
        """Counts a POST whose grant is asked for."""
        self._team.tentative += 1
        self._team.view.slots.started(now + self._team.offset_s)

    def accepted(self, now: float) -> None:
        """Notes that the service accepted the job."""
        at = now + self._team.offset_s
        self._team.inflight -= 1
        self._team.settled += 1
        self._team.tell(lambda state: state.slots.accepted(at))

    def refused(self, now: float, started_at: float) -> None:
        """Notes that the service had no slot for the POST that left at ``started_at``."""
        at, from_at = now + self._team.offset_s, started_at + self._team.offset_s
        self._team.inflight -= 1
        self._team.tell(lambda state: state.slots.refused(at, from_at))

    def released(self, now: float) -> None:
        """Gives back the slot of a POST that made no task."""
        at = now + self._team.offset_s
        self._team.inflight -= 1
        self._team.tell(lambda state: state.slots.released(at))

    def ended(self, now: float, ended_at: float | None = None) -> None:
        """Frees the slot of a task of this session that has ended."""
        at, end = now + self._team.offset_s, None if ended_at is None else ended_at + self._team.offset_s
        self._team.settled -= 1
        self._team.tell(lambda state: state.slots.ended(at, end))

    def adopted(self, now: float) -> None:
        """Counts the slot of a task that was submitted elsewhere, and for which this session waits."""
        at = now + self._team.offset_s
        self._team.settled += 1
        self._team.tell(lambda state: state.slots.adopted(at))


@attrs.define(eq=False)
class TeamBudget:
    """The team's requests, as ``Budget`` has them, for the gate of one session. Times are the loop's."""

    _team: Team

    @property
    def limit(self) -> int | None:
        """Requests in a window."""
        return self._team.view.budget.limit

    @property
    def closed_until(self) -> float | None:
        """Until when a 429 has closed the gate for the whole team."""
        at = self._team.view.budget.closed_until
        return None if at is None else at - self._team.offset_s

    def remaining(self, now: float) -> int | None:
        """Requests left in this window."""
        return self._team.view.budget.remaining(now + self._team.offset_s)

    def may_send(self, now: float, use: Use) -> float:
        """When such a request may leave."""
        if use is Use.QUERY:
            return self._team.query_opens_at(now)
        if self._team.is_called:
            return now
        return self._team.in_loop_time(self._team.view.budget.may_send(now + self._team.offset_s, use), now)

    def sent(self, now: float, use: Use) -> None:
        """Counts a request that leaves. In the journal, the request of a POST is counted with its grant."""
        if use is Use.QUERY:
            self._team.query_leaves(now)
        else:
            self._team.view.budget.sent(now + self._team.offset_s, use)

    def learn(self, now: float, hints: Hints, sent_at: float) -> None:
        """Learns from the answer to the request of ``sent_at``, or from its failure."""
        at, from_at = now + self._team.offset_s, sent_at + self._team.offset_s
        self._team.requests -= 1
        self._team.tell(lambda state: state.budget.learn(at, hints, from_at), is_urgent=False)

    def refused(self, now: float, hints: Hints, sent_at: float) -> None:
        """Closes the gate for the whole team, after a 429 for requests."""
        at, from_at = now + self._team.offset_s, sent_at + self._team.offset_s
        self._team.tell(lambda state: state.budget.refused(at, hints, from_at))

    def query_rate(self, now: float, submit_rate: float) -> float | None:
        """Queries per second that the whole team can bear."""
        return self._team.view.budget.query_rate(now + self._team.offset_s, submit_rate)
