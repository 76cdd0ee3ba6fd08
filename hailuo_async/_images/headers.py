"""What a JPEG, a PNG or a WebP says about itself: its format, its size in pixels, and whether its end is there.

A picture is known by its content, never by its name. Only headers are read, never pixels, so what a file *declares*
costs nothing: not 100 000 x 100 000 pixels, not a text chunk that inflates to gigabytes, not a thousand profiles.

Pillow is not used for it. Its plugins read more than the headers: a whole WebP and a canvas for it, every text of a
PNG (60 MB for a file of 60 kB, measured), the padding of a JPEG byte by byte (a second for each MB). They warn
through a global that threads share, and none tells whether the end of the file is there. The tests hold these
readers against Pillow instead.

How each is read, with the most steps (`_MAX_STEPS`) that a file may make us take:

- JPEG: segment by segment to the first scan; the end-of-image mark must stand after it. Bytes after the end are
  fine: phones put videos and second pictures there.
- PNG: the header with its checksum, chunk by chunk to the pixels; the end chunk must stand after them.
- WebP: chunk by chunk to the bitstream, whose size must be the canvas's; all that RIFF announces must be there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NoReturn

import attrs

from hailuo_async._images.content import Reader
from hailuo_async.errors import ImageError

#: Segments or chunks before the pixels. A JPEG of 20 MB that is all metadata has 306 of full length.
_MAX_STEPS = 1000

#: What a picture that is cut short breaks, and one that is damaged.
WHOLE = "must be whole"
WELL_FORMED = "must be a well-formed picture"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
_JPEG_END = b"\xff\xd9"
#: Start-of-frame markers: C0 to CF, except for tables of Huffman (C4) and arithmetic codes (CC) and JPG (C8).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers that no length follows: TEM and the restarts.
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
_ORIENTATION = 0x0112
_SHORT = 3

#: (offset, bytes, name) of formats that are often mistaken for the three, for the words of the error.
_OTHERS = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\x00", "a TIFF"),
    (0, b"MM\x00*", "a TIFF"),
    (4, b"ftypavi", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftyphev", "a HEIC"),
    (4, b"ftypm", "a HEIF or a video"),
    (4, b"ftyp", "a video"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (4, b"JXL ", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"%PDF", "a PDF"),
    (0, b"<", "a text with markup (HTML or SVG)"),
)


@attrs.frozen
class Header:
    """A picture's MIME type and its size in pixels as shown, with a JPEG's EXIF orientation applied."""

    mime: str
    width: int
    height: int


def read_header(reader: Reader) -> Header:
    """What the picture says about itself; `ImageError` if it is none of the three, damaged, or cut short."""
    start = reader.read_at(0, 16)
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg(reader)
    if start.startswith(_PNG_SIGNATURE):
        return _png(reader)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _webp(reader)
    raise format_error(reader)


def format_error(reader: Reader) -> ImageError:
    """The error for a picture of a format that is not one of the three, with the format's name."""
    return reader.label.error(_other(reader.read_at(0, 16)), "must be a JPEG, PNG or WebP, by its content")


def _other(start: bytes) -> str:
    """A name for what is not a picture for the service. Never its bytes: they may be somebody's secrets."""
    names = (name for offset, magic, name in _OTHERS if start.startswith(magic, offset))
    return next(names, "no image format known here")


def _refuse(reader: Reader, what: str) -> NoReturn:
    raise reader.label.error(what, WELL_FORMED)


def _jpeg(reader: Reader) -> Header:
    size: tuple[int, int] | None = None
    orientation: int | None = None
    for code, body, length in jpeg_segments(reader):
        if code in _JPEG_FRAMES and length >= 6:
            height, width = struct.unpack(">xHH", reader.exactly(body, 5))
            size = width, height
        elif code == 0xE1 and orientation is None:
            orientation = exif_orientation(reader.exactly(body, length))
        elif code == 0xDA:
            return _jpeg_header(reader, size, orientation, body + length)
    _refuse(reader, f"a JPEG with no picture in its first {_MAX_STEPS} segments")


def jpeg_segments(reader: Reader) -> Iterator[tuple[int, int, int]]:
    """The marker of each segment, and where its body stands: offset and length."""
    offset = 2
    for _ in range(_MAX_STEPS):
        mark, code = reader.exactly(offset, 2)
        if mark != 0xFF or code in (0xD8, 0xD9):
            _refuse(reader, f"a JPEG with no segment at byte {offset}")
        if code == 0xFF:  # a marker may be padded with any number of these
            offset += 1
        elif code in _JPEG_BARE:
            offset += 2
        else:
            (length,) = struct.unpack(">H", reader.exactly(offset + 2, 2))
            if length < 2:
                _refuse(reader, f"a JPEG with a segment of {length} bytes at byte {offset}")
            yield code, offset + 4, length - 2
            offset += 2 + length


