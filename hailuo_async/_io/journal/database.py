"""``Database`` is all that the table of jobs, the reader and the writer know of the engine that holds a journal.

There is one set of statements, in the SQL that SQLite and PostgreSQL share. Parameters are named, ``:name``. Two are
never given: ``:now``, the time of the clock that leases run by, in Unix seconds, read once a transaction or statement;
and ``:change``, see ``CHANGE``. In all else the engines may differ, and each promises:

                   SQLite (a file, one machine)             PostgreSQL (many machines)
    a commit       is on the disk when it returns           the same, by ``synchronous_commit``; a failover to an
                                                            asynchronous standby may lose the last ones
    a transaction  has the file to itself: what it reads    is READ COMMITTED: what it reads may change before it
                   stays true to its end                    writes, so each change says what it was decided on
    ``Rows``       are there at once                        cost a round trip when they are looked at, and nothing
                                                            after the transaction: they come with its commit
    ``:now``       this machine's clock                     the server's clock, the same for all machines
    notifications  that another connection has committed.   the topics that other sessions notified. They may get
                   A topic has a ``bell``, which only wakes lost: nothing may depend on them
    an outage      the file is locked, or the disk full     the server is gone, restarts, or has no room
    wiped URLs     are overwritten in every file            are deleted; the server's own log keeps them a while

A transaction that fails has changed nothing, unless the answer to its commit was lost: then it is not known. So every
write can be made again, and does the same then. A ``Database`` lives on one thread, that of its session's journal.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from hailuo_async.errors import JournalError
from hailuo_async.money import from_nanos

Parameters: TypeAlias = Mapping[str, object]
Row: TypeAlias = Mapping[str, Any]

#: Why nothing can be read of a journal, nor decided on.
UNUSED = "it is empty: no session has used it yet"
#: The notification that says only that something has changed.
ANYTHING = ""
#: How a notification begins that passes on a notice.
NOTICE = "notice:"

#: One entry for each schema version, which brings a journal from the version before it. Only ever appended to. What a
#: type is called is the engine's: ``Database.TYPES``.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE journal (base_url TEXT NOT NULL, opened_at {real} NOT NULL)",
        """CREATE TABLE job (
            seq {serial}, identity TEXT NOT NULL UNIQUE, key TEXT, fingerprint TEXT, kind TEXT, model TEXT,
            facts TEXT NOT NULL, prompt TEXT, state TEXT NOT NULL, task_id TEXT, sent_at {real}, accepted_at {real},
            ended_at {real}, video TEXT, error TEXT, saved_to TEXT, holder TEXT, lease_until {real},
            place {integer}, useful_until {real})""",
        "CREATE TABLE place (seq {serial}, urls {bytes} NOT NULL)",
        "CREATE INDEX job_by_task ON job (task_id) WHERE task_id IS NOT NULL",
        "CREATE INDEX job_by_holder ON job (holder) WHERE holder IS NOT NULL",
        "CREATE INDEX job_by_expiry ON job (useful_until) WHERE useful_until IS NOT NULL",
        "CREATE INDEX job_by_state ON job (state)",
    ),
    ("ALTER TABLE job ADD COLUMN saved_bytes {integer}", "ALTER TABLE job ADD COLUMN saved_sha256 TEXT"),
    (
        # In billionths of a dollar: what it costs at most, what it cost, and what earlier POSTs of it may have cost.
        "ALTER TABLE job ADD COLUMN price {integer}",
        "ALTER TABLE job ADD COLUMN cost {integer}",
        "ALTER TABLE job ADD COLUMN cost_before {integer}",
    ),
    (
        # See ``sqlite``: whether the file says of itself that a part of it is in its log alone.
        "ALTER TABLE journal ADD COLUMN log_due {integer} NOT NULL DEFAULT 0",
        "ALTER TABLE journal ADD COLUMN log_seen {integer} NOT NULL DEFAULT 0",
    ),
    (
        """CREATE TABLE team (
            version {integer} NOT NULL, writer TEXT NOT NULL, clock TEXT NOT NULL, state TEXT NOT NULL)""",
        "INSERT INTO team (version, writer, clock, state) VALUES (0, '', '', '')",
        "CREATE TABLE member (holder TEXT PRIMARY KEY, lease_until {real} NOT NULL, place {real})",
        "ALTER TABLE job ADD COLUMN changed {integer}",
        "CREATE INDEX job_by_change ON job (changed)",
    ),
    (
        # See ``kept``: whole jobs, their images by content, which jobs need them, and those images in pieces.
        "ALTER TABLE job ADD COLUMN kept TEXT",
        "ALTER TABLE job ADD COLUMN kept_form {integer}",
        "CREATE INDEX job_by_kept ON job (seq) WHERE kept_form IS NOT NULL",
        "CREATE TABLE picture (sha256 TEXT PRIMARY KEY, size {integer} NOT NULL, needed {integer} NOT NULL)",
        "CREATE TABLE need (identity TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (identity, sha256))",
        """CREATE TABLE piece (
            sha256 TEXT NOT NULL, number {integer} NOT NULL, data {bytes} NOT NULL, PRIMARY KEY (sha256, number))""",
    ),
    # How many jobs and members were deleted. No row is left to tell that, and ``changed`` may begin again lower.
    ("ALTER TABLE team ADD COLUMN gone {integer} NOT NULL DEFAULT 0",),
    # Until when a stage, and no job, needs an image: see ``staging``.
    ("ALTER TABLE need ADD COLUMN until {real}",),
    # The server on which the last step was made: see ``Database.server``.
    ("ALTER TABLE team ADD COLUMN server TEXT NOT NULL DEFAULT ''",),
    # What the jobs cost, or may have cost, that their owner had removed, in billionths of a dollar.
    ("ALTER TABLE journal ADD COLUMN forgotten {integer} NOT NULL DEFAULT 0",),
)

#: A record with where its result lies, and when it was read: the same columns for every reader.
SELECT = "SELECT job.*, place.urls, :now AS read_at FROM job LEFT JOIN place ON place.seq = job.place"


class Rows(Protocol):
    """The answer to a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any:
        """The next row, as ``Row``; ``None`` if there is none."""

    def fetchall(self) -> list[Any]:
        """The remaining rows, each as ``Row``."""


