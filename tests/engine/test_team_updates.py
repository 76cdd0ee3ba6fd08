"""What a session hears of its team."""

from __future__ import annotations

import asyncio
from random import Random

import attrs
import pytest

from hailuo_async._engine.lessons import Lessons
from hailuo_async._engine.signal import Signal
from hailuo_async._engine.team_limits import TeamSlots
from hailuo_async._engine.team_line import TeamLine
from hailuo_async._engine.team_updates import TeamUpdates
from hailuo_async._engine.team_view import TeamView
from hailuo_async._io.journal.team_values import Renewed, TeamStatus
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.team import TeamState, dump_state
from hailuo_async.testing import run_virtual

ALONE = TeamStatus(state=None, members=1, first=None)
TWO = TeamStatus(state=None, members=2, first=None, gone=3)


def make_updates() -> tuple[TeamUpdates, TeamView, list[str]]:
    """One that knows nothing, and what it does."""
    did: list[str] = []
    view, changed = TeamView("us", Random(0), lambda: did.append("commit")), Signal()
    line = TeamLine(view, changed)
    lessons = Lessons(Cadence(0.5, 30.0, Random(0)))
    updates = TeamUpdates(view, line, TeamSlots(view, line, None), lessons, changed)
    updates.on_change = lambda: did.append("change")
    updates.on_death = lambda: did.append("death")
    return updates, view, did


def test_a_newcomer_is_told_at_once_what_this_session_has() -> None:
    async def main() -> None:
        updates, _, did = make_updates()
        updates.apply(TWO)
        updates.apply(TWO)
        assert did == ["commit", "change", "change"]

    run_virtual(main)


@pytest.mark.parametrize(
    ("at", "is_set"), [(None, False), (1_005.0, False), (995.0, False), (980.0, True), (1_060.0, True)]
)
def test_a_session_that_does_not_refresh_notices_when_its_leases_are_renewed_that_the_clock_was_set(
    at: float | None, is_set: bool
) -> None:
    """Else each of its steps would bring back times of the old clock, in the future for all others."""

    async def main() -> None:
        updates, view, _ = make_updates()
        view.clock.offset_s = 1_000.0
        updates.renewed(Renewed(status=TWO, has_orphans=False, at=at))
        assert updates.is_woken is is_set

    run_virtual(main)


def test_a_member_that_has_gone_is_noticed_though_another_came_meanwhile() -> None:
    async def main() -> None:
        for later in (attrs.evolve(TWO, gone=4), attrs.evolve(TWO, members=1)):
            updates, _, did = make_updates()
            updates.apply(TWO)
            did.clear()
            updates.apply(later)
            assert did == ["change", "death"]

    run_virtual(main)


def test_a_state_is_seen_with_the_grants_that_are_asked_for() -> None:
    async def main() -> None:
        updates, view, _ = make_updates()
        updates._slots.started(0.0)
        state = TeamState.new(Random(0))
        state.slots.recount(0, 5)
        updates.apply(attrs.evolve(TWO, state=dump_state(state)))
        assert view.state.slots.running == 6

    run_virtual(main)


def test_news_grow_stale() -> None:
    async def main() -> None:
        updates, _, _ = make_updates()
        loop = asyncio.get_running_loop()
        assert updates.is_stale(loop.time())
        updates.apply(TWO)
        assert (updates.is_stale(loop.time()), updates.is_stale(loop.time() + 1.0)) == (False, True)
        await asyncio.sleep(1.0)
        updates.refresh_soon()
        assert updates.is_woken
        updates.begin_refresh()
        assert (updates.is_woken, updates.is_stale(loop.time())) == (False, False)

    run_virtual(main)


def test_a_renewal_that_found_nothing_does_not_end_a_doubt_about_a_claim() -> None:
    async def main() -> None:
        updates, _, _ = make_updates()
        updates.doubt_claims()
        updates.renewed(Renewed(status=ALONE, has_orphans=False))
        assert updates.has_orphans

    run_virtual(main)


@pytest.mark.parametrize(
    ("status", "has_orphans", "is_woken"),
    [
        (ALONE, False, False),
        (ALONE, True, True),
        (attrs.evolve(ALONE, lapses_in_s=-1.0), False, True),  # a dead member has left something
        (attrs.evolve(TWO, lapses_in_s=30.0), False, True),
    ],
)
def test_the_monitor_of_a_session_that_is_alone_sleeps_on(
    status: TeamStatus, has_orphans: bool, is_woken: bool
) -> None:
    async def main() -> None:
        updates, _, _ = make_updates()
        updates.apply(ALONE)
        waiting = asyncio.ensure_future(updates.changed.wait())
        await asyncio.sleep(1.0)
        updates.renewed(Renewed(status=status, has_orphans=has_orphans))
        await asyncio.sleep(1.0)
        assert waiting.done() == is_woken
        waiting.cancel()

    run_virtual(main)


def test_the_last_other_member_that_goes_is_noticed_by_the_monitor() -> None:
    async def main() -> None:
        updates, _, _ = make_updates()
        updates.apply(TWO)
        waiting = asyncio.ensure_future(updates.changed.wait(5.0))
        await asyncio.sleep(1.0)
        updates.apply(ALONE)
        await asyncio.sleep(0)
        assert waiting.done()

    run_virtual(main)
