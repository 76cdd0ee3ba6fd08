"""What the service says of its models and their prices, as far as it can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hailuo_async._rules.wire import Answer, single_line
from hailuo_async.money import read_amount
from hailuo_async.prices import LivePrices, ModelInfo


def read_models(answer: Answer) -> tuple[ModelInfo, ...] | None:
    """The models in a list of them; ``None`` for an answer that is none. What has no slug is left out."""
    if not 200 <= (answer.status or 0) < 300:
        return None
    for place in (answer.whole, answer.data):
        found = place.get("models") if isinstance(place, dict) else None
        if isinstance(found, list):
            return tuple(_read_each(found))
    return None


def build_live_prices(models: tuple[ModelInfo, ...], answered_at: float | None, now: float) -> LivePrices:
    """``models`` by the slug without its provider, as of the day of the answer, in Unix seconds by the service."""
    as_of = datetime.fromtimestamp(now if answered_at is None else answered_at, UTC).date()
    return LivePrices({model.slug.removeprefix("minimax/"): model for model in models}, as_of)


def _read_each(found: list[object]) -> Iterator[ModelInfo]:
    for item in found:
        if isinstance(item, dict) and (slug := _text(item.get("slug"))):
            low, high = _read_price(item.get("price"))
            told = (_text(item.get(name)) for name in ("unit", "docs_url", "description"))
            yield ModelInfo(slug, _text(item.get("type")), low, high, *told)


def _read_price(price: object) -> tuple[Decimal | None, Decimal | None]:
    """The range of a price. One without both ends is none, and so is 0: a missing price read as free is worse."""
    fields: Mapping[str, Any] = price if isinstance(price, dict) else {"fixed": price}
    fixed = fields.get("fixed")
    ends = [read_amount(fields.get(name) if fixed is None else fixed) for name in ("min", "max")]
    known = sorted(end for end in ends if end)
    return (known[0], known[1]) if len(known) == 2 else (None, None)


def _text(value: object) -> str | None:
    return single_line(value) if isinstance(value, str) else None
