"""A journal in a PostgreSQL database, for the sessions of many machines: its connection and its statements.

One connection a session, on the journal's own thread, with psycopg. Everything lies in one schema, ``hailuo`` or the
one that ``?options=-csearch_path%3Dname`` says. The session demands what safety needs, over the server's defaults:

- ``synchronous_commit=on``, so that a commit that has returned is on the disk, and on every synchronous standby;
- short timeouts for locks, statements and transactions that are left open: a process that is stopped in the middle of
  one holds up others for ``_IDLE_S`` at most, then the server takes it back;
- an answer to each statement within ``_ANSWER_S``: a connection that brings none is given up, as if it were cut.

Statements go out as they are made, in pipeline mode. Only looking at rows waits for them, so a transaction that looks
at nothing is one round trip, from BEGIN to COMMIT: no process can be stopped in the middle of it.

A connection that was lost is made again when the next statement needs it. Whether a transaction whose COMMIT was not
answered happened, is not known: it counts as an outage, and making it again is harmless (see ``database``).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import re
from collections.abc import Collection, Iterator
from types import MappingProxyType
from typing import Any, TypeVar

import attrs
import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from hailuo_async._io.journal.database import ANYTHING, HINT, Database, Parameters
from hailuo_async.errors import JournalError
from hailuo_async.settings import Dsn

T = TypeVar("T")

OLDEST_SERVER = 14
DEFAULT_SCHEMA = "hailuo"

_CONNECT_S = 10
_LOCK_S = 3
_STATEMENT_S = 8
_IDLE_S = 5
#: A session that is silent for so long in a transaction is ended by one that waits for its lock: less than ``_LOCK_S``,
#: so that the first such wait ends it.
_SILENT_S = 2
#: Longer than the server gives a statement, so that its own word comes first where it still speaks.
_ANSWER_S = 12.0
#: How often a wait for the server looks at its time.
_LOOK_S = 0.5

#: Unix seconds by the server's clock.
CLOCK = "extract(epoch FROM clock_timestamp())::float8"
_NOTIFY = "SELECT pg_notify(channel, topic) FROM unnest(:channels::text[], :topics::text[]) AS told (channel, topic)"
#: The server itself ends no session that is silent between two statements of a pipeline: for its time limits, that one
#: is at work.
_END_SILENT = f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = 'hailuo-async'
        AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND wait_event = 'ClientRead'
        AND query_start < clock_timestamp() - interval '{_SILENT_S} s'"""
_NAME = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
#: What holds a search_path to one schema, in the options of a DSN.
_SEARCH_PATH = re.compile(r"search_path\s*=\s*(?:\"([A-Za-z_]\w*)\"|([A-Za-z_]\w*))", re.ASCII)

_ADVICE = (
    ("the server does not let this user in: look at the user and its password", "28", "password|authentication|pg_hba"),
    ("there is no such database: create it first, or name another", "3D000", "database .* does not exist"),
    ("its host is not known: look at the name in the DSN", "", "could not translate|not known|resolve|resolution"),
    ("this user may not do that: GRANT it CREATE on the database, or give it a schema of its own", "42501", ""),
    ("it is a read-only standby: give the address of the primary", "25006", ""),
    ("the server's disk is full: free some room there", "53100", "No space left"),
    ("the server takes no more connections: raise max_connections, or end others", "53", "too many|remaining conn"),
)
"""What to do, for codes that begin so; while connecting there are only words."""
_AWAY = "the server cannot be reached, or did not answer"


class _Connection(psycopg.Connection[dict[str, Any]]):
    """One whose waits for the server end."""

    def wait(self, gen: PQGen[T], *_: Any, **__: Any) -> T:
        answer: T = super().wait(_bounded(gen), interval=_LOOK_S)
        return answer


