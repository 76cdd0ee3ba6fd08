"""From a list of jobs to an exit code: shows the cost, asks, runs the batch, and reports."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from decimal import Decimal

import anyio.to_thread
import attrs
import click

from hailuo_async import JournalError, JournalState, Record, SpendingLimitError, Stats, estimate
from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.batch import Batch, BatchPlan
from hailuo_async._cli.batch.bill import SENT_AGAIN, confirm, confirm_twice, read_records, read_spent, saved_path
from hailuo_async._cli.batch.progress import Screen, open_screen
from hailuo_async._cli.batch.results import JobResult, ResultLine, exit_code, line_on_record
from hailuo_async._cli.batch.summary import Summary, why_stopped
from hailuo_async._cli.jobfile.joblist import Entry
from hailuo_async._cli.output import columns, echo, emit, fitted, has_colours, json_line
from hailuo_async._cli.targets import make_folder
from hailuo_async._engine.spending_limit import Payment, SpendingLimit
from hailuo_async.session import AsyncSession

#: A longer key does not push the column of results further to the right.
_MAX_KEY_WIDTH = 40


@attrs.define(eq=False)
class ResultPrinter:
    """Prints each line once, on stdout: for machines, or for people, who saw the results of earlier runs before."""

    is_json: bool
    _width: int
    _printed: set[ResultLine] = attrs.field(factory=set, init=False)

    def print(self, line: ResultLine) -> None:
        if line in self._printed:
            return
        if line.result is not JobResult.NOT_SENT:  # of these there may be millions, and each comes once
            self._printed.add(line)
        if self.is_json:
            emit(json_line(line.facts))
        elif line.result not in (JobResult.THERE, JobResult.NOT_SENT):
            emit(self._for_people(line, columns(sys.stdout)))

    def _for_people(self, line: ResultLine, width: int | None) -> str:
        """One line; for an error, or if the terminal is too narrow for one line, the key and the detail below it."""
        whole = f"{line.name:<{self._width}}  {line.message}"
        if width is None or (line.error is None and len(whole) < width):
            return whole
        head = f"{line.name}  {line.result}{f'  {line.seconds}' if line.seconds else ''}"
        is_red = line.error is not None and has_colours(sys.stdout)
        head = click.style(head, fg="red") if is_red else fitted(head, width)
        return f"{head}\n{fitted(f'  {line.detail}', width)}" if line.detail else head


def run_batch(plan: BatchPlan, opening: AbstractAsyncContextManager[AsyncSession], *, is_agreed: bool) -> int:
    """Asks, runs, reports, and returns the exit code. Jobs may be paid for, each once.

    Raises ``OSError``, ``JournalError``, ``ConfigError`` and ``click.UsageError``, before anything is sent.
    """
    with exit_codes.nothing_sent():
        bill = plan.cost()
        if plan.journal is not None:
            if not (plan.is_quiet and is_agreed):
                echo(bill.message)
            confirm_twice(plan.doubtful, is_agreed=is_agreed)
            confirm(bill, is_agreed=is_agreed or (plan.max_jobs or plan.max_cost) is not None)
        make_folder(plan.output)
    printer = ResultPrinter(plan.is_json, min(bill.width, _MAX_KEY_WIDTH))
    batch = Batch(plan, bill, printer.print)
    for line in plan.left_out:
        printer.print(line)
    with exit_codes.something_sent(lambda: batch.has_begun):
        try:
            with open_screen(is_quiet=plan.is_quiet) as screen:
                asyncio.run(_run(batch, opening, screen))
        except KeyboardInterrupt:  # at a moment when signals do what they do without us
            batch.is_interrupted = True
        return _report(batch, printer)


async def _run(batch: Batch, opening: AbstractAsyncContextManager[AsyncSession], screen: Screen) -> None:
    async with opening as session:
        await anyio.to_thread.run_sync(_check_limits, batch.plan, session.stats())
        for key in batch.plan.redo:
            await session.resolve(key, forget=True)
        for key in batch.plan.resubmit:
            await session.resolve(key, resubmit=True)
        await batch.run(session, screen)


def _check_limits(plan: BatchPlan, stats: Stats) -> None:
    """Raises ``click.UsageError`` if a job that is made anew would be refused: its record would be lost."""
    limit = SpendingLimit(plan.max_jobs, plan.max_cost)
    limit.spent, limit.committed = stats.spent, stats.committed
    for entry in plan.made_anew:
        try:
            Payment((limit,), estimate(entry.job).high).reserve()
        except SpendingLimitError as error:
            raise click.UsageError(f"--redo {entry.key}: {why_stopped(error)}; nothing was sent") from error


def _report(batch: Batch, printer: ResultPrinter) -> int:
    """Prints the lines that are missing and the summary, and returns the exit code."""
    plan = batch.plan
    rest = JobResult.UNFINISHED if plan.journal is None and batch.is_interrupted else JobResult.NOT_SENT
    is_all_known = len(batch.lines) >= plan.total
    is_all_saved = all(line.result is not JobResult.NOT_SAVED for line in batch.lines.values())
    records = {} if is_all_known and is_all_saved else read_records(plan.journal)
    summary = Summary(plan.journal)
    for line in plan.left_out:
        summary.add(line)
    for entry in plan.entries():
        ended = batch.lines.get(entry.key)
        line = _left(entry, records, rest) if ended is None else _now(ended, records.get(entry.key))
        printer.print(line)
        summary.add(line)
    code = exit_codes.INTERRUPTED if batch.is_interrupted else exit_code(summary.counts)
    if code or not plan.is_quiet:
        for message in summary.messages(batch.elapsed_s, batch.stopped_by, _spent(batch)):
            echo(message)
    return code


def _spent(batch: Batch) -> Decimal:
    """What the journal counts, other batches that share it included, unless it lacks what this one has spent."""
    try:
        return max(read_spent(batch.plan.journal), batch.spent)
    except JournalError:
        return batch.spent


def _now(line: ResultLine, record: Record | None) -> ResultLine:
    """``line``, or that the video is there by now: another run of this journal has saved it."""
    path = None if line.result is not JobResult.NOT_SAVED or record is None else saved_path(record)
    return line if path is None else attrs.evolve(line, result=JobResult.THERE, path=path, error=None)


def _left(entry: Entry, records: Mapping[str, Record], rest: JobResult) -> ResultLine:
    """The line for a job that has not ended here: from its record, or ``rest`` if it was never sent."""
    record = records.get(entry.key)
    if record is None or record.state in SENT_AGAIN:
        return ResultLine(key=entry.key, label=entry.label, result=rest)
    line = attrs.evolve(line_on_record(record), label=entry.label)
    if line.result is JobResult.SAVED:  # by another run, so its file may be gone
        return _now(attrs.evolve(line, result=JobResult.NOT_SAVED, path=None), record)
    is_in_doubt = record.state is JournalState.SENDING  # this session, which has ended, may have been its sender
    return attrs.evolve(line, result=JobResult.UNKNOWN) if is_in_doubt else line
