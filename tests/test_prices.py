"""What a job will cost: by the list, or the service's own word where that is narrower, and never 0 for lack of one."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from hailuo_async import MODELS, Estimate, FirstLastFrameToVideo, ImageToVideo, Job, JobError, ModelInfo, estimate
from hailuo_async.prices import PRICES, PriceBook

URL = "https://pictures.example/cat.jpg"
LISTED = date(2026, 8, 10)
TODAY = date(2026, 11, 25)


def usd(low: str, high: str | None = None, as_of: date = LISTED) -> Estimate:
    return Estimate(Decimal(low), Decimal(high or low), as_of)


@pytest.mark.parametrize(
    ("job", "cost"),
    [
        (FirstLastFrameToVideo(URL), usd("0.3240")),
        (FirstLastFrameToVideo(URL, resolution="768P"), usd("0.3240")),
        (FirstLastFrameToVideo(URL, duration=10), usd("0.6720")),
        (FirstLastFrameToVideo(URL, resolution="1080P"), usd("0.6360")),
        (ImageToVideo(URL), usd("0.3240", "0.7200")),
        (ImageToVideo(URL, duration=10), usd("0.5400", "1.2000")),
        (ImageToVideo(URL, model="hailuo-02-i2v", resolution="512P"), usd("0.1200")),
        (ImageToVideo(URL, model="hailuo-2.3-fast-i2v"), usd("0.2400")),
        (ImageToVideo(URL, model="hailuo-2.3-fast-i2v", duration=10), usd("0.4000", "0.8000")),
        (ImageToVideo(URL, model="minimax-i2v-01-live"), usd("0.6000")),
        (ImageToVideo(URL, model="/api/v1/minimax/hailuo-02-i2v"), usd("0.3240")),
        (ImageToVideo(URL, model="/api/v1/other/model"), Estimate(None, None, None)),
    ],
    ids=repr,
)
def test_a_job_costs_its_seconds_by_the_price_of_its_cell(job: Job, cost: Estimate) -> None:
    assert estimate(job) == cost


def test_every_cell_of_every_model_has_a_price_with_its_source_and_date() -> None:
    cells = {slug: {(size, s) for s, sizes in model.sizes.items() for size in sizes} for slug, model in MODELS.items()}
    assert {slug: set(prices) for slug, prices in PRICES.items()} == cells
    for prices in PRICES.values():
        for price in prices.values():
            assert 0 < price.low <= price.high
            assert price.source
            assert price.as_of == LISTED


def test_what_is_no_job_has_no_price() -> None:
    with pytest.raises(JobError):
        estimate("cat.jpg")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "unit", "cost"),
    [
        ("0.06", "0.10", "$/sec", usd("0.36", "0.60", TODAY)),
        ("0.01", "0.10", "USD / second", usd("0.3240", "0.60", TODAY)),
        ("0.01", "9", "$/s", usd("0.3240", "0.7200", TODAY)),
        ("0.20", "0.30", "$/sec", usd("1.20", "1.80", TODAY)),
        ("0.01", "0.02", "$/sec", usd("0.06", "0.12", TODAY)),
        ("0.06", "0.10", "$/video", usd("0.3240", "0.7200")),
        ("0.06", "0.10", None, usd("0.3240", "0.7200")),
        (None, None, "$/sec", usd("0.3240", "0.7200")),
    ],
)
def test_the_services_own_word_counts_where_it_is_narrower_or_prices_have_moved(
    low: str | None, high: str | None, unit: str | None, cost: Estimate
) -> None:
    least, most = (None if price is None else Decimal(price) for price in (low, high))
    prices = PriceBook()
    prices.learn([ModelInfo("minimax/hailuo-2.3-i2v", None, least, most, unit)], TODAY)
    assert prices.estimate(ImageToVideo(URL)) == cost
    assert estimate(ImageToVideo(URL)) == usd("0.3240", "0.7200")


def test_a_model_that_only_the_service_knows_has_the_services_price() -> None:
    prices, job = PriceBook(), ImageToVideo(URL, model="/api/v1/minimax/new-i2v")
    assert prices.estimate(job) == Estimate()
    prices.learn([ModelInfo("new-i2v", None, Decimal("0.1"), Decimal("0.2"), "$/sec")], TODAY)
    assert prices.estimate(job) == usd("0.6", "1.2", TODAY)
