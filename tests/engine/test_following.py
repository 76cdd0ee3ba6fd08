"""Jobs that other sessions work on."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from hailuo_async import Status, SubmissionUnknownError
from hailuo_async._engine.following import Following
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.last_connection import LastConnection
from hailuo_async._io.journal.records import LEASE_S, Claim, JournalState
from hailuo_async._io.journal.team_values import JobChange
from hailuo_async._rules.lifecycle import Event
from hailuo_async.errors import JournalError
from hailuo_async.testing import run_virtual

from ..support.tables import record_in


def unexpected(tracked: TrackedJob, claim: Claim) -> None:
    pytest.fail("nothing was claimed after its end")


def seen(dispatched: list[Claim]) -> tuple[Following, TrackedJob]:
    tracked = TrackedJob(1, identity="cat")
    tracked.task_id = "t1"
    tracked.move(Event.ACCEPT)
    return Following(SessionState(), "batch.db", lambda _, claim: dispatched.append(claim), unexpected), tracked


async def test_a_job_that_was_resubmitted_between_two_checks_ends_for_who_saw_its_failed_task() -> None:
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


class _Journal:
    """A journal that lacks the job from its second connection on, until it is written again."""

    def __init__(self) -> None:
        self.connections, self.lacks_it, self.asked = 1, False, 0

    async def try_claim(self) -> Claim:
        self.asked += 1
        if self.lacks_it:
            raise JournalError(path="dsn", reason="job 'cat' was removed from it: give the job again")
        return Claim(record_in(JournalState.SUCCESS if self.asked > 2 else JournalState.SENDING), ours=False)


async def _followed(journal: _Journal, dispatched: list[Claim]) -> tuple[Following, TrackedJob]:
    state = SessionState()
    state.begin()
    following = Following(state, "dsn", lambda _, claim: dispatched.append(claim), unexpected)
    following.last_connection = LastConnection(journal)
    tracked = TrackedJob(1, identity="cat")
    tracked.try_claim = journal.try_claim
    following.add(tracked)
    await anyio.lowlevel.checkpoint()
    return following, tracked


def test_a_job_that_a_copy_of_the_journal_lacks_is_waited_for_until_its_session_writes_it_again() -> None:
    async def main() -> tuple[Status, list[JournalState]]:
        journal, dispatched = _Journal(), list[Claim]()
        following, tracked = await _followed(journal, dispatched)
        journal.connections, journal.lacks_it = 2, True
        following.check_all()
        await anyio.sleep(LEASE_S / 2)
        journal.lacks_it = False
        status = tracked.status
        await anyio.sleep(LEASE_S)
        return status, [claim.record.state for claim in dispatched]

    assert run_virtual(main) == (Status.QUEUED, [JournalState.SUCCESS])


@pytest.mark.parametrize(
    ("state", "is_held", "is_looked_at"),
    [
        (JournalState.SENDING, True, False),
        (JournalState.INTENDED, False, True),
        (JournalState.ACCEPTED, False, True),
        (JournalState.UNKNOWN, False, True),
    ],
)
def test_a_followed_job_is_looked_at_when_it_has_ended_or_is_no_longer_held(
    state: JournalState, is_held: bool, is_looked_at: bool
) -> None:
    async def main() -> None:
        looks = list[float]()

        async def try_claim() -> Claim:
            looks.append(anyio.current_time())
            return Claim(record_in(JournalState.SENDING, holder="theirs"), ours=False)

        open_state = SessionState()
        open_state.begin()
        following = Following(open_state, "batch.db", unexpected, unexpected)
        following.add(TrackedJob(1, identity="cat", try_claim=try_claim))
        await anyio.sleep(1)
        following.apply([JobChange("cat", state, "t1", is_held)])
        await anyio.sleep(1)
        assert looks == [0.0, 1.0][: 1 + is_looked_at]

    run_virtual(main)


@pytest.mark.parametrize(("connections", "after_s"), [(1, 0.0), (2, LEASE_S)])
def test_a_job_that_was_removed_ends_at_once_and_after_a_reconnect_when_a_lease_is_over(
    connections: int, after_s: float
) -> None:
    async def main() -> tuple[type | None, float]:
        journal, ended = _Journal(), anyio.Event()
        following, tracked = await _followed(journal, [])
        tracked.listeners.append(lambda _: ended.set())
        journal.connections, journal.lacks_it = connections, True
        following.check_all()
        with anyio.fail_after(2 * LEASE_S):
            await ended.wait()
        return type(tracked.error), anyio.current_time()

    assert run_virtual(main) == (JournalError, after_s)


def test_a_job_that_a_caller_of_the_same_session_claimed_and_left_ends_for_those_who_found_it() -> None:
    async def main() -> str:
        claims = 2 * [Claim(record_in(JournalState.INTENDED, holder="us"), ours=False)]

        async def try_claim() -> Claim:
            if not claims:
                raise JournalError(path="batch.db", reason="it was not sent")
            return claims.pop()

        following, tracked = await _followed(_Journal(), [])
        following.us, tracked.try_claim = "us", try_claim
        following.check_all()
        with anyio.fail_after(5):
            await tracked.ended()
        return str(tracked.error)

    assert run_virtual(main) == "journal batch.db: it was not sent"


def test_a_job_that_is_claimed_just_after_its_end_is_given_back() -> None:
    async def main() -> None:
        given_back, may_go_on = list[tuple[TrackedJob, Claim]](), anyio.Event()
        claim = Claim(record_in(JournalState.INTENDED), ours=True)

        async def try_claim() -> Claim:
            await may_go_on.wait()
            return claim

        state, tracked = SessionState(), TrackedJob(1, identity="cat", try_claim=try_claim)
        state.begin()
        following = Following(
            state, "batch.db", lambda *_: pytest.fail("it has ended"), lambda *it: given_back.append(it)
        )
        following.add(tracked)
        await anyio.lowlevel.checkpoint()
        tracked.fail(Event.ABANDON, JournalError(path="batch.db", reason="its caller has left"))
        assert given_back == []
        may_go_on.set()
        await anyio.sleep(1)
        assert given_back == [(tracked, claim)]

    run_virtual(main)
