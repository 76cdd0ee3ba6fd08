"""What is read from the first bytes of image files, held against Pillow, which writes them."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from PIL import Image

from hailuo_async.emulator.pictures import ImageInfo, inspect_image

WRITERS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("JPEG", "jpeg", "RGB", {}),
    ("JPEG", "jpeg", "RGB", {"progressive": True}),
    ("JPEG", "jpeg", "CMYK", {}),
    ("JPEG", "jpeg", "L", {"comment": b"x" * 3000, "icc_profile": b"y" * 100_000}),
    ("PNG", "png", "RGBA", {}),
    ("PNG", "png", "I;16", {}),
    ("WEBP", "webp", "RGB", {"lossless": True}),
    ("WEBP", "webp", "RGB", {"quality": 50}),
    ("WEBP", "webp", "RGBA", {"quality": 50, "exif": b"Exif\0\0"}),
]


def written(format_: str, mode: str, size: tuple[int, int], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format_, **options)
    return file.getvalue()


@pytest.mark.parametrize(("format_", "kind", "mode", "options"), WRITERS)
@pytest.mark.parametrize("size", [(1, 1), (301, 700), (1025, 2)])
def test_kind_and_size_are_those_that_pillow_wrote(
    format_: str, kind: str, mode: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    assert inspect_image(written(format_, mode, size, **options)) == ImageInfo(kind, size)


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("order", [">", "<"])
def test_a_photograph_on_its_side_is_seen_upright(orientation: int, order: str) -> None:
    entries = struct.pack(f"{order}HHHIHHHHIHH", 2, 0x010F, 3, 1, 0, 0, 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + (b"MM\0*\0\0\0\x08" if order == ">" else b"II*\0\x08\0\0\0") + entries + bytes(4)
    size = (300, 400) if 5 <= orientation <= 8 else (400, 300)
    assert inspect_image(written("JPEG", "RGB", (400, 300), exif=exif)) == ImageInfo("jpeg", size)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\xff", b"http://ns.adobe.com/xap/1.0/\0"])
def test_a_broken_or_foreign_application_segment_does_not_break_the_picture(exif: bytes) -> None:
    assert inspect_image(written("JPEG", "RGB", (400, 300), exif=exif)) == ImageInfo("jpeg", (400, 300))


@pytest.mark.parametrize(("format_", "kind", "mode", "options"), WRITERS)
def test_a_file_that_ends_inside_its_header_is_no_picture(
    format_: str, kind: str, mode: str, options: dict[str, Any]
) -> None:
    data = written(format_, mode, (400, 300), **options)
    found = [inspect_image(data[:length]) for length in range(0, min(len(data), 4000), 3)]
    first = next((index for index, look in enumerate(found) if look is not None), len(found))
    assert set(found[:first]) == {None}
    assert set(found[first:]) <= {ImageInfo(kind, (400, 300))}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\0\x02JFIF",
        b"\xff\xd8\xff\xd9\0\x02" + bytes(9),
        b"\x89PNG\r\n\x1a\n\0\0\0\rIDAT" + bytes(20),
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(20),
        b"RIFF\0\0\0\0WEBPVP8 " + bytes(30),
        b"RIFF\0\0\0\0WEBPVP8L" + bytes(30),
        b"RIFF\0\0\0\0WAVEfmt " + bytes(30),
        b"GIF89a" + bytes(30),
    ],
)
def test_what_is_no_readable_picture_is_seen_as_none(data: bytes) -> None:
    assert inspect_image(data) is None


def test_filler_bytes_and_markers_without_a_length_are_passed_over() -> None:
    frame = b"\xff\xc0\0\x0b\x08" + struct.pack(">HH", 300, 400) + b"\x01\x01\x11\0"
    assert inspect_image(b"\xff\xd8\xff\xff\xff\x01\xff\xd0" + frame) == ImageInfo("jpeg", (400, 300))


def test_a_vast_picture_in_a_small_file_is_looked_at_for_nothing() -> None:
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1)
    assert inspect_image(head) == ImageInfo("png", (2**31 - 1, 2**31 - 1))
