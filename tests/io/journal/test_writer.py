"""The session's face of the journal: grouped writes that survive their callers; and how other tools read it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
from anyio import to_thread

from hailuo_async._io.journal import commits
from hailuo_async._io.journal.commits import FirstWork
from hailuo_async._io.journal.kept import KeptBounds, KeptJob
from hailuo_async._io.journal.reader import Journal
from hailuo_async._io.journal.records import Claim, JournalState, Record
from hailuo_async._io.journal.sqlite import SqliteDatabase
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.errors import JobError, JournalError, RequestRejectedError, SubmissionUnknownError, TaskFailedError

from ...support.crash_journal import records_in
from ...support.tables import intent, video

pytestmark = pytest.mark.anyio


T = TypeVar("T")


@attrs.define(eq=False)
class Gate:
    """A wall clock that stands still, and holds up whoever asks it while it is shut: here, the journal's thread."""

    time: float = 1_000_000.0
    _open: threading.Event = attrs.field(factory=threading.Event)
    _reached: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self._open.set()

    def __call__(self) -> float:
        self._reached.set()
        self._open.wait(60)
        return self.time

    async def shut(self, journal: JournalWriter) -> asyncio.Task[None]:
        """Holds up the commit of a write that is asked for now; those asked for from here on wait for the next."""
        return await self.hold(journal.renew())

    async def hold(self, asking: Awaitable[T]) -> asyncio.Task[T]:
        """Holds up the commit of that write."""
        self._open.clear()
        self._reached.clear()
        held = asyncio.ensure_future(asking)
        await to_thread.run_sync(partial(self._reached.wait, 60))
        return held

    def lift(self) -> None:
        self._open.set()


