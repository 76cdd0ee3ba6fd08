"""What headers say of the requests that are left, in whatever family and form, and what of it is believed."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async._rules.rate_headers import RateHeaders, read_rate_headers

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
DATE_S = 1_700_000_000.0


def test_headers_are_read_whatever_the_case_of_the_names() -> None:
    headers = {"X-RATELIMIT-limit": "100", "x-RateLimit-Remaining": " 42 ", "X-RateLimit-Reset": "1700000030"}
    assert read_rate_headers({**headers, "Date": DATE, "Retry-After": "7"}) == RateHeaders(
        100, 42, DATE_S + 30, DATE_S, 7.0
    )


def test_no_headers_say_nothing() -> None:
    assert read_rate_headers({}) == RateHeaders()


def test_retry_after_as_a_date_is_relative_to_the_answers_own_date() -> None:
    until = format_datetime(datetime.fromtimestamp(DATE_S + 12, UTC), usegmt=True)
    assert read_rate_headers({"date": DATE, "retry-after": until}) == RateHeaders(date=DATE_S, retry_after_s=12.0)
    assert read_rate_headers({"retry-after": until}) == RateHeaders(ignored=("retry-after",))


def test_a_date_without_a_zone_is_read_as_universal_time() -> None:
    assert read_rate_headers({"date": "Tue, 14 Nov 2023 22:13:20 -0000"}) == RateHeaders(date=DATE_S)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-ratelimit-limit", "0"),
        ("x-ratelimit-limit", "-5"),
        ("x-ratelimit-limit", "many"),
        ("x-ratelimit-limit", ""),
        ("x-ratelimit-limit", "1e99"),
        ("x-ratelimit-limit", "inf"),
        ("x-ratelimit-remaining", "-1"),
        ("x-ratelimit-remaining", "nan"),
        ("x-ratelimit-remaining", "9" * 400),
        ("x-ratelimit-reset", "-1"),
        ("x-ratelimit-reset", "1e300"),
        ("x-ratelimit-reset", "1699999980"),
        ("x-ratelimit-reset", "1700009999"),
        ("x-ratelimit-reset", "soon"),
        ("x-ratelimit-reset", "12 s"),
        ("x-ratelimit-reset", "9m"),
        ("x-ratelimit-reset", "5000000"),
        ("retry-after", "-3"),
        ("retry-after", "99999"),
        ("retry-after", "Mon, 13 Nov 2023 22:13:20 GMT"),
        ("retry-after", "later"),
    ],
)
def test_what_cannot_be_believed_is_ignored_and_named(name: str, value: str) -> None:
    assert read_rate_headers({name: value, "date": DATE}) == RateHeaders(date=DATE_S, ignored=(name,))


def test_a_date_that_is_none_is_ignored_and_named() -> None:
    assert read_rate_headers({"date": "yesterday"}) == RateHeaders(ignored=("date",))


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("1700000030", RateHeaders(reset_at=DATE_S + 30)),
        ("1700000030500", RateHeaders(reset_at=DATE_S + 30.5)),
        ("Tue, 14 Nov 2023 22:13:50 GMT", RateHeaders(reset_at=DATE_S + 30)),
        ("2023-11-14T22:13:50Z", RateHeaders(reset_at=DATE_S + 30)),
        ("30", RateHeaders(reset_number=30.0)),
        ("30000", RateHeaders(reset_number=30000.0)),
        ("0", RateHeaders(reset_number=0.0)),
        ("12s", RateHeaders(reset_in_s=12.0)),
        ("0.5s", RateHeaders(reset_in_s=0.5)),
        ("120ms", RateHeaders(reset_in_s=0.12)),
        ("1m3s", RateHeaders(reset_in_s=63.0)),
        ("2m", RateHeaders(reset_in_s=120.0)),
    ],
)
def test_a_reset_is_read_in_every_form(text: str, headers: RateHeaders) -> None:
    assert read_rate_headers({"X-RateLimit-Reset": text, "Date": DATE}) == attrs.evolve(headers, date=DATE_S)


def test_a_count_until_a_reset_that_has_passed_counts_no_more() -> None:
    headers = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0", "Date": DATE}
    for reset, said in (
        ("1699999989", RateHeaders(limit=100, date=DATE_S, ignored=("x-ratelimit-reset",))),
        ("1699999990", RateHeaders(limit=100, remaining=0, reset_at=DATE_S - 10, date=DATE_S)),  # two clocks may differ
    ):
        assert read_rate_headers(headers | {"X-RateLimit-Reset": reset}) == said


def test_the_third_draft_counts_seconds_and_may_tell_its_window() -> None:
    headers = {"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "42", "RateLimit-Reset": "200"}
    assert read_rate_headers(headers) == RateHeaders(100, 42, reset_in_s=200.0, window_s=60.0)
    assert read_rate_headers({"RateLimit-Limit": "100"}) == RateHeaders(100)


def test_the_eighth_draft_is_read_with_its_policy() -> None:
    headers = {"RateLimit-Policy": '"default";q=100;w=60', "RateLimit": '"default";r=50;t=30'}
    assert read_rate_headers(headers) == RateHeaders(100, 50, reset_in_s=30.0, window_s=60.0)
    assert read_rate_headers({"RateLimit": '"default"; r=50'}) == RateHeaders(remaining=50)
    assert read_rate_headers({"RateLimit": "nonsense"}) == RateHeaders(ignored=("ratelimit",))


def test_of_several_quotas_the_one_with_the_fewest_left_speaks() -> None:
    policy = '"burst";q=10;w=1, "minute";q=100;w=60'
    quotas = '"burst";r=9;t=1, "minute";r=3;t=30'
    assert read_rate_headers({"RateLimit-Policy": policy, "RateLimit": quotas}) == RateHeaders(
        100, 3, reset_in_s=30.0, window_s=60.0
    )


def test_the_names_that_end_in_requests_are_read() -> None:
    headers = {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "42",
        "x-ratelimit-reset-requests": "12s",
    }
    assert read_rate_headers(headers) == RateHeaders(100, 42, reset_in_s=12.0)


def test_the_services_own_names_go_before_those_of_a_gateway() -> None:
    headers = {"X-RateLimit-Remaining": "42", "RateLimit": '"default";r=5;t=3', "RateLimit-Remaining": "6"}
    assert read_rate_headers(headers) == RateHeaders(remaining=42)


NAMES = ["X-RateLimit-Limit", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy", "RateLimit-Limit"]
VALUES = st.text() | st.from_regex(r'"?[a-z]*"?;[rqtw]=\d*(, ?\d+)?;?[rqtw]?=?\d*m?s?')


@given(st.dictionaries(st.sampled_from([*NAMES, "X-RateLimit-Reset-Requests", "Date", "Retry-After"]), VALUES))
def test_no_header_whatever_makes_reading_fail(headers: dict[str, str]) -> None:
    said = attrs.asdict(read_rate_headers(headers))
    del said["ignored"]
    assert all(value is None or math.isfinite(value) for value in said.values())
