"""What becomes of a job by what the journal answers before its POST."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import attrs
import pytest

from hailuo_async import HailuoError, JournalError, SessionClosedError, SubmissionUnknownError, WaitTimeoutError
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.submitter import Submitter
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._engine.workers import Cuttable
from hailuo_async._io.journal.records import Permit
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.rate_limiter import RateLimiter
from hailuo_async._rules.reachability import Reachability
from hailuo_async._rules.slots import Slots

from ..support.service import Line, job, request_for

pytestmark = pytest.mark.anyio

AWAY = JournalError(path="x", reason="it is locked", is_outage=True)


@attrs.define(eq=False)
class Asked(Recorder):
    """Answers for a journal, and notes what it is asked and told."""

    answer: Permit | JournalError = Permit.GRANTED
    told: list[str] = attrs.field(factory=list)
    is_ours: bool = True

    def ownership_check(self) -> Callable[[], bool]:
        self.told.append("check")
        return lambda: self.is_ours

    async def sending(self, tracked: TrackedJob, at: float) -> Permit:
        self.told.append("sending")
        if isinstance(self.answer, JournalError):
            raise self.answer
        return self.answer

    async def withdrawn(self, tracked: TrackedJob) -> None:
        self.told.append("withdrawn")

    def let_go_nowait(self, tracked: TrackedJob) -> None:
        self.told.append("let go")


async def posted(
    recorder: Asked, tracked: TrackedJob, *, closes: bool = False
) -> tuple[Submitter, Line, list[TrackedJob]]:
    """Has a job sent, and returns what did that, its line, and the jobs that another session has taken."""
    state, line, taken_over = SessionState(), Line(), list[TrackedJob]()
    state.begin()
    gate = Gate(Slots(1, Random(0)), RateLimiter(), Reachability(Random(0)), state)
    submitter = Submitter(gate, line, recorder, "", False, EventEmitter(), state)
    submitter.follow = taken_over.append
    if closes:
        state.end("the session is closed")
    await submitter._send(tracked, gate.acquire_submit(is_heavy=False), Cuttable())
    assert gate.slots.running == len(line.posts)
    return submitter, line, taken_over


async def test_a_post_goes_on_only_while_the_job_is_ours_and_was_from_before_it_was_put_on_record() -> None:
    recorder = Asked()
    _, line, _ = await posted(recorder, TrackedJob(0, request=request_for(job())))
    assert recorder.told == ["check", "sending"]
    may_go_on = line.posts[0].may_go_on
    assert may_go_on is not None
    assert may_go_on()
    recorder.is_ours = False
    assert not may_go_on()


@pytest.mark.parametrize(
    ("answer", "is_queued", "is_taken"), [(Permit.LATER, True, False), (Permit.TAKEN, False, True), (AWAY, True, False)]
)
async def test_a_job_that_may_not_leave_waits_again_or_is_followed(
    answer: Permit | JournalError, is_queued: bool, is_taken: bool
) -> None:
    tracked = TrackedJob(0, request=request_for(job()))
    submitter, line, taken_over = await posted(Asked(answer=answer), tracked)
    assert (submitter.queued, taken_over, line.posts) == (is_queued, [tracked] * is_taken, [])
    assert not tracked.status.is_final


async def test_a_job_that_ended_while_the_journal_was_away_is_let_go_as_its_leave_may_be_on_record() -> None:
    recorder, tracked = Asked(answer=AWAY), TrackedJob(0)
    tracked.fail(Event.ABANDON, WaitTimeoutError(timeout_s=1.0))
    submitter, line, _ = await posted(recorder, tracked)
    assert (recorder.told, submitter.queued, line.posts) == (["check", "sending", "let go"], 0, [])


@pytest.mark.parametrize(
    ("where", "kind"), [("sending", SessionClosedError), ("accepted", SubmissionUnknownError)], ids=["before", "after"]
)
async def test_a_bug_while_a_job_is_sent_ends_it_in_doubt_if_its_post_may_have_left(
    where: str, kind: type[HailuoError], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> Permit:
        raise ZeroDivisionError

    monkeypatch.setattr(Asked, where, fail)
    tracked = TrackedJob(0, request=request_for(job()))
    await posted(Asked(), tracked)
    assert type(tracked.error) is kind
    assert "please report this" in caplog.text


async def test_a_job_that_waits_for_an_outage_when_its_session_closes_ends_with_it() -> None:
    tracked = TrackedJob(0, request=request_for(job()))
    submitter, _, _ = await posted(Asked(answer=AWAY), tracked, closes=True)
    assert (type(tracked.error), submitter.queued) == (SessionClosedError, 0)


async def test_a_job_that_ended_while_its_leave_was_granted_is_put_on_record_as_not_sent() -> None:
    recorder, tracked = Asked(), TrackedJob(0)
    tracked.fail(Event.ABANDON, WaitTimeoutError(timeout_s=1.0))
    await posted(recorder, tracked)
    assert recorder.told == ["check", "sending", "withdrawn"]
