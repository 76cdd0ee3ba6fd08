"""What sessions that share a journal decide together: as one session would, no matter which of them asks."""

from __future__ import annotations

import math
from random import Random

import attrs
import pytest

from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.slots import Slots
from hailuo_async._rules.team import End, Grant, Held, MemberStep, TeamState, dump_state, exchange, load_state

NOW = 1000.0
NOTHING = Held()


def make_state() -> TeamState:
    return TeamState.new(Random(7))


def ask(state: TeamState, member: str, held: Held = NOTHING, submits: int = 0, queries: int = 0) -> Grant:
    call = MemberStep(member=member, now=NOW, held=held, submits=submits, queries=queries)
    return exchange(state, call, members=2)


def settled(limit: int) -> TeamState:
    """A team that has found its limit, with nothing running."""
    state = make_state()
    ask(state, "old", submits=3)
    for _ in range(3):
        state.slots.accepted()
    for _ in range(limit - 3):
        state.submit_leaves(NOW)
        state.slots.accepted()
    state.submit_leaves(NOW)
    state.slots.refused(NOW, NOW)
    state.hold("old", NOTHING)
    return state


def test_two_members_together_get_what_one_alone_would() -> None:
    state = make_state()
    assert ask(state, "a", submits=2).submits == 2
    assert ask(state, "b", submits=2).submits == 1
    assert ask(state, "b", Held(inflight=1), submits=1).submits == 0
    alone = Slots(None, Random(7))
    while alone.may_start(NOW) <= NOW:
        alone.started(NOW)
    assert state.slots.running == alone.running == 3


def test_a_member_that_was_granted_nothing_reads_from_the_state_when_to_ask_again() -> None:
    state = settled(3)
    ask(state, "a", submits=3)
    assert ask(state, "b", submits=1).submits == 0
    assert state.submit_opens_at(NOW) > NOW


def test_no_post_leaves_before_the_team_may_send_again_and_queries_do() -> None:
    state = make_state()
    state.submits_from = NOW + 30.0
    assert ask(state, "a", submits=1, queries=1) == Grant(submits=0, queries=1, query_at=NOW)
    assert state.submit_opens_at(NOW) == NOW + 30.0
    assert load_state(dump_state(state), Random(7)).submits_from == NOW + 30.0


def test_what_a_dead_member_held_counts_until_it_is_buried() -> None:
    state = settled(3)
    ask(state, "dead", Held(settled=3))
    assert ask(state, "alive", submits=1).submits == 0
    state.bury("dead", NOW)
    assert ask(state, "alive", submits=3).submits == 3


def test_a_burial_leaves_alone_what_others_did_since_their_last_step() -> None:
    state = settled(4)
    ask(state, "dead", Held(settled=1))
    ask(state, "alive", submits=3)
    for _ in range(2):
        state.slots.released()  # in its view of the team, before a step states it
    state.bury("dead", NOW)
    assert state.slots.running == 1


def test_each_call_states_anew_what_its_member_holds_so_nothing_drifts() -> None:
    state = settled(3)
    ask(state, "a", submits=3)
    ask(state, "a", Held(settled=1))  # two of its POSTs came to nothing, and nobody told
    assert state.slots.running == 1
    assert ask(state, "b", submits=3).submits == 2


def test_changes_count_before_what_is_granted_with_them() -> None:
    state = settled(3)
    ask(state, "a", Held(settled=3))
    ended = MemberStep(member="a", now=NOW, held=Held(settled=2), changes=(lambda team: team.slots.ended(),), submits=1)
    assert exchange(state, ended, members=1).submits == 1


def test_requests_of_all_members_count_against_one_rate() -> None:
    state = make_state()
    state.rate_limiter.learn(NOW, RateHeaders(limit=100, remaining=100, reset_at=60.0, date=0.0), NOW)
    granted = 0
    for number in range(100):
        granted += ask(state, f"member {number}", queries=4).queries
    remaining = state.rate_limiter.remaining(NOW)
    assert remaining is not None
    assert 0 < granted == 100 - remaining
    last = ask(state, "a", queries=4)
    assert last.queries == 0
    assert last.query_at > NOW


