"""Runs a batch through a session's stream, and reports what became of every job.

Threads print the results and draw the screen, as a pipe or a terminal may be slow. Neither holds the stream back: its
videos are paid for.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hailuo_async._cli.batch.bill import Bill, read_records, read_spent
from hailuo_async._cli.batch.pace import Pace
from hailuo_async._cli.batch.progress import Screen
from hailuo_async._cli.batch.results import HAS_VIDEO, JobResult, ResultLine, line_of
from hailuo_async._cli.batch.tally import Tally
from hailuo_async._cli.interrupts import interruptible
from hailuo_async._cli.jobfile.joblist import Entry
from hailuo_async._cli.output import echo, show
from hailuo_async._cli.targets import check_name
from hailuo_async._engine.outcome_stream import OutcomeStream
from hailuo_async._io.filenames import DEFAULT_SUFFIX
from hailuo_async.errors import HailuoError
from hailuo_async.jobs import Job
from hailuo_async.session import AsyncSession
from hailuo_async.settings import JournalLocation

#: What a quit gives the POSTs under way, so that their task ids are known.
_QUIT_GRACE_S = 3.0


@attrs.frozen(kw_only=True)
class BatchPlan:
    """What a batch makes, and how it reports."""

    entries: Callable[[], Iterable[Entry]]
    """The jobs, each time from the first on."""
    total: int
    targets: Callable[[str], Path]
    """Gives the file for a job's video, by its key."""
    output: Path
    journal: JournalLocation | None = None
    """Remembers the jobs; without it nothing is paid for."""
    left_out: tuple[ResultLine, ...] = ()
    """Lines for the rows and pictures that make no job, and for rows whose videos are there, but not their pictures."""
    redo: frozenset[str] = frozenset()
    """Keys of jobs that the journal knows, and that are made anew."""
    resubmit: frozenset[str] = frozenset()
    """Keys of jobs that failed, or may have been accepted, and that are sent again."""
    doubtful: frozenset[str] = frozenset()
    """The keys among these whose jobs may be paid for twice."""
    max_jobs: int | None = None
    """At most so many jobs are sent: a setting of the session."""
    max_cost: Decimal | None = None
    """At most so many US dollars are spent, earlier runs included: a setting of the session as well."""
    is_json: bool = False
    is_quiet: bool = False

    @property
    def made_anew(self) -> Iterator[Entry]:
        """The jobs that take the place of a job on record."""
        return (entry for entry in self.entries() if entry.key in self.redo) if self.redo else iter(())

    def in_order(self) -> Iterator[Entry]:
        """The jobs as they are sent: first those that are made anew, as no other may use up the limit."""
        yield from self.made_anew
        yield from (entry for entry in self.entries() if entry.key not in self.redo)

    def cost(self, *, shows_jobs: bool = False) -> Bill:
        """What it is about to cost. With ``shows_jobs``, prints each job that will be paid for.

        Looks at the journal and the disk. Raises ``JournalError``, and ``click.UsageError`` if some file cannot have
        its name here.
        """
        bill = Bill(
            self.targets, read_records(self.journal), self.redo | self.resubmit, self.max_jobs, self.max_cost,
            read_spent(self.journal), is_new=not (self.redo or any(self.output.glob(f"*{DEFAULT_SUFFIX}"))),
        )  # fmt: skip
        for entry in self.entries():
            if not entry.key.isascii():
                check_name(self.targets(entry.key))
            if bill.add(entry) and shows_jobs:
                facts = {"key": entry.key, "status": JobResult.NOT_SENT}
                show(facts, f"{entry.label or entry.key}  to pay for", is_json=self.is_json)
        return bill

    def show_cost(self) -> None:
        """Prints the jobs that would be paid for, and the bill: a dry run."""
        echo(self.cost(shows_jobs=True).message)