class Database(abc.ABC):
    """An open journal, in the engine that holds it. Methods raise the classes in ``FAULTS``, and ``JournalError``."""

    FAULTS: ClassVar[tuple[type[Exception], ...]]
    """The exceptions of an engine that fails. Not one of them is caused by a single job."""
    TYPES: ClassVar[Mapping[str, str]]
    """The engine's names for the types in ``MIGRATIONS``."""
    WIPE: ClassVar[str]
    """The statement that wipes the URLs of rows of ``place``, up to its WHERE."""

    IS_LOCAL: ClassVar[bool]
    """Whether it is a file of this machine. Then reading a row costs next to nothing, the row stays as it is until the
    transaction ends, the sessions share the machine's clocks, and no answer comes over ``fileno``."""
    CHANGE: ClassVar[str]
    """The SQL of ``:change``, the number of a change of this transaction. Later refreshes begin at or before it."""
    SEEN: ClassVar[str]
    """The SQL of the least number that a change can have which this statement does not see."""

    up_since: float
    """Since when sessions can reach it, by ``:now``; minus infinity if that is not known."""
    server: str
    """Names the server that is reached, and its history: a copy of the journal elsewhere may lack the last commits.
    Empty if that is not known, or cannot be."""
    connections: int
    """How many connections were made so far: a new one may not see all that was committed over the last. A journal
    that was put back under its sessions counts as one more."""
    name: str
    """Where the journal lies, for error messages. Without a password."""

    @abc.abstractmethod
    def execute(self, sql: str, parameters: Parameters | None = None) -> Rows:
        """Runs one statement, inside ``transaction`` if it writes. The rows may be read later."""

    @abc.abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Commits everything inside, durably. Any exception inside rolls all of it back."""

    @abc.abstractmethod
    def notify(self, topic: str) -> None:
        """Wakes the sessions that listen to the topic, when this transaction commits."""

    def notify_if(self, condition: str, topics: Collection[str], parameters: Parameters) -> None:
        """``notify`` of the topics, in one statement, if the SQL ``condition`` holds.

        In a file it holds already, as no other session can have written since.
        """
        for topic in topics:
            self.notify(topic)

    @abc.abstractmethod
    def send_notice(self, topic: str, text: str) -> None:
        """Sends ``NOTICE`` and ``text`` to the session that listens to the topic. Not part of a transaction."""

    @abc.abstractmethod
    def listen(self, topic: str) -> None:
        """Makes ``fileno`` readable for that topic from now on, if the engine can."""

    @abc.abstractmethod
    def notifications(self) -> frozenset[str]:
        """The topics that other sessions notified since the last call; empty if nothing has changed. Cheap."""

    @abc.abstractmethod
    def fileno(self) -> int | None:
        """A file descriptor that is readable when there are notifications; ``None``: poll them."""

    @abc.abstractmethod
    def has_unseen_notifications(self) -> bool:
        """Whether there are notifications that ``fileno`` no longer shows. May be called in any thread."""

    @property
    @abc.abstractmethod
    def can_be_woken(self) -> bool:
        """Whether ``fileno`` shows notifications at all, as long as the database can be reached."""

    @abc.abstractmethod
    def check_still_there(self) -> None:
        """Raises ``JournalError`` if the next session would not find what is written from now on."""

    @abc.abstractmethod
    def fold_soon(self) -> None:
        """Removes what this transaction wipes from the engine's log, too: after its commit, or later if it cannot."""

    @abc.abstractmethod
    def hold_images(self) -> None:
        """Prepares for images: their freed pages are not overwritten, and the log may grow larger."""

    @abc.abstractmethod
    def give_back(self) -> None:
        """Returns some free pages to the file system, where the engine does not do so by itself."""

    @abc.abstractmethod
    def hurry(self, *, is_last_try: bool = False) -> None:
        """Gives up a silent server sooner from now on, as the session closes. May be called in any thread.

        ``is_last_try``: what cannot be reached once more is not tried again.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connection. Doing so again does nothing."""

    @abc.abstractmethod
    def explain(self, fault: BaseException) -> JournalError:
        """A new error for the fault, whose words say what to do."""

    @abc.abstractmethod
    def is_outage(self, fault: BaseException) -> bool:
        """Whether ``fault`` may pass by itself, so that the same write should be tried again later."""


