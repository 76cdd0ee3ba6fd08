"""The emulator's core: which requests are let in, how they are answered, and what the ledger says about them."""

from __future__ import annotations

import email.utils
import hashlib
from decimal import Decimal
from typing import Any

import attrs
import pytest

from hailuo_async.emulator import DEFAULT_API_KEY, Entry, Kind, Service

from ..support.emulated import (
    FL2V,
    I2V,
    IMAGES,
    MODELS,
    NOW,
    START,
    accepted,
    ask,
    data_url,
    job,
    png,
    queried,
    refusal,
    submit,
)

# Submits


def test_a_submit_on_the_newer_path_answers_as_its_reference_does() -> None:
    service = Service(origin="https://api.modellix.ai")
    reply = service.handle(job(), NOW)
    task_id = reply.json()["data"]["task_id"]
    assert (reply.status, reply.json()) == (
        200,
        {
            "code": 0,
            "message": "success",
            "data": {
                "status": "pending",
                "task_id": task_id,
                "model_id": "minimax-hailuo-2.3-i2v",
                "get_result": {"method": "GET", "url": f"https://api.modellix.ai/api/v1/tasks/{task_id}"},
            },
        },
    )


def test_a_submit_on_the_older_path_answers_as_its_reference_does_without_get_result() -> None:
    reply = Service().handle(submit({"last_frame_image": START}, FL2V), NOW)
    task_id = reply.json()["data"]["task_id"]
    assert reply.json() == {
        "code": 0,
        "message": "success",
        "data": {"status": "pending", "task_id": task_id, "model_id": "minimax-hailuo-02-fl2v"},
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "spelling", ["image-to-video/minimax/{}/async", "minimax/{}/async", "minimax/{}"], ids=["typed", "async", "short"]
)
def test_every_model_is_reached_by_every_spelling_of_its_path(model: str, spelling: str) -> None:
    content = {IMAGES.get(model, "first_frame_image"): START}
    reply = Service().handle(submit(content, "/api/v1/" + spelling.format(model)), NOW)
    assert reply.json()["data"]["model_id"] == f"minimax-{model}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/minimax/hailuo-9/async"),
        ("POST", "/api/v1/alibaba/hailuo-2.3-i2v/async"),
        ("POST", "/api/v1/text-to-video/minimax/hailuo-2.3-i2v/async"),
        ("POST", "/api/v1/minimax/hailuo-2.3-i2v/sync"),
        ("GET", "/api/v1/tasks/task-1"),
        ("GET", "/api/v1/tasks"),
        ("GET", "/media/file-000001/cat.png"),
        ("GET", "/media"),
        ("GET", "/"),
        ("HEAD", "/results/task-1.mp4"),
    ],
)
def test_what_is_not_there_is_answered_404(method: str, path: str) -> None:
    assert refusal(Service().handle(ask(method, path), NOW)) == (404, "Resource not found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/v1/tasks/task-1", "GET"),
        ("GET", I2V, "POST"),
        ("DELETE", "/api/v1/models", "GET"),
        ("PUT", "/api/v1/media/files", "GET, POST"),
        ("GET", "/api/v1/media/files/file-000001", "DELETE"),
    ],
)
def test_a_method_that_a_path_does_not_answer_is_refused_with_405(method: str, path: str, allowed: str) -> None:
    reply = Service().handle(ask(method, path), NOW)
    assert (refusal(reply), reply.headers["Allow"]) == ((405, "Method not allowed"), allowed)


# Keys, requests, slots, money


@pytest.mark.parametrize(
    "header", ["", "Bearer wrong", DEFAULT_API_KEY, f"bearer {DEFAULT_API_KEY}", "Bearer é", "Bearer \udcff"]
)
def test_a_request_without_the_key_is_refused(header: str) -> None:
    service = Service()
    request = attrs.evolve(job(), headers={"Content-Type": "application/json", "Authorization": header})
    assert refusal(service.handle(request, NOW)) == (401, "Authentication failed")
    assert service.ledger.submits_accepted == 0