@attrs.define(eq=False)
class Batch:
    """What has become of the jobs of a plan so far.

    It can be read at any moment, also when a run was broken off. ``report`` is called with each line, in a thread. The
    jobs are read in a thread as well, and only as many as there is room for.
    """

    plan: BatchPlan
    bill: Bill
    report: Callable[[ResultLine], None]
    lines: dict[str, ResultLine] = attrs.field(factory=dict, init=False)
    """The jobs that have ended, by their keys."""
    stopped_by: HailuoError | None = attrs.field(default=None, init=False)
    """The error that every further job would meet."""
    has_begun: bool = attrs.field(default=False, init=False)
    """Whether a job may have been sent."""
    is_interrupted: bool = attrs.field(default=False, init=False)
    spent: Decimal = attrs.field(factory=Decimal, init=False)
    """USD paid so far; with a journal, also by earlier runs."""
    elapsed_s: float = attrs.field(default=0.0, init=False)
    _results: Counter[JobResult] = attrs.field(factory=Counter, init=False)
    _labels: dict[str, str] = attrs.field(factory=dict, init=False)
    """The labels of the jobs that the session has and that have not ended, by their keys."""
    _pace: Pace = attrs.field(factory=Pace, init=False)
    _began_at: float = attrs.field(default=0.0, init=False)

    async def run(self, session: AsyncSession, screen: Screen) -> None:
        """Sends the jobs and saves their videos. Each may be paid for.

        Returns when all is done, when it was interrupted, or at an error that every further job would meet. After an
        interrupt that did not wait, the session is closed.
        """
        self.has_begun, self._began_at = True, anyio.current_time()
        session.hooks.append(self._pace)
        stream = session.stream(self._jobs(), save_as=lambda job: self.plan.targets(job.key or ""))
        with anyio.CancelScope() as scope, interruptible(lambda: self._stop(session, stream), scope.cancel):
            async with anyio.create_task_group() as showing:
                showing.start_soon(self._show, session, screen)
                await self._work(stream)
                showing.cancel_scope.cancel()
            await self._show_now(session, screen)
        if scope.cancel_called:
            self.is_interrupted = True
            echo("hailuo-async: quitting; what runs goes on at the service")
            await session.aclose(_QUIT_GRACE_S)

    def _stop(self, session: AsyncSession, stream: OutcomeStream) -> None:
        self.is_interrupted = True
        stream.stop()
        running = session.stats().running
        echo(f"hailuo-async: no more jobs are sent; waiting for those that run: {running}. Once more to quit at once")

    async def _work(self, stream: OutcomeStream) -> None:
        send, receive = anyio.create_memory_object_stream[ResultLine](math.inf)
        async with receive, anyio.create_task_group() as reporting:
            reporting.start_soon(self._report_all, receive)
            async with send:
                for key in self.bill.left_alone:
                    self._note(ResultLine(key=key, result=JobResult.THERE, path=self.bill.there[key]), send)
                await self._read(stream, send)

    async def _jobs(self) -> AsyncGenerator[Job]:
        entries = self.plan.in_order()
        while (entry := await anyio.to_thread.run_sync(next, entries, None)) is not None:
            if entry.key not in self.bill.left_alone:
                if entry.label is not None:
                    self._labels[entry.key] = entry.label
                yield entry.job

    async def _read(self, stream: OutcomeStream, send: MemoryObjectSendStream[ResultLine]) -> None:
        try:
            async with contextlib.aclosing(stream) as outcomes:
                async for outcome in outcomes:
                    line = await anyio.to_thread.run_sync(line_of, outcome)
                    is_there = line.result is JobResult.SAVED and line.key in self.bill.there
                    result = JobResult.THERE if is_there else line.result
                    self._note(attrs.evolve(line, result=result, label=self._labels.pop(line.key, None)), send)
        except HailuoError as error:
            self.stopped_by = error

    def _note(self, line: ResultLine, send: MemoryObjectSendStream[ResultLine]) -> None:
        self.lines[line.key] = line
        self._results[line.result] += 1
        send.send_nowait(line)

    async def _report_all(self, receive: MemoryObjectReceiveStream[ResultLine]) -> None:
        async for line in receive:
            await anyio.to_thread.run_sync(self.report, line)

    # --- The screen ---

    async def _show(self, session: AsyncSession, screen: Screen) -> None:
        while True:
            await self._show_now(session, screen)
            await anyio.sleep(screen.every_s)

    async def _show_now(self, session: AsyncSession, screen: Screen) -> None:
        self.elapsed_s = anyio.current_time() - self._began_at
        stats = session.stats()
        self.spent = stats.spent
        tally = Tally.of(
            stats,
            self._results,
            total=self.plan.total,
            fetched=max(0, sum(self._results[result] for result in HAS_VIDEO) - len(self.bill.left_alone)),
            elapsed_s=self.elapsed_s,
            is_stopping=self.is_interrupted,
            pace=self._pace,
            now=anyio.current_time(),
        )
        await anyio.to_thread.run_sync(screen.show, tally)