async def settled() -> None:
    """Every task that could go on has gone on."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@asynccontextmanager
async def opened(path: Path, now: Callable[[], float], holder: str | None = "ours") -> AsyncIterator[JournalWriter]:
    journal = await JournalWriter.open(
        path, base_url=DEFAULT_BASE_URL, now=now, holder=holder, busy_timeout_s=0.05, patience_s=0.1
    )
    try:
        yield journal
    finally:
        await journal.aclose()


@pytest.fixture
async def journal(path: Path, gate: Gate) -> AsyncIterator[JournalWriter]:
    async with opened(path, gate) as writer:
        yield writer


def be_patient(journal: JournalWriter) -> None:
    """Whoever asks from here on waits until the outage is over, on any machine."""
    journal._commits._patience_s = 60.0


def read(path: Path) -> list[Record]:
    with Journal.open(path) as journal:
        return list(journal.records())


async def recorded(journal: JournalWriter) -> Record:
    record = await journal.ask(journal.jobs.find, "cat")
    assert record is not None
    return record


def journal_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("hailuo-journal")]


async def test_every_step_is_readable_from_outside_as_soon_as_it_returns(
    journal: JournalWriter, path: Path, gate: Gate
) -> None:
    seen: list[str] = []
    for step in (
        journal.intend(intent()),
        journal.sending("cat", gate.time),
        journal.note(journal.jobs.unsent, "cat"),
        journal.sending("cat", gate.time),
        journal.note(journal.jobs.accepted, "cat", "t1", gate.time),
        journal.note(journal.jobs.succeeded, "cat", video()),
    ):
        await step
        seen.extend(record.state.value for record in await to_thread.run_sync(partial(read, path)))
    assert seen == ["intended", "sending", "intended", "sending", "accepted", "success"]


async def test_what_one_session_wrote_the_next_one_finds(path: Path, gate: Gate) -> None:
    async with opened(path, gate) as first:
        await first.intend(intent())
        await first.sending("cat", gate.time)
        await first.note(first.jobs.unknown, "cat", SubmissionUnknownError(reason="cut", key="cat"))
        await first.intend(intent("dog", "f2"))
        await first.note(first.jobs.refused, "dog", RequestRejectedError(message="too dark", status=422))
        await first.ask(first.jobs.adopt, "t3", None)
        await first.note(first.jobs.failed, "task:t3", TaskFailedError(reason="dark", task_id="t3"))
        await first.ask(first.jobs.adopt, "t4", "m")
        first.note_nowait(first.jobs.release, "task:t4")
    async with opened(path, gate, holder=None) as second:
        unfinished = await second.unfinished()
        assert [(record.identity, record.holder) for record in unfinished] == [
            ("cat", None),
            ("task:t4", second.holder),
        ]
        looked = [
            await second.ask(second.jobs.find, "dog"),
            await second.ask(second.jobs.find_task, "t3"),
            await second.ask(second.jobs.find, "cow"),
        ]
        assert [record and record.state for record in looked] == [JournalState.REFUSED, JournalState.FAILED, None]
        resubmitted = await second.resolve("cat", resubmit=True)
        assert resubmitted is not None
        assert await second.ask(second.jobs.follow, "cat") == Claim(resubmitted, ours=False)


async def traced(journal: JournalWriter) -> list[str]:
    """The statements from here on. The first ends the transaction that begins the trace."""
    statements: list[str] = []

    def trace(table: JobTable) -> None:
        assert isinstance(table.database, SqliteDatabase)
        table.database._connection.set_trace_callback(statements.append)

    await journal._commits.put(trace)
    return statements


async def test_hundreds_of_writes_at_once_cost_one_commit(journal: JournalWriter) -> None:
    statements = await traced(journal)
    claims = await asyncio.gather(*(journal.intend(intent(f"job-{number}")) for number in range(300)))
    assert all(claim.ours for claim in claims)
    assert sum(statement.startswith("INSERT") for statement in statements) == 300
    assert statements.count("COMMIT") == 1 + 1


async def test_writes_that_follow_one_another_within_a_few_iterations_share_a_commit(journal: JournalWriter) -> None:
    """As an acceptance and the grant of the next POST, for which it has made room."""
    statements = await traced(journal)
    intents = []
    for key in ("cat", "dog", "cow"):
        intents.append(asyncio.ensure_future(journal.intend(intent(key))))
        await asyncio.sleep(0)
    await asyncio.gather(*intents)
    assert statements.count("COMMIT") == 1 + 1


async def test_a_close_makes_the_writes_that_no_caller_waits_for(path: Path, gate: Gate) -> None:
    async with opened(path, gate) as journal:
        await journal.intend(intent())
        journal.note_nowait(journal.jobs.release, "cat")
    (record,) = await to_thread.run_sync(partial(read, path))
    assert (record.state, record.holder) == (JournalState.INTENDED, None)


async def test_a_write_that_fails_by_itself_does_not_harm_the_others(journal: JournalWriter, gate: Gate) -> None:
    await journal.intend(intent())
    held = await gate.shut(journal)
    writes = [
        journal.intend(intent("before")),
        journal.intend(intent(fingerprint="f2")),
        journal.intend(attrs.evolve(intent("odd"), facts={"image": b"no JSON"})),
        journal.intend(intent("after")),
    ]
    batch = asyncio.gather(*writes, return_exceptions=True)
    await settled()
    gate.lift()
    kinds = [type(answer).__name__ for answer in await batch]
    await held
    assert kinds == ["Claim", "JobError", "TypeError", "Claim"]
    assert [record.identity for record in await journal.unfinished()] == ["cat", "before", "after"]


async def test_every_writer_that_an_outage_outlasts_gets_an_error_of_its_own_and_leaves_nothing(
    journal: JournalWriter, path: Path, gate: Gate
) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    await to_thread.run_sync(partial(other.execute, "BEGIN IMMEDIATE"))
    errors = await asyncio.gather(
        *(journal.intend(intent(f"job-{number}")) for number in range(5)), return_exceptions=True
    )
    await to_thread.run_sync(other.close)
    be_patient(journal)
    assert [(type(error), getattr(error, "is_outage", None)) for error in errors] == [(JournalError, True)] * 5
    assert len({id(error) for error in errors}) == 5
    assert str(errors[0]).startswith(f"journal {path}: another program has locked it: end that program")
    assert (await journal.intend(intent("job-0"))).ours
    assert [record.identity for record in await journal.unfinished()] == ["job-0"]


async def test_a_cancelled_writer_leaves_its_write_and_everyone_elses(journal: JournalWriter, gate: Gate) -> None:
    await journal.intend(intent())
    await journal.sending("cat", gate.time)
    held = await gate.shut(journal)
    fact = asyncio.ensure_future(journal.note(journal.jobs.accepted, "cat", "t1", gate.time))
    other = asyncio.ensure_future(journal.intend(intent("dog")))
    await settled()
    fact.cancel()
    held.cancel()
    await asyncio.wait([fact, held])
    gate.lift()
    assert (await other).ours
    assert (fact.cancelled(), held.cancelled()) == (True, True)
    record = await recorded(journal)
    assert (record.state, record.task_id) == (JournalState.ACCEPTED, "t1")


async def cancel(asking: Awaitable[object], gate: Gate) -> None:
    """Cancels who asks while the gate is shut, and lifts it."""
    task = asyncio.ensure_future(asking)
    await settled()
    task.cancel()
    await asyncio.wait([task])
    gate.lift()


async def test_an_intent_that_is_cancelled_before_its_commit_is_not_written(journal: JournalWriter, gate: Gate) -> None:
    held = await gate.shut(journal)
    await cancel(journal.intend(intent()), gate)
    await held
    assert await journal.unfinished() == []


async def test_an_intent_that_is_cancelled_during_its_commit_is_given_up_to_others(
    journal: JournalWriter, gate: Gate
) -> None:
    leaving = await gate.hold(journal.intend(intent()))
    leaving.cancel()
    await asyncio.wait([leaving])
    gate.lift()
    await journal.renew()
    record = await recorded(journal)
    assert (record.state, record.holder) == (JournalState.INTENDED, None)


async def test_a_caller_that_leaves_as_its_job_is_refused_frees_none_of_another_caller(
    journal: JournalWriter, gate: Gate
) -> None:
    await journal.intend(intent())
    leaving = await gate.hold(journal.intend(attrs.evolve(intent(), fingerprint="another")))
    leaving.cancel()
    await asyncio.wait([leaving])
    gate.lift()
    await journal.renew()
    assert (await recorded(journal)).holder == "ours"


async def test_a_cancelled_sender_does_not_send_so_its_job_is_taken_back(journal: JournalWriter, gate: Gate) -> None:
    await journal.intend(intent())
    held = await gate.shut(journal)
    await cancel(journal.sending("cat", gate.time), gate)
    await held
    await journal.renew()
    record = await recorded(journal)
    assert (record.state, record.sent_at, record.holder) == (JournalState.INTENDED, None, "ours")


async def test_a_sender_cancelled_when_its_leave_is_granted_is_taken_back(journal: JournalWriter, gate: Gate) -> None:
    await journal.intend(intent())
    held = await gate.shut(journal)
    sender: list[asyncio.Task[bool]] = []

    async def cancel_at_the_commit() -> None:
        await journal.renew()
        sender[0].cancel()

    canceller = asyncio.ensure_future(cancel_at_the_commit())
    await settled()
    sender.append(asyncio.ensure_future(journal.sending("cat", gate.time)))
    await settled()
    gate.lift()
    await asyncio.wait([held, canceller, *sender])
    assert sender[0].cancelled()
    assert (await recorded(journal)).state is JournalState.INTENDED


async def test_a_cancelled_sender_that_had_no_leave_does_not_take_back_anothers(
    journal: JournalWriter, gate: Gate
) -> None:
    await journal.intend(intent())
    assert await journal.sending("cat", gate.time)
    held = await gate.shut(journal)
    second = asyncio.ensure_future(journal.sending("cat", gate.time + 1))
    await settled()
    second.cancel()
    await asyncio.wait([second])
    gate.lift()
    await held
    await journal.renew()
    assert (await recorded(journal)).state is JournalState.SENDING


async def test_closing_writes_what_was_asked_for_and_takes_back_what_was_cancelled(path: Path, gate: Gate) -> None:
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours")
    await journal.intend(intent("cat"))
    await journal.intend(intent("dog"))
    held = await gate.shut(journal)
    sender = asyncio.ensure_future(journal.sending("cat", gate.time))
    fact = asyncio.ensure_future(journal.note(journal.jobs.accepted, "dog", "t2", gate.time))
    await settled()
    sender.cancel()
    closing = asyncio.ensure_future(journal.aclose())
    await settled()
    gate.lift()
    await asyncio.wait([closing, fact, held])
    assert [(record.state.value, record.holder) for record in await to_thread.run_sync(partial(read, path))] == [
        ("intended", None),
        ("accepted", None),
    ]
    assert journal_threads() == []


async def test_a_write_asked_for_in_the_very_turn_of_the_close_is_made(path: Path, gate: Gate) -> None:
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours")
    await journal.intend(intent())
    asked = journal._commits.put(lambda table: table.accepted("cat", "t1", gate.time))
    await journal.aclose()
    assert asked.done()
    assert [(record.state.value, record.holder) for record in await to_thread.run_sync(partial(read, path))] == [
        ("accepted", None)
    ]


async def test_a_cancelled_close_goes_on_by_itself(path: Path, gate: Gate) -> None:
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours")
    held = await gate.shut(journal)
    asking = asyncio.ensure_future(journal.intend(intent()))
    sender = asyncio.ensure_future(journal.sending("cat", gate.time))
    await settled()
    closing = asyncio.ensure_future(journal.aclose())
    await settled()
    closing.cancel()
    sender.cancel()
    await asyncio.wait([closing])
    gate.lift()
    assert (await asking).ours
    await held
    await to_thread.run_sync(journal._thread.shutdown)
    # Its take-back came too late for the thread, so the next session will call this one in doubt: safe, if not kind.
    assert [(record.state.value, record.holder) for record in await to_thread.run_sync(partial(read, path))] == [
        ("sending", None)
    ]
    assert journal_threads() == []


async def test_a_close_that_is_cancelled_at_its_very_end_ends_all_the_same(path: Path, gate: Gate) -> None:
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours")
    await journal.intend(intent())
    gate._open.clear()
    closing = asyncio.ensure_future(journal.aclose())
    await settled()
    closing.cancel()
    await settled()
    gate.lift()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert [record.holder for record in await to_thread.run_sync(partial(read, path))] == [None]
    assert journal_threads() == []


async def test_a_closed_journal_refuses_and_closes_again_without_ado(path: Path, gate: Gate) -> None:
    async with opened(path, gate) as journal:
        pass
    await journal.aclose()
    with pytest.raises(JournalError, match="it is closed"):
        await journal.intend(intent())


async def test_a_close_that_cannot_let_go_says_so_and_closes_all_the_same(path: Path, gate: Gate) -> None:
    journal = await JournalWriter.open(
        path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours", busy_timeout_s=0.05, patience_s=0.05
    )
    await journal.intend(intent())
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    await to_thread.run_sync(partial(other.execute, "BEGIN IMMEDIATE"))
    with pytest.raises(JournalError, match="another program has locked it"):
        await journal.aclose()
    await to_thread.run_sync(other.close)
    assert journal_threads() == []
    assert [record.holder for record in await to_thread.run_sync(partial(read, path))] == ["ours"]


async def test_opening_that_fails_or_is_cancelled_leaves_no_thread(path: Path, gate: Gate) -> None:
    with pytest.raises(JournalError, match="it is a directory"):
        await JournalWriter.open(path.parent, base_url=DEFAULT_BASE_URL, now=gate)
    gate._open.clear()
    opening = asyncio.ensure_future(JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate))
    await to_thread.run_sync(partial(gate._reached.wait, 60))
    opening.cancel()
    await asyncio.wait([opening])
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("hailuo-journal")]
    gate.lift()
    for thread in threads:
        await to_thread.run_sync(partial(thread.join, 60))
    assert journal_threads() == []
    assert opening.cancelled()


@pytest.mark.parametrize("word", [{}, {"resubmit": True, "forget": True}, {"task_id": "t1", "resubmit": True}])
async def test_a_job_is_resolved_by_exactly_one_word(journal: JournalWriter, word: dict[str, Any]) -> None:
    with pytest.raises(JobError, match="exactly one of resubmit, task_id and forget"):
        await journal.resolve("cat", **word)


async def test_a_saved_video_is_found_again_by_its_task(journal: JournalWriter, tmp_path: Path) -> None:
    await journal.note(journal.jobs.succeeded, "cat", video())
    for name, told in (("cat.mp4", "cat.mp4"), ("cat-\udcff.mp4", "cat-\\udcff.mp4")):
        await journal.note(journal.jobs.saved, "t1", tmp_path / name)
        record = await journal.ask(journal.jobs.find_task, "t1")
        assert record is not None
        assert (record.saved_to, record.is_wiped) == (str(tmp_path / told), True)


async def test_a_write_that_the_database_refuses_fails_alone(journal: JournalWriter, gate: Gate) -> None:
    held = await gate.shut(journal)
    refused = journal._commits.put(lambda table: table.database.execute("no SQL"))
    batch = asyncio.gather(journal.intend(intent()), refused, journal.intend(intent("dog")), return_exceptions=True)
    await settled()
    gate.lift()
    await held
    assert [type(answer).__name__ for answer in await batch] == ["Claim", "JournalError", "Claim"]
    assert [record.identity for record in await journal.unfinished()] == ["cat", "dog"]


async def test_a_close_gives_each_of_several_commits_its_time_while_a_note_waits_to_be_written(
    journal: JournalWriter, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried: list[bool] = []
    monkeypatch.setattr(SqliteDatabase, "hurry", lambda _, *, is_last_try=False: hurried.append(is_last_try))
    be_patient(journal)
    await journal.intend(intent())
    held = await gate.shut(journal)
    refused = journal._commits.put(lambda table: table.database.execute("no SQL"))  # the note is written without it
    error = RequestRejectedError(message="too dark", status=422)
    noting = asyncio.ensure_future(journal.note(journal.jobs.refused, "cat", error))
    await settled()
    closing = asyncio.ensure_future(journal.aclose())
    await settled()
    gate.lift()
    await asyncio.gather(held, noting, closing)
    assert isinstance(refused.exception(), JournalError)
    assert hurried == [True]


async def test_a_renewal_goes_with_the_first_commit_and_makes_none_of_its_own_before_it_is_due(
    journal: JournalWriter,
) -> None:
    renewing = asyncio.ensure_future(journal.renew(60.0))
    await settled()
    assert journal._commits._committing is None
    async with asyncio.timeout(30):
        await journal.intend(intent())
        await renewing
        await journal.renew(0.01)


async def test_a_listener_that_raises_keeps_no_answer_back_and_is_logged_once(
    journal: JournalWriter, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[object] = []

    def hear(result: object) -> None:
        told.append(result)
        raise ZeroDivisionError

    for key in ("cat", "dog"):
        steps = iter([FirstWork(lambda: None, lambda table: "step", lambda table: None, hear)])
        journal._commits.first = partial(next, steps, None)
        async with asyncio.timeout(60):
            assert (await journal.intend(intent(key))).ours
    assert told == ["step", "step"]
    assert [record.levelname for record in caplog.records if "a bug in the answer" in record.message] == ["ERROR"]


@asynccontextmanager
async def locked_out(path: Path) -> AsyncIterator[None]:
    """Another program holds the file meanwhile."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    await to_thread.run_sync(partial(other.execute, "BEGIN IMMEDIATE"))
    try:
        yield
    finally:
        await to_thread.run_sync(other.close)


