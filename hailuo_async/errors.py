"""Everything that this library raises, in one tree.

    HailuoError
    ├── JobError (ValueError)           a job that the service would refuse, found before it is sent
    │   └── ImageError                  the same, for one of its images
    ├── ConfigError (ValueError)        a setting that cannot work
    ├── ServiceError                    the service said no
    │   ├── AuthenticationError         401, 403: every other job would meet the same
    │   ├── InsufficientBalanceError    402: every other job would meet the same
    │   ├── RequestRejectedError        400, 404, 413, 422: this request, not the others
    │   ├── RateLimitedError            429, for longer than the caller would wait
    │   ├── ServiceUnavailableError     it did not answer, or could not be reached
    │   └── ProtocolError               it answered with what nobody can read
    ├── SubmissionUnknownError          a POST left and its answer did not come: it may have been paid for
    ├── TaskFailedError                 the service worked on it, and gave up
    ├── TaskExpiredError                404: no such task, or its result is gone
    ├── WaitTimeoutError (TimeoutError) the job's own deadline; the task goes on
    ├── DownloadError                   the video did not arrive whole
    ├── JournalError                    the journal cannot be read or written
    ├── QueueFullError                  more jobs wait than the session was told to hold
    ├── SpendingLimitError              more jobs than the session was told to pay for
    └── SessionClosedError              not entered, closed, or used on another loop

Each carries its facts as attributes and makes its words from them. Every error has a ``task_id``: ``None`` until
the service has accepted the job, and from then on the id to attach to. All of them can be pickled and copied. None
of them ever holds the API key or the query of a signed URL.
"""

from __future__ import annotations

from typing import Any

import attrs

#: A value longer than this is shortened in messages: it may be a data URL of 20 MB.
_SHOWN_CHARACTERS = 80


def shown(value: object) -> str:
    """``repr(value)``, short enough for one line of a log."""
    try:
        text = repr(value[:_SHOWN_CHARACTERS] if isinstance(value, str | bytes) else value)
    except Exception:  # of a stranger's object, or of a number with too many digits: an error needs its words
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _rebuild(kind: type[HailuoError], facts: dict[str, Any]) -> HailuoError:
    error = kind.__new__(kind)
    error.__dict__.update(facts)
    return error


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class HailuoError(Exception):
    """The root of everything that this library raises."""

    task_id: str | None = None
    """The service's name for the task, as soon as there is one. ``session.attach`` takes it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__.copy())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        words = self._words()
        return words if self.task_id is None else f"{words} (task {self.task_id})"

    def _words(self) -> str:
        return type(self).__name__


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class JobError(HailuoError, ValueError):
    """A job breaks a rule of the service. Raised before anything is sent, so it costs nothing."""

    field: str
    value: object
    rule: str

    def _words(self) -> str:
        return f"{self.field}: {self.rule}; got {shown(self.value)}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class ImageError(JobError):
    """An image cannot be used. ``image`` names it, ``value`` is what was found in it, ``rule`` what it breaks."""

    image: str

    def _words(self) -> str:
        return f"{self.field} ({self.image}): {self.rule}; got {shown(self.value)}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class ConfigError(HailuoError, ValueError):
    """A setting cannot work. The value of a key is never in it."""

    field: str
    value: object
    rule: str

    def _words(self) -> str:
        return f"{self.field}: {self.rule}; got {shown(self.value)}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class ServiceError(HailuoError):
    """The service said no. ``status`` is its HTTP status, ``None`` where there was no answer; ``message`` its words."""

    message: str
    status: int | None = None

    def _words(self) -> str:
        return self.message if self.status is None else f"{self.status} {self.message}"


class AuthenticationError(ServiceError):
    """401 or 403: the key is not valid here. Every other job would meet the same, so a stream ends with it."""


class InsufficientBalanceError(ServiceError):
    """402: the balance does not cover the job. Nothing more is sent; what is queued stays unsent and unpaid."""


class RequestRejectedError(ServiceError):
    """400, 404, 413 or 422: the service refused this request. It was not accepted and is not paid for."""


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class RateLimitedError(ServiceError):
    """429 on a request that does not wait by itself. ``retry_after_s`` is the service's advice, if it gave any."""

    retry_after_s: float | None = None


class ServiceUnavailableError(ServiceError):
    """The service could not be reached, or answered 5xx, on a request that does not ask again by itself."""


class ProtocolError(ServiceError):
    """The service's answer is not in its own documented form."""


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class SubmissionUnknownError(HailuoError):
    """A POST left and no readable answer came: the task may exist and be paid for.

    It is never sent again on its own. Look at the service's dashboard; then send the job again, or give up.
    """

    reason: str
    key: str | None = None
    sent_at: float | None = None
    """Unix seconds at which the POST began, for finding it in the service's records."""

    def _words(self) -> str:
        name = "a job" if self.key is None else f"job {self.key!r}"
        return f"{name} may have been accepted and paid for: {self.reason}; it is not sent again by itself"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class TaskFailedError(HailuoError):
    """The service accepted the task and says that it failed. ``reason`` is its own."""

    reason: str

    def _words(self) -> str:
        return f"the service gave the task up: {self.reason}"


class TaskExpiredError(HailuoError):
    """404 for a task: the service does not know it, or no longer. Results last 24 hours (docs)."""

    def _words(self) -> str:
        return "the service does not know this task, or its result has expired"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class WaitTimeoutError(HailuoError, TimeoutError):
    """The job's deadline passed. With a ``task_id`` the task goes on at the service: ``attach`` waits for it again."""

    timeout_s: float

    def _words(self) -> str:
        fate = "it was never sent" if self.task_id is None else "it goes on at the service"
        return f"no video within {self.timeout_s:g} s; {fate}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class DownloadError(HailuoError):
    """A video did not arrive whole. The target file was not touched; what came may be kept beside it to resume."""

    reason: str
    path: str | None = None

    def _words(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class JournalError(HailuoError):
    """The journal at ``path`` cannot be used. Without its record nothing is sent."""

    path: str
    reason: str

    def _words(self) -> str:
        return f"journal {self.path}: {self.reason}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class QueueFullError(HailuoError):
    """``max_queued`` jobs wait already. Nothing was taken; try again when some of them have been sent."""

    max_queued: int

    def _words(self) -> str:
        return f"{self.max_queued} jobs wait already"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class SpendingLimitError(HailuoError):
    """``max_jobs`` jobs were sent already. This one was not."""

    max_jobs: int

    def _words(self) -> str:
        return f"{self.max_jobs} jobs may be paid for here, and as many were sent"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class SessionClosedError(HailuoError):
    """The session was not entered, is closed, or belongs to another loop. ``reason`` says which."""

    reason: str

    def _words(self) -> str:
        return self.reason


class UnknownCommandWarning(UserWarning):
    """A ``[command]`` in a prompt is not one of the camera commands: the service reads it as plain words."""
