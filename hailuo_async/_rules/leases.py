"""Whether a session may count another's lease as ended.

A lease that was not renewed in time shows that its session is dead, unless no session could renew: the journal was
away, the clock has jumped, or this session was stopped itself. Each of these shows in this session's own renewals. Then
it first gives the others a lease's length, from the moment at which it could renew its own again. Waiting loses
nothing: a task that is not asked about goes on, and a POST is called in doubt a little later.

After the clock was set back, the leases that were given before lie far ahead. The living renew theirs within a lease's
length; one that lies far ahead after that is of a session that is dead.
"""

from __future__ import annotations

import math

import attrs

#: What sessions know of their database's clock is that exact: one that is further from where it was has been set.
CLOCK_SET_S = 10.0
#: A session renews every third of a lease. After this share of one without a renewal, it must have been held up.
_LATE = 0.5
#: A lease further ahead than this many of its own lengths was given before the clock was set back.
_LEASES_AHEAD = 2


@attrs.define(eq=False)
class Judgement:
    """From when until when leases that have run out count as ended. All times are of the clock that leases run by."""

    _lease_s: float
    begins_at: float = attrs.field(default=-math.inf, init=False)
    ends_at: float = attrs.field(default=math.inf, init=False)
    """Later than this, this session has missed a renewal itself."""
    _renewed_at: float = attrs.field(default=-math.inf, init=False)
    _all_renewed_at: float = attrs.field(default=-math.inf, init=False)
    """When every living session has renewed its lease since this one began to, or the clock has jumped."""

    def journal_came_back(self, at: float) -> None:
        """No session could renew its lease shortly before ``at``."""
        self.begins_at = max(self.begins_at, at + self._lease_s)

    def renewed(self, now: float) -> None:
        """This session has renewed its own lease."""
        if self._renewed_at == -math.inf:
            self._all_renewed_at = now + self._lease_s
        elif not self._renewed_at <= now <= self.ends_at:
            self.begins_at = self._all_renewed_at = now + self._lease_s
        self._renewed_at, self.ends_at = now, now + _LATE * self._lease_s

    def is_due(self, now: float) -> bool:
        """Whether a lease that has run out by ``now`` counts as ended."""
        begins_at, ends_at = self.due
        return begins_at <= now <= ends_at

    @property
    def due(self) -> tuple[float, float]:
        """From when until when ``is_due``. A time before the last renewal shows that the clock was set back."""
        return max(self.begins_at, self._renewed_at), self.ends_at

    def is_over(self, lease_until: float, now: float) -> bool:
        """Whether a lease until then counts as ended by ``now``."""
        return self.is_due(now) and not 0 < lease_until - now <= self.longest_s

    @property
    def longest_s(self) -> float:
        """How far ahead the lease of a living session may lie: not known before all have renewed theirs."""
        return math.inf if self._renewed_at < self._all_renewed_at else _LEASES_AHEAD * self._lease_s
