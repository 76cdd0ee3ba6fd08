"""How a journal in a PostgreSQL database is opened: made if there is none, brought up to date, and proved to be ours.

Everything lies in one schema. The table ``hailuo_async`` in it says that it is ours, and of which version.
"""

from __future__ import annotations

import contextlib

from hailuo_async._io.journal import database
from hailuo_async._io.journal.database import MIGRATIONS
from hailuo_async._io.journal.postgres import CLOCK, PostgresDatabase
from hailuo_async.errors import JournalError
from hailuo_async.settings import Dsn


def open_for_writing(dsn: Dsn, base_url: str | None, clock: str = CLOCK) -> PostgresDatabase:
    """The journal at ``dsn``, made if there is none. ``clock`` is the SQL for the time. Raises ``JournalError``."""
    opened = PostgresDatabase(dsn, clock=clock)
    return database.prepared(opened, lambda: _prepare(opened, base_url))


def open_for_reading(dsn: Dsn) -> PostgresDatabase:
    """A connection that can only read. Raises ``JournalError``."""
    opened = PostgresDatabase(dsn, is_reader=True)
    return database.prepared(opened, lambda: _check_is_used(opened))


def is_used(dsn: Dsn) -> bool:
    """Whether a session has kept a journal there before. Raises ``JournalError`` if that cannot be known."""
    opened = PostgresDatabase(dsn, is_reader=True)
    with contextlib.closing(opened), database.faults_as_errors(opened):
        return _version_of_ours(opened) > 0


def _check_is_used(opened: PostgresDatabase) -> None:
    if _version_of_ours(opened) == 0:
        raise JournalError(path=opened.name, reason=f"its schema {opened.schema} is empty: no session has used it yet")


def _prepare(opened: PostgresDatabase, base_url: str | None) -> None:
    opened.check_server()
    _check_encoding(opened)
    with opened.transaction():
        # Many processes may open a new journal at once: the first makes it, the others wait here.
        lock = {"lock": f"hailuo-async {opened.schema}"}
        opened.execute("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))", lock)
        version = _version_of_ours(opened)
        if version < len(MIGRATIONS):
            _migrate(opened, version)
        database.check_service(opened, base_url)


def _migrate(opened: PostgresDatabase, version: int) -> None:
    if version == 0:
        is_there = opened.execute("SELECT to_regnamespace(:schema) AS oid", {"schema": f'"{opened.schema}"'})
        if is_there.fetchone()["oid"] is None:
            opened.execute(f'CREATE SCHEMA "{opened.schema}"')
        opened.execute("CREATE TABLE hailuo_async (version INTEGER NOT NULL)")
        opened.execute("INSERT INTO hailuo_async (version) VALUES (0)")
    database.migrate(opened, version)
    opened.execute("UPDATE hailuo_async SET version = :version", {"version": len(MIGRATIONS)})


def _check_encoding(opened: PostgresDatabase) -> None:
    """Raises ``JournalError`` for a database that cannot hold every text: one such text would end a session's jobs."""
    encoding = opened.execute("SELECT current_setting('server_encoding') AS name").fetchone()["name"]
    if encoding not in ("UTF8", "SQL_ASCII"):  # the latter takes all bytes as they come
        reason = f"its encoding is {encoding}, which cannot hold every text: CREATE DATABASE … WITH ENCODING 'UTF8'"
        raise JournalError(path=opened.name, reason=f"{reason} TEMPLATE template0")


def _version_of_ours(opened: PostgresDatabase) -> int:
    """The schema version, 0 for an empty schema. Raises ``JournalError`` if it is another program's, or newer."""
    sql = """SELECT count(*) AS tables, count(*) FILTER (WHERE relname = 'hailuo_async') AS ours
        FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relnamespace
        WHERE nspname = :schema AND relkind IN ('r', 'p', 'v', 'm', 'f')"""
    found = opened.execute(sql, {"schema": opened.schema}).fetchone()
    if not found["ours"]:
        if found["tables"]:
            reason = (
                f"its schema {opened.schema} belongs to another program:"
                " name one of its own with ?options=-csearch_path%3Dname"
            )
            raise JournalError(path=opened.name, reason=reason)
        return 0
    version = int(opened.execute("SELECT version FROM hailuo_async").fetchone()["version"])
    database.check_version(opened.name, version)
    return version
