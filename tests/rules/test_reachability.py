"""A service that cannot be reached is tried less and less often, by all requests together."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hailuo_async._rules.reachability import Reachability


def test_the_pause_is_doubled_up_to_half_a_minute_and_begins_anew_once_it_was_reached() -> None:
    rule, now, pauses = Reachability(Random(0)), 0.0, []
    for _ in range(10):
        assert rule.failed(now)
        pauses.append(rule.opens_at - now)
        now = rule.opens_at
    assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses[:6]))
    assert all(15 <= pause <= 30 for pause in pauses[6:])
    assert rule.failures == 10
    rule.reached()
    assert rule.failed(now)
    assert (rule.failures, rule.opens_at - now <= 0.5) == (1, True)


def test_a_row_of_failures_begins_with_the_first_one_since_it_was_reached_also_while_it_is_held_back() -> None:
    rule = Reachability(Random(0))
    rule.failed(0)
    rule.failed(400)
    assert rule.failing_since == 0
    rule.reached()
    assert not rule.failed(400.1)
    assert rule.failing_since == 400.1


@given(st.lists(st.floats(0, 100), min_size=1))
def test_failures_while_it_is_held_back_are_not_new_ones(delays: list[float]) -> None:
    rule, now = Reachability(Random(0)), 0.0
    for delay in delays:
        now += delay
        opens_at, failures = rule.opens_at, rule.failures
        is_new = rule.failed(now)
        assert is_new == (now >= opens_at)
        assert (rule.failures, rule.opens_at >= now) == (failures + is_new, True)
