"""What a query's answer says of a task: a paid video is never lost over a field, and nothing is made up."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async._rules.reports import RESULT_LIFETIME, Report, Unreadable, read_report
from hailuo_async._rules.wire import Answer, Verdict, decipher
from hailuo_async.outcomes import Resource, Status, Video

from ..support.answers import body, content

TASK = "task-abc123"
CREATED_AT = 1_700_000_000.0
URL = "https://results.example.com/x.mp4?sig=0123456789abcdef"


def read(data: object, *, message: str = "success", created_at: float | None = None) -> Report | Unreadable:
    answer = decipher(200, {}, json.dumps({"code": 0, "message": message, "data": data}).encode())
    return read_report(answer, TASK, created_at)


def success(**changes: Any) -> dict[str, Any]:
    """The data of the recorded success, with changes; ``...`` takes a field out."""
    data = {**content("query-success")["data"], **changes}
    return {name: value for name, value in data.items() if value is not ...}


def video(found: Report | Unreadable) -> Video:
    assert isinstance(found, Report)
    assert found.video is not None
    return found.video


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
        expires_at=created + timedelta(hours=24),
    )
    assert found == Report(Status.SUCCESS, "success", whole)
    assert video(found).raw == content("query-success")["data"]
    assert timedelta(hours=24) == RESULT_LIFETIME


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("query-pending", Report(Status.PENDING, "pending")),
        ("query-processing", Report(Status.PROCESSING, "processing")),
        ("query-failed", Report(Status.FAILED, "failed", reason="the picture shows what may not be shown")),
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


def test_an_answer_that_names_no_task_is_for_the_one_asked_about() -> None:
    assert video(read(success(task_id=...))).task_id == TASK


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
    ("duration", "seconds"),
    [
        *[(93500, 93.5), (0, 0.0), (1.5, 0.0015)],
        *[(nonsense, None) for nonsense in NONSENSE],
    ],
)
def test_the_time_taken_is_told_if_it_is_one(duration: object, seconds: float | None) -> None:
    assert video(read(success(duration=duration))).seconds_taken == seconds


@pytest.mark.parametrize("model", [..., None, 5, []])
def test_a_video_need_not_name_its_model(model: object) -> None:
    assert video(read(success(model_id=model))).model is None


@pytest.mark.parametrize("created_at", [None, float("inf"), float("nan"), 1e20, -1e20, 253402300799.0])
def test_a_time_that_is_not_known_or_that_no_calendar_has_is_not_told(created_at: float | None) -> None:
    found = video(read(success(), created_at=created_at))
    assert (found.created_at, found.expires_at, found.url) == (None, None, URL)


# --- Why it failed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message", "reason"),
    [
        ({"error": {"message": "a", "detail": "b"}, "message": "c"}, "d", "a"),
        ({"error": {"detail": "b"}, "message": "c"}, "d", "b"),
        ({"error": {"code": 1026}, "message": "c"}, "d", '{"code": 1026}'),
        ({"error": {"message": 5, "detail": "b"}, "message": "c"}, "d", "c"),
        ({"error": {}, "message": "c"}, "d", "c"),
        ({"error": "a", "message": "c"}, "d", "a"),
        ({"error": " ", "message": "c"}, "d", "c"),
        ({"error": None, "message": "c"}, "d", "c"),
        ({"message": 5}, "d", "d"),
        ({}, "d", "d"),
        ({"error": "two\nlines"}, "d", "two lines"),
    ],
)
def test_a_failure_says_why_by_whichever_field_speaks_first(data: dict[str, Any], message: str, reason: str) -> None:
    found = read({"status": "failed", "task_id": TASK, **data}, message=message)
    assert found == Report(Status.FAILED, "failed", reason=reason)


def test_a_failure_without_a_word_says_so() -> None:
    answer = Answer(Verdict.ACCEPTED, " ", data={"status": "failed"})
    assert read_report(answer, TASK, None) == Report(Status.FAILED, "failed", reason="no reason given")


# --- Anything -------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(URL),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["url", "type", "width", "resources", "message"]), inner, max_size=4)
    ),
    max_leaves=8,
)
words = st.sampled_from(["success", "failed", "pending", "running"])


@pytest.mark.slow
@given(
    status=words | values,
    result=values | st.fixed_dictionaries({"resources": st.lists(values, max_size=3)}),
    more=st.dictionaries(st.sampled_from(["error", "message", "duration", "model_id"]), values),
    created_at=st.none() | st.floats(),
)
def test_whatever_a_query_is_told_it_is_read_without_raising(
    status: object, result: object, more: dict[str, object], created_at: float | None
) -> None:
    found = read_report(
        Answer(Verdict.ACCEPTED, "x", data={"status": status, "result": result, **more}), TASK, created_at
    )
    if isinstance(found, Report):
        assert (found.video is not None) is (found.status is Status.SUCCESS)
        assert (found.reason != "") is (found.status is Status.FAILED)
        if found.video is not None:
            assert found.video.url.startswith("http")
