"""One engine per session. It runs as one task that owns everything which waits: submitter, poller, feeders of streams.

Callers hold handles; nobody's cancellation reaches a POST. Whatever ends the engine, its close, a bug or the end of the
loop, every job that has not ended by then ends with an error: nobody waits for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random

import anyio
import attrs

from hailuo_async._engine.admission import Admission
from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.events import EventEmitter
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.journaling import JournalRecorder
from hailuo_async._engine.poller import Poller
from hailuo_async._engine.state import EngineState
from hailuo_async._engine.submitter import Submitter
from hailuo_async._io.http import Transport
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.budget import Budget
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.lifecycle import Event
from hailuo_async._rules.slots import Slots
from hailuo_async.errors import SubmissionUnknownError
from hailuo_async.outcomes import Status
from hailuo_async.settings import Settings

logger = logging.getLogger("hailuo_async")


@attrs.define(eq=False)
class Engine:
    """Runs the rooms of the engine together, and ends them in order."""

    engine_state: EngineState
    gate: Gate
    admission: Admission
    submitter: Submitter
    poller: Poller
    recorder: JournalRecorder
    _closing: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _grace: anyio.CancelScope = attrs.field(factory=anyio.CancelScope, init=False)
    """Ends the wait for the POSTs under way."""

    async def run(self, started: anyio.Event) -> None:
        """Works until it is closed, cancelled, or broken by a bug. Whichever it is, every job has ended then."""
        try:
            async with anyio.create_task_group() as tasks:
                self.engine_state.tasks = tasks
                tasks.start_soon(self.submitter.run, tasks)
                tasks.start_soon(self.poller.run, tasks)
                tasks.start_soon(self.recorder.keep_up)
                started.set()
                await self._closing.wait()
                await self._wind_down()
                tasks.cancel_scope.cancel()
        except Exception as failure:
            logger.exception("the engine failed")
            self.engine_state.end("the engine failed: please report this", failure)
        finally:
            self.engine_state.end("the session's loop ended, or its task was cancelled")
            self._end_all()

    def close_nowait(self, grace_s: float) -> None:
        """Takes no more jobs, ends what is queued, and gives the POSTs under way ``grace_s`` seconds to end.

        Of several who close it, the least patient has his way.
        """
        self.engine_state.end("the session is closed")
        self._grace.deadline = min(self._grace.deadline, loop_time() + grace_s)
        self._closing.set()

    async def _wind_down(self) -> None:
        self.gate.close()
        self.submitter.drop_all_nowait(Event.ABANDON, self.engine_state.error)
        with self._grace:
            await self.submitter.landed()

    def _end_all(self) -> None:
        self.gate.close()
        while self.admission.live:  # each end may bring others: those of a stream that ends with it
            tracked = next(iter(self.admission.live))
            if tracked.status is Status.SENDING:
                tracked.fail(
                    Event.DOUBT,
                    SubmissionUnknownError(reason=self.engine_state.reason, key=tracked.key or tracked.identity),
                )
            else:
                tracked.fail(Event.ABANDON, self.engine_state.error())


def build_engine(
    settings: Settings,
    transport: Transport,
    journal: JournalWriter | None,
    wall_clock: Callable[[], float],
    rng: Random,
    emitter: EventEmitter,
) -> Engine:
    """An engine for ``settings``, wired and not yet running."""
    engine_state = EngineState()
    gate = Gate(Slots(settings.max_running, rng), Budget(), rng, emitter)
    recorder = JournalRecorder(journal, str(settings.journal), settings.journal_prompts)
    cadence = Cadence(*settings.poll_interval, rng)
    poller = Poller(gate, transport, recorder, cadence, settings.poll_interval)
    resubmits = settings.on_unknown == "resubmit"
    submitter = Submitter(gate, transport, recorder, settings.base_url, resubmits, wall_clock, emitter)
    admission = Admission(submitter, poller, gate, recorder, settings.max_queued, engine_state, wall_clock, emitter)
    submitter.on_landed, submitter.on_taken = admission.landed, admission.taken
    return Engine(engine_state, gate, admission, submitter, poller, recorder)
