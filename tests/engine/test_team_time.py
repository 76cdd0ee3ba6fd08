"""Times of a team whose clock is a server's: large numbers, whose sums are not exact."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest

from hailuo_async._engine.team import Team
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.cadence import Cadence

SERVER = 1_700_000_000.0


class Nowhere:
    """A journal that nobody has joined."""

    team = None


@pytest.mark.parametrize("now", [number / 7 for number in range(1, 200)])
def test_a_time_that_has_come_by_the_teams_clock_has_come_by_the_loops(now: float) -> None:
    """A rounding error later, a gate on a virtual clock would wait for no time at all, for ever."""
    rng = Random(0)
    team = Team(cast(JournalWriter, Nowhere()), None, rng, Cadence(0.5, 30.0, rng))
    team.clock.learn(SERVER + 0.1, 0.0, 0.2)
    assert team.in_loop_time(now + team.offset_s, now) == now
    assert team.in_loop_time(now + 2.0 + team.offset_s, now) == pytest.approx(now + 2.0, abs=1e-5)


def test_a_place_in_the_line_is_the_same_however_the_clock_is_corrected() -> None:
    """Otherwise two sessions may each take the other for the first, and wait for it."""
    rng = Random(0)
    team = Team(cast(JournalWriter, Nowhere()), None, rng, Cadence(0.5, 30.0, rng))
    team.waits_since = lambda: 5.0
    team.clock.learn(SERVER + 0.1, 0.0, 0.2)
    place = team._place_now()
    team.clock.learn(SERVER + 0.3, 0.2, 0.3)
    assert team.offset_s != pytest.approx(SERVER, abs=1e-3)
    assert team._place_now() == place
    team.waits_since = lambda: 5.005
    assert team._place_now() == pytest.approx(SERVER + 5.055, abs=1e-5)


def test_a_session_that_runs_as_many_as_it_may_stands_in_no_way_however_long_its_jobs_wait() -> None:
    rng = Random(0)
    team = Team(cast(JournalWriter, Nowhere()), 1, rng, Cadence(0.5, 30.0, rng))
    team.waits_since = lambda: 5.0
    assert team._place_now() == 5.0
    team.settled = 1
    assert team._place_now() is None
