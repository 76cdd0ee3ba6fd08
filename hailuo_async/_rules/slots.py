"""A concurrency limiter for tasks, which learns from refusals how many may run at the service: no answer says it.

The service lets a team run a few tasks at once, and other programs of the team share that limit. So our limit is not a
constant. It is the *proven* number: the number of our tasks that ran at once. A POST beyond the service's limit is
refused, which costs one request (and the upload of its images) and no money. Four events change the proven number:

- **Search.** At first, and again after an accepted probe, POSTs go beyond the proven number: one at a time and, once
  the search has gained more, a fifth of the gain at once. So the limit grows geometrically, and the search ends with
  at most a fifth of its POSTs refused.
- **Refusal.** The tasks that run now are all that may run. Several POSTs refused together count as one refusal.
- **Probe.** A single POST tests a known limit, less often after each failed one.
- **Late news.** Polling lags: the service may have accepted or refused a POST while a task of ours had ended unnoticed.
  When the session learns of that end, and it lies before the proof, the proof counts one slot less. So the limit does
  not creep up, and no refusal is needed to correct it.

A limit usually lies at one of the service's tiers (``contract.RUNNING_TIERS``), but other programs of the team may hold
some of its slots. So the tiers guide the search and the probes, without binding them: a search stops at each tier and
sends one POST beyond it, and a known limit that is a tier, and the highest that we had, is probed rarely.

Invariants: a start is granted below the limit, or as the only probe beyond it, and never above the ceiling. Every
``started`` is followed by one ``accepted``, ``refused`` or ``released``, and every ``accepted`` or ``adopted`` by one
``ended``. A limit that has shrunk grants nothing until enough have ended.
"""

from __future__ import annotations

import math
from random import Random

import attrs

from hailuo_async.contract import RUNNING_TIERS

#: Tasks that start at once before anything is known: one more than the smallest tier, which costs that tier a refusal.
_FIRST = 3

#: A search risks one POST for each so many slots that it has gained.
_RISK = 5

#: Seconds to the first probe of a known limit, and of one that has shrunk: then other programs hold slots that they
#: may give back soon.
_PROBE_S, _PROBE_SHRUNK_S = 45.0, 5.0
_PROBE_GROWTH = 1.5

#: The longest time between probes: slots that others give back should be noticed within a minute. A large limit that
#: was never higher is probed less often, in proportion: one slot matters less there, and a refusal costs the same.
_PROBE_LONGEST_S, _LARGE_TEAM = 50.0, 10
#: The longest time between probes of a tier: only a larger top-up raises it, or others that held slots from the start.
_PROBE_TIER_S = 600.0

#: Seconds to hold after a refusal while no task of ours runs; doubled each time.
_HOLD_S, _HOLD_LONGEST_S = 1.0, 40.0


