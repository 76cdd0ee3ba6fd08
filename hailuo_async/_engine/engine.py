"""One engine per session: what it holds while it is open, the tasks that work in it, and their end.

It runs as one task that owns everything which waits: submitter, poller, feeders of streams. Callers hold handles; no
caller's cancellation reaches a POST. When the engine ends, by its close, a bug or the end of the loop, every job that
has not ended by then ends with an error: no caller waits for ever.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import attrs

from hailuo_async._engine.admission import Admission, Terms
from hailuo_async._engine.arguments import SaveAs, StrPath
from hailuo_async._engine.calls import Calls
from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.dispatcher import Dispatcher
from hailuo_async._engine.funds import Funds
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.intake import Intake
from hailuo_async._engine.outcome_stream import OutcomeStream
from hailuo_async._engine.poller import Poller
from hailuo_async._engine.recording import Recorder
from hailuo_async._engine.results import Results
from hailuo_async._engine.saving import Saving
from hailuo_async._engine.session_state import Phase, SessionState
from hailuo_async._engine.shared_uploads import SharedUploads
from hailuo_async._engine.spending_limit import SpendingLimit
from hailuo_async._engine.stream import LOOKAHEAD, LOOKAHEAD_ON_RECORD, Stream
from hailuo_async._engine.submitter import Submitter
from hailuo_async._engine.tracked_job import Lane, TrackedJob
from hailuo_async._io.journal.records import LEASE_S, Record
from hailuo_async._io.transport import Transport
from hailuo_async._rules.lifecycle import Event
from hailuo_async.errors import ConfigError, SessionClosedError, SubmissionUnknownError
from hailuo_async.jobs import Job
from hailuo_async.outcomes import Stats, Status

if TYPE_CHECKING:
    from hailuo_async._engine.team_monitor import TeamMonitor
    from hailuo_async._io.journal.writer import JournalWriter

logger = logging.getLogger("hailuo_async")

#: Seconds that the downloads and the transport each get to close in; the journal, which waits for an outage to end, a
#: lease more.
CLOSING_S = 10.0


@attrs.define(eq=False)
class Engine:
    """Runs the rooms of the engine together, and ends them in order."""

    loop: asyncio.AbstractEventLoop
    session_state: SessionState
    gate: Gate
    admission: Admission
    dispatcher: Dispatcher
    submitter: Submitter
    poller: Poller
    recorder: Recorder
    calls: Calls
    results: Results
    _transport: Transport
    _journal: JournalWriter | None
    team_monitor: TeamMonitor | None = attrs.field(default=None, init=False)
    """Keeps up to date with the team of the sessions that share the journal."""
    pid: int = attrs.field(factory=os.getpid, init=False)
    _grace_ends_at: float = attrs.field(default=math.inf, init=False)
    """When the wait for the POSTs under way ends."""
    _task: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    # --- Its life ---

    async def start(self) -> None:
        """Returns when it works. Cancelled, it leaves nothing behind."""
        self._task = self.loop.create_task(self._run(), name="hailuo-async engine")
        try:
            while self.session_state.phase is Phase.OPENING:
                await self.session_state.changed.wait()
        except asyncio.CancelledError:
            await self.close(0.0)
            raise

    async def close(self, grace_s: float) -> None:
        """Takes no more jobs, ends what is queued, and gives the POSTs under way ``grace_s`` seconds to end.

        Returns when nothing runs any more; the engine bounds its own end. If it is closed more than once, the shortest
        grace counts.
        """
        self.session_state.end("the session is closed")
        self._grace_ends_at = min(self._grace_ends_at, loop_time() + grace_s)
        self.submitter.landed.notify()
        if self._task is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            await _close(self.recorder.aclose, LEASE_S + CLOSING_S)
            for close in (self.results.aclose, self._transport.aclose):
                await _close(close, CLOSING_S)

    async def _work(self) -> None:
        """Works until it is closed, cancelled, or broken by a bug. In each case every job has ended then."""
        workers = self.session_state.workers
        try:
            self.session_state.begin()
            monitor = self.team_monitor
            of_team = () if monitor is None else (monitor.keep_fresh, monitor.take_over_from_the_dead)
            for work in (self.submitter.run, self.poller.run, self.recorder.keep_up, *of_team):
                workers.start(self._run_to_the_end(work))
            if (keeper := self.admission.keeper) is not None:
                keep = functools.partial(keeper.run, lambda: self.submitter.standing)
                workers.start(self._run_to_the_end(keep))
            while self.session_state.is_open:
                await self.session_state.changed.wait()
            self.gate.wake()
            self.submitter.drop_all_nowait(Event.ABANDON, self.session_state.error)
            await self.submitter.wait_idle(lambda: self._grace_ends_at)
        finally:
            self.session_state.end("the session's loop ended, or its task was cancelled")
            try:
                await workers.end()
            finally:
                self._end_all()

    async def _run_to_the_end(self, work: Callable[[], Awaitable[None]]) -> None:
        """One of the loops that the engine consists of: without it, nothing goes on."""
        try:
            await work()
        except SessionClosedError:
            pass
        except Exception as failure:
            logger.exception("the engine failed")
            self.session_state.end("the engine failed: please report this", failure)

    def _end_all(self) -> None:
        self.gate.wake()
        while self.dispatcher.live:  # each end may bring others: those of a stream that ends with it
            tracked = next(iter(self.dispatcher.live))
            if tracked.status is Status.SENDING:
                reason, key = self.session_state.reason, tracked.key or tracked.identity
                doubt = SubmissionUnknownError(reason=reason, key=key)
                if tracked.is_heard_by_none:
                    logger.warning("%s: look on the service's dashboard before you send it again", doubt)
                tracked.fail(Event.DOUBT, doubt)
                continue
            if tracked.task_id is not None and tracked.is_heard_by_none:
                tracked.log_that_it_goes_on("its session has ended")
            tracked.fail(Event.ABANDON, self.session_state.error())

    # --- What a session asks of it ---

    def stream(
        self,
        jobs: Iterable[Job] | AsyncIterable[Job],
        timeout_s: float | None,
        limits: tuple[SpendingLimit, ...],
        save_to: StrPath | None,
        save_as: SaveAs | None,
        *,
        share_uploads: bool,
    ) -> OutcomeStream:
        """Many jobs, as ``AsyncSession.stream`` says."""
        self.session_state.check()
        uploads = SharedUploads(self.calls.upload, self.calls.delete_upload) if share_uploads else None
        saving = self._saving(save_to, save_as)
        terms = Terms(timeout_s=timeout_s, limits=limits, lane=Lane(), uploads=uploads)
        intake = Intake(self.admission, terms, uploads is not None or saving is not None or self._journal is not None)
        stream = Stream(
            jobs,
            intake.take,
            intake.waits,
            self.dispatcher,
            self.session_state,
            lookahead=LOOKAHEAD if self._journal is None else LOOKAHEAD_ON_RECORD,
            saving=saving,
            tidy=None if uploads is None else uploads.delete_all,
            funds=Funds.of(limits, self.admission.money.prices, self._journal),
        )
        return OutcomeStream(stream)

    def _saving(self, save_to: StrPath | None, save_as: SaveAs | None) -> Saving | None:
        if save_to is None and save_as is None:
            return None
        directory = None if save_to is None else Path(save_to)
        return Saving(self.results, directory, save_as, has_journal=self._journal is not None)

    async def resume(self) -> OutcomeStream:
        """What the journal holds without an end, as ``AsyncSession.resume`` says."""

        async def recall(record: Record, find_fault: object) -> TrackedJob:
            return await self.admission.recall(record)

        try:
            records = await self.journal_or_raise().unfinished()
        except BaseException:
            self.recorder.doubt_claims()
            raise
        return OutcomeStream(Stream(records, recall, lambda _: True, self.dispatcher, self.session_state))

    def journal_or_raise(self) -> JournalWriter:
        """The journal. Raises ``ConfigError`` if the session has none, ``SessionClosedError`` once it is closed."""
        self.session_state.check()
        if self._journal is None:
            raise ConfigError(field="journal", value=None, rule="give journal=: nothing else remembers jobs")
        return self._journal

    def stats(self) -> Stats:
        """The engine at a glance."""
        ended = self.dispatcher.ended
        return Stats(
            queued=self.admission.queued,
            running=self.gate.slots.running,
            limit=self.gate.slots.limit,
            requests_left=self.gate.rate_limiter.remaining(self.loop.time()),
            refusals=self.gate.refusals,
            succeeded=ended[Status.SUCCESS],
            failed=ended[Status.FAILED],
            refused=ended[Status.REFUSED],
            unknown=ended[Status.UNKNOWN],
            abandoned=ended[Status.ABANDONED],
            spent=self.admission.money.limit.spent,
            committed=self.admission.money.limit.committed,
            ahead=0 if self.recorder.team is None else self.recorder.team.line.others.ahead,
        )


async def _close(close: Callable[[], Awaitable[None]], within_s: float) -> None:
    """Closes one part of a session; if that fails, the others are closed all the same."""
    try:
        with anyio.move_on_after(within_s, shield=True):
            await close()
    except Exception:
        logger.exception("a part of the session could not be closed: please report this")
