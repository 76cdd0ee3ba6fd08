"""A journal's table under test: a clock that stands still, and short ways to bring a job where it is wanted."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs

from hailuo_async._io.journal import postgres_opening
from hailuo_async._io.journal.database import Database
from hailuo_async._io.journal.records import Intent, JournalState, Record
from hailuo_async._io.journal.table import JobTable
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.errors import SubmissionUnknownError
from hailuo_async.outcomes import Resource, Video
from hailuo_async.settings import Dsn, JournalLocation

from .postgres import Postgres

SECRET = "Signature=5ECRET"
DAY_S = 86400.0
LEASE_S = 30.0

T = TypeVar("T")
Opener: TypeAlias = Callable[[str], JobTable]


def record_in(state: JournalState, **facts: Any) -> Record:
    """What a journal has of the job ``cat``, of which it knows little."""
    unknown = dict.fromkeys(("fingerprint", "kind", "model", "prompt"))
    return Record(**{"identity": "cat", "key": "cat", "facts": {}, "state": state, **unknown, **facts})


@attrs.define
class Clock:
    """A wall clock that stands where it was put."""

    time: float = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@attrs.define(slots=False)
class ServerClock(Clock):
    """The same for a server, whose clock is a row there."""

    server: Postgres = attrs.field(kw_only=True)
    schema: str = attrs.field(kw_only=True)

    @property
    def sql(self) -> str:
        """How the server reads it."""
        return f"(SELECT time FROM {self.schema}_clock.clock)"

    def __attrs_post_init__(self) -> None:
        clock = f"{self.schema}_clock"
        self.server.run(f"CREATE SCHEMA {clock}", f"CREATE TABLE {clock}.clock AS SELECT {self.time}::float8 AS time")

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "time" and "schema" in self.__dict__:
            self.server.run(f"UPDATE {self.schema}_clock.clock SET time = {value}")


def intent(key: str = "cat", fingerprint: str = "f1", prompt: str | None = None, **facts: object) -> Intent:
    return Intent(
        identity=key, key=key, fingerprint=fingerprint, kind="ImageToVideo", model="m", facts=facts, prompt=prompt
    )


def video(task_id: str = "t1", expires_at: datetime | None = None) -> Video:
    places = (Resource(url=f"https://cdn.example/{task_id}.mp4?{SECRET}-{task_id}", type="video", width=1366),)
    return Video(
        task_id=task_id,
        model="m",
        resources=places,
        seconds_taken=93.5,
        expires_at=expires_at,
        raw={"url": SECRET},
        cost=Decimal("0.2400"),
        request_id="req-1",
    )


def opened_at(dsn: str, holder: str = "ours") -> JobTable:
    """A journal on a server."""
    return JobTable(postgres_opening.open_for_writing(Dsn(dsn), DEFAULT_BASE_URL), holder, LEASE_S)


def did(table: JobTable, work: Callable[[JobTable], T]) -> T:
    with table.transaction():
        return work(table)


def record_of(table: JobTable, identity: str = "cat") -> Record:
    record = did(table, lambda it: it.find(identity))
    assert record is not None
    return record


def sent(table: JobTable, key: str = "cat") -> None:
    assert did(table, lambda it: it.intend(intent(key))).ours
    assert did(table, lambda it: it.sending(key, 999.0))


def accepted(table: JobTable, key: str = "cat", task_id: str = "t1") -> None:
    sent(table, key)
    did(table, lambda it: it.accepted(key, task_id, 1001.0))


def in_doubt(table: JobTable, key: str = "cat") -> None:
    sent(table, key)
    did(table, lambda it: it.unknown(key, SubmissionUnknownError(reason="cut", key=key, sent_at=999.0)))


def everything_in(place: JournalLocation, server: Postgres | None = None) -> bytes:
    """All that a journal keeps: in its files, or in the tables of its schema."""
    if isinstance(place, Path):
        return b"".join(part.read_bytes() for part in place.parent.iterdir())
    assert server is not None
    return server.contents(place.options.partition("=")[2])


class Mute:
    """A database that makes every commit; but while ``is_mute``, the answer to a commit is lost.

    ``held`` is called on the database's thread before each answer, and can keep it back.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_mute = False
        self.held: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._database.transaction():
            yield
        self.held()
        if self.is_mute:
            lost = sqlite3.OperationalError("the answer was lost")
            lost.sqlite_errorname = "SQLITE_IOERR"
            raise lost


def mute(table: JobTable) -> Mute:
    """Has ``table`` reach its database in a way that can lose answers."""
    table.database = database = Mute(table.database)  # type: ignore[assignment]
    return database