def _jpeg_header(reader: Reader, size: tuple[int, int] | None, orientation: int | None, scan: int) -> Header:
    if size is None:
        _refuse(reader, "a JPEG with a scan before its frame header")
    if not reader.has_after(scan, _JPEG_END):
        raise reader.label.error("a JPEG without its end", WHOLE)
    width, height = reversed(size) if (orientation or 1) >= 5 else size
    return Header("image/jpeg", width, height)


def exif_orientation(segment: bytes) -> int | None:
    """The EXIF orientation in an APP1 segment, 1 to 8; 5 and more swap the sides. ``None`` if it says nothing sound."""
    if not segment.startswith(b"Exif\x00\x00"):
        return None
    tiff = segment[6:]
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return None
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    count_bytes = tiff[directory : directory + 2]
    if len(count_bytes) < 2:
        return None
    (count,) = struct.unpack(f"{order}H", count_bytes)
    entries = tiff[directory + 2 : directory + 2 + count * 12]
    for tag, kind, _, value in struct.iter_unpack(f"{order}HHIHxx", entries[: len(entries) // 12 * 12]):
        if (tag, kind) == (_ORIENTATION, _SHORT) and 1 <= value <= 8:
            return int(value)
    return None


def _png(reader: Reader) -> Header:
    first = reader.exactly(8, 25)
    kind, width, height = struct.unpack_from(">8sII", first)
    (checksum,) = struct.unpack_from(">I", first, 21)
    if kind != b"\x00\x00\x00\x0dIHDR":
        _refuse(reader, "a PNG that does not begin with its header")
    if checksum != zlib.crc32(first[4:21]):
        _refuse(reader, "a PNG with a header that does not match its checksum")
    offset = 33
    for _ in range(_MAX_STEPS):
        length, kind = struct.unpack(">I4s", reader.exactly(offset, 8))
        if kind == b"IEND":
            _refuse(reader, "a PNG without pixels")
        if kind == b"IDAT":
            return _png_header(reader, width, height, offset + 8)
        offset += length + 12
    _refuse(reader, f"a PNG with no pixels in its first {_MAX_STEPS} chunks")


def _png_header(reader: Reader, width: int, height: int, pixels: int) -> Header:
    if not reader.has_after(pixels, _PNG_END):
        raise reader.label.error("a PNG without its end", WHOLE)
    return Header("image/png", width, height)


def _webp(reader: Reader) -> Header:
    (announced,) = struct.unpack("<I", reader.exactly(4, 4))
    end = 8 + announced
    if reader.size < end:
        raise reader.label.error(f"a WebP of {reader.size} bytes that announces {end}", WHOLE)
    canvas: tuple[int, int] | None = None
    offset = 12
    for _ in range(_MAX_STEPS):
        kind, length = struct.unpack("<4sI", reader.exactly(offset, 8))
        body = offset + 8
        if body + length > end:
            _refuse(reader, f"a WebP with a chunk at byte {offset} that is longer than the file")
        head = reader.read_at(body, min(length, 10))
        if kind in _WEBP_BITSTREAMS:
            return _webp_header(reader, canvas, _WEBP_BITSTREAMS[kind](reader, head))
        if kind == b"VP8X":
            canvas = _webp_canvas(reader, head)
        elif canvas is None:
            _refuse(reader, "a WebP that does not begin with a picture")
        offset = body + length + length % 2
    _refuse(reader, f"a WebP with no picture in its first {_MAX_STEPS} chunks")


def _webp_header(reader: Reader, canvas: tuple[int, int] | None, size: tuple[int, int]) -> Header:
    if canvas not in (None, size):
        _refuse(reader, f"a WebP whose canvas {canvas} is not the size {size} of its picture")
    return Header("image/webp", *size)


def _webp_canvas(reader: Reader, head: bytes) -> tuple[int, int]:
    if len(head) < 10:
        _refuse(reader, "a WebP with a canvas chunk that is too short")
    flags, low_width, high_width, low_height, high_height = struct.unpack("<BxxxHBHB", head)
    if flags & 0x02:
        raise reader.label.error("an animated WebP", "must be a still picture")
    return low_width + (high_width << 16) + 1, low_height + (high_height << 16) + 1


def _webp_lossy(reader: Reader, head: bytes) -> tuple[int, int]:
    if len(head) < 10 or head[0] & 1 or head[3:6] != b"\x9d\x01\x2a":
        _refuse(reader, "a WebP whose picture is not a VP8 key frame")
    width, height = struct.unpack_from("<HH", head, 6)
    return width & 0x3FFF, height & 0x3FFF  # the upper two bits ask for scaling on display, which nobody does


def _webp_lossless(reader: Reader, head: bytes) -> tuple[int, int]:
    if len(head) < 5 or head[0] != 0x2F or head[4] >> 5:
        _refuse(reader, "a WebP whose picture is not VP8L, version 0")
    (bits,) = struct.unpack_from("<I", head, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_WEBP_BITSTREAMS = {b"VP8 ": _webp_lossy, b"VP8L": _webp_lossless}
