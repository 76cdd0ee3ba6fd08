"""The library itself, as its README has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.peers.clients import API_KEY, PICTURE_URL, Client, Setup
from hailuo_async import AsyncSession, ImageToVideo, SubmissionUnknownError, Success


class Ours(Client):
    """One session, nothing set."""

    IN_DOUBT = (SubmissionUnknownError,)

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._session = AsyncSession(api_key=API_KEY, base_url=setup.base_url)
        self._picture = Path(setup.picture) if setup.picture else PICTURE_URL

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.__aexit__(kind, error, trace)

    async def make(self, prompt: str) -> str:
        video = await self._session.generate(ImageToVideo(self._picture, prompt=prompt))
        return video.task_id

    async def make_on_new_loop(self, prompt: str) -> str:
        async with Ours(self._setup) as fresh:
            return await fresh.make(prompt)


class OursStreamed(Ours):
    """All jobs in one stream."""

    async def make_all(self, prompts: Sequence[str]) -> list[str | BaseException]:
        made: dict[int, str | BaseException] = {}
        jobs = (ImageToVideo(self._picture, prompt=prompt) for prompt in prompts)
        async for outcome in self._session.stream(jobs):
            made[outcome.index] = outcome.video.task_id if isinstance(outcome, Success) else outcome.error
        return [made[index] for index in range(len(prompts))]


class OursMisused(Ours):
    """One session for all loops, which its documentation rules out."""

    async def make_on_new_loop(self, prompt: str) -> str:
        async with self:
            return await self.make(prompt)
