"""The rules for the fields and images of a submit, each model by its own."""

from __future__ import annotations

import base64

import pytest

from hailuo_async.emulator import Service

from ..support.emulated import I2V, IMAGES, MODELS, NOW, START, ask, data_url, png, refusal, submit

INVALID, MISSING = "Invalid parameters", "Missing required parameter"
FORMAT, RANGE = "Invalid format", "Value out of range"


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("hailuo-2.3-i2v", {"prompt": "x", "prompt_optimizer": False, "fast_pretreatment": True}),
        ("hailuo-2.3-i2v", {"prompt": "猫" * 2000}),
        ("hailuo-2.3-i2v", {"duration": 10, "resolution": "768P"}),
        ("hailuo-2.3-i2v", {"duration": 10}),
        ("hailuo-2.3-i2v", {"duration": 6, "resolution": "1080P"}),
        ("hailuo-02-fl2v", {"first_frame_image": START, "resolution": "1080P"}),
        ("hailuo-02-i2v", {"resolution": "512P"}),
        ("minimax-i2v-01", {"duration": 6, "resolution": "720P"}),
        ("minimax-i2v-01-live", {"fast_pretreatment": "no such field here"}),
    ],
)
def test_a_job_within_the_rules_of_its_model_is_taken(model: str, fields: dict[str, object]) -> None:
    content = {IMAGES.get(model, "first_frame_image"): START, **fields}
    assert Service().handle(submit(content, f"/api/v1/minimax/{model}"), NOW).status == 200


@pytest.mark.parametrize(
    ("model", "fields", "category"),
    [
        ("hailuo-2.3-i2v", {"first_frame_image": None}, INVALID),
        ("hailuo-2.3-i2v", {"first_frame_image": ""}, RANGE),
        ("hailuo-2.3-i2v", {"first_frame_image": "cat.jpg"}, FORMAT),
        ("hailuo-2.3-i2v", {"first_frame_image": "ftp://example.com/cat.jpg"}, FORMAT),
        ("hailuo-2.3-i2v", {"first_frame_image": "https:///cat.jpg"}, FORMAT),
        ("hailuo-2.3-i2v", {"first_frame_image": "http://[::1"}, FORMAT),
        ("hailuo-2.3-i2v", {"prompt": ""}, RANGE),
        ("hailuo-2.3-i2v", {"prompt": "x" * 2001}, RANGE),
        ("hailuo-2.3-i2v", {"prompt": None}, INVALID),
        ("hailuo-2.3-i2v", {"prompt": ["x"]}, INVALID),
        ("hailuo-2.3-i2v", {"prompt": "\ud83d"}, FORMAT),
        ("hailuo-2.3-i2v", {"prompt_optimizer": 1}, INVALID),
        ("hailuo-2.3-i2v", {"prompt_optimizer": None}, INVALID),
        ("hailuo-2.3-i2v", {"fast_pretreatment": "true"}, INVALID),
        ("hailuo-2.3-i2v", {"duration": 7}, RANGE),
        ("hailuo-2.3-i2v", {"duration": "6"}, INVALID),
        ("hailuo-2.3-i2v", {"duration": True}, INVALID),
        ("hailuo-2.3-i2v", {"duration": 6.0}, INVALID),
        ("hailuo-2.3-i2v", {"resolution": "768p"}, RANGE),
        ("hailuo-2.3-i2v", {"resolution": "512P"}, RANGE),
        ("hailuo-2.3-i2v", {"resolution": 768}, INVALID),
        ("hailuo-2.3-i2v", {"duration": 10, "resolution": "1080P"}, INVALID),
        ("hailuo-02-i2v", {"duration": 10, "resolution": "512P"}, INVALID),
        ("hailuo-02-fl2v", {"resolution": "512P"}, RANGE),
        ("hailuo-02-fl2v", {"first_frame_image": ""}, RANGE),
        ("minimax-i2v-01", {"duration": 10}, RANGE),
        ("minimax-i2v-01", {"resolution": "768P"}, RANGE),
    ],
)
def test_a_job_that_breaks_a_rule_is_refused_in_its_category(
    model: str, fields: dict[str, object], category: str
) -> None:
    service = Service()
    content = {IMAGES.get(model, "first_frame_image"): START, **fields}
    assert refusal(service.handle(submit(content, f"/api/v1/minimax/{model}"), NOW)) == (400, category)
    assert service.ledger.submits_accepted == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_job_without_its_required_picture_is_refused(model: str) -> None:
    reply = Service().handle(submit({"prompt": "x"}, f"/api/v1/minimax/{model}"), NOW)
    assert refusal(reply) == (400, MISSING)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff{}", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    assert refusal(Service().handle(ask("POST", I2V, body, Content_Type="application/json"), NOW)) == (400, FORMAT)


def test_a_body_that_does_not_call_itself_json_is_refused() -> None:
    request = ask("POST", I2V, b'{"first_frame_image": "https://example.com/a.jpg"}', Content_Type="text/plain")
    assert refusal(Service().handle(request, NOW)) == (415, "Unsupported media type")


@pytest.mark.slow
@pytest.mark.parametrize(
    "image",
    [
        data_url(png(301, 301)),
        data_url(png(400, 1000)),
        data_url(png(1000, 400)),
        data_url(png(301, 301), "image/jpeg"),
        "DATA:IMAGE/PNG;BASE64," + base64.b64encode(png(301, 301)).decode(),
        data_url(png(500, 500, 20 * 1024 * 1024 - 1)),
    ],
    ids=["smallest", "tallest", "widest", "misnamed", "capitals", "heaviest"],
)
def test_an_inline_image_within_the_rules_is_taken(image: str) -> None:
    assert Service().handle(submit({"first_frame_image": image}), NOW).status == 200


@pytest.mark.parametrize(
    ("image", "category"),
    [
        (data_url(png(300, 400)), RANGE),
        (data_url(png(400, 300)), RANGE),
        (data_url(png(400, 1001)), RANGE),
        (data_url(png(1001, 400)), RANGE),
        (data_url(png(500, 500, 20 * 1024 * 1024)), RANGE),
        (data_url(b"GIF89a" + bytes(100)), FORMAT),
        (data_url(b""), FORMAT),
        ("data:image/png;base64,AAA", FORMAT),
        ("data:image/png;base64,====", FORMAT),
        ("data:image/png;base64,é", FORMAT),
        ("data:image/png,raw", FORMAT),
        (data_url(png(500, 500), "text/plain"), FORMAT),
    ],
    ids=[
        "narrow", "low", "too tall", "too wide", "too heavy", "a GIF", "empty", "short base64", "only padding",
        "not ASCII", "not base64", "not an image",
    ],
)  # fmt: skip
def test_an_inline_image_that_breaks_a_rule_is_refused(image: str, category: str) -> None:
    assert refusal(Service().handle(submit({"first_frame_image": image}), NOW)) == (400, category)
