"""What a query's answer says of a task, and what of it can be relied on.

A video that was paid for is never lost over a field: only its URL is required, and anything else that is missing or of
another type becomes ``None``. An answer that says nothing about the task is ``Unreadable``, and is asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import attrs

from hailuo_async._rules.wire import Answer, read_task_id, single_line
from hailuo_async.outcomes import Resource, Status, Video

#: Results last 24 hours by the older documents, 7 days by the newer. The shorter is the one to warn by.
RESULT_LIFETIME = timedelta(hours=24)
#: A time or a size over this is nonsense, and would not fit where it is kept.
_SANE = 1e9

#: Every spelling that the service's own clients accept, in any case (cli).
_STATUSES: Mapping[str, Status] = {
    **dict.fromkeys(("pending", "queued", "created"), Status.PENDING),
    **dict.fromkeys(("processing", "running", "in_progress"), Status.PROCESSING),
    **dict.fromkeys(("success", "succeeded", "completed", "done"), Status.SUCCESS),
    **dict.fromkeys(("failed", "error", "canceled", "cancelled"), Status.FAILED),
}


@attrs.frozen
class Report:
    """Where a task stands. ``status`` is ``None`` for a word that nobody knows; ``word`` is that word."""

    status: Status | None
    word: str
    video: Video | None = None
    reason: str = ""


@attrs.frozen
class Unreadable:
    """An answer to a query that says nothing about the task. It is asked again."""

    reason: str


def read_report(answer: Answer, task_id: str, created_at: float | None) -> Report | Unreadable:
    """Where ``task_id`` stands by an accepted answer. ``created_at``: Unix seconds by the service's clock, if known."""
    data = answer.data
    if "task_id" in data and read_task_id(data) != task_id:
        return Unreadable("the answer is for another task")
    word = data.get("status")
    if not isinstance(word, str):
        return Unreadable("required field missing, or not a string @ $.data.status")
    status = _STATUSES.get(word.strip().casefold())
    if status is Status.SUCCESS:
        return _read_success(data, task_id, created_at)
    reason = _read_reason(answer) if status is Status.FAILED else ""
    return Report(status, single_line(word), reason=reason)


def _read_success(data: Mapping[str, Any], task_id: str, created_at: float | None) -> Report | Unreadable:
    resources = _read_resources(data)
    if not resources:
        return Unreadable("success without a resource that has a URL @ $.data.result.resources")
    taken_ms = _sane(data.get("duration"))
    created, expires = _read_times(created_at)
    video = Video(
        task_id=task_id,
        model=_text(data.get("model_id")),
        resources=resources,
        seconds_taken=None if taken_ms is None else taken_ms / 1000,
        created_at=created,
        expires_at=expires,
        raw=data,
    )
    return Report(Status.SUCCESS, "success", video)


def _read_times(created_at: float | None) -> tuple[datetime | None, datetime | None]:
    """When the result was begun, and when it goes. Neither, for a time that no calendar has."""
    try:
        created = None if created_at is None else datetime.fromtimestamp(created_at, UTC)
        return created, created and created + RESULT_LIFETIME
    except (OverflowError, ValueError, OSError):
        return None, None


def _sane(value: object) -> float | None:
    """``value`` if it is a number that a time or a size can be. NaN, infinities and bools are not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _SANE:
        return None
    return value


def _read_resources(data: Mapping[str, Any]) -> tuple[Resource, ...]:
    result = data.get("result")
    found = result.get("resources") if isinstance(result, dict) else None
    resources = (_read_resource(item) for item in found) if isinstance(found, list) else ()
    return tuple(resource for resource in resources if resource is not None)


def _read_resource(item: object) -> Resource | None:
    """A resource without a usable URL is none; a field of another type than its own is as good as missing."""
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
    try:
        return isinstance(value, str) and value.isprintable() and urlsplit(value).scheme in ("http", "https")
    except ValueError:  # its host cannot be one
        return False


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _pixels(value: object) -> int | None:
    pixels = _sane(value)
    return int(pixels) if pixels else None


def _read_reason(answer: Answer) -> str:
    """Why a task failed: in ``data.error``, ``data.message`` or the envelope's ``message``, whichever speaks first."""
    error = answer.data.get("error")
    if isinstance(error, dict) and error:
        error = error.get("message") or error.get("detail") or json.dumps(error)
    for words in (error, answer.data.get("message"), answer.message):
        if isinstance(words, str) and words.strip():
            return single_line(words)
    return "no reason given"