def _bounded(waiting: PQGen[T]) -> PQGen[T]:
    """``waiting``, until the server has been silent for ``_ANSWER_S``."""
    silent = 0
    try:
        wanted = next(waiting)
        while True:
            ready = yield wanted
            silent = 0 if ready else silent + 1
            if silent * _LOOK_S >= _ANSWER_S:
                raise psycopg.OperationalError(f"no answer within {_ANSWER_S:g} s")
            wanted = waiting.send(ready)
    except StopIteration as end:
        answer: T = end.value
        return answer


@attrs.define(eq=False)
class PostgresRows:
    """What a statement answered. Looking at it inside its transaction waits for the server."""

    _database: PostgresDatabase
    _cursor: psycopg.Cursor[dict[str, Any]]
    _serial: int

    @property
    def rowcount(self) -> int:
        return self._arrived().rowcount

    def fetchone(self) -> Any:
        return self._arrived().fetchone()

    def fetchall(self) -> list[Any]:
        return self._arrived().fetchall()

    def _arrived(self) -> psycopg.Cursor[dict[str, Any]]:
        self._database.wait_for(self._serial)
        return self._cursor


@attrs.define(eq=False)
class PostgresDatabase(Database):
    """A connection to a server, made again when it is lost."""

    FAULTS = (psycopg.Error,)
    TYPES = MappingProxyType(
        {
            "serial": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
            "integer": "BIGINT",
            "real": "DOUBLE PRECISION",
            "bytes": "BYTEA",
        }
    )
    WIPE = "DELETE FROM place"
    READS_ARE_FREE = False
    #: The number of the transaction, and of the oldest that was still open when the statement began to look.
    CHANGE = "pg_current_xact_id()::text::bigint"
    SEEN = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"

    _dsn: Dsn
    _is_reader: bool = False
    _clock: str = CLOCK
    name: str = attrs.field(init=False)
    schema: str = attrs.field(init=False)
    connections: int = attrs.field(default=0, init=False)
    up_since: float = attrs.field(default=-math.inf, init=False)
    _connection: _Connection | None = attrs.field(default=None, init=False)
    _pipeline: psycopg.Pipeline | None = attrs.field(default=None, init=False)
    _sent: int = attrs.field(default=0, init=False)
    _waited: int = attrs.field(default=0, init=False)
    """Of the statements sent in this transaction, how many have been waited for."""
    _topics: set[str] = attrs.field(factory=set, init=False)
    """What is listened to, on each new connection as well."""
    _heard: set[str] = attrs.field(factory=set, init=False)
    _told: set[str] = attrs.field(factory=set, init=False)
    """The topics that the commit of this transaction notifies."""
    _is_closed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.name = str(self._dsn)
        named = _SEARCH_PATH.search(self._dsn.options)
        self.schema = DEFAULT_SCHEMA if named is None else named[1] or named[2].lower()

    def execute(self, sql: str, parameters: Parameters | None = None) -> PostgresRows:
        connection = self._connected()
        cursor = connection.execute(_translated(sql, self._clock), parameters or {})
        if self._pipeline is None:
            self._hear_all(connection)
        self._sent += 1
        return PostgresRows(self, cursor, self._sent)

    def wait_for(self, serial: int) -> None:
        """Returns when the answer to the statement of that number is there."""
        if self._pipeline is not None and serial > self._waited:
            self._waited = self._sent
            self._pipeline.sync()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        connection = self._connected()
        self._sent = self._waited = 0
        failure: BaseException | None = None
        try:
            with connection.pipeline() as self._pipeline:  # leaving it waits for all that was not looked at
                try:
                    self.execute("BEGIN")
                    yield
                    if self._told:
                        self.notify_if("true", self._told, {})
                    commit = connection.execute(b"COMMIT")
                except BaseException as fault:
                    failure = fault
            if failure is None and commit.statusmessage != "COMMIT":
                failure = psycopg.OperationalError("the transaction was not committed")
        except psycopg.Error as fault:
            failure = failure or fault
        finally:
            self._pipeline = None
            self._told.clear()
        if failure is not None:
            self._take_back(connection)
            if isinstance(failure, psycopg.errors.InvalidSqlStatementName):
                connection.close()
            elif isinstance(failure, psycopg.errors.LockNotAvailable):
                self._end_silent(connection)
            raise failure
        self._hear_all(connection)

    def notify(self, topic: str) -> None:
        self._told.add(topic)

    def notify_if(self, condition: str, topics: Collection[str], parameters: Parameters) -> None:
        told = {"channels": [self._channel(topic) for topic in topics], "topics": list(topics)}
        self.execute(f"{_NOTIFY} WHERE {condition}", {**parameters, **told})

    def hint(self, topic: str, text: str) -> None:
        self.execute("SELECT pg_notify(:channel, :text)", {"channel": self._channel(topic), "text": HINT + text})

    def listen(self, topic: str) -> None:
        self._topics.add(topic)
        self.execute(f"LISTEN {self._channel(topic)}")

    def _channel(self, topic: str) -> str:
        """One for each topic, so that only those are woken who want it. A name has room for 63 bytes."""
        return "hailuo_" + hashlib.sha256(f"{self.schema}/{topic}".encode()).hexdigest()[:40]

    def news(self) -> frozenset[str]:
        connection = self._connected()
        connection.pgconn.consume_input()
        self._hear_all(connection)
        heard, self._heard = self._heard, set()
        return frozenset(heard)

    def fileno(self) -> int | None:
        return None if self._connection is None or self._connection.closed else self._connection.fileno()

    def was_told(self) -> bool:
        return bool(self._heard)

    @property
    def can_be_woken(self) -> bool:
        return True

    def check_place(self) -> None:
        """A server stays what it is, or is away."""

    def fold_soon(self) -> None:
        """There is nothing that could be done about the server's log."""

    def hold_images(self) -> None:
        """The server sees to that by itself."""

    def give_back(self) -> None:
        """The server does that by itself (autovacuum)."""

    def close(self) -> None:
        self._is_closed = True
        if self._connection is not None:
            self._connection.close()

    def explain(self, fault: BaseException) -> JournalError:
        code = getattr(fault, "sqlstate", None)
        words = self._dsn.hide(" ".join(str(fault).split()))
        for advice, sign, wording in _ADVICE:
            if (sign and code.startswith(sign)) if code else (wording and re.search(wording, words)):
                return JournalError(path=self.name, reason=f"{advice} ({words})")
        advice = _AWAY if self.is_outage(fault) else "PostgreSQL cannot use it"
        return JournalError(path=self.name, reason=f"{advice} ({words})")

    def is_outage(self, fault: BaseException) -> bool:
        # Class 25: a server that became a standby, or took back a transaction that was left open too long. Class 26:
        # it does not know a statement that was prepared over this connection, and will over another one.
        is_passing = isinstance(fault, psycopg.OperationalError | psycopg.InterfaceError)
        return is_passing or (getattr(fault, "sqlstate", None) or "").startswith(("25", "26"))

    def _take_back(self, connection: _Connection) -> None:
        """Leaves the connection fit for the next transaction, or closed."""
        with contextlib.suppress(psycopg.Error):
            if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                connection.execute(b"ROLLBACK")
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            connection.close()

    def _end_silent(self, connection: _Connection) -> None:
        """Ends sessions whose process was stopped, or whose host was cut off, in the middle of a transaction.

        Their transaction is taken back, and made anew if they come back: to them this is a lost connection.
        """
        with contextlib.suppress(psycopg.Error):
            connection.execute(_END_SILENT.encode())

    def _connected(self) -> _Connection:
        """The connection, made anew if it was lost; not in the middle of a transaction."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._pipeline is not None or self._is_closed:
            raise psycopg.OperationalError("the connection is closed")
        connection = _Connection.connect(
            self._dsn.url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=_CONNECT_S,
            application_name="hailuo-async",
            keepalives_idle=20,
            keepalives_interval=5,
            keepalives_count=3,
        )
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.connections += 1
        self._heard.add(ANYTHING)  # what was told meanwhile was missed
        return connection

    def _set_up(self, connection: _Connection) -> None:
        wanted = {
            "search_path": f'"{self.schema}"',
            "lock_timeout": f"{_LOCK_S}s",
            "statement_timeout": f"{_STATEMENT_S}s",
            "idle_in_transaction_session_timeout": f"{_IDLE_S}s",
            "default_transaction_isolation": "read committed",
            "default_transaction_read_only": "on" if self._is_reader else "off",
            "client_min_messages": "warning",
        }
        if not self._is_reader:
            # A server may ask for more than "on" on its own account; never for less.
            asked = "current_setting('synchronous_commit')"
            stronger = f"CASE {asked} WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END"
            connection.execute(f"SELECT set_config('synchronous_commit', {stronger}, false)".encode())
        settings = ", ".join(f"set_config('{name}', %({name})s, false)" for name in wanted)
        connection.execute(f"SELECT {settings}".encode(), wanted)
        if not self._is_reader:
            connection.add_notify_handler(lambda notice: self._hear(notice.payload, notice.pid))
            for topic in self._topics:
                connection.execute(f"LISTEN {self._channel(topic)}".encode())
            self._check_primary(connection)

    def _check_primary(self, connection: _Connection) -> None:
        started = "extract(epoch FROM pg_postmaster_start_time())::float8"
        server = connection.execute(
            f"SELECT pg_is_in_recovery() AS is_standby, {started} AS started".encode()
        ).fetchone()
        if server is not None and server["is_standby"]:
            raise psycopg.errors.ReadOnlySqlTransaction("the server is in recovery")
        if server is not None and self._clock == CLOCK:
            self.up_since = server["started"]

    def check_server(self) -> None:
        """Raises ``JournalError`` for a server, or a pooler before it, that cannot hold a journal."""
        connection = self._connected()
        version = connection.info.server_version // 10_000
        if version < OLDEST_SERVER:
            reason = f"its server is PostgreSQL {version}, and at least {OLDEST_SERVER} is needed: upgrade it"
            raise JournalError(path=self.name, reason=reason)
        # A pooler makes up a number of its own for the connection.
        if _backend(connection) != connection.info.backend_pid and self._is_pooled(connection):
            reason = (
                "a connection pooler in transaction mode stands before it, which loses LISTEN and prepared statements:"
                " give the address of the server itself, or of a pooler in session mode"
            )
            raise JournalError(path=self.name, reason=reason)

    def _is_pooled(self, connection: _Connection) -> bool:
        """Whether another connection gets the same backend as ours: then no connection has a backend of its own."""
        with _Connection.connect(self._dsn.url, autocommit=True, connect_timeout=_CONNECT_S) as other:
            ours = {_backend(connection), _backend(connection)}
            theirs = {_backend(other), _backend(other)}
            return len(ours) > 1 or not ours.isdisjoint(theirs)

    def _hear_all(self, connection: _Connection) -> None:
        """Hears what has arrived with other answers."""
        while (notice := connection.pgconn.notifies()) is not None:
            self._hear(notice.extra.decode(), notice.be_pid)

    def _hear(self, topic: str, sender: int) -> None:
        if self._connection is None or sender != self._connection.info.backend_pid:
            self._heard.add(topic)


def _backend(connection: _Connection) -> int:
    row = connection.execute(b"SELECT pg_backend_pid()", prepare=False).fetchone() or (0,)
    return int(next(iter(row.values())) if isinstance(row, dict) else row[0])


@functools.lru_cache(256)
def _translated(sql: str, clock: str) -> bytes:
    """The statement as psycopg wants it."""
    named = sql.replace("%", "%%").replace(":now", clock).replace(":change", PostgresDatabase.CHANGE)
    return _NAME.sub(r"%(\1)s", named).encode()