_ENDED = "CASE WHEN state IN ('success', 'failed') THEN COALESCE(cost, price, 0) ELSE 0 END"
#: A task that was attached before its own submit was answered has a second row, without a kind, and was paid for once.
_SPENT = f"""SELECT CAST(COALESCE(SUM({_ENDED} + COALESCE(cost_before, 0)), 0) AS BIGINT) AS spent FROM job
    WHERE kind IS NOT NULL
    OR NOT EXISTS (SELECT 1 FROM job AS own WHERE own.task_id = job.task_id AND own.kind IS NOT NULL)"""


def spent_in(opened: Database) -> Decimal:
    """What was paid for all jobs of a journal, and those that were removed, in USD."""
    journal = opened.execute("SELECT * FROM journal").fetchone()  # of an earlier version, or of a kill in its opening
    forgotten = dict(journal or ()).get("forgotten", 0)
    return from_nanos(opened.execute(_SPENT).fetchone()["spent"] + forgotten) or Decimal(0)


OpenedT = TypeVar("OpenedT", bound=Database)


@contextlib.contextmanager
def faults_as_errors(database: Database) -> Iterator[None]:
    """Turns what the engine raises inside into ``JournalError``."""
    try:
        yield
    except database.FAULTS as fault:
        raise database.explain(fault) from fault


def prepared(database: OpenedT, prepare: Callable[[], None]) -> OpenedT:
    """``database`` after ``prepare``, and closed if that fails. Raises ``JournalError``."""
    try:
        with faults_as_errors(database):
            prepare()
    except BaseException:
        database.close()
        raise
    return database


def migrate(database: Database, version: int) -> None:
    """Brings a journal of that schema version to the newest. To be called in a transaction that no other may enter."""
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            database.execute(statement.format_map(database.TYPES))


def check_version(name: str, version: int) -> None:
    """Raises ``JournalError`` for a journal that a newer version of this library made."""
    if version > len(MIGRATIONS):
        reason = f"a newer version of this library made it (schema {version}, known up to {len(MIGRATIONS)}): upgrade"
        raise JournalError(path=name, reason=reason)


def check_service(database: Database, base_url: str | None) -> None:
    """One journal is for one service. The write also proves that there is room, before anything is sent."""
    row = database.execute("SELECT base_url FROM journal").fetchone()
    if row is None and base_url is None:
        raise JournalError(path=database.name, reason=UNUSED)
    if row is None:
        database.execute("INSERT INTO journal (base_url, opened_at) VALUES (:base_url, :now)", {"base_url": base_url})
    elif base_url not in (None, row["base_url"]):
        reason = f"it belongs to {row['base_url']}, and this session to {base_url}: give each its own"
        raise JournalError(path=database.name, reason=reason)
    else:
        database.execute("UPDATE journal SET opened_at = :now")
