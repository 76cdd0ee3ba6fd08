"""A 429 that the service's own count denies: it closes the gate for a moment, not for the rest of the window."""

from __future__ import annotations

from hailuo_async._rules.budget import Budget, Use
from hailuo_async._rules.rate_headers import RateHeaders

ROOM = RateHeaders(limit=100, remaining=80)
"""What every answer here says, the refusals too. The window began at 0.0 and ends at 60.0."""


def make_budget() -> Budget:
    budget = Budget()
    answer(budget, 0.0)
    return budget


def answer(budget: Budget, at: float) -> None:
    budget.sent(at, Use.QUERY)
    budget.learn(at, ROOM, at)


def refuse(budget: Budget, at: float, headers: RateHeaders = ROOM) -> float | None:
    """When the gate opens again, after a 429 at ``at``."""
    budget.sent(at, Use.QUERY)
    budget.learn(at, headers, at)
    budget.refused(at, headers, at)
    return budget.closed_until


def test_a_429_with_requests_left_closes_for_a_second_however_many_come_among_other_answers() -> None:
    budget = make_budget()
    for at in (1.0, 2.0, 3.0):
        answer(budget, at)
        assert refuse(budget, at) == at + 1.0
    assert budget.may_send(3.5, Use.SUBMIT) == 4.0
    assert budget.may_send(4.0, Use.SUBMIT) <= 4.0


def test_it_closes_for_twice_as_long_each_time_that_the_next_answer_is_a_refusal_too() -> None:
    budget = make_budget()
    answer(budget, 1.0)
    assert [refuse(budget, at) for at in (1.0, 2.0, 4.0, 8.0)] == [2.0, 4.0, 8.0, 16.0]
    answer(budget, 16.0)
    assert refuse(budget, 16.0) == 17.0


def test_it_never_closes_beyond_the_window_unless_the_service_asks_for_that() -> None:
    budget = make_budget()
    assert [refuse(budget, at) for at in (1.0, 5.0, 15.0, 30.0, 50.0)][-1] == 60.0
    assert refuse(make_budget(), 1.0, RateHeaders(limit=100, remaining=80, retry_after_s=90.0)) == 91.0


def test_a_429_with_none_left_until_nobody_knows_when_may_be_chance_and_closes_for_long_if_it_is_none() -> None:
    budget, none_left = make_budget(), RateHeaders(limit=100, remaining=0)
    answer(budget, 1.0)
    assert [refuse(budget, at, none_left) for at in (1.0, 2.0, 4.0, 19.0)] == [2.0, 4.0, 19.0, 34.0]
    answer(budget, 34.0)
    assert refuse(budget, 34.0, none_left) == 35.0


def test_a_429_that_tells_of_no_requests_left_closes_for_the_window() -> None:
    assert refuse(make_budget(), 1.0, RateHeaders(100, 0, reset_at=1050.0, date=1000.0)) == 52.0
