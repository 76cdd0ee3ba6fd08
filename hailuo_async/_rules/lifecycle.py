"""A job's life as a table: its states, what can happen to it, and where that leads.

Whatever is not in the table cannot happen, and asking for it is a bug of ours: ``next_status`` raises, once, here. This
file knows no HTTP, no time and no journal; it says only what may follow what.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from hailuo_async.outcomes import Status


class Event(enum.Enum):
    """What can happen to a job."""

    SEND = "its POST begins"
    WAIT_AGAIN = "it certainly was not accepted, and may be sent again"
    ACCEPT = "the service has it, under a task id"
    REFUSE = "it certainly was not accepted, and is not sent again"
    DOUBT = "nobody can tell whether it was accepted"
    SEE_PENDING = "a query says that it waits at the service"
    SEE_PROCESSING = "a query says that the service works on it"
    SUCCEED = "a query says that its video is there"
    FAIL = "the service's own word ends it"
    ABANDON = "nobody here waits for it any more"


class LifecycleError(RuntimeError):
    """A bug in this library: something happened to a job that cannot. Please report it."""


TRANSITIONS: Mapping[Status, Mapping[Event, Status]] = {
    Status.QUEUED: {
        Event.SEND: Status.SENDING,
        Event.ACCEPT: Status.PENDING,  # attached, or known from the journal, as the next three
        Event.DOUBT: Status.UNKNOWN,
        Event.SUCCEED: Status.SUCCESS,
        Event.FAIL: Status.FAILED,
        Event.REFUSE: Status.REFUSED,  # 401, 402: what another job met, this one would meet too
        Event.ABANDON: Status.ABANDONED,
    },
    Status.SENDING: {
        Event.WAIT_AGAIN: Status.QUEUED,
        Event.ACCEPT: Status.PENDING,
        Event.REFUSE: Status.REFUSED,
        Event.DOUBT: Status.UNKNOWN,
    },
    Status.PENDING: {
        Event.SEE_PENDING: Status.PENDING,
        Event.SEE_PROCESSING: Status.PROCESSING,
        Event.SUCCEED: Status.SUCCESS,
        Event.FAIL: Status.FAILED,
        Event.ABANDON: Status.ABANDONED,
    },
    Status.PROCESSING: {
        Event.SEE_PENDING: Status.PROCESSING,  # its status runs one way: a late answer does not turn it back
        Event.SEE_PROCESSING: Status.PROCESSING,
        Event.SUCCEED: Status.SUCCESS,
        Event.FAIL: Status.FAILED,
        Event.ABANDON: Status.ABANDONED,
    },
    Status.SUCCESS: {},
    Status.FAILED: {},
    Status.REFUSED: {},
    Status.UNKNOWN: {},
    Status.ABANDONED: {},
}


def next_status(status: Status, event: Event) -> Status:
    """Where ``event`` leads from ``status``. Raises ``LifecycleError`` if it cannot happen there."""
    try:
        return TRANSITIONS[status][event]
    except KeyError:
        raise LifecycleError(f"{event.name} cannot happen to a job that is {status}") from None
