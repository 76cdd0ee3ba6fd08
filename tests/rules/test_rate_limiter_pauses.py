"""A 429 that the service's own count denies: it closes the gate for a moment, not for the rest of the window."""

from __future__ import annotations

from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.rate_limiter import RateLimiter

ROOM = RateHeaders(limit=100, remaining=80)
"""What every answer here says, the refusals too. The window began at 0.0 and ends at 60.0."""


def make_limiter() -> RateLimiter:
    limiter = RateLimiter()
    answer(limiter, 0.0)
    return limiter


def answer(limiter: RateLimiter, at: float) -> None:
    limiter.sent(at, Use.QUERY)
    limiter.learn(at, ROOM, at)


def refuse(limiter: RateLimiter, at: float, headers: RateHeaders = ROOM) -> float | None:
    """When the gate opens again, after a 429 at ``at``."""
    limiter.sent(at, Use.QUERY)
    limiter.learn(at, headers, at)
    limiter.refused(at, headers, at)
    return limiter.closed_until


def test_a_429_with_requests_left_closes_for_a_second_however_many_come_among_other_answers() -> None:
    limiter = make_limiter()
    for at in (1.0, 2.0, 3.0):
        answer(limiter, at)
        assert refuse(limiter, at) == at + 1.0
    assert limiter.may_send(3.5, Use.SUBMIT) == 4.0
    assert limiter.may_send(4.0, Use.SUBMIT) <= 4.0


def test_it_closes_for_twice_as_long_each_time_that_the_next_answer_is_a_refusal_too() -> None:
    limiter = make_limiter()
    answer(limiter, 1.0)
    assert [refuse(limiter, at) for at in (1.0, 2.0, 4.0, 8.0)] == [2.0, 4.0, 8.0, 16.0]
    answer(limiter, 16.0)
    assert refuse(limiter, 16.0) == 17.0


def test_it_never_closes_beyond_the_window_unless_the_service_asks_for_that() -> None:
    limiter = make_limiter()
    assert [refuse(limiter, at) for at in (1.0, 5.0, 15.0, 30.0, 50.0)][-1] == 60.0
    assert refuse(make_limiter(), 1.0, RateHeaders(limit=100, remaining=80, retry_after_s=90.0)) == 91.0


def test_a_429_with_none_left_until_nobody_knows_when_may_be_chance_and_closes_for_long_if_it_is_none() -> None:
    limiter, none_left = make_limiter(), RateHeaders(limit=100, remaining=0)
    answer(limiter, 1.0)
    assert [refuse(limiter, at, none_left) for at in (1.0, 2.0, 4.0, 19.0)] == [2.0, 4.0, 19.0, 34.0]
    answer(limiter, 34.0)
    assert refuse(limiter, 34.0, none_left) == 35.0


def test_a_429_that_tells_of_no_requests_left_closes_for_the_window() -> None:
    assert refuse(make_limiter(), 1.0, RateHeaders(100, 0, reset_at=1050.0, date=1000.0)) == 52.0
