"""Amounts of US dollars, for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from hailuo_async.jobs import Job
from hailuo_async.prices import Estimate, estimate

_CENT = Decimal("0.01")


def dollars(amount: Decimal) -> str:
    """``$14.58``; below a cent with as many digits as it needs."""
    if amount and abs(amount) < _CENT:
        return f"${amount.normalize():f}"
    return f"${amount.quantize(_CENT, ROUND_HALF_UP):,}"


def price_range(low: Decimal, high: Decimal) -> str:
    """``$14.58 to $32.40``, or one amount if both are the same."""
    return dollars(low) if low == high else f"{dollars(low)} to {dollars(high)}"


def price_of(jobs: Iterable[Job]) -> str:
    """What ``jobs`` will cost by the list prices, as far as these are known."""
    return describe([estimate(job) for job in jobs])


def describe(estimates: list[Estimate]) -> str:
    """The sum of ``estimates`` in words."""
    known = [each for each in estimates if each.low is not None and each.high is not None]
    if not known:
        return "at an unknown price"
    low = sum((each.low for each in known if each.low is not None), Decimal())
    high = sum((each.high for each in known if each.high is not None), Decimal())
    as_of: date | None = min((each.as_of for each in known if each.as_of is not None), default=None)
    day = "" if as_of is None else f" by the prices of {as_of.isoformat()}"
    unknown = len(estimates) - len(known)
    return f"{price_range(low, high)}{day}{f', and {unknown} at an unknown price' if unknown else ''}"
