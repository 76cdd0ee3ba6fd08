"""Which running task is worth a request now, learned from how long such tasks took.

A task that has ended unnoticed holds a slot that could work. So a query has a worth: the time that the task has
probably been lying there, finished, since it was last seen running,

    worth(now) = sum over that time of P(it had ended by then, given that it ran when it was last asked),

and a price. It is asked when its worth reaches the price. All else follows: what cannot have ended is not asked; the
gaps are narrow where the ends are dense (they go as one over the square root of the hazard); a task that outlives all
others is asked at growing intervals; none starves, as worth only grows; and when requests are short, the greatest
worth goes first.

**The duration model** of a kind is a life table: ages in steps of four percent, and for each step how many tasks were
seen entering it and how many ended in it. Answers of "still running" count as much as ends. The table forgets slowly,
so it follows a service that slows down or speeds up. Where it has seen nothing, the hazard is one over the age, the law
that knows no scale: the gaps are then a fixed share of the age.

**The price** is a small share of the task's age; when requests are short, that at which all running tasks together ask
as often as the budget bears.
"""

from __future__ import annotations

import math
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

#: The scale-free law: its chance to end within a step, and for how many observations of the step it stands.
_PRIOR_CHANCE = 1 - 1 / _RATIO
_PRIOR_WEIGHT = 0.1

#: No step is ever certain to be the last, however few have passed it.
_MOST_CHANCE = 0.9

#: A step remembers about forty tasks.
_KEEP = 1 - 1 / 40

#: An end is spread over its step and the neighbours: a few samples must not look sharper than they are.
_SPREAD = (0.25, 0.5, 0.25)

#: The tables are made anew when an eighth was learned beside what is known, and after 64 observations at the latest.
_STALE_SHARE, _STALE_NEWS = 8, 64

#: The price of a query as a share of the task's length: it costs about twelve queries and one percent of the length.
_PRICE = 0.0006
_UNKNOWN_SHARE = math.sqrt(2 * _PRICE)
_JITTER = 0.3

#: Of a kind that is not known, first questions are spread from this part of their gap to all of it: tasks that began
#: together would otherwise be asked together, to learn the same.
_SCOUT = 0.2

#: Once a kind is known, a task may be asked at this part of the shortest interval: its model says when it is worth it.
_KNOWN_INTERVAL = 0.25

#: Less than this share of the tasks still running: the task has outlived what is known of its kind.
_OUTLIVED = 0.02

#: How often an end whose time the service does not report is put anywhere since the task was last seen running, and
#: not where the model has it.
_DOUBT = 0.1

#: What the service says of a task's length may differ from our clock's by this much, and a tenth of it.
_REPORTED_SLACK_S = 1.0

#: How likely an announcement is lost: before any was due, and at the least and the most. One that comes lowers it by a
#: factor; one that does not come raises it at once to where asking counts again.
_SILENCE, _LEAST_SILENCE, _HEARD, _NOT_HEARD = 0.1, 0.001, 0.5, 0.4

#: For this part of a kind's length a task may have been finished, its announcement lost, before it is asked about.
_PATIENCE = 0.6

#: Kinds remembered; they are few, unless a caller makes up model names.
_KINDS = 64


@attrs.define
class PollState:
    """A running task, as the cadence sees it. Times are loop seconds."""

    task_id: str
    kind: Hashable
    accepted_at: float
    asked_at: float
    """When it was last seen not to have ended; at first, when it was accepted."""
    began_at: float
    """When its work began at the earliest: it was accepted, or last seen pending."""
    is_whole: bool
    """Whether it is watched from its beginning on."""
    is_to_be_announced: bool = False
    """Whether a webhook was asked for, so that its end is announced, if the announcement is not lost."""

    @classmethod
    def new(cls, task_id: str, kind: Hashable, accepted_at: float, *, is_whole: bool = True) -> PollState:
        """A task that was accepted at ``accepted_at``, or is watched since, and was not asked about yet.

        One that is not whole would teach wrong lengths, so its like is a kind of its own.
        """
        own = kind if is_whole else ("not whole", kind)
        return cls(task_id, own, accepted_at, accepted_at, accepted_at, is_whole)


