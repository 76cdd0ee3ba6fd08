"""Jobs that other sessions work on."""

from __future__ import annotations

import pytest

from hailuo_async import Status, SubmissionUnknownError
from hailuo_async._engine.following import Following
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.records import Claim, JournalState
from hailuo_async._rules.lifecycle import Event
from hailuo_async.errors import JournalError

from ..support.ledgers import record_in


def seen(dispatched: list[Claim]) -> tuple[Following, TrackedJob]:
    tracked = TrackedJob(1, identity="cat")
    tracked.task_id = "t1"
    tracked.move(Event.ACCEPT)
    return Following(SessionState(), "batch.db", lambda _, claim: dispatched.append(claim)), tracked


async def test_a_job_that_was_resubmitted_between_two_looks_ends_for_who_saw_its_failed_task() -> None:
    dispatched: list[Claim] = []
    following, tracked = seen(dispatched)
    following.end(tracked, Claim(record_in(JournalState.INTENDED), ours=True))
    assert (tracked.status, dispatched) == (Status.ABANDONED, [])
    assert isinstance(tracked.error, JournalError)
    assert "resubmitted after its task t1 had failed: give it again" in str(tracked.error)


async def test_a_doubt_after_a_resubmit_is_told_without_the_task_that_failed() -> None:
    doubt = SubmissionUnknownError(reason="no answer", key="cat")
    following, tracked = seen([])
    following.end(tracked, Claim(record_in(JournalState.UNKNOWN, error=doubt), ours=False))
    assert (tracked.status, tracked.error, doubt.task_id) == (Status.ABANDONED, doubt, None)


@pytest.mark.parametrize("state", [JournalState.ACCEPTED, JournalState.SUCCESS, JournalState.FAILED])
async def test_every_other_record_says_how_a_followed_job_goes_on(state: JournalState) -> None:
    dispatched: list[Claim] = []
    following, tracked = seen(dispatched)
    following.end(tracked, Claim(record_in(state), ours=False))
    assert [claim.record.state for claim in dispatched] == [state]
