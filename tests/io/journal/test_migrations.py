"""A journal of an earlier version goes on with what it has."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hailuo_async._io.journal.database import MIGRATIONS
from hailuo_async._io.journal.sqlite import APPLICATION_ID, SqliteDatabase

from ...support.ledgers import Opener, record_of


def test_a_journal_of_the_first_version_is_brought_up_to_date_and_keeps_what_it_has(path: Path, opened: Opener) -> None:
    old = sqlite3.connect(path)
    for statement in MIGRATIONS[0]:
        old.execute(statement.format_map(SqliteDatabase.TYPES))
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    columns = "identity, key, facts, state, task_id, saved_to"
    row = ("cat", "cat", "t1", "/films/cat.mp4")
    old.execute(f"INSERT INTO job ({columns}) VALUES (?, ?, '{{}}', 'success', ?, ?)", row)
    old.commit()
    old.close()
    record = record_of(opened("ours"))
    assert (record.task_id, record.saved_to) == ("t1", "/films/cat.mp4")
    assert (record.saved_bytes, record.saved_sha256) == (None, None)
