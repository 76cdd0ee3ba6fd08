"""A PostgreSQL server on a virtual clock, as far as the sessions of a journal can tell it from a real one.

Each connection has a ``Backend``. Its transactions are READ COMMITTED: a statement sees what was committed before it,
and what its own transaction has written; rows that it writes are locked until that ends, and who wants one waits. What
is below is SQLite in memory, which holds what is committed and, at a time, what one open transaction has written.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Any, TypeAlias

import attrs
import psycopg
from psycopg.pq import TransactionStatus

from hailuo_async._io.journal import database, postgres
from hailuo_async._io.journal.postgres import PostgresDatabase

#: A row, by its table and the values that identify it; and what is in it, ``None`` if it is deleted.
Key: TypeAlias = tuple[str, str]
Image: TypeAlias = tuple[Any, ...] | None
Statement: TypeAlias = tuple[str, Mapping[str, object], "Answer"]

_IDENTIFIED_BY = {
    "journal": (),
    "team": (),
    "member": ("holder",),
    "job": ("identity",),
    "place": ("seq",),
    "picture": ("sha256",),
    "need": ("identity", "sha256"),
    "piece": ("sha256", "number"),
}
_LOCK_S, _DEADLOCK_S, _SILENT_S = 3.0, 1.0, 2.0
_EPOCH = 1_700_000_000.0
_NOTIFY = """SELECT pg_notify(pair.value, topic.value)
    FROM json_each(:channels) AS pair JOIN json_each(:topics) AS topic USING (key)"""
_SAID_HERE = {
    postgres._NOTIFY: _NOTIFY,
    postgres.CLOCK: "server_time()",
    PostgresDatabase.CHANGE: "transaction_id()",
    PostgresDatabase.SEEN: "oldest_transaction_id()",
}


@attrs.define(eq=False)
class Answer:
    """A cursor: the answer to a statement, once it is there."""

    statusmessage: str = ""
    rowcount: int = -1
    rows: list[dict[str, Any]] = attrs.field(factory=list)

    def fetchone(self) -> dict[str, Any] | None:
        return self.rows.pop(0) if self.rows else None

    def fetchall(self) -> list[dict[str, Any]]:
        rows, self.rows = self.rows, []
        return rows


@attrs.define(eq=False)
class Backend:
    """The server's end of a connection."""

    pid: int
    hear: Callable[[str, int], None]
    status: TransactionStatus = TransactionStatus.IDLE
    xid: int | None = None
    locks: set[Key] = attrs.field(factory=set)
    images: dict[Key, Image] = attrs.field(factory=dict)
    """What its transaction has written to the rows that it has locked, as long as another's is in the tables."""
    saved: dict[Key, Image] = attrs.field(factory=dict)
    """The same, as it was at its savepoint."""
    notices: set[tuple[str, str]] = attrs.field(factory=set)
    channels: set[str] = attrs.field(factory=set)
    waits_for: Backend | None = None
    is_at_work: bool = False
    is_gone: bool = False
    asked_at: float = 0.0
    ended: asyncio.Event = attrs.field(factory=asyncio.Event)
    """Set when its transaction ends."""


