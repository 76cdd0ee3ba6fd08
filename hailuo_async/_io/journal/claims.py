"""Which session may work on a job: what follows from how its row stands, and from the lease of its holder.

A decision is written only if the row is still as it was read (``UNCHANGED``). If not, it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from hailuo_async._io.journal.records import Claim, JournalState, Record, error_text
from hailuo_async._io.journal.rows import HELD, RETURNING, UNCHANGED, JobRows, as_read, change
from hailuo_async.errors import SubmissionUnknownError

_LEFT_BEHIND = "the process that sent it ended before the answer was on record"

#: The states of a job without an end.
UNFINISHED = (JournalState.INTENDED, JournalState.SENDING, JournalState.ACCEPTED, JournalState.UNKNOWN)


@attrs.define(eq=False)
class JobClaims(JobRows):
    """The claims of one session. Lives on the thread of its database."""

    def claim_row(self, row: Mapping[str, Any]) -> Claim | None:
        """Claims the job of a row that was just read; ``None`` if it has changed since, or is damaged."""
        record = self.readable(row)
        return None if record is None else self._take(record)

    def _decide(self, identity: str, decide: Callable[[Record], Claim | None]) -> Claim | None:
        """What follows from how the job stands, ``None`` if it is not there. If the row changes meanwhile, again."""
        while (record := self.find(identity)) is not None:
            claim = decide(record)
            if claim is not None:
                return claim
        return None

    def _continue(self, record: Record) -> Claim | None:
        """Claims a record that can go on without the job itself. An unsent one is returned without its dead holder."""
        if record.state is not JournalState.INTENDED:
            return self._claim(record)
        is_worked_on = record.holder == self.holder or self._is_held_elsewhere(record)
        return Claim(record if is_worked_on else attrs.evolve(record, holder=None, lease_until=None), ours=False)

    def _is_never_sent(self, record: Record) -> bool:
        """Whether a job certainly was never sent, and no session holds it."""
        is_sent = record.state is not JournalState.INTENDED or record.cost_before is not None
        return not is_sent and record.holder != self.holder and not self._is_held_elsewhere(record)

    def _claim(self, record: Record) -> Claim | None:
        """Claims a job that no other session works on; a job left in the middle of its POST becomes UNKNOWN.

        ``None`` if the row has changed since it was read.
        """
        if record.state not in UNFINISHED or record.state is JournalState.UNKNOWN or self._is_held_elsewhere(record):
            return Claim(record, ours=False)
        if record.state is not JournalState.SENDING:
            return self._take(record)
        if record.holder == self.holder:
            return Claim(record, ours=False)
        doubt = SubmissionUnknownError(reason=_LEFT_BEHIND, key=record.identity, sent_at=record.sent_at)
        changes = "state = 'unknown', error = :error"
        is_new = bool(self._end(record.identity, changes, UNCHANGED, error=error_text(doubt), **as_read(record)))
        left = self.find(record.identity)
        if is_new:
            self.log_once(record.identity, "%s: look on the service's dashboard before you send it again", doubt)
        return None if left is None or left.state is JournalState.SENDING else Claim(left, ours=False)

    def _take(self, record: Record, changes: str = HELD, **given: object) -> Claim | None:
        sql = change(changes, UNCHANGED, RETURNING)
        row = self._execute(sql, identity=record.identity, **as_read(record), **given).fetchone()
        return None if row is None else Claim(self._record(row), ours=True)
