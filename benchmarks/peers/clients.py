"""How every client is driven, so that all do the same work.

This is loaded beside each of them, so it imports next to nothing: what is weighed is the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

#: Every service here takes any key.
API_KEY = "key"
#: What stands for a picture that is not sent.
PICTURE_URL = "https://example.com/picture.jpg"


class Setup(NamedTuple):
    """A client's facts about the work. A tuple, as attrs would be weighed with clients that do without it."""

    base_url: str
    jobs: int
    pending_s: float
    """How long the service works at each job. Only the bare loop makes use of it."""
    picture: str | None = None
    """The file of the picture that goes with each job; without it, a URL goes."""
    queries: int = 0
    """For the bare loop: how many it may send, over all jobs."""


class Client:
    """One client, driven through its own public calls. Entered on the loop where it works, and closed with it."""

    #: Its errors that say that the job may have been accepted.
    IN_DOUBT: tuple[type[Exception], ...] = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    async def make(self, prompt: str) -> str:
        """Has one video made, waits until it is there, and gives what names it: an id, or a URL with the id in it."""
        raise NotImplementedError

    async def make_all(self, prompts: Sequence[str]) -> list[str | BaseException]:
        """Has a video made for each prompt, all at once, and gives for each what ``make`` gives, or what it raises."""
        return await asyncio.gather(*map(self.make, prompts), return_exceptions=True)

    async def warm_up(self) -> None:
        """Does everything once, so that what is loaded at the first use is loaded."""
        await self.make("warming up")

    async def make_on_new_loop(self, prompt: str) -> str:
        """Makes one video on a loop of its own, by a client that other loops use too, as its documentation has it."""
        return await self.make(prompt)
