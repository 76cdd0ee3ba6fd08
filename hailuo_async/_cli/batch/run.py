"""From a list of jobs to an exit code: asks what is to be paid for, runs the batch, and reports."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path

import attrs
import click

from hailuo_async import JournalState, Record
from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.batch import Batch
from hailuo_async._cli.batch.bill import (
    SENT_AGAIN,
    CostEstimate,
    confirm,
    confirm_twice,
    estimate_cost,
    read_records,
    saved_path,
)
from hailuo_async._cli.batch.lines import JobResult, ResultLine, exit_code, failed
from hailuo_async._cli.batch.progress import Screen, open_screen
from hailuo_async._cli.batch.summary import summary
from hailuo_async._cli.output import columns, echo, emit, fitted, has_colours, json_line
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
    _labels: Mapping[str, str] = attrs.field(factory=dict)
    """What people call jobs whose keys were made, by these."""
    _printed: set[ResultLine] = attrs.field(factory=set, init=False)

    @classmethod
    def of(cls, keys: Iterable[str], labels: Mapping[str, str], *, is_json: bool) -> ResultPrinter:
        """One whose columns fit ``keys``."""
        width = min(max((len(labels.get(key, key)) for key in keys), default=0), _MAX_KEY_WIDTH)
        return cls(is_json, width, labels)

    def print(self, line: ResultLine) -> None:
        """Prints ``line``, unless it has been printed."""
        if line in self._printed:
            return
        self._printed.add(line)
        if self.is_json:
            emit(json_line(line.facts))
        elif line.result not in (JobResult.THERE, JobResult.NOT_SENT):
            emit(self._for_people(line, columns(sys.stdout)))

    def _for_people(self, line: ResultLine, width: int | None) -> str:
        """One line; at a terminal that is too narrow for it, or for an error, what there is to say under the key."""
        key = self._labels.get(line.key, line.key)
        whole = f"{key:<{self._width}}  {line.message}"
        if width is None or (line.error is None and len(whole) < width):
            return whole
        head = f"{key}  {line.result}{f'  {line.seconds}' if line.seconds else ''}"
        is_red = line.error is not None and has_colours(sys.stdout)
        head = click.style(head, fg="red") if is_red else fitted(head, width)
        return f"{head}\n{fitted(f'  {line.detail}', width)}" if line.detail else head


@attrs.frozen(kw_only=True)
class BatchPlan:
    """What is to be made, and how it is reported."""

    jobs: Mapping[str, Job]
    targets: Mapping[str, Path]
    output: Path
    journal: JournalPlace | None = None
    """Where the jobs are remembered; without it nothing is paid for."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    """What people call jobs whose keys were made, by these."""
    unusable: tuple[ResultLine, ...] = ()
    """What no job could be made of."""
    redo: frozenset[str] = frozenset()
    """Jobs that the journal knows, and that are made anew."""
    resubmit: frozenset[str] = frozenset()
    """Jobs that failed, or may have been accepted, and that are sent again."""
    doubtful: frozenset[str] = frozenset()
    """Of these, those that may be paid for twice."""
    max_jobs: int | None = None
    """At most so many are sent, which is a setting of the session."""
    max_cost: Decimal | None = None
    """So many US dollars are spent at most, earlier runs included: a setting of the session as well."""
    is_json: bool = False
    is_quiet: bool = False

    def cost(self) -> CostEstimate:
        """What it is about to cost. Looks at the journal and the disk. Raises ``JournalError``."""
        again = self.redo | self.resubmit
        return estimate_cost(self.jobs, self.targets, read_records(self.journal), again, self.max_jobs, self.max_cost)

    def show_cost(self) -> None:
        """Prints the bill, and what is to be paid for, for a dry run."""
        bill = self.cost()
        echo(bill.message)
        for key in bill.to_pay:
            emit(json_line({"key": key, "status": JobResult.NOT_SENT}) if self.is_json else f"{key}  to pay for")


def run_batch(plan: BatchPlan, opening: AbstractAsyncContextManager[AsyncSession], *, is_agreed: bool) -> int:
    """Asks, runs, reports, and returns the exit code. Jobs may be paid for, each once.

    Raises ``OSError``, ``JournalError``, ``ConfigError`` and ``click.UsageError``, before anything is sent.
    """
    _check_names(plan.targets.values())
    bill = plan.cost()
    if plan.journal is not None:
        if not (plan.is_quiet and is_agreed):
            echo(bill.message)
        confirm_twice(plan.doubtful, is_agreed=is_agreed)
        confirm(bill, is_agreed=is_agreed or (plan.max_jobs or plan.max_cost) is not None)
    make_folder(plan.output)
    printer = ResultPrinter.of(plan.jobs, plan.labels, is_json=plan.is_json)
    batch = Batch({**bill.sent, **bill.to_pay}, plan.targets, printer.print, bill.there)
    for line in plan.unusable:
        printer.print(line)
    try:
        with open_screen(is_quiet=plan.is_quiet) as screen:
            asyncio.run(_run(plan, batch, opening, screen))
    except KeyboardInterrupt:  # at a moment when signals do what they do without us
        batch.is_interrupted = True
    return _report(plan, batch, printer)


def _check_names(targets: Iterable[Path]) -> None:
    """Raises ``click.UsageError`` if some file cannot have its name here, before its video is paid for."""
    for target in targets:
        try:
            os.fsencode(target)
        except UnicodeEncodeError as error:
            reason = f"{target.name!a} cannot be the name of a file in {error.encoding}: set LC_ALL=C.UTF-8"
            raise click.UsageError(reason) from None


async def _run(
    plan: BatchPlan, batch: Batch, opening: AbstractAsyncContextManager[AsyncSession], screen: Screen
) -> None:
    async with opening as session:
        for key in plan.redo & batch.jobs.keys():
            await session.resolve(key, forget=True)
        for key in plan.resubmit & batch.jobs.keys():
            await session.resolve(key, resubmit=True)
        await batch.run(session, screen)


def _report(plan: BatchPlan, batch: Batch, printer: ResultPrinter) -> int:
    """Tells what is still to be told, sums up, and returns the exit code."""
    rest = JobResult.UNFINISHED if plan.journal is None and batch.is_interrupted else JobResult.NOT_SENT
    is_all_known = plan.jobs.keys() <= batch.lines.keys()
    is_all_saved = all(line.result is not JobResult.NOT_SAVED for line in batch.lines.values())
    records = {} if is_all_known and is_all_saved else read_records(plan.journal)
    ended = {key: _now(line, records.get(key)) for key, line in batch.lines.items()}
    lines = [*plan.unusable, *(ended.get(key) or _left(key, records.get(key), rest) for key in plan.jobs)]
    for line in lines:
        printer.print(line)
    code = exit_codes.INTERRUPTED if batch.is_interrupted else exit_code(line.result for line in lines)
    if code or not plan.is_quiet:
        for message in summary(lines, batch.elapsed_s, batch.stopped_by, plan.journal, batch.spent, plan.labels):
            echo(message)
    return code


def _now(line: ResultLine, record: Record | None) -> ResultLine:
    """``line``, or that the video is there by now: another batch of this journal has saved it."""
    path = None if line.result is not JobResult.NOT_SAVED or record is None else saved_path(record)
    return line if path is None else attrs.evolve(line, result=JobResult.THERE, path=path, error=None)


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
