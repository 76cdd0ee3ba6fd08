"""Strips a file down to its picture, before Pillow decodes it.

Pillow reads more than the pixels, and some of it causes trouble: it warns of damaged EXIF, of odd animations and of
large sizes through filters that all threads share; a compressed text or profile that inflates past its limits ends the
reading; a JPEG may ask for thousands of scans over the whole picture (seconds each), a GIF for a canvas that it does
not declare. So everything beside the pixels is dropped here, by reading only marks and lengths. Two parts that are
needed later are kept: the colour profile, and the EXIF block for the orientation.

- JPEG, PNG, WebP: as ``headers`` reads them, with the same refusals. An animated WebP passes as well.
- GIF: the first picture. BMP: unchanged, but without run lengths: Pillow's decoder lets 4 bytes ask for gigabytes.
- TIFF: the first picture, with a directory of only the entries that it needs (``tiff``).
- AVIF and HEIC: unchanged. Their decoders read no pixels before the size is known, and bound the memory that they take:
  up to 2**28 pixels for an AVIF whose inside is larger than it declares.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator

import attrs

from hailuo_async._images.content import BytesContent, Label, Reader
from hailuo_async._images.headers import (
    EXIF_MARK,
    WELL_FORMED,
    WHOLE,
    format_error,
    format_name,
    jpeg_segments,
    read_header,
)
from hailuo_async._images.limits import MAX_PROFILE_BYTES, check_decodable
from hailuo_async._images.tiff import strip_tiff

#: Progressive JPEGs have about ten.
MAX_SCANS = 100
#: Chunks of a PNG, blocks of a GIF: files of 100 MB have far fewer of the usual lengths.
_MAX_STEPS = 2**20

_PROFILE = b"ICC_PROFILE\x00"
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
#: Every marker that a length follows, and the end: no stuffed zero, no restart, no padding.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_GIF_PICTURE, _GIF_CONTROL = 0x2C, 0xF9
_RUN_LENGTHS = (1, 2)


@attrs.frozen
class Stripped:
    """A file with nothing but its picture; ``format`` is Pillow's name."""

    format: str
    data: bytes = attrs.field(repr=False)
    exif: bytes | None = attrs.field(default=None, repr=False)
    """The EXIF block of a JPEG or a TIFF. In other formats it is harmless, and stays where Pillow finds it."""
    is_animated: bool = False
    bits: int = 8
    """Bits a channel of a PNG or a TIFF. Of 16, Pillow may read 8."""


def stripped(label: Label, data: bytes) -> Stripped:
    """The file ``data`` without anything but its picture; `ImageError` if it is damaged, cut short or not known."""
    with BytesContent(label, data).reading() as reader:
        for magic, strip in _STRIPPERS.items():
            if data.startswith(magic):
                return strip(reader, data)
        name = {"an AVIF": "AVIF", "a HEIC": "HEIF"}.get(format_name(data[:64]))
        if name is None:
            raise format_error(reader)
        return Stripped(name, data)


def _jpeg(reader: Reader, data: bytes) -> Stripped:
    read_header(reader)
    kept, end = [data[:2]], 2
    exif: bytes | None = None
    for code, body, length in jpeg_segments(reader):
        start, end = body - 4, body + length
        if code == _JPEG_SCAN:
            end = start  # without the stray bytes before it
            break
        if code == 0xE1 and exif is None and data.startswith(EXIF_MARK, body):
            exif = data[body:end]
        elif _is_kept(code, data[body:end]):
            kept.append(data[start:end])
    kept.append(data[end : _jpeg_end(reader.label, data, end)])
    return Stripped("JPEG", b"".join(kept), exif=exif)


def _is_kept(code: int, body: bytes) -> bool:
    """Whether a segment is kept: tables and frames, and for the colours JFIF, Adobe's mark and the profile."""
    if code == 0xE2:
        return body.startswith(_PROFILE)
    if code == 0xE0:
        return len(body) >= 14  # a shorter JFIF ends Pillow's reading
    return code == 0xEE or not 0xE1 <= code <= 0xFE


def _jpeg_end(label: Label, data: bytes, offset: int) -> int:
    """The end of the picture whose scans begin at ``offset``."""
    scans = 0
    while scans <= MAX_SCANS:
        found = _JPEG_MARKER.search(data, offset)
        if found is None:
            raise label.error("a JPEG without its end", WHOLE)
        code, body = found[0][1], found.end()
        if code == _JPEG_END:
            return body
        scans += code == _JPEG_SCAN
        offset = body + int.from_bytes(data[body : body + 2], "big")
    raise label.error(f"a JPEG of more than {MAX_SCANS} scans", WELL_FORMED)