def _step(age: float) -> int:
    """The step that ``age`` lies in: ``_EDGES[step] <= age < _EDGES[step + 1]``."""
    if age < _FIRST_S:
        return 0
    return min(_STEPS - 1, 1 + int(math.log(age / _FIRST_S) / _LOG_RATIO))


@attrs.define
class DurationModel:
    """How long tasks of one kind run: a life table, and what follows from it."""

    entered: list[float] = attrs.field(factory=lambda: [0.0] * _STEPS)
    ended: list[float] = attrs.field(factory=lambda: [0.0] * _STEPS)
    is_known: bool = False
    """Whether one of the kind has ended."""
    unread: int = 0
    """Observations since the tables below were made."""
    seen: int = 0
    alive: list[float] = attrs.field(factory=list)
    """For each edge, the share that still runs at that age."""
    lived: list[float] = attrs.field(factory=list)
    """For each edge, the mean time run up to that age: the integral of ``alive``. The last is the mean length."""
    silence: float = _SILENCE
    """How likely an end is not announced, of those that are to be."""
    breadth_s: float = 0.0
    """Queries a task times mean delay, in seconds, is about this: small where all take equally long."""

    def refresh(self) -> None:
        """Make the tables anew, if enough has been learned since."""
        if self.alive and self.unread < max(1, min(_STALE_NEWS, self.seen / _STALE_SHARE)):
            return
        self.unread = 0
        alive, lived, root = 1.0, 0.0, 0.0
        self.alive, self.lived = [alive], [lived]
        for entered, ended, width in zip(self.entered, self.ended, _WIDTHS, strict=True):
            chance = (ended + _PRIOR_WEIGHT * _PRIOR_CHANCE) / (entered + _PRIOR_WEIGHT)
            died = alive * min(_MOST_CHANCE, chance)
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
        step = self._due_step(young, price)
        start = max(young, _EDGES[step])
        alive, here = self.at(young)[0], self.at(start)[0]
        missing = price - self.lost(young, start)
        # From here on the share that has ended grows in a straight line, and so the loss as its square.
        slope = 1 - here / alive
        bend = (self.alive[step] - self.alive[step + 1]) / _WIDTHS[step] / alive
        return start + (math.sqrt(max(0.0, slope * slope + 2 * bend * missing)) - slope) / bend

    def _due_step(self, young: float, price: float) -> int:
        """The last step that begins before the loss has reached ``price``, or the one of ``young``."""
        alive, lived = self.at(young)
        low, high = _step(young), _STEPS
        while high - low > 1:
            middle = (low + high) // 2
            if _EDGES[middle] - young - (self.lived[middle] - lived) / alive < price:
                low = middle
            else:
                high = middle
        return low

    def draw(self, young: float, old: float, rng: Random) -> float:
        """An age at which a task of this kind may have ended, if it ran at ``young`` and had ended at ``old``."""
        if rng.random() < _DOUBT:
            return rng.uniform(young, old)
        target = rng.uniform(self.at(young)[0], self.at(old)[0])
        for _ in range(12):
            middle = (young + old) / 2
            young, old = (middle, old) if self.at(middle)[0] > target else (young, middle)
        return old


