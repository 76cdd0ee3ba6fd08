"""What of a hostile or damaged file reaches Pillow when it is fitted: nothing that warns, bursts or leads astray."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageStat

from hailuo_async._images.fit import Fitted, fit_file
from hailuo_async._images.sanitize import MAX_SCANS, stripped
from hailuo_async.errors import ImageError

from ..support.pictures import LABEL
from ..support.pictures import png_chunk as chunk

WELL_FORMED, WHOLE, FORMAT = (
    "must be a well-formed picture",
    "must be whole",
    "must be a JPEG, PNG or WebP, by its content",
)
PIXELS = "must have at most 67108864 pixels to be fitted"
PILLOW = "must be a picture that Pillow can read and write"


def written(format_name: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 200 if mode in ("L", "P") else "red").save(buffer, format_name, **options)
    return buffer.getvalue()


def moving(format_name: str) -> bytes:
    return written(format_name, save_all=True, append_images=[Image.new("RGB", (40, 30), "blue")])


def png_with(*chunks: bytes) -> bytes:
    data = written("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def declared(width: int, height: int) -> bytes:
    """A PNG that declares its size and has few pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def jpeg_with(*segments: bytes, **options: Any) -> bytes:
    data = written("JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def jpeg_of_scans(count: int) -> bytes:
    """Its last scan, again and again."""
    data = written("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - data.count(b"\xff\xda") + 1) + b"\xff\xd9"


def gif(*blocks: bytes, screen: tuple[int, int] = (40, 30)) -> bytes:
    """A GIF with two colours, red and blue."""
    return b"GIF89a" + struct.pack("<2H", *screen) + b"\x80\0\0\xff\0\0\0\0\xff" + b"".join(blocks)


def gif_picture(width: int = 2, height: int = 2, left: int = 0, top: int = 0, table: bytes = b"") -> bytes:
    """A picture of 2 x 2 pixels of the first colour, whatever size it declares."""
    descriptor = struct.pack("<4HB", left, top, width, height, 0x80 if table else 0)
    return b"," + descriptor + table + b"\x02\x02\x84\x51\x00"


def fitted(data: bytes) -> Fitted:
    return fit_file(LABEL, data)


def colour(result: Fitted) -> list[int]:
    with Image.open(io.BytesIO(result.data)) as image:
        return [round(value) for value in ImageStat.Stat(image.convert("RGB")).mean]


def refusal(data: bytes) -> tuple[object, str]:
    with pytest.raises(ImageError) as caught:
        fitted(data)
    assert type(caught.value) is ImageError
    return caught.value.value, caught.value.rule


# --- metadata that is trouble -----------------------------------------------------------------------------------------

TROUBLE = {
    "jpeg with damaged EXIF": jpeg_with(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")),
    "jpeg with two blocks of EXIF": jpeg_with(*[segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + bytes(9))] * 2),
    "jpeg that says it is several": jpeg_with(segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff")),
    "jpeg with a damaged Photoshop block": jpeg_with(segment(0xED, b"Photoshop 3.0\0" + b"8BIM" * 9)),
    "jpeg with a short JFIF block": jpeg_with(segment(0xE0, b"JFIF\0")),
    "jpeg with a comment": jpeg_with(segment(0xFE, b"x" * 60_000)),
    "jpeg with another picture after its end": written("JPEG") + jpeg_of_scans(2 * MAX_SCANS),
    "jpeg of many scans": jpeg_of_scans(MAX_SCANS),
    "jpeg with restarts": jpeg_with(restart_marker_blocks=1),
    "png with damaged EXIF": png_with(chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff\x12\x01")),
    "png with a text bomb": png_with(*[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**7)))] * 100),
    "png with a profile bomb": png_with(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(10**7)))),
    "png with a damaged profile": png_with(chunk(b"iCCP", b"k\0\0nonsense")),
    "png with a profile without a name": png_with(chunk(b"iCCP", b"k")),
    "png with a false animation": png_with(chunk(b"acTL", bytes(8))),
    "png with a wrong checksum of a text": png_with(chunk(b"tEXt", b"k\0v")[:-1] + b"?"),
    "animated png": moving("PNG"),
    "webp with damaged EXIF": written("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"),
}


