"""Which error a refusal becomes, and which of them would meet every other job too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hailuo_async._rules.refusals import build_error, stops_everything
from hailuo_async._rules.wire import Answer, Verdict, decipher, unknown, unsent
from hailuo_async.errors import (
    AuthenticationError,
    ConfigError,
    DownloadError,
    HailuoError,
    InsufficientBalanceError,
    JobError,
    JournalError,
    ProtocolError,
    QueueFullError,
    RateLimitedError,
    RequestRejectedError,
    ServiceError,
    ServiceUnavailableError,
    SessionClosedError,
    SpendingLimitError,
    SubmissionUnknownError,
    TaskExpiredError,
    TaskFailedError,
    WaitTimeoutError,
)

from ..support.answers import content

KINDS: dict[str, type[ServiceError]] = {
    "REJECTED": RequestRejectedError,
    "NOT_FOUND": RequestRejectedError,
    "AUTHENTICATION": AuthenticationError,
    "BALANCE": InsufficientBalanceError,
    "REQUEST_RATE": RateLimitedError,
    "RUNNING_LIMIT": RateLimitedError,
}


def facts(error: HailuoError) -> tuple[type[HailuoError], dict[str, Any]]:
    return type(error), {name: value for name, value in vars(error).items() if value is not None}


@pytest.mark.parametrize("row", content("refusals"), ids=lambda row: row["body"]["message"])
def test_every_documented_refusal_becomes_its_own_error_with_the_services_words(row: dict[str, Any]) -> None:
    answer = decipher(row["status"], {}, json.dumps(row["body"]).encode())
    told = {"status": row["status"], "message": row["body"]["message"]}
    assert facts(build_error(answer)) == (KINDS[row["refusal"]], told)
    assert facts(build_error(answer, "task-abc123")) == (KINDS[row["refusal"]], {**told, "task_id": "task-abc123"})


@pytest.mark.parametrize("row", content("doubts"), ids=lambda row: str(row["status"]))
def test_a_server_that_cannot_answer_now_is_unavailable(row: dict[str, Any]) -> None:
    answer = decipher(row["status"], {}, json.dumps(row["body"]).encode())
    told = {"status": row["status"], "message": row["body"]["message"]}
    assert facts(build_error(answer)) == (ServiceUnavailableError, told)


def test_advice_on_when_to_come_again_is_passed_on() -> None:
    answer = decipher(429, {"Retry-After": "17"}, b'{"code": 429, "message": "Rate limit exceeded: 100"}')
    told = {"status": 429, "message": "Rate limit exceeded: 100", "retry_after_s": 17.0}
    assert facts(build_error(answer)) == (RateLimitedError, told)


@pytest.mark.parametrize("body", [b"", b"<html>a proxy's page</html>"])
def test_too_many_requests_in_any_form_asks_to_wait(body: bytes) -> None:
    told = {"status": 429, "message": "HTTP 429", "retry_after_s": 17.0}
    assert facts(build_error(decipher(429, {"Retry-After": "17"}, body))) == (RateLimitedError, told)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_refusal_that_is_not_the_services_own_word_is_no_word_on_the_key_or_the_balance(status: int) -> None:
    answer = decipher(status, {}, b"<html>a proxy's page</html>")
    error = build_error(answer)
    assert (type(error), vars(error)["status"]) == (ProtocolError, status)
    assert str(error).startswith(f"HTTP {status} not in the service's form: a proxy may have answered")


@pytest.mark.parametrize("status", [200, 204, 301, 302, 418])
def test_an_answer_that_fits_nothing_is_a_protocol_error(status: int) -> None:
    error = build_error(decipher(status, {}, b""), "task-abc123")
    assert (type(error), error.task_id) == (ProtocolError, "task-abc123")


@pytest.mark.parametrize("answer", [unsent("no route"), unknown("no route")], ids=lambda answer: answer.verdict.name)
def test_no_answer_at_all_is_a_service_that_is_unavailable(answer: Answer) -> None:
    assert answer.verdict in (Verdict.UNSENT, Verdict.UNKNOWN)
    assert facts(build_error(answer)) == (ServiceUnavailableError, {"message": "no route"})


@pytest.mark.parametrize(
    ("error", "stops"),
    [
        (AuthenticationError(message="m", status=401), True),
        (InsufficientBalanceError(message="m", status=402), True),
        (JournalError(path="p", reason="r"), True),
        (SessionClosedError(reason="r"), True),
        (SpendingLimitError(max_jobs=1), True),
        (RequestRejectedError(message="m", status=400), False),
        (RateLimitedError(message="m", status=429), False),
        (ServiceUnavailableError(message="m"), False),
        (ProtocolError(message="m"), False),
        (SubmissionUnknownError(reason="r"), False),
        (TaskFailedError(reason="r"), False),
        (TaskExpiredError(), False),
        (WaitTimeoutError(timeout_s=1.0), False),
        (JobError(field="f", value=1, rule="r"), False),
        (ConfigError(field="f", value=1, rule="r"), False),
        (DownloadError(reason="r"), False),
        (QueueFullError(max_queued=1), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_every_job_would_meet_stops_everything(error: HailuoError, stops: bool) -> None:
    assert stops_everything(error) is stops
