"""What the journal is told, what is made up for when it could not be told, and how jobs without a key are counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest

from hailuo_async import (
    AuthenticationError,
    JobError,
    JournalError,
    JournalState,
    Record,
    RequestRejectedError,
    SubmissionUnknownError,
    TaskFailedError,
)
from hailuo_async._engine.journaling import JournalRecorder
from hailuo_async._engine.recording import Recorder, is_left_unsent
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._images.frame import inspect_image
from hailuo_async._io.journal.commits import FirstWork
from hailuo_async._io.journal.kept import KeptBounds, KeptJob
from hailuo_async._io.journal.records import LEASE_S, Claim, Permit
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.identity import DuplicateNumbers
from hailuo_async.testing import run_virtual

from ..support.crash_journal import locked, records_in, states_in, wait_for
from ..support.leaping import Leap
from ..support.service import job
from ..support.tables import intent, video

BASE_URL = "http://localhost"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[JournalWriter]:
    writer = await JournalWriter.open(path, base_url=BASE_URL, now=time.time, busy_timeout_s=0.02, patience_s=60.0)
    yield writer
    await writer.aclose()


@pytest.fixture
async def recorder(path: Path, journal: JournalWriter) -> JournalRecorder:
    return JournalRecorder(str(path), journal=journal)


@asynccontextmanager
async def locked_out(recorder: JournalRecorder, path: Path) -> AsyncIterator[None]:
    """Another program holds the lock of the journal in here, and writes wait only briefly for it."""
    commits = recorder._journal._commits
    async with locked(path):
        commits._patience_s = 0.05
        yield
    commits._patience_s = 60.0


async def sent(recorder: JournalRecorder, key: str = "cat", task_id: str | None = None) -> TrackedJob:
    """A job whose POST is under way; with a ``task_id``, one that was just accepted and is not on record as such."""
    tracked = TrackedJob(0, key=key, identity=key)
    await recorder.intend(intent(key))
    assert await recorder.sending(tracked, 1.0) is Permit.GRANTED
    tracked.task_id = task_id
    return tracked


async def test_a_kept_job_that_was_taken_back_while_its_leave_was_granted_is_left_to_no_keeper(
    recorder: JournalRecorder, journal: JournalWriter, path: Path
) -> None:
    kept = KeptJob("/api/v1/minimax/x/async", {}, {})
    for key in ("taken back", "left at a close"):
        await journal.keep(intent(key), kept, {}, KeptBounds(max_queued=10, max_kept_bytes=10))
        tracked = TrackedJob(0, key=key, identity=key)
        assert await recorder.sending(tracked, 1.0) is Permit.GRANTED
        tracked.is_kept, tracked.is_dropped = True, key == "taken back"
        await recorder.withdrawn(tracked)
    await recorder.intend(intent("a later commit"))
    states = await states_in(path)
    assert states == {"left at a close": JournalState.INTENDED, "a later commit": JournalState.INTENDED}


# --- Counting ---------------------------------------------------------------------------------------------------------


async def test_a_key_is_a_name_and_counts_nothing(recorder: JournalRecorder) -> None:
    asked = DuplicateNumbers()
    keyed = recorder.build_intent(job(key="cat"), {}, asked)
    assert keyed is not None
    assert (keyed.identity, keyed.key) == ("cat", "cat")
    assert asked.next_identity(keyed.fingerprint) == f"{keyed.fingerprint}#0"


async def test_what_is_asked_makes_the_fingerprint_and_the_key_does_not(recorder: JournalRecorder) -> None:
    frames = {
        "first_frame_image": inspect_image("first_frame_image", "https://pictures.example/cat.jpg", fingerprint=True)
    }
    others = {
        "first_frame_image": inspect_image("first_frame_image", "https://pictures.example/dog.jpg", fingerprint=True)
    }
    same = [recorder.build_intent(job("a cat", key=key), frames, DuplicateNumbers()) for key in ("cat", "kitten", None)]
    different = [
        recorder.build_intent(job("a dog"), frames, DuplicateNumbers()),
        recorder.build_intent(job("a cat"), others, DuplicateNumbers()),
    ]
    assert len({found.fingerprint for found in same if found}) == 1
    assert len({found.fingerprint for found in [same[0], *different] if found}) == 3


@pytest.mark.parametrize(("keeps", "kept"), [(False, None), (True, "a cat")])
async def test_a_prompt_is_kept_only_if_it_is_to_be(journal: JournalWriter, keeps: bool, kept: str | None) -> None:
    found = JournalRecorder(journal=journal, keeps_prompts=keeps).build_intent(job("a cat"), {}, DuplicateNumbers())
    assert found is not None
    assert found.prompt == kept


# --- Without a journal ------------------------------------------------------------------------------------------------


async def test_without_a_journal_there_is_nothing_to_tell() -> None:
    recorder, tracked = Recorder(), TrackedJob(0)
    assert not recorder.has_journal
    assert recorder.build_intent(job(), {}, DuplicateNumbers()) is None
    assert await recorder.adopt("t1") is None
    assert await recorder.try_claim("cat") is None
    assert await recorder.sending(tracked, 1.0) is Permit.GRANTED
    await recorder.accepted(tracked, 1.0)
    recorder.release_nowait(tracked)
    await recorder.keep_up()
    await recorder.aclose()


# --- What is told -----------------------------------------------------------------------------------------------------


async def test_a_job_that_another_session_took_over_is_not_sent(recorder: JournalRecorder, path: Path) -> None:
    tracked = TrackedJob(0, key="cat", identity="cat")
    await recorder.intend(intent())
    other = await JournalWriter.open(path, base_url=BASE_URL, now=lambda: time.time() + 30)
    assert (await other.intend(intent())).ours
    assert await recorder.sending(tracked, 1.0) is Permit.TAKEN
    await other.aclose()


@pytest.mark.parametrize(
    ("learns", "state"),
    [("unsent", JournalState.INTENDED), ("refused", JournalState.REFUSED), ("a task in doubt", JournalState.UNKNOWN)],
)
async def test_what_is_learned_of_a_post_settles_the_doubt_of_a_session_that_took_its_own_for_dead(
    recorder: JournalRecorder, path: Path, learns: str, state: JournalState
) -> None:
    tracked = await sent(recorder)
    other = await JournalWriter.open(path, base_url=BASE_URL, now=lambda: time.time() + 30)
    claim = await other.ask(other.jobs.follow, "cat")
    assert claim is not None
    assert claim.record.state is JournalState.UNKNOWN
    await other.aclose()
    if learns == "unsent":
        await recorder.unsent(tracked)
    elif learns == "refused":
        await recorder.refused(tracked, RequestRejectedError(message="no", status=422))
    else:
        await recorder.unknown(tracked, SubmissionUnknownError(reason="cut", task_id="t1"))
    record = (await records_in(path))["cat"]
    assert (record.state, record.task_id) == (state, "t1" if state is JournalState.UNKNOWN else None)


async def test_a_caller_that_leaves_while_a_job_is_claimed_for_it_leaves_that_to_the_session() -> None:
    """The claim is made all the same: without the doubt, no session would ask what became of the task."""
    doubted, journal, updates = list[str](), Idle(), SimpleNamespace(doubt_claims=lambda: doubted.append("yes"))
    recorder = JournalRecorder("batch.db", journal=cast(JournalWriter, journal))
    recorder.team = cast(Any, SimpleNamespace(updates=updates))
    for claiming in (recorder.find("cat"), recorder.adopt("t1")):
        caller = asyncio.ensure_future(cast("Awaitable[object]", claiming))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
    assert doubted == ["yes", "yes"]


async def test_a_journal_that_cannot_be_written_keeps_a_job_from_being_sent(
    recorder: JournalRecorder, path: Path
) -> None:
    tracked = TrackedJob(0, key="cat", identity="cat")
    await recorder.intend(intent())
    async with locked_out(recorder, path):
        with pytest.raises(JournalError, match="another program has locked it: end that program"):
            await recorder.sending(tracked, 1.0)
    assert await recorder.sending(tracked, 1.0) is Permit.GRANTED


async def test_that_a_key_is_not_valid_says_nothing_of_a_task(recorder: JournalRecorder, path: Path) -> None:
    tracked = await sent(recorder, task_id="t1")
    await recorder.accepted(tracked, 2.0)
    await recorder.failed(tracked, AuthenticationError(message="no", status=401, task_id="t1"))
    assert await states_in(path) == {"cat": JournalState.ACCEPTED}


async def test_a_refusal_by_the_journal_is_not_one_by_the_service(recorder: JournalRecorder, path: Path) -> None:
    tracked = TrackedJob(0, key="cat", identity="cat")
    await recorder.intend(intent())
    await recorder.refused(tracked, JournalError(path="x", reason="full"))
    assert await states_in(path) == {"cat": JournalState.INTENDED}


async def test_what_was_let_go_is_anothers_at_once(recorder: JournalRecorder, path: Path) -> None:
    await recorder.intend(intent())
    recorder.release_nowait(TrackedJob(0, key="cat", identity="cat"))
    await recorder.intend(intent("dog"))  # what was asked for before it is written, too
    other = await JournalWriter.open(path, base_url=BASE_URL, now=time.time)
    assert (await other.intend(intent())).ours
    await other.aclose()


# --- What another session works on ------------------------------------------------------------------------------------


async def test_a_job_left_unsent_cannot_be_sent_without_the_job(recorder: JournalRecorder) -> None:
    await recorder.intend(intent())
    recorder.release_nowait(TrackedJob(0, identity="cat"))
    with pytest.raises(JournalError, match="job 'cat' was not sent: give the job itself again to send it"):
        await recorder.try_claim("cat")


async def test_a_job_that_is_worked_on_is_not_left_unsent(recorder: JournalRecorder) -> None:
    claim = await recorder.intend(intent())
    assert not is_left_unsent(claim.record)
    assert await recorder.try_claim("cat") == Claim(claim.record, ours=False)


async def test_a_job_that_was_taken_out_of_the_journal_is_told_so(recorder: JournalRecorder) -> None:
    with pytest.raises(JournalError, match="job 'cat' was removed from it: give the job again"):
        await recorder.try_claim("cat")


# --- What is owed -----------------------------------------------------------------------------------------------------


async def test_an_acceptance_that_could_not_be_written_is_logged_and_made_up_for_at_the_close(
    recorder: JournalRecorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracked = await sent(recorder, task_id="t1")
    async with locked_out(recorder, path):
        await recorder.accepted(tracked, 2.0)
        assert await states_in(path) == {"cat": JournalState.SENDING}
    assert "another program has locked it" in caplog.text
    told = "job 'cat' goes on, its task t1 is not on record: it is written when that has passed"
    assert told in caplog.text
    await recorder.aclose()
    record = (await records_in(path))["cat"]
    assert (record.state, record.task_id, record.accepted_at) == (JournalState.ACCEPTED, "t1", 2.0)


async def test_the_last_word_is_what_is_owed_and_the_log_has_it_once(
    recorder: JournalRecorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracked = await sent(recorder, task_id="t1")
    async with locked_out(recorder, path):
        await recorder.accepted(tracked, 2.0)
        await recorder.succeeded(tracked, video())
    assert caplog.text.count("its task t1 is not on record") == 1
    await recorder.aclose()
    record = (await records_in(path))["cat"]
    assert (record.state, record.task_id, record.video) == (JournalState.SUCCESS, "t1", video())


async def test_what_became_of_a_post_without_a_task_is_told_as_such(
    recorder: JournalRecorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracked = await sent(recorder)
    async with locked_out(recorder, path):
        await recorder.unsent(tracked)
    assert "job 'cat' goes on, what became of its POST is not on record" in caplog.text


async def test_a_later_word_that_is_written_settles_what_was_owed(recorder: JournalRecorder, path: Path) -> None:
    tracked = await sent(recorder, task_id="t1")
    async with locked_out(recorder, path):
        await recorder.accepted(tracked, 2.0)
    await recorder.failed(tracked, TaskFailedError(reason="dark", task_id="t1"))
    await recorder.aclose()
    assert await states_in(path) == {"cat": JournalState.FAILED}


async def test_what_is_owed_of_a_job_is_written_before_it_is_sent_again(recorder: JournalRecorder, path: Path) -> None:
    tracked = await sent(recorder)
    async with locked_out(recorder, path):
        await recorder.unsent(tracked)
        with pytest.raises(JournalError):
            await recorder.sending(tracked, 2.0)
    assert await recorder.sending(tracked, 3.0) is Permit.GRANTED
    record = (await records_in(path))["cat"]
    assert (record.state, record.sent_at) == (JournalState.SENDING, 3.0)


async def test_each_end_of_a_submit_is_written(recorder: JournalRecorder, path: Path) -> None:
    doubt = SubmissionUnknownError(reason="cut", key="doubt")
    await recorder.unknown(await sent(recorder, "doubt"), doubt)
    await recorder.refused(await sent(recorder, "refused"), RequestRejectedError(message="no", status=422))
    assert await states_in(path) == {"doubt": JournalState.UNKNOWN, "refused": JournalState.REFUSED}


async def test_a_close_that_cannot_write_says_what_is_lost(
    recorder: JournalRecorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracked = await sent(recorder, task_id="t1")
    async with locked_out(recorder, path):
        await recorder.accepted(tracked, 2.0)
        caplog.clear()
        await recorder.aclose()
    assert "1 notes on jobs are not in the journal" in caplog.text
    assert "its jobs are free for others in 30 s" in caplog.text


async def test_a_doubt_to_which_a_job_comes_back_is_a_note_that_a_close_misses(
    recorder: JournalRecorder, path: Path
) -> None:
    """Without it, the next session would send the job, which may be paid for."""
    tracked = await sent(recorder)
    await recorder.sent_again(tracked)
    async with locked_out(recorder, path):
        recorder.back_in_doubt_nowait(tracked, SubmissionUnknownError(reason="cut", key="cat"))
        await recorder.aclose()
    assert recorder._journal.lost == 1


async def test_a_lease_is_let_go_of_behind_what_is_owed(recorder: JournalRecorder, path: Path) -> None:
    tracked = await sent(recorder)
    async with locked_out(recorder, path):
        await recorder.unsent(tracked)
    recorder.release_nowait(tracked)
    await recorder.aclose()
    other = await JournalWriter.open(path, base_url=BASE_URL, now=time.time)
    assert (await other.intend(intent())).ours
    await other.aclose()


async def test_what_is_owed_is_written_before_the_next_grant_that_hangs_on_it(
    recorder: JournalRecorder, path: Path
) -> None:
    tracked, commits = await sent(recorder), recorder._journal._commits
    granted: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    def ask_once() -> FirstWork | None:
        if asked.is_set():
            return None
        asked.set()
        return FirstWork(lambda: None, lambda it: it.sending("cat", 3.0), lambda it: None, granted.set_result)

    async with locked_out(recorder, path):
        await recorder.unsent(tracked)
        commits._patience_s = 60.0
        commits.first = ask_once
        await asyncio.wait_for(asked.wait(), 60)  # the next try of what is owed takes it along
    assert await granted is True


async def test_a_key_that_names_another_job_is_refused(recorder: JournalRecorder) -> None:
    await recorder.intend(intent())
    with pytest.raises(JobError, match="names another job in this journal"):
        await recorder.intend(intent(fingerprint="f2"))


# --- Leases -----------------------------------------------------------------------------------------------------------


def _is_held_until(lease: float, records: dict[str, Record]) -> bool:
    return records["cat"].lease_until == lease


async def _is_logged(caplog: pytest.LogCaptureFixture, text: str, leap: Leap) -> None:
    while text not in caplog.text:
        leap(LEASE_S / 3)
        await asyncio.sleep(0.005)


@pytest.mark.slow
async def test_leases_are_renewed_and_what_is_owed_is_made_up_for_meanwhile(
    leap: Leap, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = now = time.time()
    journal = await JournalWriter.open(path, base_url=BASE_URL, now=lambda: now, busy_timeout_s=0.02, patience_s=0.5)
    recorder = JournalRecorder(str(path), journal=journal)
    tracked = await sent(recorder, task_id="t1")
    keeping = asyncio.create_task(recorder.keep_up())
    async with locked(path):
        await recorder.accepted(tracked, 2.0)
        await _is_logged(caplog, "another session may take its jobs over", leap)  # a renewal that failed
    for now in (begun + 5, begun + 10):
        leap(LEASE_S / 3)
        lease = now + LEASE_S
        await wait_for(path, partial(_is_held_until, lease))
    assert await states_in(path) == {"cat": JournalState.ACCEPTED}
    keeping.cancel()
    await recorder.aclose()


# --- Permit to send ---------------------------------------------------------------------------------------------------


@attrs.define
class Idle:
    """A journal that is asked for nothing but to renew its leases."""

    renewed: int = 0
    is_away: bool = False

    jobs = JobTable

    async def ask(self, *_: object) -> None:
        await asyncio.sleep(3600.0)

    async def renew(self, within_s: float) -> None:
        self.renewed += 1
        if self.is_away:
            raise JournalError(path="dsn", reason="the server cannot be reached")


def test_an_ownership_check_lapses_with_the_leases_and_does_not_come_back_with_them() -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        recorder = JournalRecorder("batch.db", journal=cast(JournalWriter, Idle()))
        is_ours = recorder.ownership_check()
        assert is_ours is not None
        seen = [is_ours()]
        await asyncio.sleep(LEASE_S + 1)  # as while the process was stopped: nothing was renewed
        seen.append(is_ours())
        keeping = loop.create_task(recorder.keep_up())
        await asyncio.sleep(LEASE_S)
        later = recorder.ownership_check()
        assert later is not None
        seen += [is_ours(), later()]
        await asyncio.sleep(3 * LEASE_S)
        seen.append(later())
        keeping.cancel()
        await asyncio.wait([keeping])
        return seen

    assert run_virtual(main) == [True, False, False, True, True]


def test_an_ownership_check_lapses_while_the_machine_is_suspended_although_the_loop_s_clock_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> list[bool]:
        recorder = JournalRecorder("batch.db", journal=cast(JournalWriter, Idle()))
        is_ours = recorder.ownership_check()
        assert is_ours is not None
        seen = [is_ours()]
        monkeypatch.setattr("hailuo_async._engine.clock.suspended_s", lambda: LEASE_S + 1)  # a laptop was closed
        seen.append(is_ours())
        keeping = asyncio.create_task(recorder.keep_up())
        await asyncio.sleep(LEASE_S / 3)  # the leases are renewed, but others may have had the job in between
        keeping.cancel()
        await asyncio.wait([keeping])
        later = recorder.ownership_check()
        assert later is not None
        return [*seen, is_ours(), later()]

    monkeypatch.setattr("hailuo_async._engine.clock.suspended_s", lambda: 0.0)
    assert run_virtual(main) == [True, False, False, True]


def test_a_lease_counts_from_when_its_renewal_was_asked_for_not_from_its_answer() -> None:
    class Slow(Idle):
        async def renew(self, within_s: float) -> None:
            await asyncio.sleep(20.0)

    async def main() -> list[bool]:
        recorder = JournalRecorder("batch.db", journal=cast(JournalWriter, Slow()))
        is_ours = recorder.ownership_check()
        assert is_ours is not None
        keeping = asyncio.create_task(recorder.keep_up())
        seen = []
        for _ in range(2):
            await asyncio.sleep(0.7 * LEASE_S)  # the renewal that is answered in between was asked for at first
            seen.append(is_ours())
        keeping.cancel()
        await asyncio.wait([keeping])
        return seen

    assert run_virtual(main) == [True, False]


def test_a_job_that_is_claimed_after_the_leases_had_lapsed_may_be_sent_for_as_long_as_its_own_lease() -> None:
    async def main() -> list[bool]:
        recorder = JournalRecorder("batch.db", journal=cast(JournalWriter, Idle()))
        await asyncio.sleep(2 * LEASE_S)  # the journal was away, and nothing was renewed
        is_ours = recorder.ownership_check()
        assert is_ours is not None
        seen = [is_ours()]
        await asyncio.sleep(LEASE_S + 1)
        return [*seen, is_ours()]

    assert run_virtual(main) == [True, False]


def test_an_outage_in_which_the_leases_cannot_be_renewed_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[int]:
        journal = Idle()
        keeping = asyncio.create_task(JournalRecorder("dsn", journal=cast(JournalWriter, journal)).keep_up())
        counts = []
        for journal.is_away in (True, False, True):
            await asyncio.sleep(3 * LEASE_S)
            counts.append(caplog.text.count("another session may take its jobs over"))
        keeping.cancel()
        await asyncio.wait([keeping])
        return counts

    assert run_virtual(main) == [1, 1, 2]


async def test_without_a_journal_nothing_lapses() -> None:
    assert Recorder().ownership_check() is None