def test_requests_beyond_the_minutes_limit_are_refused_until_the_next_begins() -> None:
    service = Service(requests_per_minute=3, max_running=None)
    window = NOW - NOW % 60
    replies = [service.handle(job(), window + second) for second in (0, 20, 40, 59.9, 60)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 200]
    assert refusal(replies[3]) == (429, "Rate limit exceeded")
    assert service.ledger.submits_accepted == 4


def test_every_answer_tells_of_the_requests_that_are_left() -> None:
    service = Service(requests_per_minute=2)
    window = int(NOW - NOW % 60)
    wrong = attrs.evolve(job(), headers={})
    told = [
        {name: value for name, value in service.handle(request, window + 30.5).headers.items() if "-" in name}
        for request in (job(), wrong, wrong)
    ]
    for headers in told:
        headers.pop("Content-Type")
        headers.pop("X-Request-Id")
    reset = str(window + 60)
    assert told == [
        {"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": left, "X-RateLimit-Reset": reset} for left in "100"
    ]


def test_every_answer_carries_the_servers_own_date() -> None:
    date = Service().handle(ask("GET", "/"), NOW).headers["Date"]
    assert email.utils.parsedate_to_datetime(date).timestamp() == NOW


def test_without_a_requests_limit_nothing_tells_of_one() -> None:
    service = Service(requests_per_minute=None)
    replies = [service.handle(ask("GET", "/api/v1/models"), NOW) for _ in range(500)]
    assert {reply.status for reply in replies} == {200}
    assert replies[-1].headers.keys() == {"Content-Type", "Date", "X-Request-Id"}


def test_a_refusal_for_requests_sometimes_says_when_to_come_back_in_both_forms() -> None:
    service = Service(requests_per_minute=0)
    window = NOW - NOW % 60
    replies = [service.handle(job(), window + 17.5) for _ in range(50)]
    date = email.utils.formatdate(window + 60, usegmt=True)
    assert {reply.headers.get("Retry-After") for reply in replies} == {None, "43", date}


def test_a_submit_beyond_the_running_limit_is_refused_until_a_task_ends() -> None:
    service = Service(max_running=2, generation_s=10, spread=0)
    for _ in range(2):
        accepted(service)
    assert refusal(service.handle(job(), NOW + 9.999)) == (429, "Concurrent limit exceeded")
    accepted(service, NOW + 10)
    assert (service.ledger.submits_accepted, service.ledger.most_running, service.running) == (3, 2, 1)


def test_other_programs_of_the_team_take_slots_while_it_runs() -> None:
    service = Service(max_running=2)
    service.others_running = 2
    assert service.handle(job(), NOW).status == 429
    service.others_running = 1
    accepted(service)
    assert service.handle(job(), NOW).status == 429
    service.max_running = None
    accepted(service)
    assert service.running == 2


def test_a_balance_can_be_spent_to_the_last_cent() -> None:
    """In floats, 0.972 less three times 0.324 is a little less than nothing."""
    service = Service(balance=0.972)
    for _ in range(3):
        accepted(service)
    assert service.balance == 0


def test_an_accepted_second_of_video_is_paid_for_and_the_balance_runs_out() -> None:
    service = Service(balance=1.0, price_per_s=0.1)
    accepted(service, duration=6)
    balance = service.handle(ask("GET", "/api/v1/team/balance"), NOW).json()
    assert balance == {"code": 0, "message": "success", "data": {"balance": 0.4}}
    assert refusal(service.handle(job(), NOW)) == (402, "insufficient balance")
    assert (service.ledger.paid_s, service.ledger.submits_accepted) == (6, 1)


# The rest of the API


def test_the_models_are_listed_without_an_envelope() -> None:
    listed = Service().handle(ask("GET", "/api/v1/models"), NOW).json()["models"]
    assert [row["slug"] for row in listed] == [f"minimax/{model}" for model in MODELS]
    assert listed[0] == {
        "slug": "minimax/hailuo-2.3-i2v",
        "type": "image-to-video",
        "description": "Image to video, Hailuo 2.3",
        "docs_url": "https://docs.modellix.ai/minimax/hailuo-2-3-i2v",
        "price": {"min": 0.054, "max": 0.12},
        "unit": "$/sec",
    }