@pytest.mark.parametrize(("members", "queries"), [(1, 4), (2, 2), (4, 1), (200, 1)])
def test_no_member_keeps_more_requests_for_itself_than_its_share_of_a_few_seconds(members: int, queries: int) -> None:
    state = make_state()
    state.rate_limiter.learn(NOW, RateHeaders(limit=100, remaining=20, reset_at=60.0, date=0.0), NOW)  # one a second
    call = MemberStep(member="a", now=NOW, held=NOTHING, queries=4)
    assert exchange(state, call, members).queries == queries


def test_the_requests_that_a_dead_member_did_not_use_are_waited_for_no_longer() -> None:
    state = make_state()
    headers = RateHeaders(limit=100, remaining=100, reset_at=60.0, date=0.0)
    state.rate_limiter.learn(NOW, headers, NOW)
    ask(state, "dead", queries=4)
    state.bury("dead", NOW)
    assert state.held == {}
    state.rate_limiter.learn(NOW, attrs.evolve(headers, remaining=50), NOW)
    assert state.rate_limiter.remaining(NOW) == 50  # nothing is in flight


def test_each_end_is_taught_once_and_only_the_last_are_kept() -> None:
    state = make_state()
    ends = [End("a", ("model", 6, "768P"), 3.0, 4.0 + number, 5.0) for number in range(40)]
    for end in ends:
        state.teach(end)
    assert list(state.ends_since(38)) == ends[38:]
    assert list(state.ends_since(40)) == []
    assert list(state.ends_since(0)) == ends[-len(state.ends) :]
    assert len(state.ends) < 40


def test_the_state_comes_back_from_its_text_as_it_was() -> None:
    state = settled(5)
    ask(state, "a", submits=2, queries=3)
    state.rate_limiter.sent(NOW, Use.QUERY)
    state.rate_limiter.refused(NOW, RateHeaders(), NOW)
    state.teach(End("a", ("model", 6, None), 3.0, 4.0, 5.0))
    again = load_state(dump_state(state), Random(1))
    assert dump_state(again) == dump_state(state)
    assert (again.held, again.ends, again.ended) == (state.held, state.ends, state.ended)
    assert again.slots.may_start(NOW) == state.slots.may_start(NOW)
    assert again.rate_limiter.may_send(NOW, Use.QUERY) == state.rate_limiter.may_send(NOW, Use.QUERY)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "no JSON", '{"slots":{},"budget":{},"held":{},"ends":[]}'])
def test_a_text_that_says_nothing_is_a_new_team(text: str | None) -> None:
    assert dump_state(load_state(text, Random(7))) == dump_state(make_state())


def test_a_count_that_is_put_right_opens_the_slots_again() -> None:
    slots = Slots(None, Random(7))
    for _ in range(3):
        slots.started(NOW)
    assert slots.may_start(NOW) == math.inf
    slots.recount(1, 0)
    assert slots.may_start(NOW) == NOW


def test_members_that_wait_for_a_request_are_each_booked_for_a_time_of_their_own() -> None:
    """They ask once each, however many they are."""
    state = make_state()
    state.rate_limiter.sent(NOW, Use.SUBMIT)
    state.rate_limiter.learn(NOW, RateHeaders(limit=60, remaining=59, reset_in_s=60.0), NOW)
    calls = [
        MemberStep(member=f"m{number}", now=NOW, held=Held(settled=1), queries=4, is_query_due=number < 30)
        for number in range(40)
    ]
    grants = [exchange(state, call, members=40) for call in calls]
    reserved = [grant.query_at for grant in grants if grant.queries and grant.query_at > NOW]
    assert len(reserved) >= 5
    assert reserved == sorted(set(reserved))
    assert max(reserved) <= NOW + 15.0
    later = [grant for call, grant in zip(calls, grants, strict=True) if not call.is_query_due]
    assert all(grant.queries == 0 < grant.query_at - NOW for grant in later)


def test_who_follows_jobs_is_known_until_it_says_otherwise_or_is_dead() -> None:
    state = make_state()
    for member in ("a", "b", "c"):
        ask(state, member, Held(follows=True))
    assert load_state(dump_state(state), Random(7)).followers("a") == {"b", "c"}
    ask(state, "b", NOTHING)
    state.bury("c", NOW)
    assert state.followers("nobody") == {"a"}
