"""A corpus of hostile pictures, made here: each is accepted or refused as documented, in bounded memory."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from hailuo_async._images.content import Label, Reader
from hailuo_async._images.frame import inspect_image
from hailuo_async._images.headers import read_header
from hailuo_async.contract import IMAGE_UNDER_BYTES
from hailuo_async.errors import ImageError

from ..support.pictures import png_chunk as chunk

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"

#: What looking at one file of up to 20 MB may take, in bytes, pages of Python's own allocator included.
MEMORY_BOUND = 300_000


def ihdr(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png(width: int, height: int, *extra: bytes) -> bytes:
    return PNG_SIGNATURE + ihdr(width, height) + b"".join(extra) + chunk(b"IDAT", b"x" * 9) + PNG_END


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def frame_header(width: int, height: int, code: int = 0xC0, components: int = 3) -> bytes:
    return segment(code, struct.pack(">BHHB", 8, height, width, components) + b"\x01\x11\x00" * components)


SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"entropy\xff\x00coded"


def jpeg(width: int, height: int, *extra: bytes, code: int = 0xC0, components: int = 3) -> bytes:
    return b"\xff\xd8" + b"".join(extra) + frame_header(width, height, code, components) + SCAN + b"\xff\xd9"


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def vp8(width: int, height: int, tag: bytes = b"\x10\x00\x00") -> bytes:
    return riff_chunk(b"VP8 ", tag + b"\x9d\x01\x2a" + struct.pack("<HH", width, height) + b"bits")


def vp8l(width: int, height: int, version: int = 0) -> bytes:
    return riff_chunk(b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14 | version << 29) + b"bit")


def vp8x(width: int, height: int, flags: int = 0) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size)


#: A block of EXIF that says: turn me by 90 degrees.
LYING = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + bytes(4)
SHORT = b"\xff\xe0\0\3x"
RARE_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)


def png_and(more: bytes) -> bytes:
    """A PNG with ``more`` between its pixels and its end."""
    return png(400, 500)[: -len(PNG_END)] + more + PNG_END


def lying_webp(exif: bytes, flags: int = 8) -> bytes:
    return riff(vp8x(400, 500, flags), vp8(400, 500), riff_chunk(b"EXIF", exif))


def made_by_pillow(format_name: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (400, 500)).save(buffer, format_name, **options)
    return buffer.getvalue()


def animated(format_name: str) -> bytes:
    other = Image.new("RGB", (400, 500), "red")
    return made_by_pillow(format_name, save_all=True, append_images=[other])


@attrs.frozen
class Case:
    """A file, and either the MIME type and size that are found, or a part of the refusal's words."""

    name: str
    data: bytes = attrs.field(repr=False)
    found: tuple[str, int, int] | str


JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"
SHORT_SIDE, ASPECT, PIXELS = "short side must be over 300 px", "aspect ratio must be", "must have at most"
COMMON = "must be a JPEG that common decoders read"
FORMAT, BROKEN, WHOLE = "must be a JPEG, PNG or WebP", "must be a well-formed picture", "must be whole"

