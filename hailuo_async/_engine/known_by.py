"""The names of a job in the journal and in the log, and its kind."""

from __future__ import annotations

import logging
from collections.abc import Hashable

from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.records import Intent, JournalState, Record
from hailuo_async._rules.lifecycle import Event
from hailuo_async.errors import SessionClosedError, SubmissionUnknownError, TaskFailedError
from hailuo_async.jobs import Job

logger = logging.getLogger("hailuo_async")


def names_of(intent: Intent | None) -> dict[str, str]:
    """The job's names in the journal."""
    return {} if intent is None else {"identity": intent.identity, "fingerprint": intent.fingerprint}


def log_goes_on(tracked: TrackedJob) -> None:
    level = logging.WARNING if tracked.identity is None else logging.INFO  # a journal keeps the id anyway
    message = "job %s goes on as task %s, which is paid for, though its caller has left: attach() waits for it again"
    logger.log(level, message, tracked.name, tracked.task_id)


def fail_as_recorded(tracked: TrackedJob, record: Record) -> None:
    """Ends ``tracked`` as the journal says: in doubt, refused, or given up by the service."""
    reason = "the journal says so"
    if record.state is JournalState.UNKNOWN:
        doubt = SubmissionUnknownError(reason=reason, key=tracked.key or tracked.identity)
        tracked.fail(Event.DOUBT, record.error or doubt)
    else:
        event = Event.REFUSE if record.state is JournalState.REFUSED else Event.FAIL
        tracked.fail(event, record.error or TaskFailedError(reason=reason))


def withdrawn() -> SessionClosedError:
    return SessionClosedError(reason="the caller left before the job was sent; it cost nothing")


def kind_of(asked: Job | Record) -> Hashable:
    """The kind of a job or a record: tasks of the same model, duration and resolution take about equally long."""
    if isinstance(asked, Record):
        return (asked.model, asked.facts.get("duration"), asked.facts.get("resolution"))
    return (asked.model, asked.duration, asked.resolution)
