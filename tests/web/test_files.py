"""Which bytes of a file a request asks for."""

from __future__ import annotations

import pytest

from hailuo_async.web.files import Span, read_range

ETAG = '"task-1"'


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("bytes=0-", Span(0, 1000)),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=10-19", Span(10, 20)),
        ("bytes=10-5000", Span(10, 1000)),
        ("bytes=-100", Span(900, 1000)),
        ("bytes=-5000", Span(0, 1000)),
        ("bytes = 1 - 2", Span(1, 3)),
    ],
)
def test_one_range_is_read(asked: str, found: Span) -> None:
    assert read_range({"Range": asked}, 1000, ETAG) == found


@pytest.mark.parametrize(
    "asked",
    ["", "bytes=-", "bytes=5-4", "bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "bytes=0x1-2", "bytes=²-", "b" * 9999],
)
def test_what_is_no_single_range_asks_for_all(asked: str) -> None:
    assert read_range({"Range": asked}, 1000, ETAG) is None


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=2000-3000", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_had(asked: str) -> None:
    span = read_range({"Range": asked}, 1000, ETAG)
    assert span is not None
    assert span.length <= 0


def test_a_range_of_another_version_asks_for_all_of_this_one() -> None:
    assert read_range({"Range": "bytes=5-", "If-Range": '"task-2"'}, 1000, ETAG) is None
    assert read_range({"Range": "bytes=5-", "If-Range": ETAG}, 1000, ETAG) == Span(5, 1000)
