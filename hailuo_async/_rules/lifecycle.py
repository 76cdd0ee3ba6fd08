"""A job's life as a table: its states, the events of each, and the state that follows.

An event that is not in the table is a bug of this library: ``next_status`` raises, here and nowhere else. This file
knows no HTTP, no time and no journal, only the order of states.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from hailuo_async.outcomes import Status


class Event(enum.StrEnum):  # a ``str``, as CPython hashes other members in Python
    """An event in a job's life."""

    SEND = "the submitter begins its POST"
    WAIT_AGAIN = "the service certainly did not accept it, and it may be sent again"
    ACCEPT = "the service accepted it, under a task id"
    REFUSE = "the service certainly did not accept it, and it is not sent again"
    DOUBT = "the service may have accepted it or not"
    SEE_PENDING = "a query says that it waits at the service"
    SEE_PROCESSING = "a query says that the service works on it"
    SUCCEED = "a query says that its video is there"
    FAIL = "the service says that it failed"
    ABANDON = "the session waits for it no longer"


class LifecycleError(RuntimeError):
    """A bug in this library: an event that the job's state does not allow. Please report it."""


TRANSITIONS: Mapping[Status, Mapping[Event, Status]] = {
    Status.QUEUED: {
        Event.SEND: Status.SENDING,
        Event.ACCEPT: Status.PENDING,  # attached, or known from the journal, like the next three
        Event.DOUBT: Status.UNKNOWN,
        Event.SUCCEED: Status.SUCCESS,
        Event.FAIL: Status.FAILED,
        Event.REFUSE: Status.REFUSED,  # after another job's 401 or 402: this one would get the same
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
        Event.SEE_PENDING: Status.PROCESSING,  # a status only moves forward: a late answer does not turn it back
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
    """The status after ``event``. Raises ``LifecycleError`` if the table does not allow it in ``status``."""
    try:
        return TRANSITIONS[status][event]
    except KeyError:
        raise LifecycleError(f"{event.name} is not allowed for a job that is {status}: please report this") from None
