"""A session's view of its team: times of a clock that is a server's, and what is not told yet."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from hailuo_async._engine.team_view import TeamView
from hailuo_async._rules.team import Held, TeamState, dump_state
from hailuo_async.testing import run_virtual

SERVER = 1_700_000_000.0


def adopt(state: TeamState) -> None:
    state.slots.adopted()


def accept(state: TeamState) -> None:
    state.slots.accepted()


def make_view() -> tuple[TeamView, list[float]]:
    """A view, and when it had commits begin."""
    commits: list[float] = []
    view = TeamView("us", Random(0), lambda: commits.append(asyncio.get_running_loop().time()))
    return view, commits


def test_a_time_that_has_come_by_the_teams_clock_has_come_by_the_loops() -> None:
    """A rounding error later, a gate on a virtual clock would wait for no time at all, for ever."""
    view, _ = make_view()
    view.clock.learn(SERVER + 0.1, 0.0, 0.2)
    offset_s = view.clock.offset_s
    for now in (number / 7 for number in range(1, 200)):
        assert view.in_loop_time(now + offset_s, now) == now
        assert view.in_loop_time(now + 2.0 + offset_s, now) == pytest.approx(now + 2.0, abs=1e-5)


def test_a_state_that_is_read_is_seen_with_what_it_does_not_count_yet() -> None:
    async def main() -> None:
        view, _ = make_view()
        view.publish(adopt)
        state = TeamState.new(Random(0))
        state.slots.recount(1, 4)
        view.apply(dump_state(state), 2, tentative=3)
        assert view.state.slots.running == 5 + 1 + 3
        view.take_changes()
        view.apply(None, 2, tentative=3)
        assert view.state.slots.running == 5 + 1 + 3
        view.apply(dump_state(state), 2, tentative=0)  # it was read before the step that has that change was made
        assert view.state.slots.running == 5 + 1
        view.stepped(Held(settled=1))
        view.apply(dump_state(state), 2, tentative=0)
        assert view.state.slots.running == 5

    run_virtual(main)


def test_what_can_wait_is_told_after_a_while_and_what_another_session_waits_for_at_once() -> None:
    async def main() -> None:
        view, commits = make_view()
        began_at = asyncio.get_running_loop().time()
        view.publish(adopt)
        view.publish(adopt)
        assert (view.needs_step, commits) == (False, [])
        await asyncio.sleep(6.0)
        assert (view.needs_step, commits) == (True, [began_at + 5.0])
        view.apply(None, 2, tentative=0)
        view.publish(adopt)
        assert (view.needs_step, commits) == (True, [began_at + 5.0, began_at + 6.0])

    run_virtual(main)


def test_the_changes_of_a_step_that_failed_are_told_again_before_later_ones() -> None:
    async def main() -> None:
        view, commits = make_view()
        began_at = asyncio.get_running_loop().time()
        view.publish(adopt)
        changes = view.take_changes()
        assert view.needs_step is False
        view.publish(accept)
        view.publish_again(changes, 1.0)
        assert view.take_changes() == (adopt, accept)
        view.publish_again(changes, 1.0)
        await asyncio.sleep(10.0)
        assert commits == [began_at + 1.0]

    run_virtual(main)
