"""How many of our tasks may run at the service: found from its refusals, because no answer says it.

The service lets a team run a few tasks at once, and other programs share them. So the limit is no constant; it is what
was *proven*: so many of ours ran at once. A POST beyond the service's limit is refused, which costs one request (and
the upload of its images) and no money. Four things move what is proven:

- **Search.** At first, and again when a probe was accepted, POSTs go beyond what is proven: one at a time, and when
  more was won, a fifth of that at once. So the limit grows geometrically, and no more than a fifth of it is refused
  when the search ends.
- **Refusal.** What runs now is all there is. A flight of POSTs that is refused is one lesson, not many.
- **Probe.** A settled limit is tried by a single POST beyond it, less often after each one that failed.
- **Late news.** Polling lags: a POST may have been accepted, or refused, while a task of ours had ended unnoticed. When
  the session learns of that end, and it lies before the proof, the proof was worth one slot less. So the limit does not
  creep up, and no refusal is spent on finding that out.

The service's tiers (``contract.RUNNING_TIERS``) are where a limit usually lies, but others of the team may hold some of
its slots. So they guide the search and the probes, and rule nothing: a search stops at each tier and sends one POST
beyond it, and a settled limit that is a tier, where we never had more, is probed rarely.

Invariants: a start is granted below the limit, or as the one probe beyond it, and never above the ceiling. Every
``started`` is followed by one ``accepted``, ``refused`` or ``released``, and every ``accepted`` or ``adopted`` by one
``ended``. A limit that has shrunk grants nothing until enough have ended.
"""

from __future__ import annotations

import math
from random import Random

import attrs

from hailuo_async.contract import RUNNING_TIERS

#: So many tasks start at once before anything is known: one more than the smallest tier, which costs that a refusal.
_FIRST = 3

#: While searching, this part of what was won is risked at once.
_RISK = 5

#: Seconds to the first probe of a settled limit, and of one that has shrunk: others are at work then, and may stop.
_PROBE_S, _PROBE_SHRUNK_S = 45.0, 5.0
_PROBE_GROWTH = 1.5

#: The longest between probes: what others give back is to be noticed within a minute. A large team that never had more
#: is probed less often, in proportion: there a slot matters less, and a refusal costs the same.
_PROBE_LONGEST_S, _LARGE_TEAM = 50.0, 10
#: The longest between probes of a tier: only a larger top-up moves it, or others that held slots from the beginning.
_PROBE_TIER_S = 600.0

#: Seconds to hold when nothing of ours runs and we are refused all the same; doubled each time.
_HOLD_S, _HOLD_LONGEST_S = 1.0, 40.0


