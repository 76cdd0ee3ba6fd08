"""Reads the headers of a JPEG, a PNG or a WebP: its format, its size in pixels, and whether its end is there.

The content decides the format, never the name. Only headers are read, never pixels, so a file's *declarations* cost
nothing: not 100 000 x 100 000 pixels, not a text chunk that inflates to gigabytes, not a thousand profiles.

Pillow's readers are not used, as they read more than the headers: a whole WebP and a canvas for it, every text of a
PNG (60 MB for a file of 60 kB, measured), the padding of a JPEG byte by byte (a second for each MB). They warn through
a global that threads share, and do not say whether the end of the file is there. The tests compare our readers with
Pillow instead.

Each format is read in at most `_MAX_STEPS` steps:

- JPEG: segment by segment to the first scan, skipping stray bytes between them as decoders do; the end-of-image mark
  must follow. Bytes after the end are fine: phones put videos and second pictures there. Lossless, hierarchical and
  12-bit frames are refused: common decoders do not have them.
- PNG: the header with its checksum, chunk by chunk to the pixels; the end chunk must follow them.
- WebP: chunk by chunk to the bitstream, whose size must be the canvas's; the file must be as long as RIFF announces.

The orientation is EXIF's, in all three; after the pixels the search for it takes `_MAX_LATER_STEPS`. XMP has one as
well, which browsers ignore.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NoReturn

import attrs

from hailuo_async._images.content import Reader
from hailuo_async.errors import ImageError

#: Segments or chunks before the pixels. A JPEG of 20 MB that is all metadata has 306 of full length.
_MAX_STEPS = 1000
#: Chunks after the first pixels that may hold the EXIF block: a PNG of 20 MB in chunks of 8 KiB has 2442.
_MAX_LATER_STEPS = 4096
#: Bytes read of an EXIF block: a JPEG's is no longer, and the orientation stands in its first directory.
_MAX_EXIF = 2**16
#: Bytes searched at once for the next marker of a JPEG.
_PIECE = 2**14

#: The rules that a picture breaks that is cut short, and one that is damaged.
WHOLE = "must be whole"
WELL_FORMED = "must be a well-formed picture"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
_JPEG_END = b"\xff\xd9"
#: Frames that common decoders have: baseline, extended and progressive, by Huffman or arithmetic codes.
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
#: Frames that they do not have: lossless and hierarchical ones.
_JPEG_RARE_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})
_COMMON = "must be a JPEG that common decoders read: baseline or progressive, 8 bits a channel"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
#: Markers that no length follows: TEM and the restarts.
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
#: The mark before the EXIF block of a JPEG; some programs write it in PNG and WebP too, even twice.
EXIF_MARK = b"Exif\x00\x00"
_ORIENTATION = 0x0112
#: The types that programs write the orientation in: SHORT, and LONG against the standard.
_ORIENTATION_TYPES = {3: "H", 4: "I"}

#: (offset, bytes, name) of other formats, for error messages.
_OTHERS = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\x00", "a TIFF"),
    (0, b"MM\x00*", "a TIFF"),
    (0, b"II+\x00", "a BigTIFF"),
    (0, b"MM\x00+", "a BigTIFF"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (4, b"JXL ", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"%PDF", "a PDF"),
    (0, b"<", "a text with markup (HTML or SVG)"),
)
#: Brands of the container that AVIF, HEIC and MP4 share, in the order in which they decide: one file names several.
_BRANDS = (
    (frozenset({b"avif", b"avis"}), "an AVIF"),
    (frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}), "a HEIC"),
)
_FORMATS = "must be a JPEG, PNG or WebP, by its content"
#: What Pillow converts, a HEIC with pillow-heif.
_CONVERTED = frozenset({"a GIF", "a BMP", "a TIFF", "an AVIF", "a HEIC"})
#: Bytes at the beginning that identify a format: the brands of a phone's picture have about 40.
_MAGIC = 64


@attrs.frozen
class Header:
    """A picture's MIME type and its size in pixels as shown, with its EXIF orientation applied."""

    mime: str
    width: int
    height: int


def read_header(reader: Reader) -> Header:
    """The header of the picture; `ImageError` if it is of another format, damaged, or cut short."""
    start = reader.read_at(0, 16)
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg(reader)
    if start.startswith(_PNG_SIGNATURE):
        return _png(reader)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _webp(reader)
    raise format_error(reader)


def format_error(reader: Reader) -> ImageError:
    """The error for a picture of a format that is not one of the three, with the format's name and the way out."""
    name = format_name(reader.read_at(0, _MAGIC))
    return reader.label.error(name, _FORMATS, can_fit=name in _CONVERTED)


def format_name(start: bytes) -> str:
    """A name for content that the service does not take. Never its bytes: they may be secret."""
    if start[4:8] == b"ftyp":
        end = min(int.from_bytes(start[:4], "big"), _MAGIC)
        brands = {start[8:12], *(start[at : at + 4] for at in range(16, end, 4))}
        return next((name for known, name in _BRANDS if brands & known), "a video")
    names = (name for offset, magic, name in _OTHERS if start.startswith(magic, offset))
    return next(names, "no image format known here")


