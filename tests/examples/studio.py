import asyncio
import logging
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

import hailuo_async as hailuo
from hailuo_async import AsyncSession, Failure, Generation, HailuoError, ImageToVideo, Video

INBOX = Path("inbox")  # ID.image and ID.txt: the picture and the prompt of each job that was accepted
session = AsyncSession(journal="videos.db", max_queued=1000)
held: dict[str | None, Generation] = {}


@asynccontextmanager
async def opened() -> AsyncGenerator[None]:
    """The session, open, and what was accepted before a restart on its way again."""
    INBOX.mkdir(exist_ok=True)
    names = [path.stem for path in INBOX.glob("*.txt")]
    async with session:
        catching_up = asyncio.create_task(catch_up(names))
        yield
        catching_up.cancel()
        await session.aclose(grace=5)


async def catch_up(names: list[str]) -> None:
    """Submits jobs again, as there is room. The journal knows them by their keys: none is paid for twice."""
    try:
        async for outcome in session.stream(await asyncio.to_thread(load, name) for name in names):
            if isinstance(outcome, Failure):
                logging.warning("%s: %s", outcome.key, outcome.error)
    except HailuoError as error:
        logging.error("not every job in the inbox was submitted: %s", error)


async def accept(picture: IO[bytes], prompt: str) -> str:
    """The id of a new job. With its picture and its prompt on disk it outlives this process."""
    name = uuid4().hex
    path = INBOX / f"{name}.image"
    job = ImageToVideo(path, prompt=prompt, key=name)
    try:
        await asyncio.to_thread(save, picture, path)
        await submit(job)
        await asyncio.to_thread(path.with_suffix(".txt").write_bytes, prompt.encode())
    except BaseException:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        raise
    return name


async def submit(job: ImageToVideo) -> Generation:
    generation = held[job.key] = await session.submit(job)
    if len(held) > 10_000:
        del held[next(iter(held))]  # the session goes on with it, and it can be found again
    return generation


async def find(name: str) -> Generation:
    """A job by its id. One of an earlier run, or of another process, is submitted again under its key."""
    return held.get(name) or await submit(await asyncio.to_thread(load, name))


async def finished(name: str) -> Video:
    generation = await find(name)
    if not generation.status.is_final:
        raise NotReadyError
    return await generation


def save(picture: IO[bytes], path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(picture, file)


def load(name: str) -> ImageToVideo:
    path = INBOX / f"{name}.txt"
    if not re.fullmatch("[0-9a-f]{32}", name) or not path.exists():
        raise NotFoundError
    return ImageToVideo(path.with_suffix(".image"), prompt=path.read_bytes().decode(), key=name)


class NotFoundError(HailuoError):
    """No job was accepted under this id."""

    http_status = 404


class NotReadyError(HailuoError):
    """The video is not there yet."""

    http_status = 409


def told(error: HailuoError) -> tuple[dict[str, str], int, dict[str, str]]:
    """An error as JSON, status and headers. Strangers learn what is wrong with their job, the log has the rest."""
    status = error.http_status
    if status >= 500:
        logging.warning("%r", error)
    words = f"{error.field} {error.rule}" if isinstance(error, hailuo.JobError) else type(error).__name__
    return {"error": words}, status, {"Retry-After": "60"} if status == 503 else {}
