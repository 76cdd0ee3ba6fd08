"""Teams that share a journal on a PostgreSQL server, on a virtual clock: what they decide on is a round trip old.

Whatever befalls them: no job is paid for twice or lost, all end, no session makes commits without end, and no slot
stays free while a session that reaches the server waits for one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio
import attrs
import pytest

from ..support.teams import Findings, Scenario, Team, Trouble, simulate

#: A session that has to wait looks every two seconds; one behind another that does not take its turn passes it over.
PATIENCE_S = 4.0
#: Others find that a session is dead or cut off when its lease has run out, and hold off after a failover.
LEASE_AND_LOOKS_S = 50.0
#: One for each answer and end, and a try in vain for some. Steps without end take one every 30 ms.
MOST_COMMITS = 25

BUSY = Scenario(sessions=8, slots=((0.0, 12),), jobs=100, generation_s=30.0)
MANY = Scenario(sessions=12, slots=((0.0, 30),), jobs=150, requests_per_minute=450, generation_s=30.0)
MOVED = Scenario(sessions=5, slots=((0.0, 10), (40.0, 4), (120.0, 14)), jobs=70, generation_s=30.0, trip_s=0.05)
FEW_SLOTS = Scenario(sessions=6, slots=((0.0, 2),), jobs=20, requests_per_minute=100, generation_s=30.0)
TROUBLED = Scenario(sessions=5, slots=((0.0, 6),), jobs=50, generation_s=30.0)
CHURN: Sequence[Trouble] = (Team.lose_one, Team.leave, Team.join, Team.follow) * 3
CUTS = (Team.cut,) * 20 + (Team.follow,) * 2
CUT_OFF = (Team.cut_off,) * 5
DOWN = (Team.go_down,) * 4 + (Team.cut,) * 4
CLOCK_SET = (Team.set_clock,) * 4 + (Team.cut,) * 4
FAILOVER = (Team.fail_over,) * 2 + (Team.cut,) * 4


async def fail_over_to_a_clock_that_is_behind(team: Team) -> None:
    await team.fail_over(600.0)


FAILOVER_BEHIND = (fail_over_to_a_clock_that_is_behind,) * 2 + (Team.cut,) * 4

pytestmark = pytest.mark.usefixtures("lines_may_block")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What befalls the sessions is logged, hundreds of times."""
    caplog.set_level(logging.CRITICAL, "hailuo_async")


def check(found: Findings, longest_stall_s: float) -> None:
    """All jobs have ended, or there would be no findings."""
    assert (found.paid_twice, found.not_on_record) == ([], [])
    assert found.most_commits <= MOST_COMMITS
    assert found.longest_stall_s <= longest_stall_s


def test_a_team_does_all_jobs_once_although_connections_are_cut() -> None:
    check(simulate(Scenario(sessions=2, jobs=6, troubles=(Team.cut,) * 3)), PATIENCE_S)


def test_the_same_seed_takes_the_same_course() -> None:
    scenario = Scenario(sessions=2, jobs=2, troubles=(Team.cut,))
    assert simulate(scenario) == simulate(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [BUSY, MANY, MOVED, FEW_SLOTS], ids=["busy", "many", "moved", "few slots"])
def test_no_slot_stays_free_in_a_team_that_is_left_alone(scenario: Scenario) -> None:
    check(simulate(scenario), PATIENCE_S)


@pytest.mark.slow
@pytest.mark.parametrize(
    "troubles",
    [CHURN, CUTS, CUT_OFF, DOWN, CLOCK_SET, FAILOVER, FAILOVER_BEHIND],
    ids=["churn", "cuts", "cut off", "down", "clock set", "failover", "failover to a clock behind"],
)
def test_a_team_does_all_jobs_once_whatever_befalls_it(troubles: Sequence[Trouble]) -> None:
    check(simulate(attrs.evolve(TROUBLED, troubles=troubles)), LEASE_AND_LOOKS_S)


@pytest.mark.slow
@pytest.mark.parametrize("troubles", [CHURN, FAILOVER], ids=["churn", "failover"])
def test_a_team_that_keeps_its_jobs_does_each_once_whoever_sends_it(troubles: Sequence[Trouble]) -> None:
    check(simulate(attrs.evolve(TROUBLED, keeps_jobs=True, troubles=troubles)), LEASE_AND_LOOKS_S)


@pytest.mark.slow
@pytest.mark.parametrize("set_s", [-600.0, 600.0])
def test_the_jobs_of_a_host_that_dies_just_before_the_clock_is_set_are_taken_over_within_some_leases(
    set_s: float,
) -> None:
    async def die_and_set_clock(team: Team) -> None:
        await team.lose_one()
        team.server.offset_s += set_s

    found = simulate(Scenario(slots=((0.0, 6),), jobs=30, troubles=(die_and_set_clock,), seed=2))
    check(found, LEASE_AND_LOOKS_S)
    assert found.seconds < 200.0


async def fail_over_and_leave(team: Team) -> None:
    """A session is closed while the server is down."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(team.fail_over)
        await anyio.sleep(2.1)
        await team.leave()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [8, 10])  # the copy lacks a POST of the session that is closed
def test_a_session_that_is_closed_during_a_failover_writes_first_what_the_copy_may_lack(seed: int) -> None:
    scenario = Scenario(slots=((0.0, 6),), jobs=30, troubles=(fail_over_and_leave,), seed=seed)
    check(simulate(scenario), LEASE_AND_LOOKS_S)
