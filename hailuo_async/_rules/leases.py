"""Whether a session may count another's lease as ended.

A lease that was not renewed in time shows that its session is dead, unless no session could renew: the journal was
away, the clock has jumped, or this session was stopped itself. Each of these shows in this session's own renewals. Then
it first gives the others a lease's length, from the moment at which it could renew its own again. Waiting loses
nothing: a task that is not asked about goes on, and a POST is called in doubt a little later.
"""

from __future__ import annotations

import math

import attrs

#: A session renews every third of a lease. After this share of one without a renewal, it must have been held up.
_LATE = 0.5


@attrs.define(eq=False)
class Judgement:
    """From when until when leases that have run out count as ended. All times are of the clock that leases run by."""

    _lease_s: float
    begins_at: float = attrs.field(default=-math.inf, init=False)
    ends_at: float = attrs.field(default=math.inf, init=False)
    """Later than this, this session has missed a renewal itself."""
    _renewed_at: float | None = attrs.field(default=None, init=False)

    def journal_came_back(self, at: float) -> None:
        """No session could renew its lease shortly before ``at``."""
        self.begins_at = max(self.begins_at, at + self._lease_s)

    def renewed(self, now: float) -> None:
        """This session has renewed its own lease."""
        if self._renewed_at is not None and not self._renewed_at <= now <= self.ends_at:
            self.begins_at = now + self._lease_s
        self._renewed_at, self.ends_at = now, now + _LATE * self._lease_s

    def is_due(self, now: float) -> bool:
        """Whether a lease that has run out by ``now`` counts as ended."""
        has_jumped_back = self._renewed_at is not None and now < self._renewed_at
        return self.begins_at <= now <= self.ends_at and not has_jumped_back
