"""What is fetched by URL: films, signed and in ranges, and uploaded pictures."""

from __future__ import annotations

import pytest

from hailuo_async.emulator import Request, Service

from ..support.emulated import NOW, accepted, ask, png, queried, refusal

WHOLE = (200, None, 0, 1000)


def result_url(service: Service) -> str:
    return str(queried(service, accepted(service, NOW), NOW + 10)["result"]["resources"][0]["url"])


def multipart(data: bytes, field: str = "file", filename: str = "cat one.png") -> Request:
    body = (
        b'--b0\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
        b'--b0\r\nContent-Disposition: form-data; name="' + field.encode() + b'"; filename="' + filename.encode() +
        b'"\r\nContent-Type: image/png\r\n\r\n' + data + b"\r\n--b0--\r\n"
    )  # fmt: skip
    return ask("POST", "/api/v1/media/files", body, Content_Type='multipart/form-data; boundary="b0"')


def test_a_film_is_fetched_from_its_signed_url_without_a_key() -> None:
    service = Service(video_size=1000)
    url = result_url(service)
    replies = [service.handle(Request.to("GET", url), NOW + 10) for _ in range(2)]
    assert replies[0] == replies[1]
    assert (replies[0].status, len(replies[0].body), replies[0].body[4:8]) == (200, 1000, b"ftyp")
    assert replies[0].headers.keys() == {"Date", "Accept-Ranges", "Content-Type", "ETag"}
    assert replies[0].headers["Content-Type"] == "video/mp4"


def test_films_of_different_tasks_differ() -> None:
    service = Service()
    first, second = (service.handle(Request.to("GET", result_url(service)), NOW + 10) for _ in range(2))
    assert first.body != second.body


def test_a_film_is_not_shown_without_its_signature_or_with_another_tasks() -> None:
    service = Service()
    first, second = result_url(service), result_url(service)
    path, _, query = first.partition("?")
    tampered = [path, second.partition("?")[0] + "?" + query, first[:-1] + "x", first.replace("expires=1", "expires=2")]
    answers = {
        refusal(service.handle(Request.to("GET", url), NOW + 10))
        for url in (*tampered, path + "?sig=é", path + "?expires=%ED%B3%BF&sig=%FF")
    }
    assert answers == {(403, "Authentication failed")}


def test_a_signed_url_runs_out_and_a_query_gives_a_fresh_one() -> None:
    service = Service(url_lasts_s=60)
    task_id = accepted(service)
    old = queried(service, task_id, NOW + 10)["result"]["resources"][0]["url"]
    assert service.handle(Request.to("GET", old), NOW + 69.9).status == 200
    assert refusal(service.handle(Request.to("GET", old), NOW + 70)) == (403, "Authentication failed")
    new = queried(service, task_id, NOW + 70)["result"]["resources"][0]["url"]
    assert service.handle(Request.to("GET", new), NOW + 70).status == 200


def test_a_url_does_not_outlive_its_result() -> None:
    service = Service(generation_s=10, spread=0, results_last_s=20)
    task_id = accepted(service)
    url = queried(service, task_id, NOW + 29)["result"]["resources"][0]["url"]
    assert service.handle(Request.to("GET", url), NOW + 29.9).status == 200
    assert service.handle(Request.to("GET", url), NOW + 30).status == 403


def test_a_url_is_worth_nothing_at_a_service_that_does_not_know_the_task() -> None:
    url = result_url(Service(seed=5))
    assert refusal(Service(seed=5).handle(Request.to("GET", url), NOW + 10)) == (404, "Resource not found")


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("bytes=0-99", (206, "bytes 0-99/1000", 0, 100)),
        ("bytes=10-", (206, "bytes 10-999/1000", 10, 1000)),
        ("bytes=-10", (206, "bytes 990-999/1000", 990, 1000)),
        ("bytes=-2000", (206, "bytes 0-999/1000", 0, 1000)),
        ("bytes=990-2000", (206, "bytes 990-999/1000", 990, 1000)),
        ("bytes=1000-", (416, "bytes */1000", 0, 0)),
        ("bytes=-0", (416, "bytes */1000", 0, 0)),
        ("bytes=9-3", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=0-1,5-6", WHOLE),
        ("lines=0-1", WHOLE),
        (f"bytes={'9' * 5000}-", WHOLE),
    ],
)
def test_a_range_of_a_film_is_answered_as_the_standard_has_it(
    asked: str, answer: tuple[int, str | None, int, int]
) -> None:
    service = Service(video_size=1000)
    url = result_url(service)
    whole = service.handle(Request.to("GET", url), NOW + 10).body
    reply = service.handle(Request.to("GET", url, {"Range": asked}), NOW + 10)
    status, content_range, start, stop = answer
    assert (reply.status, reply.headers.get("Content-Range"), reply.body) == (status, content_range, whole[start:stop])


