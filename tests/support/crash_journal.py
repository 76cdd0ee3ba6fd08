"""A journal as somebody else sees it, what keeps it from being written, and batches that are run with one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from hailuo_async import ImageToVideo, Job, Journal, JournalError, JournalState, Outcome, Record, Success
from hailuo_async._rules.wire import Answer, Request

from .full_disk import files_end_at
from .service import Line, Reply, job, prompt_of
from .streams import read_into


def read_records(path: Path) -> dict[str, Record]:
    """Every job in the journal at ``path``, as any other program finds it now. Blocks."""
    with Journal.open(path) as journal:
        return {record.identity: record for record in journal.records()}


async def records_in(path: Path) -> dict[str, Record]:
    """``read_records`` in a thread."""
    return await to_thread.run_sync(read_records, path)


async def states_in(path: Path) -> dict[str, JournalState]:
    """Where every job stands."""
    return {identity: record.state for identity, record in (await records_in(path)).items()}


async def wait_for(path: Path, holds: Callable[[dict[str, Record]], bool]) -> dict[str, Record]:
    """What stands in the journal as soon as it ``holds``."""
    with anyio.fail_after(60):
        while True:
            with contextlib.suppress(JournalError):  # it is not there yet
                found = await records_in(path)
                if holds(found):
                    return found
            await anyio.sleep(0.005)


async def lapse(path: Path, identity: str) -> None:
    """The lease of a job is over, as if its session had been stopped for long."""

    def run() -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection, connection:
            connection.execute("UPDATE job SET lease_until = 1.0 WHERE identity = ?", (identity,))

    await to_thread.run_sync(run)


async def taken_over(path: Path, identity: str) -> None:
    """Another session has taken the job for left behind, and waits to send it."""

    def run() -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection, connection:
            taking = "UPDATE job SET state = 'intended', holder = 'another', lease_until = ? WHERE identity = ?"
            connection.execute(taking, (time.time() + 30, identity))

    await to_thread.run_sync(run)


async def count_in(path: Path) -> dict[JournalState, int]:
    """How many jobs stand in each state that any stands in."""

    def count() -> dict[JournalState, int]:
        with Journal.open(path) as journal:
            return {state: number for state, number in journal.count().items() if number}

    return await to_thread.run_sync(count)


async def bytes_of(path: Path) -> bytes:
    """Everything in the journal's files."""

    def read() -> bytes:
        return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))

    return await to_thread.run_sync(read)


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Another program writes to the journal, and does not come to an end."""
    connection = await to_thread.run_sync(_lock, path)
    try:
        yield
    finally:
        await to_thread.run_sync(connection.close)


def _lock(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
    connection.execute("BEGIN IMMEDIATE")
    return connection


@contextlib.contextmanager
def no_room(path: Path) -> Iterator[None]:
    """No file of this process may grow beyond the journal's log: to it, the disk is full."""
    with files_end_at(os.path.getsize(f"{path}-wal")):
        yield


# --- Batches ----------------------------------------------------------------------------------------------------------


def by_prompt(line: Line, answers: Mapping[str, Answer]) -> Reply:
    """Answers submits by their prompts, and accepts the others."""

    async def reply(request: Request) -> Answer:
        return answers.get(prompt_of(request) or "") or line.accept()

    return reply


def keyed(*names: str) -> list[ImageToVideo]:
    """A job for each name, which is its prompt and its key."""
    return [job(name, key=name) for name in names]


async def run_batch(line: Line, path: Path, jobs: Iterable[Job], **settings: Any) -> list[Outcome]:
    """One run of a batch, from the opening of its session to the close. Outcomes in the order of the jobs."""
    seen: list[Outcome] = []
    async with line.session(journal=path, **settings) as session:
        await read_into(seen, session.stream(jobs))
    return sorted(seen, key=lambda outcome: outcome.index)


def in_short(outcomes: Sequence[Outcome]) -> list[str]:
    """The task of each success, and the kind of each failure."""
    return [
        outcome.video.task_id if isinstance(outcome, Success) else type(outcome.error).__name__ for outcome in outcomes
    ]
