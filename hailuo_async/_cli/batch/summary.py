"""The summary of a batch: how many jobs have their videos, what went wrong and why, and what to do about it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import attrs

from hailuo_async._cli.batch.results import JobResult, ResultLine, reason
from hailuo_async._cli.batch.tally import span
from hailuo_async._cli.money import dollars
from hailuo_async._cli.output import named
from hailuo_async.errors import (
    HailuoError,
    JobError,
    RequestRejectedError,
    SpendingLimitError,
    TaskExpiredError,
    TaskFailedError,
)
from hailuo_async.settings import JournalLocation

#: So many keys are named for one reason; the others are counted.
_NAMED = 8

_TROUBLES = {
    JobResult.UNUSABLE: "unusable",
    JobResult.FAILED: "failed",
    JobResult.NOT_SAVED: "not saved, though paid for",
    JobResult.UNKNOWN: "unknown: perhaps accepted and paid for",
    JobResult.UNFINISHED: "unfinished: they go on at the service",
    JobResult.NOT_SENT: "not sent",
}
_MENDED_BY_RUNNING_AGAIN = (JobResult.FAILED, JobResult.NOT_SAVED, JobResult.UNFINISHED, JobResult.NOT_SENT)
_DECIDE = "Look for an unknown job on the dashboard, and then: {} --task-id ID | --resubmit | --forget"
_RETRY = "To make again what the service gave up, and pay for it again: the same command with --retry-failed"
_EXPIRED = "To make anew a video that has expired, and pay for it again: the same command with --redo KEY"
_REDO = "To have it take the place of the job that has its key: the same command with --redo KEY"
_AGAIN = "Run the same command again to go on: nothing is paid for twice"
_ALL_ADVICE = (_DECIDE, _RETRY, _EXPIRED, _REDO, _AGAIN)
_AGAIN_FOR_MORE = "To go on: the same command with a higher --max-cost; nothing is paid for twice"
#: Errors that the same job would meet again.
_STAYS = (JobError, RequestRejectedError, TaskFailedError, TaskExpiredError)


@attrs.define(eq=False)
class Summary:
    """Sums up the results of jobs, which are added one by one and not held."""

    journal: JournalLocation | None
    """The journal of the batch, if it has one."""
    counts: Counter[JobResult] = attrs.field(factory=Counter, init=False)
    _reasons: dict[tuple[JobResult, str], tuple[list[str], int]] = attrs.field(factory=dict, init=False)
    """The first names of jobs with one result and one reason, and how many there are."""
    _advice: set[str] = attrs.field(factory=set, init=False)

    def add(self, line: ResultLine) -> None:
        self.counts[line.result] += 1
        if line.error is not None:
            names, count = self._reasons.get((line.result, reason(line.error)), ([], 0))
            name = line.key if line.result is JobResult.UNKNOWN else line.name  # resolve takes keys
            more = [name] if count < _NAMED else []
            self._reasons[line.result, reason(line.error)] = [*names, *more], count + 1
        self._advice.update(_advice(line))

    def messages(self, elapsed_s: float, stopped_by: HailuoError | None, spent: Decimal | None) -> Iterator[str]:
        """The lines of the summary. ``spent`` is what the jobs of the journal cost in USD."""
        there = self.counts[JobResult.THERE]
        before = f", {there} of them by an earlier run" if there else ""
        cost = f"; {dollars(spent)} spent in all" if spent and self.journal is not None else ""
        saved = self.counts[JobResult.SAVED] + there
        yield f"{saved} of {self.counts.total()} saved in {span(elapsed_s)}{before}{cost}"
        if stopped_by is not None:
            yield f"stopped: {why_stopped(stopped_by)}"
        for result, words in _TROUBLES.items():
            if self.counts[result]:
                yield f"{self.counts[result]} {words}"
                yield from self._by_reason(result)
        if self.journal is not None:
            resolve = f"hailuo-async resolve {shlex.quote(str(self.journal))} KEY"
            is_spent = isinstance(stopped_by, SpendingLimitError) and stopped_by.cost is not None
            more = {_AGAIN: _AGAIN_FOR_MORE} if is_spent else {}
            yield from (more.get(advice, advice).format(resolve) for advice in _ALL_ADVICE if advice in self._advice)

    def _by_reason(self, result: JobResult) -> Iterator[str]:
        for (other, why), (names, count) in self._reasons.items():
            if other is result:
                yield f"  {why}: {named(names, count)}"


def why_stopped(stopped_by: HailuoError) -> str:
    if isinstance(stopped_by, SpendingLimitError):
        if stopped_by.max_cost is None:
            return f"as many are sent as --max-jobs {stopped_by.max_jobs} allows"
        if stopped_by.cost is None:
            return "there is a job of which no price is known: give --max-jobs beside --max-cost"
        spent = f"{dollars(stopped_by.spent or Decimal())} of --max-cost {dollars(stopped_by.max_cost)} are spent"
        more = dollars(stopped_by.committed) if stopped_by.committed else ""
        running = f", and jobs before it could cost up to {more} more" if more else ""
        return f"{spent}{running}; a job of up to {dollars(stopped_by.cost)} would pass it"
    return f"{stopped_by}; every other job would meet the same"


def _advice(line: ResultLine) -> Iterator[str]:
    if line.result is JobResult.UNKNOWN:
        yield _DECIDE
    if isinstance(line.error, TaskFailedError):
        yield _RETRY
    if isinstance(line.error, TaskExpiredError):  # the journal may have its video: then it has not failed there
        yield _EXPIRED
    if isinstance(line.error, JobError) and line.error.field == "key":
        yield _REDO
    if line.result in _MENDED_BY_RUNNING_AGAIN and not isinstance(line.error, _STAYS):
        yield _AGAIN
