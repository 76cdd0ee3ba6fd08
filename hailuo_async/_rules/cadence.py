"""The poll schedule: decides when each running task is worth a query, from the durations of earlier tasks.

A finished task blocks its slot until a query notices the end. So a query has a worth: the time for which the task has
probably been finished, counted from the last query that saw it running,

    worth(now) = sum over that time of P(the task had ended by then, given that it ran at the last query),

and a price. The query is due when its worth reaches the price. Everything else follows from this rule. A task that
cannot have ended is not queried. Gaps between queries are narrow where many tasks end (they go as one over the square
root of the hazard). A task that outlives all others is queried at growing intervals. Every task gets its turn, as worth
only grows. When requests are short, the greatest worth goes first.

**The duration model** of a kind of tasks is a life table: ages in steps of four percent and, for each step, how many
tasks entered it and how many ended in it. Answers of "still running" count as much as ends. The table forgets slowly,
so it follows a service that slows down or speeds up. For ages that it has not seen, the hazard is one over the age, the
scale-free law: the gaps are then a fixed share of the age.

**The price** is a small share of the task's age. When requests are short, it is the price at which all running tasks
together query as often as the rate limiter allows.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Hashable, Iterable
from itertools import pairwise
from random import Random

import attrs

#: Ages are distinguished in steps of this ratio, from the first age on; with so many steps the last is at 1.6 hours.
_RATIO = 1.04
_FIRST_S = 0.25
_STEPS = 256
_LOG_RATIO = math.log(_RATIO)
_EDGES = (0.0, *(_FIRST_S * _RATIO**step for step in range(_STEPS)))
_WIDTHS = tuple(right - left for left, right in pairwise(_EDGES))

#: The scale-free law, as observations of each step: so many tasks entered it, and so many ended in it.
_PRIOR_ENTERED = 0.1
_PRIOR_ENDED = _PRIOR_ENTERED * (1 - 1 / _RATIO)

#: No step is ever certain to be the last, even if no task has passed it.
_MAX_CHANCE = 0.9

#: A step remembers about forty tasks.
_KEEP = 1 - 1 / 40

#: An end is spread over its step and both neighbours: a few samples must not look sharper than they are.
_SPREAD = (0.25, 0.5, 0.25)

#: The tables are rebuilt after an eighth more observations, and after 64 at the latest: a rebuild takes 256 steps.
_STALE_SHARE, _STALE_NEWS = 8, 64

#: The price of a query as a share of the task's length: it costs about twelve queries and one percent of the length.
_PRICE = 0.0006
_UNKNOWN_SHARE = math.sqrt(2 * _PRICE)
_JITTER = 0.3

#: For an unknown kind, first queries are spread from this share of their gap to all of it: tasks that began together
#: would otherwise be queried together, and teach the same.
_SCOUT = 0.2

#: Once a kind is known, the shortest interval shrinks to this share: the model knows when a query is worth it.
_KNOWN_INTERVAL = 0.25

#: A task that runs when less than this share of its kind still did has outlived the model.
_OUTLIVED = 0.02

#: The service may not report when a task ended. This often the end is then drawn evenly since the task was last seen
#: running, not from the model: a model that learned only from itself would never correct itself.
_EVEN_SHARE = 0.1

#: A duration that the service reports may exceed our own by so much, and a tenth of it.
_REPORTED_SLACK_S = 1.0

#: The probability that a notice is lost: before any was due, and its minimum. A notice that comes lowers it by
#: a factor; one that does not come raises it at once to a value at which polling counts again.
_NOTICE_LOSS, _LEAST_LOSS, _CAME, _DID_NOT_COME = 0.1, 0.001, 0.5, 0.4

#: A task whose notice was lost may have been finished for this share of its kind's duration before a query.
_PATIENCE = 0.6

#: Kinds kept. There are few, unless a caller invents model names.
_KINDS = 64


@attrs.define
class PollState:
    """A running task, as the cadence knows it. Times are loop seconds."""

    task_id: str
    kind: Hashable
    watched_at: float
    """When it was accepted, or first watched."""
    is_whole: bool = True
    """Whether the poller watched the task from its beginning."""
    expects_notice: bool = False
    """Whether the job has a webhook, so that a notice of its end should come."""
    asked_at: float = attrs.field(init=False)
    """When the task was last seen running; at first, when it was accepted."""
    began_at: float = attrs.field(init=False)
    """The earliest start of the service's work: when the task was accepted, or last seen pending if that says so."""

    def __attrs_post_init__(self) -> None:
        self.asked_at = self.began_at = self.watched_at
        if not self.is_whole:  # it would teach wrong durations, so such tasks are a kind of their own
            self.kind = ("not whole", self.kind)


