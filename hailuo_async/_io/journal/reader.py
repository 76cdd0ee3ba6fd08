"""``Journal``: for tools that read what sessions have written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Self, TextIO

import attrs

from hailuo_async._io.journal import database
from hailuo_async._io.journal.database import Database
from hailuo_async._io.journal.records import JournalState, Record, export_text, record_from
from hailuo_async.settings import Dsn, journal_location

#: Records read at a time: a reader that thinks between them holds no version of the file meanwhile.
_PAGE = 256


@attrs.define(eq=False)
class Journal:
    """A journal as other tools read it: what stands in it, without a say in it. Works beside a session that writes.

    It blocks, so in an async program it belongs on a thread, the same one from ``open`` to ``close``::

        with Journal.open("batch.db") as journal:
            for record in journal.records(state=JournalState.UNKNOWN):
                print(record.identity, record.error)
    """

    _database: Database

    @classmethod
    def open(cls, path: str | os.PathLike[str] | Dsn) -> Self:
        """The journal at ``path``, which may be a PostgreSQL DSN.

        Raises ``JournalError`` if there is no journal, or this version cannot read it.
        """
        from hailuo_async._io.journal import opening  # and SQLite with it: most programs open no journal

        return cls(opening.open_for_reading(journal_location(path)))

    def records(self, *, state: JournalState | str | None = None, key: str | None = None) -> Iterator[Record]:
        """Every job, in the order of their first asking; only those in that state, and of that key, if given.

        Read in pages as it is iterated. Raises ``ValueError`` for an unknown state, ``JournalError`` while reading.
        """
        wanted = None if state is None else JournalState(state)
        return self._pages(wanted, key)

    def count(self) -> dict[JournalState, int]:
        """How many jobs stand in each state."""
        sql = "SELECT state, count(*) AS jobs FROM job GROUP BY state"
        with database.faults_as_errors(self._database):
            rows = self._database.execute(sql).fetchall()
        return dict.fromkeys(JournalState, 0) | {JournalState(row["state"]): row["jobs"] for row in rows}

    def spent(self) -> Decimal:
        """What was paid for all jobs, in USD: also for those that were removed, even if they were in doubt.

        A failed task counts in full until the service says otherwise. After a failover of its database that has lost
        commits, it lacks what those told of sessions that had ended by then.
        """
        with database.faults_as_errors(self._database):
            return database.spent_in(self._database)

    def export(self, file: TextIO) -> None:
        """Writes every job as a line of JSON, without the URLs of results."""
        for record in self.records():
            file.write(export_text(record) + "\n")

    def close(self) -> None:
        """Closes the file. Doing so again does nothing."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pages(self, state: JournalState | None, key: str | None) -> Iterator[Record]:
        given = {name: value for name, value in (("state", state), ("key", key)) if value is not None}
        conditions = " AND ".join(["job.seq > :last", *(f"{name} = :{name}" for name in given)])
        sql = f"{database.SELECT} WHERE {conditions} ORDER BY job.seq LIMIT {_PAGE}"
        last = 0
        while True:
            with database.faults_as_errors(self._database):
                rows = self._database.execute(sql, {**given, "last": last}).fetchall()
            if not rows:
                return
            yield from (record_from(row, self._database.name) for row in rows)
            last = rows[-1]["seq"]
