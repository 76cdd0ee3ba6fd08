"""What the journal is told, what is made up for when it could not be told, and how jobs without a key are counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

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
from hailuo_async._edges.journal import LEASE_S, JournalWriter
from hailuo_async._edges.records import Claim, Intent
from hailuo_async._engine.books import Books, is_left_unsent
from hailuo_async._engine.work import Work
from hailuo_async._rules.identity import Occurrences
from hailuo_async.images import look_at
from hailuo_async.outcomes import Resource, Video

from .support.crash_journal import locked, records_in, states_in, wait_for
from .support.service import job

BASE_URL = "http://localhost"
FIRST, SECOND = "1" * 64, "2" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "batch.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[JournalWriter]:
    writer = await JournalWriter.open(path, base_url=BASE_URL, now=time.time, busy_timeout_s=0.02)
    yield writer
    await writer.aclose()


@pytest.fixture
async def books(path: Path, journal: JournalWriter) -> Books:
    return Books(journal, str(path))


def intent(key: str = "cat") -> Intent:
    return Intent(identity=key, key=key, fingerprint=FIRST, kind="ImageToVideo", model="m", facts={})


async def sent(books: Books, key: str = "cat", task_id: str | None = None) -> Work:
    """A job whose POST is under way; with a ``task_id``, one that was just accepted and is not on record as such."""
    work = Work(0, key=key, identity=key)
    await books.intend(intent(key))
    assert await books.sending(work, 1.0)
    work.task_id = task_id
    return work


def video(task_id: str = "t1") -> Video:
    return Video(task_id, "m", (Resource("https://results.example/1.mp4?sig=x", "video"),))


# --- Counting ---------------------------------------------------------------------------------------------------------


def test_jobs_that_ask_for_the_same_are_told_apart_by_their_number() -> None:
    asked = Occurrences()
    names = [asked.next_identity(fingerprint) for fingerprint in (FIRST, FIRST, SECOND, FIRST)]
    assert names == [f"{FIRST}#0", f"{FIRST}#1", f"{SECOND}#0", f"{FIRST}#2"]


def test_numbers_given_back_are_used_again_the_lowest_first() -> None:
    asked = Occurrences()
    names = [asked.next_identity(FIRST) for _ in range(3)]
    asked.give_back(names[2])
    asked.give_back(names[0])
    assert [asked.next_identity(FIRST) for _ in range(3)] == [names[0], names[2], f"{FIRST}#3"]


async def test_a_key_is_a_name_and_counts_nothing(books: Books) -> None:
    asked = Occurrences()
    keyed = books.build_intent(job(key="cat"), {}, asked)
    assert keyed is not None
    assert (keyed.identity, keyed.key) == ("cat", "cat")
    assert asked.next_identity(keyed.fingerprint) == f"{keyed.fingerprint}#0"


async def test_what_is_asked_makes_the_fingerprint_and_the_key_does_not(books: Books) -> None:
    frames = {"first_frame_image": look_at("first_frame_image", "https://pictures.example/cat.jpg", fingerprint=True)}
    others = {"first_frame_image": look_at("first_frame_image", "https://pictures.example/dog.jpg", fingerprint=True)}
    same = [books.build_intent(job("a cat", key=key), frames, Occurrences()) for key in ("cat", "kitten", None)]
    different = [
        books.build_intent(job("a dog"), frames, Occurrences()),
        books.build_intent(job("a cat"), others, Occurrences()),
    ]
    assert len({found.fingerprint for found in same if found}) == 1
    assert len({found.fingerprint for found in [same[0], *different] if found}) == 3


@pytest.mark.parametrize(("keeps", "kept"), [(False, None), (True, "a cat")])
async def test_a_prompt_is_kept_only_if_it_is_to_be(journal: JournalWriter, keeps: bool, kept: str | None) -> None:
    found = Books(journal, keeps_prompts=keeps).build_intent(job("a cat"), {}, Occurrences())
    assert found is not None
    assert found.prompt == kept


# --- Without a journal ------------------------------------------------------------------------------------------------


async def test_without_a_journal_there_is_nothing_to_tell() -> None:
    books, work = Books(), Work(0)
    assert not books.need_fingerprints
    assert books.build_intent(job(), {}, Occurrences()) is None
    assert await books.intend(None) is None
    assert await books.adopt("t1") is None
    assert await books.look("cat") is None
    assert await books.sending(work, 1.0)
    await books.accepted(work, 1.0)
    books.let_go_nowait(work)
    await books.keep_up()
    await books.aclose()


# --- What is told -----------------------------------------------------------------------------------------------------


async def test_a_job_that_another_session_took_over_is_not_sent(books: Books, path: Path) -> None:
    work = Work(0, key="cat", identity="cat")
    await books.intend(intent())
    other = await JournalWriter.open(path, base_url=BASE_URL, now=lambda: time.time() + 30)
    assert (await other.intend(intent())).ours
    assert not await books.sending(work, 1.0)
    await other.aclose()


async def test_a_journal_that_cannot_be_written_keeps_a_job_from_being_sent(books: Books, path: Path) -> None:
    work = Work(0, key="cat", identity="cat")
    await books.intend(intent())
    async with locked(path):
        with pytest.raises(JournalError, match="another program has locked it: end that program"):
            await books.sending(work, 1.0)
    assert await books.sending(work, 1.0)


async def test_that_a_key_is_not_valid_says_nothing_of_a_task(books: Books, path: Path) -> None:
    work = await sent(books, task_id="t1")
    await books.accepted(work, 2.0)
    await books.failed(work, AuthenticationError(message="no", status=401, task_id="t1"))
    assert await states_in(path) == {"cat": JournalState.ACCEPTED}


async def test_a_refusal_by_the_journal_is_not_one_by_the_service(books: Books, path: Path) -> None:
    work = Work(0, key="cat", identity="cat")
    await books.intend(intent())
    await books.refused(work, JournalError(path="x", reason="full"))
    assert await states_in(path) == {"cat": JournalState.INTENDED}


async def test_what_was_let_go_is_anothers_at_once(books: Books, path: Path) -> None:
    await books.intend(intent())
    books.let_go_nowait(Work(0, key="cat", identity="cat"))
    await books.intend(intent("dog"))  # what was asked for before it is written, too
    other = await JournalWriter.open(path, base_url=BASE_URL, now=time.time)
    assert (await other.intend(intent())).ours
    await other.aclose()


# --- What another session works on ------------------------------------------------------------------------------------


async def test_a_job_left_unsent_cannot_be_sent_without_the_job(books: Books) -> None:
    await books.intend(intent())
    books.let_go_nowait(Work(0, identity="cat"))
    with pytest.raises(JournalError, match="job 'cat' was not sent: give the job itself again to send it"):
        await books.look("cat")


async def test_a_job_that_is_worked_on_is_not_left_unsent(books: Books) -> None:
    claim = await books.intend(intent())
    assert claim is not None
    assert not is_left_unsent(claim.record)
    assert await books.look("cat") == Claim(claim.record, ours=False)


async def test_a_job_that_was_taken_out_of_the_journal_is_told_so(books: Books) -> None:
    with pytest.raises(JournalError, match="job 'cat' was taken out of it"):
        await books.look("cat")


# --- What is owed -----------------------------------------------------------------------------------------------------


async def test_an_acceptance_that_could_not_be_written_is_logged_and_made_up_for_at_the_close(
    books: Books, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = await sent(books, task_id="t1")
    async with locked(path):
        await books.accepted(work, 2.0)
    assert await states_in(path) == {"cat": JournalState.SENDING}
    assert "another program has locked it" in caplog.text
    assert "job 'cat', task t1, goes on without it" in caplog.text
    await books.aclose()
    record = (await records_in(path))["cat"]
    assert (record.state, record.task_id, record.accepted_at) == (JournalState.ACCEPTED, "t1", 2.0)


async def test_the_last_word_is_what_is_owed(books: Books, path: Path) -> None:
    work = await sent(books, task_id="t1")
    async with locked(path):
        await books.accepted(work, 2.0)
        await books.succeeded(work, video())
    await books.aclose()
    record = (await records_in(path))["cat"]
    assert (record.state, record.task_id, record.video) == (JournalState.SUCCESS, "t1", video())


async def test_a_later_word_that_is_written_settles_what_was_owed(books: Books, path: Path) -> None:
    work = await sent(books, task_id="t1")
    async with locked(path):
        await books.accepted(work, 2.0)
    await books.failed(work, TaskFailedError(reason="dark", task_id="t1"))
    await books.aclose()
    assert await states_in(path) == {"cat": JournalState.FAILED}


async def test_what_is_owed_of_a_job_is_written_before_it_is_sent_again(books: Books, path: Path) -> None:
    work = await sent(books)
    async with locked(path):
        await books.unsent(work)
        with pytest.raises(JournalError):
            await books.sending(work, 2.0)
    assert await books.sending(work, 3.0)
    record = (await records_in(path))["cat"]
    assert (record.state, record.sent_at) == (JournalState.SENDING, 3.0)


async def test_each_end_of_a_submit_is_written(books: Books, path: Path) -> None:
    doubt = SubmissionUnknownError(reason="cut", key="doubt")
    await books.unknown(await sent(books, "doubt"), doubt)
    await books.refused(await sent(books, "refused"), RequestRejectedError(message="no", status=422))
    assert await states_in(path) == {"doubt": JournalState.UNKNOWN, "refused": JournalState.REFUSED}


async def test_a_close_that_cannot_write_says_what_is_lost(
    books: Books, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = await sent(books, task_id="t1")
    async with locked(path):
        await books.accepted(work, 2.0)
        caplog.clear()
        await books.aclose()
    assert "what became of 1 jobs is not in it" in caplog.text
    assert "its jobs are free for others in 30 s" in caplog.text


async def test_a_lease_is_not_let_go_of_while_something_is_owed(books: Books, path: Path) -> None:
    work = await sent(books)
    async with locked(path):
        await books.unsent(work)
    books.let_go_nowait(work)
    other = await JournalWriter.open(path, base_url=BASE_URL, now=time.time)
    assert not (await other.intend(intent())).ours
    await other.aclose()


async def test_a_key_that_names_another_job_is_refused(books: Books) -> None:
    await books.intend(intent())
    with pytest.raises(JobError, match="names another job in this journal"):
        await books.intend(Intent(identity="cat", key="cat", fingerprint=SECOND, kind="x", model="m", facts={}))


# --- Leases -----------------------------------------------------------------------------------------------------------


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def _is_held_until(lease: float, records: dict[str, Record]) -> bool:
    return records["cat"].lease_until == lease


async def _keep_up(loop: LeapingLoop, path: Path) -> None:
    begun = now = time.time()
    journal = await JournalWriter.open(path, base_url=BASE_URL, now=lambda: now, busy_timeout_s=0.02)
    books = Books(journal, str(path))
    work = await sent(books, task_id="t1")
    keeping = loop.create_task(books.keep_up())
    async with locked(path):
        await books.accepted(work, 2.0)
        loop.ahead_s += LEASE_S / 3
        await asyncio.sleep(0.1)  # time for a renewal that fails, and is tried again
    for now in (begun + 5, begun + 10):
        loop.ahead_s += LEASE_S / 3
        lease = now + LEASE_S
        await wait_for(path, partial(_is_held_until, lease))
    assert await states_in(path) == {"cat": JournalState.ACCEPTED}
    keeping.cancel()
    await books.aclose()


def test_leases_are_renewed_and_what_is_owed_is_made_up_for_meanwhile(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, LeapingLoop)
        runner.run(_keep_up(loop, path))
    assert "another session may take its jobs over" in caplog.text
