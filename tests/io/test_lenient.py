"""A length that is told twice is one if both agree, and left to aiohttp's parser if they do not."""

from __future__ import annotations

import pytest

from hailuo_async._io.lenient import with_one_length


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        (b"Content-Length: 5", None),
        (b"A: b\r\nContent-Length: 5\r\ncontent-length:5\r\nC: d", b"A: b\r\nC: d\r\nContent-Length: 5"),
        (b"Content-Length: 5, 5", b"Content-Length: 5"),
        (b"Content-Length: 5\r\nContent-Length: 6", None),
        (b"Content-Length: 5, 6", None),
        (b"X-Content-Length: 5\r\nX-Content-Length: 5", None),
        (b"A: b", None),
        (b"Content-Length:", None),
    ],
)
def test_lengths_that_agree_are_one_and_others_stay_as_they_are(lines: bytes, read: bytes | None) -> None:
    body = b"\r\n\r\nhello\r\nContent-Length: 7\r\nContent-Length: 7"
    answer = with_one_length(b"HTTP/1.1 200 OK\r\n" + lines + body)
    assert answer == b"HTTP/1.1 200 OK\r\n" + (lines if read is None else read) + body
