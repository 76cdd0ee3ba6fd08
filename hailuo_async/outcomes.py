"""Results: frozen values without I/O, which can be pickled, compared and kept."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from hailuo_async.errors import HailuoError, without_query
from hailuo_async.jobs import Job


class Status(enum.StrEnum):
    """Where a job stands. A status only moves forward, except that a job refused for lack of room waits again."""

    QUEUED = "queued"
    """Waits in the session for a slot. Nothing was sent."""
    SENDING = "sending"
    """Its POST is under way: from now on it may be paid for."""
    PENDING = "pending"
    """The service has accepted the job."""
    PROCESSING = "processing"
    """The service works on the task."""
    SUCCESS = "success"
    """The video is there."""
    FAILED = "failed"
    """The service gave the task up, or no longer knows it."""
    REFUSED = "refused"
    """The service did not accept the job. It is not paid for."""
    UNKNOWN = "unknown"
    """Sent without a readable answer: the service may have accepted the job, and it may be paid for."""
    ABANDONED = "abandoned"
    """The session waits for it no longer: its deadline passed, it was withdrawn, or the session closed."""

    is_final: Final[bool]
    """Whether no other status follows."""

    def __init__(self, word: str) -> None:
        self.is_final = word not in ("queued", "sending", "pending", "processing")


@attrs.frozen(slots=False)  # made for every job: frozen fields are set three times as fast in a dict
class Resource:
    """One file of a result. ``width`` and ``height`` are pixels; a field that the service did not send is ``None``."""

    url: str = attrs.field(repr=without_query)
    type: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    role: str | None = None


@attrs.frozen(slots=False)  # as ``Resource``
class Video:
    """A finished video: its URLs and its facts.

    ``seconds_taken`` is how long the service worked. ``created_at`` and ``expires_at`` are by the service's own clock;
    a result without an expiry of its own lasts seven days (``contract.RESULT_LIFETIME``). ``cost`` is the amount that
    the service billed, in USD. ``request_id`` is the service's id of the answer. A field that the service did not send
    is ``None``. ``raw`` is the answer as it came.
    """

    task_id: str
    model: str | None
    resources: tuple[Resource, ...]
    seconds_taken: float | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    raw: Mapping[str, Any] = attrs.field(factory=dict, repr=False, eq=False)
    cost: Decimal | None = None
    request_id: str | None = None

    @property
    def url(self) -> str:
        """The signed URL of the first video among its resources, or of the first resource if none says its type.

        Raises ``ValueError`` for a video that was made by hand without resources.
        """
        if not self.resources:
            raise ValueError(f"this video has no resources: session.attach({self.task_id!r}) asks the service for them")
        videos = (resource for resource in self.resources if resource.type == "video")
        return next(videos, self.resources[0]).url


@attrs.frozen(slots=False)  # as ``Resource``
class Success:
    """A job that ended in a video. ``index`` is its place in the stream, from 0; ``path`` is where it was saved."""

    job: Job | None
    key: str | None
    index: int
    video: Video
    path: Path | None = None


@attrs.frozen
class Failure:
    """A job that ended in an error. ``index`` is its place in the stream, from 0."""

    job: Job | None
    key: str | None
    index: int
    error: HailuoError


Outcome: TypeAlias = Success | Failure
"""How a job of a stream ended."""


@attrs.frozen
class Upload:
    """A file that the team holds on the service: at most ten of 16 MiB, each for some seven days."""

    file_id: str
    url: str | None = attrs.field(default=None, repr=lambda url: repr(url and without_query(url)))
    filename: str | None = None
    size: int | None = None
    """In bytes."""
    created_at: datetime | None = None


@attrs.frozen
class Account:
    """The key's validity and balance. ``balance`` is in USD, ``None`` if the service did not send it."""

    is_valid: bool
    balance: Decimal | None


@attrs.frozen(kw_only=True)
class Stats:
    """A session at a glance, at the moment of the call."""

    queued: int
    """Jobs whose images are inspected, or that wait for a slot."""
    running: int
    """Slots in use at the service: running tasks, and POSTs under way."""
    limit: int
    """How many tasks may run at once, as far as is known now."""
    requests_left: int | None
    """Requests that this window still allows; ``None`` while the service has named no limit."""
    refusals: int
    """Requests that the service refused as too many, since the start. They cost nothing."""
    succeeded: int
    failed: int
    refused: int
    unknown: int
    abandoned: int
    spent: Decimal = Decimal(0)
    """USD paid for jobs that have ended. With a journal, payments of earlier sessions count too. A failed task counts
    in full until the service says otherwise."""
    committed: Decimal = Decimal(0)
    """USD that waiting, running and doubtful jobs cost at most."""
    ahead: int = 0
    """How many other sessions that share the journal stand before this one in the line for a slot, in which each sends
    one job in turn. As far as was seen some seconds ago."""
