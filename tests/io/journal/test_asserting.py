"""What live sessions write again after a failover to a copy that has lost the last commits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import anyio.to_thread
import attrs
import psycopg
import pytest

from hailuo_async._io.journal import postgres_opening
from hailuo_async._io.journal.asserting import AssertingTable
from hailuo_async._io.journal.database import SELECT
from hailuo_async._io.journal.kept import KeptBounds, KeptImage, KeptJob
from hailuo_async._io.journal.kept_table import KeptTable
from hailuo_async._io.journal.records import Record
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.team import TeamTable
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.errors import JobError, QueueFullError, SubmissionUnknownError, TaskFailedError
from hailuo_async.settings import Dsn

from ...support.postgres import Postgres
from ...support.tables import LEASE_S, accepted, did, intent, opened_at, record_of, sent, video

DOUBT = SubmissionUnknownError(reason="the connection was cut", key="cat", sent_at=1.0)
PRICE = Decimal("0.3240")


@attrs.frozen
class Primary:
    """The server of a journal, whose sessions live on when it fails."""

    _postgres: Postgres
    _schema: str

    def change(self, changes: str, where: str = "TRUE") -> None:
        self._postgres.run(f"UPDATE {self._schema}.job SET {changes} WHERE {where}")

    def cut(self) -> None:
        """Cuts every connection."""
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hailuo-async'"
        self._postgres.run(sql)

    @contextlib.contextmanager
    def failover(self) -> Iterator[None]:
        """The server has lost, at the end, what was committed inside, and every connection was cut."""
        self._postgres.run(f"CREATE TABLE {self._schema}.standby AS SELECT * FROM {self._schema}.job")
        yield
        self.lose_all(f"INSERT INTO {self._schema}.job SELECT * FROM {self._schema}.standby")

    def lose_all(self, *but: str) -> None:
        """As a standby that had not seen the last commits."""
        self._postgres.run(f"DELETE FROM {self._schema}.job", *but)
        self.cut()


@pytest.fixture
def primary(postgres: Postgres, schema: str) -> Primary:
    return Primary(postgres, schema)


@pytest.fixture
def opened(postgres: Postgres, schema: str) -> Iterator[Callable[[str], AssertingTable]]:
    """Opens the journal for sessions that assert their jobs."""
    with contextlib.ExitStack() as tables:

        def open_as(holder: str) -> AssertingTable:
            database = postgres_opening.open_for_writing(Dsn(postgres.dsn(schema)), DEFAULT_BASE_URL)
            tables.callback(database.close)
            return AssertingTable(database, holder, LEASE_S)

        yield open_as


@pytest.fixture
def other(postgres: Postgres, schema: str) -> Iterator[JobTable]:
    """A session that asserts nothing."""
    table = opened_at(postgres.dsn(schema), "theirs")
    yield table
    table.database.close()


def reconnected(table: AssertingTable, identity: str = "cat") -> Record | None:
    """The job, as the session finds it over its next connection."""
    with pytest.raises(psycopg.Error):
        did(table, lambda it: it.find(identity))
    return did(table, lambda it: it.find(identity))


def after_reconnecting(table: AssertingTable, identity: str = "cat") -> tuple[str, str | None, str | None]:
    """State, task and holder of the job."""
    record = reconnected(table, identity)
    assert record is not None
    return record.state.value, record.task_id, record.holder


def taken_up(table: AssertingTable) -> None:
    sql = f"{SELECT} WHERE job.identity = 'cat'"
    did(table, lambda it: it.claim_row(it.database.execute(sql).fetchone()))


def one_sends_what_the_other_takes_up_on_the_copy(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary
) -> None:
    """That ours has taken up a free job and sends it is lost, and it is not connected again."""
    did(ours, lambda it: it.intend(intent()))
    did(ours, lambda it: it.release("cat"))
    with primary.failover():
        taken_up(ours)
        did(ours, lambda it: it.sending("cat", 1.0))
    reconnected(theirs)
    taken_up(theirs)


def ended(table: JobTable, key: str = "cat") -> None:
    did(table, lambda it: it.intend(intent(key)))
    did(table, lambda it: it.sending(key, 1.0))
    did(table, lambda it: it.accepted(key, f"t-{key}", 2.0))
    did(table, lambda it: it.failed(key, TaskFailedError(reason="x", task_id=f"t-{key}")))


def doubted(table: JobTable, key: str = "cat", sent_at: float = 1.0, price: Decimal | None = None) -> None:
    did(table, lambda it: it.intend(attrs.evolve(intent(key), price=price)))
    did(table, lambda it: it.sending(key, sent_at))
    did(table, lambda it: it.unknown(key, DOUBT, sent_at))


def doubts_sent_again(table: AssertingTable, count: int = 1) -> None:
    did(table, lambda it: it.intend(attrs.evolve(intent(), price=PRICE)))
    for number in range(1, count + 1):
        did(table, lambda it, at=float(number): it.sending("cat", at))  # type: ignore[misc]
        did(table, lambda it, at=float(number): it.sent_again("cat", at))  # type: ignore[misc]


def said(table: JobTable, *, resubmit: bool = False, task_id: str | None = None, forget: bool = False) -> None:
    """Its owner's word on the job."""
    did(table, lambda it: it.resolve("cat", resubmit=resubmit, task_id=task_id, forget=forget))