def _step(age: float) -> int:
    """The step of ``age``: ``_EDGES[step] <= age < _EDGES[step + 1]``."""
    if age < _FIRST_S:
        return 0
    return min(_STEPS - 1, 1 + int(math.log(age / _FIRST_S) / _LOG_RATIO))


@attrs.define
class DurationModel:
    """The durations of tasks of one kind: a life table, and the tables that follow from it."""

    entered: list[float] = attrs.field(factory=lambda: [0.0] * _STEPS)
    ended: list[float] = attrs.field(factory=lambda: [0.0] * _STEPS)
    is_known: bool = False
    """Whether a task of the kind has ended."""
    is_seen_at_work: bool = False
    """Whether a task of the kind was ever seen between pending and its end."""
    ends_pending: bool = False
    """Whether one has ended that was only ever seen pending."""
    unread: int = 0
    """Observations since the tables below were built."""
    seen: int = 0
    alive: list[float] = attrs.field(factory=list)
    """For each edge, the share that still runs at that age."""
    lived: list[float] = attrs.field(factory=list)
    """For each edge, the mean time run up to that age: the integral of ``alive``. The last is the mean duration."""
    notice_loss: float = _NOTICE_LOSS
    """The probability that an expected notice does not come."""
    breadth_s: float = 0.0
    """About queries per task times mean delay, in seconds: small where all tasks take equally long."""

    @property
    def works_while_pending(self) -> bool:
        """Whether the service seems to call its tasks pending until they end, so that the word says nothing."""
        return self.ends_pending and not self.is_seen_at_work

    def refresh(self) -> None:
        """Rebuilds the tables, if enough was observed since."""
        if self.alive and self.unread < max(1, min(_STALE_NEWS, self.seen / _STALE_SHARE)):
            return
        self.unread = 0
        alive, lived, root = 1.0, 0.0, 0.0
        self.alive, self.lived = [alive], [lived]
        for entered, ended, width in zip(self.entered, self.ended, _WIDTHS, strict=True):
            chance = (ended + _PRIOR_ENDED) / (entered + _PRIOR_ENTERED)
            died = alive * (chance if chance < _MAX_CHANCE else _MAX_CHANCE)  # min() takes as long as all the rest
            middle = alive - died / 2
            root += math.sqrt(middle * died * width)
            lived += width * middle
            alive -= died
            self.alive.append(alive)
            self.lived.append(lived)
        self.breadth_s = root * root / 2

    def ran(self, young: float, old: float) -> None:
        """A task that ran at the age of ``young`` still ran at ``old``."""
        self._observe()
        self._enter(range(_step(young), _step(old)), 1.0)

    def end(self, young: float, at: float) -> None:
        """A task that ran at the age of ``young`` ended at ``at``."""
        self._observe()
        self.is_known = True
        last = min(_STEPS - 2, max(1, _step(at)))
        self._enter(range(min(_step(young), last), last), 1.0)
        left = 1.0
        for step, share in zip(range(last - 1, last + 2), _SPREAD, strict=True):
            if step >= last:
                self._enter((step,), left)
            self.ended[step] += share
            left -= share

    def _observe(self) -> None:
        self.unread += 1
        self.seen += 1

    def _enter(self, steps: Iterable[int], weight: float) -> None:
        for step in steps:
            self.entered[step] = self.entered[step] * _KEEP + weight
            self.ended[step] *= _KEEP

    def at(self, age: float) -> tuple[float, float]:
        """The share that still runs at ``age``, and the mean time run up to it."""
        step = _step(age)
        part = min(1.0, (age - _EDGES[step]) / _WIDTHS[step])
        alive = self.alive[step] - part * (self.alive[step] - self.alive[step + 1])
        return alive, self.lived[step] + part * _WIDTHS[step] * (self.alive[step] + alive) / 2

    def lost(self, young: float, old: float) -> float:
        """Seconds for which a task that ran at ``young`` has probably been finished at ``old``."""
        alive, lived = self.at(young)
        return old - young - (self.at(old)[1] - lived) / alive

    def due(self, young: float, price: float) -> float:
        """The age at which a task that ran at ``young`` has probably lost ``price`` seconds."""
        alive, lived = self.at(young)

        def lost_by(step: int) -> float:
            return _EDGES[step] - young - (self.lived[step] - lived) / alive

        # The last step that begins before the loss has reached the price, or the one of ``young``.
        step = bisect_left(range(_STEPS), price, lo=_step(young) + 1, key=lost_by) - 1
        start = max(young, _EDGES[step])
        here, lived_here = self.at(start)
        missing = price - (start - young - (lived_here - lived) / alive)
        # Within a step the share that has ended grows linearly, so the loss grows as the square.
        slope = 1 - here / alive
        bend = (self.alive[step] - self.alive[step + 1]) / _WIDTHS[step] / alive
        return start + (math.sqrt(max(0.0, slope * slope + 2 * bend * missing)) - slope) / bend

    def draw(self, young: float, old: float, rng: Random) -> float:
        """A random age at which such a task may have ended, given that it ran at ``young`` and had ended at ``old``."""
        if rng.random() < _EVEN_SHARE:
            return rng.uniform(young, old)
        target = rng.uniform(self.at(young)[0], self.at(old)[0])
        for _ in range(12):
            middle = (young + old) / 2
            young, old = (middle, old) if self.at(middle)[0] > target else (young, middle)
        return old


