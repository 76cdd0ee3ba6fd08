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
from hailuo_async._cli.batch.bill import SENT_AGAIN, agree, make_out, read_records
from hailuo_async._cli.batch.lines import JobResult, Line, exit_code, failed
from hailuo_async._cli.batch.progress import Screen, open_screen
from hailuo_async._cli.batch.summary import summary
from hailuo_async._cli.output import json_line, say, tell
from hailuo_async._cli.targets import make_folder
from hailuo_async.jobs import Job
from hailuo_async.session import AsyncSession
from hailuo_async.settings import JournalPlace

#: A longer key does not push the column of what became of its job further to the right.
_WIDEST_KEY = 40


@attrs.define(eq=False)
class Teller:
    """Tells each line once, on stdout: for people, without those that an earlier run told, or for machines."""

    is_json: bool
    _width: int
    _told: set[Line] = attrs.field(factory=set, init=False)

    @classmethod
    def of(cls, keys: Mapping[str, object], *, is_json: bool) -> Teller:
        """One that knows how long the keys will be."""
        return cls(is_json, min(max(map(len, keys), default=0), _WIDEST_KEY))

    def tell(self, line: Line) -> None:
        """Tells ``line``, unless it has been told."""
        if line in self._told:
            return
        self._told.add(line)
        if self.is_json:
            tell(json_line(line.facts))
        elif line.fate not in (JobResult.THERE, JobResult.NOT_SENT):
            tell(f"{line.key:<{self._width}}  {line.words}")


@attrs.frozen(kw_only=True)
class Assignment:
    """What is to be made, and how it is told."""

    jobs: Mapping[str, Job]
    targets: Mapping[str, Path]
    output: Path
    journal: JournalPlace | None = None
    """Where the jobs are remembered; without it nothing is paid for."""
    unusable: tuple[Line, ...] = ()
    """What no job could be made of."""
    max_jobs: int | None = None
    is_json: bool = False


def carry_out(given: Assignment, opening: AbstractAsyncContextManager[AsyncSession], *, is_agreed: bool) -> int:
    """Asks, runs, reports, and returns the exit code. Jobs may be paid for, each once.

    Raises ``OSError``, ``JournalError``, ``ConfigError`` and ``click.UsageError``, before anything is sent.
    """
    _check_names(given.targets.values())
    bill = make_out(given.jobs, given.targets, read_records(given.journal))
    if given.journal is not None:
        agree(bill, is_agreed=is_agreed or given.max_jobs is not None)
    make_folder(given.output)
    teller = Teller.of(given.jobs, is_json=given.is_json)
    batch = Batch({**bill.sent, **bill.to_pay}, given.targets, teller.tell, bill.there, given.max_jobs)
    for line in given.unusable:
        teller.tell(line)
    try:
        with open_screen() as screen:
            asyncio.run(_run(batch, opening, screen))
    except KeyboardInterrupt:  # at a moment when signals do what they do without us
        batch.is_interrupted = True
    return _report(given, batch, teller)


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


def _report(given: Assignment, batch: Batch, teller: Teller) -> int:
    """Tells what is still to be told, sums up, and returns the exit code."""
    rest = JobResult.UNFINISHED if given.journal is None and batch.is_interrupted else JobResult.NOT_SENT
    records = {} if given.jobs.keys() <= batch.lines.keys() else read_records(given.journal)
    lines = [*given.unusable, *(batch.lines.get(key) or _left(key, records.get(key), rest) for key in given.jobs)]
    for line in lines:
        teller.tell(line)
    for words in summary(lines, batch.elapsed_s, batch.stopped_by, given.journal):
        say(words)
    return exit_codes.INTERRUPTED if batch.is_interrupted else exit_code(line.fate for line in lines)


def _left(key: str, record: Record | None, rest: JobResult) -> Line:
    """The line for a job that has not ended here, by what is on record of it: ``rest`` if that is nothing."""
    if record is None or record.state in SENT_AGAIN:
        return Line(key=key, fate=rest)
    if record.error is not None:
        return failed(key, record.error)
    is_in_doubt = record.state is JournalState.SENDING
    return Line(key=key, fate=JobResult.UNKNOWN if is_in_doubt else JobResult.UNFINISHED, task_id=record.task_id)
