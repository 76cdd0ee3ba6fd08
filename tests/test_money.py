"""Amounts in the service's answers: dollars, or nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async.money import read_amount, read_cost


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        *(("0.2400", "0.24"), ("12", "12"), (" 7.5 ", "7.5"), ("$0.24", "0.24"), ("0.24 USD", "0.24"), ("0", "0")),
        *((0.24, "0.24"), (0.1 + 0.2, "0.3"), (1e-7, "0.0000001"), (3, "3"), (0, "0"), (0.0, "0"), ("000.5", "0.5")),
        *((Decimal("0.2400"), "0.24"), (999_999, "999999"), (1_000_000, None), (1e300, None), (1e-300, None)),
        *((-1, None), ("-0.24", None), (float("nan"), None), (float("inf"), None), ("NaN", None), ("Infinity", None)),
        *(
            ("", None),
            ("free", None),
            ("0,24", None),
            ("1e3", None),
            ("24 cents", None),
            ("0.24 EUR", None),
            ("١", None),
        ),
        *((True, None), (None, None), ([], None), ({"amount": 1}, None), ("9" * 1000, None), (10**1000, None)),
        *(("0." + "1" * 1000, None), ("0" * 80 + "1", None), (1e-10, None)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_amount_is_read_to_the_cent_or_not_at_all(value: object, amount: str | None) -> None:
    assert read_amount(value) == (None if amount is None else Decimal(amount))


@pytest.mark.parametrize(
    ("billing", "cost"),
    [
        ({"amount": "0.24"}, "0.24"),
        ({"amount": "0.24", "currency": "usd"}, "0.24"),
        ({"amount": "0.24", "unit": "USD"}, "0.24"),
        ({"amount": "24", "unit": "cents"}, None),
        ({"amount": "0.24", "currency": "CNY"}, None),
        ({"amount": "0.24", "currency": 5}, None),
        ({"amount": None}, None),
        ("0.24", None),
    ],
)
def test_a_cost_is_in_dollars(billing: object, cost: str | None) -> None:
    assert read_cost({"billing": billing}) == (None if cost is None else Decimal(cost))
    assert read_cost({}) is None


@given(st.text() | st.integers() | st.floats() | st.decimals() | st.none())
def test_whatever_it_is_given_it_is_a_sane_amount_or_none(value: object) -> None:
    amount = read_amount(value)
    assert amount is None or 0 <= amount < 1_000_000
