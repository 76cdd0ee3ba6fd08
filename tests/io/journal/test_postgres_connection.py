"""A connection to a PostgreSQL server: what it demands, and which server it refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from hailuo_async._io.journal import postgres_connection
from hailuo_async._io.journal.postgres_connection import Connection, check_server, connect
from hailuo_async.errors import JournalError
from hailuo_async.settings import Dsn

from ...support.postgres import Postgres


@contextlib.contextmanager
def connected(dsn: str, *, is_reader: bool = False) -> Iterator[Connection]:
    with contextlib.closing(connect(Dsn(dsn), "public", is_reader=is_reader)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("asked", "given"), [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
def test_a_commit_that_returned_is_on_the_disk_whatever_the_server_would_do(
    postgres: Postgres, asked: str, given: str
) -> None:
    with connected(postgres.dsn() + f"%20-csynchronous_commit%3D{asked}") as connection:
        assert connection.execute("SELECT current_setting('synchronous_commit') AS level").fetchone() == {
            "level": given
        }


def test_a_psycopg_before_3_3_gives_the_time_for_a_connection_along(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def connect_gen(_: object, __: str = "", *, timeout: float = 0.0) -> Iterator[None]:
        given.append(timeout)
        return iter(())

    monkeypatch.setattr(psycopg.Connection, "_connect_gen", classmethod(connect_gen))
    with contextlib.suppress(StopIteration):
        next(Connection._connect_gen("", timeout=10))
    assert given == [10]


def test_what_the_server_says_of_a_user_changes_nothing(postgres: Postgres) -> None:
    demanded = {"transaction_read_only": "off", "transaction_isolation": "read committed", "idle_session_timeout": "0"}
    postgres.run(
        "CREATE ROLE odd LOGIN SUPERUSER",
        "ALTER ROLE odd SET default_transaction_read_only = on",
        "ALTER ROLE odd SET default_transaction_isolation = 'serializable'",
        "ALTER ROLE odd SET idle_session_timeout = '1s'",
    )
    with connected(postgres.dsn().replace("owner@", "odd@")) as connection:
        found = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in demanded}
        assert {name: row and row[name] for name, row in found.items()} == demanded
    postgres.run("DROP ROLE odd")


def test_one_that_only_reads_can_change_nothing(postgres: Postgres) -> None:
    with connected(postgres.dsn(), is_reader=True) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("CREATE TABLE anything ()")


def test_one_that_writes_knows_since_when_the_server_runs(postgres: Postgres) -> None:
    ((started,),) = postgres.run("SELECT extract(epoch FROM pg_postmaster_start_time())::float8")
    with connected(postgres.dsn()) as connection:
        assert connection.up_since == started


def test_an_older_server_is_refused(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_connection, "OLDEST_SERVER", 99)
    with connected(postgres.dsn()) as connection, pytest.raises(JournalError) as caught:
        check_server(connection, Dsn(postgres.dsn()))
    assert caught.value.reason.endswith("and at least 99 is needed: upgrade it")


def test_a_psycopg_that_never_gives_a_silent_server_up_is_refused() -> None:
    for new in ("3.2.11", "3.3.0.dev1", "4.0"):
        postgres_connection.check_psycopg(new)
    for old in ("3.2.10", "3.1.20"):
        with pytest.raises(ImportError, match=f"psycopg {old} is too old: pip install"):
            postgres_connection.check_psycopg(old)


def test_a_server_that_says_nothing_any_more_is_given_up(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(postgres.dsn()) as connection:
        monkeypatch.setattr(postgres_connection, "_ANSWER_S", 0.02)
        monkeypatch.setattr(postgres_connection, "_LOOK_S", 0.01)
        with pytest.raises(psycopg.OperationalError, match=r"no answer within 0\.02"):
            connection.execute("SELECT pg_sleep(5)")


def test_a_server_that_was_given_up_is_not_waited_for_again(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a pipeline waits for the server, too."""
    with connected(postgres.dsn()) as connection:
        monkeypatch.setattr(postgres_connection, "_ANSWER_S", 0.02)
        monkeypatch.setattr(postgres_connection, "_LOOK_S", 0.01)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT pg_sleep(5)")
        monkeypatch.setattr(postgres_connection, "_ANSWER_S", 10.0)
        with pytest.raises(psycopg.OperationalError, match=r"no answer within 0\.02"):
            connection.execute("SELECT 1")


def test_of_several_hosts_one_that_writes_takes_the_primary_unless_the_dsn_says_what_it_wants() -> None:
    def wanted(hosts: str, more: str = "", *, is_reader: bool = False) -> object:
        dsn = Dsn(f"postgresql://owner@{hosts}/postgres?application_name=x{more}")
        return conninfo_to_dict(postgres_connection._conninfo(dsn, is_reader=is_reader)).get("target_session_attrs")

    assert (wanted("a,b"), wanted("a:1,b:2"), wanted("a")) == ("read-write", "read-write", None)
    assert wanted("a,b", "&target_session_attrs=primary") == "primary"
    assert wanted("a,b", is_reader=True) is None


@pytest.mark.parametrize(
    ("options", "passed_on"),
    [
        ("-csearch_path=videos", ""),
        ('-c search_path="Videos"', ""),
        ("--search_path=videos", ""),
        ("-csearch_path=videos -cjit=off", "-csearch_path=videos -cjit=off"),
        ("-csearch_path=videos,public", "-csearch_path=videos,public"),
    ],
)
def test_a_schema_is_named_to_no_pooler_as_many_take_no_options(options: str, passed_on: str) -> None:
    dsn = Dsn(f"postgresql://owner@/postgres?options={quote(options)}")
    assert conninfo_to_dict(postgres_connection._conninfo(dsn))["options"] == passed_on
