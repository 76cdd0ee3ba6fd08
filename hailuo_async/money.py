"""Amounts of money in the service's answers: US dollars, as ``decimal.Decimal`` and never as a float.

What cannot be believed is ``None``, never 0: a missing price read as free is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

#: An amount in dollars: no more than a million, and no finer than a billionth.
_AMOUNT = r"\$? ?(0*[0-9]{1,6}(?:\.[0-9]{1,9}0*)?)(?: ?USD)?"
_MOST_CHARACTERS = 60


def read_amount(value: object, *, may_be_owed: bool = False) -> Decimal | None:
    """``value`` as dollars: a number, or text that is one. ``None`` for anything else.

    A float is rounded to a billionth: 0.1 + 0.2 has more digits than are meant. A negative amount is read only as a
    balance, which ``may_be_owed``.
    """
    if may_be_owed and isinstance(value, int | float) and value < 0:
        owed = read_amount(-value)
        return None if owed is None else -owed
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    if isinstance(value, float | Decimal):
        number = value if isinstance(value, Decimal) else Decimal(str(round(value, 9) or value))
        is_sane = number.is_finite() and (number == 0 or -12 < number.adjusted() < 12)
        text = f"{number if number else 0:f}" if is_sane else ""
    else:
        text = str(value) if isinstance(value, str) or abs(value) < 10**9 else ""
    found = re.fullmatch(_AMOUNT, text.strip(), re.ASCII) if len(text) <= _MOST_CHARACTERS else None
    return None if found is None else Decimal(found[1])


#: A journal keeps amounts as whole billionths of a dollar, so that it can add them up exactly.
_NANOS = 10**9


def to_nanos(amount: Decimal | None) -> int | None:
    """``amount`` in billionths of a dollar."""
    return None if amount is None else int(amount * _NANOS)


def from_nanos(nanos: int | None) -> Decimal | None:
    """The amount that ``to_nanos`` kept, with four decimals as the service writes it, or as many as it needs."""
    if nanos is None:
        return None
    amount = Decimal(nanos).scaleb(-9)
    short = amount.quantize(Decimal("0.0001"))
    return short if short == amount else amount


def read_cost(data: Mapping[str, Any]) -> Decimal | None:
    """What a task cost: ``data.billing.amount``, in USD as text (customer, vendor), if it is in no other currency."""
    billing = data.get("billing")
    if not isinstance(billing, dict):
        return None
    currency = billing.get("currency", billing.get("unit"))
    is_dollars = currency is None or (isinstance(currency, str) and currency.strip().upper() in ("USD", "$", "US$"))
    return read_amount(billing.get("amount")) if is_dollars else None