@attrs.define
class Cadence:
    """Decides when to query, and learns from the answers.

    The bounds of the intervals, in seconds, apply until a kind is known, and again to a task that outlives its kind.
    """

    _min_interval_s: float
    _max_interval_s: float
    _rng: Random
    _models: dict[Hashable, DurationModel] = attrs.field(factory=dict, init=False)
    _length_s: float = attrs.field(default=0.0, init=False)
    """The recent mean time for which a task held its slot, over all kinds; 0.0 until a task has ended."""

    def turnover(self, running: int) -> float:
        """Ends per second among ``running`` tasks, and so the submits to expect; 0.0 while unknown."""
        return running / self._length_s if self._length_s > 0 else 0.0

    def next_due(self, task: PollState, now: float, query_rate: float | None, running: int) -> float:
        """When to query ``task``, not before ``now``.

        The ``running`` tasks share ``query_rate``, in requests per second; ``None`` is no limit.
        """
        model = self._up_to_date(task.kind)
        young = task.asked_at - task.began_at
        share_s = running / query_rate if query_rate else 0.0
        if not model.is_known and self._length_s > 0:
            # Only an end teaches how long the kind takes. Until then a quarter of what other kinds take bounds the
            # gap: a slot that is held unnoticed costs more than a few queries.
            share_s = min(share_s, max(self._length_s, young) / 4)
        price = self._price(model, young, share_s) * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
        if task.expects_notice:
            # A query is worth its price only if the notice is lost. Still, no slot is held for long in vain.
            length_s = model.lived[-1] if model.is_known else young
            price = min(price / model.notice_loss, max(price, _PATIENCE * length_s))
        gap = model.due(young, price) - young
        if not model.is_known and task.asked_at == task.watched_at:
            gap *= self._rng.uniform(_SCOUT, 1)
        return max(now, task.asked_at + self._bounded(gap, task, model, share_s))

    def worth(self, task: PollState, now: float) -> float:
        """Seconds for which ``task`` has probably been finished unnoticed. The task with the most is queried first."""
        young = task.asked_at - task.began_at
        return self._up_to_date(task.kind).lost(young, max(young, now - task.began_at))

    def still_runs(self, task: PollState, now: float, *, is_pending: bool) -> None:
        """Notes that ``task`` has not ended. While it is pending, the service has not begun to work on it."""
        model = self._model(task.kind)
        model.is_seen_at_work = model.is_seen_at_work or not is_pending
        if is_pending and not model.works_while_pending:
            task.began_at = now
        else:
            if model.works_while_pending:
                task.began_at = task.watched_at
            model.ran(task.asked_at - task.began_at, now - task.began_at)
        task.asked_at = now

    def notice_came_late(self, kind: Hashable) -> None:
        """Learns that a notice came after a query had found the end of such a task: notices do come."""
        model = self._model(kind)
        model.notice_loss = max(_LEAST_LOSS, model.notice_loss * _CAME * _CAME)

    def ended(self, task: PollState, now: float, reported_s: float | None, *, is_noticed: bool = False) -> float:
        """Notes that ``task`` has ended, and returns when it probably did, in loop time.

        ``reported_s`` is how long the service says that it worked, if it does; it is believed if that can be.
        """
        model = self._model(task.kind)
        if task.expects_notice:
            came, lost = max(_LEAST_LOSS, model.notice_loss * _CAME), max(model.notice_loss, _DID_NOT_COME)
            model.notice_loss = came if is_noticed else lost
        model.ends_pending = model.ends_pending or task.began_at == task.asked_at > task.watched_at
        if model.works_while_pending:
            task.began_at = task.watched_at
        young, old = task.asked_at - task.began_at, now - task.began_at
        longest = old * 1.1 + _REPORTED_SLACK_S
        if reported_s is not None and reported_s > longest and not task.is_whole:
            return task.asked_at  # the task began before we watched it, so its age teaches nothing
        if reported_s is not None and young <= reported_s <= longest:
            if reported_s > old:  # it counts from the acceptance, the time in the service's queue included
                reported_s = max(young, reported_s - (task.began_at - task.watched_at))
            at = min(reported_s, old)
        elif is_noticed:
            at = old  # a notice comes when its task ends
        else:
            at = self._up_to_date(task.kind).draw(young, old, self._rng)
        self._model(task.kind).end(young, at)
        if task.is_whole:
            self._held_for(now - task.watched_at)
        return task.began_at + at

    def ended_elsewhere(self, kind: Hashable, young_s: float, at_s: float, took_s: float) -> None:
        """Learns from another session's task, which ended at the age of ``at_s`` and was last seen at ``young_s``."""
        model = self._model(kind)
        model.ran(0.0, young_s)
        model.end(young_s, at_s)
        self._held_for(took_s)

    def _held_for(self, took_s: float) -> None:
        self._length_s = took_s if self._length_s == 0 else self._length_s + (took_s - self._length_s) / 8

    def _model(self, kind: Hashable) -> DurationModel:
        model = self._models.get(kind)
        if model is None:
            if len(self._models) >= _KINDS:
                del self._models[next(iter(self._models))]
            model = self._models[kind] = DurationModel()
        return model

    def _up_to_date(self, kind: Hashable) -> DurationModel:
        # Only reading rebuilds the tables: ends come in bursts, and each would rebuild them for nothing.
        model = self._model(kind)
        model.refresh()
        return model

    def _price(self, model: DurationModel, young: float, share_s: float) -> float:
        """The worth at which a query is due, in seconds, if each task may be queried once in ``share_s``."""
        if not model.is_known:
            length = max(young + share_s, self._min_interval_s)
            return max(_PRICE * length, share_s * share_s / (4 * length))
        length = model.lived[-1]
        return max(_PRICE * length, model.breadth_s * min(1.0, share_s / length) ** 2)

    def _bounded(self, gap: float, task: PollState, model: DurationModel, share_s: float) -> float:
        if model.is_known and model.at(task.asked_at - task.began_at)[0] > _OUTLIVED:
            return max(gap, _KNOWN_INTERVAL * self._min_interval_s)
        least = max(self._min_interval_s, _UNKNOWN_SHARE * (task.asked_at - task.watched_at))
        return min(max(gap, least), max(self._max_interval_s, 2 * share_s))
