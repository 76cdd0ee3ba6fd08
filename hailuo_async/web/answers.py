"""What a web application answers: a value that every framework can send, and errors as strangers may know them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from types import MappingProxyType

import attrs

from hailuo_async import errors

_logger = logging.getLogger("hailuo_async")

#: Seconds after which a visitor who met a 503 may come again.
RETRY_AFTER_S = 30
#: Of server-sent events: no cache keeps them, and nginx passes each on at once.
EVENT_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
    }
)
#: What a visitor reads where the fault is not his.
NOT_NOW = "the video cannot be made now: try again later"
#: A longer reason of the service's is cut: its text is not ours.
_REASON_CHARACTERS = 300

#: For each error what a stranger may know of it. The log has the rest.
_WORDS: Mapping[type[errors.HailuoError], str] = MappingProxyType(
    {
        errors.JobNotFoundError: "there is no such video",
        errors.QueueFullError: "too many videos wait already: try again later",
        errors.RequestRejectedError: "the service did not take this job: change the picture, the prompt or the options",
        errors.SubmissionUnknownError: "nothing says whether the service took this job: its owner has to decide",
        errors.TaskExpiredError: "the video is gone: the service keeps it for seven days",
        errors.WaitTimeoutError: "the video was not there in time",
        errors.DownloadError: "the video could not be fetched: try again later",
        errors.SessionClosedError: "the server is stopping: try again later",
    }
)
#: Names of form fields for those of a job.
_FORM_FIELDS = MappingProxyType({"first_frame_image": "image", "key": "id"})
#: What a job ended in, as its session has logged. Each look of a visitor's meets the same again.
_ENDS = (errors.SubmissionUnknownError, errors.TaskFailedError, errors.WaitTimeoutError)


@attrs.frozen
class Answer:
    """One HTTP answer. A ``body`` that is no ``bytes`` comes in pieces; the sender of the answer closes it."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncGenerator[bytes] = b""

    @property
    def content(self) -> Mapping[str, object]:
        """The JSON of a body that is one object; empty for any other body."""
        is_json = isinstance(self.body, bytes) and self.headers.get("Content-Type") == "application/json"
        return json.loads(self.body) if is_json and isinstance(self.body, bytes) else {}


@attrs.define(eq=False)
class RefusedRequest(Exception):
    """A request that is refused by a rule. ``field`` names the field that breaks it, if it is one field."""

    status: int
    rule: str
    field: str | None = None

    def answer(self) -> Answer:
        """The refusal as JSON."""
        where = {} if self.field is None else {"field": self.field}
        return json_answer({"error": "BadRequest", **where, "message": self.rule}, self.status)


def json_answer(content: object, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
    """``content`` as JSON, which no cache keeps."""
    body = json.dumps(content, ensure_ascii=False, default=str).encode(errors="replace")
    return Answer(status, {"Content-Type": "application/json", "Cache-Control": "no-cache", **headers}, body)


def is_unmodified(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether the visitor has what ``etag`` names, by ``If-None-Match`` (RFC 9110, 13.1.2): ``*`` is anything."""
    known = headers.get("If-None-Match", "")
    return etag in known or known.strip() == "*"


def etag_of(content: object) -> str:
    """A weak validator: what it covers is the same, its bytes need not be."""
    return f'W/"{hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:24]}"'


def is_outage(error: BaseException) -> bool:
    """Whether the journal was away, so that it may have the job in the end."""
    return isinstance(error, errors.JournalError) and error.is_outage


def is_out_of_files(error: BaseException) -> bool:
    """Whether this process could open no more files: it is not the picture that breaks a rule."""
    cause = error.__cause__ if isinstance(error, errors.ImageError) else error
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)


def error_content(error: errors.HailuoError) -> dict[str, object]:
    """What a stranger may know of ``error``, by the names of the form."""
    kind = type(error).__name__
    if isinstance(error, errors.JobError) and not is_out_of_files(error):
        field = _FORM_FIELDS.get(error.field, error.field)
        rule = "names another job: choose another" if error.field == "key" else error.rule
        is_shown = isinstance(error, errors.ImageError) and error.can_fit  # its format or shape, and no words of a file
        found = f"found {error.value}; " if is_shown else ""
        return {"error": kind, "field": field, "message": f"{field}: {found}{rule}"}
    if isinstance(error, errors.TaskFailedError):
        reason = error.hint or error.reason[:_REASON_CHARACTERS]
        return {"error": kind, "message": f"the service gave the video up: {reason}"}
    words = next((words for known, words in _WORDS.items() if isinstance(error, known)), None)
    return {"error": kind, "message": words or NOT_NOW}


def error_answer(error: errors.HailuoError, *, id: str | None = None) -> Answer:
    """``error`` as an answer: its ``http_status``, and nothing of it but what a stranger may know.

    An outage of the journal passes, and so does a lack of open files: both are a 503, and a client comes again. A 503
    has the ``id`` to come again with.
    """
    status = 503 if is_outage(error) or is_out_of_files(error) else error.http_status
    if status >= 500:
        level = logging.DEBUG if isinstance(error, _ENDS) else logging.WARNING
        _logger.log(level, "%s: %s", type(error).__name__, error)
    content = error_content(error)
    if status != 503:
        return json_answer(content, status)
    return come_again(content if id is None else {**content, "id": id})


def come_again(content: Mapping[str, object]) -> Answer:
    """``content`` as a 503: what keeps the visitor from a video will pass."""
    return json_answer(content, 503, {"Retry-After": str(RETRY_AFTER_S)})
