"""The forms in which the service gives the same answer: reasons, envelopes, links, refusals, limits by tier."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hailuo_async.emulator import RUNNING_LIMIT_WORDINGS, TIERS, Fault, FaultRates, Faults, Service

from ..support.answers import content
from ..support.emulated import NOW, accepted, ask, job, queried, refusal, submit


@pytest.mark.parametrize(
    ("place", "extra"),
    [
        ("error", {"error": {"code": 1026, "message": "no cats"}}),
        ("error_text", {"error": "no cats"}),
        ("error_message", {"error_message": "no cats"}),
        ("message", {"message": "no cats"}),
        ("envelope", {}),
        ("nowhere", {}),
    ],
)
def test_a_failed_task_gives_its_reason_in_one_place(place: str, extra: dict[str, Any]) -> None:
    service = Service(fail_rate=1, reason_in=place, fail_reason="no cats", fail_code=1026)
    task_id = accepted(service)
    envelope = service.handle(ask("GET", f"/api/v1/tasks/{task_id}"), NOW + 10).json()
    basics = {"status": "failed", "task_id": task_id, "model_id": "minimax-hailuo-2.3-i2v"}
    words = "no cats" if place == "envelope" else "success"
    assert envelope == {"code": 0, "message": words, "data": basics | extra}


def test_a_share_of_the_tasks_is_canceled_beside_those_that_fail() -> None:
    service = Service(fail_rate=0.3, cancel_rate=0.2, max_running=None, requests_per_minute=None)
    states = [queried(service, accepted(service), NOW + 10)["status"] for _ in range(1000)]
    assert 250 < states.count("failed") < 350
    assert 150 < states.count("canceled") < 250
    assert set(states) == {"success", "failed", "canceled"}


def test_answers_may_come_without_a_code() -> None:
    service = Service(bare_answers=True, fail_rate=1, reason_in="envelope")
    submitted = service.handle(job(), NOW).json()
    assert submitted.keys() == {"success", "data"}
    query = ask("GET", f"/api/v1/tasks/{submitted['data']['task_id']}")
    assert service.handle(query, NOW).json().keys() == {"success", "data"}
    assert service.handle(query, NOW + 10).json()["message"] == "failed on purpose"


def test_the_url_to_ask_at_may_be_of_another_origin() -> None:
    service = Service(origin="https://api.modellix.ai", get_result_origin="http://api.modellix.ai")
    link = service.handle(job(), NOW).json()["data"]["get_result"]["url"]
    assert link.startswith("http://api.modellix.ai/api/v1/tasks/task-")


def test_a_refusal_for_running_tasks_comes_in_each_wording_that_was_seen() -> None:
    service = Service(max_running=0, requests_per_minute=None, running_limit_wordings=RUNNING_LIMIT_WORDINGS)
    messages = {service.handle(job(), NOW).json()["message"] for _ in range(50)}
    assert messages == {wording.format(limit=0) for wording in RUNNING_LIMIT_WORDINGS}
    assert all("concurren" in message.lower() for message in messages)


def test_every_answer_of_the_api_has_a_request_id_of_its_own() -> None:
    service = Service()
    ids = [service.handle(ask("GET", path), NOW).headers["X-Request-Id"] for path in ("/api/v1/models", "/api/v1/x")]
    assert len(set(ids)) == 2
    assert "X-Request-Id" not in service.handle(ask("GET", "/"), NOW).headers


@pytest.mark.parametrize("fault", ["strange_bill", "strange_expiry"])
def test_a_strange_bill_or_expiry_leaves_the_rest_of_the_answer_whole(fault: str) -> None:
    service = Service(faults=Faults(query=FaultRates(**{fault: 1.0})), requests_per_minute=None)
    task_id = accepted(service)
    seen = [queried(service, task_id, NOW + 10) for _ in range(40)]
    field = "billing" if fault == "strange_bill" else "result_expires_at"
    assert {data["status"] for data in seen} == {"success"}
    assert len({str(data[field]) for data in seen}) > 5
    assert {entry.fault for entry in service.ledger.of("query")} == {Fault(fault)}


def test_a_key_that_is_not_valid_is_called_so_with_200() -> None:
    service = Service()
    reply = service.handle(ask("GET", "/api/v1/apikey/validate", Authorization="Bearer wrong"), NOW)
    assert (reply.status, reply.json()["data"]) == (200, {"is_valid": False})
    missing = service.handle(ask("GET", "/api/v1/apikey/validate", Authorization=""), NOW)
    assert refusal(missing) == (401, "Authentication failed")


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_sets_both_limits_also_while_it_runs(tier: str) -> None:
    limits = (TIERS[tier].max_running, TIERS[tier].requests_per_minute)
    service, later = Service(tier=tier), Service()
    later.tier = tier
    assert [(one.max_running, one.requests_per_minute) for one in (service, later)] == [limits, limits]


def test_a_limit_that_is_given_beats_its_tier() -> None:
    service = Service(tier="$100", max_running=None)
    assert (service.max_running, service.requests_per_minute) == (None, 200)


def test_an_unknown_tier_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(ValueError, match=r"there is no tier '\$7': give one of 'under \$10', '\$10', "):
        Service(tier="$7")
    service = Service()
    with pytest.raises(ValueError, match="there is no tier"):
        service.tier = "$7"
    assert service.max_running == 3


def shape(value: Any) -> Any:
    """What of an answer is its form: names and types."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(("recorded", "settings"), [("success-billed", {}), ("canceled", {"cancel_rate": 1.0})])
def test_a_query_is_answered_in_the_form_of_the_recorded_answer(recorded: str, settings: dict[str, Any]) -> None:
    service = Service(generation_s=93.5, spread=0, **settings)
    request = submit(json.loads(job().body), "/api/v1/minimax/hailuo-2.3-fast-i2v")
    task_id = service.handle(request, NOW).json()["data"]["task_id"]
    answer = service.handle(ask("GET", f"/api/v1/tasks/{task_id}"), NOW + 100).json()
    expected = content(f"query-{recorded}")
    assert shape(answer) == shape(expected)
    assert answer["data"].get("billing") == expected["data"].get("billing")


def test_the_models_are_listed_as_recorded() -> None:
    listed = Service().handle(ask("GET", "/api/v1/models"), NOW).json()["models"]
    assert [row for row in content("models")["models"] if row not in listed] == []
