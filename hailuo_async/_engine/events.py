"""What is told of the work while it is done: to the session's hooks, and to the log.

Each fact is told once, where it becomes one. Every change of a job's status passes through ``changed``, which makes an
event of it by its new status alone. While nobody listens nothing is made.
"""

from __future__ import annotations

import contextlib
import logging
import math
from pathlib import Path
from typing import Literal, TypedDict

import anyio
import anyio.to_thread
import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._rules.wire import Answer
from hailuo_async.hooks import (
    Accepted,
    Downloaded,
    Ended,
    GateClosed,
    Hooks,
    Queued,
    Refused,
    Sent,
    SessionEvent,
    StatusSeen,
)
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status, Video

logger = logging.getLogger("hailuo_async")


class _Told(TypedDict):
    """What every event of a job tells."""

    at: float
    number: int
    job: Job | None
    key: str | None
    task_id: str | None
    waited_s: float


@attrs.define(eq=False)
class EventEmitter:
    """Tells the hooks, if there are any, and the log."""

    _hooks: Hooks = attrs.field(factory=Hooks)

    def queued(self, tracked: TrackedJob) -> None:
        """It waits for a slot."""
        if self._hooks:
            self._hooks.tell(Queued(**_told(tracked)))

    def changed(self, tracked: TrackedJob) -> None:
        """Its status is another one."""
        if tracked.is_quiet:
            return
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("job %s, task %s: %s -> %s", tracked.name, tracked.task_id, *tracked.history[-2:])
        if self._hooks and tracked.status is not Status.QUEUED:  # why it waits again was told as its refusal
            self._hooks.tell(_build_event(tracked))

    def refused(self, tracked: TrackedJob, answer: Answer) -> None:
        """Its POST certainly was not accepted."""
        if self._hooks:
            told = _told(tracked)
            reason = "not_sent" if answer.refusal is None else answer.refusal.name.lower()
            answered_s = told["at"] - tracked.sent_at
            attempt, message = tracked.attempts, answer.message
            self._hooks.tell(Refused(**told, attempt=attempt, reason=reason, message=message, answered_s=answered_s))

    def gate_closed(self, reason: Literal["request_rate", "unreachable"], seconds: float) -> None:
        """Nothing is sent for so long."""
        if self._hooks:
            self._hooks.tell(GateClosed(at=loop_time(), reason=reason, seconds=seconds))

    async def downloaded(self, video: Video, key: str | None, path: Path, began_at: float) -> None:
        """It was fetched, and lies in the file ``path``."""
        if not self._hooks:
            return
        with contextlib.suppress(OSError):  # somebody waited for the file, and has taken it away
            size, now = (await anyio.to_thread.run_sync(path.stat)).st_size, loop_time()
            took_s = now - began_at
            self._hooks.tell(Downloaded(at=now, task_id=video.task_id, key=key, path=path, bytes=size, took_s=took_s))


def _build_event(tracked: TrackedJob) -> SessionEvent:
    """What it means that it has this status now."""
    told = _told(tracked)
    ran_s = None if tracked.accepted_at == -math.inf else told["at"] - tracked.accepted_at
    match tracked.status:
        case Status.SENDING:
            return Sent(**told, attempt=tracked.attempts, doubts=tracked.resubmits)
        case Status.PENDING if tracked.is_attached:
            return Accepted(**told, attempt=0, answered_s=None)
        case Status.PENDING:
            return Accepted(**told, attempt=tracked.attempts, answered_s=told["at"] - tracked.sent_at)
        case Status.PROCESSING:
            return StatusSeen(**told, status=tracked.status, ran_s=ran_s)
        case _:
            late_s = None if tracked.ended_at is None else told["at"] - tracked.ended_at
            return Ended(
                **told, status=tracked.status, video=tracked.video, error=tracked.error, ran_s=ran_s, late_s=late_s
            )


def _told(tracked: TrackedJob) -> _Told:
    now = loop_time()
    return {
        "at": now,
        "number": tracked.ticket,
        "job": tracked.job,
        "key": tracked.key,
        "task_id": tracked.task_id,
        "waited_s": now - tracked.taken_at,
    }
