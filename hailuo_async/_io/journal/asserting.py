"""The table of a session whose database may lose commits: after each reconnect it says again what it knows.

A failover to an asynchronous standby loses the last commits. The sessions that made them are alive, in most cases, and
know them. So a session that reconnects first writes its jobs again and renews its leases. ``TeamTable`` gives all of
them time for that before any job is sent. A lost commit is lost for good only if the process that made it dies, too, or
is not connected again in that time.

That goes for a job whose POST is on its way, and for the jobs that ended last as well: a row that stands as before the
POST would be sent, and paid for, again, perhaps by another session that took it up on the copy. A task that has ended
is written as accepted, and free for any session, which asks the service how it ended; a doubt is written again.

What ended without a task is ended again: a row that stands as ours, though no part of this session works on it, would
be waited for without end.

No session has the images of a kept job any more. If they were lost, the job ends in an ``ImageError``, unpaid.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record
from hailuo_async._io.journal.rows import HELD, Changed
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import HailuoError, JobError
from hailuo_async.outcomes import Video

#: The jobs that ended last which a session remembers: as many as the largest team ends in a minute.
_REMEMBERED = 1000
#: Whether another session that took the job up on a copy has not sent it, nor its owner had it sent again.
_NOT_SENT_HERE = "state = 'intended' AND cost_before IS NULL"
_ENDED = (JournalState.SUCCESS, JournalState.FAILED, JournalState.UNKNOWN)


@attrs.define
class _Known:
    """What this session knows of a job that it works on."""

    intent: Intent
    task_id: str | None = None
    accepted_at: float = 0.0
    sending: tuple[float, Changed] | None = None
    """When its last POST was to leave, in Unix seconds, and whether it was permitted to; ``None`` once it has not."""
    doubt: tuple[HailuoError, float | None] | None = None
    """Why its last POST is in doubt, and when that was sent, in Unix seconds."""


@attrs.define(eq=False)
class AssertingTable(JobTable):
    """``JobTable``, which asserts the rows of the jobs at work."""

    _at_work: dict[str, _Known] = attrs.field(factory=dict, init=False)
    _ended: dict[str, _Known] = attrs.field(factory=dict, init=False)
    """The jobs with a task or a doubt that ended last, in the order of their ends."""
    _let_go: dict[str, Callable[[], object]] = attrs.field(factory=dict, init=False)
    """What ends, once more, each job that was ours and ended last without a task or a doubt."""
    _asserted: int = attrs.field(default=1, init=False)
    """The number of the connection over which the rows were last asserted."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is durable when it ends, or nothing has changed. The first after a reconnect asserts."""
        with self.database.transaction():
            connection = self.database.connections
            if connection != self._asserted:
                self._assert()
            yield
        self._asserted = connection

    def intend(self, intent: Intent) -> Claim:
        claim = super().intend(intent)
        if claim.ours:
            self._let_go.pop(intent.identity, None)
            known = _Known(intent, claim.record.task_id, claim.record.accepted_at or 0.0)
            self._at_work[intent.identity] = known
        return claim

    def claim_row(self, row: Mapping[str, Any]) -> Claim | None:
        claim = super().claim_row(row)
        if claim is not None and claim.ours:
            self._at_work[claim.record.identity] = _Known(_intent_of(claim.record))
        return claim

    def resolve(self, identity: str, *, resubmit: bool, task_id: str | None, forget: bool) -> Record | None:
        self._ended.pop(identity, None)
        return super().resolve(identity, resubmit=resubmit, task_id=task_id, forget=forget)

    def release(self, identity: str) -> None:
        self._let(identity, functools.partial(super().release, identity))
        super().release(identity)

    def dropped(self, identity: str) -> None:
        from hailuo_async._io.journal.kept_table import KeptTable  # most journals keep no jobs

        self._let(identity, lambda: KeptTable(self).drop(identity))

    def sending(self, identity: str, sent_at: float, condition: str = "TRUE", **more: object) -> Changed:
        changed = super().sending(identity, sent_at, condition, **more)
        if (known := self._at_work.get(identity)) is not None:
            known.sending = (sent_at, changed)
        return changed

    def unsent(self, identity: str, sent_at: float | None = None) -> None:
        if (known := self._at_work.get(identity)) is not None:
            known.sending = None
        super().unsent(identity, sent_at)

    def accepted(self, identity: str, task_id: str, at: float) -> None:
        if (known := self._at_work.get(identity)) is not None:
            known.task_id, known.accepted_at = task_id, at
        super().accepted(identity, task_id, at)

    def refused(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        # A copy, as a traceback holds what its functions held.
        self._let(identity, functools.partial(super().refused, identity, copy.copy(error)))
        super().refused(identity, error, sent_at)

    def unknown(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        self._end_of(identity, (error, sent_at))
        self._write_doubt(identity, error, sent_at)

    def failed(self, identity: str, error: HailuoError) -> None:
        self._end_of(identity)
        super().failed(identity, error)

    def succeeded(self, identity: str, video: Video) -> None:
        self._end_of(identity)
        super().succeeded(identity, video)

    def _write_doubt(self, identity: str, error: HailuoError, sent_at: float | None) -> None:
        if sent_at is not None:
            self._write_sending(identity, sent_at)
        super().unknown(identity, error, sent_at)

    def _write_sending(self, identity: str, sent_at: float) -> None:
        """Writes again that this POST has left. That was on record, and is perhaps lost."""
        self._change(identity, HELD, _NOT_SENT_HERE)
        super().sending(identity, sent_at)

    def _end_of(self, identity: str, doubt: tuple[HailuoError, float | None] | None = None) -> None:
        known = self._at_work.pop(identity, None)
        if known is not None and (known.task_id is not None or doubt is not None):
            self._ended[identity], known.doubt = known, doubt
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def _take(self, record: Record, changes: str = HELD, **given: object) -> Claim | None:
        self._let_go.pop(record.identity, None)
        return super()._take(record, changes, **given)

    def _let(self, identity: str, end_again: Callable[[], object]) -> None:
        self._at_work.pop(identity, None)
        self._let_go.setdefault(identity, end_again)  # what was refused is released, too
        if len(self._let_go) > _REMEMBERED:
            del self._let_go[next(iter(self._let_go))]

    def _assert(self) -> None:
        self.renew()
        sql = "SELECT identity, state, task_id FROM job WHERE holder = :us"
        rows = {row["identity"]: row for row in self.database.execute(sql, {"us": self.holder}).fetchall()}
        for identity, known in list(self._at_work.items()):
            self._assert_work(identity, known, rows.get(identity))
        self._assert_ended()
        for end_again in [self._let_go[identity] for identity in rows if identity in self._let_go]:
            end_again()

    def _assert_work(self, identity: str, known: _Known, row: Mapping[str, Any] | None) -> None:
        if row is None:
            with contextlib.suppress(JobError):  # another job has its key by now
                super().intend(known.intent)
        if known.task_id is not None and (row is None or row["task_id"] != known.task_id):
            super().accepted(identity, known.task_id, known.accepted_at)
        elif known.task_id is None and known.sending is not None and known.sending[1]:
            self._write_sending(identity, known.sending[0])
        elif known.task_id is None and row is not None and row["state"] == JournalState.SENDING:
            super().unsent(identity)  # that this POST was not accepted is lost: the next one would not be permitted

    def _assert_ended(self) -> None:
        """Looks at the jobs that ended last, the latest first: once one is on record, so are those before it."""
        sql = "SELECT state, task_id, holder, cost_before FROM job WHERE identity = :identity"
        for identity, known in reversed(list(self._ended.items())):
            row = self.database.execute(sql, {"identity": identity}).fetchone()
            if row is not None and row["state"] in _ENDED:
                return
            if row is None or (row["task_id"] is None and row["cost_before"] is None):  # else its owner sends it again
                self._assert_end(identity, known)
            elif row["task_id"] == known.task_id and row["holder"] == self.holder:
                super().release(identity)

    def _assert_end(self, identity: str, known: _Known) -> None:
        with contextlib.suppress(JobError):  # another job has its key by now
            super().intend(known.intent)
            if known.doubt is not None:
                self._write_doubt(identity, *known.doubt)
            else:
                super().accepted(identity, known.task_id or "", known.accepted_at)
                super().release(identity)


def _intent_of(record: Record) -> Intent:
    """The intent of a job that another session entered."""
    asked = {field.name: getattr(record, field.name) for field in attrs.fields(Intent)}
    return Intent(**asked)