@attrs.define
class Cadence:
    """Says when to ask, and learns from the answers.

    The bounds of the intervals, in seconds, hold until a kind is known, and again for a task that outlives its kind.
    """

    _min_interval_s: float
    _max_interval_s: float
    _rng: Random
    _models: dict[Hashable, DurationModel] = attrs.field(factory=dict, init=False)
    _length_s: float = attrs.field(default=0.0, init=False)
    """How long slots were held of late, for tasks of whatever kind; 0.0 until one has ended."""

    def turnover(self, running: int) -> float:
        """How many of ``running`` tasks end in a second, and so how many submits to expect; 0.0 while unknown."""
        return running / self._length_s if self._length_s > 0 else 0.0

    def next_due(self, task: PollState, now: float, query_rate: float | None, running: int) -> float:
        """When to ask about ``task``, not before ``now``.

        ``query_rate``, in requests per second, is shared by the ``running`` tasks; ``None`` is as many as they like.
        """
        model = self._up_to_date(task.kind)
        young = task.asked_at - task.began_at
        share_s = running / query_rate if query_rate else 0.0
        if not model.is_known and self._length_s > 0:
            # Its first ends show how long the kind takes: to hold a slot unasked for longer than that costs more.
            share_s = min(share_s, max(self._length_s, young) / 4)
        price = self._price(model, young, share_s) * self._rng.uniform(1 - _JITTER, 1 + _JITTER)
        if task.is_to_be_announced:
            # A query is worth its price only if the end was not announced. Still, no slot is held for long in vain.
            price = min(price / model.silence, max(price, _PATIENCE * (model.lived[-1] if model.is_known else young)))
        gap = model.due(young, price) - young
        if not model.is_known and task.asked_at == task.accepted_at:
            gap *= self._rng.uniform(_SCOUT, 1)
        return max(now, task.asked_at + self._bounded(gap, task, model, share_s))

    def worth(self, task: PollState, now: float) -> float:
        """Seconds for which ``task`` has probably been finished unnoticed: who has more is asked first."""
        young = task.asked_at - task.began_at
        return self._up_to_date(task.kind).lost(young, max(young, now - task.began_at))

    def asked(self, task: PollState, now: float, pending: bool) -> None:
        """The service says that ``task`` has not ended; while it is ``pending`` its work has not even begun."""
        if pending:
            task.began_at = now
        else:
            self._model(task.kind).ran(task.asked_at - task.began_at, now - task.began_at)
        task.asked_at = now

    def announced_late(self, kind: Hashable) -> None:
        """The end of a task of that kind was announced after a query had found it: announcements do come."""
        model = self._model(kind)
        model.silence = max(_LEAST_SILENCE, model.silence * _HEARD * _HEARD)

    def ended(self, task: PollState, now: float, reported_s: float | None, *, is_announced: bool = False) -> float:
        """The service says that ``task`` has ended, and perhaps how long it worked. Gives when it probably ended."""
        if task.is_to_be_announced:
            model = self._model(task.kind)
            heard, not_heard = max(_LEAST_SILENCE, model.silence * _HEARD), max(model.silence, _NOT_HEARD)
            model.silence = heard if is_announced else not_heard
        young, old = task.asked_at - task.began_at, now - task.began_at
        if reported_s is not None and reported_s > old * 1.1 + _REPORTED_SLACK_S:
            return task.asked_at  # It began before we knew of it, so its age teaches nothing.
        if reported_s is not None and young - _REPORTED_SLACK_S <= reported_s:
            at = min(max(young, reported_s), old)
        else:
            at = self._up_to_date(task.kind).draw(young, old, self._rng)
        self._model(task.kind).end(young, at)
        if task.is_whole:
            self._held_for(now - task.accepted_at)
        return task.began_at + at

    def hear(self, kind: Hashable, young_s: float, at_s: float, took_s: float) -> None:
        """Another session's task of that kind ended at the age of ``at_s``, seen running at ``young_s`` last."""
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
        """The model to read from. Adding to one leaves its tables alone: many ends come at once."""
        model = self._model(kind)
        model.refresh()
        return model

    def _price(self, model: DurationModel, young: float, share_s: float) -> float:
        """What a query must be worth, in seconds, if each task may be asked once in ``share_s``."""
        if not model.is_known:
            length = max(young + share_s, self._min_interval_s)
            return max(_PRICE * length, share_s * share_s / (4 * length))
        length = model.lived[-1]
        return max(_PRICE * length, model.breadth_s * min(1.0, share_s / length) ** 2)

    def _bounded(self, gap: float, task: PollState, model: DurationModel, share_s: float) -> float:
        if model.is_known and model.at(task.asked_at - task.began_at)[0] > _OUTLIVED:
            return max(gap, _KNOWN_INTERVAL * self._min_interval_s)
        least = max(self._min_interval_s, _UNKNOWN_SHARE * (task.asked_at - task.accepted_at))
        return min(max(gap, least), max(self._max_interval_s, 2 * share_s))
