"""Everything that this library raises, in one tree.

    HailuoError
    ├── JobError (ValueError)           a job that the service would refuse, found before it is sent
    │   └── ImageError                  the same, for one of its images
    ├── ConfigError (ValueError)        a setting that cannot work
    ├── ServiceError                    the service said no
    │   ├── AuthenticationError         401, 403: every other job would meet the same
    │   ├── InsufficientBalanceError    402: every other job would meet the same
    │   ├── RequestRejectedError        400, 404, 405, 413, 415, 422: this request, not the others
    │   ├── RateLimitedError            429, for longer than the caller would wait
    │   ├── ServiceUnavailableError     it did not answer, or could not be reached
    │   └── ProtocolError               its answer cannot be read
    ├── SubmissionUnknownError          a POST left and its answer did not come: it may have been paid for
    ├── TaskFailedError                 the service worked on it, and gave up
    ├── TaskExpiredError                404: no such task, or its result is gone
    ├── WaitTimeoutError (TimeoutError) the job's own deadline; the task goes on
    ├── DownloadError                   the video did not arrive whole
    ├── JournalError                    the journal cannot be read or written
    ├── JobNotFoundError (LookupError)  no such job in the journal
    ├── QueueFullError                  more jobs wait than the session may hold
    ├── SpendingLimitError              more jobs, or more money, than the caller agreed to pay for
    └── SessionClosedError              not entered, closed, or used on another loop

Each carries its facts as attributes and makes its words from them. Every error has a ``task_id``: ``None`` until
the service has accepted the job, and from then on the id to attach to. Every class has an ``http_status``: what a web
handler answers when it meets the error. All of them can be pickled and copied. None of them ever holds the API key or
the query of a signed URL.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import attrs

from hailuo_async import contract

#: A value longer than this is shortened in messages: it may be a data URL of 20 MB.
_SHOWN_CHARACTERS = 80


def shown(value: object) -> str:
    """``repr(value)``, short enough for one line of a log."""
    try:
        text = repr(value[:_SHOWN_CHARACTERS] if isinstance(value, str | bytes) else value)
    except Exception:  # of a stranger's object, or of a number with too many digits: an error needs its words
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def without_query(url: str) -> str:
    """``url`` without its query, for logs: the query of a signed URL lets anyone fetch the file."""
    bare, mark, _ = url.partition("?")
    return f"{bare}?…" if mark else bare


def _broken_rule(field: str, value: object, rule: str) -> str:
    return f"no {field}: {rule}" if value is None else f"{field} {shown(value)}: {rule}"


def _optional_decimal(value: Decimal | str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _rebuild(kind: type[HailuoError], facts: dict[str, Any]) -> HailuoError:
    error = kind.__new__(kind)
    error.__dict__.update(facts)
    return error


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class HailuoError(Exception):
    """The root of everything that this library raises."""

    http_status: ClassVar[int] = 500
    """What a web handler answers its own client with when it meets this error."""

    task_id: str | None = None
    """The service's name for the task, as soon as there is one. ``session.attach`` takes it."""
    request_id: str | None = None
    """The service's name for the answer that led here, where it had one: its support asks for it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__.copy())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        ids = [f"{name} {value}" for name, value in (("task", self.task_id), ("request", self.request_id)) if value]
        return f"{self._message()} ({', '.join(ids)})" if ids else self._message()

    @property
    def summary(self) -> str:
        """What went wrong without the ids: the same words for every job with the same trouble."""
        return self._message()

    def _message(self) -> str:
        return type(self).__name__


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class JobError(HailuoError, ValueError):
    """A job breaks a rule of the service. Raised before anything is sent, so it costs nothing."""

    http_status = 422

    field: str
    value: object
    rule: str

    def _message(self) -> str:
        return _broken_rule(self.field, self.value, self.rule)


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class ImageError(JobError):
    """An image cannot be used. ``image`` names it, ``value`` is what was found in it, ``rule`` what it breaks."""

    image: str
    can_fit: bool = False
    """Whether ``fit=True`` may make the image obey the rule."""

    def _message(self) -> str:
        found = shown(self.value)
        found = found.strip("'\"") if isinstance(self.value, str) else found  # words of ours, no value of a caller's
        way_out = "; fit=True makes it obey, with Pillow" if self.can_fit else ""
        return f"{self.field} ({self.image}): found {found}; {self.rule}{way_out}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class ConfigError(HailuoError, ValueError):
    """A setting cannot work. The value of a key is never in it."""

    field: str
    value: object
    rule: str

    def _message(self) -> str:
        return _broken_rule(self.field, self.value, self.rule)


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class ServiceError(HailuoError):
    """The service said no. ``status`` is its HTTP status, ``None`` where there was no answer; ``message`` its words."""

    message: str
    status: int | None = None

    def _message(self) -> str:
        is_told = self.status is None or self.message.startswith(f"HTTP {self.status}")
        return self.message if is_told else f"{self.status} {self.message}"


class AuthenticationError(ServiceError):
    """401 or 403: the key is not valid here. Every other job would meet the same, so a stream ends with it.

    With a ``task_id`` the task is paid for, and goes on: ``attach`` waits for it, with the right key.
    """


class InsufficientBalanceError(ServiceError):
    """402: the balance does not cover the job. Nothing more is sent; what is queued stays unsent and unpaid."""

    http_status = 503


class RequestRejectedError(ServiceError):
    """400, 404, 405, 413, 415 or 422: the service refused this request. It was not accepted and is not paid for."""

    http_status = 422


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class RateLimitedError(ServiceError):
    """429 on a request that does not wait by itself. ``retry_after_s`` is the service's advice, if it gave any."""

    http_status = 503

    retry_after_s: float | None = None


