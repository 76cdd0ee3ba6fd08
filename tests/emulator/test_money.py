"""Prices, bills and the balance: what a task costs, and where the service says so."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async.emulator import Service

from ..support.emulated import IMAGES, MODELS, NOW, START, ask, job, queried, submit


def roomy(**settings: Any) -> Service:
    return Service(**{"max_running": None, "requests_per_minute": None, "generation_s": 1, "spread": 0, **settings})


@pytest.mark.parametrize(
    ("model", "fields", "amount"),
    [
        ("hailuo-02-fl2v", {}, "0.3240"),
        ("hailuo-02-fl2v", {"duration": 10}, "0.6720"),
        ("hailuo-02-fl2v", {"resolution": "1080P"}, "0.6360"),
        ("hailuo-02-i2v", {"resolution": "512P"}, "0.1200"),
        ("hailuo-2.3-fast-i2v", {}, "0.2400"),
        ("minimax-i2v-01-director", {}, "0.6000"),
    ],
)
def test_a_bill_follows_the_list_by_model_duration_and_resolution(
    model: str, fields: dict[str, object], amount: str
) -> None:
    service = roomy()
    content = {IMAGES.get(model, "first_frame_image"): START, **fields}
    task_id = service.handle(submit(content, f"/api/v1/minimax/{model}"), NOW).json()["data"]["task_id"]
    assert "billing" not in queried(service, task_id, NOW)
    assert queried(service, task_id, NOW + 1)["billing"] == {"status": "succeeded", "amount": amount}
    assert service.ledger.costs == {task_id: Decimal(amount)}


@given(st.lists(st.sampled_from([{}, {"duration": 10}, {"resolution": "1080P"}]), max_size=20), st.floats(0, 1))
def test_the_bills_of_all_tasks_sum_to_what_the_ledger_says_was_spent(
    jobs: list[dict[str, object]], fail_rate: float
) -> None:
    service = roomy(fail_rate=fail_rate, bills_failures=False)
    ids = [service.handle(job(**fields), NOW).json()["data"]["task_id"] for fields in jobs]
    bills = [Decimal(queried(service, task_id, NOW + 1)["billing"]["amount"]) for task_id in ids]
    assert sum(bills) == service.ledger.spent
    balance = service.handle(ask("GET", "/api/v1/team/balance"), NOW).json()["data"]["balance"]
    assert Decimal(str(balance)) == 100_000 - service.ledger.spent


@pytest.mark.parametrize("ending", ["fail_rate", "cancel_rate"])
def test_a_task_that_failed_is_paid_for_in_silence_unless_failures_are_not_billed(ending: str) -> None:
    for bills_failures, billing in ((True, None), (False, "0.0000")):
        service = roomy(**{ending: 1.0}, bills_failures=bills_failures)
        task_id = service.handle(job(), NOW).json()["data"]["task_id"]
        assert queried(service, task_id, NOW + 1).get("billing", {}).get("amount") == billing
        assert (service.ledger.spent == 0) is not bills_failures


def test_one_price_can_stand_for_all() -> None:
    service = roomy(price_per_s=0.05)
    service.handle(job(), NOW)
    assert service.ledger.spent == Decimal("0.3")


def models(service: Service, query: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = service.handle(ask("GET", f"/api/v1/models{query}"), NOW).json()["models"]
    return rows


def test_prices_are_fixed_or_a_range_as_numbers_or_text() -> None:
    numbers = {row["slug"]: row["price"] for row in models(Service())}
    text = {row["slug"]: row["price"] for row in models(Service(prices_as_text=True))}
    assert numbers["minimax/hailuo-02-i2v"] == {"min": 0.02, "max": 0.106}
    assert numbers["minimax/minimax-i2v-01"] == {"fixed": 0.1}
    assert text["minimax/hailuo-02-i2v"] == {"min": "0.0200", "max": "0.1060"}
    assert len(numbers) == len(MODELS)


def test_featured_models_can_be_asked_for_alone() -> None:
    slugs = [row["slug"] for row in models(Service(), "?featured=true")]
    assert slugs == ["minimax/hailuo-2.3-i2v", "minimax/hailuo-2.3-fast-i2v"]
    assert len(models(Service(), "?featured=false")) == len(MODELS)
