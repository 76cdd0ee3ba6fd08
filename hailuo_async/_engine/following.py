"""Jobs that other sessions work on, and whose outcomes this session waits for.

One watcher serves all of them: the journal reports the jobs that changed, so a thousand unchanged jobs cost nothing.
Only when a job has ended, or the session that worked on it may have, does the watcher read that job's own record. Then
the job ends here too, or this session goes on with it.

After a failover the journal may be a copy that lacks a job, or has it unsent, until the session that works on it writes
it again. So for a lease after a reconnect no job ends because it is not there.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import anyio
import attrs

from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.records import LEASE_S, Claim, JournalState
from hailuo_async._rules.lifecycle import Event
from hailuo_async.errors import HailuoError, JournalError, SessionClosedError
from hailuo_async.outcomes import Status

if TYPE_CHECKING:
    from hailuo_async._io.journal.last_connection import LastConnection
    from hailuo_async._io.journal.team_values import JobChange

#: The states of a job that another session works on.
AT_WORK = (JournalState.INTENDED, JournalState.SENDING, JournalState.ACCEPTED)
#: The states of a job whose task was seen before only if that failed and the job was resubmitted.
_AFTER_ANOTHER_POST = (JournalState.INTENDED, JournalState.UNKNOWN, JournalState.REFUSED)
#: Seconds after which a job that this session itself still holds is looked at again.
LEAVING_S = 0.25


@attrs.define(eq=False)
class Following:
    """Owns the jobs that other sessions work on."""

    _session_state: SessionState
    _path: str
    """Where the journal is, for error messages."""
    _dispatch: Callable[[TrackedJob, Claim], None]
    """Gets a job that is followed no longer, with its record."""
    _give_back: Callable[[TrackedJob, Claim], None]
    """Gets a job that was claimed just after its end, with the claim."""
    on_added: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called when one more job is followed, so that its changes arrive soon."""
    us: str | None = attrs.field(default=None, init=False)
    """The name of this session. Callers of it that leave hold a job for a moment, and letting go wakes only others."""
    last_connection: LastConnection | None = attrs.field(default=None, init=False)
    """To the journal, when a job was last missed there; ``None`` without a team."""
    _followed: dict[str, TrackedJob] = attrs.field(factory=dict, init=False)
    _believes_from: float = attrs.field(default=-math.inf, init=False)
    """Before this loop time, a job that is not there may come back."""
    _checks_again: bool = attrs.field(default=False, init=False)

    def __len__(self) -> int:
        return len(self._followed)

    def add(self, tracked: TrackedJob) -> None:
        """Follows ``tracked`` until it ends."""
        if tracked.identity is not None:
            self._followed[tracked.identity] = tracked
            tracked.is_followed = True
            tracked.listeners.append(self._forget_if_ended)
            self.on_added()
            self._check(tracked)  # its earlier changes were not reported to this session

    def apply(self, changes: Iterable[JobChange]) -> None:
        """Acts on jobs that have changed."""
        for change in changes:
            tracked = self._followed.get(change.identity)
            if tracked is None:
                continue
            if change.state not in AT_WORK or not change.is_held:
                self._check(tracked)
            elif change.state is JournalState.ACCEPTED:
                self.accept(tracked, change.task_id)

    def check_all(self) -> None:
        """Reads every job's record: a session has gone, and may have left any of them, or changes may be missed."""
        for tracked in list(self._followed.values()):
            self._check(tracked)

    def _check(self, tracked: TrackedJob) -> None:
        with contextlib.suppress(SessionClosedError):  # then it ends with all the others
            self._session_state.start(self._try_claim(tracked))

    async def _try_claim(self, tracked: TrackedJob) -> None:
        if tracked.try_claim is None or not self._is_followed(tracked):
            return  # it ended before its turn came: no caller would release a claim that is made now
        try:
            claim = await tracked.try_claim()
        except HailuoError as error:
            if self._is_followed(tracked) and not self._may_come_back(error):
                tracked.fail(Event.ABANDON, error)
            return
        if claim is None or not self._is_followed(tracked):
            if claim is not None and claim.ours:
                self._give_back(tracked, claim)
            return
        if claim.ours or claim.record.state not in AT_WORK:
            self.end(tracked, claim)
        elif claim.record.state is JournalState.ACCEPTED:
            self.accept(tracked, claim.record.task_id)
        elif claim.record.holder == self.us:
            await anyio.sleep(LEAVING_S)
            self._check(tracked)

    def _may_come_back(self, error: HailuoError) -> bool:
        """Whether a job that is not there may be written again. Then it is looked for again when that time is over."""
        if self.last_connection is not None and self.last_connection.is_replaced:
            self.last_connection.update()
            self._believes_from = loop_time() + LEASE_S
        if not isinstance(error, JournalError) or error.is_outage or loop_time() >= self._believes_from:
            return False
        if not self._checks_again:
            with contextlib.suppress(SessionClosedError):  # then it ends with all the others
                self._session_state.start(self._check_all_later())
                self._checks_again = True
        return True

    async def _check_all_later(self) -> None:
        await anyio.sleep(self._believes_from - loop_time())
        self._checks_again = False
        self.check_all()

    def end(self, tracked: TrackedJob, claim: Claim) -> None:
        """Follows it no longer: it has ended, or is ours."""
        self._forget(tracked)
        if tracked.status is Status.QUEUED or claim.record.state not in _AFTER_ANOTHER_POST:
            self._dispatch(tracked, claim)
            return
        # Its task was seen, failed, and the job was resubmitted between two checks. A status does not go back.
        reason = f"job {tracked.identity!r} was resubmitted after its task {tracked.task_id} had failed: give it again"
        tracked.task_id = claim.record.task_id
        tracked.fail(Event.ABANDON, claim.record.error or JournalError(path=self._path, reason=reason))

    def accept(self, tracked: TrackedJob, task_id: str | None) -> None:
        """Moves a job to accepted, as another session has recorded it."""
        if tracked.status is Status.QUEUED and task_id is not None:
            tracked.task_id = task_id
            tracked.move(Event.ACCEPT)

    def _is_followed(self, tracked: TrackedJob) -> bool:
        return self._followed.get(tracked.identity or "") is tracked

    def _forget_if_ended(self, tracked: TrackedJob) -> None:
        if tracked.status.is_final:
            self._forget(tracked)

    def _forget(self, tracked: TrackedJob) -> None:
        self._followed.pop(tracked.identity or "", None)
        tracked.is_followed = False
