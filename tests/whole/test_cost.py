"""What a job costs, counted and not timed: so a busy machine changes nothing, and a cost that doubles is seen.

Whole sessions run over the emulator's core, on the virtual clock, so every count is the same each time. A cost is what
further jobs add: that of many, less that of few, for each job more. Each bound is what was counted (on CPython 3.11,
which makes the most calls, as later ones inline some of them) and a quarter more.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, TypeAlias

import aiohttp
import anyio
import pytest

import hailuo_async
from hailuo_async import AsyncSession, Failure, HailuoError
from hailuo_async._io.journal.sqlite import SqliteDatabase
from hailuo_async._io.journal.table import open_table
from hailuo_async.emulator import Service
from hailuo_async.testing import InMemory, run_virtual

from ..support.hosts import hosts_at_work
from ..support.memory import peak_memory
from ..support.rawserver import Exchange, raw_server
from ..support.service import finished, jobs, taken
from ..support.tables import intent, video

ROOM = 1.25

# --- Work -------------------------------------------------------------------------------------------------------------

Workload: TypeAlias = Callable[[AsyncSession, int], Coroutine[Any, Any, None]]


async def stream(session: AsyncSession, count: int) -> None:
    """So many jobs in one stream."""
    async for outcome in session.stream(jobs(count)):
        if isinstance(outcome, Failure):
            raise outcome.error


async def callers(session: AsyncSession, count: int) -> None:
    """So many jobs, with a task for each."""
    async with anyio.create_task_group() as tasks:
        for job in jobs(count):
            tasks.start_soon(session.generate, job)


async def queue(session: AsyncSession, count: int) -> None:
    """So many jobs that wait, and are given up."""
    generations = [await session.submit(job) for job in jobs(count)]
    await session.aclose(grace=0)
    for generation in generations:
        with pytest.raises(HailuoError):
            await generation


def burst() -> Service:
    """All jobs run at once, and each is done when it is first asked about."""
    return service(generation_s=0.5, max_running=None)


def night() -> Service:
    """Ten jobs run at once, and each is asked about again and again."""
    return service(generation_s=60.0, max_running=10)


def service(generation_s: float, max_running: int | None) -> Service:
    """One that keeps next to nothing."""
    return Service(
        generation_s=generation_s,
        spread=0.0,
        max_running=max_running,
        requests_per_minute=None,
        results_last_s=4 * generation_s,
        balance=1e9,
        ledger_entries=0,
    )


def run(work: Workload, count: int, service: Service) -> int:
    """Does some work, and gives the requests that it took."""

    async def main() -> None:
        line = InMemory(service)
        key, url = service.api_key, "https://emulator.invalid"
        async with AsyncSession(transport=line, api_key=key, base_url=url, rng=Random(0)) as session:
            await work(session, count)

    run_virtual(main)
    return service.ledger.requests.total()


def added(cost: Callable[[int], float], few: int, many: int) -> float:
    """What each job more adds to a cost."""
    return (cost(many) - cost(few)) / (many - few)


# --- Calls ------------------------------------------------------------------------------------------------------------

PACKAGE = str(Path(hailuo_async.__file__).parent)
#: The other side, which users do not have in their process.
SERVICE = (f"{PACKAGE}/emulator", f"{PACKAGE}/testing/in_memory")


def calls(work: Callable[[], object]) -> Counter[str]:
    """Calls of Python functions by their file, each resumption of a coroutine counted."""
    made = Counter[str]()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            made[frame.f_code.co_filename] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return made


def within(made: Counter[str], *where: str) -> int:
    """The calls in files that begin so; none of the service."""
    return sum(count for file, count in made.items() if file.startswith(where) and not file.startswith(SERVICE))


@functools.cache
def counted(work: Workload, count: int, service: Callable[[], Service]) -> tuple[Counter[str], int]:
    """The calls of some work, and the requests that it took: the same each time, so counted once."""
    serving = service()
    return calls(lambda: run(work, count, serving)), serving.ledger.requests.total()


@pytest.mark.slow
@pytest.mark.parametrize("work", [stream, callers])
@pytest.mark.parametrize(("where", "most"), [(PACKAGE, 404), ("", 1017)], ids=["package", "all"])
def test_a_job_that_is_done_when_first_asked_about_takes_so_many_calls(work: Workload, where: str, most: int) -> None:
    assert added(lambda count: within(counted(work, count, burst)[0], where), 50, 150) <= most * ROOM


@pytest.mark.slow
@pytest.mark.parametrize("work", [stream, callers])
def test_a_job_of_many_takes_no_more_calls_than_one_of_few(work: Workload) -> None:
    def cost(count: int) -> int:
        return within(counted(work, count, burst)[0], "")

    assert added(cost, 200, 400) <= added(cost, 50, 100) * 1.1


@pytest.mark.slow
@pytest.mark.parametrize(("where", "most"), [(PACKAGE, 173), ("", 439)], ids=["package", "all"])
def test_a_query_takes_so_many_calls(where: str, most: int) -> None:
    """As nearly all requests of long jobs are."""
    (many, many_requests), (few, few_requests) = counted(stream, 100, night), counted(stream, 50, night)
    assert (within(many, where) - within(few, where)) / (many_requests - few_requests) <= most * ROOM


@pytest.mark.slow
def test_a_job_over_http_takes_so_many_calls() -> None:
    """Of the package and of aiohttp together, so that what is asked of aiohttp counts too."""
    where = (PACKAGE, str(Path(aiohttp.__file__).parent))
    assert added(lambda count: within(calls(lambda: asyncio.run(over_http(count))), *where), 20, 60) <= 717 * ROOM


@pytest.mark.slow
@pytest.mark.usefixtures("lines_may_block")
def test_a_job_takes_so_many_calls_for_the_team_that_a_journal_makes_even_of_one_session(tmp_path: Path) -> None:
    def cost(count: int) -> int:
        place = tmp_path / str(count)
        place.mkdir()
        made = calls(lambda: hosts_at_work(place, 1, lambda hosts: stream(hosts[0].session, count), generation_s=0.5))
        return within(made, f"{PACKAGE}/_engine/team")

    assert added(cost, 50, 150) <= 97 * ROOM


def on_record(place: Path, count: int, statements: list[str]) -> None:
    """So many jobs in a new journal, in as many commits as a job has steps: what the journal's thread does for them."""
    names = [f"job-{number}" for number in range(count)]
    table = open_table(place, "https://emulator.invalid", lambda: 1e9, "ours", 30.0, 1.0)
    assert isinstance(table.database, SqliteDatabase)
    table.database._connection.set_trace_callback(statements.append)
    with table.transaction():
        for name in names:
            table.intend(intent(name))
    with table.transaction():
        for name in names:
            assert table.sending(name, 1e9)
    with table.transaction():
        for name in names:
            table.accepted(name, f"task-{name}", 1e9)
    with table.transaction():
        for name in names:
            table.succeeded(name, video(f"task-{name}"))
    table.close()


