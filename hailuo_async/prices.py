"""What jobs cost: list prices beside the table of models, and the service's own word where it gives one.

Money is ``decimal.Decimal`` in US dollars, never a float. What nothing is known of is ``None``, never 0. Prices move:
an estimate says of which day its prices are, and the bill is ``Video.cost``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from types import MappingProxyType

import attrs

from hailuo_async.jobs import Job, check_job


@attrs.frozen
class Price:
    """USD for a second of video, from ``low`` to ``high``; where it was read, and of which day it is."""

    low: Decimal
    high: Decimal
    source: str
    as_of: date


#: What the service published in August 2026 (vendor), and what a customer was billed (customer): see ``contract``.
_VENDOR, _CUSTOMER = "vendor's price list", "a customer's bill"
_LISTED, _BILLED = date(2026, 8, 10), date(2026, 8, 10)


def _listed(usd: str, high: str | None = None) -> Price:
    return Price(Decimal(usd), Decimal(high or usd), _VENDOR, _LISTED)


_02 = {("768P", 6): _listed("0.0540"), ("768P", 10): _listed("0.0672"), ("1080P", 6): _listed("0.1060")}
_01 = {("720P", 6): _listed("0.1000")}
#: The vendor tells only a range for the whole model: it holds for every cell.
_23 = dict.fromkeys((("768P", 6), ("768P", 10), ("1080P", 6)), _listed("0.0540", "0.1200"))
_23_FAST = {
    ("768P", 6): Price(Decimal("0.0400"), Decimal("0.0400"), _CUSTOMER, _BILLED),  # 0.2400 for 6 s
    ("768P", 10): _listed("0.0400", "0.0800"),
    ("1080P", 6): _listed("0.0400", "0.0800"),
}

PRICES: Mapping[str, Mapping[tuple[str, int], Price]] = MappingProxyType(
    {
        "hailuo-02-fl2v": _02,
        "hailuo-02-i2v": {**_02, ("512P", 6): _listed("0.0200")},
        "hailuo-2.3-i2v": _23,
        "hailuo-2.3-fast-i2v": _23_FAST,
        **dict.fromkeys(("minimax-i2v-01", "minimax-i2v-01-live", "minimax-i2v-01-director"), _01),
    }
)
"""Prices by model, and by resolution and seconds of video."""


@attrs.frozen
class Estimate:
    """What a job will cost in USD, by the prices of the day ``as_of``. All three are ``None`` if nothing is known."""

    low: Decimal | None = None
    high: Decimal | None = None
    as_of: date | None = None


@attrs.frozen
class ModelInfo:
    """What the service offers now. Prices are in USD a ``unit``; what it does not say, or not clearly, is ``None``."""

    slug: str
    type: str | None = None
    price_low: Decimal | None = None
    price_high: Decimal | None = None
    unit: str | None = None
    docs_url: str | None = None
    description: str | None = None

    @property
    def is_by_second(self) -> bool:
        """Whether its prices are for a second of video."""
        return (self.unit or "").strip().lower().replace(" ", "") in _BY_SECOND


_BY_SECOND = frozenset(f"{usd}/{second}" for usd in ("$", "usd") for second in ("s", "sec", "second"))


@attrs.define(eq=False)
class PriceBook:
    """The prices that a session goes by: the list, and what the service says of its models."""

    _offered: Mapping[str, ModelInfo] = attrs.field(factory=dict, init=False)
    _as_of: date | None = attrs.field(default=None, init=False)

    def learn(self, models: Iterable[ModelInfo], as_of: date) -> None:
        """Notes what the service says of its models on the day ``as_of``."""
        self._offered = {model.slug.removeprefix("minimax/"): model for model in models}
        self._as_of = as_of

    def estimate(self, job: Job) -> Estimate:
        """As ``hailuo_async.estimate``, narrower where the service has told its prices."""
        model, seconds = job.target, job.duration
        resolution: str = job.resolution or next(iter(model.sizes.get(seconds, ())), "")
        listed = PRICES.get(model.slug, {}).get((resolution, seconds))
        offered = self._offered.get(model.slug)
        if offered is None or offered.price_low is None or offered.price_high is None or not offered.is_by_second:
            return Estimate() if listed is None else Estimate(listed.low * seconds, listed.high * seconds, listed.as_of)
        low, high = _narrowed(listed, offered.price_low, offered.price_high)
        return Estimate(low * seconds, high * seconds, self._as_of)


def _narrowed(listed: Price | None, low: Decimal, high: Decimal) -> tuple[Decimal, Decimal]:
    """What the list and the service's range of today agree on; where they do not, the service's word of today."""
    if listed is None or listed.high < low or listed.low > high:
        return low, high
    return max(low, listed.low), min(high, listed.high)


def estimate(job: Job) -> Estimate:
    """What ``job`` will cost, by the list, before it is sent. Costs nothing, and sends nothing.

    ``session.estimate`` may know more. Raises ``JobError`` for what is no job.
    """
    return PriceBook().estimate(check_job(job))
