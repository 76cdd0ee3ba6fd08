"""A whole job as a journal keeps it: its request without its images, and the digests that find those in the journal.

What the journal has of a job, from ``submit`` to the service's acceptance:

    the job is            its row              its request and images    who sends it
    submitted             INTENDED, held       kept                      the session that took it
    its session dies      INTENDED, not held   kept                      any session that keeps jobs, the oldest first
    sent                  SENDING              kept                      no other session
    accepted, refused     ACCEPTED, REFUSED    gone, in that transaction no session: it runs, or has ended
    its sender dies       UNKNOWN              kept                      after ``resolve(resubmit=True)``, as submitted
    withdrawn, forgotten  gone                 gone                      no session

Images are kept by their content: one that a hundred jobs need is there once, and goes with the last that needs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

import attrs

from hailuo_async._io.journal.records import Record

#: The form in which jobs are kept. A job in a later one is left to the versions that know it.
FORM = 1

Pieces: TypeAlias = Callable[[], Generator[bytes]]


@attrs.frozen
class KeptImage:
    """An image of a job: where the service fetches it, or what is kept of it."""

    url: str | None = attrs.field(default=None, repr=False)
    sha256: str = ""
    mime: str = ""
    size: int = 0


@attrs.frozen
class KeptJob:
    """What is sent for a job: where to, its options as the service names them, and its images by field."""

    path: str
    options: Mapping[str, Any] = attrs.field(repr=False)
    images: Mapping[str, KeptImage]
    asked_at: float | None = None
    """When it was asked for, in Unix seconds by that machine's clock; ``None`` for a job of a stream."""

    @property
    def digests(self) -> dict[str, KeptImage]:
        """The images that are kept, by their SHA-256: each once."""
        return {image.sha256: image for image in self.images.values() if image.url is None}


@attrs.frozen
class KeptClaim:
    """A kept job that this session has taken over."""

    record: Record
    job: KeptJob


@attrs.frozen
class KeptBounds:
    """The bounds on a journal's kept jobs, over all sessions."""

    max_queued: int
    max_kept_bytes: int


def kept_text(job: KeptJob) -> str:
    """``job`` as JSON."""
    return json.dumps(attrs.asdict(job))


def kept_from(text: str) -> KeptJob:
    """The job of a ``kept_text``. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for damaged text."""
    content = json.loads(text)
    path, options, images = content["path"], content["options"], content["images"]
    if not (isinstance(path, str) and isinstance(options, dict) and isinstance(images, dict)):
        raise TypeError("not a job as it is kept")
    asked_at = content.get("asked_at")
    if not isinstance(asked_at, float | None):
        raise TypeError("not a time")
    return KeptJob(path, options, {field: KeptImage(**image) for field, image in images.items()}, asked_at)
