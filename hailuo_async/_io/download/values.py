"""What goes into a download and comes out of it. Apart from the client, which is imported when first needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

import attrs


@attrs.frozen
class Limits:
    """What bounds one download."""

    max_bytes: int = 2 * 2**30
    timeout_s: float = 3600.0
    allow_unchecked: bool = False
    """Whether bytes are taken that cannot be checked: their end may be a cut, their encoding another."""


#: What counts unless a caller says otherwise.
USUAL = Limits()


@attrs.define
class VideoPieces:
    """The pieces of a video, in order. ``size`` is that of the whole video in bytes, where the server says it."""

    size: int | None
    _first: bytes | None
    _rest: AsyncIterator[bytes]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        return await anext(self._rest) if first is None else first
