"""Films as orders and as bytes: what to render, at which size, and which part of it a client asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import attrs

#: The aspect of a film whose first picture is known only by its URL, which the emulator never fetches.
_DEFAULT_SIZE = (1366, 768)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
#: What every MP4 file begins with: a box of type ``ftyp``.
_FTYP = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"


@attrs.frozen
class Picture:
    """An image of a submission. ``source`` is its URL or, for inline data, ``sha256:`` and the digest of the file.

    ``data`` and ``size`` (pixels, as seen) are known for inline images only.
    """

    source: str
    data: bytes | None = attrs.field(default=None, repr=False, eq=False)
    size: tuple[int, int] | None = None


@attrs.frozen
class FilmOrder:
    """A film to be rendered: a push-in on ``first``, or a dissolve from it to ``last`` where there is one."""

    task_id: str
    seconds: int
    width: int
    height: int
    first: Picture | None
    last: Picture | None


def film_size(resolution: str, picture: Picture | None) -> tuple[int, int]:
    """Width and height of a film: its short side is the resolution's number, its aspect the picture's, both even."""
    width, height = (picture.size if picture is not None else None) or _DEFAULT_SIZE
    short = int(resolution.removesuffix("P"))
    long = 2 * round(short * max(width, height) / min(width, height) / 2)
    return (long, short) if width >= height else (short, long)


@attrs.frozen
class PlainFilm:
    """Bytes that look like the start of an MP4 and cannot be played: always the same for one task and size."""

    task_id: str
    size: int

    @property
    def etag(self) -> str:
        return f'"{self.task_id}-{self.size}"'

    def read(self, start: int, stop: int) -> bytes:
        pattern = hashlib.sha512(self.task_id.encode()).digest() * 1024
        skipped = start - start % len(pattern)
        body = pattern * ((stop - skipped) // len(pattern) + 1)
        piece = body[start - skipped : stop - skipped]
        return _FTYP[start:stop] + piece[max(0, len(_FTYP) - start) :] if start < len(_FTYP) else piece


@attrs.frozen
class Portion:
    """The part of a film that answers a request: the bytes from ``start`` up to ``stop``, and how to say so."""

    status: int
    headers: Mapping[str, str]
    start: int
    stop: int


def choose_portion(headers: Mapping[str, str], size: int, etag: str) -> Portion:
    """What of a film of ``size`` bytes a request with these (lower-case) headers gets: 200, 206 or 416.

    A range that does not follow the grammar, asks for several pieces, or names another ``If-Range`` is ignored, as
    RFC 9110 has it.
    """
    common = {"Accept-Ranges": "bytes", "Content-Type": "video/mp4", "ETag": etag}
    whole = Portion(200, common, 0, size)
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag) != etag:
        return whole
    first, last = match.groups()
    if not first and not last:
        return whole
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return whole
    else:
        start, stop = max(0, size - int(last)), size
    if start >= size:
        return Portion(416, common | {"Content-Range": f"bytes */{size}"}, 0, 0)
    return Portion(206, common | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}, start, stop)
