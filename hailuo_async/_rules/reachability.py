"""How long to hold back from a service that cannot be reached: doubled with each failure, and jittered.

A connection that cannot be made says nothing of any job, so all requests hold back together. Requests that had left
before the first failure was known fail soon after it: they are one lesson, not several.
"""

from __future__ import annotations

import math
from random import Random

import attrs

#: Seconds to hold back after a connection could not be made; doubled each time up to the longest.
_FIRST_S, _LONGEST_S = 0.5, 30.0


@attrs.define(eq=False)
class Reachability:
    """Whether the service can be reached, as far as the last requests have shown."""

    _rng: Random
    opens_at: float = attrs.field(default=-math.inf, init=False)
    """Before this time nothing is sent."""
    failures: int = attrs.field(default=0, init=False)
    """Lessons in a row."""
    failing_since: float = attrs.field(default=-math.inf, init=False)
    """When the first failure came since the service was reached."""
    _next_s: float = attrs.field(default=_FIRST_S, init=False)

    def failed(self, now: float) -> bool:
        """A connection could not be made. Whether that is a new failure: not while it is held back for another."""
        if self.failures == 0:
            self.failing_since = now
        if now < self.opens_at:
            return False
        self.failures += 1
        # Jittered downwards, so that the longest stays the longest.
        self.opens_at = now + self._next_s * self._rng.uniform(0.5, 1.0)
        self._next_s = min(_LONGEST_S, 2 * self._next_s)
        return True

    def reached(self) -> None:
        """The service answered. What is held back stays so until its time: others may have failed meanwhile."""
        self.failures, self._next_s = 0, _FIRST_S
