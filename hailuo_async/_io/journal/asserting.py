"""The table of a session whose database may lose commits: after each reconnect it says again what it knows.

A failover to an asynchronous standby loses the last commits. The sessions that made them are alive, in most cases, and
know them. So a session that reconnects first writes its jobs again and renews its leases. A lost commit is lost for
good only if the process that made it dies, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs

from hailuo_async._io.journal.records import Claim, Intent
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import HailuoError, JobError
from hailuo_async.outcomes import Video


@attrs.define
class _Known:
    """What this session knows of a job that it works on."""

    intent: Intent
    task_id: str | None = None
    accepted_at: float = 0.0


@attrs.define(eq=False)
class AssertingTable(JobTable):
    """``JobTable``, which asserts the rows of the jobs at work."""

    _at_work: dict[str, _Known] = attrs.field(factory=dict, init=False)
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
            known = _Known(intent, claim.record.task_id, claim.record.accepted_at or 0.0)
            self._at_work[intent.identity] = known
        return claim

    def release(self, identity: str) -> None:
        self._at_work.pop(identity, None)
        super().release(identity)

    def accepted(self, identity: str, task_id: str, at: float) -> None:
        if (known := self._at_work.get(identity)) is not None:
            known.task_id, known.accepted_at = task_id, at
        super().accepted(identity, task_id, at)

    def refused(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        self._at_work.pop(identity, None)
        super().refused(identity, error, sent_at)

    def unknown(self, identity: str, error: HailuoError, sent_at: float | None = None) -> None:
        self._at_work.pop(identity, None)
        super().unknown(identity, error, sent_at)

    def failed(self, identity: str, error: HailuoError) -> None:
        self._at_work.pop(identity, None)
        super().failed(identity, error)

    def succeeded(self, identity: str, video: Video) -> None:
        self._at_work.pop(identity, None)
        super().succeeded(identity, video)

    def _assert(self) -> None:
        self.renew()
        sql = "SELECT identity, task_id FROM job WHERE holder = :us"
        rows = {row["identity"]: row["task_id"] for row in self.database.execute(sql, {"us": self.holder}).fetchall()}
        for identity, known in list(self._at_work.items()):
            if identity not in rows:
                with contextlib.suppress(JobError):  # another job has its key by now
                    super().intend(known.intent)
            if known.task_id is not None and rows.get(identity) != known.task_id:
                super().accepted(identity, known.task_id, known.accepted_at)
