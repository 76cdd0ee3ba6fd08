"""What a batch is about to cost, by what its journal and the disk have of it already. Looks at both, so it blocks."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path

import attrs
import click

from hailuo_async import Journal, JournalState, Record
from hailuo_async._cli import exit_codes
from hailuo_async._cli.money import dollars, price_of
from hailuo_async._cli.output import can_ask, echo
from hailuo_async._io.download.saved_file import is_saved_video
from hailuo_async._io.journal.places import is_used
from hailuo_async.jobs import Job
from hailuo_async.settings import JournalPlace

#: In these a job is sent when it is asked for again.
SENT_AGAIN = (JournalState.INTENDED, JournalState.REFUSED)
#: Keys that are named in one line.
_NAMED = 8


@attrs.frozen
class CostEstimate:
    """What a batch is about to cost."""

    there: Mapping[str, Path]
    """Files of an earlier run, by the keys of their jobs."""
    sent: Mapping[str, Job]
    """What the journal knows as sent: it is not paid for again, and may be there or not."""
    to_pay: Mapping[str, Job]
    again: frozenset[str] = frozenset()
    """Of these, what was sent before and is paid for again."""
    spent: Decimal = Decimal()
    """What earlier runs paid, in USD."""
    max_jobs: int | None = None
    """At most so many are sent."""
    max_cost: Decimal | None = None
    """So many US dollars are spent at most, with what was ``spent``."""

    @property
    def message(self) -> str:
        """The bill in one line."""
        there = f"{len(self.there)} there already, " if self.there else ""
        sent = len(self.sent.keys() - self.there.keys())
        before = f"{sent} sent before, " if sent else ""
        if not self.to_pay:
            return f"Jobs: {there}{before}none to pay for."
        now = list(itertools.islice(self.to_pay.values(), self.max_jobs))
        some = f", {len(now)} of them now" if len(now) < len(self.to_pay) else ""
        again = f", {len(self.again)} of them once more" if self.again else ""
        what = f"{sum(job.duration for job in now)} s of video, {price_of(now)}"
        return f"Jobs: {there}{before}{len(self.to_pay)} to pay for{again}{some}: {what}{self._limit}."

    @property
    def _limit(self) -> str:
        spent = f" {dollars(self.spent)} spent before" if self.spent else ""
        if self.max_cost is None:
            return f";{spent}" if spent else ""
        return f"; at most {dollars(self.max_cost)} in all{',' if spent else ''}{spent}"


def read_records(journal: JournalPlace | None) -> dict[str, Record]:
    """Reads the journal's records, by the keys of their jobs. Raises ``JournalError`` for a file that is no journal."""
    if journal is None or not is_used(journal):
        return {}
    with Journal.open(journal) as opened:
        return {record.identity: record for record in opened.records()}


def estimate_cost(
    jobs: Mapping[str, Job],
    targets: Mapping[str, Path],
    records: Mapping[str, Record],
    again: Collection[str] = (),
    max_jobs: int | None = None,
    max_cost: Decimal | None = None,
) -> CostEstimate:
    """The bill for ``jobs``, those ``again`` that are to be made once more.

    A job that would be paid for and whose file is there already is not sent, no matter what put the file there.
    """
    known = {key for key, record in records.items() if record.state not in SENT_AGAIN} - set(again)
    sent = {key: job for key, job in jobs.items() if key in known}
    saved = {key: path for key in sent if (path := saved_path(records[key])) is not None}
    found = {key: targets[key] for key in jobs.keys() - sent.keys() if targets[key].exists()}
    there = saved | found
    to_pay = {key: job for key, job in jobs.items() if key not in sent and key not in there}
    spent = sum((record.spent for record in records.values()), Decimal())
    return CostEstimate(there, sent, to_pay, frozenset(again), spent, max_jobs, max_cost)


def saved_path(record: Record) -> Path | None:
    """Where its video was saved, if that is still there: another file of that name is not the video."""
    path = None if record.saved_to is None else Path(record.saved_to)
    is_there = path is not None and is_saved_video(path, record.saved_bytes, record.saved_sha256)
    return path if is_there else None


def confirm(bill: CostEstimate, *, is_agreed: bool) -> None:
    """Asks whether to pay. Exits if the answer is no, or if there is no terminal to ask at."""
    if is_agreed or not bill.to_pay:
        return
    if not can_ask():
        limits = "--max-jobs N or --max-cost USD to pay for no more"
        exit_codes.exit_with(exit_codes.USAGE, f"there is no terminal to ask at before paying: give --yes, or {limits}")
    if not click.confirm("Go on?", err=True):
        exit_codes.exit_with(exit_codes.FAILED, "nothing was sent")


def confirm_twice(keys: Collection[str], *, is_agreed: bool) -> None:
    """Names the jobs that may be paid for twice, and asks. Exits if the answer is no, or if there is no terminal."""
    if not keys:
        return
    names = f"{', '.join(list(keys)[:_NAMED])}{f' and {len(keys) - _NAMED} more' if len(keys) > _NAMED else ''}"
    echo(f"May have been accepted already, and is paid for twice then: {names}")
    if is_agreed:
        return
    if not can_ask():
        exit_codes.exit_with(exit_codes.USAGE, "there is no terminal to ask at before paying perhaps twice: give --yes")
    if not click.confirm("Send again?", err=True):
        exit_codes.exit_with(exit_codes.FAILED, "nothing was sent")
