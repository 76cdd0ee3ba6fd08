"""The rows of a journal: how one is found, written, and changed only if it is as it was read."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import attrs

from hailuo_async._io.journal import database, holders
from hailuo_async._io.journal.database import Database, Rows
from hailuo_async._io.journal.records import Record, Spending, record_from
from hailuo_async._rules.leases import Judgement
from hailuo_async.errors import HailuoError, JournalError
from hailuo_async.money import from_nanos

logger = logging.getLogger("hailuo_async")

#: Every so many renewals URLs are wiped that have expired: once a minute, where they are kept for a day.
_WIPES_EVERY = 6

#: What a change sets, as SQL. ``:us`` is this session.
CHANGED = "changed = :change"
HELD = "holder = :us, lease_until = :now + :lease_s"
FREE = "holder = NULL, lease_until = NULL"
NO_END = "ended_at = NULL, error = NULL"
ENDED = f"ended_at = :now, {FREE}"
#: Whether a lease was not renewed, and whether it counts as ended, as ``Judgement.is_over`` decides it.
#: ``JobRows.judging`` gives the parameters.
LAPSED = "(lease_until <= :now OR lease_until > :now + :longest_s)"
IS_OVER = f"({LAPSED} AND :now BETWEEN :judges_from AND :judges_until)"
#: Whether a row is as it was read: no other session has claimed or changed it.
UNCHANGED = "state = :was_state AND COALESCE(holder, '') = :was_holder AND COALESCE(lease_until, 0) = :was_leased"
#: A row that was just written, as ``database.SELECT`` has it. What is inserted or claimed has no result.
RETURNING = "RETURNING *, NULL AS urls, :now AS read_at"


@functools.cache
def change(changes: str, condition: str = "TRUE", returning: str = "") -> str:
    """The statement that changes the job ``:identity`` if ``condition`` holds for it."""
    return f"UPDATE job SET {changes}, {CHANGED} WHERE identity = :identity AND {condition} {returning}"


def insertion(returning: str, **columns: str) -> str:
    """The statement that enters a job, held by this session, if its identity is new. Values are SQL."""
    return f"""INSERT INTO job ({", ".join(columns)}, changed, holder, lease_until)
        VALUES ({", ".join(columns.values())}, :change, :us, :now + :lease_s)
        ON CONFLICT (identity) DO NOTHING {returning}"""


class Later:
    """The result of a write that is read after its transaction, so that it needs no round trip of its own."""

    def outcome(self) -> object:
        """Reads the result."""
        raise NotImplementedError


@attrs.frozen
class Changed(Later):
    """Whether a change was made."""

    _rows: Rows

    def __bool__(self) -> bool:
        return self._rows.rowcount == 1

    def outcome(self) -> bool:
        return bool(self)


@attrs.define(eq=False)
class JobRows:
    """The rows of a journal, for one session. Lives on the thread of its database."""

    database: Database
    holder: str
    lease_s: float
    frees_kept: bool = attrs.field(default=False, init=False)
    """Whether there may be whole jobs in the journal, which go when they are accepted or end."""
    judgement: Judgement = attrs.field(init=False)
    """Of the leases of other sessions."""
    followers: frozenset[str] = attrs.field(default=frozenset(), init=False)
    """The other sessions that follow jobs of others, as far as this one knows: it notifies them of each change."""
    _read_at: float = attrs.field(default=0.0, init=False)
    """When the last row was read, by the clock of the leases."""
    _renewals: int = attrs.field(default=0, init=False)
    _logged: set[tuple[str, str, object]] = attrs.field(factory=set, init=False)
    """What the log says, of which job and POST: a transaction may be made twice."""

    def __attrs_post_init__(self) -> None:
        self.judgement = Judgement(self.lease_s)
        self.judgement.journal_came_back(self.database.up_since)

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside is durable when it ends, or nothing has changed."""
        return self.database.transaction()

    def find(self, identity: str) -> Record | None:
        """The job of that identity."""
        return self._first("job.identity = :value", identity)

    def find_task(self, task_id: str) -> Record | None:
        """The job that led to that task."""
        return self._first("job.task_id = :value", task_id)

    def number_of(self, identity: str) -> int | None:
        """The number of a job's row: another one since it was entered again, unless it was the last one in SQLite."""
        row = self.database.execute("SELECT seq FROM job WHERE identity = :value", {"value": identity}).fetchone()
        return None if row is None else int(row["seq"])

    def renew_leases(self) -> None:
        """Renews every lease of this session, and wipes expired URLs at the first renewal and then now and then."""
        self._execute("UPDATE job SET lease_until = :now + :lease_s WHERE holder = :us")
        if self._renewals % _WIPES_EVERY == 0:
            self.wipe_expired()
        self._renewals += 1

    def wipe_expired(self) -> None:
        """Wipes the URLs of results that the service no longer keeps."""
        self._wipe("job.useful_until <= :now", None)

    def spending(self) -> Spending:
        """What was paid for the jobs here, and what those may cost that were sent and have not ended."""
        spent = database.spent_in(self.database)
        sql = "SELECT identity, price FROM job WHERE state IN ('sending', 'accepted', 'unknown') AND price IS NOT NULL"
        prices = {row["identity"]: from_nanos(row["price"]) for row in self.database.execute(sql).fetchall()}
        return Spending(spent, {name: price for name, price in prices.items() if price is not None})

    def _first(self, condition: str, value: str) -> Record | None:
        sql = f"{database.SELECT} WHERE {condition} ORDER BY job.seq LIMIT 1"
        row = self.database.execute(sql, {"value": value}).fetchone()
        return None if row is None else self._record(row)

    def _record(self, row: Mapping[str, Any]) -> Record:
        self._read_at = row["read_at"]
        return record_from(row, self.database.name)

    def readable(self, row: Mapping[str, Any]) -> Record | None:
        """A row of many, as a value. ``None``, and a warning with its name, if it is damaged: the others go on."""
        try:
            return self._record(row)
        except JournalError as error:
            self.log_damage(row["identity"], error)
            return None

    def log_damage(self, identity: str, error: JournalError) -> None:
        """Logs, once, that the row of a job cannot be read."""
        self.log_once(identity, "%s; all other jobs go on", error)

    def log_once(self, identity: str, message: str, error: HailuoError) -> None:
        """Logs a warning about a job, once; if the error is about one of its POSTs, once for each."""
        entry = identity, message, getattr(error, "sent_at", None)
        if entry not in self._logged:
            self._logged.add(entry)
            logger.warning(message, error)

    def judging(self) -> dict[str, float]:
        """The parameters of ``LAPSED`` and ``IS_OVER``."""
        begins_at, ends_at = self.judgement.due
        return {"judges_from": begins_at, "judges_until": ends_at, "longest_s": self.judgement.longest_s}

    def _is_held_elsewhere(self, record: Record) -> bool:
        if record.holder in (None, self.holder) or record.lease_until is None:
            return False
        is_over = self.judgement.is_over(record.lease_until, self._read_at)
        return not is_over and not holders.is_gone(record.holder)

    def _change(self, identity: str, changes: str, condition: str = "TRUE", **given: object) -> Changed:
        """Changes one job if ``condition`` holds for it, in one statement: whether it did."""
        self.notify_followers()
        return Changed(self._execute(change(changes, condition), identity=identity, **given))

    def _end(self, identity: str, changes: str, condition: str = "TRUE", **given: object) -> Changed:
        return self._change(identity, f"{changes}, {ENDED}", condition, **given)

    def _execute(self, sql: str, **given: object) -> Rows:
        given["us"], given["lease_s"] = self.holder, self.lease_s
        return self.database.execute(sql, given)

    def free_kept(self, identity: str) -> None:
        """Removes what was kept to send the job, and every image that no other job needs."""
        if self.frees_kept:
            self.forget_kept(identity)

    def forget_kept(self, identity: str) -> None:
        """``free_kept``, for a job that may have been kept by another session."""
        theirs = "(SELECT sha256 FROM need WHERE identity = :identity)"
        for sql in (
            "UPDATE job SET kept = NULL, kept_form = NULL WHERE identity = :identity",
            f"UPDATE picture SET needed = needed - 1 WHERE sha256 IN {theirs}",
            f"DELETE FROM piece WHERE sha256 IN (SELECT sha256 FROM picture WHERE needed <= 0 AND sha256 IN {theirs})",
            f"DELETE FROM picture WHERE needed <= 0 AND sha256 IN {theirs}",
            "DELETE FROM need WHERE identity = :identity",
        ):
            self.database.execute(sql, {"identity": identity})

    def notify_followers(self) -> None:
        """Wakes, with the commit, the sessions that follow jobs of others: one has changed."""
        for follower in self.followers:
            self.database.notify(follower)

    def count_gone(self) -> None:
        """Notes that a row of a job or of a member was deleted: sessions that follow a job ask what became of it."""
        self.database.execute("UPDATE team SET gone = gone + 1")
        self.notify_followers()

    def _wipe(self, condition: str, value: object) -> None:
        """Wipes the URLs of every job for which ``condition`` holds, of ``:value``."""
        which, given = f"{condition} AND job.place IS NOT NULL", {"value": value}
        wiping = f"{self.database.WIPE} WHERE seq IN (SELECT place FROM job WHERE {which})"
        if self.database.execute(wiping, given).rowcount:
            self.database.execute(f"UPDATE job SET place = NULL, useful_until = NULL WHERE {which}", given)
            self.database.fold_soon()


def as_read(record: Record) -> dict[str, object]:
    """The parameters of ``UNCHANGED``."""
    return {"was_state": record.state, "was_holder": record.holder or "", "was_leased": record.lease_until or 0.0}
