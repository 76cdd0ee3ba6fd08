"""The table of a session whose database may lose commits: after each reconnect it writes again what it knows.

A failover to an asynchronous standby loses the last commits. The sessions that made them mostly live on, and know them.
So the first transaction over a new connection renews the session's leases and asserts its jobs, before anything else:

    a job that                      is asserted as
    waits                           INTENDED, and held
    has its POST on the way         SENDING
    has a task                      ACCEPTED, and held
    had a task as the session was   ACCEPTED, and free: any session asks the service how it ended
      done with it
    is in doubt                     UNKNOWN
    was refused, dropped or let     the same once more, if its row says that this session works on it: else no session
      go before it was sent         would end it

Why no job is paid for twice: only a row that stands as before a POST lets a session send the job, and here each job
whose POST may have left is asserted. ``TeamTable`` has no POST granted on a copy for a lease, so that all sessions have
the time for that. If the job's owner had it sent again, what was known of its earlier POSTs is not asserted. A commit
is lost for good only if the process that made it dies, too, or is not connected again in that time.

No session has the images of a kept job any more. If they were lost, the job ends in an ``ImageError``, unpaid.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator

import attrs

from hailuo_async._io.journal.database import Row
from hailuo_async._io.journal.last_connection import LastConnection
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record
from hailuo_async._io.journal.rows import HELD, Changed
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import HailuoError, JobError
from hailuo_async.money import to_nanos
from hailuo_async.outcomes import Video

#: Jobs that a session remembers when it is done with them: twice as many as the largest team ends in a minute.
_REMEMBERED = 2000
_ENDED = (JournalState.SUCCESS, JournalState.FAILED, JournalState.UNKNOWN)
#: Whether the owner has not had the job sent again since it was claimed here. ``_Known.paid_before`` gives it.
_IS_SAME_ATTEMPT = "COALESCE(cost_before, -1) = :paid_before"


@attrs.define(eq=False)
class _Known:
    """What this session last wrote of a job."""

    record: Record
    """As the job was when it was claimed, with the task that it has led to since."""
    sending: tuple[float, Changed | bool] | None = None
    """When its last POST was to leave, in Unix seconds, and whether it might; ``None`` once it certainly has not."""
    is_in_doubt: bool = False
    end_again: Callable[[], object] = lambda: None
    """Writes again how this session was done with it."""

    @property
    def sent_at(self) -> float | None:
        """When the POST left that is on its way, or in doubt."""
        return self.sending[0] if self.sending is not None and self.sending[1] else None

    @property
    def paid_before(self) -> int:
        """As in ``_IS_SAME_ATTEMPT``."""
        cost = to_nanos(self.record.cost_before)
        return -1 if cost is None else cost


@attrs.define(eq=False)
class AssertingTable(JobTable):
    """``JobTable``, which asserts the session's jobs after each reconnect."""

    _at_work: dict[str, _Known] = attrs.field(factory=dict, init=False)
    """What the session works on."""
    _done: dict[str, _Known] = attrs.field(factory=dict, init=False)
    """What it was done with last, in that order."""
    _claimed: dict[str, _Known] = attrs.field(factory=dict, init=False)
    """What this transaction claims: the session's once that is committed."""
    _asserted_over: LastConnection = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._asserted_over = LastConnection(self.database)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._claimed.clear()
        with self.database.transaction():
            if self._asserted_over.is_replaced:
                self._assert()
            yield
        self._asserted_over.update()
        for identity, known in self._claimed.items():
            self._done.pop(identity, None)
            self._at_work[identity] = known

    # --- Each write is noted ---

    def intend(self, intent: Intent) -> Claim:
        claim = super().intend(intent)
        self._work_on(claim)
        return claim

    def _take(self, record: Record, changes: str = HELD, **given: object) -> Claim | None:
        claim = super()._take(record, changes, **given)
        if claim is not None:
            self._work_on(claim)
        return claim

    def sending(self, identity: str, sent_at: float, condition: str = "TRUE", **more: object) -> Changed:
        changed = super().sending(identity, sent_at, condition, **more)
        if (known := self._noted(identity)) is not None:
            known.sending = (sent_at, changed)
        return changed

    def unsent(self, identity: str, sent_at: float | None = None) -> None:
        if (known := self._noted(identity)) is not None:
            known.sending = None
        super().unsent(identity, sent_at)

    def accepted(self, identity: str, task_id: str, at: float) -> None:
        if (known := self._noted(identity)) is not None:
            known.record = attrs.evolve(known.record, task_id=task_id, accepted_at=at)
        super().accepted(identity, task_id, at)

    def succeeded(self, identity: str, video: Video) -> None:
        self._done_with(identity, functools.partial(super().release, identity))
        super().succeeded(identity, video)

    def failed(self, identity: str, error: HailuoError) -> None:
        self._done_with(identity, functools.partial(super().release, identity))
        super().failed(identity, error)

    def unknown(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        known = self._done_with(identity, functools.partial(super().unknown, identity, copy.copy(error), sent_at))
        if known is not None:
            known.is_in_doubt, known.sending = True, known.sending if sent_at is None else (sent_at, True)
        super().unknown(identity, error, sent_at)

    def refused(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        # A copy, as a traceback holds what its functions held.
        self._done_with(identity, functools.partial(super().refused, identity, copy.copy(error), sent_at))
        super().refused(identity, error, sent_at)

    def release(self, identity: str) -> None:
        self._done_with(identity, functools.partial(super().release, identity))
        super().release(identity)

    def dropped(self, identity: str) -> None:
        from hailuo_async._io.journal.kept_table import KeptTable  # most journals keep no jobs

        self._done_with(identity, lambda: KeptTable(self).drop(identity))

    def resolve(self, identity: str, *, resubmit: bool, task_id: str | None, forget: bool) -> Record | None:
        self._done.pop(identity, None)
        return super().resolve(identity, resubmit=resubmit, task_id=task_id, forget=forget)

    def _work_on(self, claim: Claim) -> None:
        """Notes a claim, but of a task that was submitted elsewhere: what is lost of that leads to no POST."""
        if claim.ours and claim.record.fingerprint is not None:
            self._claimed[claim.record.identity] = _Known(claim.record)

    def _noted(self, identity: str) -> _Known | None:
        return self._claimed.get(identity) or self._at_work.get(identity)

    def _done_with(self, identity: str, end_again: Callable[[], object]) -> _Known | None:
        """Notes how this session was done with a job. A release after that changes nothing."""
        known = self._claimed.pop(identity, self._at_work.pop(identity, None))
        if known is not None:
            known.end_again = end_again
            self._done.pop(identity, None)
            self._done[identity] = known
            if len(self._done) > _REMEMBERED:
                del self._done[next(iter(self._done))]
        return known

    # --- After a reconnect, all is asserted ---

    def _assert(self) -> None:
        at_work, done = self._at_work.copy(), self._done.copy()
        try:
            self.renew()
            sql = "SELECT identity, state, task_id FROM job WHERE holder = :us"
            ours = {row["identity"]: row for row in self.database.execute(sql, {"us": self.holder}).fetchall()}
            for identity, known in at_work.items():
                self._assert_work(identity, known, ours.get(identity))
            for identity, known in reversed(list(done.items())):
                row = ours.get(identity)
                if known.record.task_id is None and not known.is_in_doubt:
                    if row is not None:
                        self._assert_work(identity, known, row)
                        known.end_again()
                elif self._assert_end(identity, known):
                    break  # it is on record, and so is all that was written before it
        finally:
            self._at_work, self._done = at_work, done  # what is written again is no news
            self._claimed.clear()

    def _assert_work(self, identity: str, known: _Known, row: Row | None) -> None:
        """Asserts a job at work, of which this session has that ``row``."""
        if row is None:
            self._enter(known.record)
        if known.record.task_id is not None:
            if row is None or row["task_id"] != known.record.task_id:
                super().accepted(identity, known.record.task_id, known.record.accepted_at or 0.0)
        elif known.sent_at is not None:
            # A session that took the job up on the copy has not sent it yet, and will not.
            condition = f"state = 'intended' AND {_IS_SAME_ATTEMPT}"
            self._change(identity, HELD, condition, paid_before=known.paid_before)
            super().sending(identity, known.sent_at)
        elif row is not None and row["state"] == JournalState.SENDING:
            super().unsent(identity)  # that this POST was not accepted is lost: the next one would not be permitted

    def _assert_end(self, identity: str, known: _Known) -> bool:
        """Asserts a job that has ended, and may have been paid for. Returns whether its end is on record."""
        sql = f"SELECT state, task_id, {_IS_SAME_ATTEMPT} AS is_same FROM job WHERE identity = :identity"
        given = {"identity": identity, "paid_before": known.paid_before}
        row = self.database.execute(sql, given).fetchone()
        if row is not None and row["state"] in _ENDED:
            return True
        if row is None or (row["task_id"] is None and row["is_same"]):
            self._assert_work(identity, known, None)
        known.end_again()
        return False

    def _enter(self, record: Record) -> None:
        """Enters the job again, if it is not there."""
        intent = Intent(**{field.name: getattr(record, field.name) for field in attrs.fields(Intent)})
        with contextlib.suppress(JobError):  # another job has its key by now
            super().intend(intent)
