"""The meaning of ``Content-Encoding`` for the bytes of a video.

``identity`` is asked for, so most answers have none. But object stores keep ``aws-chunked`` from an upload and send the
bytes without it, some proxies compress all the same, and some servers write nonsense. So a label counts only if the
first bytes agree with it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

import attrs

from hailuo_async._io.download.container import begins_as_media

#: Labels that say nothing: the bytes are as they are.
_PLAIN = frozenset({"", "identity", "none", "binary", "aws-chunked"})
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
#: How a body begins that is in the chunks of an upload to S3 after all.
_AWS_CHUNK = re.compile(rb"[0-9a-f]+;chunk-signature=", re.IGNORECASE)
_GZIP_MAGIC = b"\x1f\x8b"
#: zlib's flag for "a gzip or a zlib header".
_ANY_HEADER = 32 + zlib.MAX_WBITS


def encodings(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What the head of an answer says of how its body is encoded, without labels that say nothing."""
    given = ",".join(value for name, value in headers.items() if name.lower() == "content-encoding")
    return tuple(label for label in (each.strip().lower() for each in given.split(",")) if label not in _PLAIN)


def is_compressed(labels: tuple[str, ...], first: bytes | bytearray) -> bool:
    """Whether a body with these labels, that begins with ``first``, is one that ``Inflater`` undoes."""
    has_zlib_header = len(first) > 1 and first[0] & 15 == 8 and int.from_bytes(first[:2]) % 31 == 0
    return len(labels) == 1 and labels[0] in _COMPRESSED and (first.startswith(_GZIP_MAGIC) or has_zlib_header)


def is_readable(labels: tuple[str, ...], first: bytes | bytearray) -> bool:
    """Whether the bytes are a video as they are, or become one by inflating: of any other label nothing is known."""
    if not labels:
        return _AWS_CHUNK.match(first) is None
    return is_compressed(labels, first) or begins_as_media(first)


@attrs.define(eq=False)
class Inflater:
    """Undoes gzip or deflate, in pieces of a bounded size for any input. CPU-bound: call it in a thread."""

    _max_piece_bytes: int
    _stream: zlib._Decompress = attrs.field(factory=lambda: zlib.decompressobj(_ANY_HEADER), init=False)
    _rest: bytes = attrs.field(default=b"", init=False)

    @property
    def is_whole(self) -> bool:
        """Whether the end of the compressed stream was reached, and its own checksum held."""
        return self._stream.eof

    def inflate(self, data: bytes | bytearray = b"") -> bytes:
        """The next bytes, of ``data`` behind what was given before; empty once more data is needed.

        Raises ``zlib.error`` for what is not compressed, or damaged.
        """
        rest = self._rest + data
        piece = b""
        while rest and not piece:
            if self._stream.eof:
                if not rest.startswith(_GZIP_MAGIC):
                    rest = rest if _GZIP_MAGIC.startswith(rest) else b""  # what is no beginning is padding
                    break
                self._stream = zlib.decompressobj(_ANY_HEADER)  # gzip files may be put one behind the other
            piece = self._stream.decompress(rest, self._max_piece_bytes)
            rest = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        self._rest = rest
        return piece
