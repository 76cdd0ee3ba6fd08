"""The table of a session whose database may lose commits: it remembers what it wrote, and writes it again if need be.

A failover to an asynchronous standby loses the last commits. The sessions that made them mostly live on, and know them.
So after each reconnect a session first renews its leases, and *asserts* its jobs: in one transaction, before any other
write, it brings the row of each job to where it knows the job to stand.

    a job that                      is asserted as
    waits                           INTENDED, and held
    has its POST on the way         SENDING
    has a task                      ACCEPTED, and held
    had a task as the session was   ACCEPTED, and free: any session asks the service how it ended
      done with it
    is in doubt                     UNKNOWN
    was refused, dropped, or left   ended again, if its row still names this session
      to others before it was sent

Why no job is paid for twice: a session may send a job only if its row stands as before a POST, and each job whose POST
may have left is asserted here. ``TeamRow`` has no POST granted on a copy for a lease: so all sessions have the time for
that.

The owner has the last word. Once he has a job sent again, its ``cost_before`` is higher than this session knows, and
what was known of its earlier POSTs is not asserted. A job that he had forgotten looks like one that a failover lost:
so the session looks for forgotten jobs when it renews its leases, and one may come back only if a cut comes before.

A session that closes while its database is away waits for that to come back only if a copy may lack a task or a doubt
that it has noted, as the last of them is younger than some renewals of its leases.

What stays lost: commits of a process that dies, too, or is not connected again within that lease; the images of kept
jobs, as no session has them any more (such a job ends in an ``ImageError``, unpaid); and a doubt, if the copy has an
earlier task of the job, as it lacks the owner's word on that: it looks as if he had said that the doubt led to it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from decimal import Decimal

import attrs

from hailuo_async._io.journal.database import Row
from hailuo_async._io.journal.last_connection import LastConnection
from hailuo_async._io.journal.records import Claim, Intent, JournalState, Record
from hailuo_async._io.journal.rows import HELD, Changed
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import HailuoError, JobError, JournalError
from hailuo_async.money import to_nanos
from hailuo_async.outcomes import Video

#: Jobs that a session remembers when it is done with them: twice as many as the largest team ends in a minute. As many
#: again that were not sent.
_REMEMBERED = 2000
#: Rows that one statement reads: always as many, so that a server prepares it once.
_READ_AT_ONCE = 500
#: Renewals of the leases after which a close believes that a standby has what was noted before them. They take a lease,
#: at least: the first may come at once, and a busy journal makes one every ``LEASE_S / 6``.
_COPIED_AFTER = 7
_ROWS = f"""SELECT identity, state, task_id, holder, cost_before FROM job
    WHERE identity IN ({", ".join(f":name_{number}" for number in range(_READ_AT_ONCE))})"""
#: Whether the row is of the attempt that this session knows, or of an earlier one: each time that its owner has it sent
#: again, ``cost_before`` grows.
_IS_NO_LATER_ATTEMPT = "COALESCE(cost_before, -1) <= :paid_before"


@attrs.define(eq=False)
class _Known:
    """What this session last wrote of a job."""

    record: Record
    """As the job was when it was claimed, with the task that it has led to since."""
    sending: tuple[float, Changed | bool] | None = None
    """When its last POST was to leave, in Unix seconds, and whether it might; ``None`` once it certainly has not."""
    is_in_doubt: bool = False
    is_back_in_doubt: bool = False
    """Whether that is the doubt from before ``sent_again``. A row that the session still holds does not have it yet."""
    end_again: Callable[[], object] = lambda: None
    """Writes again how this session was done with it."""

    @property
    def sent_at(self) -> float | None:
        """When the POST left that is on its way, or in doubt."""
        return self.sending[0] if self.sending is not None and self.sending[1] else None

    @property
    def attempt_at(self) -> float | None:
        """When its last POST was to leave, as far as this session knows."""
        return self.record.sent_at if self.sending is None else self.sending[0]

    @property
    def may_be_paid_for(self) -> bool:
        """Whether it has a task, or is in doubt."""
        return self.record.task_id is not None or self.is_in_doubt

    @property
    def paid_before(self) -> int:
        """As in ``_IS_NO_LATER_ATTEMPT``."""
        cost = to_nanos(self.record.cost_before)
        return -1 if cost is None else cost

    def is_lost(self, row: Row | None, holder: str) -> bool:
        """Whether a copy that has this ``row`` of the job, or none, lacks its task or doubt; ``holder`` is us."""
        if row is None:
            return True
        has_task = row["task_id"] is not None and self.record.task_id in (None, row["task_id"])
        if has_task or (self.is_in_doubt and row["state"] == JournalState.UNKNOWN):
            return False
        return (self.is_back_in_doubt and row["holder"] == holder) or _paid_before(row) <= self.paid_before


@attrs.define(eq=False)
class AssertingTable(JobTable):
    """``JobTable``, which asserts the session's jobs after each reconnect."""

    _at_work: dict[str, _Known] = attrs.field(factory=dict, init=False)
    """The jobs that this session works on."""
    _done: dict[str, _Known] = attrs.field(factory=dict, init=False)
    """The last jobs that it was done with and that may be paid for, the oldest first."""
    _let_go: dict[str, _Known] = attrs.field(factory=dict, init=False)
    """The last jobs that it was done with and that are not paid for, the oldest first."""
    _claimed: dict[str, _Known] = attrs.field(factory=dict, init=False)
    """The jobs that this transaction claims: they are the session's once it is committed."""
    _asserted_over: LastConnection = attrs.field(init=False)
    _gone: int | None = attrs.field(default=None, init=False)
    """How many jobs and members were ever deleted, when ``_done`` was last compared with what is on record."""
    _renewed: int = attrs.field(default=0, init=False)
    """How often the leases were renewed, in transactions that were made."""
    _is_renewal: bool = attrs.field(default=False, init=False)
    """Whether this transaction renews them."""
    _last_word: int = attrs.field(default=-_COPIED_AFTER, init=False)
    """How often they had been when something was last noted of a job that may be paid for."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._asserted_over = LastConnection(self.database)

    @property
    def has_to_assert(self) -> bool:
        return self._renewed - self._last_word < _COPIED_AFTER

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._claimed.clear()
        self._is_renewal = False
        with self.database.transaction():
            asserted_over = self._asserted_over
            if asserted_over.is_replaced:
                asserted_over = LastConnection(self.database)
                self._assert()
            yield
        self._asserted_over = asserted_over  # what was read meanwhile may show that it is to be asserted again
        self._renewed += self._is_renewal
        for identity, known in self._claimed.items():
            self._forget_end(identity)
            self._at_work[identity] = known

    def renew_leases(self) -> None:
        self._is_renewal = True
        super().renew_leases()

    # --- Each write is noted ---

    def intend(self, intent: Intent) -> Claim:
        claim = super().intend(intent)
        self._work_on(claim)
        return claim

    def _decide(self, identity: str, decide: Callable[[Record], Claim | None]) -> Claim | None:
        claim, known = super()._decide(identity, decide), self._at_work.get(identity)
        if claim is None or known is None or claim.record.holder == self.holder:
            return claim
        # A row in doubt may be ours yet: its doubt may be about our POST, of which ``unsent`` takes it back.
        is_others = claim.record.state is not JournalState.UNKNOWN
        if is_others and known.sent_at is None and not known.may_be_paid_for:
            self._done_with(identity, functools.partial(super().release, identity))
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

    def accepted(self, identity: str, task_id: str, at: float, sent_at: float | None = None) -> None:
        if (known := self._noted(identity)) is not None:
            known.record = attrs.evolve(known.record, task_id=task_id, accepted_at=at)
        super().accepted(identity, task_id, at, sent_at)

    def succeeded(self, identity: str, video: Video, sent_at: float | None = None) -> None:
        self._done_with(identity, functools.partial(super().release, identity))
        super().succeeded(identity, video, sent_at)

    def failed(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        self._done_with(identity, functools.partial(super().release, identity))
        super().failed(identity, error, sent_at)

    def unknown(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        if (known := self._noted(identity)) is not None:
            known.is_in_doubt, known.sending = True, known.sending if sent_at is None else (sent_at, True)
        self._done_with(identity, functools.partial(super().unknown, identity, copy.copy(error), sent_at))
        super().unknown(identity, error, sent_at)

    def sent_again(self, identity: str, sent_at: float | None) -> None:
        known = self._noted(identity)
        if known is not None and known.sending is not None:  # else this is the same commit, made again
            cost = (known.record.cost_before or 0) + (known.record.price or Decimal(0))
            known.record, known.sending = attrs.evolve(known.record, cost_before=cost), None
        super().sent_again(identity, sent_at)

    def back_in_doubt(self, identity: str, doubt: HailuoError) -> None:
        sent_at = getattr(doubt, "sent_at", None) or 0.0
        if (known := self._noted(identity)) is not None:  # it stands as before ``sent_again``
            cost = (known.record.cost_before or Decimal(0)) - (known.record.price or Decimal(0))
            known.record = attrs.evolve(known.record, cost_before=cost if cost > 0 else None)
            known.is_in_doubt = known.is_back_in_doubt = True
            known.sending = (sent_at, True)
        self._done_with(identity, functools.partial(super().unknown, identity, copy.copy(doubt), sent_at))
        super().back_in_doubt(identity, doubt)

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
        self._forget_end(identity)
        record = super().resolve(identity, resubmit=resubmit, task_id=task_id, forget=forget)
        if record is not None and task_id is not None:
            self._last_word = self._renewed
            self._remember(identity, _Known(record, end_again=functools.partial(super().release, identity)))
        return record

    def forget_gone(self, gone: int) -> None:
        if gone != self._gone:
            rows = self._rows([*self._done])
            if not self._asserted_over.is_replaced:  # else it may have read a copy
                for identity, known in [*self._done.items()]:
                    row = rows.get(identity)  # of a new job, if its owner has forgotten it and given it again
                    if not self._is_ours(row) and known.is_lost(row, self.holder):
                        del self._done[identity]
                self._gone = gone

    def _work_on(self, claim: Claim) -> None:
        """Notes a claim, but of a task that was submitted elsewhere: what is lost of that leads to no POST."""
        if claim.ours and claim.record.fingerprint is not None:
            self._claimed[claim.record.identity] = known = _Known(claim.record)
            if known.may_be_paid_for:
                self._last_word = self._renewed

    def _noted(self, identity: str) -> _Known | None:
        self._last_word = self._renewed
        return self._claimed.get(identity) or self._at_work.get(identity)

    def _done_with(self, identity: str, end_again: Callable[[], object]) -> None:
        """Notes how this session was done with a job. A release after that changes nothing."""
        known = self._claimed.pop(identity, self._at_work.pop(identity, None))
        if known is None:
            return
        known.end_again = end_again
        self._forget_end(identity)
        self._remember(identity, known)

    def _remember(self, identity: str, known: _Known) -> None:
        remembered = self._done if known.may_be_paid_for else self._let_go
        remembered[identity] = known
        if len(remembered) > _REMEMBERED:
            del remembered[next(iter(remembered))]

    def _forget_end(self, identity: str) -> None:
        self._done.pop(identity, None)
        self._let_go.pop(identity, None)

    # --- After a reconnect, all is asserted ---

    def _assert(self) -> None:
        at_work, done, let_go = self._at_work.copy(), self._done.copy(), self._let_go.copy()
        try:
            self.renew()
            self._is_renewal = False  # a reconnect is none, for a close
            rows = self._rows([*at_work, *done, *let_go])
            for asserting, jobs in ((self._assert_work, at_work), (self._assert_done, done), (self._end_again, let_go)):
                for identity, known in jobs.items():
                    try:
                        asserting(identity, known, rows.get(identity))
                    except JournalError as error:  # its row is damaged
                        self.log_damage(identity, error)
        finally:
            self._at_work, self._done, self._let_go = at_work, done, let_go  # what is written again is no news
            self._claimed.clear()

    def _rows(self, identities: list[str]) -> dict[str, Row]:
        """How the jobs stand that are on record."""
        rows: dict[str, Row] = {}
        for first in range(0, len(identities), _READ_AT_ONCE):
            names: dict[str, str | None] = dict.fromkeys(f"name_{number}" for number in range(_READ_AT_ONCE))
            names |= {f"name_{number}": name for number, name in enumerate(identities[first : first + _READ_AT_ONCE])}
            rows |= {row["identity"]: row for row in self.database.execute(_ROWS, names).fetchall()}
        return rows

    def _assert_work(self, identity: str, known: _Known, row: Row | None) -> bool:
        """Asserts a job at work. ``row`` is ``None`` if the job is lost. Returns whether it is on record now."""
        ours = row if self._is_ours(row) else None
        if ours is None and not self._enter(known.record):
            return False
        if known.is_back_in_doubt or _paid_before(ours) < known.paid_before:
            condition, cost = f"(holder = :us OR {_IS_NO_LATER_ATTEMPT})", to_nanos(known.record.cost_before)
            self._change(identity, "cost_before = :cost", condition, cost=cost, paid_before=known.paid_before)
        if known.record.task_id is not None:
            if ours is None or ours["task_id"] != known.record.task_id:
                at, sent_at = known.record.accepted_at or 0.0, known.attempt_at
                super().accepted(identity, known.record.task_id, at, sent_at)
            return True
        if ours is not None and ours["state"] == JournalState.SENDING:
            super().unsent(identity)  # that this POST was not accepted may be lost: no other would be permitted
        if known.sent_at is not None:
            # A session that took the job up on the copy has not sent it yet, and will not.
            condition = f"state = 'intended' AND {_IS_NO_LATER_ATTEMPT}"
            self._change(identity, HELD, condition, paid_before=known.paid_before)
            super().sending(identity, known.sent_at)
        return True

    def _assert_done(self, identity: str, known: _Known, row: Row | None) -> None:
        """Asserts a job that may be paid for, and that this session is done with."""
        if not known.is_lost(row, self.holder):
            if self._is_ours(row):
                super().release(identity)
        elif self._assert_work(identity, known, row):
            known.end_again()

    def _end_again(self, identity: str, known: _Known, row: Row | None) -> None:
        """Ends a job again that is not paid for, if its row still names this session."""
        if self._is_ours(row):
            self._assert_work(identity, known, row)
            known.end_again()

    def _is_ours(self, row: Row | None) -> bool:
        return row is not None and row["holder"] == self.holder

    def _enter(self, record: Record) -> bool:
        """Enters the job again, if it is not there. Returns whether it is; not if another job has its key by now."""
        intent = Intent(**{field.name: getattr(record, field.name) for field in attrs.fields(Intent)})
        try:
            super().intend(intent)
        except JobError:
            return False
        return True


def _paid_before(row: Row | None) -> int:
    """As in ``_IS_NO_LATER_ATTEMPT``."""
    return -1 if row is None or row["cost_before"] is None else int(row["cost_before"])
