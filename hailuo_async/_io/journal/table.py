"""What happens to a job on disk: each change a compare-and-set inside the transaction of its caller.

Two processes may work from one file, so no change trusts what was read earlier:

- A job is sent by whoever turns it from INTENDED, held by itself, into SENDING. Only one can.
- Leases are by the wall clock, which may jump, and a holder may sleep past its own. So a lease decides who works a
  job, never whether it is paid for: a takeover finds INTENDED (the old holder's compare-and-set then fails), or
  ACCEPTED (both ask, nobody sends), or SENDING, which becomes UNKNOWN.
- What the service said of a task is a fact, and is recorded whoever holds the row by then. If the row has another
  task by then, both were paid for, and the second gets a row of its own.

The writes of many jobs share one transaction. What one of them can do wrong it does before it changes anything, so it
leaves nothing half done for the others; what SQLite refuses is undone for all of them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from hailuo_async._io.journal import database, owner
from hailuo_async._io.journal.records import (
    COLUMNS,
    Claim,
    Intent,
    JournalState,
    Record,
    error_text,
    expiry_of,
    facts_text,
    record_from,
    video_text,
)
from hailuo_async.errors import HailuoError, JobError, SubmissionUnknownError
from hailuo_async.outcomes import Video

#: Results last 24 hours by the older documents and 7 days by the newer: the longer, where the service did not say.
_LONGEST_RESULT_S = 7 * 24 * 3600.0
#: A lease further ahead than this many of its own lengths was not given by this clock: it has jumped back.
_LEASES_AHEAD = 2
_LEFT_BEHIND = "the process that sent it ended before the answer was on record"

_UNFINISHED = (JournalState.INTENDED, JournalState.SENDING, JournalState.ACCEPTED, JournalState.UNKNOWN)
_SENDABLE_AGAIN = (JournalState.UNKNOWN, JournalState.REFUSED, JournalState.FAILED)
_FORGETTABLE = (*_SENDABLE_AGAIN, JournalState.SUCCESS, JournalState.INTENDED)

#: A row in which nothing was written yet.
_NOTHING: dict[str, object] = dict.fromkeys((*COLUMNS, "urls"))
#: Whether the job's own row is where a fact about a task belongs. It nearly always is, and then one statement does.
_OF_THIS_TASK = "(task_id IS NULL OR task_id = :task_id)"
_FREE: dict[str, object] = {"holder": None, "lease_until": None}
_NO_END: dict[str, object] = {"ended_at": None, "error": None}
_UNSENT: dict[str, object] = {"task_id": None, "sent_at": None, "accepted_at": None, **_NO_END}
#: What a row tells of its task rather than of the job that led to it.
_OF_THE_TASK = (
    *("state", "task_id", "accepted_at", "ended_at", "video", "error", "saved_to"),
    *("place", "useful_until", "holder", "lease_until"),
)


@attrs.define(eq=False)
class JobTable:
    """One connection to the file of a journal, for one session. Lives on the thread that made it."""

    _connection: sqlite3.Connection
    path: Path
    holder: str
    _lease_s: float
    _now: Callable[[], float]
    _wiped: bool = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is durable when it ends, or none of it happened. Then gone URLs leave the log, too."""
        with database.transaction(self._connection):
            yield
        self._drop_wiped()

    def close(self) -> None:
        """Gives up every lease, forgets what is out of date, and folds the log into the file.

        The file is closed whatever happens to the rest.
        """
        with contextlib.closing(self._connection), self.transaction():
            columns = ", ".join(f"{name} = NULL" for name in _FREE)
            self._connection.execute(f"UPDATE job SET {columns} WHERE holder = ?", (self.holder,))
            self.wipe_expired()
            self._wiped = True

    # What a session does with a job, in the order of a job's life.

    def intend(self, intent: Intent) -> Claim:
        """Takes the job up, or tells how it stands. Raises ``JobError`` if its key names another job here.

        One that the service refused cost nothing, so its key is free for it when it was corrected.
        """
        asked = {
            "key": intent.key,
            "fingerprint": intent.fingerprint,
            "kind": intent.kind,
            "model": intent.model,
            "facts": facts_text(intent.facts),
            "prompt": intent.prompt,
            "state": JournalState.INTENDED,
        }
        claim = self._insert(identity=intent.identity, **asked)
        if claim.ours:
            return claim
        record = self._reread(claim.record)
        if record.state is JournalState.REFUSED:
            return self._take(record, {**asked, **_UNSENT})
        if record.fingerprint != intent.fingerprint:
            rule = "names another job in this journal: give this one its own, or use another journal"
            raise JobError(field="key", value=intent.identity, rule=rule)
        return self._claim(record)

    def sending(self, identity: str, sent_at: float) -> bool:
        """Whether this session, and no other, may send the job now."""
        emitter = {"state": "sending", "sent_at": sent_at}
        return self._change(identity, emitter, "state = 'intended' AND holder = :us")

    def unsent(self, identity: str) -> None:
        """The POST certainly was not accepted, and is to be made again."""
        self._change(identity, {"state": "intended", "sent_at": None}, "state = 'sending' AND holder = :us")

    def release(self, identity: str) -> None:
        """This session works on the job no longer."""
        self._change(identity, _FREE, "state != 'sending' AND holder = :us")

    def accepted(self, identity: str, task_id: str, at: float) -> None:
        """The service has it: a fact, recorded whoever holds the row."""
        emitter = {"state": "accepted", "task_id": task_id, "accepted_at": at, **_NO_END, **self._held()}
        still_open = "state NOT IN ('success', 'failed')"
        if not self._change(identity, emitter, f"{_OF_THIS_TASK} AND {still_open}"):
            self._change(self._row_of_task(identity, task_id), emitter, still_open)

    def refused(self, identity: str, error: HailuoError) -> None:
        """The service did not take it."""
        emitter = {"state": "refused", "error": error_text(error)}
        self._end(identity, emitter, "state IN ('intended', 'sending') AND holder = :us")

    def unknown(self, identity: str, error: HailuoError) -> None:
        """Nobody knows whether the service took it."""
        emitter = {"state": "unknown", "error": error_text(error)}
        self._end(identity, emitter, "state = 'sending' AND holder = :us")

    def failed(self, identity: str, error: HailuoError) -> None:
        """The service gave it up, or no longer knows it. A video that was seen before stays."""
        emitter: dict[str, object] = {"state": "failed", "error": error_text(error)}
        row = identity
        if error.task_id is not None:
            emitter["task_id"] = error.task_id
            row = self._row_of_task(identity, error.task_id)
        self._end(row, emitter, "state != 'success'")

    def succeeded(self, identity: str, video: Video) -> None:
        """The video is there."""
        told, urls = video_text(video)
        place = self._connection.execute("INSERT INTO place (urls) VALUES (?)", (urls.encode(),)).lastrowid
        until = expiry_of(video, self._now(), _LONGEST_RESULT_S)
        emitter: dict[str, object] = {"state": "success", "task_id": video.task_id, "video": told, "error": None}
        emitter |= {"place": place, "useful_until": until}
        if not self._end(identity, emitter, f"{_OF_THIS_TASK} AND place IS NULL"):
            row = self._row_of_task(identity, video.task_id)
            self._wipe("job.identity = ?", row)
            self._end(row, emitter)

    def saved(self, task_id: str, path: str) -> None:
        """The video lies at ``path`` on this machine, so its URLs are of no more use."""
        self._connection.execute("UPDATE job SET saved_to = ? WHERE task_id = ?", (path, task_id))
        self._wipe("job.task_id = ?", task_id)

    def renew(self) -> None:
        """Every lease of this session runs anew from now; what has expired is forgotten."""
        sql = "UPDATE job SET lease_until = ? WHERE holder = ?"
        self._connection.execute(sql, (self._now() + self._lease_s, self.holder))
        self.wipe_expired()

    # What a session does with tasks that it did not submit.

    def adopt(self, task_id: str, model: str | None) -> Claim:
        """Takes up the task, whether a job here led to it or it was submitted elsewhere."""
        record = self.find_task(task_id)
        if record is not None:
            return self._claim(record)
        columns = {"model": model, "facts": "{}", "task_id": task_id, "accepted_at": self._now()}
        identity = f"task:{task_id}"
        while not (claim := self._insert(identity=identity, state=JournalState.ACCEPTED, **columns)).ours:
            identity = f"task:{identity}"  # somebody's key was just that
        return claim

    def unfinished(self) -> list[Record]:
        """Every job without an end, oldest first, each task taken up that nobody else waits for."""
        sql = f"{database.SELECT} WHERE state IN (?, ?, ?, ?) ORDER BY job.seq"
        records = [self._record(row) for row in self._connection.execute(sql, _UNFINISHED).fetchall()]
        return [self._continue(record).record for record in records]

    def follow(self, identity: str) -> Claim | None:
        """How the job of that name stands; taken up if that can be done without the job itself."""
        record = self.find(identity)
        return None if record is None else self._continue(record)

    def resolve(self, identity: str, *, resubmit: bool, task_id: str | None, forget: bool) -> Record | None:
        """Its owner's word on a job that nobody works on. ``None`` when it was to be forgotten."""
        record = self.find(identity)
        if record is None:
            raise JobError(field="key", value=identity, rule="must name a job in this journal")
        record = self._claim(record).record if record.state is JournalState.SENDING else record
        if forget:
            self._forget(record)
            return None
        if task_id is not None:
            _check_state(record, (JournalState.UNKNOWN,), "is given a task id")
            self._become(record, task_id)
        else:
            _check_state(record, _SENDABLE_AGAIN, "is sent again")
            self._change(identity, {"state": "intended", **_UNSENT, **_FREE})
        return self.find(identity)

    # Reading.

    def find(self, identity: str) -> Record | None:
        """The job of that name."""
        return self._first("job.identity = ?", identity)

    def find_task(self, task_id: str) -> Record | None:
        """The job that led to that task."""
        return self._first("job.task_id = ?", task_id)

    def wipe_expired(self) -> None:
        """The URLs of results that are no longer at the service go."""
        self._wipe("job.useful_until <= ?", self._now())

    def _first(self, condition: str, value: str) -> Record | None:
        sql = f"{database.SELECT} WHERE {condition} ORDER BY job.seq LIMIT 1"
        row = self._connection.execute(sql, (value,)).fetchone()
        return None if row is None else self._record(row)

    def _record(self, row: sqlite3.Row | Mapping[str, Any]) -> Record:
        return record_from(row, str(self.path))

    # Leases.

    def _held(self) -> dict[str, object]:
        return {"holder": self.holder, "lease_until": self._now() + self._lease_s}

    def _is_held_elsewhere(self, record: Record) -> bool:
        if record.holder in (None, self.holder) or record.lease_until is None:
            return False
        left_s = record.lease_until - self._now()
        return 0 < left_s <= _LEASES_AHEAD * self._lease_s and not owner.is_gone(record.holder)

    def _continue(self, record: Record) -> Claim:
        """Takes up what can be gone on with without the job itself. An unsent one is told without a dead holder."""
        if record.state is not JournalState.INTENDED:
            return self._claim(record)
        is_worked_on = record.holder == self.holder or self._is_held_elsewhere(record)
        return Claim(record if is_worked_on else attrs.evolve(record, holder=None, lease_until=None), ours=False)

    def _claim(self, record: Record) -> Claim:
        """Takes up what nobody else works on; says of what was left in the middle of its POST that it is in doubt."""
        if record.state not in _UNFINISHED or record.state is JournalState.UNKNOWN or self._is_held_elsewhere(record):
            return Claim(record, ours=False)
        if record.state is not JournalState.SENDING:
            return self._take(record)
        if record.holder == self.holder:
            return Claim(record, ours=False)
        doubt = SubmissionUnknownError(reason=_LEFT_BEHIND, key=record.identity, sent_at=record.sent_at)
        self._end(record.identity, {"state": "unknown", "error": error_text(doubt)})
        return Claim(self._reread(record), ours=False)

    def _take(self, record: Record, emitter: Mapping[str, object] = MappingProxyType({})) -> Claim:
        self._change(record.identity, {**emitter, **self._held()})
        return Claim(self._reread(record), ours=True)

    # Rows.

    def _reread(self, record: Record) -> Record:
        return self.find(record.identity) or record

    def _insert(self, **columns: object) -> Claim:
        """A new row, held by this session; not ours if there is one of that identity."""
        columns |= self._held()
        names, marks = ", ".join(columns), ", ".join(f":{name}" for name in columns)
        sql = f"INSERT INTO job ({names}) VALUES ({marks}) ON CONFLICT (identity) DO NOTHING"
        is_new = self._connection.execute(sql, columns).rowcount == 1
        return Claim(self._record({**_NOTHING, **columns}), ours=is_new)

    def _change(self, identity: str, emitter: Mapping[str, object], condition: str = "TRUE") -> bool:
        """Sets columns of one job if ``condition`` holds for it, in one statement: whether it did.

        ``:us`` is this session; the other names are those of ``emitter``.
        """
        changes = ", ".join(f"{name} = :{name}" for name in emitter)
        sql = f"UPDATE job SET {changes} WHERE identity = :identity AND {condition}"
        return self._connection.execute(sql, {**emitter, "identity": identity, "us": self.holder}).rowcount == 1

    def _end(self, identity: str, emitter: Mapping[str, object], condition: str = "TRUE") -> bool:
        return self._change(identity, {**emitter, "ended_at": self._now(), **_FREE}, condition)

    def _row_of_task(self, identity: str, task_id: str) -> str:
        """The identity of the row that a fact about a task belongs to: the job's, unless that has another task."""
        record = self.find(identity)
        if record is None or record.task_id not in (None, task_id):
            record = self.find_task(task_id) or self.adopt(task_id, None if record is None else record.model).record
        return record.identity

    def _become(self, record: Record, task_id: str) -> None:
        """A job in doubt led to ``task_id``, it turns out. If that was attached to meanwhile, the two rows merge."""
        other = self.find_task(task_id)
        if other is None:
            emitter = {"state": "accepted", "task_id": task_id, "accepted_at": self._now()}
            self._change(record.identity, {**emitter, **_NO_END})
            return
        if other.kind is not None:
            raise JobError(
                field="task_id",
                value=task_id,
                rule=f"is that of job {other.identity!r} in this journal: resolve that one",
            )
        columns = ", ".join(_OF_THE_TASK)
        sql = f"UPDATE job SET ({columns}) = (SELECT {columns} FROM job WHERE identity = ?) WHERE identity = ?"
        self._connection.execute(sql, (other.identity, record.identity))
        self._connection.execute("DELETE FROM job WHERE identity = ?", (other.identity,))

    def _forget(self, record: Record) -> None:
        if record.state is JournalState.INTENDED and (record.holder == self.holder or self._is_held_elsewhere(record)):
            raise JobError(field="key", value=record.identity, rule="must name a job that no session works on")
        _check_state(record, _FORGETTABLE, "is forgotten")
        self._wipe("job.identity = ?", record.identity)
        self._connection.execute("DELETE FROM job WHERE identity = ?", (record.identity,))

    def _wipe(self, condition: str, value: object) -> None:
        """Overwrites, where they lie, the URLs of every job for which ``condition`` holds."""
        which = f"{condition} AND job.place IS NOT NULL"
        sql = f"UPDATE place SET urls = zeroblob(length(urls)) WHERE seq IN (SELECT place FROM job WHERE {which})"
        if self._connection.execute(sql, (value,)).rowcount:
            self._connection.execute(f"UPDATE job SET place = NULL, useful_until = NULL WHERE {which}", (value,))
            self._wiped = True

    def _drop_wiped(self) -> None:
        """The log still has what was overwritten. A reader may hold it just now: then it goes with a later commit."""
        if self._wiped:
            self._wiped = not database.fold_log(self._connection)


def open_table(
    path: Path, base_url: str, now: Callable[[], float], holder: str | None, lease_s: float, busy_timeout_s: float
) -> JobTable:
    """The ledger in the file at ``path``, made if there is none. Raises ``JournalError``."""
    connection = database.open_for_writing(path, base_url, now(), busy_timeout_s)
    table = JobTable(connection, path, holder or owner.this_holder(), lease_s, now)
    with database.told_in_words(path), table.transaction():
        table.wipe_expired()
    return table


def _check_state(record: Record, allowed: tuple[JournalState, ...], what: str) -> None:
    if record.state not in allowed:
        rule = f"must name a job that is {' or '.join(allowed)}; this one is {record.state}, and only such a job {what}"
        raise JobError(field="key", value=record.identity, rule=rule)