@pytest.mark.parametrize("data", TROUBLE.values(), ids=TROUBLE)
def test_trouble_beside_the_pixels_troubles_nobody(data: bytes) -> None:
    result = fitted(data)
    assert max(abs(a - b) for a, b in zip(colour(result), (255, 0, 0), strict=True)) <= 3
    assert "scaled from 40x30 to 402x301" in result.changes


def test_of_a_jpeg_only_the_picture_is_kept() -> None:
    data = written("JPEG", icc_profile=b"profile", comment=b"secret")
    found = stripped(LABEL, data + b"secret")
    assert found.data == data.replace(segment(0xFE, b"secret"), b"")


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "nothing known": (b"something else entirely", "no image format known here", FORMAT),
    "jpeg 2000": (written("JPEG2000"), "a JPEG 2000", FORMAT),
    "riff of sounds": (b"RIFF\x04\0\0\0WAVE" + bytes(99), "no image format known here", FORMAT),
    "jpeg without its end": (written("JPEG")[:-2], "a JPEG without its end", WHOLE),
    "jpeg whose end is a thumbnail's": (jpeg_with(segment(0xE1, b"\xff\xd9"))[:-2], "a JPEG without its end", WHOLE),
    "jpeg whose end stands in a table": (
        written("JPEG")[:-2] + segment(0xC4, b"\xff\xd9"),
        "a JPEG without its end",
        WHOLE,
    ),
    "jpeg of too many scans": (jpeg_of_scans(MAX_SCANS + 1), "a JPEG of more than 100 scans", WELL_FORMED),
    "png of too many pixels": (declared(8193, 8192), "8193 x 8192 px", PIXELS),
    "png of one long row": (declared(2**31 - 1, 1), "2147483647 x 1 px", PIXELS),
    "png whose pixels are cut short": (declared(400, 400), "image file is truncated", PILLOW),
    "animated webp cut short": (moving("WEBP")[:-9], "that announces", WHOLE),
    "animated webp of noise": (moving("WEBP").replace(b"ANMF", b"none"), "could not create decoder object", PILLOW),
    "gif of a screen alone": (gif(b";"), "a GIF without a picture", WELL_FORMED),
    "gif cut short in its screen": (gif()[:10], "the end, at byte 10", WHOLE),
    "gif cut short in its picture": (gif(gif_picture())[:-3], "the end, at byte", WHOLE),
    "gif cut short in a later picture": (gif(gif_picture(), gif_picture()[:-1]), "the end, at byte", WHOLE),
    "gif with a picture of nothing": (
        gif(gif_picture(0, 2), b";"),
        "a GIF with a picture of 0 x 2 px at 0, 0",
        WELL_FORMED,
    ),
    "gif with a picture past all edges": (
        gif(gif_picture(9, 9, 65530, 0), b";"),
        "a GIF with a picture of 9 x 9 px at 65530, 0",
        WELL_FORMED,
    ),
    "gif of too many pixels": (gif(gif_picture(), b";", screen=(65535, 65535)), "65535 x 65535 px", PIXELS),
    "gif with a picture of too many pixels": (gif(gif_picture(60_000, 60_000), b";"), "60000 x 60000 px", PIXELS),
    "bmp cut short in its header": (b"BM" + bytes(10), "the end, at byte 12", WHOLE),
    "bmp of another header": (b"BM" + bytes(60), "Unsupported BMP header type", PILLOW),
    "bmp cut short in its pixels": (written("BMP")[:-9], "image file is truncated", PILLOW),
    "bmp of run lengths": (
        written("BMP", mode="L").replace(bytes(4), b"\x01\0\0\0", 1)[:30] + b"\x01\0\0\0" + bytes(99),
        "a BMP of run lengths",
        "must be a BMP without compression",
    ),
    "bmp of too many pixels": (
        written("BMP")[:18] + struct.pack("<2I", 2**20, 2**20) + written("BMP")[26:],
        "1048576 x 1048576 px",
        PIXELS,
    ),
}


