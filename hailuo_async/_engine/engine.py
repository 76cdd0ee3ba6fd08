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

from hailuo_async._edges.http import Transport
from hailuo_async._edges.journal import JournalWriter
from hailuo_async._engine.books import Books
from hailuo_async._engine.clock import loop_time
from hailuo_async._engine.gate import Gate
from hailuo_async._engine.intake import Intake
from hailuo_async._engine.life import Life
from hailuo_async._engine.news import News
from hailuo_async._engine.poller import Poller
from hailuo_async._engine.submitter import Submitter
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

    life: Life
    gate: Gate
    intake: Intake
    submitter: Submitter
    poller: Poller
    books: Books
    _closing: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _grace: anyio.CancelScope = attrs.field(factory=anyio.CancelScope, init=False)
    """Ends the wait for the POSTs under way."""

    async def run(self, started: anyio.Event) -> None:
        """Works until it is closed, cancelled, or broken by a bug. Whichever it is, every job has ended then."""
        try:
            async with anyio.create_task_group() as tasks:
                self.life.tasks = tasks
                tasks.start_soon(self.submitter.run, tasks)
                tasks.start_soon(self.poller.run, tasks)
                tasks.start_soon(self.books.keep_up)
                started.set()
                await self._closing.wait()
                await self._wind_down()
                tasks.cancel_scope.cancel()
        except Exception as failure:
            logger.exception("the engine failed")
            self.life.end("the engine failed: please report this", failure)
        finally:
            self.life.end("the session's loop ended, or its task was cancelled")
            self._end_all()

    def close_nowait(self, grace_s: float) -> None:
        """Takes no more jobs, ends what is queued, and gives the POSTs under way ``grace_s`` seconds to end.

        Of several who close it, the least patient has his way.
        """
        self.life.end("the session is closed")
        self._grace.deadline = min(self._grace.deadline, loop_time() + grace_s)
        self._closing.set()

    async def _wind_down(self) -> None:
        self.gate.close()
        self.submitter.drop_all_nowait(Event.ABANDON, self.life.error)
        with self._grace:
            await self.submitter.landed()

    def _end_all(self) -> None:
        self.gate.close()
        while self.intake.live:  # each end may bring others: those of a stream that ends with it
            work = next(iter(self.intake.live))
            if work.status is Status.SENDING:
                work.fail(Event.DOUBT, SubmissionUnknownError(reason=self.life.reason, key=work.key or work.identity))
            else:
                work.fail(Event.ABANDON, self.life.error())


def build_engine(
    settings: Settings,
    transport: Transport,
    journal: JournalWriter | None,
    wall_clock: Callable[[], float],
    rng: Random,
    news: News,
) -> Engine:
    """An engine for ``settings``, wired and not yet running."""
    life = Life()
    gate = Gate(Slots(settings.max_running, rng), Budget(), rng, news)
    books = Books(journal, str(settings.journal), settings.journal_prompts)
    cadence = Cadence(*settings.poll_interval, rng)
    poller = Poller(gate, transport, books, cadence, settings.poll_interval)
    resubmits = settings.on_unknown == "resubmit"
    submitter = Submitter(gate, transport, books, settings.base_url, resubmits, wall_clock, news)
    intake = Intake(submitter, poller, gate, books, settings.max_queued, life, wall_clock, news)
    submitter.on_landed, submitter.on_taken = intake.landed, intake.taken
    return Engine(life, gate, intake, submitter, poller, books)
