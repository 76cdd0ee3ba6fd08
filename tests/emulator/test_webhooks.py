"""Webhooks in the core: which deliveries are due when, what they say, and which come again."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async.emulator import Fault, FaultRates, Faults, Kind, Service, WebhookPost
from hailuo_async.emulator.faults import DELIVERY
from hailuo_async.emulator.webhooks import is_loopback

from ..support.emulated import NOW, ask, job, queried, refusal, submit

HOOK = "https://hooks.example/modellix?token=5ECRET"


def service_of(**settings: Any) -> Service:
    return Service(**{"generation_s": 10, "spread": 0, "max_running": None, "requests_per_minute": None, **settings})


def accepted(service: Service, now: float = NOW, url: str = HOOK) -> str:
    asked = job()
    reply = service.handle(attrs.evolve(asked, headers={**asked.headers, "X-Webhook-URL": url}), now)
    assert reply.status == 200, reply.body
    return str(reply.json()["data"]["task_id"])


def ids(posts: list[WebhookPost]) -> list[str]:
    return [post.task_id for post in posts]


def test_the_end_of_a_task_is_announced_with_the_body_of_its_query() -> None:
    service = service_of()
    task_id = accepted(service)
    assert (service.next_webhook_at, service.take_webhooks(NOW + 9.9)) == (NOW + 10, [])
    (post,) = service.take_webhooks(NOW + 10)
    delivery_id = post.headers["X-Modellix-Delivery-ID"]
    assert post.url == HOOK
    assert post.headers == {
        "Content-Type": "application/json",
        "X-Modellix-Event": "prediction.task.succeeded",
        "X-Modellix-Task-ID": task_id,
        "X-Modellix-Delivery-ID": delivery_id,
        "X-Modellix-Retry-Count": "0",
    }
    assert json.loads(post.body)["data"] == queried(service, task_id, NOW + 10)
    assert (service.next_webhook_at, service.take_webhooks(NOW + 99)) == (None, [])


@pytest.mark.parametrize(("rate", "event"), [("fail_rate", "failed"), ("cancel_rate", "canceled")])
def test_the_event_says_how_the_task_ended(rate: str, event: str) -> None:
    service = service_of(**{rate: 1.0})
    accepted(service)
    (post,) = service.take_webhooks(NOW + 10)
    assert post.headers["X-Modellix-Event"] == f"prediction.task.{event}"
    assert json.loads(post.body)["data"]["status"] == event


def test_a_submit_that_names_no_webhook_has_none() -> None:
    service = service_of()
    service.handle(job(), NOW)
    assert service.next_webhook_at is None


@pytest.mark.parametrize("url", ["", "hooks.example", "ftp://hooks.example", "https://", "http://[::1"])
def test_a_webhook_that_is_no_web_address_is_refused_and_nothing_is_paid(url: str) -> None:
    service = service_of()
    request = ask("POST", submit({}).path, job().body, Content_Type="application/json", X_Webhook_URL=url)
    assert refusal(service.handle(request, NOW)) == (400, "Invalid parameters")
    assert service.ledger.spent == 0


@pytest.mark.parametrize("status", [429, 500, 503, None])
def test_a_delivery_that_was_not_taken_comes_again_under_the_same_id_ever_later_and_five_times(
    status: int | None,
) -> None:
    service = service_of(webhook_retry_s=1.0)
    accepted(service)
    posts, waits, now = [], [], NOW + 10
    while service.next_webhook_at is not None:
        waits.append(service.next_webhook_at - now)
        now = service.next_webhook_at
        (post,) = service.take_webhooks(now)
        posts.append(post)
        service.settle_webhook(post, status, now)
    assert waits == [0, 1, 2, 4, 8, 16]
    assert [post.headers["X-Modellix-Retry-Count"] for post in posts] == list("012345")
    assert len({post.headers["X-Modellix-Delivery-ID"] for post in posts}) == 1


@pytest.mark.parametrize("status", [200, 202, 204, 301, 400, 404, 410])
def test_a_delivery_that_was_taken_or_refused_for_good_does_not_come_again(status: int) -> None:
    service = service_of()
    accepted(service)
    (post,) = service.take_webhooks(NOW + 10)
    service.settle_webhook(post, status, NOW + 10)
    assert service.next_webhook_at is None


def test_the_ledger_tells_of_deliveries_without_the_secret_in_their_urls() -> None:
    service = service_of()
    task_id = accepted(service)
    (post,) = service.take_webhooks(NOW + 10)
    service.settle_webhook(post, 503, NOW + 10.5)
    (entry,) = service.ledger.of(Kind.WEBHOOK)
    assert (entry.at, entry.path, entry.status, entry.task_id) == (NOW + 10.5, "/modellix", 503, task_id)
    assert "5ECRET" not in repr(service.ledger)
    assert "5ECRET" not in repr(post)


def test_a_lost_delivery_never_comes_and_the_ledger_knows() -> None:
    service = service_of()
    service.next_fault("webhook", "lost")
    lost, kept = accepted(service), accepted(service)
    assert ids(service.take_webhooks(NOW + 1000)) == [kept]
    assert [(entry.task_id, entry.fault) for entry in service.ledger.of("webhook")] == [(lost, Fault.LOST)]


def test_a_doubled_delivery_comes_twice_under_one_id() -> None:
    service = service_of()
    service.next_fault("webhook", "doubled")
    task_id = accepted(service)
    posts = service.take_webhooks(NOW + 10)
    assert ids(posts) == [task_id, task_id]
    assert posts[0].headers == posts[1].headers


def test_a_late_delivery_comes_after_the_end() -> None:
    service = service_of(webhook_late_s=30)
    service.next_fault("webhook", "late")
    accepted(service)
    assert service.next_webhook_at == NOW + 40


def test_an_early_delivery_goes_before_the_answer_to_its_submit_about_a_task_that_has_ended() -> None:
    service = service_of()
    service.next_fault("webhook", "early")
    request = ask("POST", submit({}).path, job().body, Content_Type="application/json", X_Webhook_URL=HOOK)
    reply = service.handle(request, NOW)
    task_id = reply.json()["data"]["task_id"]
    assert reply.preceded_by is not None
    assert reply.preceded_by.task_id == task_id
    assert json.loads(reply.preceded_by.body)["data"]["status"] == queried(service, task_id, NOW)["status"] == "success"
    assert service.next_webhook_at is None
    service.settle_webhook(reply.preceded_by, 500, NOW)
    assert service.next_webhook_at == NOW + 1


def test_an_early_delivery_survives_a_submit_whose_answer_is_lost() -> None:
    service = service_of()
    service.next_fault("webhook", "early")
    service.next_fault("submit", "garbage")
    request = ask("POST", submit({}).path, job().body, Content_Type="application/json", X_Webhook_URL=HOOK)
    assert service.handle(request, NOW).preceded_by is not None


def test_a_delivery_out_of_order_lets_one_that_ended_later_go_first() -> None:
    service = service_of(webhook_late_s=60)
    before = accepted(service, NOW - 1)
    service.next_fault("webhook", "out_of_order")
    first, second = accepted(service), accepted(service, NOW + 1)
    assert ids(service.take_webhooks(NOW + 10)) == [before]
    assert ids(service.take_webhooks(NOW + 11)) == [second, first]


def test_a_delivery_out_of_order_comes_late_if_no_other_follows() -> None:
    service = service_of(webhook_late_s=60)
    service.next_fault("webhook", "out_of_order")
    accepted(service)
    assert service.next_webhook_at == NOW + 70
    assert len(service.take_webhooks(NOW + 70)) == 1


@pytest.mark.slow
def test_deliveries_are_lost_as_often_as_they_are_likely_to_be() -> None:
    service = service_of(faults=Faults(webhook=FaultRates(lost=0.5, doubled=0.1)), balance=1e6)
    for _ in range(1000):
        accepted(service)
    posts = service.take_webhooks(NOW + 10)
    assert 430 < len(set(ids(posts))) < 570
    assert 70 < len(posts) - len(set(ids(posts))) < 130


def test_a_task_that_has_expired_is_not_announced() -> None:
    service = service_of(results_last_s=5, webhook_late_s=20)
    service.next_fault("webhook", "late")
    accepted(service)
    assert service.take_webhooks(NOW + 30) == []


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://127.0.0.1:80/x", True),
        ("https://localhost/x", True),
        ("http://[::1]/", True),
        ("http://127.9.9.9/", True),
        ("https://hooks.example/", False),
        ("http://127.0.0.1.example/", False),
        ("http://10.0.0.1/", False),
        ("http://localhost@hooks.example/", False),
    ],
)
def test_this_machine_is_known_by_its_name(url: str, is_local: bool) -> None:
    assert is_loopback(url) is is_local


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from([None, *sorted(DELIVERY)])), max_size=30),
    st.lists(st.integers(1, 20), min_size=1, max_size=10),
)
def test_every_delivery_that_is_not_lost_is_made_after_the_end_of_its_task(
    tasks: list[tuple[int, Fault | None]], steps: list[int]
) -> None:
    service = service_of(webhook_late_s=30)
    expected: Counter[str] = Counter()
    ends, made, early = {}, Counter[str](), Counter[str]()
    for at, fault in sorted(tasks, key=lambda task: task[0]):
        if fault is not None:
            service.next_fault("webhook", fault)
        request = ask("POST", submit({}).path, job().body, Content_Type="application/json", X_Webhook_URL=HOOK)
        reply = service.handle(request, NOW + at)
        task_id = reply.json()["data"]["task_id"]
        ends[task_id] = NOW + at + 10
        expected[task_id] = {Fault.LOST: 0, Fault.EARLY: 0, Fault.DOUBLED: 2}.get(fault or Fault.CUT, 1)
        early[task_id] += reply.preceded_by is not None
        assert early[task_id] == (fault is Fault.EARLY)
    now = NOW + 50
    for step in [*steps, 100]:
        now += step
        for post in service.take_webhooks(now):
            made[post.task_id] += 1
            assert now >= ends[post.task_id]
    assert +made == +expected
    assert service.next_webhook_at is None