def not_committed(table: AssertingTable, write: Callable[[JobTable], object]) -> None:
    """The connection is cut during the commit of ``write``, which the server takes back. It is made again."""

    def spoilt(table: JobTable) -> None:
        write(table)
        raise psycopg.OperationalError("the connection was cut")

    with pytest.raises(psycopg.OperationalError):
        did(table, spoilt)
    assert table.database.connections == 1
    table.database._connection.close()  # type: ignore[attr-defined]
    did(table, write)


def cost_before(table: AssertingTable) -> Decimal | None:
    return record_of(table).cost_before


def test_a_live_session_says_again_what_a_failover_lost(ours: AssertingTable, primary: Primary) -> None:
    for key in ("waits", "runs", "ended"):
        did(ours, lambda it, key=key: it.intend(intent(key)))  # type: ignore[misc]
    for key in ("runs", "ended"):
        did(ours, lambda it, key=key: it.sending(key, 1.0))  # type: ignore[misc]
        did(ours, lambda it, key=key: it.accepted(key, f"t-{key}", 2.0))  # type: ignore[misc]
    did(ours, lambda it: it.failed("ended", TaskFailedError(reason="dark", task_id="t-ended")))
    primary.lose_all()
    with pytest.raises(psycopg.Error):
        did(ours, lambda it: it.find("runs"))
    found = {
        record.identity: (record.state.value, record.task_id, record.holder)
        for record in did(ours, JobTable.unfinished)
    }
    assert found == {
        "waits": ("intended", None, "ours"),
        "runs": ("accepted", "t-runs", "ours"),
        "ended": ("accepted", "t-ended", "ours"),
    }


@pytest.mark.anyio
async def test_a_session_that_closes_and_finds_its_connection_cut_writes_first_what_the_copy_lacks(
    ours: AssertingTable, primary: Primary, postgres: Postgres, schema: str
) -> None:
    """Nothing waits to be written, and the cut is not known before: another session would send the job again."""
    dsn, off_loop = Dsn(postgres.dsn(schema)), anyio.to_thread.run_sync
    journal = await JournalWriter.open(dsn, base_url=DEFAULT_BASE_URL, now=lambda: 1.0, holder="ours")
    await journal.intend(intent())
    lost = primary.failover()
    await off_loop(lost.__enter__)
    await journal.sending("cat", 1.0)
    await journal.note(journal.jobs.accepted, "cat", "t1", 2.0)
    await off_loop(lost.__exit__, None, None, None)
    await journal.aclose()
    row = await off_loop(postgres.run, f"SELECT state, task_id, holder FROM {schema}.job")
    assert row == [("accepted", "t1", None)]


