"""aiohttp's protocol for answers, lenient where its parser is not and HTTP is, and quick to hang up.

A ``Content-Length`` that comes twice, both times the same, may be read as one (RFC 9110, section 8.6). The parser
refuses such an answer, and if it was to a paid POST the job would be in doubt.

A TLS connection that is closed waits up to 30 s for the other side's ``close_notify``, also when its session has been
closed since. Ours is sent and that one is not waited for (RFC 8446, section 6.1): every answer says its own end.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

_NAME = b"\r\ncontent-length:"
_LENGTH = rb"(?i)\r\ncontent-length:([0-9, \t]*)(?=\r\n|$)"


class LenientHandler(ResponseHandler):
    """Hands the head of an answer on with one ``Content-Length``, where it has several that agree."""

    def data_received(self, data: bytes) -> None:
        """An answer begins with what a socket brings at once; one whose head comes in parts is left as it is."""
        super().data_received(with_one_length(data) if data[:5] == b"HTTP/" else data)

    def close(self) -> None:
        """Hangs up at once. What was not sent by then is not sent any more."""
        transport = self.transport
        super().close()
        if transport is not None:
            transport.abort()


def lenient_connector(
    resolver: AbstractResolver | None, tls: ssl.SSLContext | None, *, use_dns_cache: bool = True
) -> aiohttp.TCPConnector:
    """A connector without a limit of its own: the gate bounds what is under way."""
    connector = aiohttp.TCPConnector(limit=0, resolver=resolver, ssl=tls or True, use_dns_cache=use_dns_cache)
    # aiohttp has no public way to choose the protocol; where this name is gone, its own is used, and is strict.
    connector.__dict__["_factory"] = functools.partial(LenientHandler, loop=asyncio.get_running_loop())
    return connector


def with_one_length(data: bytes) -> bytes:
    """``data``, which begins with an answer's head, with its equal lengths made one."""
    head, end, rest = data.partition(b"\r\n\r\n")
    _, *values = head.lower().split(_NAME)
    if len(values) < 2 and b"," not in b"".join(values).partition(b"\r\n")[0]:
        return data  # nearly every answer: found out at a fifth of the price of the pattern
    lines: list[bytes] = re.findall(_LENGTH, head)
    lengths = {length.strip() for line in lines for length in line.split(b",")}
    if len(lengths) != 1 or (len(lines) == 1 and b"," not in lines[0]):
        return data
    return re.sub(_LENGTH, b"", head) + b"\r\nContent-Length: " + lengths.pop() + end + rest
