"""The commands ``status`` and ``resolve``: the jobs of a journal, and its owner's decision on some."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import attrs
import click

from hailuo_async import Journal, JournalState, Record
from hailuo_async._cli import exit_codes
from hailuo_async._cli.batch.results import JobResult, error_facts, reason, result_of
from hailuo_async._cli.money import dollars
from hailuo_async._cli.output import echo, show, tell
from hailuo_async._engine.clock import wall_clock
from hailuo_async._engine.wiring import open_journal
from hailuo_async.settings import JournalLocation

_WATCH_EVERY_S = 2.0
#: So many jobs are named one by one.
_NAMED = 50


@attrs.define
class _Overview:
    """Counts the jobs of a journal by how they stand, and gathers those in trouble."""

    counts: Counter[JobResult] = attrs.field(factory=Counter, init=False)
    spent: Decimal = attrs.field(default=Decimal(), init=False)
    troubled: list[tuple[Record, JobResult]] = attrs.field(factory=list, init=False)
    """Those that failed, and those that wait for a decision."""

    def add(self, record: Record) -> JobResult:
        result = result_of(record)
        self.counts[result] += 1
        if result in (JobResult.FAILED, JobResult.UNKNOWN):
            self.troubled.append((record, result))
        return result

    @property
    def exit_code(self) -> int:
        if self.counts[JobResult.UNKNOWN]:
            return exit_codes.UNKNOWN
        done = self.counts[JobResult.SAVED] + self.counts[JobResult.NOT_SAVED]
        return exit_codes.DONE if done == self.counts.total() else exit_codes.FAILED

    @property
    def is_over(self) -> bool:
        """Whether every job has ended or waits for its owner."""
        return not self.counts[JobResult.UNFINISHED] + self.counts[JobResult.NOT_SENT]


def show_jobs(journal: JournalLocation, *, is_json: bool, is_watched: bool) -> int:
    """Prints how the jobs in ``journal`` stand, and returns the exit code. Raises ``JournalError``.

    With ``is_watched`` again and again, until every job has ended or waits for its owner.
    """
    while not (overview := _show(journal, is_json=is_json)).is_over and is_watched:
        asyncio.run(asyncio.sleep(_WATCH_EVERY_S))
        if sys.stdout.isatty() and not is_json:
            click.clear()
    return overview.exit_code


def _show(journal: JournalLocation, *, is_json: bool) -> _Overview:
    overview = _Overview()
    with Journal.open(journal) as opened:
        for record in opened.records():
            show(_facts(record, overview.add(record)), is_json=is_json)
        overview.spent = opened.spent()
    for line in () if is_json else _table(journal, overview):
        tell(line)
    return overview


def _facts(record: Record, result: JobResult) -> dict[str, object]:
    return {
        "key": record.identity,
        "status": result,
        "path": record.saved_to,
        "task_id": record.task_id,
        "sent_at": record.sent_at,
        "accepted_at": record.accepted_at,
        "ended_at": record.ended_at,
        "error": error_facts(record.error),
        "spent": record.spent,
    }


def _table(journal: JournalLocation, overview: _Overview) -> Iterator[str]:
    total = overview.counts.total()
    name = click.format_filename(journal) if isinstance(journal, Path) else str(journal)
    spent = f", {dollars(overview.spent)} spent" if overview.spent else ""
    yield f"{name}: {total} {'job' if total == 1 else 'jobs'}{spent}"
    yield from (f"{overview.counts[result]:7} {result}" for result in JobResult if overview.counts[result])
    yield from _troubles(overview.troubled)
    quoted = shlex.quote(str(journal))
    failed = {record.state for record, result in overview.troubled if result is JobResult.FAILED}
    if JournalState.FAILED in failed:
        again = f"hailuo-async resolve {quoted} KEY... --resubmit, and the command that sent it"
        batch = "for a batch, its own command with --retry-failed"
        yield f"To make again what failed, and pay for it again: {again}; {batch}"
    if JournalState.REFUSED in failed:
        yield "To send again what was refused, which cost nothing: the command that sent it"
    if overview.counts[JobResult.UNKNOWN]:
        yield f"To decide: hailuo-async resolve {quoted} KEY... --task-id ID | --resubmit | --forget"


def _troubles(troubled: Sequence[tuple[Record, JobResult]]) -> Iterator[str]:
    for record, result in troubled[:_NAMED]:
        cost = f", {dollars(record.spent)} spent" if record.spent else ""
        if result is JobResult.FAILED:
            why = "" if record.error is None else f" {reason(record.error)}"
            yield f"{record.identity} {'refused' if record.state is JournalState.REFUSED else 'failed'}:{why}{cost}"
        else:
            sent = (
                "" if record.sent_at is None else f"sent {datetime.fromtimestamp(record.sent_at):%Y-%m-%d %H:%M:%S}, "
            )
            why = "the process that sent it has ended" if record.error is None else reason(record.error)
            yield f"{record.identity} may have been accepted and paid for: {sent}{why}{cost}"
    if len(troubled) > _NAMED:
        yield f"and {len(troubled) - _NAMED} more: --json lists all"


async def decide(
    journal: JournalLocation, keys: Sequence[str], task_id: str | None, resubmit: bool, forget: bool, *, is_json: bool
) -> None:
    """Decides what becomes of the jobs, and prints it. Raises ``JobError`` and ``JournalError``."""
    become = "forgotten" if forget else JobResult.NOT_SENT if resubmit else JobResult.UNFINISHED
    # A session would ask after the tasks that no other session waits for.
    async with contextlib.aclosing(await open_journal(journal, base_url=None, now=wall_clock)) as writer:
        for key in keys:
            await writer.resolve(key, resubmit=resubmit, task_id=task_id, forget=forget)
            show({"key": key, "status": become}, f"{key}: {become}", is_json=is_json)
    if not forget:
        echo("Run the command that sent it again to go on.")


def confirm_resubmit(journal: JournalLocation, keys: Sequence[str], *, is_agreed: bool) -> None:
    """Asks whether ``keys`` may be paid for again. Exits if not, or if there is no terminal to ask at."""
    if is_agreed:
        return
    with Journal.open(journal) as opened:
        found = {key: next(opened.records(key=key), None) for key in keys}
    states = {key: record.state for key, record in found.items() if record is not None}
    failed = [key for key, state in states.items() if state is JournalState.FAILED]
    doubtful = [key for key, state in states.items() if state in (JournalState.UNKNOWN, JournalState.SENDING)]
    if not failed and not doubtful:
        return
    words = [f"{', '.join(failed)} failed: to make it again is paid for again."] if failed else []
    words += [f"If {', '.join(doubtful)} was accepted after all, it is paid for twice."] if doubtful else []
    exit_codes.ask(f"{' '.join(words)} Send it again?", "paying again: give --yes", "nothing was changed")