def test_a_failover_does_not_free_a_job_of_another_session_that_was_sent_meanwhile(
    ours: AssertingTable, other: JobTable, primary: Primary
) -> None:
    did(other, lambda it: it.intend(intent()))
    other.close()
    with primary.failover():
        taken_up(ours)
        did(ours, lambda it: it.sending("cat", 1.0))
        did(ours, lambda it: it.accepted("cat", "t1", 2.0))
    assert after_reconnecting(ours) == ("accepted", "t1", "ours")


def test_a_failover_does_not_free_a_job_whose_task_has_ended_meanwhile(ours: AssertingTable, primary: Primary) -> None:
    ended(ours, "early")
    with primary.failover():
        ended(ours, "late")
    assert after_reconnecting(ours, "late") == ("accepted", "t-late", None)  # any session asks how it ended
    assert record_of(ours, "early").state == "failed"


@pytest.mark.parametrize("lost", ["the doubt", "the doubt and the permit", "all of it"])
def test_a_failover_does_not_free_a_job_whose_post_is_in_doubt(
    ours: AssertingTable, primary: Primary, lost: str
) -> None:
    steps = [
        lambda it: it.intend(intent()),
        lambda it: it.sending("cat", 1.0),
        lambda it: it.unknown("cat", DOUBT, 1.0),
    ]
    kept = ("all of it", "the doubt and the permit", "the doubt").index(lost)
    for step in steps[:kept]:
        did(ours, step)
    with primary.failover():
        for step in steps[kept:]:
            did(ours, step)
    assert after_reconnecting(ours) == ("unknown", None, None)


def test_a_doubt_is_on_record_also_if_a_failover_lost_that_its_post_had_left(
    ours: AssertingTable, primary: Primary
) -> None:
    did(ours, lambda it: it.intend(intent()))
    with primary.failover():
        did(ours, lambda it: it.sending("cat", 1.0))
    assert after_reconnecting(ours) == ("sending", None, "ours")
    did(ours, lambda it: it.unknown("cat", DOUBT, 1.0))
    assert record_of(ours).state == "unknown"


def test_a_doubt_is_on_record_although_another_session_has_taken_the_job_up_on_the_copy(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary
) -> None:
    one_sends_what_the_other_takes_up_on_the_copy(ours, theirs, primary)
    with pytest.raises(psycopg.Error):  # the doubt comes while the database is away
        did(ours, lambda it: it.unknown("cat", DOUBT, 1.0))
    did(ours, lambda it: it.unknown("cat", DOUBT, 1.0))
    assert record_of(ours).state == "unknown"
    assert not did(theirs, lambda it: it.sending("cat", 2.0))


def test_a_job_whose_post_is_on_its_way_is_not_sent_by_a_session_that_took_it_up_on_the_copy(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary
) -> None:
    one_sends_what_the_other_takes_up_on_the_copy(ours, theirs, primary)
    assert after_reconnecting(ours) == ("sending", None, "ours")
    assert not did(theirs, lambda it: it.sending("cat", 2.0))
    did(ours, lambda it: it.unsent("cat", 1.0))
    primary.cut()
    assert after_reconnecting(ours) == ("intended", None, "ours")


def test_a_late_doubt_does_not_stop_a_job_that_its_owner_has_sent_again(
    ours: AssertingTable, theirs: AssertingTable
) -> None:
    doubted(ours)
    said(theirs, resubmit=True)
    did(ours, lambda it: it.unknown("cat", DOUBT, 1.0))  # made again: its answer was lost
    assert record_of(ours).state == "intended"


def test_a_post_on_its_way_does_not_stop_a_job_that_its_owner_has_sent_again(
    ours: AssertingTable, other: JobTable, primary: Primary
) -> None:
    job = attrs.evolve(intent(), price=PRICE)
    did(ours, lambda it: it.intend(job))
    did(ours, lambda it: it.sending("cat", 999.0))
    primary.change("state = 'unknown', holder = NULL, lease_until = NULL")  # ours was taken for dead
    said(other, resubmit=True)
    assert did(other, lambda it: it.intend(job)).ours
    primary.cut()
    with pytest.raises(psycopg.Error):
        did(other, lambda it: it.find("cat"))
    reconnected(ours)
    assert did(other, lambda it: it.sending("cat", 2000.0))