REAL = [
    Case("jpeg", made_by_pillow("JPEG"), (JPEG, 400, 500)),
    Case("progressive jpeg", made_by_pillow("JPEG", progressive=True), (JPEG, 400, 500)),
    Case("grey jpeg", made_by_pillow("JPEG", "L"), (JPEG, 400, 500)),
    Case("cmyk jpeg", made_by_pillow("JPEG", "CMYK"), (JPEG, 400, 500)),
    Case("png", made_by_pillow("PNG"), (PNG, 400, 500)),
    Case("png with alpha", made_by_pillow("PNG", "RGBA"), (PNG, 400, 500)),
    Case("png with a palette", made_by_pillow("PNG", "P"), (PNG, 400, 500)),
    Case("png of 16 bits", made_by_pillow("PNG", "I;16"), (PNG, 400, 500)),
    Case("animated png", animated("PNG"), (PNG, 400, 500)),
    Case("lossy webp", made_by_pillow("WEBP"), (WEBP, 400, 500)),
    Case("lossless webp", made_by_pillow("WEBP", lossless=True), (WEBP, 400, 500)),
    Case("extended webp", made_by_pillow("WEBP", "RGBA", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"), (WEBP, 400, 500)),
]

ACCEPTED = [
    *REAL,
    Case("arithmetic jpeg", jpeg(400, 500, code=0xC9), (JPEG, 400, 500)),
    Case("jpeg with bytes after its end", jpeg(400, 500) + b"MotionPhoto_Data" * 5000, (JPEG, 400, 500)),
    Case("jpeg with padded markers", jpeg(400, 500, b"\xff" * 30), (JPEG, 400, 500)),
    Case("jpeg with a stray restart", jpeg(400, 500, b"\xff\xd0\xff\x01"), (JPEG, 400, 500)),
    Case("jpeg with stray bytes between segments", jpeg(400, 500, segment(0xE0, b"x"), b"junk"), (JPEG, 400, 500)),
    Case("jpeg with 100 KB of stray bytes", jpeg(400, 500, b"\xff\0j" * 33_333), (JPEG, 400, 500)),
    Case("jpeg with a marker over two pieces", jpeg(400, 500, SHORT, b"j" * (2**14 - 1)), (JPEG, 400, 500)),
    Case("progressive arithmetic jpeg", jpeg(400, 500, code=0xCA), (JPEG, 400, 500)),
    Case("extended jpeg", jpeg(400, 500, code=0xC1), (JPEG, 400, 500)),
    Case("jpeg of 4 channels", jpeg(400, 500, components=4), (JPEG, 400, 500)),
    Case("png that lies", png(400, 500, chunk(b"eXIf", LYING)), (PNG, 500, 400)),
    Case("png that says so after its pixels", png_and(chunk(b"eXIf", LYING)), (PNG, 500, 400)),
    Case("png with endless chunks of pixels", png_and(chunk(b"IDAT", b"") * 10_000), (PNG, 400, 500)),
    Case("png with a chunk of 4 GiB after its pixels", png_and(b"\xff\xff\xff\xfftEXt"), (PNG, 400, 500)),
    Case("webp that lies", lying_webp(LYING), (WEBP, 500, 400)),
    Case("webp whose block of EXIF is marked twice", lying_webp(b"Exif\0\0" * 2 + LYING), (WEBP, 500, 400)),
    Case("webp that does not announce its EXIF", lying_webp(LYING, flags=0), (WEBP, 400, 500)),
    Case("webp that announces an EXIF it has not", riff(vp8x(400, 500, 8), vp8(400, 500)), (WEBP, 400, 500)),
    Case("jpeg with 300 profiles", jpeg(400, 500, *[segment(0xE2, b"x" * 60_000)] * 300), (JPEG, 400, 500)),
    Case("jpeg and zip at once", jpeg(400, 500) + b"PK\x03\x04 and more PK\x05\x06", (JPEG, 400, 500)),
    Case("jpeg with a script in it", jpeg(400, 500, segment(0xFE, b"<script>alert(1)</script>")), (JPEG, 400, 500)),
    Case("png with bytes after its end", png(400, 500) + b"tail", (PNG, 400, 500)),
    Case("png with a text of 15 MB", png(400, 500, chunk(b"tEXt", b"k\0" + b"x" * 15_000_000)), (PNG, 400, 500)),
    Case(
        "png with a text bomb", png(400, 500, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**7)))), (PNG, 400, 500)
    ),
    Case("webp with a profile", riff(vp8x(400, 500), riff_chunk(b"ICCP", b"odd"), vp8(400, 500)), (WEBP, 400, 500)),
    Case("webp with bytes after its end", riff(vp8l(400, 500)) + b"tail", (WEBP, 400, 500)),
    Case("webp with bits for scaling", riff(vp8(400 | 0x4000, 500 | 0x8000)), (WEBP, 400, 500)),
    Case("301 px", png(301, 301), (PNG, 301, 301)),
    Case("5:2 exactly", jpeg(1000, 400), (JPEG, 1000, 400)),
    Case("2:5 exactly", riff(vp8l(400, 1000)), (WEBP, 400, 1000)),
    Case("as many pixels as are allowed", png(16384, 16384), (PNG, 16384, 16384)),
]

