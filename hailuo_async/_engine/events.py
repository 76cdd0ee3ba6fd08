"""Emits events to the session's hooks, and writes each change of a job to the log.

Each fact is emitted once, at its source. Every change of a job's status passes through ``changed``, which builds the
event from the new status alone. Without hooks no event is built.
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

from hailuo_async import hooks
from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._rules.wire import Answer
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Status, Video

logger = logging.getLogger("hailuo_async")


class _JobFacts(TypedDict):
    """The fields that every event of a job has."""

    at: float
    number: int
    job: Job | None
    key: str | None
    task_id: str | None
    waited_s: float


@attrs.define(eq=False)
class EventEmitter:
    """Gives events to the hooks, if there are any, and writes the log."""

    _hooks: hooks.Hooks = attrs.field(factory=hooks.Hooks)

    def queued(self, tracked: TrackedJob) -> None:
        """Emits that a job waits for a slot."""
        if self._hooks:
            self._hooks.emit(hooks.Queued(**_job_facts(tracked)))

    def changed(self, tracked: TrackedJob) -> None:
        """Emits and logs that a job's status changed."""
        if tracked.is_quiet:
            return
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("job %s, task %s: %s -> %s", tracked.name, tracked.task_id, *tracked.history[-2:])
        if self._hooks and tracked.status is not Status.QUEUED:  # its refusal was emitted before
            self._hooks.emit(_build_event(tracked))

    def refused(self, tracked: TrackedJob, answer: Answer) -> None:
        """Emits that the service certainly did not accept a job's POST."""
        if self._hooks:
            facts = _job_facts(tracked)
            reason = "not_sent" if answer.refusal is None else answer.refusal.name.lower()
            answered_s = facts["at"] - tracked.sent_at
            attempt, message = tracked.attempts, answer.message
            self._hooks.emit(
                hooks.Refused(**facts, attempt=attempt, reason=reason, message=message, answered_s=answered_s)
            )

    def gate_closed(self, reason: Literal["request_rate", "unreachable"], seconds: float) -> None:
        """Emits that the session sends nothing for so many seconds."""
        if self._hooks:
            self._hooks.emit(hooks.GateClosed(at=loop_time(), reason=reason, seconds=seconds))

    async def downloaded(self, video: Video, key: str | None, path: Path, began_at: float) -> None:
        """Emits that a video was downloaded as the file ``path``."""
        if not self._hooks:
            return
        with contextlib.suppress(OSError):  # another program waited for the file, and moved it away
            size, now = (await anyio.to_thread.run_sync(path.stat)).st_size, loop_time()
            took_s = now - began_at
            self._hooks.emit(
                hooks.Downloaded(at=now, task_id=video.task_id, key=key, path=path, bytes=size, took_s=took_s)
            )


def _build_event(tracked: TrackedJob) -> hooks.SessionEvent:
    """The event of the job's present status."""
    facts = _job_facts(tracked)
    ran_s = None if tracked.accepted_at == -math.inf else facts["at"] - tracked.accepted_at
    match tracked.status:
        case Status.SENDING:
            return hooks.Sent(**facts, attempt=tracked.attempts, doubts=tracked.resubmits)
        case Status.PENDING if tracked.is_attached:
            return hooks.Accepted(**facts, attempt=0, answered_s=None)
        case Status.PENDING:
            return hooks.Accepted(**facts, attempt=tracked.attempts, answered_s=facts["at"] - tracked.sent_at)
        case Status.PROCESSING:
            return hooks.StatusSeen(**facts, status=tracked.status, ran_s=ran_s)
        case _:
            late_s = None if tracked.ended_at is None else facts["at"] - tracked.ended_at
            return hooks.Ended(
                **facts, status=tracked.status, video=tracked.video, error=tracked.error, ran_s=ran_s, late_s=late_s
            )


def _job_facts(tracked: TrackedJob) -> _JobFacts:
    now = loop_time()
    return {
        "at": now,
        "number": tracked.number,
        "job": tracked.job,
        "key": tracked.key,
        "task_id": tracked.task_id,
        "waited_s": now - tracked.taken_at,
    }