async def test_an_outage_delays_what_is_asked_for_and_changes_nothing_else(path: Path, gate: Gate) -> None:
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours", busy_timeout_s=0.01)
    await journal.intend(intent("cat"))
    async with locked_out(path):
        sending = asyncio.ensure_future(journal.sending("cat", gate.time))
        await asyncio.sleep(0.02)  # for a try that fails; without one, the test would prove less and hold all the same
        other = asyncio.ensure_future(journal.intend(intent("dog")))
        await settled()
        assert not sending.done()
    assert await sending
    assert (await other).ours
    await journal.aclose()


async def test_what_outlasts_its_caller_is_written_in_its_order_when_the_outage_is_over(
    journal: JournalWriter, path: Path, gate: Gate
) -> None:
    await journal.intend(intent())
    await journal.sending("cat", gate.time)
    async with locked_out(path):
        with pytest.raises(JournalError, match="another program has locked it"):
            await journal.note(journal.jobs.accepted, "cat", "t1", 5.0)
        with pytest.raises(JournalError, match="another program has locked it"):
            await journal.note(journal.jobs.succeeded, "cat", video())
    be_patient(journal)
    await journal.renew()
    record = await recorded(journal)
    assert (record.state, record.accepted_at, record.video) == (JournalState.SUCCESS, 5.0, video())


