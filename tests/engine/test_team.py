"""What a session tells its team, and how it asks for its share: step by step, without a journal."""

from __future__ import annotations

import asyncio
from random import Random
from typing import cast

import attrs
import pytest

from hailuo_async import JournalError
from hailuo_async._engine.team import Team
from hailuo_async._io.journal.records import Permit
from hailuo_async._io.journal.team_values import Renewed, StepDone, TeamStatus
from hailuo_async._io.journal.writer import JournalWriter
from hailuo_async._rules.cadence import Cadence
from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.team import Held
from hailuo_async.testing import run_virtual

ALONE = TeamStatus(state=None, members=1, first=None)
TWO = TeamStatus(state=None, members=2, first=None)


@attrs.define
class Journal:
    """Notes what is asked of it."""

    holder: str = "the name of us"
    commits: int = 0
    unsent: list[str] = attrs.field(factory=list)

    def commit_soon(self) -> None:
        self.commits += 1

    def unsent_nowait(self, identity: str, sent_at: float) -> None:
        self.unsent.append(identity)


def make_team(members: int = 2) -> tuple[Team, Journal]:
    """A session that has just learned that it is one of so many."""
    journal, rng = Journal(), Random(0)
    team = Team.make(cast(JournalWriter, journal), None, rng, Cadence(0.5, 30.0, rng))
    team.updates.apply(attrs.evolve(ALONE, members=members))
    journal.commits = 0
    return team, journal


def asks(team: Team, identity: str, since: float) -> asyncio.Future[Permit]:
    """A job that may leave by the view asks for its grant."""
    now = asyncio.get_running_loop().time()
    team.slots.started(now)
    team.rate_limiter.sent(now, Use.SUBMIT)
    return team.ask_to_send(identity, now, since)


def answered(*permits: Permit, queries: int = 0) -> StepDone:
    return StepDone(status=TWO, permits=permits, queries=queries, query_at=0.0)


def test_who_has_nothing_to_say_makes_no_step() -> None:
    async def main() -> None:
        team, journal = make_team()
        assert team.compose() is None
        assert journal.commits == 0

    run_virtual(main)


def test_a_step_states_what_the_session_holds_and_asks_in_the_order_of_the_line() -> None:
    async def main() -> None:
        team, journal = make_team()
        team.slots.adopted()
        answers = [asks(team, "young", 7.0), asks(team, "old", 5.0), asks(team, "late", 9.0)]
        assert team.slots.running == 4
        step = team.compose()
        assert step is not None
        assert ([turn.identity for turn in step.turns], step.held) == (["old", "young", "late"], Held(settled=1))
        assert (len(step.changes), journal.commits > 0) == (1, True)
        assert team.compose() is None  # as long as it is under way
        team.stepped(step, answered(Permit.GRANTED, Permit.TAKEN, Permit.LATER))
        assert [await answer for answer in answers] == [Permit.TAKEN, Permit.GRANTED, Permit.LATER]
        assert (team.slots.inflight, team.slots.tentative, team.rate_limiter.requests) == (2, 0, 2)
        assert team.view.stated == step.held

    run_virtual(main)


@pytest.mark.parametrize(("since", "commits"), [(5.0, 0), (4.0, 1), (None, 1)])
def test_a_place_is_told_again_only_if_it_is_another_once_those_that_were_granted_nothing_wait_again(
    since: float | None, commits: int
) -> None:
    async def main() -> None:
        team, journal = make_team()
        answer = asks(team, "job", 5.0)
        await asyncio.sleep(0)
        answer.add_done_callback(lambda _: setattr(team.line, "waits_since", lambda: since))
        step = team.compose()
        assert step is not None
        journal.commits = 0
        team.stepped(step, attrs.evolve(answered(Permit.LATER), status=attrs.evolve(TWO, place=5.0)))
        await asyncio.sleep(0.1)
        assert journal.commits == commits

    run_virtual(main)


def test_a_grant_whose_caller_has_left_is_given_back() -> None:
    async def main() -> None:
        team, journal = make_team()
        asks(team, "gone", 5.0).cancel()
        step = team.compose()
        assert step is not None
        team.stepped(step, answered(Permit.GRANTED))
        assert (journal.unsent, team.slots.running, team.rate_limiter.requests) == (["gone"], 0, 0)
        following = team.compose()
        assert following is not None
        assert len(following.changes) == 2

    run_virtual(main)


def test_a_step_that_failed_granted_nothing_and_is_told_again() -> None:
    async def main() -> None:
        team, journal = make_team()
        woken: list[int] = []
        team.updates.on_change = lambda: woken.append(1)
        team.slots.adopted()
        answer = asks(team, "job", 5.0)
        step = team.compose()
        assert step is not None
        before = journal.commits
        team.failed(step, JournalError(path="journal", reason="it is full"))
        with pytest.raises(JournalError):
            await answer
        assert (team.slots.running, team.all_running, woken) == (1, 1, [1])
        await asyncio.sleep(2.0)
        assert journal.commits > before
        again = team.compose()
        assert again is not None
        assert (again.changes, again.turns) == (step.changes, ())

    run_virtual(main)


