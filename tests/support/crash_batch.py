"""A batch as its user writes it, in a process of its own: ``python -m tests.support.crash_batch OPTIONS``.

It says what happens on its standard output, a line of JSON each, and reads a line from its standard input before each
job if it is told to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import cattrs

from hailuo_async import AsyncSession, Failure, ImageToVideo, Outcome, SubmissionUnknownError, Success


@attrs.frozen(kw_only=True)
class Options:
    """What the batch is, and where it goes."""

    base_url: str
    journal: str
    jobs: int = 1
    max_running: int | None = None
    has_keys: bool = True
    images: str | None = None
    """The directory of the pictures; without one, each job has a URL."""
    downloads: str | None = None
    """Where the videos go; without it they are not fetched."""
    waits: bool = False
    """Whether a line on the standard input lets each job go."""


def say(word: str, **facts: Any) -> None:
    """Tells whoever started us."""
    print(json.dumps({"word": word, **facts}), flush=True)


async def jobs(options: Options) -> AsyncIterator[ImageToVideo]:
    """The jobs, the same at each run. Every fourth has the same picture."""
    for number in range(options.jobs):
        if options.waits and not await asyncio.to_thread(sys.stdin.readline):
            return
        picture: Path | str = "https://pictures.example/cat.jpg"
        if options.images is not None:
            picture = Path(options.images) / f"{number % 4}.png"
        yield ImageToVideo(picture, prompt=f"job {number}", key=f"job-{number}" if options.has_keys else None)


async def tell(session: AsyncSession, outcome: Outcome, options: Options) -> None:
    """Says how a job ended, when its video is saved if it is to be."""
    prompt = outcome.job.prompt if outcome.job is not None else None
    if isinstance(outcome, Failure):
        unknown = isinstance(outcome.error, SubmissionUnknownError)
        say("unknown" if unknown else "failure", prompt=prompt, error=repr(outcome.error))
        return
    assert isinstance(outcome, Success)
    if options.downloads is not None:
        await session.download(outcome.video, Path(options.downloads) / f"{outcome.key}.mp4")
    say("success", prompt=prompt, task=outcome.video.task_id)


async def main(options: Options) -> None:
    """Runs the batch to its end."""
    session = AsyncSession(
        base_url=options.base_url,
        journal=options.journal,
        max_running=options.max_running,
        poll_interval=(0.02, 0.1),
    )
    async with session, contextlib.aclosing(session.stream(jobs(options))) as outcomes:
        say("open")
        async for outcome in outcomes:
            await tell(session, outcome, options)
    say("closed")


if __name__ == "__main__":
    asyncio.run(main(cattrs.structure(json.loads(sys.argv[1]), Options)))