def test_a_failover_that_lost_an_end_alone_leaves_no_task_that_no_session_waits_for(
    ours: AssertingTable, primary: Primary
) -> None:
    accepted(ours)
    with primary.failover():
        did(ours, lambda it: it.failed("cat", TaskFailedError(reason="x", task_id="t1")))
    assert after_reconnecting(ours) == ("accepted", "t1", None)


def test_a_job_that_its_caller_took_back_is_not_entered_again_after_a_cut(
    ours: AssertingTable, primary: Primary
) -> None:
    did(ours, lambda it: it.intend(intent()))
    did(ours, lambda it: KeptTable(it).drop("cat"))
    primary.cut()
    assert reconnected(ours) is None


def test_a_job_whose_claim_was_taken_back_is_not_entered_after_a_cut(ours: AssertingTable, primary: Primary) -> None:
    def spoilt(table: JobTable) -> None:
        table.intend(intent())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        did(ours, spoilt)
    primary.cut()
    assert reconnected(ours) is None


def test_a_job_for_which_there_was_no_room_is_not_entered_after_a_cut(ours: AssertingTable, primary: Primary) -> None:
    job = KeptJob("/api/v1/minimax/x/async", {}, {"first_frame_image": KeptImage(url="https://example.com/cat.jpg")})
    with pytest.raises(QueueFullError):
        did(ours, lambda it: KeptTable(it).keep(intent(), job, {}, KeptBounds(0, 0)))
    primary.cut()
    assert reconnected(ours) is None


def test_a_connection_that_was_cut_takes_nothing_back_that_the_owner_decided(
    ours: AssertingTable, other: JobTable, primary: Primary
) -> None:
    ended(ours)
    said(other, resubmit=True)
    primary.cut()
    assert after_reconnecting(ours) == ("intended", None, None)


@pytest.mark.parametrize(
    ("end", "stands"),
    [
        (lambda it: it.refused("cat", JobError(field="prompt", value="x", rule="must be allowed"), 1.0), "refused"),
        (lambda it: it.release("cat"), "intended"),
        (lambda it: KeptTable(it).drop("cat"), None),
    ],
)
def test_a_failover_that_lost_an_end_without_a_task_leaves_no_job_that_only_seems_to_be_worked_on(
    ours: AssertingTable, primary: Primary, end: Callable[[JobTable], object], stands: str | None
) -> None:
    did(ours, lambda it: it.intend(intent()))
    with primary.failover():
        did(ours, end)
        did(ours, lambda it: it.release("cat"))  # as every job that ends without a video
    record = reconnected(ours)
    assert (record and record.state, record and record.holder) == (stands, None)


@pytest.mark.parametrize(("is_sent_again", "stands"), [(False, "intended"), (True, "sending")])
def test_a_post_that_was_refused_for_now_may_leave_later_although_a_failover_lost_the_refusal(
    ours: AssertingTable, primary: Primary, is_sent_again: bool, stands: str
) -> None:
    sent(ours)
    with primary.failover():
        did(ours, lambda it: it.unsent("cat", 999.0))
        if is_sent_again:
            did(ours, lambda it: it.sending("cat", 1000.0))
    assert after_reconnecting(ours) == (stands, None, "ours")
    if is_sent_again:
        did(ours, lambda it: it.unsent("cat", 1000.0))
    assert did(ours, lambda it: bool(it.sending("cat", 1001.0)))


@pytest.mark.parametrize("ends", [True, False])
def test_a_task_is_its_jobs_though_a_failover_lost_that_the_post_before_was_refused(
    ours: AssertingTable, primary: Primary, ends: bool
) -> None:
    sent(ours)
    with primary.failover():
        did(ours, lambda it: it.unsent("cat", 999.0))
        did(ours, lambda it: it.sending("cat", 1000.0))
        did(ours, lambda it: it.accepted("cat", "t1", 1001.0, 1000.0))
        if ends:
            did(ours, lambda it: it.succeeded("cat", video("t1"), 1000.0))
    assert after_reconnecting(ours) == ("accepted", "t1", None if ends else "ours")


