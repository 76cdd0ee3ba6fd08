"""What an image file's first bytes say of it: its kind, and the size at which it is seen.

Nothing is decoded, so a small file that declares a vast picture costs nothing. The three readers look at the headers
of their formats and give ``None`` for a file in which they find no size.
"""

from __future__ import annotations

import struct

import attrs

#: Frames that hold a JPEG's size: SOF0 to SOF15, but for DHT, JPG and DAC, which share their range.
_SIZE_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_ORIENTATION_TAG = 0x0112
#: Orientations from here on lay the picture on its side, so that it is seen with width and height exchanged.
_FIRST_SIDEWAYS = 5


@attrs.frozen
class ImageInfo:
    """A picture's ``kind`` ("jpeg", "png", "webp") and its ``size`` in pixels, as seen: turned as its EXIF says."""

    kind: str
    size: tuple[int, int]


def inspect_image(data: bytes) -> ImageInfo | None:
    """What the file with these bytes shows, or ``None`` if it is no readable JPEG, PNG or WebP."""
    for kind, reader in (("jpeg", _jpeg_size), ("png", _png_size), ("webp", _webp_size)):
        try:
            size = reader(data)
        except (struct.error, IndexError):  # the file ends inside its header
            return None
        if size is not None and min(size) > 0:
            return ImageInfo(kind, size)
    return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    if data[12:16] == b"VP8X":
        return int.from_bytes(_exactly(data, 24, 3), "little") + 1, int.from_bytes(_exactly(data, 27, 3), "little") + 1
    if data[12:16] == b"VP8L" and data[20] == 0x2F:
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    at, sideways = 2, False
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a filler byte
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _SIZE_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return (height, width) if sideways else (width, height)
        if marker == 0xE1:
            sideways = sideways or _is_sideways(data[at + 4 : at + 2 + length])
        at += 2 + length
    return None


def _is_sideways(segment: bytes) -> bool:
    """Whether an APP1 segment holds an EXIF orientation that turns the picture by a quarter."""
    if not segment.startswith(b"Exif\0\0"):
        return False
    tiff = segment[6:]
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        entries = [struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index) for index in range(count)]
    except struct.error:  # a broken EXIF block does not break the picture
        return False
    return any(tag == _ORIENTATION_TAG and _FIRST_SIDEWAYS <= value <= 8 for tag, _, _, value in entries)


def _exactly(data: bytes, start: int, length: int) -> bytes:
    piece = data[start : start + length]
    if len(piece) < length:
        raise IndexError(start)
    return piece
