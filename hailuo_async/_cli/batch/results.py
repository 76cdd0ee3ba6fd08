"""The result of a job: as a line for people, as an object for machines, and as a part of the exit code."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Collection, Iterable
from decimal import Decimal
from pathlib import Path

import attrs
import click

from hailuo_async import JournalState, Record
from hailuo_async._cli import exit_codes
from hailuo_async._cli.problems import error_message
from hailuo_async._io.journal import holders
from hailuo_async.errors import (
    DownloadError,
    HailuoError,
    ImageError,
    JobError,
    SessionClosedError,
    SubmissionUnknownError,
    TaskFailedError,
    WaitTimeoutError,
)
from hailuo_async.outcomes import Failure, Outcome, Video


class JobResult(enum.StrEnum):
    """How a job of a batch stands at its end."""

    SAVED = "saved"
    THERE = "there"
    """An earlier run has saved its video."""
    FAILED = "failed"
    UNUSABLE = "unusable"
    """The row or the picture makes no job."""
    NOT_SAVED = "not saved"
    """Its video is paid for, and could not be fetched or written."""
    UNKNOWN = "unknown"
    """Sent, and perhaps accepted and paid for."""
    NOT_SENT = "not sent"
    UNFINISHED = "unfinished"
    """Sent, and not waited for to its end."""


_IS_THERE = (JobResult.SAVED, JobResult.THERE)
#: Of tasks that ended in a video.
HAS_VIDEO = (*_IS_THERE, JobResult.NOT_SAVED)
_RESULTS = {
    JournalState.INTENDED: JobResult.NOT_SENT,
    JournalState.SENDING: JobResult.UNFINISHED,
    JournalState.ACCEPTED: JobResult.UNFINISHED,
    JournalState.FAILED: JobResult.FAILED,
    JournalState.REFUSED: JobResult.FAILED,
    JournalState.UNKNOWN: JobResult.UNKNOWN,
}


@attrs.frozen(kw_only=True)
class ResultLine:
    """The result of one job, and the facts about it."""

    result: JobResult
    key: str = ""
    label: str | None = None
    """The name for people of a job whose key was made up."""
    path: Path | None = None
    task_id: str | None = None
    seconds_taken: float | None = None
    """How long the service worked on it."""
    size: int | None = None
    """Bytes of the file."""
    error: HailuoError | None = None
    cost: Decimal | None = None
    """What the service billed, in USD."""

    @property
    def name(self) -> str:
        return self.label or self.key

    @property
    def message(self) -> str:
        """The line for people, without its key."""
        return f"{self.result:<9} {self.seconds:>7}  {self.detail}".rstrip()

    @property
    def seconds(self) -> str:
        """How long the service worked, for people; empty if that is not known."""
        return "" if self.seconds_taken is None else f"{self.seconds_taken:.1f} s"

    @property
    def detail(self) -> str:
        """Where the video is, or why there is none."""
        if self.path is not None:
            size = "" if self.size is None else f"  {_size(self.size)}"
            return f"{click.format_filename(self.path)}{size}"
        if isinstance(self.error, ImageError):
            return f"{self.error.field}: {error_message(self.error)}"
        if self.error is not None:
            is_plain = self.result in (JobResult.UNKNOWN, JobResult.UNFINISHED) or (
                isinstance(self.error, JobError) and self.error.value is None
            )
            task = f" (task {self.task_id})" if self.result is JobResult.UNFINISHED else ""
            return f"{reason(self.error)}{task}" if is_plain else str(self.error)
        return "" if self.task_id is None else f"task {self.task_id}"

    @property
    def facts(self) -> dict[str, object]:
        return {
            "key": self.key or None,
            "status": self.result,
            "path": self.path and self.path.absolute(),
            "task_id": self.task_id,
            "seconds_taken": self.seconds_taken,
            "bytes": self.size,
            "cost": self.cost,
            "error": error_facts(self.error),
        }


def _size(count: int) -> str:
    return f"{count / 1e3:.1f} kB" if count < 100_000 else f"{count / 1e6:.1f} MB"


def error_facts(error: HailuoError | None) -> dict[str, str] | None:
    """An error as an object: its class and its message."""
    return None if error is None else {"type": type(error).__name__, "message": str(error)}


def line_of(outcome: Outcome) -> ResultLine:
    """The line for how a job of a stream ended. Looks at the file that was saved, so it blocks."""
    key = outcome.key or ""
    if isinstance(outcome, Failure):
        return failed(key, outcome.error)
    if outcome.path is None:  # the session was closed before it was saved
        video = outcome.video
        return ResultLine(key=key, result=JobResult.UNFINISHED, task_id=video.task_id, cost=video.cost)
    return saved(key, outcome.video, outcome.path)


def saved(key: str, video: Video, path: Path) -> ResultLine:
    """The line for a video that was saved at ``path``, and that another program may have moved by now. Blocks."""
    size = None
    with contextlib.suppress(OSError):
        size = path.stat().st_size
    return ResultLine(
        key=key,
        result=JobResult.SAVED,
        path=path,
        task_id=video.task_id,
        seconds_taken=video.seconds_taken,
        size=size,
        cost=video.cost,
    )


def failed(key: str, error: HailuoError) -> ResultLine:
    has_task = error.task_id is not None
    match error:
        case SubmissionUnknownError():
            result = JobResult.UNKNOWN
        case WaitTimeoutError() | SessionClosedError():  # the service goes on with a task that it has
            result = JobResult.UNFINISHED if has_task else JobResult.NOT_SENT
        case DownloadError() if has_task:  # without one the file was found to be there already, or unwritable
            result = JobResult.NOT_SAVED
        case _:
            result = JobResult.FAILED
    cost = error.cost if isinstance(error, DownloadError | TaskFailedError) else None
    return ResultLine(key=key, result=result, task_id=error.task_id, error=error, cost=cost)


def result_of(record: Record) -> JobResult:
    """The result of a job on record. One whose session ended in the middle of the POST is in doubt."""
    match record.state:
        case JournalState.SUCCESS:
            return JobResult.SAVED if record.saved_to is not None else JobResult.NOT_SAVED
        case JournalState.SENDING if record.holder is None or holders.is_gone(record.holder):
            return JobResult.UNKNOWN
        case state:
            return _RESULTS[state]


def line_on_record(record: Record) -> ResultLine:
    """The line for a job on record, of any session."""
    return ResultLine(
        key=record.identity,
        result=result_of(record),
        path=None if record.saved_to is None else Path(record.saved_to),
        task_id=record.task_id,
        error=record.error,
        cost=record.cost,
    )


def reason(error: HailuoError) -> str:
    """The reason in words that are the same for every job with the same trouble."""
    if isinstance(error, JobError):
        return f"{error.field}: {error.rule}"
    if isinstance(error, DownloadError | SubmissionUnknownError):
        return error.reason
    if isinstance(error, WaitTimeoutError):
        return f"no video within {error.timeout_s:g} s"
    return error.summary


def exit_code(results: Iterable[JobResult]) -> int:
    seen: Collection[JobResult] = set(results)
    if JobResult.UNKNOWN in seen:
        return exit_codes.UNKNOWN
    return exit_codes.DONE if all(result in _IS_THERE for result in seen) else exit_codes.FAILED
