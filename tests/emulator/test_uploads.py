"""Uploads that a team looks after: the list, deletions, and the three caps."""

from __future__ import annotations

from typing import Any

from hailuo_async.emulator import Reply, Request, Service

from ..support.emulated import NOW, ask, png, refusal

FILES = "/api/v1/media/files"
BODY = b'--b\r\nContent-Disposition: form-data; name="file"; filename="cat.png"\r\n\r\n' + png(400, 400) + b"\r\n--b--"
UPLOAD = ask("POST", FILES, BODY, Content_Type="multipart/form-data; boundary=b")
DAY_S = 24 * 3600


def uploaded(service: Service, now: float = NOW) -> dict[str, Any]:
    data: dict[str, Any] = service.handle(UPLOAD, now).json()["data"]
    return data


def listed(service: Service, now: float = NOW) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = service.handle(ask("GET", FILES), now).json()["data"]["files"]
    return files


def delete(service: Service, file_id: str) -> Reply:
    return service.handle(ask("DELETE", f"{FILES}/{file_id}"), NOW)


def test_the_uploads_are_listed_as_they_were_answered_the_oldest_first() -> None:
    service = Service()
    assert listed(service) == []
    files = [uploaded(service) for _ in range(3)]
    assert listed(service) == files


def test_the_time_of_an_upload_is_unix_milliseconds_or_iso_text() -> None:
    assert uploaded(Service(), NOW + 0.25)["created_at"] == 1_800_000_000_250
    assert uploaded(Service(iso_times=True), NOW + 0.25)["created_at"] == "2027-01-15T08:00:00.250Z"


def test_the_eleventh_upload_is_refused_until_one_is_deleted() -> None:
    service = Service()
    files = [uploaded(service) for _ in range(10)]
    assert refusal(service.handle(UPLOAD, NOW)) == (400, "Invalid parameters")
    assert delete(service, files[3]["file_id"]).status == 204
    assert uploaded(service)["file_id"] not in {file["file_id"] for file in files}
    assert len(listed(service)) == 10


def test_a_deleted_upload_is_gone_and_is_not_deleted_twice() -> None:
    service = Service(delete_answers=True)
    file = uploaded(service)
    assert delete(service, file["file_id"]).json()["data"] == {"file_id": file["file_id"]}
    assert refusal(delete(service, file["file_id"])) == (404, "Resource not found")
    assert service.handle(Request.to("GET", file["url"]), NOW).status == 404


def test_an_upload_goes_after_seven_days() -> None:
    service = Service()
    old, new = uploaded(service), uploaded(service, NOW + DAY_S)
    assert listed(service, NOW + 7 * DAY_S - 1) == [old, new]
    assert listed(service, NOW + 7 * DAY_S) == [new]
    assert service.handle(Request.to("GET", old["url"]), NOW + 7 * DAY_S).status == 404
