"""What is said to the service, byte by byte, and what each of its answers means."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hailuo_async._images.frame import inspect_image
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async._rules.task_ids import MAX_TASK_ID_CHARACTERS, is_task_id
from hailuo_async._rules.wire import (
    Answer,
    Refusal,
    Request,
    Verdict,
    build_query,
    build_upload,
    decipher,
    read_query_path,
    read_submit,
    read_task_id,
    single_line,
    unknown,
    unsent,
)
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job

from ..support.answers import SUBMITS, body, content
from ..support.service import body_of, request_for

START = "https://example.com/start-frame.jpg"
LAST = "https://example.com/last-frame.jpg"
FIRST = "https://example.com/first-frame.jpg"
ORIGIN = "https://api.modellix.ai"


def said(job: Job) -> Any:
    """The whole body of a job, read."""
    return json.loads(body_of(request_for(job)))


def picture(kind: str, size: tuple[int, int] = (320, 400)) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, "teal").save(made, kind)
    return made.getvalue()


# --- What is said ---------------------------------------------------------------------------------------------------


def test_the_first_seeds_own_request_comes_out_byte_for_byte() -> None:
    request = request_for(ImageToVideo(START))
    whole = b'{"first_frame_image":"https://example.com/start-frame.jpg"}'
    assert request == Request("POST", "/api/v1/minimax/hailuo-2.3-i2v/async", (whole,), "application/json")


def test_the_second_seeds_own_request_comes_out_byte_for_byte() -> None:
    request = request_for(FirstLastFrameToVideo(LAST))
    whole = b'{"last_frame_image":"https://example.com/last-frame.jpg"}'
    path = "/api/v1/image-to-video/minimax/hailuo-02-fl2v/async"
    assert request == Request("POST", path, (whole,), "application/json")


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, {}),
        ({"prompt": None}, {}),
        ({"prompt": "[Pan left] a sunset, 夕日"}, {"prompt": "[Pan left] a sunset, 夕日"}),
        ({"duration": 6}, {"duration": 6}),
        ({"duration": 10}, {"duration": 10}),
        ({"resolution": None}, {}),
        ({"resolution": "768P"}, {"resolution": "768P"}),
        ({"resolution": "1080P"}, {"resolution": "1080P"}),
        ({"prompt_optimizer": True}, {"prompt_optimizer": True}),
        ({"prompt_optimizer": False}, {"prompt_optimizer": False}),
        ({"key": "mine"}, {}),
        ({"fit": True}, {}),
    ],
)
def test_a_body_says_what_the_caller_set_and_nothing_else(options: dict[str, Any], more: dict[str, Any]) -> None:
    assert said(ImageToVideo(START, **options)) == {"first_frame_image": START, **more}
    assert said(FirstLastFrameToVideo(LAST, **options)) == {"last_frame_image": LAST, **more}


@pytest.mark.parametrize("fast", [True, False])
def test_fast_pretreatment_is_said_where_it_was_set(fast: bool) -> None:
    assert said(ImageToVideo(START, fast_pretreatment=fast)) == {"first_frame_image": START, "fast_pretreatment": fast}


def test_fast_pretreatment_is_never_said_to_a_model_that_has_no_such_field() -> None:
    assert said(ImageToVideo(START, model="hailuo-02-i2v", fast_pretreatment=False)) == {"first_frame_image": START}


def test_both_frames_are_said_each_under_its_own_name() -> None:
    job = FirstLastFrameToVideo(
        LAST, first_frame_image=FIRST, prompt="[Pan left]", duration=6, resolution="1080P", prompt_optimizer=True
    )
    assert said(job) == {
        "last_frame_image": LAST,
        "first_frame_image": FIRST,
        "prompt": "[Pan left]",
        "prompt_optimizer": True,
        "duration": 6,
        "resolution": "1080P",
    }


def test_a_whole_path_is_where_a_job_goes() -> None:
    path = "/api/v1/minimax/hailuo-2.3-i2v"
    assert request_for(ImageToVideo(START, model=path)).path == path


@pytest.mark.parametrize("url", ['https://example.com/"}.jpg', "https://example.com/\\u0000", "https://example.com/ü"])
def test_a_url_cannot_break_out_of_its_string(url: str) -> None:
    assert said(ImageToVideo(url)) == {"first_frame_image": url}


@pytest.mark.parametrize(("kind", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_a_file_is_said_as_a_data_url_of_its_own_bytes(tmp_path: Path, kind: str, mime: str) -> None:
    path = tmp_path / "a picture"
    path.write_bytes(picture(kind))
    data_url = f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
    assert said(ImageToVideo(path, "hello")) == {"first_frame_image": data_url, "prompt": "hello"}


def test_two_pictures_a_url_and_options_make_one_body_of_the_length_that_it_says() -> None:
    first, last = picture("PNG"), picture("JPEG", (400, 320))
    request = request_for(FirstLastFrameToVideo(last, first_frame_image=first, prompt="hello", duration=6))
    assert request.is_heavy
    assert request.length == len(body_of(request))
    assert body_of(request) == body_of(request)
    found = json.loads(body_of(request))
    assert list(found) == ["last_frame_image", "first_frame_image", "prompt", "duration"]
    assert base64.b64decode(found["last_frame_image"].removeprefix("data:image/jpeg;base64,")) == last
    assert base64.b64decode(found["first_frame_image"].removeprefix("data:image/png;base64,")) == first


def test_a_body_of_urls_is_one_piece_and_needs_no_thread() -> None:
    request = request_for(FirstLastFrameToVideo(LAST, first_frame_image=FIRST, prompt="hello"))
    assert [type(part) for part in request.body] == [bytes]
    assert not request.is_heavy


@pytest.mark.parametrize(
    ("task_id", "path", "asked"),
    [
        ("task-abc123", None, "/api/v1/tasks/task-abc123"),
        ("a/../b?c#d%", None, "/api/v1/tasks/a%2F..%2Fb%3Fc%23d%25"),
        ("task-abc123", "/api/v2/jobs/task-abc123?x=1", "/api/v2/jobs/task-abc123?x=1"),
    ],
)
def test_a_query_asks_where_the_service_said_or_at_the_documented_place(
    task_id: str, path: str | None, asked: str
) -> None:
    assert build_query(task_id, path) == Request("GET", asked)
    assert build_query(task_id, path).length == 0


def test_an_upload_is_multipart_with_the_picture_as_its_one_field() -> None:
    image = picture("WEBP")
    request = build_upload(inspect_image("image", image), "a-boundary")
    whole = body_of(request)
    assert (request.method, request.path, request.length) == ("POST", "/api/v1/media/files", len(whole))
    message = email.message_from_bytes(
        f"Content-Type: {request.content_type}\r\n\r\n".encode() + whole, policy=email.policy.HTTP
    )
    (part,) = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "file"
    assert (part.get_filename(), part.get_content_type()) == ("image.webp", "image/webp")
    assert part.get_payload(decode=True) == image


# --- What an answer means -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUBMITS)
def test_a_recorded_submit_is_accepted_with_its_data(name: str) -> None:
    answer = decipher(200, {}, body(name))
    assert answer == Answer(
        *(Verdict.ACCEPTED, "success", 200),
        data=content(name)["data"],
        is_envelope=True,
        task_id=content(name)["data"]["task_id"],
    )


@pytest.mark.parametrize("row", content("refusals"), ids=lambda row: row["body"]["message"])
def test_every_documented_refusal_certainly_was_not_accepted(row: dict[str, Any]) -> None:
    refused = decipher(row["status"], {}, json.dumps(row["body"]).encode())
    assert refused == Answer(
        Verdict.REFUSED, row["body"]["message"], row["status"], Refusal[row["refusal"]], is_envelope=True
    )


@pytest.mark.parametrize("row", content("doubts"), ids=lambda row: str(row["status"]))
def test_every_other_documented_answer_leaves_a_doubt(row: dict[str, Any]) -> None:
    found = decipher(row["status"], {}, json.dumps(row["body"]).encode())
    assert found == Answer(Verdict.UNKNOWN, row["body"]["message"], row["status"], is_envelope=True)


DOCUMENTED_REFUSALS = {400, 401, 402, 403, 404, 405, 413, 415, 422, 429}


def test_no_status_but_the_documented_ones_refuses_and_none_but_2xx_accepts() -> None:
    verdicts = {status: decipher(status, {}, body("query-pending")).verdict for status in range(100, 600)}
    assert {status for status in verdicts if verdicts[status] is Verdict.REFUSED} == DOCUMENTED_REFUSALS
    assert [status for status in verdicts if verdicts[status] is Verdict.ACCEPTED] == list(range(200, 300))


GARBAGE = {
    b"": "not JSON",
    b"<html>OK</html>": "not JSON",
    b'{"code": 0, "data": {"task_id": "t"}': "not JSON",
    b"\xff\xfe\xfa": "not JSON",
    b"[" * 100_000: "not JSON",
    b"1" * 5000: "not an object @ $",
    b"null": "not an object @ $",
    b"[]": "not an object @ $",
    b'"success"': "not an object @ $",
    b"{}": "required field missing, or not an object @ $.data",
    b'{"data": null}': "required field missing, or not an object @ $.data",
    b'{"data": []}': "required field missing, or not an object @ $.data",
    b'{"data": "t"}': "required field missing, or not an object @ $.data",
}


@pytest.mark.parametrize(("garbage", "problem"), GARBAGE.items(), ids=lambda value: repr(value)[:40])
def test_a_success_that_cannot_be_read_leaves_a_doubt_and_says_what_is_wrong(garbage: bytes, problem: str) -> None:
    reason = f"HTTP 200 with an answer that cannot be read: {problem}"
    assert decipher(200, {}, garbage) == Answer(Verdict.UNKNOWN, reason, 200)


@pytest.mark.parametrize("data", ["", ', "data": null', ', "data": []', ', "data": "t"'])
def test_a_success_without_data_leaves_a_doubt(data: str) -> None:
    answer = decipher(200, {}, f'{{"code": 0, "message": "success"{data}}}'.encode())
    reason = "HTTP 200 with an answer that cannot be read: required field missing, or not an object @ $.data"
    assert answer == Answer(Verdict.UNKNOWN, reason, 200, is_envelope=True)


@pytest.mark.parametrize("garbage", [b"", b"<html>Forbidden</html>", b"[]", b'{"message": 403}'])
def test_a_refusal_that_cannot_be_read_is_a_refusal_all_the_same_but_not_the_services_own_word(garbage: bytes) -> None:
    assert decipher(403, {}, garbage) == Answer(Verdict.REFUSED, "HTTP 403", 403, Refusal.AUTHENTICATION)


def test_what_the_headers_say_comes_with_every_answer() -> None:
    headers = {"X-RateLimit-Limit": "100", "x-ratelimit-remaining": "7", "Retry-After": "12"}
    rate_headers = RateHeaders(limit=100, remaining=7, retry_after_s=12)
    for status in (200, 429, 500):
        assert decipher(status, headers, body("query-pending")).rate_headers == rate_headers
    assert decipher(200, headers, b"garbage").rate_headers == rate_headers


def test_unknown_fields_are_kept_and_are_no_error() -> None:
    more = {"code": 0, "message": "success", "trace": [1], "data": {"task_id": "t", "lane": {"a": None}}}
    assert decipher(201, {}, json.dumps(more).encode()).data == {"task_id": "t", "lane": {"a": None}}


def test_an_answer_does_not_show_its_data() -> None:
    assert "sig=" not in repr(decipher(200, {}, body("query-success")))


def test_a_request_without_an_answer_is_unsent_or_unknown_and_says_why() -> None:
    problem = ValueError("gone")
    assert unsent("no route", problem) == Answer(Verdict.UNSENT, "no route", problem=problem)
    assert unknown("cut", 200) == Answer(Verdict.UNKNOWN, "cut", 200)


def test_the_services_words_are_one_line_of_a_log() -> None:
    words = "two\r\nlines \x1b[31mand\x00 a lone \ud800 surrogate" + "." * 1000
    line = decipher(500, {}, json.dumps({"code": 500, "message": words}).encode()).message
    assert line.startswith("two  lines  [31mand  a lone   surrogate...")
    assert line.isprintable()
    assert len(line) == 500
    assert single_line(" \n ") == ""


# --- Successes by their envelope --------------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", [{"code": 0}, {"code": "0"}, {"code": 0.0}, {"success": True}, {}])
def test_an_envelope_that_says_success_in_any_documented_way_is_one(envelope: dict[str, Any]) -> None:
    answer = decipher(200, {}, json.dumps({**envelope, "data": {"task_id": "t"}}).encode())
    assert (answer.verdict, answer.task_id) == (Verdict.ACCEPTED, "t")


@pytest.mark.parametrize(
    ("envelope", "words"),
    [
        ({"code": 1001, "message": "internal"}, "HTTP 200 with code 1001: internal"),
        ({"code": 1001, "success": True}, "HTTP 200 with code 1001: no reason given"),
        ({"code": 200, "message": "success"}, "HTTP 200 with code 200: success"),
        ({"success": False, "error": {"message": "busy"}}, "HTTP 200 with success: false: busy"),
    ],
)
def test_a_200_that_is_no_success_by_its_envelope_is_a_doubt_with_the_services_words(
    envelope: dict[str, Any], words: str
) -> None:
    nothing: list[dict[str, Any]] = [{}, {"data": {}}, {"data": None}]
    for data in nothing:
        answer = decipher(200, {}, json.dumps({**envelope, **data}).encode())
        assert (answer.verdict, answer.message, answer.task_id) == (Verdict.UNKNOWN, words, None)
    answer = decipher(200, {}, json.dumps({**envelope, "data": {"task_id": "t"}}).encode())
    assert (read_submit(answer).verdict, answer.task_id) == (Verdict.UNKNOWN, "t")


# --- Submits ----------------------------------------------------------------------------------------------------------

TASK_ID_SOMEWHERE: list[dict[str, Any]] = [
    {"task_id": "t"},
    {"taskId": "t"},
    {"data": {"task_id": "t"}},
    {"error": {"task_id": "t"}},
    {"detail": [{"loc": []}, {"task_id": "t"}]},
    {"error": {"details": {"existing": {"task_id": "t"}}}},
]


@pytest.mark.parametrize("body", TASK_ID_SOMEWHERE, ids=json.dumps)
@pytest.mark.parametrize("status", sorted(DOCUMENTED_REFUSALS))
def test_a_refusal_of_a_submit_that_names_a_task_is_a_doubt_that_names_it(status: int, body: dict[str, Any]) -> None:
    answer = decipher(status, {}, json.dumps({"code": status, "message": "no", **body}).encode())
    assert answer.verdict is Verdict.REFUSED  # of a query, this says nothing about a second task
    doubt = read_submit(answer)
    assert (doubt.verdict, doubt.refusal, doubt.task_id) == (Verdict.UNKNOWN, None, "t")
    assert doubt.message == f"the service refused the job, yet named a task: {status} no"


@pytest.mark.parametrize("body", TASK_ID_SOMEWHERE, ids=json.dumps)
def test_any_other_doubt_names_the_task_of_its_answer(body: dict[str, Any]) -> None:
    assert read_submit(decipher(500, {}, json.dumps(body).encode())).task_id == "t"


@pytest.mark.parametrize("deep", [{"a": {"b": {"c": {"d": {"task_id": "t"}}}}}, {"a": [{}] * 300 + [{"task_id": "t"}]}])
def test_a_task_id_is_looked_for_only_near_the_top(deep: dict[str, Any]) -> None:
    assert decipher(400, {}, json.dumps(deep).encode()).task_id is None


def test_an_accepted_submit_without_a_task_id_is_a_doubt() -> None:
    doubt = read_submit(decipher(200, {}, b'{"code": 0, "data": {"status": "pending"}}'))
    assert (doubt.verdict, doubt.message) == (Verdict.UNKNOWN, "the service accepted the job without a task id")


@pytest.mark.parametrize(
    ("message", "remaining", "refusal"),
    [
        ("Rate limit exceeded: 100 requests per minute", "0", Refusal.REQUEST_RATE),
        ("Rate limit exceeded: 100 requests per minute", None, Refusal.REQUEST_RATE),
        ("Rate limit exceeded: 100 requests per minute", "7", Refusal.REQUEST_RATE),
        ("Too many", "0", Refusal.REQUEST_RATE),
        ("Too many", None, Refusal.REQUEST_RATE),
        ("Too many", "7", Refusal.RUNNING_LIMIT),
        ("Concurrent limit exceeded", "0", Refusal.RUNNING_LIMIT),
        ("CONCURRENCY limit", "7", Refusal.RUNNING_LIMIT),
        ("rate or concurrency limit", None, Refusal.RUNNING_LIMIT),
    ],
)
def test_a_429_is_told_apart_by_its_words_and_by_the_headers(
    message: str, remaining: str | None, refusal: Refusal
) -> None:
    headers = {} if remaining is None else {"X-RateLimit-Remaining": remaining}
    answer = decipher(429, headers, json.dumps({"code": 429, "message": message}).encode())
    assert read_submit(answer).refusal is refusal


# --- Secrets, and strangers' words ------------------------------------------------------------------------------------

KEY = "sk-SECRETKEY-0123456789abcdefABCDEF"


@pytest.mark.parametrize(
    "body",
    [
        {"message": f"no such key {KEY}"},
        {"message": "x" * 480 + KEY},
        {"data": {"status": f"waiting for {KEY}", "error": {"message": KEY, "more": [KEY, {KEY: 1}]}}},
        {"error": KEY},
    ],
)
@pytest.mark.parametrize(
    "escaped", [str, lambda text: text.replace("S", "\\u0053"), lambda text: text.replace("-", "\\u002d")]
)
def test_the_key_is_hidden_in_everything_that_is_read_before_it_is_cut(body: object, escaped: Any) -> None:
    answer = decipher(400, {"X-Request-ID": f"r {KEY}"}, escaped(json.dumps(body)).encode(), KEY)
    told = repr((answer.message, answer.data, answer.whole, answer.request_id))
    assert "SECRET" not in told
    assert "sk-" not in told
    assert answer.request_id == "r (hidden)"


@pytest.mark.parametrize("mark", ["?", "#", "/x.jpg?a=b&", "'s/x.jpg?", "?name='x'&"])
def test_a_message_that_quotes_a_signed_url_loses_its_query(mark: str) -> None:
    url = f"HTTPS://bucket.example/cat{mark}X-Signature=SECRET"
    body = {"code": 400, "message": f"Invalid parameters: cannot fetch '{url}', twice: {url}"}
    message = decipher(400, {}, json.dumps(body).encode()).message
    assert "SECRET" not in message
    assert message.count("HTTPS://bucket.example/cat") == 2
    assert "?… twice: " in message


@pytest.mark.parametrize(
    "url",
    ["bucket.example/cat", "//bucket.example/cat", r"https:\/\/bucket.example\/cat", "s3://b/cat", "https://a b/cat"],
)
def test_a_url_loses_its_signature_also_where_its_scheme_is_missing_or_another(url: str) -> None:
    message = single_line(f"cannot fetch {url}?X-Date=1&X-Signature=SECRET: why? because 1=1")
    assert message == f"cannot fetch {url}?… why? because 1=1"


def test_what_is_too_short_to_be_a_key_tears_no_words() -> None:
    answer = decipher(200, {}, b'{"data": {"task_id": "task-1"}, "message": "ok"}', "k")
    assert (answer.task_id, answer.message) == ("task-1", "ok")


@pytest.mark.parametrize(("depth", "kept"), [(1, 1), (62, 62), (63, 62), (100, 62), (900, 62)])
def test_an_answer_is_read_to_a_depth_that_no_reader_has_trouble_with(depth: int, kept: int) -> None:
    body = '{"data": {"status": "failed", "error": ' + '{"a": ' * depth + "1" + "}" * depth + "}}"
    answer = decipher(200, {}, body.encode())
    assert (answer.verdict, answer.data["status"]) == (Verdict.ACCEPTED, "failed")
    assert json.dumps(answer.data).count('"a"') == kept


def test_a_number_of_thousands_of_digits_spoils_nothing_else() -> None:
    answer = decipher(200, {}, b'{"data": {"task_id": "t", "billing": {"amount": ' + b"9" * 9000 + b"}}}")
    assert (answer.verdict, answer.task_id) == (Verdict.ACCEPTED, "t")


@pytest.mark.parametrize(
    ("headers", "body", "request_id"),
    [
        ({}, {}, None),
        ({"X-Request-ID": "req-1"}, {}, "req-1"),
        ({"x-request-id": "req-1"}, {"data": {"result": {"metadata": {"request_id": "req-2"}}}}, "req-2"),
        ({"x-request-id": "req-1"}, {"data": {"result": {"metadata": {"request_id": 5}}}}, "req-1"),
        ({"x-request-id": " "}, {}, None),
        ({"x-request-id": "r" * 1000}, {}, "r" * 256),
    ],
)
def test_an_answer_has_the_name_that_the_service_gave_it(
    headers: dict[str, str], body: object, request_id: str | None
) -> None:
    assert decipher(200, headers, json.dumps(body).encode()).request_id == request_id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["code", "message", "data", "task_id", "status", "get_result", "url"])
envelopes = st.dictionaries(fields, json_values | st.dictionaries(fields, json_values), max_size=6)
bodies = st.binary(max_size=200) | (envelopes | json_values).map(lambda value: json.dumps(value).encode())
header_names = st.sampled_from(
    ["Date", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]
)
headers = st.dictionaries(header_names, st.text(max_size=40) | st.integers().map(str), max_size=5)


@pytest.mark.slow
@given(status=st.integers(0, 999), headers=headers, body=bodies)
def test_whatever_comes_it_is_deciphered_and_read_without_raising(
    status: int, headers: Mapping[str, str], body: bytes
) -> None:
    answer = decipher(status, headers, body)
    assert answer.status == status
    assert answer.message.isprintable()
    submit = read_submit(answer)
    assert (submit.verdict is Verdict.REFUSED) <= (submit.task_id is None)
    assert (submit.verdict is Verdict.ACCEPTED) <= (submit.task_id is not None)
    assert (answer.refusal is not None) is (answer.verdict is Verdict.REFUSED)
    assert (answer.verdict is Verdict.ACCEPTED) <= (200 <= status < 300)
    task_id, path = read_task_id(answer.data), read_query_path(answer.data, ORIGIN)
    assert task_id is None or is_task_id(task_id)
    assert path is None or path.startswith("/")


# --- What a submit's answer says ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "task_id"),
    [
        ("task-abc123", "task-abc123"),
        (123, "123"),
        ("x" * MAX_TASK_ID_CHARACTERS, "x" * MAX_TASK_ID_CHARACTERS),
        ("x" * (MAX_TASK_ID_CHARACTERS + 1), None),
        ("", None),
        ("two words", None),
        ("a\nb", None),
        (None, None),
        (True, None),
        (1.5, None),
        (["a"], None),
        ({}, None),
    ],
)
def test_a_task_id_is_something_that_could_be_asked_for(found: object, task_id: str | None) -> None:
    assert read_task_id({"task_id": found}) == task_id


def test_an_answer_without_a_task_id_has_none() -> None:
    assert read_task_id({}) is None


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.modellix.ai/api/v1/tasks/task-abc123", "/api/v1/tasks/task-abc123"),
        ("https://api.modellix.ai/api/v1/tasks/t?team=1", "/api/v1/tasks/t?team=1"),
        ("https://api.modellix.ai", None),
        ("http://api.modellix.ai/api/v1/tasks/t", None),
        ("https://api.modellix.ai.evil.example/t", None),
        ("https://api.modellix.ai@evil.example/t", None),
        ("https://api.modellix.ai:8443/t", None),
        ("https://evil.example/t", None),
        ("https://api.modellix.ai//evil.example/t", None),
        ("https://api.modellix.ai//[evil", None),
        ("https://api.modellix.ai/\\evil.example", None),
        ("https://api.modellix.ai/a b", None),
        ("https://api.modellix.ai/a\r\nHost: evil.example", None),
        ("https://api.modellix.ai/ä", None),
        ("https://api.modellix.ai/t#part", None),
        ("/api/v1/tasks/t", None),
        (None, None),
        (["https://api.modellix.ai/t"], None),
    ],
)
def test_the_key_travels_only_to_where_the_job_was_sent(url: object, path: str | None) -> None:
    assert read_query_path({"get_result": {"method": "GET", "url": url}}, ORIGIN) == path


@pytest.mark.parametrize("data", [{}, {"get_result": None}, {"get_result": "https://api.modellix.ai/t"}])
def test_an_answer_need_not_say_where_its_result_will_be(data: dict[str, object]) -> None:
    assert read_query_path(data, ORIGIN) is None


def test_the_recorded_submits_say_what_their_seeds_say() -> None:
    first, second = (content(name)["data"] for name in SUBMITS)
    assert (read_task_id(first), read_query_path(first, ORIGIN)) == ("task-abc123", "/api/v1/tasks/task-abc123")
    assert (read_task_id(second), read_query_path(second, ORIGIN)) == ("task-fl2v-abc123", None)
