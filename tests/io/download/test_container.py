"""Where a film ends by its own word."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailuo_async._io.download.container import Boxes, begins_as_media


def box(name: bytes, body: bytes = b"", *, wide: bool = False) -> bytes:
    """One box; a wide one tells its size in 64 bits."""
    if wide:
        return b"\0\0\0\1" + name + (len(body) + 16).to_bytes(8) + body
    return (len(body) + 8).to_bytes(4) + name + body


FILM = box(b"ftyp", b"mp42") + box(b"moov", bytes(100)) + box(b"mdat", random.Random(1).randbytes(3000), wide=True)


def after(film: bytes, sizes: tuple[int, ...] = ()) -> Boxes:
    """What is known of ``film`` after it came in pieces of these sizes, and the rest."""
    boxes = Boxes()
    for size in (*sizes, len(film)):
        boxes.take(film[:size])
        film = film[size:]
    return boxes


@given(st.lists(st.integers(1, 40), max_size=30))
def test_a_whole_film_is_whole_however_its_pieces_are_cut(sizes: list[int]) -> None:
    boxes = after(FILM, tuple(sizes))
    assert (boxes.is_film, boxes.is_whole) == (True, True)


@given(st.integers(0, len(FILM) - 1), st.integers(1, 50))
def test_a_film_that_was_cut_anywhere_is_not_whole(length: int, size: int) -> None:
    assert not after(FILM[:length], (size,)).is_whole


@pytest.mark.parametrize(
    ("content", "is_cut"),
    [
        (FILM, False),
        (FILM + b"more", False),
        (FILM[:-1], True),
        (FILM[:60], True),
        (FILM[:12], False),  # so short that it may be of a kind not known here
        (box(b"ftyp") + b"\0\0\0\0mdat" + bytes(9), False),
        (box(b"ftyp") + bytes(range(65, 91)), False),
    ],
    ids=["whole", "and more", "last byte", "in its index", "at its beginning", "to the end", "of no known kind"],
)
def test_a_film_that_ends_within_its_index_or_its_pictures_was_cut(content: bytes, is_cut: bool) -> None:
    assert after(content, (7, 7, 7)).is_cut is is_cut


@pytest.mark.parametrize(
    "film",
    [
        box(b"ftyp") + box(b"mdat", b"film") + box(b"moov"),
        box(b"ftyp") + box(b"moov") + box(b"moof") + box(b"mdat", b"film") + box(b"moof") + box(b"mdat", b"film"),
        box(b"wide") + box(b"mdat", b"film") + box(b"moov"),
        box(b"ftyp") * 500,
    ],
    ids=["index last", "fragments", "quicktime", "no pictures"],
)
def test_films_are_put_together_in_many_ways(film: bytes) -> None:
    assert after(film).is_whole


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ftyp",
        random.Random(2).randbytes(3000),
        b"\x1aE\xdf\xa3" + bytes(100),
        box(b"ftyp") + b"v" * 1000,
        box(b"ftyp") + box(b"moov") + b"\0\0\0\7mdat" + bytes(100),
        box(b"ftyp") + box(b"moov") + b"\0\0\0\1mdat" + (15).to_bytes(8) + bytes(100),
        box(b"ftyp") + box(b"moov") + b"\0\0\0\0mdat" + bytes(100),
        box(b"free") * 10_000,
    ],
    ids=["nothing", "short", "noise", "webm", "cut", "too small", "too small, wide", "open end", "too many"],
)
def test_of_anything_else_the_end_is_not_known(content: bytes) -> None:
    assert not after(content).is_whole


def test_a_video_or_a_picture_is_known_by_its_first_bytes() -> None:
    media = [FILM, b"\x1aE\xdf\xa3", b"RIFF1234WEBP", b"GIF89a", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n"]
    assert [begins_as_media(first) for first in media] == [True] * 6
    assert [begins_as_media(first) for first in (b"", b"<html>", b"{}", b"10000;chunk-signature=")] == [False] * 4
