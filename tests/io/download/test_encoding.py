"""What a Content-Encoding means for the bytes, whatever a server writes there."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest
from multidict import CIMultiDict

from hailuo_async._io.download.encoding import Inflater, encodings, is_compressed, is_readable

FILM = b"\0\0\0\x18ftypmp42" + random.Random(1).randbytes(5_000)


def inflated(body: bytes, step: int, max_piece_bytes: int = 1000) -> tuple[bytes, bool]:
    """What comes out of ``body``, given in steps, and whether its end was reached."""
    inflater, out = Inflater(max_piece_bytes), b""
    for begin in range(0, len(body), step):
        given = body[begin : begin + step]
        while plain := inflater.inflate(given):
            assert len(plain) <= max_piece_bytes
            out, given = out + plain, b""
    return out, inflater.is_whole


@pytest.mark.parametrize(
    ("headers", "labels"),
    [
        ([], ()),
        ([("Content-Encoding", "")], ()),
        ([("content-encoding", "Identity")], ()),
        ([("Content-Encoding", "aws-chunked")], ()),
        ([("Content-Encoding", "aws-chunked, gzip")], ("gzip",)),
        ([("Content-Encoding", "gzip"), ("Content-Encoding", "br")], ("gzip", "br")),
        ([("Content-Encoding", "UTF-8")], ("utf-8",)),
    ],
)
def test_labels_that_say_nothing_are_left_out(headers: list[tuple[str, str]], labels: tuple[str, ...]) -> None:
    assert encodings(CIMultiDict(headers)) == labels


@pytest.mark.parametrize(
    ("label", "first", "compressed", "readable"),
    [
        ("gzip", gzip.compress(FILM, mtime=0), True, True),
        ("x-gzip", gzip.compress(FILM, mtime=0), True, True),
        ("deflate", zlib.compress(FILM), True, True),
        ("gzip", FILM, False, True),
        ("br", FILM, False, True),
        ("nonsense", FILM, False, True),
        ("br", b"\x0b\x02", False, False),
        ("gzip", b"page", False, False),
        ("gzip", b"", False, False),
        ("zstd", gzip.compress(FILM, mtime=0), False, False),
    ],
)
def test_a_label_counts_as_far_as_the_bytes_bear_it_out(
    label: str, first: bytes, compressed: bool, readable: bool
) -> None:
    assert (is_compressed((label,), first), is_readable((label,), first)) == (compressed, readable)


def test_without_a_label_anything_is_readable_but_the_chunks_of_an_upload() -> None:
    assert is_readable((), b"anything")
    assert not is_readable((), b"10000;chunk-signature=ad80c730a21e5b8d\r\n" + FILM)


@pytest.mark.parametrize("step", [1, 7, 999, 100_000])
@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(FILM, mtime=0),
        zlib.compress(FILM),
        gzip.compress(FILM, mtime=0) + bytes(512),
        gzip.compress(FILM[:20], mtime=0) + gzip.compress(FILM[20:], mtime=0),
        gzip.compress(b"", mtime=0) + gzip.compress(FILM, mtime=0),
    ],
    ids=["gzip", "zlib", "padded", "two", "empty first"],
)
def test_what_was_compressed_comes_out_in_bounded_pieces(body: bytes, step: int) -> None:
    assert inflated(body, step) == (FILM, True)


def test_a_small_answer_that_would_be_vast_comes_out_a_piece_at_a_time() -> None:
    inflater = Inflater(1000)
    assert len(inflater.inflate(gzip.compress(bytes(10_000_000), mtime=0))) == 1000


def test_what_was_cut_is_not_whole_and_what_is_damaged_is_an_error() -> None:
    packed = gzip.compress(FILM, mtime=0)
    assert inflated(packed[:-1], 1000) == (FILM, False)
    with pytest.raises(zlib.error):
        inflated(packed[:-6] + b"wrong!", 1000)
