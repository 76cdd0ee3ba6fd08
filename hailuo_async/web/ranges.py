"""Which bytes of a file a request asks for (RFC 9110, 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@attrs.frozen
class Span:
    """Bytes from ``start`` up to, not including, ``end``, of ``size``."""

    start: int
    end: int
    size: int

    @property
    def length(self) -> int:
        return self.end - self.start


class UnsatisfiableRange(Exception):
    """No byte of the file lies in the range: 416."""


def read_range(headers: Mapping[str, str], size: int, etag: str) -> Span | None:
    """The one range that ``headers`` ask for; ``None``: all of it, as for several ranges, or those of another version.

    Raises ``UnsatisfiableRange``.
    """
    found = _RANGE.fullmatch(headers.get("Range", "").replace(" ", ""))
    if found is None or not any(found.groups()) or headers.get("If-Range", etag) != etag:
        return None
    first, last = found.groups()
    if not first:
        span = Span(max(0, size - int(last)), size, size)
    elif last and int(last) < int(first):
        return None  # not a valid range, which is ignored
    else:
        span = Span(int(first), min(size, int(last) + 1) if last else size, size)
    if span.length <= 0:
        raise UnsatisfiableRange
    return span
