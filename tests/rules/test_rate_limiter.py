"""The rate limiter in windows: what may be sent when, and what must hold for any answer of the service."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hailuo_async._rules.even_rate import Use
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.rate_limiter import RateLimiter

#: The server's clock is ten minutes and something ahead of the loop's.
SERVER_S = 1_700_000_000.0 + 600.25
DATE_S = 1_700_000_000.0


def told(now: float, limit: int, remaining: int, reset: float) -> RateHeaders:
    """The headers of an honest answer at ``now``; ``reset`` is in loop seconds."""
    return RateHeaders(limit, remaining, float(math.floor(SERVER_S + reset)), float(math.floor(SERVER_S + now)))


def make_limiter(limit: int, remaining: int, reset: float = 60.0) -> RateLimiter:
    """A limiter that has had one answer at 0.0."""
    limiter = RateLimiter()
    limiter.sent(0.0, Use.QUERY)
    limiter.learn(0.0, told(0.0, limit, remaining, reset), 0.0)
    return limiter


def send_all(limiter: RateLimiter, now: float, use: Use) -> int:
    count = 0
    while limiter.may_send(now, use) <= now and count < 5000:
        limiter.sent(now, use)
        count += 1
    return count


# --- Sending ---


def test_nothing_is_paced_while_no_limit_is_known() -> None:
    limiter = RateLimiter()
    assert send_all(limiter, 0.0, Use.SUBMIT) == 5000
    assert (limiter.remaining(0.0), limiter.closed_until) == (None, None)
    assert limiter.query_rate(0.0, 5.0) is None


def test_a_handful_starts_at_once_and_the_rest_is_spread_over_the_window() -> None:
    limiter = make_limiter(100, 99)
    assert send_all(limiter, 0.0, Use.QUERY) == 29
    opens_at = limiter.may_send(0.0, Use.QUERY)
    assert 0.0 < opens_at < 5.0
    assert send_all(limiter, 30.0, Use.QUERY) == 34


def test_a_roomy_limit_is_not_paced() -> None:
    assert send_all(make_limiter(100_000, 99_999), 0.0, Use.SUBMIT) == 5000


def test_a_tiny_limit_serves_queries_too() -> None:
    limiter = make_limiter(1, 0)
    opens_at = limiter.may_send(0.0, Use.QUERY)
    assert 60.0 <= opens_at <= 62.0
    assert limiter.may_send(opens_at, Use.QUERY) <= opens_at


def test_submits_go_before_queries_and_find_a_request_left_for_each() -> None:
    limiter = make_limiter(100, 99)
    send_all(limiter, 60.9, Use.QUERY)
    assert limiter.remaining(60.9) == 25
    assert send_all(limiter, 60.9, Use.SUBMIT) >= 24


def test_queries_that_are_booked_for_later_delay_no_submit() -> None:
    at_once = []
    for are_booked in (False, True):
        limiter = make_limiter(100, 99)
        send_all(limiter, 40.0, Use.QUERY)
        while are_booked and limiter.can_book(at := limiter.may_send(40.0, Use.QUERY), 48.0):
            limiter.sent(40.0, Use.QUERY, at)
        at_once.append(send_all(limiter, 40.0, Use.SUBMIT))
        assert limiter.may_send(40.0, Use.SUBMIT) > 40.0
    assert at_once[0] == at_once[1] > 3


def test_other_programs_requests_are_seen_in_the_headers_and_obeyed() -> None:
    limiter = make_limiter(100, 99)
    limiter.sent(1.0, Use.QUERY)
    limiter.learn(1.1, told(1.1, 100, 3, 60.0), 1.0)
    assert limiter.remaining(1.1) == 3
    assert send_all(limiter, 1.1, Use.SUBMIT) == 3


def test_an_answer_that_came_late_does_not_give_requests_back() -> None:
    limiter = make_limiter(100, 99)
    for remaining in (90, 95):
        limiter.sent(1.0, Use.QUERY)
        limiter.learn(2.0, told(2.0, 100, remaining, 60.0), 1.0)
    assert limiter.remaining(2.0) == 90


def test_requests_in_flight_count_against_what_is_left() -> None:
    limiter = make_limiter(100, 50)
    limiter.sent(1.0, Use.QUERY)
    limiter.sent(1.0, Use.QUERY)
    assert limiter.remaining(1.0) == 48


def test_an_answer_without_headers_still_counts() -> None:
    limiter = make_limiter(100, 50)
    limiter.sent(1.0, Use.QUERY)
    limiter.learn(2.0, RateHeaders(), 1.0)
    assert limiter.remaining(2.0) == 49


def test_the_window_ends_when_the_server_says_though_its_clock_is_ten_minutes_off() -> None:
    limiter = make_limiter(100, 0, reset=20.0)
    opens_at = limiter.may_send(0.0, Use.SUBMIT)
    assert 20.0 <= opens_at <= 22.0
    assert limiter.may_send(opens_at, Use.SUBMIT) <= opens_at
    assert limiter.remaining(opens_at) == 100


def test_the_end_of_a_window_becomes_more_exact_with_every_answer() -> None:
    limiter = make_limiter(100, 10, reset=20.0)
    first = limiter.may_send(0.0, Use.QUERY) if limiter.remaining(0.0) == 0 else 22.0
    limiter.sent(0.7, Use.QUERY)
    limiter.learn(0.7, told(0.7, 100, 0, 20.0), 0.7)
    assert 20.0 <= limiter.may_send(0.7, Use.SUBMIT) <= first


def test_a_stale_answer_says_nothing_of_the_new_window() -> None:
    limiter = make_limiter(100, 5, reset=20.0)
    limiter.sent(19.0, Use.QUERY)
    stale = told(19.5, 100, 0, 20.0)
    assert limiter.remaining(30.0) == 99
    limiter.learn(30.0, stale, 19.0)
    assert limiter.remaining(30.0) == 99
    limiter.sent(31.0, Use.QUERY)
    limiter.learn(31.0, told(31.0, 100, 70, 80.0), 31.0)
    limiter.learn(31.5, stale, 31.0)
    assert limiter.remaining(31.5) == 70


def test_a_later_reset_opens_the_next_window_before_ours_has_ended() -> None:
    limiter = make_limiter(100, 0, reset=60.0)
    limiter.learn(5.0, told(5.0, 100, 98, 65.0), 5.0)
    assert limiter.remaining(5.0) == 98
    limiter.learn(6.0, told(6.0, 100, 3, 60.0), 4.0)
    assert limiter.remaining(6.0) == 98


def test_answers_that_overtake_each_other_are_no_sign_against_windows() -> None:
    limiter = make_limiter(100, 0, reset=0.0)
    for opened in (10.0, 70.0, 130.0):
        for _ in range(10):
            limiter.sent(opened, Use.SUBMIT)
        for remaining in (97, 98, 96, 95, 94, 93, 92, 91, 90, 99):
            limiter.learn(opened + 20, told(opened + 20, 100, remaining, opened + 50), opened)
    at = limiter.may_send(150.0, Use.SUBMIT) if send_all(limiter, 150.0, Use.SUBMIT) else 0.0
    assert limiter.can_book(at, 180.0)


def test_a_count_that_grows_within_the_window_is_a_sign_though_a_third_of_the_limit_is_in_flight() -> None:
    limiter = make_limiter(60, 30)
    for at, remaining in ((1.0, 29), (10.0, 27), (20.0, 25), (30.0, 23), (40.0, 21)):
        for _ in range(20):
            limiter.sent(at, Use.SUBMIT)
        for number in range(20):
            limiter.learn(at + 5, told(at + 5, 60, remaining - number, 60.0), at)
    send_all(limiter, 45.0, Use.SUBMIT)
    assert limiter.may_send(45.0, Use.QUERY) < 60.0  # it does not wait for the window's end


def test_a_clock_that_was_behind_for_one_answer_is_right_again_later() -> None:
    limiter = RateLimiter()
    for second in range(600):
        at, end = second + 0.5, 60.0 * (second // 60 + 1)
        limiter.sent(at, Use.QUERY)
        limiter.learn(at + 0.1, told(at + 0.1, 100, 99 - second % 60, end - 8 * (second == 57)), at)
    limiter.sent(600.5, Use.QUERY)
    limiter.learn(600.6, told(600.6, 100, 0, 660.0), 600.5)
    assert 660.0 <= limiter.may_send(601.0, Use.SUBMIT) <= 662.0


def test_a_reset_without_a_date_is_no_time_but_names_the_window() -> None:
    limiter = RateLimiter()
    limiter.sent(0.0, Use.QUERY)
    limiter.learn(0.0, RateHeaders(limit=100, remaining=0, reset_at=DATE_S), 0.0)
    assert limiter.may_send(0.0, Use.SUBMIT) == 60.0


@pytest.mark.parametrize(
    "headers", [RateHeaders(100, 0, date=DATE_S, reset_in_s=400.0), RateHeaders(100, 0, reset_number=900_000.0)]
)
def test_a_reset_that_is_too_far_ahead_closes_nothing_for_longer_than_a_window(headers: RateHeaders) -> None:
    limiter = RateLimiter()
    limiter.sent(0.0, Use.QUERY)
    limiter.learn(0.1, headers, 0.0)
    assert limiter.may_send(0.2, Use.SUBMIT) <= 60.1


def test_what_is_left_is_obeyed_without_a_limit() -> None:
    limiter = RateLimiter()
    limiter.sent(0.0, Use.QUERY)
    limiter.learn(0.0, RateHeaders(remaining=4), 0.0)
    assert limiter.remaining(0.0) == 4
    assert limiter.query_rate(0.0, 0.0) == pytest.approx(8 / 120)
    assert send_all(limiter, 0.0, Use.SUBMIT) == 4


@pytest.mark.parametrize("limit", [100, None])
@pytest.mark.parametrize("past_s", [0.0, 1.0, 5.0])
def test_none_left_until_now_holds_nobody_for_more_than_a_moment(limit: int | None, past_s: float) -> None:
    limiter, now = RateLimiter(), 0.0
    for _ in range(30):
        limiter.sent(now, Use.QUERY)
        limiter.learn(now + 0.1, RateHeaders(limit, 0, DATE_S + now - past_s, DATE_S + now), now)
        now += 0.1
        held_s = limiter.may_send(now, Use.QUERY) - now
        assert held_s <= 2.0
        rate = limiter.query_rate(now, 0.0)
        assert rate is None or rate > 0.25
        now += held_s


def test_queries_get_what_submits_leave_and_never_less_than_a_third() -> None:
    limiter = make_limiter(100, 99)
    assert limiter.query_rate(0.0, 0.0) == pytest.approx(199 / 121, rel=0.02)
    assert limiter.query_rate(0.0, 1.0) == pytest.approx(78 / 121, rel=0.02)
    assert limiter.query_rate(0.0, 50.0) == pytest.approx(199 / 121 / 3, rel=0.02)


# --- Closed ---


def test_a_429_closes_the_gate_for_everyone_until_the_reset_once() -> None:
    limiter = make_limiter(100, 40, reset=20.0)
    for _ in range(3):
        limiter.sent(1.0, Use.QUERY)
    headers = told(1.5, 100, 0, 20.0)
    limiter.learn(1.5, headers, 1.0)
    limiter.refused(1.5, headers, 1.0)
    closed_until = limiter.closed_until
    assert closed_until is not None
    assert 20.0 <= closed_until <= 22.0
    for now in (2.0, 19.0):
        limiter.learn(now, headers, 1.0)
        limiter.refused(now, attrs.evolve(headers, retry_after_s=90.0), 1.0)
    assert limiter.closed_until == closed_until
    assert {limiter.may_send(5.0, use) for use in Use} == {closed_until}
    assert limiter.may_send(closed_until, Use.SUBMIT) <= closed_until


def test_retry_after_is_honoured_where_it_is_longer_and_bounded() -> None:
    limiter = make_limiter(100, 40, reset=20.0)
    limiter.refused(1.0, RateHeaders(retry_after_s=45.0), 0.5)
    assert limiter.closed_until == 46.0
    limiter.refused(50.0, RateHeaders(retry_after_s=3000.0), 50.0)
    assert limiter.closed_until == 350.0


# --- Whatever happens ---


@attrs.define
class Request:
    sent_at: float
    headers: RateHeaders | None = None


class HonestService(RuleBasedStateMachine):
    """Fixed windows, whole seconds, a clock of its own, late answers in any order: nothing is ever refused."""

    @initialize(limit=st.integers(1, 30), offset=st.floats(0, 59.9), rounds_up=st.booleans())
    def begin(self, limit: int, offset: float, rounds_up: bool) -> None:
        self.limit, self.offset, self.now = limit, offset, 0.0
        self.round = math.ceil if rounds_up else math.floor
        self.window, self.used = -1, 0
        self.travelling: list[Request] = []
        self.answers: list[Request] = []
        self.booked: list[float] = []
        self.limiter = RateLimiter()
        self.limiter.sent(0.0, Use.QUERY)
        self.arrive(first := Request(0.0))
        self.answer(first)

    def arrive(self, request: Request) -> None:
        window = math.floor((self.now + self.offset) / 60)
        if window != self.window:
            self.window, self.used = window, 0
        self.used += 1
        assert self.used <= self.limit, "refused"
        reset = SERVER_S + (window + 1) * 60 - self.offset
        date = float(math.floor(SERVER_S + self.now))
        request.headers = RateHeaders(self.limit, self.limit - self.used, float(self.round(reset)), date)

    def answer(self, request: Request) -> None:
        assert request.headers is not None
        self.limiter.learn(self.now, request.headers, request.sent_at)

    @rule(seconds=st.floats(0.001, 100))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.booked and self.booked[0] <= until:
            self.go_on(at := self.booked.pop(0))
            self.travelling.append(Request(at))
        self.go_on(until)

    def go_on(self, until: float) -> None:
        while self.travelling and until - self.travelling[0].sent_at > 50:
            self.arrive(request := self.travelling.pop(0))
            self.answers.append(request)
        self.now = until

    @rule()
    def book_a_query(self) -> None:
        at = self.limiter.may_send(self.now, Use.QUERY)
        if at > self.now and self.limiter.can_book(at, self.now + 15.0):
            self.limiter.sent(self.now, Use.QUERY, at)
            self.booked.append(at)

    @rule(use=st.sampled_from(Use), most=st.integers(1, 40))
    def send(self, use: Use, most: int) -> None:
        for _ in range(most):
            if self.limiter.may_send(self.now, use) > self.now:
                break
            assert self.limiter.remaining(self.now) != 0
            self.limiter.sent(self.now, use)
            self.travelling.append(Request(self.now))

    @precondition(lambda self: self.travelling)
    @rule(data=st.data())
    def some_arrive(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, len(self.travelling)))):
            request = self.travelling.pop(data.draw(st.integers(0, len(self.travelling) - 1)))
            self.arrive(request)
            self.answers.append(request)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def some_are_answered(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, len(self.answers)))):
            self.answer(self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1))))

    @invariant()
    def it_never_waits_longer_than_a_window(self) -> None:
        opens_at = self.limiter.may_send(self.now, Use.SUBMIT)
        assert opens_at <= self.now or self.now + 0.01 <= opens_at <= self.now + 62


@st.composite
def any_rate_headers(draw: st.DrawFn) -> RateHeaders:
    """Whatever ``read_rate_headers`` can give: a reset lies within five minutes of the date, where there is one."""
    date = draw(st.none() | st.floats(1, 4e9))
    reset_at = draw(st.none() | st.floats(-1, 300).map(lambda ahead_s: (date or DATE_S) + ahead_s))
    counts = draw(st.tuples(st.none() | st.integers(1, 10**9), st.none() | st.integers(0, 10**9)))
    return RateHeaders(
        *counts,
        reset_at,
        date,
        draw(st.none() | st.floats(0, 3600)),
        reset_in_s=draw(st.none() | st.floats(0, 300)),
        reset_number=draw(st.none() | st.floats(0, 1e6)),
    )


class LyingService(RuleBasedStateMachine):
    """Headers that say anything: nothing crashes, waits for ever or turns in circles."""

    @initialize()
    def begin(self) -> None:
        self.limiter, self.now = RateLimiter(), 0.0
        self.flight: list[float] = []

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(use=st.sampled_from(Use))
    def send(self, use: Use) -> None:
        if self.limiter.may_send(self.now, use) <= self.now:
            self.limiter.sent(self.now, use)
            self.flight.append(self.now)

    @rule(headers=any_rate_headers(), is_refused=st.booleans())
    def answer(self, headers: RateHeaders, is_refused: bool) -> None:
        sent_at = self.flight.pop() if self.flight else self.now
        self.limiter.learn(self.now, headers, sent_at)
        if is_refused:
            self.limiter.refused(self.now, headers, sent_at)

    @invariant()
    def the_gate_opens_in_bounded_time_and_never_now_and_not_now(self) -> None:
        for use in Use:
            opens_at = self.limiter.may_send(self.now, use)
            assert opens_at <= self.now + 302
            assert opens_at <= self.now or opens_at > self.now
        assert (self.limiter.remaining(self.now) or 0) >= 0
        rate = self.limiter.query_rate(self.now, 1.0)
        assert rate is None or rate > 0

    @rule(use=st.sampled_from(Use))
    def wait_until_it_opens(self, use: Use) -> None:
        """However the gate was left, a few waits as it asks for them lead through it."""
        for _ in range(5):
            opens_at = self.limiter.may_send(self.now, use)
            if opens_at <= self.now:
                break
            self.now = opens_at
        else:
            assert self.limiter.may_send(self.now, use) <= self.now


for machine in (HonestService, LyingService):
    machine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, derandomize=True)
TestHonestService = HonestService.TestCase
TestHonestService.pytestmark = pytest.mark.slow  # type: ignore[attr-defined]
TestLyingService = LyingService.TestCase
TestLyingService.pytestmark = pytest.mark.slow  # type: ignore[attr-defined]