def test_a_task_is_its_jobs_though_a_failover_lost_that_another_sessions_post_was_refused(
    ours: AssertingTable, opened: Callable[[str], AssertingTable], primary: Primary
) -> None:
    """Else the other one would free the job, to be paid for again."""
    theirs = opened("theirs")
    sent(theirs)
    with primary.failover():
        did(theirs, lambda it: it.unsent("cat", 999.0))
        did(theirs, lambda it: it.release("cat"))
        taken_up(ours)
        did(ours, lambda it: it.sending("cat", 1000.0))
        did(ours, lambda it: it.accepted("cat", "t1", 1001.0, 1000.0))
    reconnected(ours)
    assert after_reconnecting(theirs) == ("accepted", "t1", "ours")


def test_a_job_that_was_let_go_and_claimed_again_stays_claimed_after_a_cut(
    ours: AssertingTable, primary: Primary
) -> None:
    for _ in range(2):
        did(ours, lambda it: it.intend(intent()))
        did(ours, lambda it: it.release("cat"))
    did(ours, lambda it: it.intend(intent()))
    primary.cut()
    assert after_reconnecting(ours) == ("intended", None, "ours")


def test_a_failover_does_not_free_a_job_whose_task_is_no_longer_waited_for_here(
    ours: AssertingTable, primary: Primary
) -> None:
    did(ours, lambda it: it.intend(intent()))
    with primary.failover():
        did(ours, lambda it: it.sending("cat", 1.0))
        did(ours, lambda it: it.accepted("cat", "t1", 2.0))
        did(ours, lambda it: it.release("cat"))  # its time is up
    assert after_reconnecting(ours) == ("accepted", "t1", None)


def test_a_failover_does_not_free_a_job_whose_task_was_taken_over(
    ours: AssertingTable, other: JobTable, primary: Primary
) -> None:
    did(other, lambda it: it.intend(intent()))
    with primary.failover():
        did(other, lambda it: it.sending("cat", 1.0))
        did(other, lambda it: it.accepted("cat", "t1", 2.0))
        did(other, lambda it: it.release("cat"))
        assert [record.task_id for record in did(ours, JobTable.take_over)] == ["t1"]
    assert after_reconnecting(ours) == ("accepted", "t1", "ours")


@pytest.mark.parametrize("ends", [True, False])
def test_a_failover_does_not_free_a_job_that_its_owner_had_sent_again(
    ours: AssertingTable, primary: Primary, ends: bool
) -> None:
    """What its earlier POST cost stands in its row, as if its owner had decided on the last one."""
    doubted(ours, price=PRICE)
    said(ours, resubmit=True)
    did(ours, lambda it: it.intend(attrs.evolve(intent(), price=PRICE)))
    with primary.failover():
        did(ours, lambda it: it.sending("cat", 3.0))
        if ends:
            did(ours, lambda it: it.unknown("cat", DOUBT, 3.0))
    assert after_reconnecting(ours) == (("unknown", None, None) if ends else ("sending", None, "ours"))


def test_a_job_that_was_in_doubt_once_stays_with_the_session_that_sends_it_again(
    ours: AssertingTable, other: JobTable, primary: Primary
) -> None:
    doubted(ours)
    said(other, resubmit=True)
    did(ours, lambda it: it.intend(intent()))
    primary.cut()
    assert after_reconnecting(ours) == ("intended", None, "ours")


def test_a_job_that_was_let_go_before_it_was_accepted_is_free_although_a_failover_lost_that(
    ours: AssertingTable, primary: Primary
) -> None:
    sent(ours)
    with primary.failover():
        did(ours, lambda it: it.unsent("cat", 999.0))
        did(ours, lambda it: it.release("cat"))
    assert after_reconnecting(ours) == ("intended", None, None)