class ServiceUnavailableError(ServiceError):
    """The service could not be reached, or answered 5xx, on a request that does not ask again by itself.

    A job without a timeout ends in it if no POST of it has reached the service for five minutes; it is not paid for.
    """

    http_status = 503


class ProtocolError(ServiceError):
    """The service's answer is not in its own documented form."""

    http_status = 502


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class SubmissionUnknownError(HailuoError):
    """A POST left and no readable answer came: the task may exist and be paid for. It is never sent again on its own.

    With a ``task_id`` the service named a task in an answer that was no acceptance: ``attach`` tells what became of it.
    Without one, look at the service's dashboard, then decide: send the job again, or give it up.
    """

    http_status = 502

    reason: str
    key: str | None = None
    sent_at: float | None = None
    """Unix seconds at which the POST began, for finding it in the service's records."""

    def _message(self) -> str:
        name = "a job" if self.key is None else f"job {self.key!r}"
        return f"{name} may have been accepted and paid for: {self.reason}; it is not sent again by itself"


#: What a caller can do about MiniMax's own codes.
_HINTS = {
    contract.SENSITIVE_INPUT: "the input was found sensitive: change the prompt or the picture",
    contract.SENSITIVE_OUTPUT: "the video was found sensitive: change the prompt, as the same request may fail again",
    contract.BAD_PARAMETERS: "the service found bad parameters: check the model and its options",
}


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class TaskFailedError(HailuoError):
    """The service accepted the task, and it failed or was cancelled there. ``reason`` is the service's own.

    ``code`` is the service's or MiniMax's own, where it named one: a number, or a word.
    """

    http_status = 502

    reason: str
    code: int | str | None = None
    cost: Decimal | None = attrs.field(default=None, converter=_optional_decimal)
    """What the service says that it cost, in USD; ``None`` where it says nothing, and it counts as paid in full."""

    @property
    def hint(self) -> str | None:
        """What to do about it, for a code that a caller can act on."""
        return _HINTS.get(self.code) if isinstance(self.code, int) else None

    def _message(self) -> str:
        words = f"the service gave the task up: {self.reason}"
        return words if self.hint is None else f"{words}; {self.hint}"