async def test_who_has_waited_long_enough_for_its_turn_waits_for_no_outage(journal: JournalWriter, path: Path) -> None:
    be_patient(journal)
    bounds = KeptBounds(max_queued=1, max_kept_bytes=0)
    async with locked_out(path), asyncio.timeout(30):
        with pytest.raises(JournalError, match="another program has locked it"):
            await journal.keep(intent(), KeptJob("/path", {}, {}), {}, bounds, waited_s=commits.PATIENCE_S)


async def test_what_a_caller_has_given_up_in_an_outage_is_not_done_after_it(path: Path, gate: Gate) -> None:
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate, busy_timeout_s=0.01, patience_s=0.0)
    async with locked_out(path):
        with pytest.raises(JournalError, match="another program has locked it"):
            await journal.ask(journal.jobs.adopt, "t9", None)
    be_patient(journal)
    await journal.note(journal.jobs.saved, "t8", "cat.mp4")
    await journal.aclose()
    assert await records_in(path) == {}


async def tries(journal: JournalWriter, failed: int) -> None:
    """Returns when so many tries of a commit have failed: each doubles the time to the next."""
    async with asyncio.timeout(60):
        while journal._commits._retry_s < 2**failed * commits._FIRST_RETRY_S:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_close_in_an_outage_waits_longer_if_a_note_on_a_job_is_still_to_be_written(
    path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, is_known: bool
) -> None:
    """Also in an outage that only the close itself finds."""
    monkeypatch.setattr(commits, "SHORT_PATIENCE_S", 0.0)
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours", busy_timeout_s=0.01)
    await journal.intend(intent())
    await journal.sending("cat", gate.time)
    async with locked_out(path):
        noting = asyncio.ensure_future(journal.note(journal.jobs.accepted, "cat", "t1", 5.0))
        if is_known:
            await tries(journal, 1)
        closing = asyncio.ensure_future(journal.aclose())
        await tries(journal, 4)
        assert not closing.done()
    await closing
    await noting
    assert (journal.lost, (await records_in(path))["cat"].state) == (0, JournalState.ACCEPTED)
    assert caplog.text.count("the close waits up to 30 s, to write what became of jobs") == 1


