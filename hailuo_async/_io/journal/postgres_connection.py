"""A connection to a PostgreSQL server that can hold a journal. Over the server's defaults it demands what safety needs:

- ``synchronous_commit=on``, so that a commit that has returned is on the disk, and on every synchronous standby;
- short timeouts for locks, statements and transactions that are left open: a process that is stopped in the middle of
  one holds up others for ``_IDLE_S`` at most, then the server takes it back;
- an answer to each statement within ``_ANSWER_S``, or ``HURRIED_S`` when its session closes: a connection that brings
  none is given up, as if it were cut. So is one that is being made.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Generator
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen, PQGenConn
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.waiting import Ready, Wait

from hailuo_async.errors import JournalError
from hailuo_async.settings import Dsn

T = TypeVar("T")
WantedT = TypeVar("WantedT")

OLDEST_SERVER = 14
#: Before, its wait for a server that is silent never came back.
_OLDEST_PSYCOPG = (3, 2, 11)


def check_psycopg(version: str) -> None:
    """Raises ``ImportError`` for a psycopg that is too old."""
    if tuple(map(int, re.findall("[0-9]+", version)))[:3] < _OLDEST_PSYCOPG:
        raise ImportError(f"psycopg {version} is too old: pip install 'psycopg[binary]>=3.2.11'")


check_psycopg(psycopg.__version__)

_CONNECT_S = 10
_LOCK_S = 3
_STATEMENT_S = 8
_IDLE_S = 5
#: A session that is silent for so long in a transaction is ended by one that waits for its lock: less than ``_LOCK_S``,
#: so that the first such wait ends it.
_SILENT_S = 2
#: Longer than the server gives a statement, so that its own word comes first where it still speaks.
_ANSWER_S = 12.0
#: The same, and for a new connection, once the session has waited long enough for its end.
HURRIED_S = 2.0
#: How often a wait for the server looks at its time.
_LOOK_S = 0.5
#: The same, for a new connection: that is psycopg's.
_CONNECT_LOOK_S = 0.1

#: The server itself ends no session that is silent between two statements of a pipeline: for its time limits, that one
#: is at work.
_END_SILENT = f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = 'hailuo-async'
        AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND wait_event = 'ClientRead'
        AND query_start < clock_timestamp() - interval '{_SILENT_S} s'""".encode()
#: Options that name the schema alone. It is set later anyway, and many poolers take no options.
_ONLY_SCHEMA = re.compile(r"\s*(-c\s*|--)search_path\s*=\s*\"?\w+\"?\s*", re.ASCII)
_STATE = b"""SELECT pg_is_in_recovery() AS is_standby,
    extract(epoch FROM pg_postmaster_start_time())::float8 AS started"""
#: A standby that is promoted begins a new timeline, the first eight digits of the name of its log.
_SERVER = b"""SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS name
    FROM pg_control_system()"""


class Connection(psycopg.Connection[dict[str, Any]]):
    """One whose waits for the server end."""

    up_since: float = -math.inf
    """Since when the server runs, by its clock; not known to one that only reads."""
    server: str = ""
    """Names the server and its timeline; empty where it does not tell, and for one that only reads."""

    is_hurried: Callable[[], bool] = staticmethod(lambda: False)
    """Whether waits are to end sooner."""
    silence: str = ""
    """Why it was given up: what waits for it then, as the end of a pipeline does, need not find that out again."""

    @classmethod
    def _connect_gen(cls, conninfo: str = "", **more: Any) -> PQGenConn[Self]:  # more: a timeout, before psycopg 3.3
        return _bounded(super()._connect_gen(conninfo, **more), cls.is_hurried, _CONNECT_S, _CONNECT_LOOK_S)

    def wait(self, gen: PQGen[T], *_: Any, **__: Any) -> T:
        if self.silence:
            raise psycopg.OperationalError(self.silence)
        try:
            answer: T = super().wait(_bounded(gen, self.is_hurried, _ANSWER_S, _LOOK_S), _LOOK_S)
        except _SilenceError as silent:
            self.silence = str(silent)
            raise
        return answer

    def send_all(self) -> None:
        """Returns when all that was queued has left. ``Pipeline.sync`` waits for answers to what is half sent."""
        if self.pgconn.flush():
            self.wait(self._sending())

    def _sending(self) -> PQGen[None]:
        while self.pgconn.flush():
            if (yield Wait.RW) & Ready.R:  # the server may read no more until its answers are taken
                self.pgconn.consume_input()


class _SilenceError(psycopg.OperationalError):
    """The server has been silent for too long."""


