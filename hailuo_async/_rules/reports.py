"""Reads the answer to a query: where a task stands, and which of its fields can be trusted.

A paid video is never lost over a field: only its URL is required, and any other field that is missing or has another
type becomes ``None``. An answer that says nothing about the task is ``Unreadable``; the poller asks again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import attrs

from hailuo_async import contract
from hailuo_async._rules.moments import from_unix, read_moment
from hailuo_async._rules.wire import Answer, Verdict, read_code, read_message, read_task_id, single_line
from hailuo_async.money import read_cost
from hailuo_async.outcomes import Resource, Status, Video

_ON_THE_WEB = ("http://", "https://")
#: A larger time or size is nonsense, and would not fit into a date or a database column.
_SANE = 1e9
#: A longer lifetime of a result is not believed.
_LONGEST_LIFE = timedelta(days=400)

_STATUSES: Mapping[str, Status] = {
    **dict.fromkeys(contract.PENDING_WORDS, Status.PENDING),
    **dict.fromkeys(contract.PROCESSING_WORDS, Status.PROCESSING),
    **dict.fromkeys(contract.SUCCESS_WORDS, Status.SUCCESS),
    **dict.fromkeys(contract.FAILED_WORDS | contract.CANCELED_WORDS, Status.FAILED),
}
#: MiniMax's codes as they stand in messages. A reason without a number may still say which part was sensitive.
_MINIMAX_CODE = (
    rf"\b({contract.SENSITIVE_INPUT}|{contract.SENSITIVE_OUTPUT}|{contract.BAD_PARAMETERS})\b"
    r"|\b(input|output)\b.{0,20}\bsensitive\b"
)
_SENSITIVE = {"input": contract.SENSITIVE_INPUT, "output": contract.SENSITIVE_OUTPUT}


@attrs.frozen(slots=False)  # as ``Request``
class Report:
    """Where a task without a video stands. ``status``: ``None`` if ``word``, the service's own, is not a known one."""

    status: Status | None
    word: str
    reason: str = ""
    code: int | str | None = None
    cost: Decimal | None = None
    """The task's cost in USD, as the service reports it."""
    request_id: str | None = None


@attrs.frozen
class Unreadable:
    """An answer to a query that says nothing about the task, so the poller asks again.

    ``is_anonymous``: the answer names no task, so it may belong to another query, left over on a connection that was
    used before. The next query then gets a new connection.
    """

    reason: str
    is_anonymous: bool = False


def read_report(
    answer: Answer, task_id: str, created_at: float | None, *, is_alone: bool = True
) -> Video | Report | Unreadable:
    """The video of ``task_id``, or where it stands, by an answer to its query.

    ``created_at``: Unix seconds by the service's clock, if known. ``is_alone``: the query had a connection of its own,
    so the answer belongs to it. An envelope that reports no success may still describe the task.
    """
    if answer.verdict is not Verdict.ACCEPTED and not answer.is_2xx:
        return Unreadable(answer.message)
    data = answer.data
    if data.get("task_id") != task_id and "task_id" in data and read_task_id(data) != task_id:
        return Unreadable("the answer is for another task")
    if "task_id" not in data and (answer.verdict is not Verdict.ACCEPTED or not is_alone):
        return Unreadable(answer.message if not data else "required field missing @ $.data.task_id", bool(data))
    word = data.get("status")
    if not isinstance(word, str):
        return Unreadable("required field missing, or not a string @ $.data.status")
    status = _STATUSES.get(word.strip().casefold())
    if status is Status.SUCCESS:
        return _read_success(answer, task_id, created_at)
    if status is not Status.FAILED:
        return Report(status, single_line(word))
    reason = _read_reason(answer, word)
    code, cost = _read_failure_code(answer, reason), read_cost(data)
    return Report(status, single_line(word), reason, code, cost, answer.request_id)


