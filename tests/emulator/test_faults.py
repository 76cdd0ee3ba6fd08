"""Faults: which request meets which, and what becomes of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import attrs
import pytest

from hailuo_async.emulator import Delivery, Fault, FaultRates, Faults, Kind, Reply, Request, Service
from hailuo_async.emulator.faults import AFTER, BEFORE, DELIVERY, FAULTS_OF

from ..support.emulated import NOW, accepted, ask, job

SUBMIT = job()


def generous(**settings: Any) -> Service:
    return Service(max_running=None, requests_per_minute=None, **settings)


def query_of(service: Service) -> Request:
    return ask("GET", f"/api/v1/tasks/{accepted(service)}")


def hit(kind: str, fault: str, service: Service, now: float = NOW) -> Reply:
    request = SUBMIT if kind == "submit" else query_of(service)
    service.next_fault(kind, fault)
    return service.handle(request, now)


def seen(reply: Reply) -> tuple[int, str, Delivery]:
    return reply.status, reply.json()["message"], reply.delivery


@pytest.mark.parametrize("fault", sorted(FAULTS_OF[Kind.SUBMIT]))
def test_a_fault_keeps_a_submit_from_being_accepted_or_hides_that_it_was(fault: Fault) -> None:
    service, times = generous(), int(fault in AFTER)
    hit("submit", fault, service)
    assert (service.ledger.posts, service.ledger.submits_accepted, service.running) == (1, times, times)
    assert service.ledger.faults == {(Kind.SUBMIT, fault): 1}


@pytest.mark.parametrize("kind", ["submit", "query"])
@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("refuse", (400, "Invalid parameters: refused on purpose", Delivery.WHOLE)),
        ("refuse_405", (405, "Method not allowed: refused on purpose", Delivery.WHOLE)),
        ("refuse_415", (415, "Unsupported media type: refused on purpose", Delivery.WHOLE)),
        ("rate_429", (429, "Rate limit exceeded: refused on purpose", Delivery.WHOLE)),
        ("error_500", (500, "Internal error: broken on purpose", Delivery.WHOLE)),
        ("error_500_after", (500, "Internal error: broken on purpose", Delivery.WHOLE)),
        ("cut_after", (200, "success", Delivery.CUT)),
        ("hang", (200, "success", Delivery.HANG)),
        ("truncated", (200, "success", Delivery.TRUNCATED)),
        ("extra_fields", (200, "success", Delivery.WHOLE)),
    ],
)
def test_a_fault_is_answered_and_delivered_as_its_name_says(
    kind: str, fault: str, answer: tuple[int, str, Delivery]
) -> None:
    assert seen(hit(kind, fault, generous())) == answer


@pytest.mark.parametrize(("fault", "delivery"), [("cut_before", Delivery.CUT), ("hang_before", Delivery.HANG)])
def test_a_connection_that_fails_first_has_no_answer(fault: str, delivery: Delivery) -> None:
    service = generous()
    reply = hit("submit", fault, service)
    assert (reply.body, reply.delivery, service.ledger.entries[-1].status) == (b"", delivery, None)


def test_garbage_is_a_success_that_is_no_json() -> None:
    reply = hit("submit", "garbage", generous())
    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        reply.json()


def test_an_unknown_status_is_in_no_list() -> None:
    assert hit("query", "unknown_status", generous()).json()["data"]["status"] == "levitating"


def test_a_wrong_task_id_is_another_than_the_one_asked_for() -> None:
    service = generous()
    reply = hit("query", "wrong_task_id", service)
    assert reply.json()["data"]["task_id"] != service.ledger.entries[-1].task_id


def test_a_submit_with_missing_fields_does_not_give_the_id_away() -> None:
    assert hit("submit", "missing_fields", generous()).json()["data"].keys() == {"status", "model_id"}


def test_a_query_with_missing_fields_lacks_one_that_is_needed() -> None:
    whole = {"status", "task_id", "model_id", "duration", "result"}
    service = generous()
    gaps = {
        frozenset(whole - hit("query", "missing_fields", service, NOW + 10).json()["data"].keys()) for _ in range(9)
    }
    assert gaps <= {frozenset({name}) for name in ("task_id", "status", "result")}
    assert len(gaps) > 1


def test_extra_fields_stand_beside_the_good_ones() -> None:
    reply = hit("query", "extra_fields", generous(), NOW + 10)
    assert {"code", "message", "data"} < reply.json().keys()
    assert {"status", "task_id", "model_id", "duration", "result"} < reply.json()["data"].keys()


def test_a_spoiling_fault_waits_for_a_request_that_succeeds() -> None:
    service = Service(max_running=0)
    service.next_fault("submit", "cut_after")
    assert seen(service.handle(SUBMIT, NOW))[0] == 429
    service.max_running = 1
    assert service.handle(SUBMIT, NOW).delivery is Delivery.CUT
    assert service.ledger.submits_accepted == 1


def test_planned_faults_come_in_their_order_one_a_request_and_then_none() -> None:
    service = generous()
    for fault in ("error_500", "garbage", "cut_before"):
        service.next_fault("submit", fault)
    service.next_fault("query", "refuse")
    for _ in range(4):
        service.handle(SUBMIT, NOW)
    faults = [entry.fault for entry in service.ledger.of("submit")]
    assert faults == [Fault.ERROR_500, Fault.GARBAGE, Fault.CUT_BEFORE, None]


def test_a_request_that_is_not_let_in_uses_no_planned_fault_up() -> None:
    service = generous()
    service.next_fault("submit", "error_500")
    assert service.handle(attrs.evolve(SUBMIT, headers={}), NOW).status == 401
    assert service.handle(SUBMIT, NOW).status == 500


@pytest.mark.parametrize(
    ("fault", "status", "delivery"),
    [("error_500", 500, Delivery.WHOLE), ("cut", 200, Delivery.CUT), ("truncated", 200, Delivery.TRUNCATED)],
)
def test_a_download_meets_its_own_faults(fault: str, status: int, delivery: Delivery) -> None:
    service = generous()
    url = service.handle(query_of(service), NOW + 10).json()["data"]["result"]["resources"][0]["url"]
    service.next_fault("download", fault)
    replies = [service.handle(Request.to("GET", url), NOW + 10) for _ in range(2)]
    assert [(reply.status, reply.delivery) for reply in replies] == [(status, delivery), (200, Delivery.WHOLE)]


def test_faults_come_as_often_as_they_are_likely_and_can_be_switched_off_while_it_runs() -> None:
    service = generous(faults=Faults(submit=FaultRates(error_500=0.2, cut_after=0.5)))
    for _ in range(2000):
        service.handle(SUBMIT, NOW)
    counts = Counter(entry.fault for entry in service.ledger.entries)
    assert counts.keys() == {None, Fault.ERROR_500, Fault.CUT_AFTER}
    assert 340 < counts[Fault.ERROR_500] < 460
    assert 720 < counts[Fault.CUT_AFTER] < 880  # half of the four fifths that were accepted
    service.faults = Faults()
    assert {service.handle(SUBMIT, NOW).delivery for _ in range(100)} == {Delivery.WHOLE}


def test_a_likelihood_of_one_hits_every_request() -> None:
    service = generous(faults=Faults(query=FaultRates(garbage=1.0)))
    request = query_of(service)
    assert {service.handle(request, NOW).headers["Content-Type"] for _ in range(200)} == {"text/html"}


def test_the_same_seed_deals_the_same_faults() -> None:
    def dealt(seed: int) -> list[Fault | None]:
        service = generous(seed=seed, faults=Faults(submit=FaultRates(error_500=0.3, hang=0.3)))
        for _ in range(50):
            service.handle(SUBMIT, NOW)
        return [entry.fault for entry in service.ledger.entries]

    assert dealt(1) == dealt(1)
    assert dealt(1) != dealt(2)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="hang is a probability, from 0 to 1; got"):
        FaultRates(hang=rate)


def test_a_rate_of_what_is_no_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="'nonsense' is not a valid Fault"):
        FaultRates(nonsense=0.1)


def test_rates_that_sum_to_more_than_one_are_refused() -> None:
    FaultRates(hang=0.1, garbage=0.2, cut_before=0.7)
    with pytest.raises(ValueError, match=r"must not sum to more than 1; got 1\.1"):
        FaultRates(hang=0.6, garbage=0.5)


def test_a_fault_that_its_kind_of_request_cannot_meet_is_refused() -> None:
    with pytest.raises(ValueError, match="a download cannot meet the fault 'refuse'"):
        Faults(download=FaultRates(refuse=0.1))
    with pytest.raises(ValueError, match="a request of kind 'submit' cannot meet the fault 'wrong_task_id'"):
        Service().next_fault("submit", "wrong_task_id")
    with pytest.raises(ValueError, match="'nonsense' is not a valid Fault"):
        Service().next_fault("submit", "nonsense")


def test_every_fault_has_a_group_and_a_request_that_can_meet_it() -> None:
    assert set(Fault) == BEFORE | AFTER | DELIVERY
    assert len(Fault) == len(BEFORE) + len(AFTER) + len(DELIVERY)
    assert frozenset().union(*FAULTS_OF.values()) == set(Fault)
