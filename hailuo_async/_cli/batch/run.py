"""From a list of jobs to an exit code: asks what is to be paid for, runs the batch, and reports."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import click

from hailuo_async import JournalState, Record
from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.batch import Batch
from hailuo_async._cli.batch.bill import SENT_AGAIN, confirm, estimate_cost, read_records
from hailuo_async._cli.batch.lines import JobResult, ResultLine, exit_code, failed
from hailuo_async._cli.batch.progress import Screen, open_screen
from hailuo_async._cli.batch.summary import summary
from hailuo_async._cli.output import echo, emit, json_line
from hailuo_async._cli.targets import make_folder
from hailuo_async.jobs import Job
from hailuo_async.session import AsyncSession
from hailuo_async.settings import JournalPlace

#: A longer key does not push the column of what became of its job further to the right.
_MAX_KEY_WIDTH = 40


@attrs.define(eq=False)
class ResultPrinter:
    """Prints each line once, on stdout: for people, without what an earlier run printed, or for machines."""

    is_json: bool
    _width: int
    _printed: set[ResultLine] = attrs.field(factory=set, init=False)

    @classmethod
    def of(cls, keys: Iterable[str], *, is_json: bool) -> ResultPrinter:
        """One whose columns fit ``keys``."""
        return cls(is_json, min(max(map(len, keys), default=0), _MAX_KEY_WIDTH))

    def print(self, line: ResultLine) -> None:
        """Prints ``line``, unless it has been printed."""
        if line in self._printed:
            return
        self._printed.add(line)
        if self.is_json:
            emit(json_line(line.facts))
        elif line.result not in (JobResult.THERE, JobResult.NOT_SENT):
            emit(f"{line.key:<{self._width}}  {line.message}")


@attrs.frozen(kw_only=True)
class BatchPlan:
    """What is to be made, and how it is told."""

    jobs: Mapping[str, Job]
    targets: Mapping[str, Path]
    output: Path
    journal: JournalPlace | None = None
    """Where the jobs are remembered; without it nothing is paid for."""
    unusable: tuple[ResultLine, ...] = ()
    """What no job could be made of."""
    max_jobs: int | None = None
    is_json: bool = False


def run_batch(given: BatchPlan, opening: AbstractAsyncContextManager[AsyncSession], *, is_agreed: bool) -> int:
    """Asks, runs, reports, and returns the exit code. Jobs may be paid for, each once.

    Raises ``OSError``, ``JournalError``, ``ConfigError`` and ``click.UsageError``, before anything is sent.
    """
    _check_names(given.targets.values())
    bill = estimate_cost(given.jobs, given.targets, read_records(given.journal))
    if given.journal is not None:
        confirm(bill, is_agreed=is_agreed or given.max_jobs is not None)
    make_folder(given.output)
    printer = ResultPrinter.of(given.jobs, is_json=given.is_json)
    batch = Batch({**bill.sent, **bill.to_pay}, given.targets, printer.print, bill.there, given.max_jobs)
    for line in given.unusable:
        printer.print(line)
    try:
        with open_screen() as screen:
            asyncio.run(_run(batch, opening, screen))
    except KeyboardInterrupt:  # at a moment when signals do what they do without us
        batch.is_interrupted = True
    return _report(given, batch, printer)


def _check_names(targets: Iterable[Path]) -> None:
    """Raises ``click.UsageError`` if some file cannot have its name here, before its video is paid for."""
    for target in targets:
        try:
            os.fsencode(target)
        except UnicodeEncodeError as error:
            reason = f"{target.name!a} cannot be the name of a file in {error.encoding}: set LC_ALL=C.UTF-8"
            raise click.UsageError(reason) from None


async def _run(batch: Batch, opening: AbstractAsyncContextManager[AsyncSession], screen: Screen) -> None:
    async with opening as session:
        await batch.run(session, screen)


def _report(given: BatchPlan, batch: Batch, printer: ResultPrinter) -> int:
    """Tells what is still to be told, sums up, and returns the exit code."""
    rest = JobResult.UNFINISHED if given.journal is None and batch.is_interrupted else JobResult.NOT_SENT
    records = {} if given.jobs.keys() <= batch.lines.keys() else read_records(given.journal)
    lines = [*given.unusable, *(batch.lines.get(key) or _left(key, records.get(key), rest) for key in given.jobs)]
    for line in lines:
        printer.print(line)
    for words in summary(lines, batch.elapsed_s, batch.stopped_by, given.journal):
        echo(words)
    return exit_codes.INTERRUPTED if batch.is_interrupted else exit_code(line.result for line in lines)


def _left(key: str, record: Record | None, rest: JobResult) -> ResultLine:
    """The line for a job that has not ended here, by what is on record of it: ``rest`` if that is nothing."""
    if record is None or record.state in SENT_AGAIN:
        return ResultLine(key=key, result=rest)
    if record.error is not None:
        return failed(key, record.error)
    is_in_doubt = record.state is JournalState.SENDING
    return ResultLine(
        key=key, result=JobResult.UNKNOWN if is_in_doubt else JobResult.UNFINISHED, task_id=record.task_id
    )