def _png(reader: Reader, data: bytes) -> Stripped:
    read_header(reader)
    kept, offset = [data[:8]], 8
    for _ in range(_MAX_STEPS):
        length, kind = struct.unpack(">I4s", reader.exactly(offset, 8))
        end = offset + length + 12
        if kind in _PNG_KEPT or kind == b"eXIf" or (kind == b"iCCP" and _is_modest(data[offset + 8 : end - 4])):
            kept.append(data[offset:end])
        if kind == b"IEND":
            return Stripped("PNG", b"".join(kept), bits=data[24])
        offset = end
    raise reader.label.error(f"a PNG of more than {_MAX_STEPS} chunks", WELL_FORMED)


def _is_modest(profile: bytes) -> bool:
    """Whether a PNG's profile (a name, a zero, a method, and then compressed) inflates to no more than is kept."""
    inflation = zlib.decompressobj()
    try:
        inflation.decompress(profile.partition(b"\x00")[2][1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return inflation.eof


def _webp(reader: Reader, data: bytes) -> Stripped:
    # The only format whose size is checked here: Pillow makes a WebP's canvas when it opens the file.
    if data[12:16] != b"VP8X" or not reader.exactly(20, 1)[0] & 0x02:
        header = read_header(reader)
        check_decodable(reader.label, header.width, header.height)
        return Stripped("WEBP", data)
    announced = 8 + int.from_bytes(data[4:8], "little")
    if reader.size < announced:
        raise reader.label.error(f"a WebP of {reader.size} bytes that announces {announced}", WHOLE)
    canvas = reader.exactly(24, 6)
    width, height = (int.from_bytes(side, "little") + 1 for side in (canvas[:3], canvas[3:]))
    check_decodable(reader.label, width, height)
    return Stripped("WEBP", data, is_animated=True)


def _gif(reader: Reader, data: bytes) -> Stripped:
    """The first picture of a GIF, with a screen that contains it."""
    screen = reader.exactly(0, 13)
    start = 13 + _table_bytes(screen[10])
    control = b""
    blocks = _gif_blocks(reader, start)
    for kind, offset, end in blocks:
        if kind == _GIF_PICTURE:
            break
        if kind == _GIF_CONTROL and end - offset == 8:
            is_transparent, colour = data[offset + 3] & 1, data[offset + 6]
            control = bytes([0x21, _GIF_CONTROL, 4, is_transparent, 0, 0, colour, 0])
    else:
        raise reader.label.error("a GIF without a picture", WELL_FORMED)
    left, top, width, height = struct.unpack_from("<4H", data, offset + 1)
    whole = [
        max(sides) for sides in zip(struct.unpack_from("<2H", screen, 6), (left + width, top + height), strict=True)
    ]
    if max(whole) > 0xFFFF or not min(width, height):
        raise reader.label.error(f"a GIF with a picture of {width} x {height} px at {left}, {top}", WELL_FORMED)
    is_animated = any(kind == _GIF_PICTURE for kind, _, _ in blocks)
    head = screen[:6] + struct.pack("<2H", *whole) + data[10:start]
    return Stripped("GIF", head + control + data[offset:end] + b";", is_animated=is_animated)


def _gif_blocks(reader: Reader, offset: int) -> Iterator[tuple[int, int, int]]:
    """The kind of each block (for an extension its own kind), its beginning and its end. At most `_MAX_STEPS`."""
    for _ in range(_MAX_STEPS):
        match reader.read_at(offset, 1):
            case b"!":
                kind, body = reader.exactly(offset + 1, 1)[0], offset + 2
            case b",":
                kind, body = _GIF_PICTURE, offset + 11 + _table_bytes(reader.exactly(offset + 9, 1)[0])
            case _:  # the trailer, or damage in its place
                return
        end = _after_parts(reader, body)
        yield kind, offset, end
        offset = end


def _after_parts(reader: Reader, offset: int) -> int:
    """The end of a GIF's block whose parts begin at ``offset``: each begins with its length, the last with 0."""
    for _ in range(_MAX_STEPS):
        length = reader.exactly(offset, 1)[0]
        offset += 1 + length
        if not length:
            return offset
    raise reader.label.error(f"a GIF with a block of more than {_MAX_STEPS} parts", WELL_FORMED)


def _table_bytes(flags: int) -> int:
    """The length of the table of colours that ``flags`` announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(reader: Reader, data: bytes) -> Stripped:
    (header,) = struct.unpack("<I", reader.exactly(14, 4))
    if header >= 40 and struct.unpack("<I", reader.exactly(30, 4))[0] in _RUN_LENGTHS:
        raise reader.label.error("a BMP of run lengths", "must be a BMP without compression")
    return Stripped("BMP", data)


def _tiff(reader: Reader, data: bytes) -> Stripped:
    found = strip_tiff(reader.label, data)
    return Stripped("TIFF", found.data, exif=data, is_animated=found.has_more, bits=found.bits)


_STRIPPERS: dict[bytes, Callable[[Reader, bytes], Stripped]] = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"RIFF": _webp,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"II*\x00": _tiff,
    b"MM\x00*": _tiff,
}
