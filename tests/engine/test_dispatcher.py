"""Where a job goes whose end came between its claim and the news of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from hailuo_async._engine.dispatcher import Dispatcher
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.session_state import SessionState
from hailuo_async._engine.tracked_job import TrackedJob
from hailuo_async._io.journal.records import Claim, JournalState
from hailuo_async._rules.lifecycle import Event
from hailuo_async.errors import WaitTimeoutError

from ..support.tables import record_in

pytestmark = pytest.mark.anyio


@attrs.define(eq=False)
class Noted(Recorder):
    """Notes which jobs are freed."""

    freed: list[str | None] = attrs.field(factory=list)

    def release_nowait(self, tracked: TrackedJob) -> None:
        self.freed.append(tracked.identity)


@pytest.mark.parametrize(
    ("state", "was_left", "is_here_again", "dropped", "freed"),
    [
        (JournalState.INTENDED, False, False, ["cat"], []),  # the claim has entered it: no caller wants it
        (JournalState.INTENDED, True, False, [], ["cat"]),  # another session had left it there to be sent
        (JournalState.ACCEPTED, False, False, [], ["cat"]),
        (JournalState.INTENDED, False, True, [], []),
    ],
)
async def test_a_kept_job_that_is_claimed_after_its_end_is_dropped_only_if_that_claim_has_entered_it(
    state: JournalState, was_left: bool, is_here_again: bool, dropped: list[str], freed: list[str]
) -> None:
    nothing: Any = SimpleNamespace()
    keeper: Any = SimpleNamespace(dropped=[], drop_nowait=lambda identity: keeper.dropped.append(identity))
    open_state, recorder = SessionState(), Noted()
    open_state.begin()
    dispatcher = Dispatcher(nothing, nothing, nothing, recorder, open_state, EventEmitter(), keeper)
    ended = TrackedJob(0, identity="cat")
    ended.fail(Event.ABANDON, WaitTimeoutError(timeout_s=1.0))
    if is_here_again:
        dispatcher.add(TrackedJob(1, identity="cat"))
    dispatcher._give_back(ended, Claim(record_in(state), ours=True, was_left=was_left))
    assert (keeper.dropped, recorder.freed) == (dropped, freed)
