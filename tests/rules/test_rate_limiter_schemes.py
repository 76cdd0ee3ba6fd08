"""The rate limiter behind gateways that count in any way: what it finds, and what must hold for all of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import limiters
from benchmarks.limiters import Bucket, Chance, Count, FixedWindow, SlidingCounter, SlidingLog, Style
from benchmarks.schemes import SCHEMES, Scheme
from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders, read_rate_headers
from hailuo_async._rules.rate_limiter import RateLimiter
from hailuo_async.contract import SMALLEST_REQUEST_LIMIT
from hailuo_async.testing.in_memory import DEFAULT_EPOCH

#: From the client to the gateway, and back.
TRIP_S = 0.05


@attrs.define
class Demand:
    """A client that would always send, mostly queries, through a rate limiter to a gateway."""

    count: Count
    style: Style
    rng: Random
    most: int = 6
    """Requests in flight at once."""
    limiter: RateLimiter = attrs.field(factory=RateLimiter)
    now: float = 0.0
    taken: int = 0
    refused: int = 0
    _flight: deque[tuple[float, float, RateHeaders, bool]] = attrs.field(factory=deque)
    _last_sent_at: float = 0.0

    def run(self, until: float) -> None:
        """Sends and hears until then. Each wait is one that the limiter asked for, or for the next answer."""
        while self.now < until:
            use = Use.SUBMIT if self.rng.random() < 0.2 else Use.QUERY
            opens_at = self._opens_at(use)
            if opens_at <= self.now and len(self._flight) < self.most:
                self._send(use)
                continue
            updated_at = self._flight[0][0] if self._flight else math.inf
            self.now = min(updated_at, opens_at if opens_at > self.now else math.inf)
            if updated_at <= self.now:
                self._hear()

    def _opens_at(self, use: Use) -> float:
        opens_at = self.limiter.may_send(self.now, use)
        assert opens_at <= self.now or self.now < opens_at <= self.now + 300
        assert (self.limiter.remaining(self.now) or 0) >= 0
        rate = self.limiter.query_rate(self.now, 0.5)
        assert rate is None or rate > 0
        return opens_at

    def _send(self, use: Use) -> None:
        assert self.now - self._last_sent_at <= 301  # closed for five minutes at most, by an answer that took its time
        self._last_sent_at = sent_at = self.now
        arrives_at = DEFAULT_EPOCH + self.now + TRIP_S
        self.limiter.sent(self.now, use)
        is_taken = self.count.take(arrives_at)
        headers = self.style(self.count.state(arrives_at), is_taken, arrives_at)
        read = read_rate_headers({**headers, "Date": formatdate(arrives_at, usegmt=True)})
        self._flight.append((self.now + 2 * TRIP_S, sent_at, read, is_taken))

    def _hear(self) -> None:
        _, sent_at, headers, is_taken = self._flight.popleft()
        self.limiter.learn(self.now, headers, sent_at)
        self.taken += is_taken
        if not is_taken:
            self.refused += 1
            self.limiter.refused(self.now, headers, sent_at)


def demand(scheme: Scheme, per_minute: int, seed: int = 0) -> Demand:
    assert scheme.count is not None
    return Demand(scheme.count(per_minute), scheme.style, Random(seed))


LIMITING = [scheme for scheme in SCHEMES if scheme.count is not None]


@pytest.mark.slow
@pytest.mark.parametrize("per_minute", [100, 1000])
@pytest.mark.parametrize("scheme", LIMITING, ids=lambda scheme: scheme.name)
def test_what_the_gateway_bears_is_found_and_nearly_nothing_is_refused(scheme: Scheme, per_minute: int) -> None:
    found = demand(scheme, per_minute)
    found.run(600.0)
    assert found.taken >= 0.75 * 10 * per_minute
    assert found.refused <= (0.04 if scheme.efficiency < 0.9 else 0.02) * found.taken


@pytest.mark.parametrize("name", ["1 s, no headers", "sliding log, Unix", "bucket, its burst, Unix"])
def test_a_limit_that_moves_is_followed(name: str) -> None:
    scheme = next(scheme for scheme in SCHEMES if scheme.name == name)
    assert scheme.count is not None
    found = demand(scheme, 200, seed=1)
    found.run(200.0)
    found.count, found.taken, found.refused = scheme.count(100), 0, 0
    found.run(500.0)
    assert found.taken >= 0.7 * 5 * 100
    assert found.refused <= 0.1 * found.taken
    found.count, found.taken = scheme.count(200), 0
    found.run(800.0)
    assert found.taken >= 0.6 * 5 * 200


def behind(lag_s: float) -> Style:
    return limiters.numbers(lambda state, now: str(math.ceil(now - lag_s + state.reset_in_s)))


@pytest.mark.parametrize("lag_s", [1.0, 8.0])
@pytest.mark.parametrize("window_s", [1.0, 10.0, 60.0])
def test_resets_by_a_clock_that_is_behind_that_of_the_dates_are_understood(window_s: float, lag_s: float) -> None:
    found = Demand(FixedWindow(round(6 * window_s), window_s), behind(lag_s), Random(0))
    found.run(300.0)
    assert found.taken >= 0.9 * 6 * 300
    assert found.refused <= 0.02 * found.taken


@pytest.mark.parametrize("window_s", [1.0, 6.0])
def test_one_of_several_gateways_whose_clock_is_behind_hardly_slows_down_the_others(window_s: float) -> None:
    rng, late, others = Random(1), behind(8.0), limiters.unix
    found = Demand(
        FixedWindow(round(16 * window_s), window_s),
        lambda state, is_taken, now: (late if rng.random() < 0.1 else others)(state, is_taken, now),
        Random(0),
        most=30,
    )
    found.run(120.0)
    assert found.taken >= 0.8 * 16 * 120
    assert found.refused <= 0.02 * found.taken


def test_a_gateway_that_refuses_at_random_slows_down_and_does_not_stop() -> None:
    found = Demand(Chance(0.2, Random(1)), limiters.silent, Random(0))
    found.run(3600.0)
    assert found.taken >= 0.75 * 60 * SMALLEST_REQUEST_LIMIT / 4
    assert found.refused <= 0.3 * found.taken


def test_headers_that_begin_to_speak_are_heard() -> None:
    found = Demand(FixedWindow(100, 60.0), limiters.silent, Random(0))
    found.run(90.0)
    assert found.limiter.remaining(found.now) is None
    found.style = limiters.unix
    found.run(100.0)
    assert found.limiter._limit == 100
    assert found.limiter.remaining(found.now) is not None


def test_windows_are_believed_in_again_when_the_count_jumps_to_full() -> None:
    found = Demand(SlidingCounter(100, 60.0), limiters.unix, Random(0))
    found.run(150.0)
    found.count, found.refused = FixedWindow(100, 60.0), 0
    found.run(400.0)
    found.taken, found.refused = 0, 0
    found.run(1000.0)
    assert found.taken >= 900
    assert found.refused == 0


def test_one_429_without_headers_does_not_shake_the_belief_in_windows_that_were_told() -> None:
    found = Demand(FixedWindow(100, 60.0), limiters.unix, Random(0))
    found.run(100.5)
    limiter, at = found.limiter, found.now + 300.0
    bare(limiter, at, is_refused=True)
    assert limiter.remaining(at + 16.0) is not None
    assert limiter.may_send(at + 16.0, Use.SUBMIT) <= at + 16.0


def test_headers_that_stop_are_not_believed_for_ever() -> None:
    found = Demand(SlidingLog(100, 60.0), limiters.unix, Random(0))
    found.run(200.0)
    assert found.limiter.remaining(found.now) is not None
    found.style = limiters.silent
    found.run(400.0)
    assert found.limiter.remaining(found.now) is None
    found.taken = 0
    found.run(1000.0)
    assert found.taken >= 700


# --- Without a word ---


def bare(limiter: RateLimiter, at: float, *, is_refused: bool) -> None:
    limiter.sent(at, Use.QUERY)
    limiter.learn(at + 0.1, RateHeaders(), at)
    if is_refused:
        limiter.refused(at + 0.1, RateHeaders(), at)


def test_a_429_that_says_nothing_closes_for_a_second_and_then_lets_one_request_see() -> None:
    limiter = RateLimiter()
    bare(limiter, 0.0, is_refused=False)
    bare(limiter, 0.5, is_refused=True)
    assert limiter.remaining(0.6) is None
    closed_until = limiter.closed_until
    assert closed_until is not None
    assert closed_until == pytest.approx(1.6)
    assert {limiter.may_send(0.7, use) for use in Use} == {closed_until}
    limiter.sent(1.7, Use.SUBMIT)
    assert limiter.may_send(1.75, Use.SUBMIT) > 2.0
    limiter.learn(1.8, RateHeaders(), 1.7)
    assert limiter.may_send(4.0, Use.SUBMIT) <= 4.0


def test_each_refusal_in_a_row_closes_for_twice_as_long_up_to_eight_seconds() -> None:
    limiter, at, waits = RateLimiter(), 0.0, []
    for _ in range(7):
        bare(limiter, at, is_refused=True)
        waits.append(round((limiter.closed_until or 0.0) - at - 0.1, 3))
        at = limiter.closed_until or 0.0
    assert waits == [2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0]


def test_a_minutes_worth_before_the_first_refusal_is_taken_for_the_minutes_limit() -> None:
    limiter = RateLimiter()
    for number in range(100):
        bare(limiter, number / 10, is_refused=False)
    bare(limiter, 10.0, is_refused=True)
    for at in (11.2, 13.4, 21.5, 29.6, 37.7):
        bare(limiter, at, is_refused=True)
    bare(limiter, 45.8, is_refused=False)
    bare(limiter, 46.8, is_refused=False)
    assert limiter.query_rate(47.0, 0.0) == pytest.approx(100 / 60, rel=0.01)


def test_milliseconds_are_told_from_seconds_by_the_first_that_cannot_be_seconds() -> None:
    limiter = RateLimiter()
    for at, number in ((0.0, 59_000.0), (58.9, 100.0)):
        limiter.sent(at, Use.QUERY)
        limiter.learn(at, RateHeaders(100, 0, date=1000.0 + at, reset_number=number), at)
    assert 59.0 <= limiter.may_send(58.95, Use.SUBMIT) <= 60.1


def test_the_request_that_told_of_a_short_window_counts_in_it() -> None:
    limiter = RateLimiter()
    for at, left, reset_at in ((0.0, 1, 1001.0), (2.0, 1, 1003.0), (2.1, 0, 1003.0)):
        limiter.sent(at, Use.SUBMIT)
        limiter.learn(at + 0.1, RateHeaders(2, left, reset_at=reset_at, date=reset_at - 1), at)
    assert 3.0 <= limiter.may_send(2.8, Use.QUERY) <= 3.2


# --- Whatever happens ---

COUNTS: list[Callable[[int], Count]] = [
    *[lambda limit, s=s: FixedWindow(limit, s) for s in (1.0, 2.0, 6.0, 60.0, 600.0)],
    lambda limit: SlidingLog(limit, 60.0),
    lambda limit: SlidingCounter(limit, 60.0),
    lambda limit: Bucket(1, limit / 60, limit),
    lambda limit: Bucket(limit, limit / 60, limit),
]
STYLES: list[Style] = [
    limiters.silent,
    limiters.retry_after,
    limiters.unix,
    limiters.unix_ms,
    limiters.seconds,
    limiters.milliseconds,
    limiters.http_date,
    limiters.no_reset,
    limiters.draft_3,
    limiters.draft_8,
    limiters.requests_names,
]


@pytest.mark.slow
@settings(max_examples=50, derandomize=True)
@given(
    st.sampled_from(COUNTS),
    st.sampled_from([*STYLES, behind(4.0), behind(-4.0)]),
    st.integers(1, 60),
    st.integers(1, 8),
    st.integers(0, 999),
)
def test_no_gateway_whatever_shuts_the_gate_for_long_or_has_it_turn_in_circles(
    make: Callable[[int], Count], style: Style, limit: int, most: int, seed: int
) -> None:
    """``Demand`` holds each wait to five minutes; nor are there only waits, without a request between them."""
    found = Demand(make(limit), style, Random(seed), most=most)
    found.run(120.0)
    before = found.taken + found.refused
    found.run(720.0)
    assert found.taken + found.refused > before


@pytest.mark.slow
@settings(max_examples=50, derandomize=True)
@given(st.sampled_from(STYLES[2:7] + STYLES[8:]), st.integers(5, 200), st.integers(1, 8), st.integers(0, 999))
def test_in_honest_windows_of_a_minute_no_request_is_refused(style: Style, limit: int, most: int, seed: int) -> None:
    found = Demand(FixedWindow(limit, 60.0), style, Random(seed), most=1)
    found.run(1.0)
    found.most = most
    found.run(400.0)
    assert found.refused == 0
