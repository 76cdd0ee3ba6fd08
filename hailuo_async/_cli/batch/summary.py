"""The summary of a batch: how many jobs have their videos, what went wrong and why, and what to do about it."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal

from hailuo_async._cli.batch.lines import JobResult, ResultLine, reason
from hailuo_async._cli.batch.tally import span
from hailuo_async._cli.money import dollars
from hailuo_async.errors import (
    HailuoError,
    JobError,
    RequestRejectedError,
    SpendingLimitError,
    TaskExpiredError,
    TaskFailedError,
)
from hailuo_async.settings import JournalPlace

#: Keys that are named for one reason; the others are counted.
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
#: What the same job meets again.
_STAYS = (JobError, RequestRejectedError, TaskFailedError, TaskExpiredError)


def summary(
    lines: Collection[ResultLine],
    elapsed_s: float,
    stopped_by: HailuoError | None,
    journal: JournalPlace | None,
    spent: Decimal | None = None,
    labels: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The lines of it. ``journal`` is where the jobs are remembered, if they are, and what they cost in USD."""
    there = _of(JobResult.THERE, lines)
    before = f", {len(there)} of them by an earlier run" if there else ""
    cost = f"; {dollars(spent)} spent in all" if spent and journal is not None else ""
    yield f"{len(_of(JobResult.SAVED, lines)) + len(there)} of {len(lines)} saved in {span(elapsed_s)}{before}{cost}"
    if stopped_by is not None:
        yield f"stopped: {_why(stopped_by)}"
    for result, words in _TROUBLES.items():
        if troubled := _of(result, lines):
            yield f"{len(troubled)} {words}"
            yield from _by_reason(troubled, labels or {})
    if journal is not None:
        yield from _advice(lines, f"hailuo-async resolve {shlex.quote(str(journal))} KEY")


def _why(stopped_by: HailuoError) -> str:
    if isinstance(stopped_by, SpendingLimitError):
        if stopped_by.max_cost is None:
            return f"as many are sent as --max-jobs {stopped_by.max_jobs} allows"
        if stopped_by.cost is None:
            return "there is a job of which no price is known: give --max-jobs beside --max-cost"
        left = f"a job of up to {dollars(stopped_by.cost)} would pass it"
        return (
            f"{dollars(stopped_by.spent or Decimal())} of --max-cost {dollars(stopped_by.max_cost)} are spent; {left}"
        )
    return f"{stopped_by}; every other job would meet the same"


def _of(result: JobResult, lines: Collection[ResultLine]) -> list[ResultLine]:
    return [line for line in lines if line.result is result]


def _by_reason(lines: Collection[ResultLine], labels: Mapping[str, str]) -> Iterator[str]:
    keys: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line.error is not None:
            keys[reason(line.error)].append(labels.get(line.key, line.key))
    for why, names in keys.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"  {why}: {', '.join(names[:_NAMED])}{more}"


def _advice(lines: Collection[ResultLine], resolve: str) -> Iterator[str]:
    if _of(JobResult.UNKNOWN, lines):
        yield f"Look for an unknown job on the dashboard, and then: {resolve} --task-id ID | --resubmit | --forget"
    if any(line.task_id is not None for line in _of(JobResult.FAILED, lines)):
        yield "To make again what the service gave up, and pay for it again: the same command with --retry-failed"
    if any(isinstance(line.error, JobError) and line.error.field == "key" for line in lines):
        yield "To have it take the place of the job that has its key: the same command with --redo KEY"
    if any(line.result in _MENDED_BY_RUNNING_AGAIN and not isinstance(line.error, _STAYS) for line in lines):
        yield "Run the same command again to go on: nothing is paid for twice"