def _read_success(answer: Answer, task_id: str, created_at: float | None) -> Video | Unreadable:
    data = answer.data
    resources = _read_resources(data)
    if not resources:
        return Unreadable("success without a resource that has a URL @ $.data.result.resources")
    taken_ms, created = _sane(data.get("duration")), from_unix(created_at)
    return Video(
        task_id=task_id,
        model=_text(data.get("model_id")),
        resources=resources,
        seconds_taken=None if taken_ms is None else taken_ms / 1000,
        created_at=created,
        expires_at=_read_expiry(data.get("result_expires_at"), created, from_unix(answer.rate_headers.date) or created),
        cost=read_cost(data),
        request_id=answer.request_id,
        raw=data,
    )


def _read_expiry(value: object, created: datetime | None, now: datetime | None) -> datetime | None:
    """When a result expires: as the service says, or a lifetime after the task was made, by the service's own clock.

    A time in the past, or absurdly far ahead, is not believed: the result was there a moment ago.
    """
    at = read_moment(value)
    if at is not None and (now is None or now < at < now + _LONGEST_LIFE):
        return at
    begun = created or now
    try:
        return None if begun is None else begun + contract.RESULT_LIFETIME
    except OverflowError:
        return None


def _sane(value: object) -> float | None:
    """``value`` if it is a number that a time or a size can have. NaN, infinities and bools are not."""
    return value if (type(value) is int or type(value) is float) and 0 <= value < _SANE else None


def _read_resources(data: Mapping[str, Any]) -> tuple[Resource, ...]:
    result = data.get("result")
    found = result.get("resources") if isinstance(result, dict) else None
    resources = [_read_resource(item) for item in found] if isinstance(found, list) else []
    return tuple([resource for resource in resources if resource is not None])


def _read_resource(item: object) -> Resource | None:
    """The resource, if its URL is usable; a field of the wrong type counts as missing."""
    if not isinstance(item, dict) or not _is_url(url := item.get("url")):
        return None
    return Resource(
        url=url,
        type=_text(item.get("type")),
        width=_pixels(item.get("width")),
        height=_pixels(item.get("height")),
        format=_text(item.get("format")),
        role=_text(item.get("role")),
    )


def _is_url(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or not value.isprintable() or not value[:8].lower().startswith(_ON_THE_WEB):
        return False
    if value.isascii() and "[" not in value and "]" not in value:
        return True  # nearly every URL: splitting it would find no fault, and takes longer than all else of an answer
    try:
        urlsplit(value)
    except ValueError:  # not a valid host
        return False
    return True


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _pixels(value: object) -> int | None:
    pixels = _sane(value)
    return int(pixels) if pixels else None


def _read_reason(answer: Answer, word: str) -> str:
    """Why a task failed, from the first documented place that says so. "success" is never a reason."""
    error = answer.data.get("error")
    if isinstance(error, dict) and error:
        error = error.get("message") or error.get("detail") or json.dumps(error)
    elif isinstance(error, int) and not isinstance(error, bool):
        error = str(error)
    for text in (error, answer.data.get("error_message"), answer.data.get("message"), read_message(answer.whole)):
        reason = single_line(text) if isinstance(text, str) else ""
        if reason and reason.casefold() not in contract.NO_REASONS:
            return reason
    is_canceled = word.strip().casefold() in contract.CANCELED_WORDS
    return "the task was canceled at the service" if is_canceled else "no reason given"


def _read_failure_code(answer: Answer, reason: str) -> int | str | None:
    """The code of a failure: a number in a field for codes, or in the reason; else a word in such a field."""
    error = answer.data.get("error")
    fields = (error.get("code") if isinstance(error, dict) else None, answer.data.get("error_code"), answer.code)
    codes = [code for field in fields if (code := read_code(field))]
    numbers = [code for code in codes if isinstance(code, int)]
    return next(iter(numbers), None) or _code_in(reason) or next(iter(codes), None)


def _code_in(reason: str) -> int | None:
    found = re.search(_MINIMAX_CODE, reason, re.IGNORECASE | re.ASCII)
    if found is None:
        return None
    return int(found[1]) if found[1] else _SENSITIVE[found[2].lower()]
