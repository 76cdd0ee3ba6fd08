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
from hailuo_async._engine.team_news import TeamNews
from hailuo_async._engine.team_view import TeamView
from hailuo_async._io.journal.team_values import News, Renewed
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.team import TeamState, dump_state
from hailuo_async.testing import run_virtual

ALONE = News(state=None, members=1, first=None)
HEARD = News(state=None, members=2, first=None, gone=3)


def make_news() -> tuple[TeamNews, TeamView, list[str]]:
    """One that has heard nothing, and what it does."""
    did: list[str] = []
    view, changed = TeamView("us", Random(0), lambda: did.append("commit")), Signal()
    line = TeamLine(view, changed)
    lessons = Lessons(Cadence(0.5, 30.0, Random(0)))
    news = TeamNews(view, line, TeamSlots(view, line, None), lessons, changed)
    news.on_change = lambda: did.append("change")
    news.on_death = lambda: did.append("death")
    return news, view, did


def test_a_newcomer_is_told_at_once_what_this_session_has() -> None:
    async def main() -> None:
        news, _, did = make_news()
        news.hear(HEARD)
        news.hear(HEARD)
        assert did == ["commit", "change", "change"]

    run_virtual(main)


@pytest.mark.parametrize(
    ("at", "is_set"), [(None, False), (1_005.0, False), (995.0, False), (980.0, True), (1_060.0, True)]
)
def test_a_session_that_does_not_look_notices_when_its_leases_are_renewed_that_the_clock_was_set(
    at: float | None, is_set: bool
) -> None:
    """Else each of its steps would bring back times of the old clock, in the future for all others."""

    async def main() -> None:
        news, view, _ = make_news()
        view.clock.offset_s = 1_000.0
        news.renewed(Renewed(news=HEARD, has_orphans=False, at=at))
        assert news.is_woken is is_set

    run_virtual(main)


def test_a_member_that_has_gone_is_noticed_though_another_came_meanwhile() -> None:
    async def main() -> None:
        for later in (attrs.evolve(HEARD, gone=4), attrs.evolve(HEARD, members=1)):
            news, _, did = make_news()
            news.hear(HEARD)
            did.clear()
            news.hear(later)
            assert did == ["change", "death"]

    run_virtual(main)


def test_a_state_is_seen_with_the_grants_that_are_asked_for() -> None:
    async def main() -> None:
        news, view, _ = make_news()
        news._slots.started(0.0)
        state = TeamState.new(Random(0))
        state.slots.recount(0, 5)
        news.hear(attrs.evolve(HEARD, state=dump_state(state)))
        assert view.state.slots.running == 6

    run_virtual(main)


def test_news_grow_stale() -> None:
    async def main() -> None:
        news, _, _ = make_news()
        loop = asyncio.get_running_loop()
        assert news.is_stale(loop.time())
        news.hear(HEARD)
        assert (news.is_stale(loop.time()), news.is_stale(loop.time() + 1.0)) == (False, True)
        await asyncio.sleep(1.0)
        news.look_soon()
        assert news.is_woken
        news.begin_look()
        assert (news.is_woken, news.is_stale(loop.time())) == (False, False)

    run_virtual(main)


def test_a_renewal_that_found_nothing_does_not_end_a_doubt_about_a_claim() -> None:
    async def main() -> None:
        heard, _, _ = make_news()
        heard.doubt_claims()
        heard.renewed(Renewed(news=ALONE, has_orphans=False))
        assert heard.has_orphans

    run_virtual(main)


@pytest.mark.parametrize(
    ("news", "has_orphans", "is_told"),
    [
        (ALONE, False, False),
        (ALONE, True, True),
        (attrs.evolve(ALONE, lapses_in_s=-1.0), False, True),  # a dead member has left something
        (attrs.evolve(HEARD, lapses_in_s=30.0), False, True),
    ],
)
def test_the_lookout_of_a_session_that_is_alone_sleeps_on(news: News, has_orphans: bool, is_told: bool) -> None:
    async def main() -> None:
        heard, _, _ = make_news()
        heard.hear(ALONE)
        waiting = asyncio.ensure_future(heard.changed.wait())
        await asyncio.sleep(1.0)
        heard.renewed(Renewed(news=news, has_orphans=has_orphans))
        await asyncio.sleep(1.0)
        assert waiting.done() == is_told
        waiting.cancel()

    run_virtual(main)


def test_the_last_other_member_that_goes_is_noticed_by_the_lookout() -> None:
    async def main() -> None:
        heard, _, _ = make_news()
        heard.hear(HEARD)
        waiting = asyncio.ensure_future(heard.changed.wait(5.0))
        await asyncio.sleep(1.0)
        heard.hear(ALONE)
        await asyncio.sleep(0)
        assert waiting.done()

    run_virtual(main)
