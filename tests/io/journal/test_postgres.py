"""A journal in a PostgreSQL database: what is refused when it is opened, and what it does when its server fails."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import signal
import threading
from urllib.parse import quote

import psycopg
import pytest
from anyio import to_thread

from hailuo_async import AsyncSession, ImageToVideo, Journal, Success
from hailuo_async._io.journal import commits, postgres_opening, writer
from hailuo_async._io.journal import postgres as engine
from hailuo_async._io.journal.table import JobTable
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator
from hailuo_async.errors import JournalError
from hailuo_async.settings import Dsn

from ...support.postgres import PASSWORD, QUOTED_PASSWORD, Postgres
from ...support.relay import relayed
from ...support.streams import collect
from ...support.tables import LEASE_S, did, intent, opened_at, record_of, sent


def refusal(dsn: str, base_url: str = DEFAULT_BASE_URL) -> str:
    """Why a journal cannot be opened for writing."""
    with pytest.raises(JournalError) as caught:
        postgres_opening.open_for_writing(Dsn(dsn), base_url)
    assert PASSWORD not in str(caught.value)
    assert QUOTED_PASSWORD not in str(caught.value)
    return caught.value.reason


# --- What is refused --------------------------------------------------------------------------------------------------


def test_an_unknown_host_is_named(postgres: Postgres) -> None:
    dsn = f"postgresql://owner:{QUOTED_PASSWORD}@no-such-host.invalid/postgres"
    assert refusal(dsn).startswith("its host is not known: look at the name in the DSN")


def test_a_server_that_is_not_there_cannot_be_reached(postgres: Postgres) -> None:
    assert refusal(postgres.tcp_dsn(port=1)).startswith("the server cannot be reached, or did not answer")


def test_a_wrong_password_is_said_and_not_shown(postgres: Postgres) -> None:
    reason = refusal(postgres.tcp_dsn("wr0ng-one"))
    assert reason.startswith("the server does not let this user in: look at the user and its password")
    assert "wr0ng-one" not in reason


def test_a_password_opens_a_journal_and_stands_nowhere(postgres: Postgres, schema: str) -> None:
    table = opened_at(postgres.tcp_dsn(schema=schema))
    told = f"{table!r} {table.database.name} {table.database.explain(psycopg.OperationalError(PASSWORD))}"
    table.close()
    assert PASSWORD not in told
    assert QUOTED_PASSWORD not in told


def test_an_unknown_database_is_named(postgres: Postgres) -> None:
    assert refusal(postgres.dsn(database="nowhere")).startswith("there is no such database: create it first")


def test_a_user_without_the_right_to_create_is_told_what_to_grant(postgres: Postgres, schema: str) -> None:
    user = f"{schema}_guest"
    postgres.run(f"CREATE ROLE {user} LOGIN")
    reason = refusal(postgres.dsn(schema).replace("owner@", f"{user}@"))
    postgres.run(f"DROP ROLE {user}")
    assert reason.startswith("this user may not do that: GRANT it CREATE on the database")


def test_a_server_without_tls_says_so_to_who_demands_it(postgres: Postgres) -> None:
    assert refusal(f"{postgres.tcp_dsn()}&sslmode=require").startswith("its TLS fails: look at sslmode and sslrootcert")


def test_a_user_without_the_right_to_use_the_schema_is_told_what_to_grant(postgres: Postgres, schema: str) -> None:
    user = f"{schema}_guest"
    opened_at(postgres.dsn(schema)).close()
    postgres.run(f"CREATE ROLE {user} LOGIN")
    reason = refusal(postgres.dsn(schema).replace("owner@", f"{user}@"))
    postgres.run(f"DROP ROLE {user}")
    assert reason.startswith("its tables are gone, or this user may not use their schema: GRANT it USAGE on that")


def test_a_user_who_may_only_read_and_write_the_tables_of_another_works_with_them(
    postgres: Postgres, schema: str
) -> None:
    user = f"{schema}_guest"
    opened_at(postgres.dsn(schema)).close()
    rights = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}"
    postgres.run(f"CREATE ROLE {user} LOGIN", f"GRANT USAGE ON SCHEMA {schema} TO {user}", rights)
    table = opened_at(postgres.dsn(schema).replace("owner@", f"{user}@"))
    sent(table)
    table.close()
    postgres.run(f"DROP SCHEMA {schema} CASCADE", f"DROP ROLE {user}")


def test_a_pooler_that_takes_no_options_is_named(postgres: Postgres, schema: str) -> None:
    database = engine.PostgresDatabase(Dsn(postgres.dsn(schema)))
    fault = psycopg.OperationalError("FATAL:  unsupported startup parameter: options")
    assert database.explain(fault).reason.startswith("a pooler before it takes no options: leave them out")


@pytest.mark.parametrize(
    ("words", "is_advised"),
    [
        ("server does not support SSL, but SSL was required", True),
        ("SSL error: certificate verify failed", True),
        ("SSL error: tlsv1 alert unknown ca", True),
        ('root certificate file "/root.crt" does not exist', True),
        ("SSL connection has been closed unexpectedly", False),
        ("SSL SYSCALL error: EOF detected", False),
        ("SSL error: unexpected eof while reading", False),
    ],
)
def test_a_server_that_ends_its_connections_is_away_and_its_tls_does_not_fail(words: str, is_advised: bool) -> None:
    database = engine.PostgresDatabase(Dsn("postgresql://host/name"))
    reason = database.explain(psycopg.OperationalError(words)).reason
    told = "its TLS fails: look at sslmode" if is_advised else "the server cannot be reached, or did not answer"
    assert reason.startswith(told)


def test_a_schema_that_was_made_for_a_user_without_that_right_is_enough(postgres: Postgres, schema: str) -> None:
    user = f"{schema}_guest"
    postgres.run(f"CREATE ROLE {user} LOGIN", f"CREATE SCHEMA {schema} AUTHORIZATION {user}")
    table = opened_at(postgres.dsn(schema).replace("owner@", f"{user}@"))
    sent(table)
    table.close()
    postgres.run(f"DROP SCHEMA {schema} CASCADE", f"DROP ROLE {user}")


def test_another_programs_schema_is_left_as_it_is(postgres: Postgres, schema: str) -> None:
    postgres.run(f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.theirs (x int)")
    assert refusal(postgres.dsn(schema)).startswith(f"its schema {schema} belongs to another program: name one")
    assert postgres.run(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'") == [("theirs",)]


@pytest.mark.parametrize("named", ["my-app", '"my app"', '"$user",public', "übung", "2nd"])
def test_a_schema_whose_name_is_not_understood_is_refused_and_no_other_is_used(postgres: Postgres, named: str) -> None:
    """Two programs that each name their own would be one team."""
    dsn = postgres.dsn(quote(named))
    assert refusal(dsn).startswith("its search_path names no schema of ASCII letters, digits and _: name one")


def test_a_newer_schema_is_left_as_it_is(postgres: Postgres, schema: str) -> None:
    opened_at(postgres.dsn(schema)).close()
    postgres.run(f"UPDATE {schema}.hailuo_async SET version = 999")
    reason = refusal(postgres.dsn(schema))
    assert reason.startswith("a newer version of this library made it (schema 999, known up to ")


def test_a_journal_of_another_service_is_refused(postgres: Postgres, schema: str) -> None:
    opened_at(postgres.dsn(schema)).close()
    reason = refusal(postgres.dsn(schema), "http://localhost:8000")
    assert reason == f"it belongs to {DEFAULT_BASE_URL}, and this session to http://localhost:8000: give each its own"


def test_nothing_is_made_outside_the_schema(postgres: Postgres, schema: str) -> None:
    def others() -> set[tuple[str, ...]]:
        sql = f"SELECT schemaname, tablename FROM pg_tables WHERE schemaname <> '{schema}'"
        return set(postgres.run(sql)) | set(postgres.run("SELECT nspname FROM pg_namespace"))

    before = others()
    opened_at(postgres.dsn(schema)).close()
    assert others() - before == {(schema,)}


def test_a_reader_of_a_schema_that_no_session_used_says_so(postgres: Postgres, schema: str) -> None:
    with pytest.raises(JournalError, match=f"its schema {schema} is empty: no session has used it yet"):
        Journal.open(postgres.dsn(schema))


def test_other_tools_read_what_a_session_wrote_and_can_change_nothing(postgres: Postgres, schema: str) -> None:
    table = opened_at(postgres.dsn(schema))
    sent(table)
    with Journal.open(postgres.dsn(schema)) as journal:
        assert [(record.identity, record.state) for record in journal.records(state="sending")] == [("cat", "sending")]
        assert journal.count()[record_of(table).state] == 1
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            journal._database.execute("DELETE FROM job")
    table.close()


# --- With any encoding -----------------------------------------------------------------------------------------------


KEY = "ein Käfer 🐞"


def test_what_the_environment_says_of_encodings_changes_nothing(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    table = opened_at(postgres.dsn(schema))
    did(table, lambda it: it.intend(intent(KEY)))
    assert record_of(table, KEY).key == KEY
    table.close()


@pytest.mark.slow
def test_a_database_without_an_encoding_holds_every_key_and_one_of_few_letters_is_refused(postgres: Postgres) -> None:
    for encoding in ("sql_ascii", "latin1"):
        postgres.run(f"CREATE DATABASE {encoding} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    table = opened_at(postgres.dsn(database="sql_ascii"))
    did(table, lambda it: it.intend(intent(KEY)))
    assert record_of(table, KEY).key == KEY
    table.close()

    with pytest.raises(JournalError, match="its encoding is LATIN1, which cannot hold every text"):
        opened_at(postgres.dsn(database="latin1"))
    for encoding in ("sql_ascii", "latin1"):
        postgres.run(f"DROP DATABASE {encoding} WITH (FORCE)")


# --- What a transaction costs -----------------------------------------------------------------------------------------


def test_a_post_costs_one_round_trip_before_it_leaves(postgres: Postgres, schema: str) -> None:
    table = opened_at(postgres.dsn(schema))
    did(table, lambda it: it.intend(intent()))
    waits: list[int] = []
    with table.transaction():
        may_send = table.sending("cat", 1.0)
        assert isinstance(table.database, engine.PostgresDatabase)
        waits.append(table.database._waited)
    assert may_send
    assert waits == [0]
    table.close()


# --- When the server fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_looked_at", [True, False])
def test_a_statement_larger_than_a_socket_holds_is_sent_whole(
    postgres: Postgres, schema: str, *, is_looked_at: bool
) -> None:
    table, urls = opened_at(postgres.dsn(schema=schema)), b"u" * 3_000_000
    with contextlib.closing(table), table.transaction():
        rows = table.database.execute("INSERT INTO place (urls) VALUES (:urls) RETURNING seq", {"urls": urls})
        assert not is_looked_at or rows.fetchone() is not None
    assert postgres.run(f'SELECT length(urls) FROM "{schema}".place') == [(len(urls),)]


def test_a_server_that_became_a_standby_is_an_outage_and_a_key_that_is_there_already_is_none(
    postgres: Postgres, schema: str
) -> None:
    table = opened_at(postgres.dsn(schema))
    faults = (psycopg.errors.ReadOnlySqlTransaction(), psycopg.errors.UniqueViolation())
    assert [table.database.is_outage(fault) for fault in faults] == [True, False]
    table.close()


def test_a_lost_connection_is_an_outage_and_the_next_transaction_makes_another(postgres: Postgres, schema: str) -> None:
    table = opened_at(postgres.dsn(schema))
    sent(table)
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hailuo-async'")
    with pytest.raises(psycopg.Error) as caught:
        did(table, lambda it: it.find("cat"))
    assert table.database.is_outage(caught.value)
    assert did(table, lambda it: it.find("cat")) is not None
    table.close()


def test_a_statement_that_the_server_has_forgotten_is_an_outage_that_another_connection_ends(
    postgres: Postgres, schema: str
) -> None:
    table = opened_at(postgres.dsn(schema))
    did(table, lambda it: it.intend(intent()))
    for _ in range(10):
        assert record_of(table).identity == "cat"  # so often that it is prepared
    table.database.execute("DO 'BEGIN EXECUTE ''DEALLOCATE ALL''; END'")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName) as caught:
        did(table, lambda it: it.find("cat"))
    assert table.database.is_outage(caught.value)
    assert record_of(table).identity == "cat"
    table.close()


@pytest.mark.slow
def test_a_session_that_falls_silent_between_two_statements_is_ended_by_one_that_waits_for_its_lock(
    postgres: Postgres, schema: str
) -> None:
    silent, other = opened_at(postgres.dsn(schema)), opened_at(postgres.dsn(schema), "theirs")
    transaction = silent.transaction()
    transaction.__enter__()
    silent.count_gone()  # takes the lock of the team's row,
    assert silent.database.execute("SELECT 1 AS one").fetchone()["one"] == 1  # for certain, and
    silent.database.execute("SELECT 2")  # the server waits for what follows this

    with pytest.raises(psycopg.errors.LockNotAvailable) as waited:
        did(other, lambda it: it.count_gone())
    assert other.database.is_outage(waited.value)
    did(other, lambda it: it.count_gone())

    with pytest.raises(psycopg.OperationalError) as lost:
        transaction.__exit__(None, None, None)
    assert silent.database.is_outage(lost.value)
    did(silent, lambda it: it.count_gone())
    silent.close()
    other.close()


def test_what_is_refused_inside_a_transaction_takes_all_of_it_back(postgres: Postgres, schema: str) -> None:
    table = opened_at(postgres.dsn(schema))

    def work(table: JobTable) -> None:
        table.intend(intent())
        table.database.execute("DELETE FROM nowhere")

    with pytest.raises(psycopg.errors.UndefinedTable) as caught:
        did(table, work)
    assert not table.database.is_outage(caught.value)
    assert did(table, lambda it: it.find("cat")) is None
    table.close()


def test_a_lock_that_another_holds_is_an_outage(postgres: Postgres, schema: str) -> None:
    table = opened_at(postgres.dsn(schema))
    did(table, lambda it: it.intend(intent()))
    table.database.execute("SELECT set_config('lock_timeout', '20ms', false)")
    with psycopg.connect(postgres.dsn(schema)) as other:
        other.execute("SELECT * FROM job FOR UPDATE")
        with pytest.raises(psycopg.errors.LockNotAvailable) as caught:
            did(table, lambda it: it.sending("cat", 1.0))
    assert table.database.is_outage(caught.value)
    assert did(table, lambda it: it.sending("cat", 1.0))
    table.close()


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_has_all_that_was_committed(schema: str) -> None:
    server = Postgres.make()
    try:
        table = opened_at(server.dsn(schema))
        sent(table)
        server.stop(signal.SIGQUIT)
        with pytest.raises(psycopg.OperationalError) as caught:
            did(table, lambda it: it.unsent("cat"))
        assert table.database.is_outage(caught.value)
        server.start()
        assert record_of(table).state == "sending"
        table.close()
    finally:
        server.remove()


def test_nobody_is_judged_within_a_lease_of_the_servers_start(postgres: Postgres, schema: str) -> None:
    ((started,),) = postgres.run("SELECT extract(epoch FROM pg_postmaster_start_time())::float8")
    table = opened_at(postgres.dsn(schema))
    assert table.judgement.begins_at == started + LEASE_S
    table.close()


def test_topics_reach_those_who_listen_and_no_others(postgres: Postgres, schema: str) -> None:
    ours, theirs = (opened_at(postgres.dsn(schema), name).database for name in ("ours", "theirs"))
    assert isinstance(theirs, engine.PostgresDatabase)
    theirs.listen("cat")
    for database in (ours, theirs):
        database.notifications()  # that it has just connected
    for topic in ("cat", "dog"):
        with ours.transaction():
            ours.notify(topic)
    theirs.execute("SELECT 1").fetchone()
    assert theirs.notifications() == {"cat"}
    assert theirs.notifications() == ours.notifications() == frozenset()
    for database in (ours, theirs):
        database.close()


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_server_that_is_killed_again_and_again_delays_a_batch_and_ends_nothing() -> None:
    server = await to_thread.run_sync(Postgres.make)
    try:
        async with Emulator(generation_s=0.2, requests_per_minute=None, max_running=4) as emulator:
            async with AsyncSession(
                api_key=DEFAULT_API_KEY, base_url=emulator.url, journal=server.dsn(), poll_interval=(0.05, 0.2)
            ) as session:
                jobs = (ImageToVideo("https://e.example/a.jpg", str(number), key=str(number)) for number in range(40))
                ends = []
                async for outcome in session.stream(jobs):
                    ends.append(outcome)
                    if len(ends) in (5, 15, 25):
                        await to_thread.run_sync(server.stop, signal.SIGQUIT)
                        await to_thread.run_sync(server.start)
            assert [type(outcome) for outcome in ends] == [Success] * 40
            assert [len(tasks) for tasks in emulator.ledger.accepted.values()] == [1] * 40
    finally:
        await to_thread.run_sync(server.remove)


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_session_whose_server_is_silent_closes_and_leaves_no_thread(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for room in (writer, commits):
        monkeypatch.setattr(room, "SHORT_PATIENCE_S", 0.1)
    with relayed(postgres.port) as relay:
        journal = postgres.tcp_dsn(schema=schema, port=relay.address)
        async with AsyncSession(api_key=DEFAULT_API_KEY, base_url=DEFAULT_BASE_URL, journal=journal):
            relay.is_silent = True
    assert "its jobs are free for others in 30 s: go on with them then" in caplog.text


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_connection_is_used_by_the_threads_of_its_journal_alone(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads in libpq at once mix up its answers, and its memory."""
    used_by = set()

    def note(heard: object, connection: object) -> None:
        used_by.add(threading.current_thread().name.partition("_")[0])
        hear_all(heard, connection)  # type: ignore[arg-type]

    hear_all = engine.PostgresDatabase._hear_all
    monkeypatch.setattr(engine.PostgresDatabase, "_hear_all", note)
    async with Emulator(generation_s=0.05, requests_per_minute=None, max_running=2) as emulator:
        make = functools.partial(AsyncSession, api_key=DEFAULT_API_KEY, base_url=emulator.url)
        async with make(journal=postgres.dsn(schema)) as one, make(journal=postgres.dsn(schema)) as other:
            both = [[ImageToVideo("https://e.example/a.jpg", f"{name} {n}") for n in range(6)] for name in "ab"]
            ends = await asyncio.gather(*(collect(s.stream(jobs)) for s, jobs in zip((one, other), both, strict=True)))
    assert [type(end) for end in itertools.chain(*ends)] == [Success] * 12
    assert used_by == {"hailuo-journal"}