REFUSED = [
    Case("299 px", png(299, 400), SHORT_SIDE),
    Case("300 px", jpeg(400, 300), SHORT_SIDE),
    Case("past 5:2", jpeg(1001, 400), ASPECT),
    Case("past 2:5", riff(vp8(400, 1001)), ASPECT),
    Case("zero-width png", png(0, 500), SHORT_SIDE),
    Case("zero-height jpeg", jpeg(400, 0), SHORT_SIDE),
    Case("zero-width webp", riff(vp8(0, 500)), SHORT_SIDE),
    Case("png of 100 000 x 100 000", png(100_000, 100_000), PIXELS),
    Case("png of 4 294 967 295 x 4 294 967 295", png(2**32 - 1, 2**32 - 1), PIXELS),
    Case("jpeg of 65535 x 65535", jpeg(65535, 65535), PIXELS),
    Case("one column of pixels too many", png(16385, 16384), PIXELS),
    Case("webp with a canvas of 2**24 x 2**24", riff(vp8x(2**24, 2**24), vp8(400, 500)), BROKEN),
    Case("animated webp", animated("WEBP"), "must be a still picture"),
    Case("webp whose canvas is not its picture", riff(vp8x(400, 500), vp8l(400, 501)), BROKEN),
    Case("webp of no chunks", riff(), WHOLE),
    Case("webp that begins with a profile", riff(riff_chunk(b"ICCP", b"x"), vp8(400, 500)), BROKEN),
    Case("webp of a canvas alone", riff(vp8x(400, 500)), WHOLE),
    Case("webp of a short canvas", riff(riff_chunk(b"VP8X", b"x" * 4), vp8(400, 500)), BROKEN),
    Case("webp of a short lossy chunk", riff(riff_chunk(b"VP8 ", b"x" * 4)) + b"x" * 100, BROKEN),
    Case("webp of a short lossless chunk", riff(riff_chunk(b"VP8L", b"\x2f")) + b"x" * 100, BROKEN),
    Case("webp of an inner frame", riff(vp8(400, 500, b"\x11\0\0")), BROKEN),
    Case("webp of a wrong start code", riff(vp8(400, 500)).replace(b"\x9d\x01", b"\x9d\x02"), BROKEN),
    Case("webp of a later version", riff(vp8l(400, 500, version=1)), BROKEN),
    Case("webp of another signature", riff(vp8l(400, 500)).replace(b"\x2f", b"\x2e"), BROKEN),
    Case("webp with a chunk past its end", riff(vp8x(400, 500), b"ICCP\xff\xff\xff\xff"), BROKEN),
    Case("webp of 2000 chunks", riff(vp8x(400, 500), *[riff_chunk(b"none", b"")] * 2000, vp8(400, 500)), BROKEN),
    Case("webp that announces 4 GiB", riff(vp8(400, 500)).replace(b"RIFF\x1a\0\0\0", b"RIFF\xff\xff\xff\xff"), WHOLE),
    Case("png with a wrong checksum", png(400, 500).replace(b"\x01\xf4", b"\x01\xf5"), BROKEN),
    Case("png of pixels before the header", PNG_SIGNATURE + chunk(b"IDAT", b"x" * 13) + PNG_END, BROKEN),
    Case("png without pixels", PNG_SIGNATURE + ihdr(400, 500) + PNG_END, BROKEN),
    Case("png with a chunk of 4 GiB", PNG_SIGNATURE + ihdr(400, 500) + b"\xff\xff\xff\xfftEXt" + PNG_END, WHOLE),
    Case("png of 2000 chunks", png(400, 500, *[chunk(b"tEXt", b"k\0v")] * 2000), BROKEN),
    Case("png with its end before its pixels only", png(400, 500, PNG_END)[:-12], BROKEN),
    Case("png without its end", png(400, 500)[:-12], WHOLE),
    Case("png signature with DOS newlines gone", png(400, 500).replace(b"\r\n", b"\n"), FORMAT),
    Case("jpeg without its end", jpeg(400, 500)[:-2], WHOLE),
    Case("jpeg whose thumbnail has an end", jpeg(400, 500, segment(0xE1, jpeg(301, 301)))[:-2], WHOLE),
    Case("jpeg whose rest is zeros", jpeg(400, 500)[:-2] + bytes(1_000_000), WHOLE),
    Case("jpeg with a scan before its header", b"\xff\xd8" + SCAN + b"\xff\xd9", BROKEN),
    Case("jpeg with no scan", b"\xff\xd8" + frame_header(400, 500) + b"\xff\xd9", BROKEN),
    Case("jpeg in a jpeg", b"\xff\xd8" + jpeg(400, 500), BROKEN),
    Case("jpeg with a segment of length 0", jpeg(400, 500, b"\xff\xe0\0\0"), BROKEN),
    Case("jpeg with a short frame header", b"\xff\xd8" + segment(0xC0, b"\x08\x01") + SCAN + b"\xff\xd9", BROKEN),
    Case("jpeg of 2000 segments", jpeg(400, 500, *[segment(0xFE, b"")] * 2000), BROKEN),
    Case("jpeg of 10 MB of padding", b"\xff\xd8" + b"\xff" * 10_000_000, WHOLE),
    Case("jpeg of 10 MB of stray bytes", b"\xff\xd8\xff" + b"\xff\0" * 5_000_000, WHOLE),
    Case("jpeg with a reserved marker", jpeg(400, 500, segment(0x42, b"x")), BROKEN),
    Case("jpeg with its end before its picture", jpeg(400, 500, b"\xff\xd9"), BROKEN),
    *(Case(f"jpeg of frame {code:X}", jpeg(400, 500, code=code), COMMON) for code in RARE_FRAMES),
    Case("jpeg of 12 bits", jpeg(400, 500).replace(b"\x11\x08", b"\x11\x0c", 1), COMMON),
    Case("jpeg of 2 channels", jpeg(400, 500, components=2), COMMON),
    Case("jpeg-ls", jpeg(400, 500, code=0xF7), BROKEN),
    Case("gif", made_by_pillow("GIF"), "a GIF"),
    Case("bmp", made_by_pillow("BMP"), "a BMP"),
    Case("tiff", made_by_pillow("TIFF"), "a TIFF"),
    Case("big-endian tiff", b"MM\0*" + bytes(50), "a TIFF"),
    Case("big tiff", b"II+\0" + bytes(50), "a BigTIFF"),
    Case("avif", b"\0\0\0\x20ftypavif" + bytes(50), "an AVIF"),
    Case("heic", b"\0\0\0\x18ftypheic" + bytes(50), "a HEIC"),
    Case("heif", b"\0\0\0\x18ftypmif1" + bytes(50), "a HEIC"),
    Case("avif by its second brand", b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + bytes(50), "an AVIF"),
    Case("heic of a burst", b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc" + bytes(50), "fit=True makes it obey"),
    Case("mp4", b"\0\0\0\x18ftypisom" + bytes(50), "a video"),
    Case("jpeg 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "a JPEG 2000"),
    Case("jpeg xl", b"\xff\x0a" + bytes(50), "a JPEG XL"),
    Case("pdf", b"%PDF-1.7 " + jpeg(400, 500), "a PDF"),
    Case("svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a text with markup"),
    Case("text in the clothes of a jpeg", b"the password is hunter2", FORMAT),
    Case("gif in the clothes of a jpeg", b"GIF89a" + jpeg(400, 500), FORMAT),
    Case("wav in the clothes of a webp", b"RIFF\x10\0\0\0WAVEfmt " + bytes(50), FORMAT),
    Case("one byte", b"\xff", FORMAT),
]

CORPUS = [*ACCEPTED, *REFUSED]


def cut_short() -> Iterator[Case]:
    """Each picture, cut at each byte of its header: what is left is refused as something else, or as not whole."""
    for kind, whole in {
        "jpeg": jpeg(400, 500),
        "png": png(400, 500),
        "webp": riff(vp8x(400, 500), vp8(400, 500)),
    }.items():
        for length in range(1, len(whole)):
            yield Case(f"{kind} cut at {length}", whole[:length], "")


def outcome(source: bytes | str | Path) -> tuple[str, int, int] | str:
    try:
        frame = inspect_image("first_frame_image", source)
    except ImageError as error:
        return str(error)
    assert frame.mime is not None
    return frame.mime, frame.width, frame.height


def holds(case: Case, found: tuple[str, int, int] | str) -> bool:
    return case.found in found if isinstance(case.found, str) else case.found == found


def names(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CORPUS, ids=names)
def test_a_file_is_accepted_or_refused_as_documented_whatever_its_name_in_little_memory(
    case: Case, tmp_path: Path
) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(case.data)
    tracemalloc.start()
    try:
        found = outcome(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert holds(case, found), found
    assert peak < MEMORY_BOUND


@pytest.mark.parametrize("case", CORPUS, ids=names)
def test_bytes_and_data_urls_are_judged_like_files(case: Case) -> None:
    url = "data:image/gif;base64," + base64.b64encode(case.data).decode()
    assert holds(case, outcome(case.data)), case
    assert holds(case, outcome(url)), case


@pytest.mark.parametrize("case", CORPUS, ids=names)
def test_no_file_makes_its_reader_take_more_steps_than_it_should(case: Case) -> None:
    reads = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        return case.data[offset : offset + length]

    with contextlib.suppress(ImageError):
        read_header(Reader(Label("first_frame_image", "x"), len(case.data), read_at))
    assert reads <= 4200 + len(case.data) / 10_000


def test_a_picture_cut_anywhere_is_refused_by_an_error_of_ours() -> None:
    accepted = [case.name for case in cut_short() if not isinstance(outcome(case.data), str)]
    assert accepted == []


def test_the_corpus_has_the_size_that_was_promised() -> None:
    cases = [*CORPUS, *cut_short()]
    assert len({case.data for case in CORPUS}) == len(CORPUS) >= 60
    assert len({case.name for case in cases}) == len(cases) >= 200


def test_an_unknown_file_is_refused_without_quoting_it() -> None:
    assert "hunter2" not in str(outcome(b"the password is hunter2"))


@pytest.mark.parametrize(
    ("size", "accepted"),
    [(IMAGE_UNDER_BYTES - 1, True), (IMAGE_UNDER_BYTES, False), (IMAGE_UNDER_BYTES + 1, False), (2**40, False)],
)
def test_an_image_must_be_under_20_mb_by_one_byte(size: int, accepted: bool, tmp_path: Path) -> None:
    path = tmp_path / "padded.jpg"
    path.write_bytes(jpeg(400, 500))
    with path.open("r+b") as file:
        file.truncate(size)  # sparse: takes no room on the disk
    found = outcome(path)
    refusal = f"first_frame_image (padded.jpg): found {size} bytes; must be under 20 MB (20000000 bytes); fit=True"
    assert found == (JPEG, 400, 500) if accepted else str(found).startswith(refusal)


@pytest.mark.parametrize("case", REAL, ids=names)
def test_pillow_sees_the_same_format_and_size(case: Case) -> None:
    with Image.open(io.BytesIO(case.data)) as theirs:
        seen = (theirs.get_format_mimetype(), *theirs.size)
    assert (str(seen[0]).replace("image/apng", PNG), *seen[1:]) == case.found


@given(
    magic=st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff",
            PNG_SIGNATURE,
            PNG_SIGNATURE + ihdr(400, 500),
            b"RIFF\x40\0\0\0WEBP",
            b"GIF8",
            b"\0\0\0\x18ftyp",
        ]
    ),
    rest=st.binary(max_size=3000),
)
@example(b"\xff\xd8\xff", b"\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff")
def test_no_bytes_raise_anything_but_our_error(magic: bytes, rest: bytes) -> None:
    if magic + rest:
        outcome(magic + rest)


@given(st.sampled_from(ACCEPTED).filter(lambda case: len(case.data) < 5000), st.data())
def test_no_damage_to_a_picture_raises_anything_but_our_error(case: Case, data: st.DataObject) -> None:
    damaged = bytearray(case.data)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, min(len(damaged), 120) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    outcome(bytes(damaged))
