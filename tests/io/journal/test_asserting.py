"""What live sessions write again after a failover to a copy that has lost the last commits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from decimal import Decimal

import anyio.to_thread
import attrs
import psycopg
import pytest

from hailuo_async._io.journal import postgres_opening
from hailuo_async._io.journal.asserting import AssertingTable
from hailuo_async._io.journal.database import SELECT
from hailuo_async._io.journal.kept import KeptBounds, KeptImage, KeptJob
from hailuo_async._io.journal.kept_table import KeptTable
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.team import TeamTable
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.errors import JobError, QueueFullError, SubmissionUnknownError, TaskFailedError
from hailuo_async.settings import Dsn

from ...support.postgres import Postgres
from ...support.tables import LEASE_S, did, intent, opened_at, record_of, sent, video

BASE_URL = "https://api.modellix.ai"


def test_a_live_session_says_again_what_a_failover_lost(postgres: Postgres, schema: str) -> None:
    database = postgres_opening.open_for_writing(Dsn(postgres.dsn(schema)), BASE_URL)
    table = AssertingTable(database, "ours", LEASE_S)
    for key in ("waits", "runs", "ended"):
        did(table, lambda it, key=key: it.intend(intent(key)))  # type: ignore[misc]
    for key in ("runs", "ended"):
        did(table, lambda it, key=key: it.sending(key, 1.0))  # type: ignore[misc]
        did(table, lambda it, key=key: it.accepted(key, f"t-{key}", 2.0))  # type: ignore[misc]
    did(table, lambda it: it.failed("ended", TaskFailedError(reason="dark", task_id="t-ended")))
    postgres.run(f"DELETE FROM {schema}.job")  # as a standby that had not seen the last commits
    cut(postgres)
    with pytest.raises(psycopg.Error):
        did(table, lambda it: it.find("runs"))
    found = {
        record.identity: (record.state.value, record.task_id, record.holder)
        for record in did(table, JobTable.unfinished)
    }
    assert found == {
        "waits": ("intended", None, "ours"),
        "runs": ("accepted", "t-runs", "ours"),
        "ended": ("accepted", "t-ended", "ours"),
    }
    table.close()


DOUBT = SubmissionUnknownError(reason="the connection was cut", key="cat", sent_at=1.0)


def cut(postgres: Postgres) -> None:
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hailuo-async'")


@contextlib.contextmanager
def failover(postgres: Postgres, schema: str) -> Iterator[None]:
    """The server has lost, at the end, what was committed inside, and every connection was cut."""
    postgres.run(f"CREATE TABLE {schema}.standby AS SELECT * FROM {schema}.job")
    yield
    postgres.run(
        f"DELETE FROM {schema}.job",
        f"INSERT INTO {schema}.job SELECT * FROM {schema}.standby",
    )
    cut(postgres)


def asserting(postgres: Postgres, schema: str, holder: str = "ours") -> AssertingTable:
    return AssertingTable(postgres_opening.open_for_writing(Dsn(postgres.dsn(schema)), BASE_URL), holder, LEASE_S)


def after_reconnecting(table: AssertingTable, identity: str) -> tuple[str, str | None, str | None]:
    """State, task and holder of the job."""
    with pytest.raises(psycopg.Error):
        did(table, lambda it: it.find(identity))
    record = did(table, lambda it: it.find(identity))
    assert record is not None
    return record.state.value, record.task_id, record.holder


@pytest.mark.anyio
async def test_a_session_that_closes_and_finds_its_connection_cut_writes_first_what_the_copy_lacks(
    postgres: Postgres, schema: str
) -> None:
    """Nothing waits to be written, and the cut is not known before: another session would send the job again."""
    dsn, off_loop = Dsn(postgres.dsn(schema)), anyio.to_thread.run_sync
    journal = await JournalWriter.open(dsn, base_url=BASE_URL, now=lambda: 1.0, holder="ours")
    await journal.intend(intent())
    lost = failover(postgres, schema)
    await off_loop(lost.__enter__)
    await journal.sending("cat", 1.0)
    await journal.note(journal.jobs.accepted, "cat", "t1", 2.0)
    await off_loop(lost.__exit__, None, None, None)
    await journal.aclose()
    row = await off_loop(postgres.run, f"SELECT state, task_id, holder FROM {schema}.job")
    assert row == [("accepted", "t1", None)]


def taken_up(table: AssertingTable, identity: str) -> None:
    sql = f"{SELECT} WHERE job.identity = :identity"
    did(table, lambda it: it.claim_row(it.database.execute(sql, {"identity": identity}).fetchone()))


def one_sends_what_the_other_takes_up_on_the_copy(postgres: Postgres, schema: str) -> tuple[AssertingTable, ...]:
    """Two sessions. That the first has taken up a free job and sends it is lost, and it is not connected again."""
    ours, theirs = asserting(postgres, schema), asserting(postgres, schema, "theirs")
    did(ours, lambda it: it.intend(intent()))
    did(ours, lambda it: it.release("cat"))
    with failover(postgres, schema):
        taken_up(ours, "cat")
        did(ours, lambda it: it.sending("cat", 1.0))
    with pytest.raises(psycopg.Error):
        did(theirs, lambda it: it.find("cat"))
    taken_up(theirs, "cat")
    return ours, theirs


def test_a_failover_does_not_free_a_job_of_another_session_that_was_sent_meanwhile(
    postgres: Postgres, schema: str
) -> None:
    theirs, ours = opened_at(postgres.dsn(schema), "theirs"), asserting(postgres, schema)
    did(theirs, lambda it: it.intend(intent()))
    theirs.close()
    with failover(postgres, schema):
        taken_up(ours, "cat")
        did(ours, lambda it: it.sending("cat", 1.0))
        did(ours, lambda it: it.accepted("cat", "t1", 2.0))
    assert after_reconnecting(ours, "cat") == ("accepted", "t1", "ours")
    ours.close()


def test_a_failover_does_not_free_a_job_whose_task_has_ended_meanwhile(postgres: Postgres, schema: str) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent("early")))
    for key in ("early", "late"):
        with failover(postgres, schema) if key == "late" else contextlib.nullcontext():
            did(table, lambda it, key=key: it.intend(intent(key)))  # type: ignore[misc]
            did(table, lambda it, key=key: it.sending(key, 1.0))  # type: ignore[misc]
            did(table, lambda it, key=key: it.accepted(key, f"t-{key}", 2.0))  # type: ignore[misc]
            did(table, lambda it, key=key: it.failed(key, TaskFailedError(reason="x", task_id=f"t-{key}")))  # type: ignore[misc]
    assert after_reconnecting(table, "late") == ("accepted", "t-late", None)  # any session asks how it ended
    assert record_of(table, "early").state == "failed"
    table.close()


@pytest.mark.parametrize("lost", ["the doubt", "the doubt and the permit", "all of it"])
def test_a_failover_does_not_free_a_job_whose_post_is_in_doubt(postgres: Postgres, schema: str, lost: str) -> None:
    table = asserting(postgres, schema)
    steps = [
        lambda it: it.intend(intent()),
        lambda it: it.sending("cat", 1.0),
        lambda it: it.unknown("cat", DOUBT, 1.0),
    ]
    kept = ("all of it", "the doubt and the permit", "the doubt").index(lost)
    for step in steps[:kept]:
        did(table, step)
    with failover(postgres, schema):
        for step in steps[kept:]:
            did(table, step)
    assert after_reconnecting(table, "cat") == ("unknown", None, None)
    table.close()


def test_a_doubt_is_on_record_also_if_a_failover_lost_that_its_post_had_left(postgres: Postgres, schema: str) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        did(table, lambda it: it.sending("cat", 1.0))
    assert after_reconnecting(table, "cat") == ("sending", None, "ours")
    did(table, lambda it: it.unknown("cat", DOUBT, 1.0))
    assert record_of(table).state == "unknown"
    table.close()


def test_a_doubt_is_on_record_although_another_session_has_taken_the_job_up_on_the_copy(
    postgres: Postgres, schema: str
) -> None:
    ours, theirs = one_sends_what_the_other_takes_up_on_the_copy(postgres, schema)
    with pytest.raises(psycopg.Error):  # the doubt comes while the database is away
        did(ours, lambda it: it.unknown("cat", DOUBT, 1.0))
    did(ours, lambda it: it.unknown("cat", DOUBT, 1.0))
    assert record_of(ours).state == "unknown"
    assert not did(theirs, lambda it: it.sending("cat", 2.0))
    for table in (ours, theirs):
        table.close()


def test_a_job_whose_post_is_on_its_way_is_not_sent_by_a_session_that_took_it_up_on_the_copy(
    postgres: Postgres, schema: str
) -> None:
    ours, theirs = one_sends_what_the_other_takes_up_on_the_copy(postgres, schema)
    assert after_reconnecting(ours, "cat") == ("sending", None, "ours")
    assert not did(theirs, lambda it: it.sending("cat", 2.0))
    did(ours, lambda it: it.unsent("cat", 1.0))
    cut(postgres)
    assert after_reconnecting(ours, "cat") == ("intended", None, "ours")
    for table in (ours, theirs):
        table.database.close()


def test_a_late_doubt_does_not_stop_a_job_that_its_owner_has_sent_again(postgres: Postgres, schema: str) -> None:
    ours, theirs = asserting(postgres, schema), asserting(postgres, schema, "theirs")
    sent(ours)
    did(ours, lambda it: it.unknown("cat", DOUBT, 999.0))
    did(theirs, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    did(ours, lambda it: it.unknown("cat", DOUBT, 999.0))  # made again: its answer was lost
    assert record_of(ours).state == "intended"
    for table in (ours, theirs):
        table.close()


def test_a_post_on_its_way_does_not_stop_a_job_that_its_owner_has_sent_again(postgres: Postgres, schema: str) -> None:
    ours, theirs = asserting(postgres, schema), opened_at(postgres.dsn(schema), "theirs")
    job = attrs.evolve(intent(), price=Decimal("0.3"))
    did(ours, lambda it: it.intend(job))
    did(ours, lambda it: it.sending("cat", 999.0))
    postgres.run(
        f"UPDATE {schema}.job SET state = 'unknown', holder = NULL, lease_until = NULL"
    )  # ours was taken for dead
    did(theirs, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    assert did(theirs, lambda it: it.intend(job)).ours
    cut(postgres)
    for table in (ours, theirs):
        with pytest.raises(psycopg.Error):
            did(table, lambda it: it.find("cat"))
    did(ours, lambda it: it.find("cat"))
    assert did(theirs, lambda it: it.sending("cat", 2000.0))
    for table in (ours, theirs):
        table.close()


def test_a_failover_that_lost_an_end_alone_leaves_no_task_that_no_session_waits_for(
    postgres: Postgres, schema: str
) -> None:
    table = asserting(postgres, schema)
    sent(table)
    did(table, lambda it: it.accepted("cat", "t1", 2.0))
    with failover(postgres, schema):
        did(table, lambda it: it.failed("cat", TaskFailedError(reason="x", task_id="t1")))
    assert after_reconnecting(table, "cat") == ("accepted", "t1", None)
    table.close()


def test_a_job_that_its_caller_took_back_is_not_entered_again_after_a_cut(postgres: Postgres, schema: str) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent()))
    did(table, lambda it: KeptTable(it).drop("cat"))
    cut(postgres)
    with pytest.raises(psycopg.Error):
        did(table, lambda it: it.find("cat"))
    assert did(table, lambda it: it.find("cat")) is None
    table.close()


def test_a_job_whose_claim_was_taken_back_is_not_entered_after_a_cut(postgres: Postgres, schema: str) -> None:
    table = asserting(postgres, schema)

    def spoilt(table: JobTable) -> None:
        table.intend(intent())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        did(table, spoilt)
    cut(postgres)
    with pytest.raises(psycopg.Error):
        did(table, lambda it: it.find("cat"))
    assert did(table, lambda it: it.find("cat")) is None
    table.close()


def test_a_job_for_which_there_was_no_room_is_not_entered_after_a_cut(postgres: Postgres, schema: str) -> None:
    table = asserting(postgres, schema)
    job = KeptJob("/api/v1/minimax/x/async", {}, {"first_frame_image": KeptImage(url="https://example.com/cat.jpg")})
    with pytest.raises(QueueFullError):
        did(table, lambda it: KeptTable(it).keep(intent(), job, {}, KeptBounds(0, 0)))
    cut(postgres)
    with pytest.raises(psycopg.Error):
        did(table, lambda it: it.find("cat"))
    assert did(table, lambda it: it.find("cat")) is None
    table.close()


def test_a_connection_that_was_cut_takes_nothing_back_that_the_owner_decided(postgres: Postgres, schema: str) -> None:
    table, owners = asserting(postgres, schema), opened_at(postgres.dsn(schema), "owner")
    sent(table)
    did(table, lambda it: it.accepted("cat", "t1", 2.0))
    did(table, lambda it: it.failed("cat", TaskFailedError(reason="x", task_id="t1")))
    did(owners, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    owners.close()
    cut(postgres)
    assert after_reconnecting(table, "cat") == ("intended", None, None)
    table.close()


@pytest.mark.parametrize(
    ("end", "stands"),
    [
        (lambda it: it.refused("cat", JobError(field="prompt", value="x", rule="must be allowed"), 1.0), "refused"),
        (lambda it: it.release("cat"), "intended"),
        (lambda it: KeptTable(it).drop("cat"), None),
    ],
)
def test_a_failover_that_lost_an_end_without_a_task_leaves_no_job_that_only_seems_to_be_worked_on(
    postgres: Postgres, schema: str, end: Callable[[JobTable], object], stands: str | None
) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        did(table, end)
        did(table, lambda it: it.release("cat"))  # as every job that ends without a video
    with pytest.raises(psycopg.Error):
        did(table, lambda it: it.find("cat"))
    record = did(table, lambda it: it.find("cat"))
    assert (record and record.state, record and record.holder) == (stands, None)
    table.close()


@pytest.mark.parametrize(("is_sent_again", "stands"), [(False, "intended"), (True, "sending")])
def test_a_post_that_was_refused_for_now_may_leave_later_although_a_failover_lost_the_refusal(
    postgres: Postgres, schema: str, is_sent_again: bool, stands: str
) -> None:
    table = asserting(postgres, schema)
    sent(table)
    with failover(postgres, schema):
        did(table, lambda it: it.unsent("cat", 999.0))
        if is_sent_again:
            did(table, lambda it: it.sending("cat", 1000.0))
    assert after_reconnecting(table, "cat") == (stands, None, "ours")
    if is_sent_again:
        did(table, lambda it: it.unsent("cat", 1000.0))
    assert did(table, lambda it: bool(it.sending("cat", 1001.0)))
    table.close()


def test_a_job_that_was_let_go_and_claimed_again_stays_claimed_after_a_cut(postgres: Postgres, schema: str) -> None:
    table = asserting(postgres, schema)
    for _ in range(2):
        did(table, lambda it: it.intend(intent()))
        did(table, lambda it: it.release("cat"))
    did(table, lambda it: it.intend(intent()))
    cut(postgres)
    assert after_reconnecting(table, "cat") == ("intended", None, "ours")
    table.close()


def test_a_failover_does_not_free_a_job_whose_task_is_no_longer_waited_for_here(
    postgres: Postgres, schema: str
) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        did(table, lambda it: it.sending("cat", 1.0))
        did(table, lambda it: it.accepted("cat", "t1", 2.0))
        did(table, lambda it: it.release("cat"))  # its time is up
    assert after_reconnecting(table, "cat") == ("accepted", "t1", None)
    table.close()


def test_a_failover_does_not_free_a_job_whose_task_was_taken_over(postgres: Postgres, schema: str) -> None:
    theirs, ours = opened_at(postgres.dsn(schema), "theirs"), asserting(postgres, schema)
    did(theirs, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        did(theirs, lambda it: it.sending("cat", 1.0))
        did(theirs, lambda it: it.accepted("cat", "t1", 2.0))
        did(theirs, lambda it: it.release("cat"))
        assert [record.task_id for record in did(ours, JobTable.take_over)] == ["t1"]
    theirs.database.close()
    assert after_reconnecting(ours, "cat") == ("accepted", "t1", "ours")
    ours.close()


@pytest.mark.parametrize("ends", [True, False])
def test_a_failover_does_not_free_a_job_that_its_owner_had_sent_again(
    postgres: Postgres, schema: str, ends: bool
) -> None:
    """What its earlier POST cost stands in its row, as if its owner had decided on the last one."""
    table = asserting(postgres, schema)
    asked = attrs.evolve(intent(), price=Decimal("0.3"))
    did(table, lambda it: it.intend(asked))
    did(table, lambda it: it.sending("cat", 1.0))
    did(table, lambda it: it.unknown("cat", DOUBT, 1.0))
    did(table, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    did(table, lambda it: it.intend(asked))
    with failover(postgres, schema):
        did(table, lambda it: it.sending("cat", 3.0))
        if ends:
            did(table, lambda it: it.unknown("cat", DOUBT, 3.0))
    assert after_reconnecting(table, "cat") == (("unknown", None, None) if ends else ("sending", None, "ours"))
    table.close()


def test_a_job_that_was_in_doubt_once_stays_with_the_session_that_sends_it_again(
    postgres: Postgres, schema: str
) -> None:
    table, owners = asserting(postgres, schema), opened_at(postgres.dsn(schema), "owner")
    sent(table)
    did(table, lambda it: it.unknown("cat", DOUBT, 999.0))
    did(owners, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    owners.close()
    did(table, lambda it: it.intend(intent()))
    cut(postgres)
    assert after_reconnecting(table, "cat") == ("intended", None, "ours")
    table.close()


def test_a_job_that_was_let_go_before_it_was_accepted_is_free_although_a_failover_lost_that(
    postgres: Postgres, schema: str
) -> None:
    table = asserting(postgres, schema)
    sent(table)
    with failover(postgres, schema):
        did(table, lambda it: it.unsent("cat", 999.0))
        did(table, lambda it: it.release("cat"))
    assert after_reconnecting(table, "cat") == ("intended", None, None)
    table.close()


def ended(table: AssertingTable, key: str = "cat") -> None:
    did(table, lambda it: it.intend(intent(key)))
    did(table, lambda it: it.sending(key, 1.0))
    did(table, lambda it: it.accepted(key, f"t-{key}", 2.0))
    did(table, lambda it: it.failed(key, TaskFailedError(reason="x", task_id=f"t-{key}")))


def doubted(table: AssertingTable, key: str = "cat", sent_at: float = 1.0) -> None:
    did(table, lambda it: it.intend(intent(key)))
    did(table, lambda it: it.sending(key, sent_at))
    did(table, lambda it: it.unknown(key, DOUBT, sent_at))


def reconnected(table: AssertingTable) -> None:
    with pytest.raises(psycopg.Error):
        did(table, lambda it: it.find("cat"))
    did(table, lambda it: it.find("cat"))


def test_a_job_that_its_owner_has_forgotten_does_not_come_back_after_a_cut(postgres: Postgres, schema: str) -> None:
    ours, theirs = asserting(postgres, schema), opened_at(postgres.dsn(schema), "theirs")
    team = TeamTable(ours)
    did(ours, lambda _: team.join())
    for key in ("cat", "dog"):
        doubted(ours, key)
    did(theirs, lambda it: it.resolve("cat", resubmit=False, task_id=None, forget=True))
    did(ours, lambda _: team.renew()).outcome()
    theirs.database.close()
    postgres.run(f"DELETE FROM {schema}.job")  # as a standby that had not seen the last commits
    cut(postgres)
    assert after_reconnecting(ours, "dog")[0] == "unknown"
    assert did(ours, lambda it: it.find("cat")) is None
    ours.close()


@pytest.mark.parametrize("sees", [lambda it: it.intend(intent()), lambda it: it.follow("cat")])
@pytest.mark.parametrize("has_ended", [False, True])
def test_a_job_that_another_session_has_taken_up_and_its_owner_has_forgotten_does_not_come_back_after_a_cut(
    postgres: Postgres, schema: str, sees: Callable[[JobTable], object], has_ended: bool
) -> None:
    """It would be held, without an end, by a session that no longer works on it."""
    ours, theirs = asserting(postgres, schema), asserting(postgres, schema, "theirs")
    did(ours, lambda it: it.intend(intent()))
    postgres.run(f"UPDATE {schema}.job SET holder = NULL")  # our lease has run out
    taken_up(theirs, "cat")
    assert not did(ours, lambda it: bool(it.sending("cat", 1.0)))
    if not has_ended:
        did(ours, sees)
    ended(theirs)
    if has_ended:
        did(ours, sees)
    did(theirs, lambda it: it.resolve("cat", resubmit=False, task_id=None, forget=True))
    theirs.database.close()
    cut(postgres)
    reconnected(ours)
    assert did(ours, lambda it: it.find("cat")) is None
    ours.close()


@pytest.mark.parametrize("end", [ended, doubted])
def test_a_forgotten_job_that_is_given_again_gets_neither_its_old_task_nor_its_old_doubt_after_a_cut(
    postgres: Postgres, schema: str, end: Callable[[AssertingTable], None]
) -> None:
    """A doubt about its new POST would be hidden behind the old video."""
    ours, theirs = asserting(postgres, schema), asserting(postgres, schema, "theirs")
    team = TeamTable(ours)
    did(ours, lambda _: team.join())
    end(ours)
    did(theirs, lambda it: it.resolve("cat", resubmit=False, task_id=None, forget=True))
    doubted(theirs, sent_at=2.0)
    did(ours, lambda _: team.renew()).outcome()
    theirs.database.close()
    cut(postgres)
    assert after_reconnecting(ours, "cat") == ("unknown", None, None)
    record = did(ours, lambda it: it.find("cat"))
    assert record is not None
    assert record.sent_at == 2.0
    ours.close()


def test_a_failover_does_not_free_a_job_of_which_its_owner_has_said_which_task_it_led_to(
    postgres: Postgres, schema: str
) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent("cat")))
    with failover(postgres, schema):
        did(table, lambda it: it.sending("cat", 1.0))
        did(table, lambda it: it.unknown("cat", DOUBT, 1.0))
        did(table, lambda it: it.resolve("cat", resubmit=False, task_id="t1", forget=False))
    assert after_reconnecting(table, "cat") == ("accepted", "t1", None)
    table.close()


@pytest.mark.parametrize("end", [ended, doubted])
def test_another_job_that_has_the_key_of_a_forgotten_one_gets_neither_its_task_nor_its_doubt(
    postgres: Postgres, schema: str, end: Callable[[AssertingTable], None]
) -> None:
    ours, theirs = asserting(postgres, schema), opened_at(postgres.dsn(schema), "theirs")
    end(ours)
    did(theirs, lambda it: it.resolve("cat", resubmit=False, task_id=None, forget=True))
    did(theirs, lambda it: it.intend(intent("cat", "another")))
    theirs.database.close()
    cut(postgres)
    assert after_reconnecting(ours, "cat") == ("intended", None, "theirs")
    ours.close()


def test_another_job_that_has_the_key_on_the_copy_does_not_get_the_task_of_a_job_at_work(
    postgres: Postgres, schema: str
) -> None:
    ours, theirs = asserting(postgres, schema), asserting(postgres, schema, "theirs")
    with failover(postgres, schema):
        sent(ours)
        did(ours, lambda it: it.accepted("cat", "t1", 2.0))
    reconnected(theirs)
    did(theirs, lambda it: it.intend(intent("cat", "another")))
    assert after_reconnecting(ours, "cat") == ("intended", None, "theirs")
    for table in (ours, theirs):
        table.close()


def test_a_failover_does_not_free_a_job_whose_doubt_is_older_than_an_end_that_is_on_record(
    postgres: Postgres, schema: str
) -> None:
    """Another session took the last task over, and has noted on the copy how that ended."""
    ours, theirs = asserting(postgres, schema), asserting(postgres, schema, "theirs")
    sent(ours, "last")
    did(ours, lambda it: it.accepted("last", "t-last", 2.0))
    did(ours, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        doubted(ours)
        did(ours, lambda it: it.release("last"))
        did(theirs, JobTable.take_over)
    reconnected(theirs)
    did(theirs, lambda it: it.failed("last", TaskFailedError(reason="x", task_id="t-last")))
    assert after_reconnecting(ours, "cat") == ("unknown", None, None)
    assert record_of(ours, "last").state == "failed"
    for table in (ours, theirs):
        table.close()


def test_a_failover_loses_no_task_of_a_job_that_was_in_doubt_before_its_owner_had_it_sent_again(
    postgres: Postgres, schema: str
) -> None:
    table = asserting(postgres, schema)
    doubted(table, "again")
    did(table, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        doubted(table)
        did(table, lambda it: it.resolve("again", resubmit=True, task_id=None, forget=False))
        ended(table, "again")
    assert after_reconnecting(table, "cat") == ("unknown", None, None)
    assert record_of(table, "again").task_id == "t-again"
    table.close()


@pytest.mark.parametrize("word", ["resubmit", "forget"])
def test_a_failover_that_lost_the_owners_word_on_a_failed_job_loses_no_task_that_has_ended_since(
    postgres: Postgres, schema: str, word: str
) -> None:
    table, said = asserting(postgres, schema), {"resubmit": False, "task_id": None, "forget": False, word: True}
    ended(table)
    with failover(postgres, schema):
        did(table, lambda it: it.resolve("cat", **said))  # type: ignore[arg-type]
        did(table, lambda it: it.intend(intent()))
        did(table, lambda it: it.sending("cat", 3.0))
        did(table, lambda it: it.accepted("cat", "t2", 4.0))
        did(table, lambda it: it.succeeded("cat", video("t2")))
    assert after_reconnecting(table, "cat") == ("failed", "t-cat", None)
    record = record_of(table, "task:t2")
    assert (record.state, record.holder) == ("accepted", "ours")
    table.close()


@pytest.mark.parametrize("ends", [True, False])
def test_a_failover_to_a_copy_from_before_the_owner_had_a_job_sent_again_does_not_free_it(
    postgres: Postgres, schema: str, ends: bool
) -> None:
    ours, theirs = asserting(postgres, schema), opened_at(postgres.dsn(schema), "theirs")
    did(theirs, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        did(theirs, lambda it: it.sending("cat", 1.0))
        did(theirs, lambda it: it.unknown("cat", DOUBT, 1.0))
        did(theirs, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
        did(ours, lambda it: it.intend(intent()))
        did(ours, lambda it: it.sending("cat", 3.0))
        if ends:
            did(ours, lambda it: it.unknown("cat", DOUBT, 3.0))
    theirs.database.close()
    assert after_reconnecting(ours, "cat") == (("unknown", None, None) if ends else ("sending", None, "ours"))
    ours.close()


def test_a_doubt_is_remembered_however_many_jobs_are_let_go_after_it(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailuo_async._io.journal.asserting._REMEMBERED", 2)
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        doubted(table)
        for key in ("a", "b", "c"):
            did(table, lambda it, key=key: it.intend(intent(key)))  # type: ignore[misc]
            did(table, lambda it, key=key: it.release(key))  # type: ignore[misc]
    assert after_reconnecting(table, "cat") == ("unknown", None, None)
    table.close()


def test_a_session_that_says_of_many_jobs_which_task_they_led_to_remembers_the_last_of_them(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailuo_async._io.journal.asserting._REMEMBERED", 2)
    table = asserting(postgres, schema)
    for key in ("a", "b", "c"):
        doubted(table, key)
        did(table, lambda it, key=key: it.resolve(key, resubmit=False, task_id=key, forget=False))  # type: ignore[misc]
    assert list(table._done) == ["b", "c"]
    table.close()


def test_a_damaged_row_ends_no_other_write_after_a_reconnect(
    postgres: Postgres, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = asserting(postgres, schema)
    sent(table, "damaged")
    did(table, lambda it: it.accepted("damaged", "t1", 2.0))
    did(table, lambda it: it.intend(intent()))
    postgres.run(f"UPDATE {schema}.job SET facts = '{{', holder = NULL, task_id = NULL WHERE identity = 'damaged'")
    for _ in range(2):
        cut(postgres)
        assert after_reconnecting(table, "cat") == ("intended", None, "ours")
    assert [record.message.count("job 'damaged' is damaged") for record in caplog.records] == [1]
    table.close()


def test_what_is_on_record_costs_no_statement_for_each_job_after_a_reconnect(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = asserting(postgres, schema)
    for number in range(30):
        ended(table, f"j{number}")
    executed: list[str] = []
    execute = type(table.database).execute

    def counted(self: object, sql: str, parameters: object = None) -> object:
        executed.append(sql)
        return execute(self, sql, parameters)  # type: ignore[arg-type]

    monkeypatch.setattr(type(table.database), "execute", counted)
    cut(postgres)
    reconnected(table)
    assert len(executed) < 10
    table.close()


@pytest.mark.parametrize("ends", [False, True])
def test_a_doubt_that_waits_to_be_sent_again_and_is_lost_is_entered_again(
    postgres: Postgres, schema: str, ends: bool
) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent()))
    with failover(postgres, schema):
        did(table, lambda it: it.sending("cat", 1.0))
        did(table, lambda it: it.sent_again("cat", 1.0))
        if ends:
            did(table, lambda it: it.back_in_doubt("cat", DOUBT))
    assert after_reconnecting(table, "cat") == (("unknown", None, None) if ends else ("intended", None, "ours"))
    table.close()


def test_a_doubt_whose_second_sending_was_noted_twice_yields_to_its_owners_word(
    postgres: Postgres, schema: str
) -> None:
    ours, theirs = asserting(postgres, schema), asserting(postgres, schema, "theirs")
    did(ours, lambda it: it.intend(attrs.evolve(intent(), price=Decimal("0.3240"))))
    did(ours, lambda it: it.sending("cat", 1.0))
    for _ in range(2):  # the answer to the first commit was lost
        did(ours, lambda it: it.sent_again("cat", 1.0))
    did(ours, lambda it: it.sending("cat", 2.0))
    did(ours, lambda it: it.unknown("cat", DOUBT, 2.0))
    did(theirs, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    cut(postgres)
    reconnected(theirs)
    assert after_reconnecting(ours, "cat")[:2] == ("intended", None)
    for table in (ours, theirs):
        table.close()


PRICE = Decimal("0.3240")


def doubts_sent_again(table: AssertingTable, count: int = 1) -> None:
    did(table, lambda it: it.intend(attrs.evolve(intent(), price=PRICE)))
    for number in range(1, count + 1):
        did(table, lambda it, at=float(number): it.sending("cat", at))  # type: ignore[misc]
        did(table, lambda it, at=float(number): it.sent_again("cat", at))  # type: ignore[misc]


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


def test_a_post_is_on_record_after_a_failover_though_it_was_noted_twice_that_the_one_before_was_not_accepted(
    postgres: Postgres, schema: str
) -> None:
    table = asserting(postgres, schema)
    sent(table)
    postgres.run(f"UPDATE {schema}.job SET state = 'unknown', holder = NULL")  # another took it for left behind

    def seen_and_unsent(table: JobTable) -> None:
        table.follow("cat")
        table.unsent("cat", 999.0)

    not_committed(table, seen_and_unsent)
    with failover(postgres, schema):
        assert did(table, lambda it: bool(it.sending("cat", 1000.0)))
    assert after_reconnecting(table, "cat") == ("sending", None, "ours")
    table.close()


def cost_before(table: AssertingTable) -> Decimal | None:
    return record_of(table).cost_before


def test_a_doubt_counts_in_later_sessions_though_the_commit_by_which_it_is_sent_again_was_cut(
    postgres: Postgres, schema: str
) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(attrs.evolve(intent(), price=PRICE)))
    did(table, lambda it: it.sending("cat", 1.0))
    not_committed(table, lambda it: it.sent_again("cat", 1.0))
    assert (record_of(table).state, cost_before(table)) == ("intended", PRICE)
    assert did(table, lambda it: bool(it.sending("cat", 2.0)))
    table.close()


@pytest.mark.parametrize("ends", [True, False])
def test_the_doubts_of_a_job_that_a_failover_lost_count_all_the_same(
    postgres: Postgres, schema: str, ends: bool
) -> None:
    table = asserting(postgres, schema)
    did(table, lambda it: it.intend(intent("dog")))
    with failover(postgres, schema):
        doubts_sent_again(table, 2)
        if ends:
            did(table, lambda it: it.back_in_doubt("cat", DOUBT))
    reconnected(table)
    expected = ("unknown", PRICE) if ends else ("intended", 2 * PRICE)
    assert (record_of(table).state, cost_before(table)) == expected
    table.close()


def test_a_doubt_to_which_a_job_came_back_is_on_record_though_that_commit_was_cut(
    postgres: Postgres, schema: str
) -> None:
    """A free job would be sent again."""
    table = asserting(postgres, schema)
    doubts_sent_again(table)
    not_committed(table, lambda it: it.back_in_doubt("cat", DOUBT))
    assert (record_of(table).state, cost_before(table)) == ("unknown", None)
    table.close()


def test_a_doubt_to_which_a_job_came_back_yields_to_its_owners_word(postgres: Postgres, schema: str) -> None:
    ours, theirs = asserting(postgres, schema), asserting(postgres, schema, "theirs")
    doubts_sent_again(ours)
    did(ours, lambda it: it.back_in_doubt("cat", DOUBT))
    did(theirs, lambda it: it.resolve("cat", resubmit=True, task_id=None, forget=False))
    cut(postgres)
    reconnected(theirs)
    assert after_reconnecting(ours, "cat")[:2] == ("intended", None)
    assert cost_before(ours) == PRICE
    for table in (ours, theirs):
        table.close()