def test_what_a_step_that_others_forestalled_had_to_tell_goes_into_the_next_one() -> None:
    async def main() -> None:
        team, _ = make_team()
        team.slots.adopted()
        step = team.compose()
        assert step is not None
        team.stepped(step, attrs.evolve(answered(), is_made=False))
        again = team.compose()
        assert again is not None
        assert again.changes == step.changes

    run_virtual(main)


def test_the_dead_are_told_once() -> None:
    async def main() -> None:
        team, _ = make_team()
        team.bury(("they",))
        first = team.compose()
        assert first is not None
        team.stepped(first, answered())
        team.slots.adopted()
        second = team.compose()
        assert second is not None
        assert (first.buried, second.buried) == (("they",), ())

    run_virtual(main)


def test_who_begins_to_follow_publishes_it_and_refreshes_once_the_others_know() -> None:
    async def main() -> None:
        team, journal = make_team()
        team.follow()
        assert journal.commits == 1
        step = team.compose()
        assert step is not None
        assert (step.held.follows, team.updates.is_woken) == (True, False)
        team.stepped(step, answered())
        assert team.updates.is_woken
        team.follow()
        assert (journal.commits, team.compose()) == (1, None)

    run_virtual(main)


def test_who_is_woken_while_it_waits_asks_for_its_turn_or_refreshes_if_it_does_not_come_to_that() -> None:
    async def main() -> None:
        team, _ = make_team()
        team.line.waits_since = lambda: 0.0
        step = team.compose()  # it tells its place
        assert step is not None
        team.stepped(step, StepDone(status=attrs.evolve(TWO, place=0.0), permits=(), queries=0, query_at=0.0))
        team.woken()
        assert (team.updates.is_woken, team.line.is_called) == (True, False)  # it is up to date
        team.updates.begin_refresh()
        await asyncio.sleep(1.0)
        now = asyncio.get_running_loop().time()
        team.woken()
        assert (team.updates.is_woken, team.line.is_called) == (False, True)
        assert (team.slots.may_start(now), team.rate_limiter.may_send(now, Use.SUBMIT)) == (now, now)
        await asyncio.sleep(1.0)
        assert (team.updates.is_woken, team.line.is_called) == (True, False)

    run_virtual(main)


def test_a_call_goes_with_the_step_that_asks_for_the_turn() -> None:
    async def main() -> None:
        team, _ = make_team()
        team.line.call()
        asks(team, "job", 5.0)
        assert team.slots.may_start(10.0) > 10.0  # one at a time
        step = team.compose()
        assert step is not None
        assert (step.is_called, team.line.is_called) == (True, False)

    run_virtual(main)


def test_a_renewal_tells_what_was_left_until_it_is_taken_up() -> None:
    async def main() -> None:
        team, _ = make_team()
        team.renewed(Renewed(status=attrs.evolve(TWO, lapses_in_s=3.0), has_orphans=True))
        assert (team.updates.has_orphans, team.updates.lapses_at) == (True, asyncio.get_running_loop().time() + 3.0)
        team.updates.begin_take_over()
        assert team.updates.has_orphans is False

    run_virtual(main)


def test_how_long_a_task_took_goes_with_a_step_that_is_made_in_any_case() -> None:
    async def main() -> None:
        team, journal = make_team(members=1)
        team.ended(("m",), 1.00049, 2.0, 3.0)
        assert (journal.commits, team.compose()) == (0, None)
        [end] = team.view.state.ends
        assert (end.member, end.young_s) == ("me of us", 1.0)

    run_virtual(main)


def test_queries_take_their_requests_from_a_stock_where_a_limit_is_shared() -> None:
    async def main() -> None:
        team, _ = make_team()
        now = asyncio.get_running_loop().time()
        assert team.rate_limiter.may_send(now, Use.QUERY) == now  # no limit is known
        team.rate_limiter.sent(now, Use.QUERY)
        team.rate_limiter.learn(now, RateHeaders(limit=60, remaining=50), now)
        assert team.rate_limiter.may_send(now, Use.QUERY) > now
        step = team.compose()
        assert step is not None
        assert (step.queries > 0, step.is_query_due, step.held.requests) == (True, True, 0)
        team.stepped(step, answered(queries=2))
        for left in (1, 0):
            assert team.rate_limiter.may_send(now, Use.QUERY) <= now
            team.rate_limiter.sent(now, Use.QUERY)
            assert team.rate_limiter.requests == 2, left
        assert team.rate_limiter.may_send(now, Use.QUERY) > now

    run_virtual(main)
