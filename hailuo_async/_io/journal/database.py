"""The file of a journal: how it is opened, what stands in it, and what its faults are called.

SQLite in WAL mode with ``synchronous=FULL``: a commit that has returned survives a loss of power, and others can read
meanwhile. Before anything is sent, opening proves that the file is ours, whole, of a version that we know, for the
same service, and can be written to.

The signed URLs of results lie in ``place``, a table that only grows. Wiping one overwrites it with as many zeros, in
place. A row that changed its length, or went, would make SQLite move its neighbours, and it leaves copies of what it
moved in the gaps of pages even with ``secure_delete``: measured, 2 URLs of 2000 were found again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from hailuo_async.errors import JournalError

#: "Hail" in ASCII: how SQLite's own ``file`` magic tells our journals from other programs' databases.
APPLICATION_ID = 0x4861696C

#: One entry for each schema version, which brings a file from the version before it. Only ever appended to.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE journal (base_url TEXT NOT NULL, opened_at REAL NOT NULL)",
        """CREATE TABLE job (
            seq INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, key TEXT, fingerprint TEXT, kind TEXT, model TEXT,
            facts TEXT NOT NULL, prompt TEXT, state TEXT NOT NULL, task_id TEXT, sent_at REAL, accepted_at REAL,
            ended_at REAL, video TEXT, error TEXT, saved_to TEXT, holder TEXT, lease_until REAL,
            place INTEGER, useful_until REAL)""",
        "CREATE TABLE place (seq INTEGER PRIMARY KEY, urls BLOB NOT NULL)",
        "CREATE INDEX job_by_task ON job (task_id) WHERE task_id IS NOT NULL",
        "CREATE INDEX job_by_holder ON job (holder) WHERE holder IS NOT NULL",
        "CREATE INDEX job_by_expiry ON job (useful_until) WHERE useful_until IS NOT NULL",
        "CREATE INDEX job_by_state ON job (state)",
    ),
)

#: Several processes may open the same new journal at the same moment; each try lets one of them finish.
_WAL_TRIES = 5

#: A record with where its result lies: the same columns for every reader.
SELECT = "SELECT job.*, place.urls FROM job LEFT JOIN place ON place.seq = job.place"

_ADVICE = {
    "SQLITE_FULL": "the disk is full: free some room, then run it again",
    "SQLITE_BUSY": "another program has locked it: end that program, or give another path",
    "SQLITE_LOCKED": "another program has locked it: end that program, or give another path",
    "SQLITE_READONLY": "it cannot be written: give a file in a directory that this user may write to",
    "SQLITE_CANTOPEN": "it cannot be opened or made: give a file in a directory that this user may write to",
    "SQLITE_PERM": "it cannot be opened: give a file that this user may read and write",
    "SQLITE_NOTADB": "it is not a SQLite file: give the path of a journal, or of a file that does not exist yet",
    "SQLITE_CORRUPT": "it is damaged or cut short: restore it from a copy, or keep it to look at and begin another",
    "SQLITE_IOERR": "the disk or the file system failed: look at both, then run it again",
}


def journal_error(path: Path, cause: BaseException) -> JournalError:
    """The fault ``cause`` in words that say what to do."""
    code = getattr(cause, "sqlite_errorname", None) or ""
    advice = next((words for name, words in _ADVICE.items() if code.startswith(name)), "SQLite cannot use it")
    return JournalError(path=str(path), reason=f"{advice} ({cause})")


@contextlib.contextmanager
def told_in_words(path: Path) -> Iterator[None]:
    """Turns what SQLite raises inside into ``JournalError``."""
    try:
        yield
    except sqlite3.Error as error:
        raise journal_error(path, error) from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything inside happens, durably, or nothing does. Waits for another writer as long as the busy timeout."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk or a failed write has rolled back already, and may fail to do so again.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def fold_log(connection: sqlite3.Connection) -> bool:
    """Moves what the log has into the file, and empties it: whether that could be done without waiting for a reader."""
    patience = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    except sqlite3.Error:
        return False  # the commit before it is durable all the same
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")


def open_for_writing(path: Path, base_url: str, now: float, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection to the journal at ``path``, made if there is none. Raises ``JournalError``."""
    _check_path(path)
    with told_in_words(path):
        connection = sqlite3.connect(path.absolute(), timeout=busy_timeout_s, isolation_level=None)
        try:
            _prepare(connection, path, base_url, now)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that can only read. Works beside a session that writes. Raises ``JournalError``."""
    _check_path(path)
    if not path.exists():
        raise JournalError(path=str(path), reason="there is no such file")
    with told_in_words(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            if _version_of_ours(connection, path) == 0:
                raise JournalError(path=str(path), reason="it is empty: no session has used it yet")
        except BaseException:
            connection.close()
            raise
    connection.row_factory = sqlite3.Row
    return connection


def _check_path(path: Path) -> None:
    directory = path.absolute().parent
    if path.is_dir():
        raise JournalError(path=str(path), reason="it is a directory: give the path of a file in it")
    if not directory.is_dir():
        raise JournalError(path=str(path), reason=f"there is no directory {os.fspath(directory)}: make it first")


def _prepare(connection: sqlite3.Connection, path: Path, base_url: str, now: float) -> None:
    _version_of_ours(connection, path)
    _use_wal(connection, path)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.row_factory = sqlite3.Row
    with transaction(connection):
        _migrate(connection, _version_of_ours(connection, path))
        _check_service(connection, path, base_url, now)
    problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        raise JournalError(path=str(path), reason=f"{_ADVICE['SQLITE_CORRUPT']} ({problem})")


def _version_of_ours(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version, 0 for an empty file. Raises ``JournalError`` if the file is someone else's, or newer."""
    # Another process may make the journal meanwhile, and marks it as ours in the same commit: so that is read last.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and (application or version or tables):
        raise JournalError(path=str(path), reason="it is another program's SQLite file: give another path")
    if version > len(MIGRATIONS):
        reason = f"a newer version of this library made it (schema {version}, known up to {len(MIGRATIONS)}): upgrade"
        raise JournalError(path=str(path), reason=reason)
    return version


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    mode = _switch_to_wal(connection, _WAL_TRIES)
    if mode != "wal":
        reason = "its file system cannot hold a journal in WAL mode: give a path on a local disk"
        raise JournalError(path=str(path), reason=reason)


def _switch_to_wal(connection: sqlite3.Connection, tries: int) -> str:
    """The mode that it is in then. SQLite gives up at once when another process opens a new journal at that moment."""
    try:
        return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
    except sqlite3.OperationalError:
        if tries == 1:
            raise
    connection.execute("BEGIN IMMEDIATE")  # this waits for the other
    connection.execute("ROLLBACK")
    return _switch_to_wal(connection, tries - 1)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _check_service(connection: sqlite3.Connection, path: Path, base_url: str, now: float) -> None:
    """One journal is for one service. The write also proves that there is room, before anything is sent."""
    row = connection.execute("SELECT base_url FROM journal").fetchone()
    if row is None:
        connection.execute("INSERT INTO journal VALUES (?, ?)", (base_url, now))
    elif row["base_url"] != base_url:
        reason = f"it belongs to {row['base_url']}, and this session to {base_url}: give each its own"
        raise JournalError(path=str(path), reason=reason)
    connection.execute("UPDATE journal SET opened_at = ?", (now,))
