"""The pieces of a video that is passed on. Apart from the client, which few programs import."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

import attrs


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