def test_a_range_is_ignored_when_the_film_is_not_the_one_that_was_begun() -> None:
    service = Service()
    url = result_url(service)
    tag = service.handle(Request.to("GET", url), NOW + 10).headers["ETag"]
    asked = [Request.to("GET", url, {"Range": "bytes=5-", "If-Range": given}) for given in (tag, '"another"')]
    assert [service.handle(request, NOW + 10).status for request in asked] == [206, 200]


def test_a_plain_film_reads_the_same_in_pieces_as_whole() -> None:
    service = Service(video_size=200_000)
    url = result_url(service)
    whole = service.handle(Request.to("GET", url), NOW + 10).body
    pieces = [
        service.handle(Request.to("GET", url, {"Range": f"bytes={at}-{at + 6_999}"}), NOW + 10).body
        for at in range(0, 200_000, 7_000)
    ]
    assert b"".join(pieces) == whole


def test_an_upload_is_served_at_the_url_that_it_got() -> None:
    service = Service(origin="http://127.0.0.1:1")
    image = png(400, 400) + b"\r\n--b1\r\n"
    reply = service.handle(multipart(image), NOW)
    assert reply.json() == {
        "code": 0,
        "message": "success",
        "data": {
            "file_id": "file-000001",
            "type": "image",
            "url": "http://127.0.0.1:1/media/file-000001/cat%20one.png",
            "filename": "cat one.png",
            "size": len(image),
            "created_at": int(NOW * 1000),
        },
    }
    shown = service.handle(Request.to("GET", reply.json()["data"]["url"]), NOW)
    assert (shown.status, shown.body, shown.headers["Content-Type"]) == (200, image, "image/png")


def test_an_uploaded_picture_gives_a_film_its_aspect_only_where_films_are_made() -> None:
    sizes = []
    for render in (True, False):
        service = Service(render=render)
        url = service.handle(multipart(png(400, 400)), NOW).json()["data"]["url"]
        task_id = accepted(service, first_frame_image=url)
        sizes.append(queried(service, task_id, NOW + 10)["result"]["resources"][0]["width"])
    assert sizes == [768, 1366]


@pytest.mark.parametrize(
    ("request_", "status", "category"),
    [
        (multipart(png(400, 400), field="picture"), 400, "Missing required parameter"),
        (multipart(b"not an image"), 400, "Invalid format"),
        (multipart(png(400, 400, 16 * 1024 * 1024 + 1)), 413, "body too large"),
        (
            ask("POST", "/api/v1/media/files", b"x", Content_Type="multipart/form-data; boundary=\udcff"),
            400,
            "Missing required parameter",
        ),
        (ask("POST", "/api/v1/media/files", b"x", Content_Type="image/png"), 415, "Unsupported media type"),
        (ask("POST", "/api/v1/media/files", b"x", Content_Type="multipart/form-data"), 400, "Invalid format"),
    ],
    ids=["another field", "no image", "too large", "not a boundary", "not multipart", "no boundary"],
)
def test_an_upload_that_cannot_be_used_is_refused(request_: Request, status: int, category: str) -> None:
    assert refusal(Service().handle(request_, NOW)) == (status, category)


@pytest.mark.parametrize("name", ["猫.png", "a/b.png", "ü" * 50])
def test_an_upload_keeps_its_name_whatever_that_is(name: str) -> None:
    service = Service()
    data = service.handle(multipart(png(400, 400), filename=name), NOW).json()["data"]
    assert data["filename"] == name
    assert service.handle(Request.to("GET", data["url"]), NOW).body == png(400, 400)


def test_an_upload_of_16_mib_is_taken() -> None:
    assert Service().handle(multipart(png(400, 400, 16 * 1024 * 1024)), NOW).status == 200


def test_the_ledger_notices_a_key_that_was_sent_to_a_result() -> None:
    service = Service()
    url = result_url(service)
    service.handle(Request.to("GET", url), NOW + 10)
    assert service.ledger.keys_leaked == 0
    service.handle(ask("GET", url), NOW + 10)
    assert service.ledger.keys_leaked == 1


def test_downloads_do_not_count_against_the_requests_limit() -> None:
    service = Service(requests_per_minute=2)
    url = result_url(service)
    replies = [service.handle(Request.to("GET", url), NOW + 10) for _ in range(10)]
    assert {reply.status for reply in replies} == {200}
    assert "X-RateLimit-Limit" not in replies[0].headers