async def test_what_a_close_could_not_write_is_lost_only_if_it_is_a_note_on_a_job(
    journal: JournalWriter, path: Path
) -> None:
    await journal.intend(intent())
    async with locked_out(path):
        journal.note_nowait(journal.jobs.release, "cat")
        with pytest.raises(JournalError):
            await journal.aclose()
    assert journal.lost == 0


async def test_a_doubt_about_a_job_that_waited_to_be_sent_again_is_a_note_though_no_caller_waits_for_it(
    path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the next run would send the job, and pay for it, once more."""
    monkeypatch.setattr(commits, "SHORT_PATIENCE_S", 0.0)
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours", busy_timeout_s=0.01)
    await journal.intend(intent())
    await journal.sending("cat", gate.time)
    await journal.note(journal.jobs.sent_again, "cat", gate.time)
    async with locked_out(path):
        journal.owe_nowait(journal.jobs.back_in_doubt, "cat", SubmissionUnknownError(reason="cut"))
        closing = asyncio.ensure_future(journal.aclose())
        await tries(journal, 4)
        assert not closing.done()
    await closing
    assert (journal.lost, (await records_in(path))["cat"].state) == (0, JournalState.UNKNOWN)


async def test_a_sender_that_an_outage_outlasts_has_no_leave_and_its_job_stays_intended(
    journal: JournalWriter, path: Path, gate: Gate
) -> None:
    await journal.intend(intent())
    async with locked_out(path):
        with pytest.raises(JournalError, match="another program has locked it"):
            await journal.sending("cat", gate.time)
    be_patient(journal)
    await journal.renew()
    assert (await recorded(journal)).state is JournalState.INTENDED
    assert await journal.sending("cat", gate.time + 1)


@pytest.mark.slow
@pytest.mark.parametrize("more_s", [0.0, 0.4])
async def test_a_job_whose_leave_came_too_late_for_its_sender_is_not_in_the_way_of_its_next_try(
    path: Path, gate: Gate, more_s: float
) -> None:
    """The sender gives up while a commit is under way, which is made then, or fails and is tried again."""
    journal = await JournalWriter.open(
        path, base_url=DEFAULT_BASE_URL, now=gate, holder="ours", busy_timeout_s=0.3, patience_s=0.5
    )
    await journal.intend(intent())
    async with locked_out(path):
        with pytest.raises(JournalError, match="another program has locked it"):
            await journal.sending("cat", gate.time)
        be_patient(journal)
        again = asyncio.ensure_future(journal.sending("cat", gate.time + 1))
        await asyncio.sleep(more_s)
    assert await again
    record = await recorded(journal)
    assert (record.state, record.sent_at) == (JournalState.SENDING, gate.time + 1)
    await journal.aclose()


async def test_who_has_waited_long_enough_just_after_an_outage_gets_the_answer_of_the_next_commit(path: Path) -> None:
    journal = await JournalWriter.open(path, base_url=DEFAULT_BASE_URL, now=lambda: 500.0)
    commits, has_ended = journal._commits, threading.Event()
    before = commits.put(lambda _: has_ended.wait(60))
    for _ in range(10):
        await asyncio.sleep(0)
    assert commits.is_under_way
    commits._outage = sqlite3.OperationalError("database is locked")
    waiting = commits.put(lambda _: "made", patience_s=0.0)
    commits._outage = None  # as when the commit under way has shown that it is over
    await asyncio.sleep(0.01)  # its time comes before the next commit
    has_ended.set()
    assert [await before, await asyncio.wait_for(waiting, 60)] == [True, "made"]
    await journal.aclose()
