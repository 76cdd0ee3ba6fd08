"""How other tools read a journal: listed, filtered, counted, exported, beside a session that writes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import attrs
import pytest
from anyio import from_thread, to_thread

from hailuo_async._io.journal.reader import Journal
from hailuo_async._io.journal.records import JournalState
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async.errors import JournalError, SubmissionUnknownError, TaskFailedError

from ...support.tables import SECRET, intent, video

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0

T = TypeVar("T")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[JournalWriter]:
    journal = await JournalWriter.open(path, base_url="https://api.modellix.ai", now=lambda: NOW, holder="ours")
    try:
        yield journal
    finally:
        await journal.aclose()


async def filled(path: Path) -> None:
    """A journal with a video, a failure, a doubt, and as many intentions as need two pages."""
    async with opened(path) as journal:
        await journal.intend(intent("won"))
        await journal.note(journal.jobs.accepted, "won", "t1", NOW)
        await journal.note(journal.jobs.succeeded, "won", video())
        await journal.intend(intent("lost", duration=6))
        await journal.note(journal.jobs.failed, "lost", TaskFailedError(reason="dark", task_id="t2"))
        await journal.intend(intent("doubtful"))
        await journal.sending("doubtful", NOW)
        await journal.note(journal.jobs.unknown, "doubtful", SubmissionUnknownError(reason="cut", key="doubtful"))
        await asyncio.gather(*(journal.intend(intent(f"job-{number}")) for number in range(297)))


async def test_a_reader_lists_filters_and_counts(path: Path) -> None:
    await filled(path)

    def look() -> None:
        with Journal.open(path) as journal:
            assert [record.key for record in journal.records()][:4] == ["won", "lost", "doubtful", "job-0"]
            assert len(list(journal.records())) == 300
            assert [record.key for record in journal.records(state=JournalState.FAILED)] == ["lost"]
            assert [record.key for record in journal.records(state="unknown")] == ["doubtful"]
            assert [record.state for record in journal.records(key="won")] == [JournalState.SUCCESS]
            assert list(journal.records(key="won", state="failed")) == []
            counted = {"success": 1, "failed": 1, "unknown": 1, "intended": 297}
            assert journal.count() == dict.fromkeys(JournalState, 0) | counted
            with pytest.raises(ValueError, match="lost"):
                journal.records(state="lost")

    await to_thread.run_sync(look)


async def test_a_reader_knows_what_was_paid_also_for_what_was_forgotten(path: Path) -> None:
    price = Decimal("0.3240")
    async with opened(path) as journal:
        for key in ("kept", "forgotten"):
            await journal.intend(attrs.evolve(intent(key), price=price))
            await journal.note(journal.jobs.failed, key, TaskFailedError(reason="dark", task_id=f"task of {key}"))
        await journal.resolve("forgotten", forget=True)

    def spent() -> Decimal:
        with Journal.open(path) as journal:
            return journal.spent()

    assert await to_thread.run_sync(spent) == 2 * price
    await to_thread.run_sync(lambda: alter(path, "ALTER TABLE journal DROP COLUMN forgotten"))  # as before this version
    assert await to_thread.run_sync(spent) == price
    await to_thread.run_sync(lambda: alter(path, "DELETE FROM journal"))
    assert await to_thread.run_sync(spent) == price


def alter(path: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute(sql)
        file.commit()


async def test_an_export_has_a_line_for_each_job_and_no_signed_url(path: Path) -> None:
    await filled(path)
    lines = io.StringIO()

    def export() -> None:
        with Journal.open(path) as journal:
            journal.export(lines)

    await to_thread.run_sync(export)
    assert SECRET not in lines.getvalue()
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert len(told) == 300
    assert told[1] == {
        "price": None,
        "cost": None,
        "cost_before": None,
        "identity": "lost",
        "key": "lost",
        "fingerprint": "f1",
        "kind": "ImageToVideo",
        "model": "m",
        "facts": {"duration": 6},
        "prompt": None,
        "state": "failed",
        "task_id": "t2",
        "sent_at": None,
        "accepted_at": None,
        "ended_at": NOW,
        "video": None,
        "error": {
            "error": "TaskFailedError",
            "task_id": "t2",
            "reason": "dark",
            "words": "the service gave the task up: dark (task t2)",
        },
        "saved_to": None,
        "saved_bytes": None,
        "saved_sha256": None,
        "holder": None,
        "lease_until": None,
    }
    assert told[0]["video"]["task_id"] == "t1"


async def test_a_reader_works_beside_a_writer_and_sees_what_comes_meanwhile(path: Path) -> None:
    async with opened(path) as journal:
        await journal.intend(intent("cat"))

        def look_twice() -> list[list[str]]:
            with Journal.open(path) as reader:
                before = [record.identity for record in reader.records()]
                from_thread.run(journal.intend, intent("dog"))
                return [before, [record.identity for record in reader.records()]]

        assert await to_thread.run_sync(look_twice) == [["cat"], ["cat", "dog"]]


async def test_a_closed_reader_says_so_in_a_journal_error(path: Path) -> None:
    await filled(path)

    def read_closed() -> None:
        reader = Journal.open(path)
        reader.close()
        with pytest.raises(JournalError, match="closed"):
            list(reader.records())
        with pytest.raises(JournalError, match="closed"):
            reader.count()

    await to_thread.run_sync(read_closed)