@pytest.mark.parametrize(("data", "value", "rule"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_decoded_is_refused_with_its_reason(data: bytes, value: str, rule: str) -> None:
    found = refusal(data)
    assert found[1] == rule
    assert value in str(found[0])


@pytest.mark.parametrize("is_animated", [False, True])
def test_a_webp_is_bounded_before_pillow_makes_its_canvas(is_animated: bool) -> None:
    if is_animated:
        data = moving("WEBP")
        data = data[:24] + (8192).to_bytes(3, "little") + (8191).to_bytes(3, "little") + data[30:]
    else:
        bits = b"\x2f" + struct.pack("<I", 8192 | 8191 << 14) + b"bit"
        data = b"RIFF" + struct.pack("<I", 20) + b"WEBPVP8L" + struct.pack("<I", 8) + bits
    assert refusal(data) == ("8193 x 8192 px", PIXELS)


def test_a_png_or_gif_of_endless_small_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hailuo_async._images.sanitize._MAX_STEPS", 20)
    png = written("PNG")
    end = png.index(b"IEND") - 4
    data = png[:end] + chunk(b"tEXt", b"") * 30 + png[end:]
    assert refusal(data) == ("a PNG of more than 20 chunks", WELL_FORMED)
    comment = b"!\xfe" + b"\x01x" * 30 + b"\0"
    assert refusal(gif(comment, gif_picture(), b";")) == ("a GIF with a block of more than 20 parts", WELL_FORMED)
    assert refusal(gif(b"!\xfe\0" * 30, gif_picture(), b";")) == ("a GIF without a picture", WELL_FORMED)


# --- GIF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (gif(gif_picture(), b";", screen=(2, 2)), [255, 0, 0]),
        (gif(gif_picture(), screen=(0, 0)), [255, 0, 0]),
        (gif(gif_picture(table=b"\0\xff\0\0\0\0"), b";", screen=(2, 2)), [0, 255, 0]),
        (gif(b"!\xfe\x05hello\0!\xf9\x01\0\0", gif_picture(), b"junk", screen=(2, 2)), [255, 0, 0]),
    ],
)
def test_a_gif_shows_its_own_colours(data: bytes, expected: list[int]) -> None:
    result = fitted(data)
    assert colour(result) == expected
    assert result.changes == ("scaled from 2x2 to 301x301", "converted from GIF to PNG")


def test_a_gif_keeps_what_is_transparent_and_forgets_how_it_goes_on() -> None:
    control = b"!\xf9\x04\x0d\x0a\x00\x00\x00"  # disposal 3, the first colour transparent
    result = fitted(gif(control, gif_picture(), control, gif_picture(), b";", screen=(2, 2)))
    with Image.open(io.BytesIO(result.data)) as image:
        assert (image.mode, image.getchannel("A").getextrema()) == ("RGBA", (0, 0))
    assert result.changes[0] == "animated GIF: first picture only"


# --- anything ---------------------------------------------------------------------------------------------------------

SEEDS = [
    written("JPEG"),
    written("JPEG", progressive=True),
    written("PNG"),
    written("PNG", mode="P"),
    written("WEBP"),
    written("WEBP", lossless=True),
    moving("WEBP"),
    written("GIF"),
    moving("GIF"),
    written("BMP"),
    written("BMP", mode="P"),
    written("TIFF"),
    written("TIFF", compression="tiff_lzw"),
    written("TIFF", mode="P", compression="tiff_adobe_deflate"),
    written("TIFF", compression="jpeg"),
    written("AVIF"),
]


@pytest.mark.parametrize("data", SEEDS, ids=range(len(SEEDS)))
def test_what_is_cut_short_anywhere_is_refused_or_whole(data: bytes) -> None:
    whole = fitted(data)
    for length in range(0, len(data), max(1, len(data) // 60)):
        try:
            result = fitted(data[:length])
        except ImageError:
            continue
        assert colour(result) == colour(whole)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6))
def test_whatever_the_bytes_are_only_our_error_comes_out(seed: bytes, flips: list[tuple[int, int]]) -> None:
    data = bytearray(seed)
    for place, value in flips:
        data[place % len(data)] = value
    try:
        result = fitted(bytes(data))
    except ImageError:
        return
    with Image.open(io.BytesIO(result.data)) as image:
        assert min(image.size) > 300