def test_a_valid_key_is_called_valid() -> None:
    reply = Service().handle(ask("GET", "/api/v1/apikey/validate"), NOW)
    assert reply.json() == {"code": 0, "message": "success", "data": {"is_valid": True}}


# Settings and the ledger


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_running": -1}, "max_running must be at least 0; got -1"),
        ({"generation_s": float("nan")}, "generation_s must be at least 0; got nan"),
        ({"spread": 1.5}, "spread must be from 0 to 1; got 1.5"),
        ({"fail_rate": -0.1}, "fail_rate must be from 0 to 1; got -0.1"),
        ({"video_size": 0}, "video_size must be at least 1; got 0"),
    ],
)
def test_a_setting_out_of_its_range_is_refused_in_clear_words(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Service(**settings)


def test_a_setting_is_checked_when_it_is_set_while_it_runs() -> None:
    service = Service()
    with pytest.raises(ValueError, match="others_running must be at least 0; got -1"):
        service.others_running = -1


def test_faults_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError, match="'faults' must be"):
        Service(faults="refuse")  # type: ignore[arg-type]


def test_the_ledger_is_read_while_it_is_written() -> None:
    ledger = Service().ledger
    entry = Entry(at=NOW, kind=Kind.QUERY, method="GET", path="/", status=200)

    class Writer:
        """Writes an entry whenever it is compared with the kind of one."""

        def __eq__(self, other: object) -> bool:
            ledger.note(entry)
            return True

        __hash__ = None  # type: ignore[assignment]

    ledger.note(entry)
    assert ledger.of(Writer()) == [entry]  # type: ignore[arg-type]
    assert list(ledger.entries) == [entry, entry]


def test_the_ledger_tells_what_came_and_what_became_of_it() -> None:
    service = Service(max_running=1)
    image = data_url(png(400, 400))
    request = attrs.evolve(job(first_frame_image=image, prompt="a cat", camera=1), connection="here")
    task_id = service.handle(request, NOW).json()["data"]["task_id"]
    service.handle(job(prompt="a dog"), NOW + 1)
    queried(service, task_id, NOW + 2)
    common: Any = {"kind": Kind.SUBMIT, "method": "POST", "path": I2V, "model": "hailuo-2.3-i2v", "seconds": 6}
    submits = service.ledger.of("submit")
    assert submits == [
        Entry(
            at=NOW,
            status=200,
            task_id=task_id,
            cost=Decimal("0.3240"),
            prompt="a cat",
            first_frame=f"sha256:{hashlib.sha256(png(400, 400)).hexdigest()}",
            unknown_fields=("camera",),
            key_sent=True,
            connection="here",
            body_bytes=len(request.body),
            **common,
        ),
        Entry(
            at=NOW + 1,
            status=429,
            prompt="a dog",
            first_frame=START,
            key_sent=True,
            body_bytes=submits[1].body_bytes,
            **common,
        ),
    ]
    assert service.ledger.accepted == {"a cat": [task_id]}
    assert service.ledger.requests == {Kind.SUBMIT: 2, Kind.QUERY: 1}
    assert service.ledger.statuses == {(Kind.SUBMIT, 200): 1, (Kind.SUBMIT, 429): 1, (Kind.QUERY, 200): 1}


def test_a_submit_of_both_frames_is_told_whole_in_the_ledger() -> None:
    service = Service()
    frames = {"first_frame_image": START, "last_frame_image": START + "?2"}
    service.handle(submit({**frames, "fast_pretreatment": True}, FL2V), NOW)
    (entry,) = service.ledger.entries
    assert (entry.first_frame, entry.last_frame, entry.unknown_fields) == (START, START + "?2", ("fast_pretreatment",))
