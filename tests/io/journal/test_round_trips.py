"""How often a session waits for a PostgreSQL server: once before a POST, and once for a renewal of its leases."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest

from hailuo_async import AsyncSession, ImageToVideo
from hailuo_async._engine.team import Team
from hailuo_async._io.journal import postgres_opening
from hailuo_async._io.journal.records import Permit
from hailuo_async._io.journal.table import JobTable
from hailuo_async._io.journal.team import TeamTable
from hailuo_async._io.journal.team_values import Step, Turn
from hailuo_async._rules.wire import Answer, Request
from hailuo_async.contract import DEFAULT_BASE_URL
from hailuo_async.emulator import Service
from hailuo_async.settings import Dsn
from hailuo_async.testing import InMemory

from ...support.postgres import Postgres
from ...support.relay import Relay, relayed
from ...support.tables import LEASE_S, did, intent


@pytest.fixture
def relay(postgres: Postgres) -> Iterator[Relay]:
    with relayed(postgres.port) as relay:
        yield relay


@pytest.fixture
def dsn(postgres: Postgres, relay: Relay) -> Iterator[str]:
    schema = postgres.new_schema()
    yield postgres.tcp_dsn(schema=schema, port=relay.address)
    postgres.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
def team(dsn: str) -> Iterator[TeamTable]:
    jobs = JobTable(postgres_opening.open_for_writing(Dsn(dsn), DEFAULT_BASE_URL), "ours", LEASE_S)
    team = TeamTable(jobs)
    with jobs.transaction():
        team.join()
    yield team
    jobs.database.close()


def trips(relay: Relay, work: Callable[[], object]) -> int:
    """How often ``work`` waits for the server."""
    before = relay.trips
    work()
    return relay.trips - before


def granted(team: TeamTable, key: str) -> None:
    step = Step(now=0.0, turns=(Turn(key, 999.0, 0.0),), place=1.0)
    with team.jobs.transaction():
        tried = team.step(step)
    assert tried.outcome().permits == (Permit.GRANTED,)


def test_a_grant_and_the_record_of_the_intent_take_one_round_trip_together(relay: Relay, team: TeamTable) -> None:
    for made in (intent("first"), intent("second")):
        assert did(team.jobs, functools.partial(JobTable.intend, intent=made)).ours
    granted(team, "first")  # which may prepare its statements
    assert trips(relay, lambda: granted(team, "second")) == 1


def test_a_refresh_takes_one_round_trip(relay: Relay, team: TeamTable) -> None:
    team.refresh(None)
    assert trips(relay, lambda: team.refresh(None)) == 1


def test_a_renewal_of_all_leases_takes_one_round_trip_and_tells_how_the_team_stands(
    relay: Relay, team: TeamTable
) -> None:
    def renew() -> None:
        with team.jobs.transaction():
            made = team.renew()
        assert made.outcome().status.members == 1

    renew()  # the first looks for expired results as well
    assert trips(relay, renew) == 1


@pytest.mark.anyio
async def test_a_post_leaves_one_round_trip_after_its_slot_was_asked_for(
    relay: Relay, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    left: list[int] = []
    ask = Team.ask_to_send

    def asking(self: Team, *args: object) -> object:
        asked.append(relay.trips)
        return ask(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Team, "ask_to_send", asking)

    class Watched(InMemory):
        async def send(self, request: Request, timeout_s: float) -> Answer:
            if request.method == "POST":
                left.append(relay.trips)
            return await super().send(request, timeout_s)

    service = Service(max_running=3, generation_s=0.05, requests_per_minute=None)
    make = functools.partial(AsyncSession, api_key=service.api_key, base_url="https://emulator.invalid", journal=dsn)
    async with make(transport=Watched(service), poll_interval=(0.02, 0.1)) as session:
        for number in range(4):
            await session.generate(ImageToVideo("https://example.com/cat.jpg", key=f"cat {number}"))
    assert [after - before for before, after in zip(asked, left, strict=True)] == [1] * 4
