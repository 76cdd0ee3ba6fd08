"""A failover to a standby: a server that is promoted has another name, and the team sends nothing there for a while."""

from __future__ import annotations

import math
import time
from pathlib import Path

import psycopg
import pytest

from hailuo_async._io.journal import postgres_connection, postgres_opening, team_row
from hailuo_async._io.journal.asserting import AssertingTable
from hailuo_async._io.journal.records import Permit
from hailuo_async._io.journal.table import open_table
from hailuo_async._io.journal.team import TeamTable
from hailuo_async._io.journal.team_values import Step, StepDone, Turn
from hailuo_async._rules.team import TeamState, load_state
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.settings import Dsn

from ...support.postgres import Postgres
from ...support.tables import LEASE_S, did, intent, record_of

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hailuo-async'"


def joined(server: Postgres, schema: str, holder: str) -> TeamTable:
    opened = postgres_opening.open_for_writing(Dsn(server.dsn(schema)), DEFAULT_BASE_URL)
    team = TeamTable(AssertingTable(opened, holder, LEASE_S))
    with team.jobs.transaction():
        team.join()
    return team


def now(team: TeamTable) -> float:
    return float(team.jobs.database.execute("SELECT :now AS now").fetchone()["now"])


def asked(team: TeamTable, key: str, at: float) -> StepDone:
    """Asks for the grant of a POST for the job ``key``."""
    did(team.jobs, lambda it: it.intend(intent(key)))
    with team.jobs.transaction():
        tried = team.step(Step(now=at, turns=(Turn(key, 999.0, at),)))
    return tried.outcome()


def state_of(team: TeamTable) -> TeamState:
    return load_state(team.row.with_state(team.reread(), is_all=True).state, team.row.rng)


def moved_elsewhere(postgres: Postgres, schema: str) -> None:
    """From here on the server is, to the team, another than the one on which it made its last step."""
    postgres.run(f"UPDATE {schema}.team SET server = 'another/00000001'")


@pytest.mark.slow
def test_a_standby_that_is_promoted_is_another_server_and_one_that_was_restarted_is_not() -> None:
    primary = Postgres.make()
    standby = primary.standby()
    try:
        a = joined(primary, "hailuo", "a")
        at = now(a)
        assert asked(a, "cat", at).permits == (Permit.GRANTED,)
        a.jobs.database.close()
        primary.stop()
        primary.start()
        b = joined(primary, "hailuo", "b")
        assert asked(b, "dog", at).permits == (Permit.GRANTED,)
        b.jobs.database.close()
        hosts = f"host={standby.folder},{primary.folder}&port={standby.port},{primary.port}"
        both = postgres_opening.open_for_writing(Dsn(f"postgresql://owner@/postgres?{hosts}"), DEFAULT_BASE_URL)
        assert both.server == b.jobs.database.server
        both.close()
        standby.promote()
        c = joined(standby, "hailuo", "c")
        assert asked(c, "cow", now(c)).permits == (Permit.LATER,)
        system, timeline = c.jobs.database.server.split("/")
        assert (f"{system}/00000001", timeline) == (a.jobs.database.server, "00000002")
        c.jobs.database.close()
    finally:
        standby.remove()
        primary.remove()


def test_nothing_is_sent_for_a_lease_after_a_failover(
    postgres: Postgres, schema: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team_row, "CLOCK_SET_S", 2 * LEASE_S)  # its steps may be of the time when that is over
    a, b = joined(postgres, schema, "a"), joined(postgres, schema, "b")
    moved_elsewhere(postgres, schema)
    at = now(a)
    assert asked(a, "cat", at).permits == (Permit.LATER,)
    assert "has failed over to a copy that may lack the last commits" in caplog.text
    over = state_of(a).submits_from
    assert at + LEASE_S <= over <= now(a) + LEASE_S
    assert state_of(b).submits_from == over  # the first to come has said so for all
    assert asked(a, "dog", over - 0.1).permits == (Permit.LATER,)
    assert asked(a, "cow", over).permits == (Permit.GRANTED,)
    assert len(caplog.records) == 1
    for team in (a, b):
        team.close()


