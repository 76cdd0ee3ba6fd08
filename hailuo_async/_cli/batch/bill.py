"""What a batch is about to cost, beside what its journal and the disk have already. Reads both, so it blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from decimal import Decimal
from pathlib import Path

import attrs

from hailuo_async import Journal, JournalState, Record
from hailuo_async._cli.exit_codes import ask
from hailuo_async._cli.jobfile.joblist import Entry
from hailuo_async._cli.money import dollars, price_of
from hailuo_async._cli.output import echo, named
from hailuo_async._images.frame import inspect_image
from hailuo_async._io.download.saved_file import is_saved_video
from hailuo_async._io.journal.opening import is_used
from hailuo_async._rules.identity import build_fingerprint
from hailuo_async.jobs import Job
from hailuo_async.prices import Estimate, estimate
from hailuo_async.settings import JournalLocation

#: The states of a job that is sent when it is given again.
SENT_AGAIN = (JournalState.INTENDED, JournalState.REFUSED)
#: So many keys are named in one line.
_NAMED = 8


@attrs.define(eq=False)
class Bill:
    """What a batch is about to cost. Its jobs are added one by one, and not held."""

    targets: Callable[[str], Path]
    """Gives the file for a job's video, by its key."""
    records: Mapping[str, Record] = attrs.field(factory=dict)
    """The journal's records of earlier runs, by key."""
    again: Collection[str] = ()
    """The keys of jobs that were sent before and are paid for again."""
    max_jobs: int | None = None
    """At most so many jobs are sent."""
    max_cost: Decimal | None = None
    """At most so many US dollars are spent, earlier runs included."""
    spent: Decimal = Decimal(0)
    """US dollars that earlier runs have spent."""
    is_new: bool = False
    """Whether no target is looked at: the folder has no video, and no job is made anew, whose file is chosen here."""
    there: dict[str, Path] = attrs.field(factory=dict, init=False)
    """The videos of earlier runs, by the keys of their jobs."""
    left_alone: set[str] = attrs.field(factory=set, init=False)
    """Keys in ``there`` that the journal does not list as sent, as another program may have made the file. Their jobs
    are not sent."""
    total: int = attrs.field(default=0, init=False)
    to_pay: int = attrs.field(default=0, init=False)
    width: int = attrs.field(default=0, init=False)
    """Characters of the longest name among the jobs to pay for."""
    _once_more: int = attrs.field(default=0, init=False)
    _sent: int = attrs.field(default=0, init=False)
    """Jobs that were sent before, and whose video is not there."""
    _sizes: dict[Hashable, tuple[int, Estimate]] = attrs.field(factory=dict, init=False)
    """The seconds and the price of a job of each size."""
    _seconds: int = attrs.field(default=0, init=False)
    """Of video that is sent for now."""
    _prices: Counter[Estimate] = attrs.field(factory=Counter, init=False)
    """The prices of these jobs."""

    def add(self, entry: Entry) -> bool:
        """Adds a job, and returns whether it will be paid for. Looks at the disk."""
        self.total += 1
        key, record = entry.key, self.records.get(entry.key)
        if record is not None and record.state not in SENT_AGAIN and key not in self.again:
            path = saved_path(record)
            if path is None:
                self._sent += 1
            else:
                self.there[key] = path
            return False
        if not self.is_new and (target := self.targets(key)).exists():
            self.there[key] = target
            self.left_alone.add(key)
            return False
        self._add_price(entry)
        return True

    def _add_price(self, entry: Entry) -> None:
        self.to_pay += 1
        self.width = max(self.width, len(entry.label or entry.key))
        self._once_more += entry.key in self.again
        if entry.size not in self._sizes:
            self._sizes[entry.size] = entry.job.duration, estimate(entry.job)
        if self.max_jobs is None or self.to_pay <= self.max_jobs:
            seconds, price = self._sizes[entry.size]
            self._seconds += seconds
            self._prices[price] += 1

    @property
    def message(self) -> str:
        there = f"{len(self.there)} there already, " if self.there else ""
        before = f"{self._sent} sent before, " if self._sent else ""
        if not self.to_pay:
            return f"Jobs: {there}{before}none to pay for."
        now = self._prices.total()
        some = f", {now} of them now" if now < self.to_pay else ""
        again = f", {self._once_more} of them once more" if self._once_more else ""
        what = f"{self._seconds} s of video, {price_of(self._prices)}"
        return f"Jobs: {there}{before}{self.to_pay} to pay for{again}{some}: {what}{self._limit}."

    @property
    def _limit(self) -> str:
        spent = f" {dollars(self.spent)} spent before" if self.spent else ""
        if self.max_cost is None:
            return f";{spent}" if spent else ""
        return f"; at most {dollars(self.max_cost)} in all{',' if spent else ''}{spent}"


def read_records(journal: JournalLocation | None) -> dict[str, Record]:
    """The journal's records, by the keys of their jobs. Raises ``JournalError`` for a file that is not a journal."""
    if journal is None or not is_used(journal):
        return {}
    with Journal.open(journal) as opened:
        return {record.identity: record for record in opened.records()}


def read_fingerprint(job: Job) -> str:
    """The fingerprint that the journal has of ``job``. Raises ``ImageError`` for a picture that cannot be sent."""
    images = job.frames.items()
    frames = {field: inspect_image(field, image, fingerprint=True, fit=job.fit) for field, image in images}
    return build_fingerprint(job, frames)


def read_spent(journal: JournalLocation | None) -> Decimal:
    """What the jobs of the journal have cost, in USD. Raises ``JournalError``."""
    if journal is None or not is_used(journal):
        return Decimal(0)
    with Journal.open(journal) as opened:
        return opened.spent()


def saved_path(record: Record) -> Path | None:
    """Where the job's video was saved, if it is still there: another file of that name is not the video."""
    path = None if record.saved_to is None else Path(record.saved_to)
    is_there = path is not None and is_saved_video(path, record.saved_bytes, record.saved_sha256)
    return path if is_there else None


def confirm(bill: Bill, *, is_agreed: bool) -> None:
    """Asks whether to pay. Exits if the answer is no, or without a terminal."""
    if bill.to_pay and not is_agreed:
        ask("Go on?", "paying: give --yes; batch also takes --max-jobs N and --max-cost USD, to pay for no more")


def confirm_twice(keys: Collection[str], *, is_agreed: bool) -> None:
    """Names the jobs that may be paid for twice, and asks as ``confirm`` does."""
    if keys:
        echo(f"May have been accepted already, and is paid for twice then: {named(sorted(keys)[:_NAMED], len(keys))}")
        if not is_agreed:
            ask("Send again?", "paying perhaps twice: give --yes")
