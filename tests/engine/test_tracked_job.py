"""How a job ends that was sent again after a doubt."""

from __future__ import annotations

import pytest

from hailuo_async import HailuoError, RequestRejectedError, Status, SubmissionUnknownError, TaskFailedError
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._rules.lifecycle import Event

DOUBT = SubmissionUnknownError(reason="cut", key="cat")
REFUSED = RequestRejectedError(message="no", status=422)
FAILED = TaskFailedError(reason="dark", task_id="t1")
NAMED = SubmissionUnknownError(reason="refused, yet it named a task", key="cat", task_id="t2")


@pytest.mark.parametrize(
    ("events", "error", "ends_in", "status"),
    [
        ([Event.SEND, Event.REFUSE], REFUSED, DOUBT, Status.UNKNOWN),
        ([Event.ABANDON], REFUSED, DOUBT, Status.UNKNOWN),
        ([Event.SEND, Event.ACCEPT, Event.FAIL], FAILED, FAILED, Status.FAILED),
        ([Event.SEND, Event.DOUBT], NAMED, NAMED, Status.UNKNOWN),
    ],
)
def test_an_earlier_doubt_wins_over_each_end_but_one_of_a_task_that_is_known(
    events: list[Event], error: HailuoError, ends_in: HailuoError, status: Status
) -> None:
    tracked = TrackedJob(0)
    tracked.doubt = DOUBT
    for event in events[:-1]:
        tracked.task_id = "t1" if event is Event.ACCEPT else None
        tracked.move(event)
    tracked.fail(events[-1], error)
    assert (tracked.error, tracked.status) == (ends_in, status)