def test_a_job_that_its_owner_has_forgotten_does_not_come_back_after_a_cut(
    ours: AssertingTable, other: JobTable, primary: Primary
) -> None:
    team = TeamTable(ours)
    did(ours, lambda _: team.join())
    for key in ("cat", "dog"):
        doubted(ours, key)
    said(other, forget=True)
    did(ours, lambda _: team.renew()).outcome()
    primary.lose_all()
    assert after_reconnecting(ours, "dog")[0] == "unknown"
    assert did(ours, lambda it: it.find("cat")) is None


@pytest.mark.parametrize("sees", [lambda it: it.intend(intent()), lambda it: it.follow("cat")])
@pytest.mark.parametrize("has_ended", [False, True])
def test_a_job_that_another_session_has_taken_up_and_its_owner_has_forgotten_does_not_come_back_after_a_cut(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary, sees: Callable[[JobTable], object], has_ended: bool
) -> None:
    """It would be held, without an end, by a session that no longer works on it."""
    did(ours, lambda it: it.intend(intent()))
    primary.change("holder = NULL")  # our lease has run out
    taken_up(theirs)
    assert not did(ours, lambda it: bool(it.sending("cat", 1.0)))
    if not has_ended:
        did(ours, sees)
    ended(theirs)
    if has_ended:
        did(ours, sees)
    said(theirs, forget=True)
    primary.cut()
    assert reconnected(ours) is None


@pytest.mark.parametrize("end", [ended, doubted])
def test_a_forgotten_job_that_is_given_again_gets_neither_its_old_task_nor_its_old_doubt_after_a_cut(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary, end: Callable[[AssertingTable], None]
) -> None:
    """A doubt about its new POST would be hidden behind the old video."""
    team = TeamTable(ours)
    did(ours, lambda _: team.join())
    end(ours)
    said(theirs, forget=True)
    doubted(theirs, sent_at=2.0)
    did(ours, lambda _: team.renew()).outcome()
    primary.cut()
    assert after_reconnecting(ours) == ("unknown", None, None)
    record = did(ours, lambda it: it.find("cat"))
    assert record is not None
    assert record.sent_at == 2.0


def test_a_failover_does_not_free_a_job_of_which_its_owner_has_said_which_task_it_led_to(
    ours: AssertingTable, primary: Primary
) -> None:
    did(ours, lambda it: it.intend(intent("cat")))
    with primary.failover():
        did(ours, lambda it: it.sending("cat", 1.0))
        did(ours, lambda it: it.unknown("cat", DOUBT, 1.0))
        said(ours, task_id="t1")
    assert after_reconnecting(ours) == ("accepted", "t1", None)


@pytest.mark.parametrize("end", [ended, doubted])
def test_another_job_that_has_the_key_of_a_forgotten_one_gets_neither_its_task_nor_its_doubt(
    ours: AssertingTable, other: JobTable, primary: Primary, end: Callable[[AssertingTable], None]
) -> None:
    end(ours)
    said(other, forget=True)
    did(other, lambda it: it.intend(intent("cat", "another")))
    primary.cut()
    assert after_reconnecting(ours) == ("intended", None, "theirs")


def test_another_job_that_has_the_key_on_the_copy_does_not_get_the_task_of_a_job_at_work(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary
) -> None:
    with primary.failover():
        accepted(ours)
    reconnected(theirs)
    did(theirs, lambda it: it.intend(intent("cat", "another")))
    assert after_reconnecting(ours) == ("intended", None, "theirs")


def test_a_failover_does_not_free_a_job_whose_doubt_is_older_than_an_end_that_is_on_record(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary
) -> None:
    """Another session took the last task over, and has noted on the copy how that ended."""
    accepted(ours, "last", "t-last")
    did(ours, lambda it: it.intend(intent()))
    with primary.failover():
        doubted(ours)
        did(ours, lambda it: it.release("last"))
        did(theirs, JobTable.take_over)
    reconnected(theirs)
    did(theirs, lambda it: it.failed("last", TaskFailedError(reason="x", task_id="t-last")))
    assert after_reconnecting(ours) == ("unknown", None, None)
    assert record_of(ours, "last").state == "failed"


