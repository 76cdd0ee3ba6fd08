"""Amounts of US dollars, for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from hailuo_async.prices import Estimate

_CENT = Decimal("0.01")


def dollars(amount: Decimal) -> str:
    """``$14.58``; below a cent with as many digits as it needs."""
    if amount and abs(amount) < _CENT:
        return f"${amount.normalize():f}"
    return f"${amount.quantize(_CENT, ROUND_HALF_UP):,}"


def price_range(low: Decimal, high: Decimal) -> str:
    """``$14.58 to $32.40``, or one amount if both are the same."""
    return dollars(low) if low == high else f"{dollars(low)} to {dollars(high)}"


def price_of(estimates: Mapping[Estimate, int]) -> str:
    """What jobs will cost, as far as their prices are known. ``estimates`` counts the jobs of each estimate."""
    known = {each: count for each, count in estimates.items() if each.low is not None and each.high is not None}
    if not known:
        return "at an unknown price"
    low = sum((count * each.low for each, count in known.items() if each.low is not None), Decimal())
    high = sum((count * each.high for each, count in known.items() if each.high is not None), Decimal())
    as_of: date | None = min((each.as_of for each in known if each.as_of is not None), default=None)
    day = "" if as_of is None else f" by the prices of {as_of.isoformat()}"
    unknown = sum(estimates.values()) - sum(known.values())
    return f"{price_range(low, high)}{day}{f', and {unknown} at an unknown price' if unknown else ''}"
