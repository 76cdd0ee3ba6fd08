"""What a batch is about to cost, by what its journal and the disk have of it already. Looks at both, so it blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import click

from hailuo_async import Journal, JournalState, Record
from hailuo_async._cli import exit_codes
from hailuo_async._cli.output import can_ask, echo
from hailuo_async._io.download.saved_file import is_saved_video
from hailuo_async._io.journal.places import is_used
from hailuo_async.jobs import Job
from hailuo_async.settings import JournalPlace

#: In these a job is sent when it is asked for again.
SENT_AGAIN = (JournalState.INTENDED, JournalState.REFUSED)


@attrs.frozen
class CostEstimate:
    """What a batch is about to cost."""

    there: Mapping[str, Path]
    """Files of an earlier run, by the keys of their jobs."""
    sent: Mapping[str, Job]
    """What the journal knows as sent: it is not paid for again, and may be there or not."""
    to_pay: Mapping[str, Job]

    @property
    def message(self) -> str:
        """The bill in one line."""
        there = f"{len(self.there)} there already, " if self.there else ""
        sent = len(self.sent.keys() - self.there.keys())
        before = f"{sent} sent before, " if sent else ""
        if not self.to_pay:
            return f"Jobs: {there}{before}none to pay for."
        seconds = sum(job.duration for job in self.to_pay.values())
        return f"Jobs: {there}{before}{len(self.to_pay)} to pay for, which is {seconds} s of video."


def read_records(journal: JournalPlace | None) -> dict[str, Record]:
    """What the journal knows, by the keys of the jobs. Raises ``JournalError`` for a file that is none."""
    if journal is None or not is_used(journal):
        return {}
    with Journal.open(journal) as opened:
        return {record.identity: record for record in opened.records()}


def estimate_cost(jobs: Mapping[str, Job], targets: Mapping[str, Path], records: Mapping[str, Record]) -> CostEstimate:
    """The bill for ``jobs``. One that would be paid for and whose file is there is done with, whoever put it there."""
    sent = {key: job for key, job in jobs.items() if key in records and records[key].state not in SENT_AGAIN}
    saved = {key: path for key in sent if (path := _saved(records[key])) is not None}
    found = {key: targets[key] for key in jobs.keys() - sent.keys() if targets[key].exists()}
    there = saved | found
    return CostEstimate(there, sent, {key: job for key, job in jobs.items() if key not in sent and key not in there})


def _saved(record: Record) -> Path | None:
    """Where its video was saved, if that is still there: another file of that name is not the video."""
    path = None if record.saved_to is None else Path(record.saved_to)
    is_there = path is not None and is_saved_video(path, record.saved_bytes, record.saved_sha256)
    return path if is_there else None


def confirm(bill: CostEstimate, *, is_agreed: bool) -> None:
    """Says what is about to be paid for, and asks. Leaves if the answer is no, or if there is nobody to ask."""
    echo(bill.message)
    if is_agreed or not bill.to_pay:
        return
    if not can_ask():
        exit_codes.exit_with(
            exit_codes.USAGE, "nobody can be asked here whether to pay: give --yes, or --max-jobs N to pay for N"
        )
    if not click.confirm("Go on?", err=True):
        exit_codes.exit_with(exit_codes.FAILED, "nothing was sent")