def test_a_failover_loses_no_task_of_a_job_that_was_in_doubt_before_its_owner_had_it_sent_again(
    ours: AssertingTable, primary: Primary
) -> None:
    doubted(ours, "again")
    did(ours, lambda it: it.intend(intent()))
    with primary.failover():
        doubted(ours)
        did(ours, lambda it: it.resolve("again", resubmit=True, task_id=None, forget=False))
        ended(ours, "again")
    assert after_reconnecting(ours) == ("unknown", None, None)
    assert record_of(ours, "again").task_id == "t-again"


@pytest.mark.parametrize("word", [{"resubmit": True}, {"forget": True}])
def test_a_failover_that_lost_the_owners_word_on_a_failed_job_loses_no_task_that_has_ended_since(
    ours: AssertingTable, primary: Primary, word: dict[str, Any]
) -> None:
    ended(ours)
    with primary.failover():
        said(ours, **word)
        accepted(ours, task_id="t2")
        did(ours, lambda it: it.succeeded("cat", video("t2")))
    assert after_reconnecting(ours) == ("failed", "t-cat", None)
    record = record_of(ours, "task:t2")
    assert (record.state, record.holder) == ("accepted", "ours")


@pytest.mark.parametrize("ends", [True, False])
def test_a_failover_to_a_copy_from_before_the_owner_had_a_job_sent_again_does_not_free_it(
    ours: AssertingTable, other: JobTable, primary: Primary, ends: bool
) -> None:
    did(other, lambda it: it.intend(intent()))
    with primary.failover():
        did(other, lambda it: it.sending("cat", 1.0))
        did(other, lambda it: it.unknown("cat", DOUBT, 1.0))
        said(other, resubmit=True)
        did(ours, lambda it: it.intend(intent()))
        did(ours, lambda it: it.sending("cat", 3.0))
        if ends:
            did(ours, lambda it: it.unknown("cat", DOUBT, 3.0))
    assert after_reconnecting(ours) == (("unknown", None, None) if ends else ("sending", None, "ours"))


