"""How seldom a session looks at its team, and how soon it hears what it waits for. On a virtual clock, with real files.

The sessions reach their journal through lines that count.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import attrs
import pytest

from benchmarks.hosts import Host
from hailuo_async._engine.team_monitor import FOLLOW_S, REFRESH_S
from hailuo_async._io.journal.bell import Bell
from hailuo_async._io.journal.commits import Commits
from hailuo_async._io.journal.team_link import TeamLink
from hailuo_async._io.journal.writer import JournalWriter

from ..support.hosts import hosts_at_work, job

pytestmark = pytest.mark.usefixtures("lines_may_block")

WATCHED_S = 600.0
RENEWALS = 60
"""Of one session, in that time: every third of a lease of 30 s."""


@attrs.frozen
class Counts:
    """What sessions did in ``WATCHED_S``, all together."""

    looks: int
    renewals: int
    commits: int


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what reaches the journal's thread."""
    counts: Counter[str] = Counter()

    def count(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def counting(*args: object, **named: object) -> object:
            counts[name] += 1
            return original(*args, **named)

        monkeypatch.setattr(owner, name, counting)

    count(TeamLink, "_read")
    count(JournalWriter, "renew")
    monkeypatch.setattr(Commits, "_commit", _counting_commits(counts))
    return counts


def _counting_commits(counts: Counter[str]) -> Callable[[Commits], None]:
    commit = Commits._commit

    def counting(self: Commits) -> None:
        before = self._committing
        commit(self)
        counts["commits"] += self._committing is not before

    return counting


def watched(path: Path, counted: Counter[str], sessions: int, *, waiting: int) -> Counts:
    """What so many sessions do while two long tasks of another one fill the slots, and some of them wait for one."""

    async def work(hosts: list[Host]) -> None:
        for name in ("one", "two"):
            await (await hosts[0].session.submit(job(name))).accepted()
        for number, host in enumerate(hosts[1 : waiting + 1]):
            await host.session.submit(job(f"waits {number}"))
        await anyio.sleep(60.0)
        counted.clear()
        await anyio.sleep(WATCHED_S)
        counts.append(Counts(counted["_read"], counted["renew"], counted["commits"]))

    counts: list[Counts] = []
    hosts_at_work(path, sessions + 1, work)
    return counts[0]


def test_a_session_with_nothing_to_do_renews_its_lease_and_is_silent_otherwise(
    tmp_path: Path, counted: Counter[str]
) -> None:
    counts = watched(tmp_path, counted, 4, waiting=0)
    everybody = 4 + 1
    polls = 2 * WATCHED_S / 30  # of the two tasks, whose ends the others could learn from: told each five seconds
    assert counts.looks == 0
    assert counts.renewals <= everybody * RENEWALS + polls / 2  # some of which take a renewal along, before it is due
    assert counts.commits <= everybody * RENEWALS + polls


@pytest.mark.slow
@pytest.mark.parametrize("waiting", [1, 8, 16])
def test_sessions_that_wait_refresh_at_most_twice_in_a_while_all_together_however_many_they_are(
    waiting: int, tmp_path: Path, counted: Counter[str]
) -> None:
    counts = watched(tmp_path, counted, waiting, waiting=waiting)
    assert WATCHED_S / REFRESH_S - 70 <= counts.looks <= 2 * WATCHED_S / REFRESH_S
    assert counts.renewals <= (waiting + 1) * RENEWALS * 1.1


def test_the_first_in_the_line_is_woken_when_a_slot_is_free_and_takes_its_turn_without_a_refresh(
    tmp_path: Path, counted: Counter[str]
) -> None:
    waited: list[float] = []
    looks: list[int] = []

    async def work(hosts: list[Host]) -> None:
        busy, *others = (host.session for host in hosts)
        running = [await busy.submit(job(f"runs {number}")) for number in range(2)]
        for generation in running:
            await generation.accepted()
        generations = [await session.submit(job(f"waits {number}")) for number, session in enumerate(others)]
        for generation in running:
            await generation
            ended_at = anyio.current_time()
            counted.clear()
            await generations.pop(0).accepted()
            waited.append(anyio.current_time() - ended_at)
            looks.append(counted["_read"])

    hosts_at_work(tmp_path, 5, work, generation_s=90.0)
    assert max(waited) < 0.5 < REFRESH_S  # a few round trips, and one to the service
    assert looks[1] == 0  # the first was perhaps woken twice, as both tasks ended at once


def test_sessions_that_begin_together_fill_the_slots_at_once_and_each_gets_some(tmp_path: Path) -> None:
    shares: list[int] = []

    async def stream(host: Host, name: str) -> None:
        await anyio.sleep(ord(name) / 10_000)
        async for _ in host.session.stream(job(f"{name} {number}") for number in range(20)):
            pass

    async def work(hosts: list[Host]) -> None:
        async with anyio.create_task_group() as tasks:
            for host, name in zip(hosts, "abcdefgh", strict=True):
                tasks.start_soon(stream, host, name)
            await anyio.sleep(1.5)
            shares.extend(host.session.stats().running for host in hosts)
            tasks.cancel_scope.cancel()

    hosts_at_work(tmp_path, 8, work, max_running=12)
    assert sum(shares) == 12
    assert set(shares) <= {1, 2, 3}  # three may leave before anything is known


def test_a_session_that_was_passed_over_stands_in_the_line_again_once_it_knows_of_it(tmp_path: Path) -> None:
    places: list[float | None] = []

    async def work(hosts: list[Host]) -> None:
        busy, waiting = (host.session for host in hosts)
        for name in ("one", "two"):
            await (await busy.submit(job(name))).accepted()
        await waiting.submit(job("waits"))
        await anyio.sleep(1.0)
        assert waiting._engine is not None
        assert waiting._engine.team_monitor is not None
        table = waiting._engine.team_monitor._journal._table
        for statement in ("SELECT 1", "UPDATE member SET place = NULL", "SELECT 1"):
            with table.transaction():
                table.database.execute(statement)
            places.extend(row["place"] for row in table.database.execute("SELECT place FROM member").fetchall())
            await anyio.sleep(2 * REFRESH_S)

    hosts_at_work(tmp_path, 2, work)
    assert [place is None for place in places] == [True, False, True, True, True, False]
    assert places[1] == places[-1]


@pytest.mark.parametrize("has_bell", [True, False])
def test_a_job_of_another_session_is_told_a_moment_after_it_has_ended(
    has_bell: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_bell:
        monkeypatch.setattr(Bell, "listen", lambda self, topic: None)
    late: list[float] = []

    async def work(hosts: list[Host]) -> None:
        worker, web = (host.session for host in hosts)
        generation = await worker.submit(job("cat"))
        found = await web.find("cat")
        await generation.accepted()
        accepted_at = anyio.current_time()
        await found.accepted()
        late.append(anyio.current_time() - accepted_at)
        await generation
        ended_at = anyio.current_time()
        await found
        late.append(anyio.current_time() - ended_at)

    hosts_at_work(tmp_path, 2, work, generation_s=30.0)
    assert max(late) <= 0.1 < FOLLOW_S


def test_many_followed_jobs_cost_one_refresh_in_a_while(tmp_path: Path, counted: Counter[str]) -> None:
    counts: list[int] = []

    async def work(hosts: list[Host]) -> None:
        worker, web = (host.session for host in hosts)
        await asyncio.gather(*(worker.submit(job(f"cat {number}")) for number in range(100)))
        await asyncio.gather(*(web.find(f"cat {number}") for number in range(100)))
        await anyio.sleep(60.0)
        counted.clear()
        await anyio.sleep(WATCHED_S)
        counts.append(counted["_read"])

    hosts_at_work(tmp_path, 2, work)
    assert counts[0] <= WATCHED_S / FOLLOW_S + WATCHED_S / REFRESH_S + 10
