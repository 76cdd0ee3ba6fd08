"""A journal in a SQLite file: opening, writing, and the words of its faults.

WAL mode with ``synchronous=FULL``: a commit that has returned survives a loss of power, and others can read meanwhile.
Opening proves, before anything is sent, that the file is ours, whole, of a known version, for the same service, and can
be written.

The signed URLs of results lie in ``place``, a table that only grows. Wiping one overwrites it with as many zeros, in
place. A row that changed its length, or went, would make SQLite move its neighbours, and it leaves copies of what it
moved in the gaps of pages even with ``secure_delete``: measured, 2 URLs of 2000 were found again.

A killed journal is two files, and SQLite opens one without the other as if nothing were missing. So before the log is
folded into the file, ``log_due`` is raised, and the first commit after it, which is in the log alone, sets ``log_seen``
to it. A file in which the two differ is not whole without its log. When the last connection closes, SQLite writes the
log back, and they are the same. SQLite itself must not fold the log in between, so ``wal_autocheckpoint`` is off.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from hailuo_async._io.journal import database, files
from hailuo_async._io.journal.bell import Bell
from hailuo_async._io.journal.database import ANYTHING, MIGRATIONS, NOTICE, Database, Parameters, Rows
from hailuo_async.errors import JournalError

#: "Hail" in ASCII: how SQLite's own ``file`` magic tells our journals from other programs' databases.
APPLICATION_ID = 0x4861696C

#: Several processes may open the same new journal at the same moment; each try lets one of them finish.
_WAL_TRIES = 5

_LOCKED = "another program has locked it: end that program, or give another path"
_DAMAGED = "it is damaged or cut short: restore it from a copy, or keep it to look at and begin another"
_ADVICE = {
    "SQLITE_FULL": "the disk is full: free some room, then run it again",
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_READONLY": "it cannot be written: give a file in a directory that this user may write to",
    "SQLITE_CANTOPEN": "it cannot be opened or made: give a file in a directory that this user may write to",
    "SQLITE_PERM": "it cannot be opened: give a file that this user may read and write",
    "SQLITE_NOTADB": "it is not a SQLite file: give the path of a journal, or of a file that does not exist yet",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_IOERR": "the disk or the file system failed: look at both, then run it again",
}
#: Bytes of the log beyond which it is folded into the file. A log that fills the disk could not be: that takes room.
_LARGEST_LOG, _LARGEST_LOG_WITH_IMAGES = 4 << 20, 64 << 20
#: How many free pages go back to the file system at a time: some 800 MB.
_PAGES_GIVEN_BACK = 200_000
#: Of ``sqlite3_db_config``.
_NO_CHECKPOINT_ON_CLOSE = 1006
_OUTAGES = ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR")


class _Read:
    """The rows of a statement, all of them read.

    A cursor with a row left to read keeps the connection at the version of the file that it saw: the log could not be
    folded, and once another session has written, every later transaction would be refused as if the file were locked.
    """

    __slots__ = ("_rows", "rowcount")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._rows = cursor.fetchall()[::-1]
        self.rowcount = cursor.rowcount

    def fetchone(self) -> Any:
        return self._rows.pop() if self._rows else None

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows[::-1], []
        return rows


@attrs.define(eq=False)
class SqliteDatabase(Database):
    """A connection to a file. ``_now`` tells Unix seconds by this machine's clock."""

    FAULTS = (sqlite3.Error, UnicodeDecodeError)  # the latter where SQLite quotes a damaged page
    TYPES = MappingProxyType({"serial": "INTEGER PRIMARY KEY", "integer": "INTEGER", "real": "REAL", "bytes": "BLOB"})
    IS_LOCAL = True
    CHANGE = SEEN = "(SELECT coalesce(max(changed), 0) + 1 FROM job)"
    WIPE = "UPDATE place SET urls = zeroblob(length(urls))"

    path: Path
    _connection: sqlite3.Connection
    _now: Callable[[], float]
    name: str = attrs.field(init=False)
    connections: int = attrs.field(default=1, init=False)
    up_since: float = attrs.field(default=-math.inf, init=False)
    server: str = attrs.field(default="", init=False)
    _file_id: tuple[int, int] | None = attrs.field(default=None, init=False)
    """Identifies the open file: another may be put under its name."""
    _is_in_place: bool = attrs.field(default=True, init=False)
    """Whether that file was under its name when this transaction began."""
    _time: float | None = attrs.field(default=None, init=False)
    """``:now`` of this transaction, read once."""
    _log: Path = attrs.field(init=False)
    """Where SQLite keeps its log."""
    _seen: int | None = attrs.field(default=None, init=False)
    """The ``data_version`` that ``notifications`` read last."""
    _bell: Bell = attrs.field(factory=Bell, init=False)
    _topics: set[str] = attrs.field(factory=set, init=False)
    """The bells that the commit of this transaction rings."""
    _is_folding: bool = attrs.field(default=False, init=False)
    """Whether the log is to be folded into the file after the next commit."""
    _largest_log: int = attrs.field(default=_LARGEST_LOG, init=False)
    _gives_back: bool = attrs.field(default=False, init=False)
    """Whether free pages go back to the file system after the next commit."""
    _is_due: bool = attrs.field(default=False, init=False)
    """Whether ``log_due`` was raised, and the next commit has to set ``log_seen``."""

    def __attrs_post_init__(self) -> None:
        self.name, self.path = str(self.path), self.path.absolute()  # the working directory may change
        self._file_id = files.file_id_of(self.path)
        self._log = files.log_of(self.path)

    def execute(self, sql: str, parameters: Parameters | None = None) -> Rows:
        statement, has_time = _translated(sql)
        given = parameters or {}
        if has_time:
            given = {**given, "now": self._now() if self._time is None else self._time}
        cursor = self._connection.execute(statement, given)
        return cursor if cursor.description is None else _Read(cursor)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits everything inside, durably, or nothing. Waits for another writer at most the busy timeout."""
        if self._connection.in_transaction:  # an interrupt came while the last one was taken back
            self._connection.execute("ROLLBACK")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._time, self._is_in_place = self._now(), files.file_id_of(self.path) == self._file_id
            yield
            if self._is_folding:
                self._connection.execute("UPDATE journal SET log_due = log_due + 1")
            elif self._is_due:
                self._connection.execute("UPDATE journal SET log_seen = log_due")
            self._connection.execute("COMMIT")
            self._bell.ring(map(self._bell_name, self._topics))
        except BaseException:
            # A full disk or a failed write has rolled back already, and may fail to do so again.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._time = None
            self._topics.clear()
        self._tend_file()

    def _tend_file(self) -> None:
        """After a commit: gives free pages back if that was asked for, and folds a log that is due or too large."""
        if self._gives_back:
            self._gives_back = False
            with contextlib.suppress(sqlite3.Error):  # a script is stepped to its end, a statement would free one page
                self._connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_GIVEN_BACK})")
        self._is_due = self._is_folding
        if self._is_folding:
            self._is_folding = not self._fold_log()
        elif files.size_of(self._log) > min(self._largest_log, files.room_beside(self._log)):
            self._is_folding = True

    def notify(self, topic: str) -> None:
        """Rings the bell of that topic. What has changed, ``PRAGMA data_version`` shows to every other connection."""
        self._topics.add(topic)

    def send_notice(self, topic: str, text: str) -> None:
        self._bell.ring([self._bell_name(topic)], NOTICE + text)

    def listen(self, topic: str) -> None:
        self._bell.listen(self._bell_name(topic))

    def _bell_name(self, topic: str) -> str:
        """The names of bells are the machine's: two journals may have a session of the same name."""
        return f"{self._file_id}/{topic}"

    def notifications(self) -> frozenset[str]:
        received = self._bell.quiet()
        seen, self._seen = self._seen, self._connection.execute("PRAGMA data_version").fetchone()[0]
        return received if seen in (None, self._seen) else received | {ANYTHING}

    def fileno(self) -> int | None:
        return self._bell.fileno()

    def has_unseen_notifications(self) -> bool:
        return False  # a bell rings until they are asked for

    @property
    def can_be_woken(self) -> bool:
        return self._bell.fileno() is not None

    def fold_soon(self) -> None:
        self._is_folding = True

    def _fold_log(self) -> bool:
        """Moves what the log has into the file, and empties it: whether no reader was in the way.

        Not if the file is another one by now: the log is under its old name, and may be that of the new file.
        """
        if files.file_id_of(self.path) != self._file_id:
            return False
        patience = self._connection.execute("PRAGMA busy_timeout").fetchone()[0]
        self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            return bool(self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        except sqlite3.Error:
            return False  # the commit before it is durable all the same
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {patience}")

    def check_still_there(self) -> None:
        if not self._is_in_place:
            reason = (
                "it was moved, removed or replaced while this session used it, so another would pay for its jobs again:"
                f" put it back together with {self._log.name}, and begin a new session"
            )
            raise JournalError(path=self.name, reason=reason)

    def hold_images(self) -> None:
        # An image that was accepted before the log is folded has been written once, and never into the file.
        if self._largest_log == _LARGEST_LOG:
            self._largest_log = _LARGEST_LOG_WITH_IMAGES
            self._connection.execute("PRAGMA secure_delete = FAST")

    def give_back(self) -> None:
        self._gives_back = self._is_folding = True

    def hurry(self, *, is_last_try: bool = False) -> None:
        """A file is silent for no longer than another session's write takes."""

    def close(self) -> None:
        self._bell.close()
        with contextlib.suppress(*self.FAULTS), contextlib.ExitStack() as last, contextlib.closing(self._connection):
            if files.file_id_of(self.path) != self._file_id:
                self._leave_log()
            elif self._connection.execute("SELECT 1 FROM journal WHERE log_due <> log_seen").fetchone():
                self._is_folding, self._is_due = False, True  # this session raised log_due, or one that was killed did
                try:
                    with self.transaction():
                        pass  # it sets log_seen: what SQLite writes back now is whole
                except sqlite3.Error:  # the disk is full: without the mark, the file must keep its log
                    last.enter_context(contextlib.closing(self._reader()))

    def _reader(self) -> sqlite3.Connection:
        """A connection that only reads. When it is closed last, SQLite leaves the log where it is."""
        reader = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
        reader.execute("SELECT log_due FROM journal").fetchall()
        return reader

    def _leave_log(self) -> None:
        """Leaves the log as it is: it lies under its old name, and may be that of the new file.

        SQLite sees by itself that its file was moved; from Python 3.12 on, a switch tells it to leave the log, too.
        """
        configure = getattr(self._connection, "setconfig", None)  # from Python 3.12 on
        if configure is not None:
            configure(_NO_CHECKPOINT_ON_CLOSE, True)

    def explain(self, fault: BaseException) -> JournalError:
        return _explained(self.path, fault)

    def is_outage(self, fault: BaseException) -> bool:
        return (getattr(fault, "sqlite_errorname", None) or "").startswith(_OUTAGES)


@functools.lru_cache(256)
def _translated(sql: str) -> tuple[str, bool]:
    """The statement for SQLite, and whether it has ``:now``."""
    return sql.replace(":change", SqliteDatabase.CHANGE), ":now" in sql


def _explained(path: Path, fault: BaseException) -> JournalError:
    code = getattr(fault, "sqlite_errorname", None) or ""
    is_damaged = isinstance(fault, UnicodeDecodeError) or "not decode" in str(fault)
    other = _DAMAGED if is_damaged else "SQLite cannot use it"
    advice = next((words for name, words in _ADVICE.items() if code.startswith(name)), other)
    return JournalError(path=str(path), reason=f"{advice} ({fault})")


def open_for_writing(
    path: Path, base_url: str | None, now: Callable[[], float], busy_timeout_s: float
) -> SqliteDatabase:
    """The journal at ``path``, made if there is none. Raises ``JournalError``."""
    files.check_files(path)
    files.make_new(path)
    opened = _connected(path, str(path.absolute()), now, busy_timeout_s)
    return database.prepared(opened, lambda: _prepare(opened, base_url))


def open_for_reading(path: Path) -> SqliteDatabase:
    """A connection that can only read. Works beside a session that writes. Raises ``JournalError``."""
    opened = _reader(path)
    return database.prepared(opened, lambda: _check_is_used(opened))


def is_used(path: Path) -> bool:
    """Whether a session has kept a journal there before: one that was killed may have left a file without a table."""
    if files.size_of(path) == 0:
        return False
    opened = _reader(path)
    with contextlib.closing(opened), database.faults_as_errors(opened):
        return _version_of_ours(opened) > 0


def _reader(path: Path) -> SqliteDatabase:
    files.check_files(path)
    if not path.exists():
        raise JournalError(path=str(path), reason="there is no such file")
    return _connected(path, f"{path.absolute().as_uri()}?mode=ro", lambda: 0.0)  # readers judge no lease


def _connected(path: Path, name: str, now: Callable[[], float], timeout_s: float = 5.0) -> SqliteDatabase:
    try:
        connection = sqlite3.connect(name, timeout=timeout_s, isolation_level=None, uri=name.startswith("file:"))
    except (sqlite3.Error, UnicodeDecodeError) as fault:
        raise _explained(path, fault) from fault
    connection.row_factory = sqlite3.Row
    return SqliteDatabase(path, connection, now)


def _check_is_used(opened: SqliteDatabase) -> None:
    if _version_of_ours(opened) == 0:
        raise JournalError(path=opened.name, reason=database.UNUSED)


def _prepare(opened: SqliteDatabase, base_url: str | None) -> None:
    version = _version_of_ours(opened)
    files.make_private(opened.path)  # not before: it might have been another program's file
    if version == 0:
        opened.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts only until the first table is made
    _use_wal(opened)
    opened.execute("PRAGMA synchronous = FULL")
    opened.execute("PRAGMA secure_delete = ON")
    opened.execute("PRAGMA wal_autocheckpoint = 0")
    opened.fold_soon()  # it raises log_due: from here on the file says that a part of it is in its log
    with opened.transaction():
        database.migrate(opened, _version_of_ours(opened))
        opened.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        opened.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.check_service(opened, base_url)
    problem = opened.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        raise JournalError(path=opened.name, reason=f"{_DAMAGED} ({problem})")


def _version_of_ours(opened: SqliteDatabase) -> int:
    """The schema version, 0 for an empty file. Raises ``JournalError`` if the file is another program's, or newer."""
    # Another process may make the journal meanwhile, and marks it as ours in the same commit: so that is read last.
    tables = opened.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = int(opened.execute("PRAGMA user_version").fetchone()[0])
    application = opened.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and (application or version or tables):
        raise JournalError(path=opened.name, reason="it is another program's SQLite file: give another path")
    database.check_version(opened.name, version)
    return version


def _use_wal(opened: SqliteDatabase) -> None:
    mode = _switch_to_wal(opened, _WAL_TRIES)
    if mode != "wal":
        reason = "its file system cannot hold a journal in WAL mode: give a path on a local disk"
        raise JournalError(path=opened.name, reason=reason)


def _switch_to_wal(opened: SqliteDatabase, tries: int) -> str:
    """The mode that it is in then. SQLite gives up at once when another process opens a new journal at that moment."""
    try:
        return str(opened.execute("PRAGMA journal_mode = WAL").fetchone()[0])
    except sqlite3.OperationalError:
        if tries == 1:
            raise
    opened.execute("BEGIN IMMEDIATE")  # this waits for the other
    opened.execute("ROLLBACK")
    return _switch_to_wal(opened, tries - 1)
