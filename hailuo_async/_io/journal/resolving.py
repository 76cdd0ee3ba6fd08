"""The owner's decision on a job, as a write that may have to be made twice: the answer to its commit may get lost.

Made again, the decision would find the job already resolved, which is an error, or even sent and in doubt once more,
and then send it a third time, or forget what that POST paid for. So it remembers the job as it first found it.
"""

from __future__ import annotations

import attrs

from hailuo_async._io.journal.records import JournalState, Record
from hailuo_async._io.journal.table import SENDABLE_AGAIN, JobTable


@attrs.define(eq=False)
class Resolution:
    """``JobTable.resolve`` for one decision. Exactly one of ``resubmit``, ``task_id`` and ``forget`` is given."""

    identity: str
    resubmit: bool
    task_id: str | None
    forget: bool
    _first: Record | None = attrs.field(default=None, init=False)
    """The job before the first try."""
    _row: int | None = attrs.field(default=None, init=False)
    """The number of its row then."""

    def __call__(self, table: JobTable) -> Record | None:
        """The job as it stands then; ``None`` if it is forgotten. Raises ``JobError``."""
        record, row = table.find(self.identity), table.number_of(self.identity)
        if self._first is not None and self._is_made(self._first, record, row):
            return None if self.forget else record
        self._first, self._row = record, row
        return table.resolve(self.identity, resubmit=self.resubmit, task_id=self.task_id, forget=self.forget)

    def _is_made(self, first: Record, now: Record | None, row: int | None) -> bool:
        """Whether an earlier try was committed: the job was ``first`` before it, and is ``now`` like this."""
        if now is None or self.forget:
            return self.forget and row != self._row  # it may have been entered again since
        if self.task_id is not None:
            return now.task_id == self.task_id and now.state is not JournalState.UNKNOWN
        is_as_before = now.state is JournalState.SENDING and now.sent_at == first.sent_at
        return not is_as_before and (now.state not in SENDABLE_AGAIN or now.sent_at != first.sent_at)
