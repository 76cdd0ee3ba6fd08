"""The tasks that the emulator works on: their lives, the team's running limit, and their end.

A task's whole life is decided when it is accepted: how long it is pending, when it ends, whether it fails. Nothing
ticks; a task's state is a function of the time at which it is asked about.

Invariants: a task holds a slot from acceptance to its end and no longer; a task is forgotten, with all that it holds,
once its results have expired; ids come from a seeded source of 64 bits, so a seed gives the same ids again.
"""

from __future__ import annotations

import heapq
import random
from collections import deque

import attrs

from .fields import Submission
from .films import FilmOrder, film_size

#: Share of its time that a task is pending before it is processing.
_PENDING_SHARE = 0.1


@attrs.frozen
class Task:
    """One accepted submission. Times are Unix seconds of the server's clock."""

    task_id: str
    submission: Submission = attrs.field(repr=False)
    accepted_at: float
    ends_at: float
    fails: bool

    def status(self, now: float) -> str:
        """``pending``, ``processing``, and then for good ``success`` or ``failed``."""
        if now >= self.ends_at:
            return "failed" if self.fails else "success"
        return "pending" if now < self.accepted_at + _PENDING_SHARE * self.took_s else "processing"

    @property
    def took_s(self) -> float:
        return self.ends_at - self.accepted_at

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its film. The first picture decides; without one, the last."""
        return film_size(self.submission.resolution, self.submission.first or self.submission.last)

    def film(self) -> FilmOrder:
        """Its film, to be rendered."""
        width, height = self.size
        job = self.submission
        return FilmOrder(self.task_id, job.seconds, width, height, job.first, job.last)

    def described(self, now: float, url: str) -> dict[str, object]:
        """What a query answers of it: its status and, once it has succeeded, its film under ``url``."""
        status = self.status(now)
        data: dict[str, object] = {
            "status": status,
            "task_id": self.task_id,
            "model_id": self.submission.model.model_id,
        }
        if status == "failed":
            data["error"] = {"code": "generation_failed", "message": "failed on purpose"}
        if status == "success":
            data["duration"] = round(self.took_s * 1000)
            data["result"] = {
                "resources": [self._resource(url)],
                "metadata": {"request_id": self.task_id.replace("task-", "req-")},
            }
        return data

    def _resource(self, url: str) -> dict[str, object]:
        width, height = self.size
        return {"url": url, "type": "video", "width": width, "height": height, "format": "mp4", "role": "primary"}


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
        """Lets the tasks end, and expire, whose time has come."""
        while self._running and self._running[0][0] <= now:
            self._ended.append(heapq.heappop(self._running))
        while self._ended and self._ended[0][0] + results_last_s <= now:
            del self._tasks[self._ended.popleft()[1]]

    @property
    def running(self) -> int:
        """How many tasks hold a slot."""
        return len(self._running)

    def accept(self, submission: Submission, now: float, generation_s: float, spread: float, fail_rate: float) -> Task:
        """A new task, running from ``now`` for ``generation_s``, more or less by up to ``spread`` of it."""
        length_s = generation_s * self._lives.uniform(1 - spread, 1 + spread)
        task = Task(self._new_id(), submission, now, now + length_s, self._lives.random() < fail_rate)
        self._tasks[task.task_id] = task
        heapq.heappush(self._running, (task.ends_at, task.task_id))
        return task

    def find(self, task_id: str) -> Task | None:
        """The task with this id, unless it never was or has expired."""
        return self._tasks.get(task_id)

    def _new_id(self) -> str:
        return f"task-{self._names.getrandbits(64):016x}"
