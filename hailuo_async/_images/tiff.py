"""Strips a TIFF down to its first picture, with a directory of only the entries that its pixels need.

Pillow's reader warns of damage at many places, through filters that all threads share, and reads everything that a
directory points to. So the directory is read here first: every entry that is kept must lie in the file, and have one
value if only one makes sense; strips and tiles must lie in the file as well, and no tile may be absurdly larger than
the picture.

The new directory stands at the end of the file. All other bytes stay where they are, as entries point to them.
"""

from __future__ import annotations

import operator
import struct

import attrs

from hailuo_async._images.content import Label
from hailuo_async._images.headers import WELL_FORMED, WHOLE
from hailuo_async._images.limits import MAX_PROFILE_BYTES, check_decodable

_WIDTH, _HEIGHT, _BITS, _TILE_WIDTH, _TILE_HEIGHT, _PROFILE = 256, 257, 258, 322, 323, 34675
#: Tags of one number (TIFF 6.0): sizes, compression, photometric interpretation, fill order, samples, rows of a strip,
#: planes, options of fax compression, predictor, tiles, inks.
_SINGLE = frozenset({256, 257, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323, 332, 531})
#: Tags of several: bits, strips, colours, tiles, further samples, tables of JPEG, YCbCr, the profile.
_SEVERAL = frozenset({258, 273, 279, 320, 324, 325, 338, 339, 347, 529, 530, 532, _PROFILE})
#: Bytes of a value, by its type.
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_FIRST = (_WIDTH, _HEIGHT, _BITS, _TILE_WIDTH, _TILE_HEIGHT)
#: Strips or tiles of one picture: as small as they may be, 2**26 pixels make a quarter as many.
_MAX_VALUES = 2**20
#: Pixels that a tile may have in a picture of fewer: edges are padded.
_SMALL_TILE = 2**20


@attrs.frozen
class StrippedTiff:
    """The file with its new directory, whether it has further pictures, and its bits a channel."""

    data: bytes = attrs.field(repr=False)
    has_more: bool
    bits: int


def strip_tiff(label: Label, data: bytes) -> StrippedTiff:
    """The first picture of a TIFF. Raises `ImageError`."""
    order = "<" if data.startswith(b"II") else ">"
    entries, has_more = _read_directory(label, data, order)
    numbers = {tag: next(iter(_numbers(entry, data, order)), 0) for tag, entry in entries.items() if tag in _FIRST}
    _check_sizes(label, numbers)
    for places, sizes in ((273, 279), (324, 325)):
        if places in entries and sizes in entries:
            _check_inside(label, data, _numbers(entries[places], data, order), _numbers(entries[sizes], data, order))
    table = struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    padding = b"\0" * (len(data) % 2)  # a directory stands at an even byte
    start = struct.pack(f"{order}I", len(data) + len(padding))
    return StrippedTiff(b"".join((data[:4], start, data[8:], padding, table)), has_more, numbers.get(_BITS, 1))


def _read_directory(label: Label, data: bytes, order: str) -> tuple[dict[int, bytes], bool]:
    """The kept entries by tag, and whether another directory follows."""
    cut = label.error(f"the end, at byte {len(data)}, inside its directory", WHOLE)
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        (following,) = struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)
    except struct.error:
        raise cut from None
    entries = {}
    for offset in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values, where = struct.unpack_from(f"{order}HHII", data, offset)
        size = _TYPE_BYTES.get(kind, 0) * values
        if tag not in _SINGLE | _SEVERAL or (tag == _PROFILE and size > MAX_PROFILE_BYTES):
            continue
        if size == 0 or (tag in _SINGLE and values != 1):
            raise label.error(f"a TIFF whose tag {tag} has {values} values of type {kind}", WELL_FORMED)
        if size > 4 and where + size > len(data):
            raise cut
        entries[tag] = data[offset : offset + 12]
    return entries, following != 0


def _numbers(entry: bytes, data: bytes, order: str) -> tuple[int, ...]:
    """The values of an entry, if they are whole numbers, at most `_MAX_VALUES`."""
    _, kind, count, where = struct.unpack(f"{order}HHII", entry)
    code = {1: "B", 3: "H", 4: "I"}.get(kind)
    if code is None or count > _MAX_VALUES:
        return ()
    is_inside = _TYPE_BYTES[kind] * count <= 4
    return struct.unpack_from(f"{order}{count}{code}", entry if is_inside else data, 8 if is_inside else where)


def _check_inside(label: Label, data: bytes, places: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    """Checks that every strip or tile lies in the file, as our directory will follow it, and no pixels."""
    if not places or len(places) != len(sizes):
        raise label.error(f"a TIFF with {len(places)} strips or tiles and {len(sizes)} sizes of them", WELL_FORMED)
    end = max(map(operator.add, places, sizes))
    if end > len(data):
        raise label.error(f"a TIFF of {len(data)} bytes with pixels up to byte {end}", WHOLE)


def _check_sizes(label: Label, numbers: dict[int, int]) -> None:
    width, height = numbers.get(_WIDTH, 0), numbers.get(_HEIGHT, 0)
    check_decodable(label, width, height)
    tile = numbers.get(_TILE_WIDTH, 0) * numbers.get(_TILE_HEIGHT, 0)
    if not width or not height or tile > max(4 * width * height, _SMALL_TILE):
        raise label.error(f"a TIFF of {width} x {height} px with tiles of {tile} px", WELL_FORMED)
