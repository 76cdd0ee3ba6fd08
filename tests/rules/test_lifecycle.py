"""A job's life: what may follow what, and that nothing else can."""

from __future__ import annotations

import functools

import pytest

from hailuo_async._rules.lifecycle import TRANSITIONS, Event, LifecycleError, next_status
from hailuo_async.outcomes import Status

LIVES = {
    "made": ([Event.SEND, Event.ACCEPT, Event.SEE_PENDING, Event.SEE_PROCESSING, Event.SUCCEED], Status.SUCCESS),
    "done at the first query": ([Event.SEND, Event.ACCEPT, Event.SUCCEED], Status.SUCCESS),
    "given up by the service": ([Event.SEND, Event.ACCEPT, Event.SEE_PROCESSING, Event.FAIL], Status.FAILED),
    "gone before it was seen at work": ([Event.SEND, Event.ACCEPT, Event.FAIL], Status.FAILED),
    "refused for want of room, then taken": ([Event.SEND, Event.WAIT_AGAIN, Event.SEND, Event.ACCEPT], Status.PENDING),
    "refused for good": ([Event.SEND, Event.REFUSE], Status.REFUSED),
    "refused for what another job met": ([Event.REFUSE], Status.REFUSED),
    "in doubt": ([Event.SEND, Event.DOUBT], Status.UNKNOWN),
    "in doubt by the journal": ([Event.DOUBT], Status.UNKNOWN),
    "withdrawn before it was sent": ([Event.ABANDON], Status.ABANDONED),
    "withdrawn when it waited again": ([Event.SEND, Event.WAIT_AGAIN, Event.ABANDON], Status.ABANDONED),
    "not waited for any more": ([Event.SEND, Event.ACCEPT, Event.SEE_PROCESSING, Event.ABANDON], Status.ABANDONED),
    "attached": ([Event.ACCEPT, Event.SEE_PROCESSING, Event.SUCCEED], Status.SUCCESS),
    "known from the journal as made": ([Event.SUCCEED], Status.SUCCESS),
    "known from the journal as failed": ([Event.FAIL], Status.FAILED),
}


@pytest.mark.parametrize(("events", "end"), LIVES.values(), ids=list(LIVES))
def test_a_life_leads_where_it_should(events: list[Event], end: Status) -> None:
    assert functools.reduce(next_status, events, Status.QUEUED) is end


#: For each status, what can happen to it. Written down a second time, so that the table cannot change by accident.
CAN_HAPPEN = {
    Status.QUEUED: "SEND ACCEPT DOUBT SUCCEED FAIL REFUSE ABANDON",
    Status.SENDING: "WAIT_AGAIN ACCEPT REFUSE DOUBT",
    Status.PENDING: "SEE_PENDING SEE_PROCESSING SUCCEED FAIL ABANDON",
    Status.PROCESSING: "SEE_PENDING SEE_PROCESSING SUCCEED FAIL ABANDON",
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("event", Event, ids=lambda event: event.name)
def test_what_is_not_in_the_table_cannot_happen(status: Status, event: Event) -> None:
    if event.name in CAN_HAPPEN.get(status, "").split():
        assert next_status(status, event) in Status
    else:
        with pytest.raises(
            LifecycleError, match=f"^{event.name} is not allowed for a job that is {status}: please report"
        ):
            next_status(status, event)


def test_every_status_is_in_the_table_and_nothing_follows_a_final_one() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert {status for status in Status if not TRANSITIONS[status]} == {status for status in Status if status.is_final}


def test_a_late_answer_does_not_turn_a_task_back() -> None:
    assert next_status(Status.PROCESSING, Event.SEE_PENDING) is Status.PROCESSING


def test_a_post_under_way_cannot_be_abandoned() -> None:
    """It may be accepted at any moment: only its answer says what became of it."""
    assert Event.ABANDON not in TRANSITIONS[Status.SENDING]


def test_a_job_that_was_accepted_is_never_sent_again() -> None:
    reached = {Status.PENDING}
    while more := {after for status in reached for after in TRANSITIONS[status].values()} - reached:
        reached |= more
    assert reached.isdisjoint({Status.QUEUED, Status.SENDING, Status.REFUSED, Status.UNKNOWN})