def _bounded(
    waiting: Generator[WantedT, Ready | int, T], is_hurried: Callable[[], bool], longest_s: float, look_s: float
) -> Generator[WantedT, Ready | int, T]:
    """``waiting``, until the server has been silent for too long. ``look_s``: how often it is looked at."""
    try:
        wanted, silent = next(waiting), 0
        while True:
            ready = yield wanted
            silent = 0 if ready else silent + 1
            answer_s = HURRIED_S if is_hurried() else longest_s
            if silent * look_s >= answer_s:
                raise _SilenceError(f"no answer within {answer_s:g} s")
            wanted = waiting.send(ready)
    except StopIteration as end:
        answer: T = end.value
        return answer


def connect(dsn: Dsn, schema: str, *, is_reader: bool, hurries: Callable[[], bool] = lambda: False) -> Connection:
    """A connection that works in that schema. Raises ``psycopg.Error``, also for a standby unless it only reads.

    ``hurries`` says, from the first packet on, whether a silent server is to be given up sooner.
    """

    class Hurried(Connection):
        is_hurried = staticmethod(hurries)

    connection = Hurried.connect(
        _conninfo(dsn, is_reader=is_reader),
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=_CONNECT_S,
        application_name="hailuo-async",
        keepalives_idle=20,
        keepalives_interval=5,
        keepalives_count=3,
    )
    try:
        _set_up(connection, schema, is_reader=is_reader)
    except BaseException:
        connection.close()
        raise
    return connection


def _conninfo(dsn: Dsn, *, is_reader: bool = False) -> str:
    """How to connect: in UTF-8, also where the database or the environment says otherwise.

    Of several hosts, one that writes takes the primary, whichever that is now.
    """
    given = {"client_encoding": "utf8"}
    said = conninfo_to_dict(dsn.url)
    if "," in str(said.get("host", "")) and not is_reader:
        given["target_session_attrs"] = str(said.get("target_session_attrs", "read-write"))
    if _ONLY_SCHEMA.fullmatch(dsn.options):
        given["options"] = ""
    return make_conninfo(dsn.url, **given)


def _set_up(connection: Connection, schema: str, *, is_reader: bool) -> None:
    wanted = {
        "search_path": f'"{schema}"',
        "lock_timeout": f"{_LOCK_S}s",
        "statement_timeout": f"{_STATEMENT_S}s",
        "idle_in_transaction_session_timeout": f"{_IDLE_S}s",
        "idle_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "on" if is_reader else "off",
        "client_min_messages": "warning",
    }
    if not is_reader:
        # A server may ask for more than "on" on its own account; never for less.
        asked = "current_setting('synchronous_commit')"
        stronger = f"CASE {asked} WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END"
        connection.execute(f"SELECT set_config('synchronous_commit', {stronger}, false)".encode())
    settings = ", ".join(f"set_config('{name}', %({name})s, false)" for name in wanted)
    connection.execute(f"SELECT {settings}".encode(), wanted)
    if not is_reader and (server := connection.execute(_STATE).fetchone()) is not None:
        if server["is_standby"]:
            raise psycopg.errors.ReadOnlySqlTransaction("the server is in recovery")
        connection.up_since, connection.server = server["started"], _name_of(connection)


def _name_of(connection: Connection) -> str:
    try:
        row = connection.execute(_SERVER).fetchone()
    except psycopg.Error:  # some hosts of databases keep that to themselves
        if connection.closed:
            raise
        return ""
    return "" if row is None else str(row["name"])


def end_silent(connection: Connection) -> None:
    """Ends sessions whose process was stopped, or whose host was cut off, in the middle of a transaction.

    Their transaction is taken back, and made again if they come back: to them this is a lost connection.
    """
    with contextlib.suppress(psycopg.Error):
        connection.execute(_END_SILENT)


def check_server(connection: Connection, dsn: Dsn) -> None:
    """Raises ``JournalError`` for a server, or a pooler before it, that cannot hold a journal."""
    version = connection.info.server_version // 10_000
    if version < OLDEST_SERVER:
        reason = f"its server is PostgreSQL {version}, and at least {OLDEST_SERVER} is needed: upgrade it"
        raise JournalError(path=str(dsn), reason=reason)
    # A pooler makes up a number of its own for the connection.
    if _backend(connection) != connection.info.backend_pid and _is_pooled(connection, dsn):
        reason = (
            "a connection pooler in transaction mode stands before it, which loses LISTEN and prepared statements:"
            " give the address of the server itself, or of a pooler in session mode"
        )
        raise JournalError(path=str(dsn), reason=reason)


def _is_pooled(connection: Connection, dsn: Dsn) -> bool:
    """Whether another connection gets the same backend as ours: then no connection has a backend of its own."""
    with Connection.connect(_conninfo(dsn), autocommit=True, row_factory=dict_row, connect_timeout=_CONNECT_S) as other:
        ours = {_backend(connection), _backend(connection)}
        theirs = {_backend(other), _backend(other)}
        return len(ours) > 1 or not ours.isdisjoint(theirs)


def _backend(connection: Connection) -> int:
    row = connection.execute(b"SELECT pg_backend_pid() AS pid", prepare=False).fetchone()
    return 0 if row is None else int(row["pid"])
