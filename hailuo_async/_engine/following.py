"""Jobs that other sessions work on, and that are waited for here.

One watcher for all of them: the journal tells which jobs have changed, so a thousand that nothing happens to cost
nothing. Only when one has ended, or the session that worked it may have, is the journal asked about that job itself:
then it is told here, or taken up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from hailuo_async._engine.state import EngineState
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.records import Claim, JournalState
from hailuo_async._rules.lifecycle import Event
from hailuo_async.errors import HailuoError, SessionClosedError
from hailuo_async.outcomes import Status

if TYPE_CHECKING:
    from hailuo_async._io.journal.team import JobChange

#: How another session's work on a job shows.
AT_WORK = (JournalState.INTENDED, JournalState.SENDING, JournalState.ACCEPTED)


@attrs.define(eq=False)
class Following:
    """Owns the jobs that others work on."""

    _engine_state: EngineState
    _dispatch: Callable[[TrackedJob, Claim], None]
    """Given a job that is followed no longer, with what the journal says of it."""
    on_added: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called when one more is followed: what happens to it is to be told here soon."""
    _followed: dict[str, TrackedJob] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._followed)

    def add(self, tracked: TrackedJob) -> None:
        """``tracked`` is followed from now on, until it ends."""
        if tracked.identity is not None:
            self._followed[tracked.identity] = tracked
            tracked.is_followed = True
            tracked.listeners.append(self._forget_if_ended)
            self.on_added()
            self._ask(tracked)  # what happened before was told to nobody here

    def hear(self, changes: Iterable[JobChange]) -> None:
        """These jobs have changed."""
        for change in changes:
            tracked = self._followed.get(change.identity)
            if tracked is None:
                continue
            if change.state not in AT_WORK or not change.is_held:
                self._ask(tracked)
            elif change.state is JournalState.ACCEPTED:
                accept(tracked, change.task_id)

    def ask_all(self) -> None:
        """A session has gone, and may have left any of them."""
        for tracked in list(self._followed.values()):
            self._ask(tracked)

    def _ask(self, tracked: TrackedJob) -> None:
        with contextlib.suppress(SessionClosedError):  # then it ends with all the others
            self._engine_state.start(self._look(tracked))

    async def _look(self, tracked: TrackedJob) -> None:
        if tracked.look is None:
            return
        try:
            claim = await tracked.look()
        except HailuoError as error:
            tracked.fail(Event.ABANDON, error)
            return
        if claim is None or tracked.status.is_final or self._followed.get(tracked.identity or "") is not tracked:
            return
        if claim.ours or claim.record.state not in AT_WORK:
            self._forget(tracked)
            self._dispatch(tracked, claim)
        elif claim.record.state is JournalState.ACCEPTED:
            accept(tracked, claim.record.task_id)

    def _forget_if_ended(self, tracked: TrackedJob) -> None:
        if tracked.status.is_final:
            self._forget(tracked)

    def _forget(self, tracked: TrackedJob) -> None:
        self._followed.pop(tracked.identity or "", None)
        tracked.is_followed = False


def accept(tracked: TrackedJob, task_id: str | None) -> None:
    """The service has it, as another session's record says."""
    if tracked.status is Status.QUEUED and task_id is not None:
        tracked.task_id = task_id
        tracked.move(Event.ACCEPT)
