"""What the answers to one download mean."""

from __future__ import annotations

from typing import Any

import pytest

from hailuo_async._io.download.transfer import Again, Expired, Transfer
from hailuo_async._io.download.values import Limits
from hailuo_async.errors import DownloadError

DATE = "Sat, 21 Nov 2026 10:00:01 GMT"
WHOLE = {"Content-Length": "10", "ETag": '"v1"'}


def transfer(**changes: Any) -> Transfer:
    return Transfer(url="https://x.example/a.mp4?sig=secret", task_id="task-1", **({"limits": Limits(100)} | changes))


def cut_after(size: int, headers: dict[str, str]) -> Transfer:
    """One whose first answer had ``headers`` and brought ``size`` bytes."""
    begun = transfer()
    begun.begin(200, headers)
    begun.take(bytearray(size))
    return begun


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": '"v1"', "Last-Modified": DATE}, '"v1"'),
        ({"ETag": 'W/"v1"'}, None),
        ({"ETag": "v1"}, None),
        ({"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT", "Date": DATE}, "Sat, 21 Nov 2026 10:00:00 GMT"),
        ({"Last-Modified": DATE, "Date": DATE}, None),
        ({"Last-Modified": DATE}, None),
        ({"Last-Modified": "yesterday", "Date": DATE}, None),
        ({}, None),
    ],
)
def test_only_a_strong_validator_lets_a_download_go_on(headers: dict[str, str], validator: str | None) -> None:
    begun = cut_after(4, {"Content-Length": "10"} | headers)
    rest = {} if validator is None else {"Range": "bytes=4-", "If-Range": validator}
    assert begun.headers() == {"Accept-Encoding": "identity"} | rest


@pytest.mark.parametrize("kind", ["video/mp4", "text/html"])  # wrong, but the first answer may have said so as well
def test_an_answer_with_the_rest_goes_on(kind: str) -> None:
    begun = cut_after(4, WHOLE)
    begun.begin(206, {"Content-Range": "bytes 4-9/10", "ETag": '"v1"', "Content-Type": kind})
    assert begun.take(bytearray(6)) == 4
    begun.end()
    assert (begun.held, begun.total) == (10, 10)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Range": "bytes 0-9/10"},
        {"Content-Range": "bytes 5-9/10"},
        {"Content-Range": "bytes 4-9/*"},
        {"Content-Range": "bytes 4-10/11"},
        {"Content-Range": "bytes 4-9/10", "ETag": '"v2"'},
    ],
)
def test_an_answer_that_is_not_the_rest_begins_anew(headers: dict[str, str]) -> None:
    begun = cut_after(4, WHOLE)
    with pytest.raises(Again):
        begun.begin(206, headers)
    assert (begun.held, begun.headers()) == (0, {"Accept-Encoding": "identity"})


def test_a_rest_that_ends_early_is_asked_for_again() -> None:
    begun = cut_after(4, WHOLE)
    begun.begin(206, {"Content-Range": "bytes 4-7/10"})
    begun.take(bytearray(4))
    with pytest.raises(Again) as caught:
        begun.end()
    assert caught.value.reason == "the answer ended after 8 of 10 bytes"
    assert begun.headers()["Range"] == "bytes=8-"


def test_a_reader_who_begins_later_does_not_get_a_cut_film_as_a_whole_one() -> None:
    begun = transfer(start=5)
    begun.begin(200, {"Digest": "sha-256=" + "A" * 43 + "="})  # the whole, not the part that was asked for
    begun.take(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x20moov")
    with pytest.raises(Again, match="not whole"):
        begun.end()


def test_more_than_was_told_is_useless() -> None:
    begun = cut_after(4, WHOLE)
    with pytest.raises(DownloadError, match="more than the 10 bytes"):
        begun.take(bytearray(7))
    assert begun.held == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-MD5": "hex"},
        {"Content-MD5": "YWJj"},
        {"x-amz-checksum-sha256": "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-3"},
        {"Digest": "crc32c=AAAAAA=="},
    ],
)
def test_what_cannot_be_a_checksum_is_not_taken_for_one(headers: dict[str, str]) -> None:
    assert cut_after(4, WHOLE | headers).stamp.checksums == {}


def test_the_query_of_a_url_is_not_in_what_is_kept_and_does_not_make_another_film() -> None:
    begun = cut_after(4, WHOLE)
    kept = begun.stamp
    begun.move("https://x.example/a.mp4?sig=fresh")
    assert (begun.held, begun.stamp) == (4, kept)
    assert transfer().stamp.of == kept.of
    begun.move("https://x.example/b.mp4?sig=fresh")
    assert (begun.held, begun.stamp.validator) == (0, None)
    assert begun.stamp.of != kept.of


@pytest.mark.parametrize(("status", "kind"), [(403, Expired), (503, Again), (416, DownloadError), (206, DownloadError)])
def test_each_refusal_is_of_its_kind(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        transfer().begin(status, {})


@pytest.mark.parametrize(("status", "said", "after_s"), [(503, "7", 7.0), (429, "30", 30.0), (500, "soon", 0.0)])
def test_a_server_that_puts_the_download_off_says_until_when(status: int, said: str, after_s: float) -> None:
    with pytest.raises(Again) as caught:
        transfer().begin(status, {"Retry-After": said})
    assert caught.value.after_s == after_s