def _refuse(reader: Reader, what: str) -> NoReturn:
    raise reader.label.error(what, WELL_FORMED)


def _jpeg(reader: Reader) -> Header:
    size: tuple[int, int] | None = None
    orientation: int | None = None
    for code, body, length in jpeg_segments(reader):
        if code in _JPEG_RARE_FRAMES:
            raise reader.label.error("a lossless or hierarchical JPEG", _COMMON)
        if code in _JPEG_FRAMES:
            size = _jpeg_frame(reader, body, length)
        elif code == 0xE1 and orientation is None:
            segment = reader.exactly(body, length)
            orientation = exif_orientation(segment) if segment.startswith(EXIF_MARK) else None
        elif code == 0xDA:
            return _jpeg_header(reader, size, orientation, body + length)
    _refuse(reader, f"a JPEG with no picture in its first {_MAX_STEPS} segments")


def _jpeg_frame(reader: Reader, body: int, length: int) -> tuple[int, int]:
    """The width and the height that a frame header says."""
    if length < 6:
        _refuse(reader, "a JPEG with a frame header that is too short")
    bits, height, width, channels = struct.unpack(">BHHB", reader.exactly(body, 6))
    if bits != 8 or channels not in (1, 3, 4):
        raise reader.label.error(f"a JPEG of {bits} bits and {channels} channels", _COMMON)
    return width, height


def jpeg_segments(reader: Reader) -> Iterator[tuple[int, int, int]]:
    """The marker of each segment, and its body: offset and length."""
    offset = 2
    for _ in range(_MAX_STEPS):
        offset, code = _next_marker(reader, offset)
        if code in _JPEG_BARE:
            offset += 2
            continue
        if code < 0xC0 or code in (0xD8, 0xD9):  # decoders give up here, too: a second start, an early end, no marker
            _refuse(reader, f"a JPEG with no segment at byte {offset}")
        (length,) = struct.unpack(">H", reader.exactly(offset + 2, 2))
        if length < 2:
            _refuse(reader, f"a JPEG with a segment of {length} bytes at byte {offset}")
        yield code, offset + 4, length - 2
        offset += 2 + length


def _next_marker(reader: Reader, offset: int) -> tuple[int, int]:
    """The next marker: at ``offset``, or after padding and the stray bytes that cameras and editors leave there."""
    found = _JPEG_MARKER.match(reader.exactly(offset, 2))
    while found is None:
        piece = reader.read_at(offset, _PIECE)
        found = _JPEG_MARKER.search(piece)
        if found is not None:
            offset += found.start()
        elif len(piece) < _PIECE:
            raise reader.label.error(f"the end, at byte {reader.size}, inside its header", WHOLE)
        else:
            offset += len(piece) - 1  # a marker may begin with the last byte
    return offset, found[0][1]


def _jpeg_header(reader: Reader, size: tuple[int, int] | None, orientation: int | None, scan: int) -> Header:
    if size is None:
        _refuse(reader, "a JPEG with a scan before its frame header")
    if not reader.has_after(scan, _JPEG_END):
        raise reader.label.error("a JPEG without its end", WHOLE)
    return _upright("image/jpeg", size, orientation)


def _upright(mime: str, size: tuple[int, int], orientation: int | None) -> Header:
    width, height = reversed(size) if (orientation or 1) >= 5 else size
    return Header(mime, width, height)


