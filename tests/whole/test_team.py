"""Sessions that share a journal, in a file or in a database: one team, with its slots, its line and its news."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from random import Random

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

from hailuo_async import (
    AsyncSession,
    ConfigError,
    Generation,
    HailuoError,
    ImageToVideo,
    JobNotFoundError,
    Journal,
    JournalError,
    JournalState,
    Record,
    Status,
    Success,
)
from hailuo_async._engine.team import Team
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator

from ..support.crash_children import Child, running
from ..support.crash_journal import wait_for
from ..support.postgres import Postgres
from ..support.service import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where the team's journal is."""
    if request.param == "sqlite":
        yield str(tmp_path / "batch.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    schema = server.new_schema()
    yield server.dsn(schema)
    server.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
async def service() -> AsyncIterator[Emulator]:
    async with Emulator(generation_s=0.3, spread=0.0, requests_per_minute=None, max_running=2) as emulator:
        yield emulator


def session_at(service: Emulator, journal: str | None, max_running: int | None = None) -> AsyncSession:
    return AsyncSession(
        api_key=DEFAULT_API_KEY,
        base_url=service.url,
        journal=journal,
        poll_interval=(0.02, 0.1),
        max_running=max_running,
    )


def jobs(name: str, number: int) -> list[ImageToVideo]:
    return [
        ImageToVideo("https://example.com/cat.jpg", prompt=f"{name} {each}", key=f"{name}-{each}")
        for each in range(number)
    ]


def team_of(session: AsyncSession) -> Team:
    assert session._engine is not None
    team = session._engine.recorder.team
    assert team is not None
    return team


async def read(session: AsyncSession, work: list[ImageToVideo]) -> int:
    """How many were done: all of them succeed."""
    outcomes = [outcome async for outcome in session.stream(work)]
    assert [type(outcome) for outcome in outcomes] == [Success] * len(outcomes)
    return len(outcomes)


@pytest.mark.slow
async def test_two_sessions_fill_the_slots_of_the_team_together_and_find_its_limit_once(
    service: Emulator, journal: str
) -> None:
    service.service.generation_s = 600.0  # none ends while the first POSTs are on their way, which would hide the limit
    async with session_at(service, journal) as one, session_at(service, journal) as two:
        reading = asyncio.gather(read(one, jobs("a", 8)), read(two, jobs("b", 8)))
        await until(lambda: (one.stats().limit, two.stats().limit) == (2, 2))
        service.service.generation_s, service.clock_offset_s = 0.3, 600.0
        await reading
        assert (one.stats().limit, two.stats().limit) == (2, 2)
    ledger = service.ledger
    assert [len(tasks) for tasks in ledger.accepted.values()] == [1] * 16
    assert ledger.posts - ledger.submits_accepted <= 2  # what one session alone would be refused, too
    assert ledger.most_running == 2
    turns = "".join(str(prompt)[0] for prompt in ledger.accepted)
    while_both_wait = turns[3 : min(turns.rindex("a"), turns.rindex("b"))]  # the first may leave before both stand
    assert max(len(list(run)) for _, run in itertools.groupby(while_both_wait)) <= 2, turns


async def test_a_visitor_waits_for_a_slot_or_two_beside_another_sessions_long_stream(
    service: Emulator, journal: str
) -> None:
    async with session_at(service, journal) as busy, session_at(service, journal) as visited:
        streaming = asyncio.ensure_future(read(busy, jobs("stream", 30)))
        await until(lambda: service.ledger.submits_accepted >= 4)
        [visitor] = jobs("visitor", 1)
        generation = await visited.submit(visitor)
        team = team_of(busy)
        await until(lambda: team.line.others.first is not None or generation.task_id)  # the stream knows that it waits
        before = service.ledger.submits_accepted
        await generation.accepted()
        # At most one for each slot left before that, and its own; on a slow machine it may be passed over once.
        assert service.ledger.submits_accepted - before <= 5
        streaming.cancel()
        await asyncio.wait([streaming])


@pytest.mark.slow
async def test_a_session_knows_how_many_others_stand_before_it_in_line(service: Emulator, journal: str) -> None:
    service.service.max_running, service.service.generation_s = 1, 60.0
    async with (
        session_at(service, journal, 1) as first,
        session_at(service, journal) as second,
        session_at(service, journal) as third,
    ):
        sessions = [first, second, third]
        for number, session in enumerate(sessions):
            [job] = jobs(f"job {number}", 1)
            generation = await session.submit(job)
            if number == 0:
                await generation.accepted()
        with anyio.fail_after(20):
            # The other two came within milliseconds of each other: who was first is as exact as their clocks.
            while sorted(session.stats().ahead for session in sessions) != [0, 0, 1]:  # noqa: ASYNC110 (now and then)
                await anyio.sleep(0.05)
        assert first.stats().ahead == 0


async def test_a_job_of_another_session_is_found_with_its_status_its_updates_and_its_video(
    service: Emulator, journal: str
) -> None:
    [job] = jobs("cat", 1)
    service.service.generation_s = 600.0
    async with session_at(service, journal) as worker, session_at(service, journal) as web:
        generation = await worker.submit(job)
        found = await web.find("cat-0")
        seen = asyncio.ensure_future(statuses(found))
        assert await found.accepted() == await generation.accepted()
        service.clock_offset_s = 600.0  # it ends when its acceptance was seen
        video = await generation
        with anyio.fail_after(60):
            assert (await found).task_id == video.task_id
        assert (await seen)[-2:] == [Status.PENDING, Status.SUCCESS]
        assert found.key == "cat-0"
        assert (await (await web.find("cat-0"))).task_id == video.task_id  # also when it has ended
    assert service.ledger.posts == 1


async def statuses(found: Generation) -> list[Status]:
    return [status async for status in found.updates()]


async def test_a_key_that_the_journal_does_not_know_is_not_found(service: Emulator, journal: str) -> None:
    async with session_at(service, journal) as session:
        with pytest.raises(JobNotFoundError, match="'dog'"):
            await session.find("dog")
    async with session_at(service, None) as session:
        with pytest.raises(ConfigError, match="journal"):
            await session.find("dog")


async def test_a_found_job_whose_session_closes_before_it_was_sent_ends_in_an_error_that_says_what_to_do(
    service: Emulator, journal: str
) -> None:
    service.service.generation_s = 600.0
    async with session_at(service, journal) as web:
        async with session_at(service, journal, max_running=1) as worker:
            for job in jobs("cat", 3):
                await worker.submit(job)
            found = await web.find("cat-2")
        with pytest.raises(JournalError, match="give the job itself again"):
            await found


async def test_a_task_that_another_session_waits_for_is_not_found_queued(service: Emulator, journal: str) -> None:
    [job] = jobs("cat", 1)
    service.service.generation_s = 600.0
    async with session_at(service, journal) as web, session_at(service, journal) as worker:
        task_id = await (await worker.submit(job)).accepted()
        found = await web.find("cat-0")
        assert (found.status, found.task_id) == (Status.PENDING, task_id)


async def test_what_a_closed_session_left_running_is_recorded_by_another(service: Emulator, journal: str) -> None:
    [job] = jobs("cat", 1)
    async with session_at(service, journal) as staying:
        async with session_at(service, journal) as leaving:
            await (await leaving.submit(job)).accepted()
        with anyio.fail_after(60):
            await (await staying.find("cat-0"))
        assert staying.stats().running == 0
    assert service.ledger.posts == 1


async def test_the_same_jobs_in_two_sessions_are_paid_for_once_and_told_in_both(
    service: Emulator, journal: str
) -> None:
    async with session_at(service, journal) as one, session_at(service, journal) as two:
        await asyncio.gather(read(one, jobs("cat", 6)), read(two, jobs("cat", 6)))
    assert [len(tasks) for tasks in service.ledger.accepted.values()] == [1] * 6


async def killed_now_and_then(service: Emulator, journal: str, rng: Random, kills: int) -> None:
    """A batch in a process that is killed so often, and begun again each time, until it comes to its end."""
    while True:
        async with running(base_url=service.url, journal=journal, jobs=30) as child:
            await child.says("open")
            if kills:
                await anyio.sleep(rng.uniform(0.0, 0.8))
                child.signal(signal.SIGKILL)
                kills -= 1
            elif await child.ended() == 0:
                assert set(child.outcomes().values()) <= {"success", "unknown"}
                return


@pytest.mark.slow
@pytest.mark.parametrize("how", ["find", "attach", "resume"])
async def test_a_task_that_a_cancelled_caller_claimed_is_waited_for(
    service: Emulator, tmp_path: Path, how: str
) -> None:
    """Its record would say for as long as this session lives that it is worked on."""
    path = tmp_path / "batch.db"

    async def ask(session: AsyncSession, task_id: str) -> None:
        if how == "find":
            await session.find("cat-0")
        elif how == "attach":
            await session.attach(task_id)
        else:
            await anext(session.resume())

    async with session_at(service, str(path)) as asking:
        async with session_at(service, str(path)) as leaving:
            task_id = await (await leaving.submit(jobs("cat", 1)[0])).accepted()
        asked = asyncio.ensure_future(ask(asking, task_id))
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()
        await wait_for(path, lambda records: records["cat-0"].state is JournalState.SUCCESS)


@pytest.mark.slow
async def test_a_follower_hears_of_the_end_of_a_job_that_a_failover_numbers_lower(postgres: Postgres) -> None:
    """A standby that lacks the last commits gives their numbers again: to a follower, these changes are old."""
    schema = postgres.new_schema()
    dsn = postgres.dsn(schema)
    async with (
        Emulator(generation_s=600.0, requests_per_minute=None, max_running=2) as service,
        session_at(service, dsn) as worker,
        session_at(service, dsn) as follower,
    ):
        await (await worker.submit(jobs("cat", 1)[0])).accepted()
        followed = await follower.find("cat-0")
        assert await followed.accepted() is not None
        await to_thread.run_sync(
            postgres.run,
            f"UPDATE {schema}.job SET state = 'refused', holder = NULL, changed = 1",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hailuo-async'",
        )
        with anyio.fail_after(10), pytest.raises(HailuoError):
            await followed
    await to_thread.run_sync(postgres.run, f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.slow
async def test_four_processes_with_the_same_jobs_that_are_killed_at_random_pay_once_and_lose_nothing(
    service: Emulator, journal: str
) -> None:
    service.service.max_running = 6
    rng = Random(1)
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(killed_now_and_then, service, journal, rng, 2)
    ledger = service.ledger
    assert {len(tasks) for tasks in ledger.accepted.values()} == {1}

    def count() -> dict[JournalState, int]:
        with Journal.open(journal) as opened:
            return opened.count()

    found = await to_thread.run_sync(count)
    in_doubt = found[JournalState.UNKNOWN]
    assert in_doubt <= 8 * 6  # what may have been in flight at each of the kills
    assert found[JournalState.SUCCESS] == 30 - in_doubt
    assert len(ledger.accepted) >= 30 - in_doubt


def number_of(state: JournalState, found: Mapping[str, Record]) -> int:
    return sum(record.state is state for record in found.values())


@pytest.mark.slow
async def test_what_a_killed_process_left_is_delivered_by_whoever_is_alive(service: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "batch.db"
    service.service.generation_s = 1.0
    async with session_at(service, str(path)) as alive:
        async with running(base_url=service.url, journal=str(path), jobs=8) as child:
            await wait_for(path, lambda found: number_of(JournalState.ACCEPTED, found) == 2)
            child.signal(signal.SIGKILL)
            await child.process.wait()
            with anyio.fail_after(25):  # sooner than its lease runs out
                found = await wait_for(path, lambda found: number_of(JournalState.ACCEPTED, found) == 0)
        assert number_of(JournalState.SUCCESS, found) == 2
        assert alive.stats().running == 0
        outcomes = [outcome async for outcome in alive.stream(jobs("more", 2))]
        assert [type(outcome) for outcome in outcomes] == [Success, Success]
    assert [len(tasks) for tasks in service.ledger.accepted.values()] == [1] * 4


async def stop_between_commits(child: Child, path: Path) -> None:
    """Stops the process where it does not hold the file: there SQLite has everybody wait for it."""

    def is_free() -> bool:
        with contextlib.closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.execute("ROLLBACK")
            return True

    child.signal(signal.SIGSTOP)
    while not await to_thread.run_sync(is_free):
        child.signal(signal.SIGCONT)
        await anyio.sleep(0.01)
        child.signal(signal.SIGSTOP)


@pytest.mark.slow
async def test_a_process_that_is_stopped_holds_up_nobody(service: Emulator, tmp_path: Path) -> None:
    """Its tasks keep their slots until its lease is over. Its place in the line does not."""
    path = tmp_path / "batch.db"
    service.service.max_running = 5
    async with session_at(service, str(path)) as alive:
        streaming = asyncio.ensure_future(read(alive, jobs("alive", 30)))
        async with running(base_url=service.url, journal=str(path), jobs=12) as child:
            await child.says("success")
            await stop_between_commits(child, path)
            with anyio.fail_after(60):
                assert await streaming == 30
            child.signal(signal.SIGCONT)
            assert await child.ended() == 0
    assert set(child.outcomes().values()) == {"success"}
    assert {len(tasks) for tasks in service.ledger.accepted.values()} == {1}


async def test_a_session_that_opens_takes_up_what_was_left(service: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "batch.db"
    async with session_at(service, str(path)) as session:
        await (await session.submit(jobs("cat", 1)[0])).accepted()
    async with session_at(service, str(path)):
        await wait_for(path, lambda found: found["cat-0"].state is JournalState.SUCCESS)
    assert service.ledger.posts == 1
