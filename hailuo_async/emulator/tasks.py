"""The tasks that the emulator works on: their lives, the team's running limit, and their end.

A task's whole life is decided when it is accepted: how long it is pending, when it ends, and how. Nothing ticks: a
task's status is a function of the time at which it is asked about.

Invariants: a task holds a slot from acceptance to its end and no longer; a task is forgotten, with all that it holds,
once its results have expired; ids come from a seeded source of 64 bits, so a seed gives the same ids again.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from decimal import Decimal

import attrs

from .fields import Submission
from .films import FilmOrder, film_size

#: Share of its time that a task is pending before it is processing.
_PENDING_SHARE = 0.1


@attrs.frozen
class Life:
    """How long a task takes, and how it ends: ``success``, ``failed`` or ``canceled``."""

    length_s: float
    ending: str


@attrs.frozen
class Task:
    """One accepted submission. Times are Unix seconds of the server's clock."""

    task_id: str
    submission: Submission = attrs.field(repr=False)
    accepted_at: float
    ends_at: float
    ending: str
    cost: Decimal
    """USD, paid when it was accepted."""

    def status(self, now: float) -> str:
        """``pending``, ``processing``, and then for good its ending."""
        if now >= self.ends_at:
            return self.ending
        return "pending" if now < self.accepted_at + _PENDING_SHARE * self.took_s else "processing"

    @property
    def took_s(self) -> float:
        return self.ends_at - self.accepted_at

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its film. The first picture decides; without one, the last."""
        return film_size(self.submission.resolution, self.submission.first or self.submission.last)

    def film(self) -> FilmOrder:
        width, height = self.size
        job = self.submission
        return FilmOrder(self.task_id, job.seconds, width, height, job.first, job.last)


@attrs.define
class TaskBoard:
    """Every task that is running or can still be asked about."""

    _names: random.Random
    _lives: random.Random
    _tasks: dict[str, Task] = attrs.field(factory=dict, init=False)
    _running: list[tuple[float, str]] = attrs.field(factory=list, init=False)
    """A heap by end."""
    _ended: deque[tuple[float, str]] = attrs.field(factory=deque, init=False)
    """Ids of the others, the first to end in front."""

    def advance(self, now: float, results_last_s: float) -> None:
        """Ends the tasks whose time has come, and forgets those whose results have expired."""
        while self._running and self._running[0][0] <= now:
            self._ended.append(heapq.heappop(self._running))
        while self._ended and self._ended[0][0] + results_last_s <= now:
            del self._tasks[self._ended.popleft()[1]]

    @property
    def running(self) -> int:
        """How many tasks hold a slot."""
        return len(self._running)

    def draw_life(self, generation_s: float, spread: float, fail_rate: float, cancel_rate: float) -> Life:
        """The life of the next task: ``generation_s``, more or less by up to ``spread`` of it, and an ending."""
        length_s = generation_s * self._lives.uniform(1 - spread, 1 + spread)
        throw = self._lives.random()
        if throw < fail_rate:
            return Life(length_s, "failed")
        return Life(length_s, "canceled" if throw < fail_rate + cancel_rate else "success")

    def accept(self, submission: Submission, now: float, life: Life, cost: Decimal) -> Task:
        task = Task(self._new_id(), submission, now, now + life.length_s, life.ending, cost)
        self._tasks[task.task_id] = task
        heapq.heappush(self._running, (task.ends_at, task.task_id))
        return task

    def find(self, task_id: str) -> Task | None:
        """The task with this id, unless it never was or has expired."""
        return self._tasks.get(task_id)

    def _new_id(self) -> str:
        return f"task-{self._names.getrandbits(64):016x}"