def exif_orientation(exif: bytes) -> int | None:
    """The orientation in an EXIF block, 1 to 8; 5 and more swap the sides. ``None`` if the block has no valid one."""
    start = 0
    while exif.startswith(EXIF_MARK, start):
        start += len(EXIF_MARK)
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[start : start + 4])
    if order is None or len(exif) < start + 8:
        return None
    directory = start + int(struct.unpack_from(f"{order}I", exif, start + 4)[0])
    if directory + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(f"{order}H", exif, directory)
    entries = exif[directory + 2 : directory + 2 + count * 12]
    for tag, kind, _, value in struct.iter_unpack(f"{order}HHI4s", entries[: len(entries) // 12 * 12]):
        if tag == _ORIENTATION and kind in _ORIENTATION_TYPES:
            (found,) = struct.unpack_from(order + _ORIENTATION_TYPES[kind], value)
            if 1 <= found <= 8:
                return int(found)
    return None


def _png(reader: Reader) -> Header:
    first = reader.exactly(8, 25)
    kind, width, height = struct.unpack_from(">8sII", first)
    (checksum,) = struct.unpack_from(">I", first, 21)
    if kind != b"\x00\x00\x00\x0dIHDR":
        _refuse(reader, "a PNG that does not begin with its header")
    if checksum != zlib.crc32(first[4:21]):
        _refuse(reader, "a PNG with a header that does not match its checksum")
    offset, exif = 33, b""
    for _ in range(_MAX_STEPS):
        length, kind = struct.unpack(">I4s", reader.exactly(offset, 8))
        if kind == b"IEND":
            _refuse(reader, "a PNG without pixels")
        if kind == b"IDAT":
            return _png_header(reader, (width, height), exif, offset)
        if kind == b"eXIf":
            exif = reader.read_at(offset + 8, min(length, _MAX_EXIF))
        offset += length + 12
    _refuse(reader, f"a PNG with no pixels in its first {_MAX_STEPS} chunks")


def _png_header(reader: Reader, size: tuple[int, int], exif: bytes, pixels: int) -> Header:
    if not reader.has_after(pixels + 8, _PNG_END):
        raise reader.label.error("a PNG without its end", WHOLE)
    return _upright("image/png", size, exif_orientation(exif or _later_png_exif(reader, pixels)))


def _later_png_exif(reader: Reader, offset: int) -> bytes:
    """The EXIF block of a PNG that has it after its pixels, as some programs write it; empty if there is none."""
    for _ in range(_MAX_LATER_STEPS):
        head = reader.read_at(offset, 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"eXIf":
            return reader.read_at(offset + 8, min(length, _MAX_EXIF))
        if len(head) < 8 or kind == b"IEND":
            break
        offset += length + 12
    return b""


def _webp(reader: Reader) -> Header:
    (announced,) = struct.unpack("<I", reader.exactly(4, 4))
    end = 8 + announced
    if reader.size < end:
        raise reader.label.error(f"a WebP of {reader.size} bytes that announces {end}", WHOLE)
    canvas: _Canvas | None = None
    offset = 12
    for _ in range(_MAX_STEPS):
        kind, length = struct.unpack("<4sI", reader.exactly(offset, 8))
        body = offset + 8
        if body + length > end:
            _refuse(reader, f"a WebP with a chunk at byte {offset} that is longer than the file")
        head = reader.read_at(body, min(length, 10))
        if kind in _WEBP_BITSTREAMS:
            size = _WEBP_BITSTREAMS[kind](reader, head)
            return _webp_header(reader, canvas, size, offset, end)
        if kind == b"VP8X":
            canvas = _webp_canvas(reader, head)
        elif canvas is None:
            _refuse(reader, "a WebP that does not begin with a picture")
        offset = body + length + length % 2
    _refuse(reader, f"a WebP with no picture in its first {_MAX_STEPS} chunks")


def _webp_header(reader: Reader, canvas: _Canvas | None, size: tuple[int, int], offset: int, end: int) -> Header:
    if canvas is None:
        return Header("image/webp", *size)
    if canvas.size != size:
        _refuse(reader, f"a WebP whose canvas {canvas.size} is not the size {size} of its picture")
    exif = _webp_exif(reader, offset, end) if canvas.has_exif else b""
    return _upright("image/webp", size, exif_orientation(exif))


def _webp_exif(reader: Reader, offset: int, end: int) -> bytes:
    """The EXIF block of a WebP, which stands after its picture; empty if there is none."""
    for _ in range(_MAX_LATER_STEPS):
        head = reader.read_at(offset, 8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF" and offset + 8 + length <= end:
            return reader.read_at(offset + 8, min(length, _MAX_EXIF))
        offset += 8 + length + length % 2
        if offset >= end:
            break
    return b""


@attrs.frozen
class _Canvas:
    size: tuple[int, int]
    has_exif: bool
    """The flag's value: decoders do not look for the block without it."""


def _webp_canvas(reader: Reader, head: bytes) -> _Canvas:
    if len(head) < 10:
        _refuse(reader, "a WebP with a canvas chunk that is too short")
    flags, low_width, high_width, low_height, high_height = struct.unpack("<BxxxHBHB", head)
    if flags & 0x02:
        raise reader.label.error("an animated WebP", "must be a still picture")
    size = low_width + (high_width << 16) + 1, low_height + (high_height << 16) + 1
    return _Canvas(size, has_exif=bool(flags & 0x08))


def _webp_lossy(reader: Reader, head: bytes) -> tuple[int, int]:
    if len(head) < 10 or head[0] & 1 or head[3:6] != b"\x9d\x01\x2a":
        _refuse(reader, "a WebP whose picture is not a VP8 key frame")
    width, height = struct.unpack_from("<HH", head, 6)
    return width & 0x3FFF, height & 0x3FFF  # the upper two bits ask for scaling on display, which decoders ignore


def _webp_lossless(reader: Reader, head: bytes) -> tuple[int, int]:
    if len(head) < 5 or head[0] != 0x2F or head[4] >> 5:
        _refuse(reader, "a WebP whose picture is not VP8L, version 0")
    (bits,) = struct.unpack_from("<I", head, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_WEBP_BITSTREAMS = {b"VP8 ": _webp_lossy, b"VP8L": _webp_lossless}