@pytest.mark.slow
def test_a_job_on_record_takes_so_many_statements_and_calls(tmp_path: Path) -> None:
    statements: list[str] = []
    on_record(tmp_path / "warm.db", 1, [])
    on_record(tmp_path / "few.db", 10, statements)
    few = len(statements)
    on_record(tmp_path / "many.db", 60, statements)
    assert len(statements) - 2 * few == 5 * 50
    places = itertools.count()

    def cost(count: int) -> int:
        return calls(lambda: on_record(tmp_path / f"{next(places)}.db", count, [])).total()

    assert added(cost, 10, 60) <= 70 * ROOM


async def over_http(count: int) -> None:
    """So many jobs, to a server that has each done when it is asked."""
    numbers = itertools.count(1)

    async def answer(exchange: Exchange) -> None:
        await exchange.read_body()
        is_post = exchange.method == "POST"
        said = taken(f"task-{next(numbers)}") if is_post else finished(exchange.path.rpartition("/")[2])
        await exchange.reply(200, said)

    async with raw_server(answer) as server:
        async with AsyncSession(api_key="key", base_url=server.url, poll_interval=(0.01, 0.01)) as session:
            await stream(session, count)
        assert len(server.seen) == 2 * count


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_a_job_that_is_done_when_first_asked_about_takes_two_requests() -> None:
    assert run(stream, 100, burst()) == 200


@pytest.mark.slow
def test_a_job_of_a_minute_takes_so_many_requests_where_nobody_bounds_them() -> None:
    assert added(lambda count: run(stream, count, night()), 100, 300) <= 13.5 * ROOM


# --- Memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "service", "most"),
    [
        pytest.param(queue, night, 1775, id="that waits"),
        pytest.param(stream, burst, 2920, id="that runs"),
        # Its id, which the service keeps, and the session too, for some thousand tasks, so that none is counted twice.
        pytest.param(stream, lambda: service(0.5, 5), 393, id="that has been told"),
    ],
)
def test_a_job_holds_so_many_bytes(work: Workload, service: Callable[[], Service], most: int) -> None:
    run(work, 200, service())  # what is held once and for all
    assert added(lambda count: peak_memory(lambda: run(work, count, service())), 200, 400) <= most * ROOM


# --- Imports ----------------------------------------------------------------------------------------------------------

NEEDED = "aiohttp, attrs, cattrs, anyio"
#: What only some users need.
NOT_AT_ONCE = {
    "PIL",
    "av",
    "anyio._backends._asyncio",
    "click",
    "hailuo_async._engine.engine",
    "hailuo_async._images.frame",
    "hailuo_async._io.download.client",
    "hailuo_async._io.http",
    "hailuo_async._io.journal.writer",
    "hailuo_async._rules.wire",
    "hailuo_async.cli",
    "hailuo_async.emulator",
    "hailuo_async.testing",
    "opentelemetry",
    "pytest",
    "rich",
    "sqlite3",
}

_COUNTED_IMPORTS = """
import sys

def count(imports):
    def note(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    calls = 0
    sys.setprofile(note)
    exec(imports)
    sys.setprofile(None)
    return calls

print(count("import {needed}"), count("import hailuo_async"), *sys.modules)
"""


def test_an_import_brings_nothing_that_only_some_need_and_takes_so_many_calls() -> None:
    command = [sys.executable, "-c", _COUNTED_IMPORTS.format(needed=NEEDED)]
    needed, more, *modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert NOT_AT_ONCE & set(modules) == set()
    assert int(more) <= 0.20 * ROOM * int(needed)
