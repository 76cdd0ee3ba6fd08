"""A commit that was made, and whose answer was lost: what is written again does the same again."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import anyio.to_thread
import attrs
import pytest

from hailuo_async import ImageToVideo, JournalState, WaitTimeoutError
from hailuo_async._io.journal.resolving import Resolution
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.errors import JobError, JournalError, SubmissionUnknownError

from ...support.crash_journal import records_in, wait_for
from ...support.leaping import Leap
from ...support.service import IMAGE_URL, Line, job, never, settle
from ...support.tables import LEASE_S, Clock, Mute, did, in_doubt, intent, mute, record_of, sent


@attrs.frozen
class Word:
    """A decision on a job, and how the job stands then."""

    resubmit: bool = False
    task_id: str | None = None
    forget: bool = False
    state: JournalState | None = None

    def resolution(self) -> Resolution:
        return Resolution("cat", self.resubmit, self.task_id, self.forget)


WORDS = (
    Word(resubmit=True, state=JournalState.INTENDED),
    Word(task_id="t9", state=JournalState.ACCEPTED),
    Word(forget=True),
)


@pytest.mark.parametrize("word", WORDS, ids=str)
def test_a_decision_whose_answer_was_lost_is_made_once_and_is_no_error(ours: JobTable, word: Word) -> None:
    in_doubt(ours)
    resolution = word.resolution()
    for _ in range(2):
        record = did(ours, resolution)
        assert (None if record is None else record.state) is word.state


@pytest.mark.parametrize("is_left_behind", [False, True])
@pytest.mark.parametrize("word", WORDS, ids=str)
def test_a_decision_that_was_taken_back_is_made_by_the_next_try(
    ours: JobTable, theirs: JobTable, clock: Clock, word: Word, is_left_behind: bool
) -> None:
    if is_left_behind:
        sent(theirs)
        clock.time += LEASE_S
    else:
        in_doubt(ours)
    resolution = word.resolution()

    def spoilt(table: JobTable) -> None:
        resolution(table)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        did(ours, spoilt)
    record = did(ours, resolution)
    assert (None if record is None else record.state) is word.state


@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_job_that_was_sent_again_since_the_lost_answer_is_not_sent_a_third_time(
    ours: JobTable, is_accepted: bool
) -> None:
    in_doubt(ours)
    resolution = WORDS[0].resolution()
    did(ours, resolution)
    assert did(ours, lambda it: it.intend(intent())).ours
    assert did(ours, lambda it: it.sending("cat", 2000.0))
    if is_accepted:
        did(ours, lambda it: it.accepted("cat", "t1", 2001.0))
    else:
        did(ours, lambda it: it.unknown("cat", SubmissionUnknownError(reason="cut", key="cat")))
    before = record_of(ours)
    assert did(ours, resolution) == before


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_job_that_was_given_again_since_the_lost_answer_is_not_forgotten_once_more(
    ours: JobTable, is_sent: bool
) -> None:
    in_doubt(ours)
    did(ours, lambda it: it.intend(intent("dog")))
    resolution = Word(forget=True).resolution()
    did(ours, resolution)
    did(ours, lambda it: it.intend(intent()))
    if is_sent:
        did(ours, lambda it: it.sending("cat", 2000.0))
        did(ours, lambda it: it.unknown("cat", SubmissionUnknownError(reason="cut", key="cat")))
    before = record_of(ours)
    assert did(ours, resolution) is None
    assert record_of(ours) == before


def test_a_decision_that_may_not_be_made_is_an_error_at_the_first_try(ours: JobTable) -> None:
    sent(ours)
    with pytest.raises(JobError, match="only one that is unknown"):
        did(ours, WORDS[0].resolution())
    with pytest.raises(JobError, match="must name a job in this journal"):
        did(ours, Resolution("dog", False, None, True))


async def hold_an_answer(database: Mute, leap: Leap, for_s: float) -> None:
    """The next commit gets an answer, but so late."""
    committed, lifted = threading.Event(), threading.Event()

    def hold() -> None:
        committed.set()
        lifted.wait(60)

    database.held = hold
    await anyio.to_thread.run_sync(committed.wait, 60)
    leap(for_s)
    await settle()
    database.is_mute = False
    lifted.set()


@pytest.mark.parametrize("keep_jobs", [False, True])
async def test_a_job_that_its_caller_left_while_the_answer_to_its_leave_was_lost_is_not_held_any_more(
    leap: Leap, tmp_path: Path, keep_jobs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailuo_async._io.journal.commits.SHORT_PATIENCE_S", 10.0)  # of the one who asks for the leave
    monkeypatch.setattr("hailuo_async._io.journal.writer.SHORT_PATIENCE_S", 0.05)
    path, line = tmp_path / "batch.db", Line(on_query=never)
    async with line.session(journal=path, keep_jobs=keep_jobs, max_running=1) as session:
        first = await session.submit(job("first", key="first"))
        await first.accepted()
        waiting = await session.submit(ImageToVideo(IMAGE_URL, key="cat"), timeout=5)
        assert session._engine is not None
        database = mute(session._engine.journal_or_raise()._table)
        database.is_mute = True
        line.on_query = None  # the slot is free, and the leave is granted without an answer
        await wait_for(path, lambda records: records["cat"].state is JournalState.SENDING)
        leap(5)
        with pytest.raises(WaitTimeoutError):
            await waiting
        await hold_an_answer(database, leap, 10)  # the one who asks for the leave gives up while it is granted
        found = await wait_for(path, lambda records: "cat" not in records or records["cat"].holder is None)
        assert ("cat" in found) is not keep_jobs
        assert keep_jobs or found["cat"].state is JournalState.INTENDED
    assert len(line.posts) == 1
    assert (await records_in(path))["first"].state is JournalState.SUCCESS


async def test_a_leave_whose_answer_was_lost_until_its_caller_gave_up_is_taken_back(path: Path) -> None:
    journal = await JournalWriter.open(path, base_url="http://localhost", now=time.time, patience_s=0.1)
    await journal.intend(intent())
    database = mute(journal._table)
    database.is_mute = True
    with pytest.raises(JournalError, match="the answer was lost"):
        await journal.sending("cat", 1.0)
    assert (await records_in(path))["cat"].state is JournalState.SENDING
    database.is_mute = False
    await journal.renew()
    assert (await records_in(path))["cat"].state is JournalState.INTENDED
    await journal.aclose()


def test_a_lost_answer_is_an_outage(ours: JobTable) -> None:
    database = mute(ours)
    database.is_mute = True
    with pytest.raises(sqlite3.OperationalError) as caught:
        sent(ours)
    if ours.database.IS_LOCAL:
        assert ours.database.is_outage(caught.value)
    database.is_mute = False
    assert record_of(ours).state is JournalState.INTENDED