@attrs.define(eq=False)
class Slots:
    """Grants starts, and learns from what became of them. All times are loop seconds."""

    _ceiling: int | None
    _rng: Random
    _inflight: int = attrs.field(default=0, init=False)
    """POSTs that have left and are not answered."""
    _settled: int = attrs.field(default=0, init=False)
    """Tasks of ours that the service has, as far as we know."""
    _proven: int = attrs.field(default=0, init=False)
    """So many of ours ran at once."""
    _proven_at: float = attrs.field(default=-math.inf, init=False)
    """When the POST left that showed it, by an acceptance beyond it or by a refusal."""
    _started_at: float = attrs.field(default=-math.inf, init=False)
    _most: int = attrs.field(default=RUNNING_TIERS[0], init=False)
    """The most that was ever proven, or is the smallest tier: with less, others hold slots that may come back."""
    _searching: bool = attrs.field(default=True, init=False)
    _base: int = attrs.field(default=0, init=False)
    """What was proven when the search began."""
    _interval_s: float = attrs.field(default=_PROBE_S, init=False)
    _probe_at: float = attrs.field(default=math.inf, init=False)
    _lesson_at: float = attrs.field(default=-math.inf, init=False)
    """When the last refusal that taught something came."""
    _hold_s: float = attrs.field(default=_HOLD_S, init=False)
    _hold_until: float = attrs.field(default=-math.inf, init=False)

    @property
    def running(self) -> int:
        """Ours that take a slot: POSTs on their way, and tasks accepted and not known to have ended."""
        return self._inflight + self._settled

    @property
    def limit(self) -> int:
        """How many of ours may run now."""
        limit = self._proven or _FIRST
        if self._searching:
            beyond = self._settled + max(1, (self._proven - self._base) // _RISK)
            limit = max(limit, min(beyond, self._next_stop()))
        return limit if self._ceiling is None else min(limit, self._ceiling)

    @property
    def is_settled(self) -> bool:
        """Whether a refusal has shown where the limit lies, and nothing has shown since that it lies higher."""
        return not self._searching

    def may_start(self, now: float) -> float:
        """When the next POST may leave: not after ``now``, later, or ``inf``: only an answer or an end will tell."""
        if self._ceiling is not None and self.running >= self._ceiling:
            return math.inf
        if self.running < self.limit:
            return max(now, self._hold_until) if self.running == 0 else now
        if self._searching or self._inflight:
            return math.inf
        return max(now, self._probe_at)

    def started(self, now: float) -> None:
        """A POST leaves; it takes a slot."""
        self._inflight += 1
        self._started_at = now

    def accepted(self, now: float) -> None:
        """The service took the job. Beyond what was proven, that proves one more, and a search goes on from there."""
        self._inflight -= 1
        self._settled += 1
        self._hold_s = _HOLD_S
        if self._settled <= self._proven:
            return
        if not self._searching:
            self._searching, self._base = True, self._proven
        self._proven, self._proven_at = self._settled, self._started_at
        self._most = max(self._most, self._proven)

    def refused(self, now: float, started_at: float) -> None:
        """The service has no slot for the POST that left at ``started_at``: what runs is all there is."""
        self._inflight -= 1
        shrunk = self.running < self._proven
        if self._was_one_too_many(now):
            self._most, shrunk = self.running, False
        self._searching = False
        self._proven, self._proven_at = max(1, self.running), started_at
        if started_at >= self._lesson_at:
            self._lesson_at = now
            self._plan_probe(now, shrunk)
        if self.running == 0:
            self._hold(now)

    def released(self, now: float) -> None:
        """The POST made no task: its slot is free, and nothing was learned."""
        self._inflight -= 1

    def ended(self, now: float, ended_at: float | None = None) -> None:
        """One of ours has ended; ``ended_at``, where it is known, may show that a proof was worth one slot less."""
        self._settled -= 1
        if ended_at is not None and ended_at < self._proven_at and self._proven > 1:
            self._most = max(RUNNING_TIERS[0], self._most - (self._proven == self._most))
            self._proven -= 1

    def adopted(self, now: float) -> None:
        """A task that was submitted elsewhere is waited for: it takes a slot, above the limit if need be."""
        self._settled += 1

    def recount(self, inflight: int, settled: int) -> None:
        """So many POSTs are on their way, and so many tasks run: what those who hold them say."""
        self._inflight, self._settled = inflight, settled

    def _was_one_too_many(self, now: float) -> bool:
        """Whether a tier was passed by one slot a moment ago: a task had ended unnoticed, and no other took a slot."""
        return (
            self.running + 1 == self._proven == self._most
            and self.running in RUNNING_TIERS
            and now - self._proven_at < _PROBE_S
        )

    def _next_stop(self) -> int:
        """How far the search may go before the next answer: to the next tier, and from a tier one beyond it."""
        reached = max(self._proven, self._settled)
        return max(reached + 1, next((tier for tier in RUNNING_TIERS if tier >= reached), 2 * reached))

    def _plan_probe(self, now: float, shrunk: bool) -> None:
        longest_s = _PROBE_LONGEST_S
        if self._proven >= self._most:
            longest_s *= max(1.0, self._proven / _LARGE_TEAM)
            longest_s = max(longest_s, _PROBE_TIER_S if self._proven in RUNNING_TIERS else 0.0)
        wait = _PROBE_SHRUNK_S if shrunk else min(longest_s, self._interval_s)
        self._interval_s = wait * _PROBE_GROWTH
        self._probe_at = now + wait * self._rng.uniform(0.9, 1.1)

    def _hold(self, now: float) -> None:
        self._hold_until = now + self._hold_s * self._rng.uniform(0.5, 1.0)
        self._hold_s = min(_HOLD_LONGEST_S, self._hold_s * 2)
