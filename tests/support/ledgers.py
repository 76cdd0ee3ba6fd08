"""A journal's ledger under test: a clock that stands still, and short ways to bring a job where it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, TypeVar

import attrs

from hailuo_async._io.journal.records import Intent, Record
from hailuo_async._io.journal.table import JobTable
from hailuo_async.errors import SubmissionUnknownError
from hailuo_async.outcomes import Resource, Video

SECRET = "Signature=5ECRET"
DAY_S = 86400.0
LEASE_S = 30.0

T = TypeVar("T")
Opener: TypeAlias = Callable[[str], JobTable]


@attrs.define
class Clock:
    """A wall clock that stands where it was put."""

    time: float = 1_000_000.0

    def __call__(self) -> float:
        return self.time


def intent(key: str = "cat", fingerprint: str = "f1", prompt: str | None = None, **facts: object) -> Intent:
    return Intent(
        identity=key, key=key, fingerprint=fingerprint, kind="ImageToVideo", model="m", facts=facts, prompt=prompt
    )


def video(task_id: str = "t1", expires_at: datetime | None = None) -> Video:
    places = (Resource(url=f"https://cdn.example/{task_id}.mp4?{SECRET}-{task_id}", type="video", width=1366),)
    return Video(
        task_id=task_id, model="m", resources=places, seconds_taken=93.5, expires_at=expires_at, raw={"url": SECRET}
    )


def did(table: JobTable, work: Callable[[JobTable], T]) -> T:
    with table.transaction():
        return work(table)


def record_of(table: JobTable, identity: str = "cat") -> Record:
    record = did(table, lambda it: it.find(identity))
    assert record is not None
    return record


def sent(table: JobTable, key: str = "cat") -> None:
    assert did(table, lambda it: it.intend(intent(key))).ours
    assert did(table, lambda it: it.sending(key, 999.0))


def accepted(table: JobTable, key: str = "cat", task_id: str = "t1") -> None:
    sent(table, key)
    did(table, lambda it: it.accepted(key, task_id, 1001.0))


def in_doubt(table: JobTable, key: str = "cat") -> None:
    sent(table, key)
    did(table, lambda it: it.unknown(key, SubmissionUnknownError(reason="cut", key=key, sent_at=999.0)))


def files_of(path: Path) -> bytes:
    return b"".join(part.read_bytes() for part in path.parent.iterdir())