@attrs.define(eq=False)
class Slots:
    """Grants starts, and learns from their answers. All times are loop seconds."""

    _ceiling: int | None
    _rng: Random
    _inflight: int = attrs.field(default=0, init=False)
    """POSTs that are sent and not answered."""
    _settled: int = attrs.field(default=0, init=False)
    """Tasks of ours that run at the service, as far as we know."""
    _proven: int = attrs.field(default=0, init=False)
    """The number of our tasks that ran at once."""
    _proven_at: float = attrs.field(default=-math.inf, init=False)
    """When the POST was sent whose acceptance or refusal proved it."""
    _in_doubt: int = attrs.field(default=0, init=False)
    """How many of the proven number are POSTs that were not answered when the last refusal came."""
    _started_at: float = attrs.field(default=-math.inf, init=False)
    _highest: int = attrs.field(default=RUNNING_TIERS[0], init=False)
    """The highest number ever proven, at least the smallest tier. Below it, others hold slots that may come back."""
    _searching: bool = attrs.field(default=True, init=False)
    _base: int = attrs.field(default=0, init=False)
    """The proven number when the search began."""
    _interval_s: float = attrs.field(default=_PROBE_S, init=False)
    _probe_at: float = attrs.field(default=math.inf, init=False)
    _lesson_at: float = attrs.field(default=-math.inf, init=False)
    """When the last refusal came that counted."""
    _hold_s: float = attrs.field(default=_HOLD_S, init=False)
    _hold_until: float = attrs.field(default=-math.inf, init=False)

    @property
    def running(self) -> int:
        """Our slots in use: POSTs under way, and accepted tasks that are not known to have ended."""
        return self._inflight + self._settled

    @property
    def limit(self) -> int:
        """How many tasks of ours may run now."""
        limit = self._proven or _FIRST
        if self._searching:
            beyond = self._settled + max(1, (self._proven - self._base) // _RISK)
            limit = max(limit, min(beyond, self._next_stop()))
        return limit if self._ceiling is None else min(limit, self._ceiling)

    @property
    def is_full(self) -> bool:
        """Whether as many tasks run as the session may run itself."""
        return self._ceiling is not None and self.running >= self._ceiling

    @property
    def knows_limit(self) -> bool:
        """Whether a refusal has shown the limit, and no acceptance since has shown a higher one."""
        return not self._searching

    def may_start(self, now: float) -> float:
        """When the next POST may leave: by ``now``, later, or ``inf`` while it waits for an answer or an end."""
        if self.is_full:
            return math.inf
        if (running := self.running) < self.limit:
            return max(now, self._hold_until) if running == 0 else now
        if self._searching or self._inflight:
            return math.inf  # a probe goes alone: several at once would all be refused for the same reason
        return max(now, self._probe_at)

    def started(self, now: float) -> None:
        """Counts a POST that leaves: it takes a slot."""
        self._inflight += 1
        self._started_at = now

    def accepted(self) -> None:
        """Counts an accepted job. Beyond the proven number it proves one more, and a search goes on from there."""
        self._inflight -= 1
        self._settled += 1
        self._hold_s = _HOLD_S
        self._in_doubt = max(0, self._in_doubt - 1)
        if self._settled <= self._proven:
            return
        if not self._searching:  # a probe was accepted: others have given slots back, perhaps many
            self._searching, self._base = True, self._proven
        self._proven, self._proven_at = self._settled, self._started_at
        self._highest = max(self._highest, self._proven)

    def refused(self, now: float, started_at: float) -> None:
        """Counts a refusal of the POST sent at ``started_at``: the tasks that run now are all that may run."""
        self._inflight -= 1
        # What a search found beyond its beginning, and lost at its end, had perhaps never been there: see "late news".
        shrunk = self.running < ((self._searching and self._base) or self._proven - self._in_doubt)
        if self._was_one_too_many(now):
            self._highest, shrunk = self.running, False
        self._searching = False
        self._proven, self._proven_at, self._in_doubt = max(1, self.running), started_at, self._inflight
        # A POST that left before the last refusal came was refused for the same reason: it delays no probe.
        if started_at >= self._lesson_at:
            self._lesson_at = now
            self._plan_probe(now, shrunk)
        if self.running == 0:
            self._hold(now)

    def released(self) -> None:
        """Frees the slot of a POST that made no task, and teaches nothing about the limit."""
        self._inflight -= 1

    def ended(self, ended_at: float | None = None) -> None:
        """Counts the end of a task; ``ended_at``, if known, may show that the proof was one slot too high."""
        self._settled -= 1
        # The task had ended before the proving POST was sent, but was still counted: the proof saw one too many.
        if ended_at is not None and ended_at < self._proven_at and self._proven > 1:
            self._highest = max(RUNNING_TIERS[0], self._highest - (self._proven == self._highest))
            self._proven -= 1

    def adopted(self) -> None:
        """Counts a task that was submitted elsewhere: it takes a slot, even above the limit."""
        self._settled += 1

    def recount(self, inflight: int, settled: int) -> None:
        """Sets the counts of POSTs under way and of running tasks, as the sessions that hold them report."""
        self._inflight, self._settled = inflight, settled

    def freed(self, inflight: int, settled: int) -> None:
        """Frees so many POSTs under way and running tasks: the session that held them is dead."""
        self._inflight -= inflight
        self._settled -= settled

    def _was_one_too_many(self, now: float) -> bool:
        """Whether we passed a tier by one slot a moment ago: then a task had ended unnoticed, and the tier holds."""
        return (
            self.running + 1 == self._proven == self._highest
            and self.running in RUNNING_TIERS
            and now - self._proven_at < _PROBE_S
        )

    def _next_stop(self) -> int:
        """How far the search may go before the next answer: to the next tier, and from a tier one slot beyond it."""
        reached = max(self._proven, self._settled)
        return max(reached + 1, next((tier for tier in RUNNING_TIERS if tier >= reached), 2 * reached))

    def _plan_probe(self, now: float, shrunk: bool) -> None:
        longest_s = _PROBE_LONGEST_S
        if self._proven >= self._highest:
            longest_s *= max(1.0, self._proven / _LARGE_TEAM)
            longest_s = max(longest_s, _PROBE_TIER_S if self._proven in RUNNING_TIERS else 0.0)
        wait = _PROBE_SHRUNK_S if shrunk else min(longest_s, self._interval_s)
        self._interval_s = wait * _PROBE_GROWTH
        self._probe_at = now + wait * self._rng.uniform(0.9, 1.1)

    def _hold(self, now: float) -> None:
        self._hold_until = now + self._hold_s * self._rng.uniform(0.5, 1.0)
        self._hold_s = min(_HOLD_LONGEST_S, self._hold_s * 2)
