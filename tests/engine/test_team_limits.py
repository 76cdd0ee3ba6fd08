"""The team's limits, as the gate of one session sees them."""

from __future__ import annotations

import math
from random import Random

from hailuo_async._engine.signal import Signal
from hailuo_async._engine.team_limits import TeamRateLimiter, TeamSlots
from hailuo_async._engine.team_line import TeamLine
from hailuo_async._engine.team_view import TeamView
from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async.testing import run_virtual

SERVER = 1_700_000_000.0


def make_limits(ceiling: int | None = None) -> tuple[TeamSlots, TeamRateLimiter, TeamView]:
    """Those of a session whose team is on a server's clock."""
    view = TeamView("us", Random(0), lambda: None)
    view.clock.learn(SERVER, 0.0, 0.0)
    line = TeamLine(view, Signal())
    return TeamSlots(view, line, ceiling), TeamRateLimiter(view), view


def test_a_session_that_runs_as_many_as_it_may_starts_none_whatever_the_team_has_left() -> None:
    async def main() -> None:
        slots, _, view = make_limits(ceiling=2)
        slots.adopted()
        assert (slots.is_full, slots.may_start(1.0), slots.limit) == (False, 1.0, 2)
        slots.started(1.0)
        assert (slots.is_full, slots.may_start(1.0), slots.running) == (True, math.inf, 2)
        slots.answered(1, 0)
        view.state.submit_stayed(SERVER + 1.0)
        assert (slots.is_full, slots.may_start(1.0)) == (False, 1.0)

    run_virtual(main)


def test_each_task_is_counted_here_and_in_the_view_until_it_has_ended() -> None:
    async def main() -> None:
        slots, _, view = make_limits()
        seen: list[tuple[int, int, int, int]] = []

        def note() -> None:
            seen.append((slots.tentative, slots.inflight, slots.settled, view.state.slots.running))

        for _ in range(3):
            slots.started(1.0)
        slots.answered(3, 3)
        note()
        slots.accepted()
        slots.refused(2.0, 1.0)
        slots.released()
        note()
        slots.ended(2.5)
        note()
        assert seen == [(0, 3, 0, 3), (0, 0, 1, 1), (0, 0, 0, 0)]
        assert len(view.take_changes()) == 4

    run_virtual(main)


def test_the_team_gets_times_by_its_own_clock_and_the_gate_by_the_loops() -> None:
    async def main() -> None:
        slots, limiter, view = make_limits()
        limiter.sent(1.0, Use.QUERY)
        limiter.refused(2.0, RateHeaders(retry_after_s=10.0), 1.0)
        closed_until = view.state.rate_limiter.closed_until
        assert closed_until is not None
        assert closed_until > SERVER
        assert limiter.closed_until == closed_until - SERVER
        assert min(slots.may_start(2.0), limiter.may_send(2.0, Use.QUERY)) > 10.0

    run_virtual(main)
