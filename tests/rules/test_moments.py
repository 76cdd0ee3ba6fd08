"""A time is understood in whichever unit it comes, and what is no time is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hailuo_async._rules.moments import read_moment

UNIX = 1_786_000_000
MOMENT = datetime.fromtimestamp(UNIX, UTC)


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9], ids=["s", "ms", "us", "ns"])
def test_a_number_tells_its_unit_by_its_size(factor: int) -> None:
    told = UNIX * factor
    assert [read_moment(each) for each in (told, float(told), str(told), f" {told} ")] == [MOMENT] * 4


@pytest.mark.parametrize(
    "text", ["2026-08-06T07:06:40Z", "2026-08-06T09:06:40+02:00", "2026-08-06T07:06:40", "2026-08-06 07:06:40.000"]
)
def test_iso_text_is_in_utc_unless_it_names_its_zone(text: str) -> None:
    assert read_moment(text) == MOMENT
    assert str(read_moment(text)) == "2026-08-06 07:06:40+00:00"


@pytest.mark.parametrize(
    "told",
    [
        *(None, True, False, 0, -1, "", "soon", "-5", [], {}, float("nan"), float("inf"), 10**400, "9" * 400, "²"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
    ],
    ids=str,
)
def test_what_is_no_time_is_none(told: object) -> None:
    assert read_moment(told) is None
