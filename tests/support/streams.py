"""What a stream is given, and what is read of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator

from hailuo_async import AsyncSession, ImageToVideo, Outcome

from .service import jobs


class Source:
    """Counts how many jobs were pulled from it."""

    def __init__(self, count: int = 1_000_000) -> None:
        self.pulled = 0
        self._count = count

    def __iter__(self) -> Iterator[ImageToVideo]:
        for item in jobs(self._count):
            self.pulled += 1
            yield item


async def as_async(items: Iterator[ImageToVideo]) -> AsyncIterator[ImageToVideo]:
    for item in items:
        await asyncio.sleep(0)
        yield item


async def collect(stream: AsyncIterable[Outcome]) -> list[Outcome]:
    return [outcome async for outcome in stream]


async def read_into(seen: list[Outcome], stream: AsyncIterable[Outcome]) -> None:
    """Adds what a stream yields, which may end with an error."""
    async for outcome in stream:
        seen.append(outcome)


async def resumed(session: AsyncSession) -> dict[str | None, Outcome]:
    """What ``resume`` yields, by key."""
    return {outcome.key: outcome async for outcome in session.resume()}