class TaskExpiredError(HailuoError):
    """404 for a task: the service does not know it, or no longer, as its result has expired."""

    http_status = 410

    def _message(self) -> str:
        return "the service does not know this task, or its result has expired"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class WaitTimeoutError(HailuoError, TimeoutError):
    """The deadline passed. With a ``task_id`` the task goes on at the service: ``attach`` waits for it again.

    A job that has other callers in the session goes on for them, also where it was not sent yet.
    """

    http_status = 504

    timeout_s: float
    reason: str | None = None
    """Why the last try to send it failed, if it was never sent, or the last query of its task."""

    def _message(self) -> str:
        if self.task_id is None:
            fate = "it was never sent" if self.reason is None else f"it was never sent: {self.reason}"
        elif self.reason is None:
            fate = "it goes on at the service: attach() waits for it again"
        else:
            fate = f"its last query failed: {self.reason}; attach() waits for it again"
        return f"no video within {self.timeout_s:g} s; {fate}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class DownloadError(HailuoError):
    """A video did not arrive whole, or cannot be saved. The target was not touched; what came may be kept to resume.

    Without a ``task_id`` that was found before the job was sent, and it costs nothing.
    """

    http_status = 502

    reason: str
    path: str | None = None
    is_busy: bool = False
    """Whether another download, of this or another process, writes the file now."""
    cost: Decimal | None = attrs.field(default=None, converter=_optional_decimal)
    """What the service says that the video cost, in USD: that is paid, also where the video cannot be saved."""

    def _message(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class JournalError(HailuoError):
    """The journal at ``path`` cannot be used. Without its record nothing is sent."""

    path: str
    reason: str
    is_outage: bool = False
    """Whether it may pass by itself: the file is locked, its disk is full, or its server is away."""

    def _message(self) -> str:
        return f"journal {self.path}: {self.reason}"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class JobNotFoundError(HailuoError, LookupError):
    """The journal knows no job of that ``key``."""

    http_status = 404

    key: str

    def _message(self) -> str:
        return f"no job {shown(self.key)} in the journal: check the key, and which journal the job was given to"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class QueueFullError(HailuoError):
    """``max_queued`` jobs wait already, or ``max_kept_bytes`` of their images. Nothing was taken; try again later."""

    http_status = 503

    max_queued: int
    max_kept_bytes: int | None = None
    """Set where it is the images that fill the journal."""

    def _message(self) -> str:
        if self.max_kept_bytes is not None:
            advice = "try again when some have been sent, or raise max_kept_bytes"
            return f"the journal keeps as many images as it may, {self.max_kept_bytes} bytes: {advice}"
        return f"{self.max_queued} jobs wait already: try again when some have been sent, or raise max_queued"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class SpendingLimitError(HailuoError):
    """The job would pass ``max_jobs`` or ``max_cost``. It was not sent, and costs nothing.

    Sums are in USD. ``cost`` is what the job may cost at most, ``None`` where no price of it is known.
    """

    http_status = 503

    max_jobs: int | None = None
    max_cost: Decimal | None = None
    spent: Decimal | None = None
    committed: Decimal | None = None
    """What jobs that run or wait may cost at most."""
    cost: Decimal | None = None

    def _message(self) -> str:
        if self.max_cost is None:
            return f"{self.max_jobs} jobs may be paid for here, and as many were sent: raise max_jobs to send more"
        if self.cost is None:
            return f"no price of this job is known, so max_cost ${self.max_cost} cannot bound it: set max_jobs as well"
        sums = f"${self.spent} spent and ${self.committed} committed of ${self.max_cost}"
        return f"a job of up to ${self.cost} would pass max_cost ({sums}): raise max_cost to send it"


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class SessionClosedError(HailuoError):
    """The session was not entered, is closed, or belongs to another loop or process. ``reason`` says which."""

    http_status = 503

    reason: str

    def _message(self) -> str:
        return self.reason


class UnknownCommandWarning(UserWarning):
    """A ``[command]`` in a prompt is not one of the camera commands: the service reads it as plain words."""
