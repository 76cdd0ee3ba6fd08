"""A journal of an earlier version goes on with what it has."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hailuo_async._io.journal.database import MIGRATIONS
from hailuo_async._io.journal.postgres import PostgresDatabase
from hailuo_async._io.journal.sqlite import APPLICATION_ID, SqliteDatabase
from hailuo_async.settings import JournalLocation

from ...support.postgres import Postgres
from ...support.tables import Opener, record_of

COLUMNS = "identity, key, facts, state, task_id, saved_to"
ROW = "('cat', 'cat', '{}', 'success', 't1', '/films/cat.mp4')"


def make_first_version(place: JournalLocation, server: Postgres | None) -> None:
    """A journal with one job, as the first version of the schema had it."""
    fill = f"INSERT INTO job ({COLUMNS}) VALUES {ROW}"
    if isinstance(place, Path):
        marks = (f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 1")
        old = sqlite3.connect(place)
        for statement in (*(text.format_map(SqliteDatabase.TYPES) for text in MIGRATIONS[0]), *marks, fill):
            old.execute(statement)
        old.commit()
        old.close()
    else:
        assert server is not None
        schema = place.options.partition("=")[2]
        begin = (
            f"CREATE SCHEMA {schema}",
            f"SET search_path = {schema}",
            "CREATE TABLE hailuo_async (version INTEGER)",
        )
        tables = (text.format_map(PostgresDatabase.TYPES) for text in MIGRATIONS[0])
        server.run(*begin, *tables, "INSERT INTO hailuo_async VALUES (1)", fill)


def test_a_journal_of_the_first_version_is_brought_up_to_date_and_keeps_what_it_has(
    place: JournalLocation, server: Postgres | None, opened: Opener
) -> None:
    make_first_version(place, server)
    record = record_of(opened("ours"))
    assert (record.task_id, record.saved_to) == ("t1", "/films/cat.mp4")
    assert (record.saved_bytes, record.saved_sha256) == (None, None)
