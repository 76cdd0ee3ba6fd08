"""What a query's answer says of a task: a paid video is never lost over a field, and nothing is made up."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.reports import Report, Unreadable, read_report
from hailuo_async._rules.wire import Answer, Verdict, decipher
from hailuo_async.outcomes import Resource, Status, Video

from ..support.answers import body, content

TASK = "task-abc123"
CREATED_AT = 1_700_000_000.0
URL = "https://results.example.com/x.mp4?sig=0123456789abcdef"


def read(data: object, *, message: str = "success", created_at: float | None = None) -> Video | Report | Unreadable:
    answer = decipher(200, {}, json.dumps({"code": 0, "message": message, "data": data}).encode())
    return read_report(answer, TASK, created_at)


def success(**changes: Any) -> dict[str, Any]:
    """The data of the recorded success, with changes; ``...`` takes a field out."""
    data = {**content("query-success")["data"], **changes}
    return {name: value for name, value in data.items() if value is not ...}


def video(found: Video | Report | Unreadable) -> Video:
    assert isinstance(found, Video)
    return found


# --- Recorded -------------------------------------------------------------------------------------------------------


def test_a_recorded_success_is_read_whole() -> None:
    found = read_report(decipher(200, {}, body("query-success")), TASK, CREATED_AT)
    created = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    whole = Video(
        task_id=TASK,
        model="model-123",
        resources=(Resource(URL, "video", 1366, 768, "mp4", "primary"),),
        seconds_taken=93.5,
        created_at=created,
        expires_at=created + timedelta(days=7),
        request_id="req-123456",
    )
    assert found == whole
    assert video(found).raw == content("query-success")["data"]


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("query-pending", Report(Status.PENDING, "pending")),
        ("query-processing", Report(Status.PROCESSING, "processing")),
        ("query-failed", Report(Status.FAILED, "failed", reason="the picture shows what may not be shown", code=1026)),
        ("submit-hailuo-2.3-i2v", Report(Status.PENDING, "pending")),
    ],
)
def test_the_other_recorded_answers_say_where_the_task_stands(name: str, report: Report) -> None:
    assert read_report(decipher(200, {}, body(name)), TASK, None) == report


# --- The status -----------------------------------------------------------------------------------------------------

SPELLINGS = {
    Status.PENDING: ["pending", "queued", "created"],
    Status.PROCESSING: ["processing", "running", "in_progress"],
    Status.FAILED: ["failed", "error", "canceled", "cancelled"],
}


@pytest.mark.parametrize(("status", "word"), [(status, word) for status, words in SPELLINGS.items() for word in words])
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title, " {} ".format])
def test_every_spelling_that_the_services_clients_accept_is_known_in_any_case(
    status: Status, word: str, spell: Any
) -> None:
    found = read({"status": spell(word), "task_id": TASK})
    assert isinstance(found, Report)
    assert found.status is status


@pytest.mark.parametrize("word", ["success", "succeeded", "completed", "done", "SUCCESS", "Completed"])
def test_every_spelling_of_success_brings_the_video(word: str) -> None:
    assert video(read(success(status=word))).url == URL


@pytest.mark.parametrize("word", ["paused", "", "successful", "zurückgestellt"])
def test_a_status_that_nobody_knows_is_neither_success_nor_failure(word: str) -> None:
    assert read({"status": word, "task_id": TASK}) == Report(None, word)


def test_a_status_that_nobody_knows_is_one_line_of_a_log() -> None:
    assert read({"status": "a\nb", "task_id": TASK}) == Report(None, "a b")


@pytest.mark.parametrize("status", [..., None, 3, ["success"], {"a": 1}])
def test_an_answer_without_a_status_says_nothing(status: object) -> None:
    assert read(success(status=status)) == Unreadable("required field missing, or not a string @ $.data.status")


# --- The task -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["task-other", "", None, 5, ["task-abc123"]])
def test_an_answer_for_another_task_says_nothing_of_this_one(task_id: object) -> None:
    assert read(success(task_id=task_id)) == Unreadable("the answer is for another task")


ASKED_AGAIN = Unreadable("required field missing @ $.data.task_id", is_anonymous=True)


def test_an_answer_that_names_no_task_is_believed_on_a_connection_of_its_own_alone() -> None:
    anonymous = Answer(Verdict.ACCEPTED, "success", 200, data=success(task_id=...))
    assert video(read_report(anonymous, TASK, None, is_alone=True)).task_id == TASK
    assert read_report(anonymous, TASK, None, is_alone=False) == ASKED_AGAIN


@pytest.mark.parametrize("data", [{"status": "failed", "task_id": TASK}, success()])
def test_an_envelope_that_is_no_success_may_tell_of_the_task_that_was_asked_about(data: dict[str, Any]) -> None:
    answer = decipher(200, {}, json.dumps({"code": 1026, "message": "input sensitive", "data": data}).encode())
    found = read_report(answer, TASK, None)
    if isinstance(found, Report):
        assert (found.reason, found.code) == ("input sensitive", 1026)
    else:
        assert video(found).url == URL
    assert isinstance(read_report(answer, "task-other", None), Unreadable)
    anonymous = attrs.evolve(answer, data={"status": "failed"})
    assert read_report(anonymous, TASK, None) == Unreadable(
        "required field missing @ $.data.task_id", is_anonymous=True
    )


@pytest.mark.parametrize("status", [None, 500, 409])
def test_a_server_that_cannot_answer_tells_nothing_of_the_task(status: int | None) -> None:
    answer = Answer(Verdict.UNKNOWN, "busy", status, data=success())
    assert read_report(answer, TASK, None) == Unreadable("busy")


def test_a_task_id_that_is_a_number_is_the_same_as_its_digits() -> None:
    answer = Answer(Verdict.ACCEPTED, "success", data={"status": "pending", "task_id": 17})
    assert read_report(answer, "17", None) == Report(Status.PENDING, "pending")


# --- The video ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        ...,
        None,
        "https://results.example.com/x.mp4",
        [],
        {},
        {"resources": None},
        {"resources": {}},
        {"resources": []},
        {"resources": [None, 5, "https://results.example.com/x.mp4", {}, {"url": None}, {"url": 5}]},
        {"resources": [{"url": ""}, {"url": "x.mp4"}, {"url": "ftp://a/b"}, {"url": "https://a/\n"}, {"url": "//["}]},
    ],
)
def test_a_success_without_a_url_is_asked_for_again(result: object) -> None:
    reason = "success without a resource that has a URL @ $.data.result.resources"
    assert read(success(result=result)) == Unreadable(reason)


@pytest.mark.parametrize(
    ("more", "resource"),
    [
        ({}, Resource(URL)),
        ({"width": "1366", "height": None, "type": 5, "format": ["mp4"], "role": {}}, Resource(URL)),
        ({"width": True, "height": float("nan")}, Resource(URL)),
        ({"width": 1366.0, "height": 768.9}, Resource(URL, width=1366, height=768)),
        ({"width": -1, "height": 0}, Resource(URL)),
        ({"width": 10**400, "height": float("inf")}, Resource(URL)),
        ({"bitrate": 9000, "type": "video"}, Resource(URL, "video")),
    ],
)
def test_only_the_url_of_a_resource_is_required(more: dict[str, object], resource: Resource) -> None:
    found = read(success(result={"resources": [None, {"url": URL, **more}, {"type": "video"}]}))
    assert video(found).resources == (resource,)


NONSENSE: list[object] = [..., None, "93500", -1, True, float("nan"), float("inf"), 10**400, []]


@pytest.mark.parametrize(
    ("duration", "seconds"), [*[(93500, 93.5), (0, 0.0), (1.5, 0.0015)], *[(nonsense, None) for nonsense in NONSENSE]]
)
def test_the_time_taken_is_told_if_it_is_one(duration: object, seconds: float | None) -> None:
    assert video(read(success(duration=duration))).seconds_taken == seconds


@pytest.mark.parametrize("model", [..., None, 5, []])
def test_a_video_need_not_name_its_model(model: object) -> None:
    assert video(read(success(model_id=model))).model is None


@pytest.mark.parametrize("created_at", [None, float("inf"), float("nan"), 1e20, -1e20, 253402300799.0])
def test_a_time_that_is_not_known_or_that_no_calendar_has_is_not_told(created_at: float | None) -> None:
    found = video(read(success(), created_at=created_at))
    assert (found.expires_at, found.url) == (None, URL)
    assert found.created_at is None or found.created_at.year == 9999


# --- When it goes ---------------------------------------------------------------------------------------------------

DAY_S = 86_400
MADE = datetime.fromtimestamp(CREATED_AT, UTC)


def expiry(told: object, created_at: float | None = CREATED_AT, answered_at: float | None = CREATED_AT + 60) -> Any:
    answer = Answer(
        Verdict.ACCEPTED,
        "success",
        200,
        data=success(result_expires_at=told),
        rate_headers=RateHeaders(date=answered_at),
    )
    return video(read_report(answer, TASK, created_at)).expires_at


@pytest.mark.parametrize("told", [(CREATED_AT + 3600) * 1000, int(CREATED_AT + 3600) * 10**6, "2023-11-14T23:13:20Z"])
def test_a_result_goes_when_the_service_says_in_whichever_unit(told: object) -> None:
    assert expiry(told) == MADE + timedelta(hours=1)
    assert expiry(told, created_at=None) == MADE + timedelta(hours=1)


@pytest.mark.parametrize(
    "told",
    [
        *(..., None, True, "soon", "", "-5", [], {}, float("nan"), float("inf"), -1, 0, 10**400, "9" * 400),
        *(CREATED_AT * 1000 - DAY_S, CREATED_AT - DAY_S, CREATED_AT * 1000 + 500 * DAY_S * 1000, 10**14),
    ],
    ids=str,
)
def test_an_expiry_that_cannot_be_is_ignored_and_seven_days_hold(told: object) -> None:
    assert expiry(told) == MADE + timedelta(days=7)


def test_without_the_time_of_its_making_a_result_lasts_seven_days_from_the_answer() -> None:
    assert expiry(None, created_at=None) == MADE + timedelta(days=7, seconds=60)
    assert expiry(None, created_at=None, answered_at=None) is None


# --- What it cost ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("billing", "cost"),
    [
        ({"status": "succeeded", "amount": "0.2400"}, Decimal("0.24")),
        ({"amount": "lots"}, None),
        ({}, None),
        (None, None),
        ([], None),
        (..., None),
    ],
)
def test_a_video_cost_what_its_billing_says(billing: object, cost: Decimal | None) -> None:
    assert video(read(success(billing=billing))).cost == cost


def test_a_failure_may_say_what_it_cost() -> None:
    found = read({"status": "failed", "task_id": TASK, "billing": {"amount": "0"}})
    assert isinstance(found, Report)
    assert found.cost == 0


def test_a_video_has_the_name_of_its_answer() -> None:
    metadata = {**content("query-success")["data"]["result"], "metadata": {"request_id": "req-7"}}
    assert video(read(success(result=metadata))).request_id == "req-7"


# --- Why it failed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message", "reason", "code"),
    [
        ({"error": {"message": "a", "detail": "b"}, "message": "c"}, "d", "a", None),
        ({"error": {"detail": "b"}, "message": "c"}, "d", "b", None),
        ({"error": {"code": 1026}, "message": "c"}, "d", '{"code": 1026}', 1026),
        ({"error": {"code": "1027", "message": "a"}}, "d", "a", 1027),
        ({"error": {"code": "too_dark", "message": "a"}}, "d", "a", "too_dark"),
        ({"error": {"code": "too_dark", "message": "1026 a"}}, "d", "1026 a", 1026),
        ({"error": {"message": 5, "detail": "b"}, "message": "c"}, "d", "c", None),
        ({"error": {}, "message": "c"}, "d", "c", None),
        ({"error": 1026}, "d", "1026", 1026),
        ({"error": "a", "message": "c"}, "d", "a", None),
        ({"error": " ", "message": "c"}, "d", "c", None),
        ({"error": None, "message": "c"}, "d", "c", None),
        ({"error_message": "b", "message": "c"}, "d", "b", None),
        ({"error_message": "b", "error_code": 2013}, "d", "b", 2013),
        ({"message": 5}, "d", "d", None),
        ({"error": True}, "d", "d", None),
        ({"message": "success"}, "d", "d", None),
        ({"message": "the input image is sensitive"}, "d", "the input image is sensitive", 1026),
        ({"message": "output new_sensitive, sensitive"}, "d", "output new_sensitive, sensitive", 1027),
        ({"message": "found bad parameters (2013)"}, "d", "found bad parameters (2013)", 2013),
        ({"message": "12026 frames"}, "d", "12026 frames", None),
        ({}, "d", "d", None),
        ({}, "success", "no reason given", None),
        ({}, "OK", "no reason given", None),
        ({}, " Success ", "no reason given", None),
        ({"error": "success"}, "success", "no reason given", None),
        ({"error": "two\nlines"}, "d", "two lines", None),
    ],
)
def test_a_failure_says_why_by_whichever_documented_place_speaks_first(
    data: dict[str, Any], message: str, reason: str, code: int | str | None
) -> None:
    found = read({"status": "failed", "task_id": TASK, **data}, message=message)
    assert found == Report(Status.FAILED, "failed", reason=reason, code=code)


def test_a_failure_without_a_word_says_so() -> None:
    answer = decipher(200, {}, json.dumps({"data": {"status": "failed", "task_id": TASK}}).encode())
    assert read_report(answer, TASK, None) == Report(Status.FAILED, "failed", reason="no reason given")


@pytest.mark.parametrize("word", ["canceled", "Cancelled"])
def test_a_task_that_was_canceled_has_ended(word: str) -> None:
    assert read({"status": word, "task_id": TASK}) == Report(
        Status.FAILED, word, reason="the task was canceled at the service"
    )


# --- Anything -------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(URL),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["url", "type", "width", "resources", "message"]), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = ["error", "message", "duration", "model_id", "result_expires_at", "billing"]
words = st.sampled_from(["success", "failed", "pending", "running"])


@pytest.mark.slow
@given(
    status=words | values,
    result=values | st.fixed_dictionaries({"resources": st.lists(values, max_size=3)}),
    more=st.dictionaries(
        st.sampled_from(["error", "message", "duration", "model_id", "result_expires_at", "billing"]), values
    ),
    created_at=st.none() | st.floats(),
)
def test_whatever_a_query_is_told_it_is_read_without_raising(
    status: object, result: object, more: dict[str, object], created_at: float | None
) -> None:
    found = read_report(
        Answer(Verdict.ACCEPTED, "x", data={"status": status, "result": result, **more}), TASK, created_at
    )
    if isinstance(found, Video):
        assert found.url.startswith("http")
    elif isinstance(found, Report):
        assert found.status is not Status.SUCCESS
        assert (found.reason != "") is (found.status is Status.FAILED)
