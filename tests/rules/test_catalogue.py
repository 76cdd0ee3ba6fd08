"""The service's list of models: every row that has a slug, with a price only where it says one clearly."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from hailuo_async._rules.catalogue import read_models
from hailuo_async._rules.wire import decipher
from hailuo_async.prices import ModelInfo


def models(content: object, status: int = 200) -> tuple[ModelInfo, ...] | None:
    return read_models(decipher(status, {}, json.dumps(content).encode()))


def price(told: object) -> tuple[Decimal | None, Decimal | None]:
    found = models({"models": [{"slug": "minimax/m", "price": told}]})
    assert found is not None
    return found[0].price_low, found[0].price_high


def test_a_list_is_read_with_or_without_an_envelope() -> None:
    row = {
        "slug": "minimax/hailuo-2.3-i2v",
        "type": "image-to-video",
        "description": "two\nlines",
        "docs_url": "https://docs.modellix.ai/x#prices",
        "price": {"min": 0.054, "max": "0.12"},
        "unit": "$/sec",
        "more": [1],
    }
    info = ModelInfo(
        "minimax/hailuo-2.3-i2v",
        "image-to-video",
        Decimal("0.054"),
        Decimal("0.12"),
        "$/sec",
        "https://docs.modellix.ai/x#prices",
        "two lines",
    )
    assert models({"models": [row, 5, {}, {"slug": 7}]}) == (info,)
    assert models({"code": 0, "data": {"models": [row]}}) == (info,)


@pytest.mark.parametrize("content", [{}, [], {"models": {}}, {"models": None}, {"data": {"models": 5}}, "models"])
def test_what_holds_no_list_is_none(content: object) -> None:
    assert models(content) is None
    assert models({"models": []}, status=500) is None


@pytest.mark.parametrize(
    ("told", "low", "high"),
    [
        ({"fixed": 0.1}, "0.1", "0.1"),
        ({"fixed": "0.1000"}, "0.1", "0.1"),
        (0.1, "0.1", "0.1"),
        ({"min": 0.1, "max": 0.2}, "0.1", "0.2"),
        ({"min": "0.2", "max": "0.1"}, "0.1", "0.2"),
        ({"fixed": None, "min": 1, "max": 1}, "1", "1"),
        *((nothing, None, None) for nothing in (None, {}, "free", {"fixed": 0}, {"min": 0, "max": 0.2}, {"min": 0.1})),
        *((bad, None, None) for bad in ({"fixed": -1}, {"min": "x", "max": 1}, {"fixed": "1 EUR"}, True)),
    ],
)
def test_a_price_is_a_range_of_dollars_or_none_and_never_free(told: object, low: str | None, high: str | None) -> None:
    assert price(told) == (None if low is None else Decimal(low), None if high is None else Decimal(high))