def test_no_session_counts_as_dead_for_a_lease_after_a_failover_though_the_copy_lacks_its_renewals(
    postgres: Postgres, schema: str
) -> None:
    a, b = joined(postgres, schema, "a"), joined(postgres, schema, "b")
    a.jobs.judgement.begins_at = -math.inf  # the server has run for long
    postgres.run(f"UPDATE {schema}.member SET lease_until = 1 WHERE holder = 'b'")
    assert did(a.jobs, lambda _: a.members.dead()) == ("b",)
    moved_elsewhere(postgres, schema)
    assert did(a.jobs, lambda _: (a.reread(), a.members.dead())[1]) == ()
    for team in (a, b):
        team.close()


def test_nothing_is_sent_for_a_lease_after_a_failover_to_a_server_whose_clock_is_behind(
    postgres: Postgres, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The session does not know that yet: by its time the lease would be over."""
    a = joined(postgres, schema, "a")
    moved_elsewhere(postgres, schema)
    for key in ("cat", "dog"):
        done = asked(a, key, now(a) + 600.0)
        assert (done.permits, done.needs_refresh) == ((Permit.LATER,), True)
        a.refresh(None)
    assert asked(a, "cow", now(a)).permits == (Permit.LATER,)
    assert len(caplog.records) == 1
    a.close()


def test_a_session_that_opens_alone_on_a_copy_sends_nothing_for_a_lease_either(postgres: Postgres, schema: str) -> None:
    joined(postgres, schema, "a").close()
    moved_elsewhere(postgres, schema)
    b = joined(postgres, schema, "b")
    assert asked(b, "cat", now(b)).permits == (Permit.LATER,)
    b.close()


def test_a_journal_that_is_older_than_what_was_read_of_it_is_a_copy(postgres: Postgres, schema: str) -> None:
    a, b = joined(postgres, schema, "a"), joined(postgres, schema, "b")
    postgres.run(f"CREATE TABLE {schema}.snapshot AS SELECT * FROM {schema}.team")
    for key in ("cat", "dog"):
        assert asked(b, key, now(b)).permits == (Permit.GRANTED,)
        a.reread()
    postgres.run(f"DELETE FROM {schema}.team", f"INSERT INTO {schema}.team SELECT * FROM {schema}.snapshot")
    did(a.jobs, lambda it: it.intend(intent("cow")))
    postgres.run(CUT)
    for team in (a, b):
        with pytest.raises(psycopg.Error):
            team.reread()
    assert asked(a, "cow", now(a)).permits == (Permit.LATER,)
    for team in (a, b):
        team.close()


@pytest.mark.parametrize("fails_first", [False, True])
def test_a_journal_that_is_restored_from_a_dump_under_its_sessions_is_a_copy(
    postgres: Postgres, schema: str, fails_first: bool
) -> None:
    """It lacks a task that the session knows, and no connection is cut. A commit may fail while it is restored."""
    a = joined(postgres, schema, "a")
    postgres.run(f"CREATE TABLE {schema}.dump AS SELECT * FROM {schema}.team")
    assert asked(a, "cat", now(a)).permits == (Permit.GRANTED,)
    did(a.jobs, lambda it: it.accepted("cat", "t1", 1.0))
    a.reread()
    postgres.run(
        *(f"DELETE FROM {schema}.{table}" for table in ("team", "job")),
        f"INSERT INTO {schema}.team SELECT * FROM {schema}.dump",
    )
    if fails_first:
        a.forget()
    assert asked(a, "dog", now(a)).permits == (Permit.LATER,)
    assert did(a.jobs, lambda _: a.renew()).outcome().has_orphans  # it takes its own tasks up again
    assert record_of(a.jobs).task_id == "t1"
    a.close()


def restored(postgres: Postgres, schema: str) -> None:
    """Puts ``dump`` back in the place of the team's row, and forgets all jobs."""
    postgres.run(
        *(f"DELETE FROM {schema}.{table}" for table in ("team", "job")),
        f"INSERT INTO {schema}.team SELECT * FROM {schema}.dump",
    )


def test_a_journal_that_one_session_has_found_restored_is_a_copy_to_those_that_read_it_later(
    postgres: Postgres, schema: str
) -> None:
    """By then its steps have as high numbers as before."""
    a, b = joined(postgres, schema, "a"), joined(postgres, schema, "b")
    postgres.run(f"CREATE TABLE {schema}.dump AS SELECT * FROM {schema}.team")
    assert asked(b, "cat", now(b)).permits == (Permit.GRANTED,)
    did(b.jobs, lambda it: it.accepted("cat", "t1", 1.0))
    for team in (a, b):
        team.reread()
    restored(postgres, schema)
    for _ in range(3):
        assert asked(a, "dog", now(a)).permits == (Permit.LATER,)
    opens_at = state_of(a).submits_from
    for _ in range(3):  # once is enough: it does not go round
        for team in (b, a):
            with team.jobs.transaction():
                renewal = team.renew()
            renewal.outcome()
    assert (record_of(b.jobs).task_id, state_of(a).submits_from, b.jobs.database.connections) == ("t1", opens_at, 2)
    for team in (a, b):
        team.close()


def test_what_a_session_holds_off_stays_so_if_another_that_knows_nothing_of_it_is_quicker(
    postgres: Postgres, schema: str
) -> None:
    a = joined(postgres, schema, "a")
    postgres.run(f"CREATE TABLE {schema}.dump AS SELECT * FROM {schema}.team")
    assert asked(a, "cat", now(a)).permits == (Permit.GRANTED,)
    a.reread()
    restored(postgres, schema)
    c = joined(postgres, schema, "c")
    a.reread()
    assert asked(c, "cow", now(c)).permits == (Permit.GRANTED,)
    assert asked(a, "dog", now(a)).permits == (Permit.LATER,)
    assert asked(c, "hen", now(c)).permits == (Permit.LATER,)
    for team in (a, c):
        team.close()


def test_the_refresh_that_finds_the_journal_restored_says_that_it_may_have_missed_changes(
    postgres: Postgres, schema: str
) -> None:
    a = joined(postgres, schema, "a")
    a.reread()
    postgres.run(f"UPDATE {schema}.team SET version = 0")
    assert [refreshed.is_anew for _ in range(2) if (refreshed := a.refresh(None))] == [True, False]
    a.close()


@pytest.mark.parametrize("refreshes_first", [True, False])
def test_a_session_that_heard_nothing_of_what_was_lost_sees_by_its_new_connection_that_it_is_on_a_copy(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch, refreshes_first: bool
) -> None:
    """To it, the copy is what it read last. What was lost, another session knows."""
    a = joined(postgres, schema, "a")
    assert asked(a, "cat", now(a)).permits == (Permit.GRANTED,)
    a.reread()
    did(a.jobs, lambda it: it.intend(intent("dog")))
    monkeypatch.setattr(postgres_connection, "_SERVER", b"SELECT 'promoted/00000002' AS name")
    postgres.run(CUT)
    with pytest.raises(psycopg.Error):
        a.refresh(None)  # no transaction fails
    if refreshes_first and (refreshed := a.refresh(None)) is not None:
        assert load_state(refreshed.status.state, a.row.rng).submits_from > now(a)
    assert asked(a, "dog", now(a)).permits == (Permit.LATER,)
    a.close()


def test_a_session_takes_its_own_tasks_up_again_after_a_reconnect(postgres: Postgres, schema: str) -> None:
    """A copy may have a task as its own that it has waited for to the end, or never waited for."""
    a = joined(postgres, schema, "a")
    did(a.jobs, lambda it: it.adopt("t1", None))
    with a.jobs.transaction():
        assert a.members.take_over() == ([], ())
    for is_cut in (False, True):
        if is_cut:
            postgres.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hailuo-async'"
            )
            with pytest.raises(psycopg.Error):
                a.refresh(None)
        assert did(a.jobs, lambda _: a.renew()).outcome().has_orphans is is_cut
    with a.jobs.transaction():
        assert [record.task_id for record in a.members.take_over()[0]] == ["t1"]
    assert not did(a.jobs, lambda _: a.renew()).outcome().has_orphans
    a.close()


def test_a_file_that_was_put_back_holds_nothing_up_as_its_sessions_run_by_another_clock(tmp_path: Path) -> None:
    a = TeamTable(open_table(tmp_path / "batch.db", DEFAULT_BASE_URL, time.time, "a", LEASE_S, 1.0))
    with a.jobs.transaction():
        a.join()
    assert asked(a, "cat", 500.0).permits == (Permit.GRANTED,)
    a.reread()
    with a.jobs.transaction():
        a.jobs.database.execute("UPDATE team SET version = 0")
    assert asked(a, "dog", 500.0).permits == (Permit.GRANTED,)
    a.close()


def test_a_server_that_does_not_tell_its_name_holds_nothing_up(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailuo_async._io.journal.postgres_connection._SERVER", b"SELECT 1/0")
    a = joined(postgres, schema, "a")
    assert a.jobs.database.server == ""
    assert asked(a, "cat", now(a)).permits == (Permit.GRANTED,)
    a.close()