def test_a_doubt_is_remembered_however_many_jobs_are_let_go_after_it(
    ours: AssertingTable, primary: Primary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailuo_async._io.journal.asserting._REMEMBERED", 2)
    did(ours, lambda it: it.intend(intent()))
    with primary.failover():
        doubted(ours)
        for key in ("a", "b", "c"):
            did(ours, lambda it, key=key: it.intend(intent(key)))  # type: ignore[misc]
            did(ours, lambda it, key=key: it.release(key))  # type: ignore[misc]
    assert after_reconnecting(ours) == ("unknown", None, None)


def test_a_session_that_says_of_many_jobs_which_task_they_led_to_remembers_the_last_of_them(
    ours: AssertingTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailuo_async._io.journal.asserting._REMEMBERED", 2)
    for key in ("a", "b", "c"):
        doubted(ours, key)
        did(ours, lambda it, key=key: it.resolve(key, resubmit=False, task_id=key, forget=False))  # type: ignore[misc]
    assert list(ours._done) == ["b", "c"]


def test_a_damaged_row_ends_no_other_write_after_a_reconnect(
    ours: AssertingTable, primary: Primary, caplog: pytest.LogCaptureFixture
) -> None:
    accepted(ours, "damaged")
    did(ours, lambda it: it.intend(intent()))
    primary.change("facts = '{', holder = NULL, task_id = NULL", "identity = 'damaged'")
    for _ in range(2):
        primary.cut()
        assert after_reconnecting(ours) == ("intended", None, "ours")
    assert [record.message.count("job 'damaged' is damaged") for record in caplog.records] == [1]


def test_what_is_on_record_costs_no_statement_for_each_job_after_a_reconnect(
    ours: AssertingTable, primary: Primary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        ended(ours, f"j{number}")
    executed: list[str] = []
    execute = type(ours.database).execute

    def counted(self: object, sql: str, parameters: object = None) -> object:
        executed.append(sql)
        return execute(self, sql, parameters)  # type: ignore[arg-type]

    monkeypatch.setattr(type(ours.database), "execute", counted)
    primary.cut()
    reconnected(ours)
    assert len(executed) < 10


@pytest.mark.parametrize("ends", [False, True])
def test_a_doubt_that_waits_to_be_sent_again_and_is_lost_is_entered_again(
    ours: AssertingTable, primary: Primary, ends: bool
) -> None:
    did(ours, lambda it: it.intend(intent()))
    with primary.failover():
        did(ours, lambda it: it.sending("cat", 1.0))
        did(ours, lambda it: it.sent_again("cat", 1.0))
        if ends:
            did(ours, lambda it: it.back_in_doubt("cat", DOUBT))
    assert after_reconnecting(ours) == (("unknown", None, None) if ends else ("intended", None, "ours"))


def test_a_doubt_whose_second_sending_was_noted_twice_yields_to_its_owners_word(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary
) -> None:
    did(ours, lambda it: it.intend(attrs.evolve(intent(), price=PRICE)))
    did(ours, lambda it: it.sending("cat", 1.0))
    for _ in range(2):  # the answer to the first commit was lost
        did(ours, lambda it: it.sent_again("cat", 1.0))
    did(ours, lambda it: it.sending("cat", 2.0))
    did(ours, lambda it: it.unknown("cat", DOUBT, 2.0))
    said(theirs, resubmit=True)
    primary.cut()
    reconnected(theirs)
    assert after_reconnecting(ours)[:2] == ("intended", None)


def test_a_post_is_on_record_after_a_failover_though_it_was_noted_twice_that_the_one_before_was_not_accepted(
    ours: AssertingTable, primary: Primary
) -> None:
    sent(ours)
    primary.change("state = 'unknown', holder = NULL")  # another took it for left behind

    def seen_and_unsent(table: JobTable) -> None:
        table.follow("cat")
        table.unsent("cat", 999.0)

    not_committed(ours, seen_and_unsent)
    with primary.failover():
        assert did(ours, lambda it: bool(it.sending("cat", 1000.0)))
    assert after_reconnecting(ours) == ("sending", None, "ours")


def test_a_doubt_counts_in_later_sessions_though_the_commit_by_which_it_is_sent_again_was_cut(
    ours: AssertingTable,
) -> None:
    did(ours, lambda it: it.intend(attrs.evolve(intent(), price=PRICE)))
    did(ours, lambda it: it.sending("cat", 1.0))
    not_committed(ours, lambda it: it.sent_again("cat", 1.0))
    assert (record_of(ours).state, cost_before(ours)) == ("intended", PRICE)
    assert did(ours, lambda it: bool(it.sending("cat", 2.0)))


@pytest.mark.parametrize("ends", [True, False])
def test_the_doubts_of_a_job_that_a_failover_lost_count_all_the_same(
    ours: AssertingTable, primary: Primary, ends: bool
) -> None:
    did(ours, lambda it: it.intend(intent("dog")))
    with primary.failover():
        doubts_sent_again(ours, 2)
        if ends:
            did(ours, lambda it: it.back_in_doubt("cat", DOUBT))
    reconnected(ours)
    expected = ("unknown", PRICE) if ends else ("intended", 2 * PRICE)
    assert (record_of(ours).state, cost_before(ours)) == expected


def test_a_doubt_to_which_a_job_came_back_is_on_record_though_that_commit_was_cut(ours: AssertingTable) -> None:
    """A free job would be sent again."""
    doubts_sent_again(ours)
    not_committed(ours, lambda it: it.back_in_doubt("cat", DOUBT))
    assert (record_of(ours).state, cost_before(ours)) == ("unknown", None)


def test_a_doubt_to_which_a_job_came_back_yields_to_its_owners_word(
    ours: AssertingTable, theirs: AssertingTable, primary: Primary
) -> None:
    doubts_sent_again(ours)
    did(ours, lambda it: it.back_in_doubt("cat", DOUBT))
    said(theirs, resubmit=True)
    primary.cut()
    reconnected(theirs)
    assert after_reconnecting(ours)[:2] == ("intended", None)
    assert cost_before(ours) == PRICE