@attrs.define(eq=False)
class VirtualServer:
    """The server. ``offset_s``: how far its clock is ahead of that of the others."""

    rng: Random
    offset_s: float = 0.0
    pause_s: float = 0.0001
    """Between two statements of a pipeline, on average."""
    notice_s: Callable[[], float | None] = attrs.field(default=lambda: 0.0)
    """How long the news of a commit takes; ``None``: it is lost."""
    is_down: bool = attrs.field(default=False, init=False)
    started_at: float = attrs.field(default=0.0, init=False)
    name: str = attrs.field(default="server 1", init=False)
    commits: int = attrs.field(default=0, init=False)
    faults: Counter[str] = attrs.field(factory=Counter, init=False)
    """How many statements failed, by the errors' names."""
    backends: set[Backend] = attrs.field(factory=set, init=False)
    _tables: sqlite3.Connection = attrs.field(init=False)
    _entered: Backend | None = attrs.field(default=None, init=False)
    """Whose writes are in the tables beside what is committed."""
    _now_served: Backend | None = attrs.field(default=None, init=False)
    _locks: dict[Key, Backend] = attrs.field(factory=dict, init=False)
    _pids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)
    _xids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)
    _last_xid: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._tables = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        serials = itertools.count(1)
        for name, arguments, function in (
            ("server_time", 0, self.time),
            ("transaction_id", 0, self._transaction_id),
            ("oldest_transaction_id", 0, self._oldest_transaction_id),
            ("pg_notify", 2, self._notify),
            ("serial", 0, lambda: next(serials)),
        ):
            self._tables.create_function(name, arguments, function)
        self._make_tables()
        self._tables.execute("BEGIN")

    def _make_tables(self) -> None:
        types = {"serial": "INTEGER NOT NULL UNIQUE DEFAULT (serial())", "integer": "INTEGER", "real": "REAL"}
        for statement in itertools.chain(*database.MIGRATIONS):
            self._tables.execute(statement.format_map({**types, "bytes": "BLOB"}))
        self._tables.execute("INSERT INTO journal (base_url, opened_at) VALUES ('', 0.0)")
        self._tables.execute("CREATE TEMP TABLE touched (tab, key)")
        for table in _IDENTIFIED_BY:
            for verb, row in (("INSERT", "NEW."), ("UPDATE", "NEW."), ("DELETE", "OLD.")):
                self._tables.execute(
                    f"CREATE TEMP TRIGGER {verb}_{table} AFTER {verb} ON {table} BEGIN"
                    f" INSERT INTO touched VALUES ('{table}', {_key_of(table, row)}); END"
                )

    def time(self) -> float:
        """Unix seconds by the server's clock."""
        return _EPOCH + self.offset_s + asyncio.get_running_loop().time()

    def connect(self, hear: Callable[[str, int], None]) -> Backend:
        """A new connection's backend, which tells ``hear`` the topics and senders of notices."""
        if self.is_down:
            raise psycopg.OperationalError("connection refused")
        backend = Backend(next(self._pids), hear)
        self.backends.add(backend)
        return backend

    # --- Statements ---

    async def serve(self, backend: Backend, pipeline: Iterable[Statement]) -> None:
        """Executes the statements that came together. Raises ``psycopg.Error`` at the first that fails."""
        backend.is_at_work = True
        try:
            for sql, given, answer in pipeline:
                if self.pause_s:
                    await asyncio.sleep(self.rng.expovariate(1 / self.pause_s))
                if backend.is_gone:
                    raise psycopg.errors.AdminShutdown("terminating connection due to administrator command")
                await self._execute(backend, sql, given, answer)
        except psycopg.Error as error:
            self.faults[type(error).__name__] += 1
            if backend.status is TransactionStatus.INTRANS:
                backend.status = TransactionStatus.INERROR
                self._end(backend, is_made=False)
            raise
        finally:
            backend.is_at_work, backend.asked_at = False, asyncio.get_running_loop().time()

    async def _execute(self, backend: Backend, sql: str, given: Mapping[str, object], answer: Answer) -> None:
        word = answer.statusmessage = sql.split(maxsplit=1)[0].upper()
        if word == "BEGIN":
            backend.status = TransactionStatus.INTRANS
        elif "SAVEPOINT" in sql:
            self._save(backend, word)
        elif word in ("COMMIT", "ROLLBACK"):
            is_made = word == "COMMIT" and backend.status is TransactionStatus.INTRANS
            answer.statusmessage = "COMMIT" if is_made else "ROLLBACK"
            backend.status = TransactionStatus.IDLE
            self._end(backend, is_made=is_made)
        elif word == "LISTEN":
            backend.channels.add(sql.split()[1])
        elif "pg_terminate_backend" in sql:
            self.end_silent()
        elif backend.status is TransactionStatus.INERROR:
            raise psycopg.errors.InFailedSqlTransaction("current transaction is aborted")
        else:
            await self._change(backend, _in_sqlite(sql), given, answer)
            if backend.status is TransactionStatus.IDLE:
                self._end(backend, is_made=True)

    async def _change(self, backend: Backend, sql: str, given: Mapping[str, object], answer: Answer) -> None:
        given = {name: json.dumps(value) if isinstance(value, list) else value for name, value in given.items()}
        give_up_at = asyncio.get_running_loop().time() + _LOCK_S
        while (blocker := self._try(backend, sql, given, answer)) is not None:
            backend.waits_for = blocker
            try:
                await self._wait_for(backend, blocker, give_up_at)
            finally:
                backend.waits_for = None

    async def _wait_for(self, backend: Backend, blocker: Backend, give_up_at: float) -> None:
        chain = [blocker]
        while chain[-1].waits_for not in (None, *chain):
            chain.append(chain[-1].waits_for)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout_at(give_up_at):
                if backend in chain:
                    await asyncio.sleep(_DEADLOCK_S)
                    raise psycopg.errors.DeadlockDetected("deadlock detected")
                await blocker.ended.wait()
        except TimeoutError:
            raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout") from None
        if backend.is_gone:
            raise psycopg.errors.AdminShutdown("terminating connection due to administrator command")

    def _try(self, backend: Backend, sql: str, given: Mapping[str, object], answer: Answer) -> Backend | None:
        """Executes a statement. Returns whose transaction it has to wait for, if there is one."""
        self._enter(backend)
        self._tables.execute("DELETE FROM touched")
        self._tables.execute("SAVEPOINT it")
        cursor = self._tables.execute(sql, given)
        rows = cursor.fetchall()
        touched = set(self._tables.execute("SELECT tab, key FROM touched").fetchall())
        blockers = [self._locks[key] for key in sorted(touched) if self._locks.get(key, backend) is not backend]
        if blockers:
            self._tables.execute("ROLLBACK TO it")
        self._tables.execute("RELEASE it")
        if blockers:
            return blockers[0]
        names = [column[0] for column in cursor.description or ()]
        answer.rows = [dict(zip(names, row, strict=True)) for row in rows]
        answer.rowcount = len(rows) if names else cursor.rowcount
        backend.locks |= touched
        self._locks |= dict.fromkeys(touched, backend)
        return None

    # --- Transactions ---

    def _enter(self, backend: Backend) -> None:
        """Has the tables show what this backend sees."""
        self._now_served = backend
        if self._entered is not backend:
            self._leave()
            for (table, key), image in sorted(backend.images.items()):
                self._tables.execute(f"DELETE FROM {table} WHERE {_key_of(table)} = ?", (key,))
                if image is not None:
                    self._tables.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(image))})", image)
            self._entered = backend

    def _leave(self) -> None:
        if (backend := self._entered) is not None:
            backend.images = {
                (table, key): self._tables.execute(
                    f"SELECT * FROM {table} WHERE {_key_of(table)} = ?", (key,)
                ).fetchone()
                for table, key in backend.locks
            }
            self._finish("ROLLBACK")

    def _save(self, backend: Backend, word: str) -> None:
        self._enter(backend)
        self._leave()
        if word == "SAVEPOINT":
            backend.saved = dict(backend.images)
        elif word == "ROLLBACK":  # what is locked stays so
            backend.status = TransactionStatus.INTRANS
            backend.images = dict(backend.saved)

    def _finish(self, word: str) -> None:
        self._tables.execute(word)
        self._tables.execute("BEGIN")
        self._entered = None

    def _end(self, backend: Backend, *, is_made: bool) -> None:
        if is_made and backend.locks:
            self._enter(backend)
        if self._entered is backend:
            self._finish("COMMIT" if is_made else "ROLLBACK")
        self._locks = {key: holder for key, holder in self._locks.items() if holder is not backend}
        if is_made:
            self.commits += bool(backend.locks)
            self._tell(backend)
        backend.locks, backend.images, backend.notices, backend.xid = set(), {}, set(), None
        backend.ended.set()
        backend.ended = asyncio.Event()

    def _tell(self, backend: Backend) -> None:
        loop = asyncio.get_running_loop()
        for channel, topic in sorted(backend.notices):
            for each in sorted(self.backends, key=lambda each: each.pid):
                if channel in each.channels and (after_s := self.notice_s()) is not None:
                    loop.call_later(after_s, each.hear, topic, backend.pid)

    def _notify(self, channel: str, topic: str) -> None:
        if self._now_served is not None:
            self._now_served.notices.add((channel, topic))

    def _transaction_id(self) -> int:
        backend = self._now_served
        if backend is None:
            return 0
        if backend.xid is None:
            backend.xid = self._last_xid = next(self._xids)
        return backend.xid

    def _oldest_transaction_id(self) -> int:
        return min((each.xid for each in self.backends if each.xid is not None), default=self._last_xid + 1)

    # --- What befalls it ---

    def drop(self, backend: Backend) -> None:
        """Ends a backend, and takes its transaction back."""
        backend.is_gone = True
        self.backends.discard(backend)
        self._end(backend, is_made=False)

    def end_silent(self) -> None:
        """Ends the backends whose client is silent in a transaction."""
        silent_since = asyncio.get_running_loop().time() - _SILENT_S
        for each in list(self.backends):
            is_open = each.status is not TransactionStatus.IDLE
            if is_open and not each.is_at_work and each.asked_at < silent_since:
                self.drop(each)

    def stop(self) -> None:
        """Goes down, until ``start``."""
        self.is_down = True
        for each in list(self.backends):
            self.drop(each)

    def start(self) -> None:
        """Comes up."""
        self.is_down, self.started_at = False, self.time()

    def copy(self) -> sqlite3.Connection:
        """What is committed, as a standby has it."""
        copied = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._copy(self._tables, copied)
        return copied

    def fail_over(self, copied: sqlite3.Connection) -> None:
        """Goes on, as another server would that has an older copy. To be called while it is down."""
        self.name += "+"
        self._copy(copied, self._tables)
        copied.close()

    def _copy(self, source: sqlite3.Connection, target: sqlite3.Connection) -> None:
        self._leave()
        self._tables.execute("COMMIT")
        source.backup(target)
        self._tables.execute("BEGIN")

    def close(self) -> None:
        """Forgets all."""
        self._tables.close()

    def select(self, sql: str) -> list[Any]:
        """What is committed."""
        self._leave()
        return self._tables.execute(sql).fetchall()


def _key_of(table: str, row: str = "") -> str:
    """The SQL of what identifies a row."""
    return " || ' ' || ".join(f"{row}{column}" for column in _IDENTIFIED_BY[table]) or "''"


@functools.cache
def _in_sqlite(sql: str) -> str:
    sql = re.sub(r"%\((\w+)\)s", r":\1", sql).replace("%%", "%")
    for said, here in _SAID_HERE.items():
        sql = sql.replace(said, here)
    return sql
