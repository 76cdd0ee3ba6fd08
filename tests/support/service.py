"""The service's words, its jobs and pictures, and a line to it that a test holds in its hand."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import anyio
import attrs
import PIL.Image

from hailuo_async import AsyncSession, ImageToVideo
from hailuo_async._images.frame import inspect_image
from hailuo_async._io.http import Http
from hailuo_async._io.tls import ResumingContext
from hailuo_async._rules.wire import Answer, Request, build_submit, decipher, unknown
from hailuo_async.emulator import Emulator
from hailuo_async.jobs import Job
from hailuo_async.settings import Settings

from .https import speak_https, trusting

KEY = "sk-secret-4711"
IMAGE_URL = "https://pictures.example/cat.jpg"
SUBMIT_PATH = "/api/v1/minimax/hailuo-2.3-i2v/async"

# --- What the service says --------------------------------------------------------------------------------------------


def envelope(data: Mapping[str, Any]) -> dict[str, Any]:
    """A success."""
    return {"code": 0, "message": "success", "data": dict(data)}


def taken(task_id: object = "task-1") -> dict[str, Any]:
    """The answer to a submit that was accepted."""
    return envelope({"status": "pending", "task_id": task_id, "model_id": "minimax-hailuo-2.3-i2v"})


def running(task_id: str = "task-1", status: str = "processing") -> dict[str, Any]:
    """The answer about a task that has not ended."""
    return envelope({"status": status, "task_id": task_id, "model_id": "minimax-hailuo-2.3-i2v"})


def finished(task_id: str = "task-1", url: str | None = None) -> dict[str, Any]:
    """The answer about a task whose video is there."""
    resource = {"url": url or f"https://results.example/{task_id}.mp4?sig=secret", "type": "video", "format": "mp4"}
    return envelope({"status": "success", "task_id": task_id, "result": {"resources": [resource]}})


def failed(task_id: str = "task-1", reason: str = "the model gave up") -> dict[str, Any]:
    """The answer about a task that failed."""
    return envelope({"status": "failed", "task_id": task_id, "error": {"message": reason}})


def refusal(status: int, message: str) -> dict[str, Any]:
    """The envelope of a refusal."""
    return {"code": status, "message": message}


CONCURRENT = refusal(429, "Concurrent limit exceeded: the team's running tasks")
TOO_MANY = refusal(429, "Rate limit exceeded: requests per minute")

# --- Jobs and pictures ------------------------------------------------------------------------------------------------


def job(prompt: str | None = "a cat", key: str | None = None) -> ImageToVideo:
    """A job whose picture is a URL: nothing is read for it."""
    return ImageToVideo(IMAGE_URL, prompt=prompt, key=key)


def jobs(count: int) -> Iterator[ImageToVideo]:
    """Jobs told apart by their prompts, made one at a time."""
    return (job(f"job {number}") for number in range(count))


def picture(width: int = 320, height: int = 320, format: str = "PNG", seed: int = 5) -> bytes:
    """A picture of noise: as a PNG it has three bytes for every pixel."""
    image = PIL.Image.frombytes("RGB", (width, height), Random(seed).randbytes(3 * width * height))
    held = io.BytesIO()
    image.save(held, format)
    return held.getvalue()


def request_for(asked: Job) -> Request:
    """The POST for a job, its images looked at. Blocks."""
    return build_submit(asked, {field: inspect_image(field, source) for field, source in asked.frames.items()})


# --- Lines to the service ---------------------------------------------------------------------------------------------


def make_settings(base_url: str, **changes: Any) -> Settings:
    """Settings of a session, as its defaults have them, that asks often."""
    given: dict[str, Any] = {"api_key": KEY, "base_url": base_url, "poll_interval": (0.01, 0.05)}
    return AsyncSession(**given | changes)._settings


@asynccontextmanager
async def line_to(
    base_url: str, session: aiohttp.ClientSession | None = None, tls: ResumingContext | None = None
) -> AsyncIterator[Http]:
    """The HTTP edge alone. Over https it trusts the stand-ins, unless ``tls`` is given."""
    is_ours = session is None and base_url.startswith("https:")
    line = Http.open(make_settings(base_url), session, tls or (trusting() if is_ours else None))
    try:
        yield line
    finally:
        await line.aclose()


def told(status: int, content: object, headers: Mapping[str, str] | None = None) -> Answer:
    """What an answer means, read as the edge reads it."""
    return decipher(status, headers or {}, json.dumps(content).encode())


Reply = Callable[[Request], Awaitable[Answer]]


@attrs.define(eq=False)
class Line:
    """A ``Transport`` that a test answers on: by itself it accepts every job, and each is finished when asked about."""

    on_post: Reply | None = None
    on_query: Reply | None = None
    posts: list[Request] = attrs.field(factory=list)
    queries: list[Request] = attrs.field(factory=list)
    is_closed: bool = False
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """Answers as the test says."""
        if request.method == "POST":
            self.posts.append(request)
            return await self.on_post(request) if self.on_post else self.accept()
        self.queries.append(request)
        return await self.on_query(request) if self.on_query else told(200, finished(asked_about(request)))

    def accept(self) -> Answer:
        """The service takes a job, under the next id."""
        return told(200, taken(f"task-{next(self._numbers)}"))

    async def aclose(self) -> None:
        self.is_closed = True

    @property
    def prompts(self) -> list[str | None]:
        """The prompts that were sent, in order."""
        return [prompt_of(request) for request in self.posts]

    def session(self, **settings: Any) -> AsyncSession:
        """A session over this line that asks often."""
        given: dict[str, Any] = {"poll_interval": (0.005, 0.02)}
        return AsyncSession(api_key=KEY, base_url="http://localhost", transport=self, **(given | settings))


async def never(request: Request) -> Answer:
    """The task that is asked about runs for ever."""
    return told(200, running(asked_about(request)))


async def lost(request: Request) -> Answer:
    """The service may have the job, or not."""
    return unknown("the connection was cut")


async def no_such_key(request: Request) -> Answer:
    """The key is not valid."""
    return told(401, refusal(401, "Authentication failed: no such key"))


async def no_answer(request: Request) -> Answer:
    """Nothing comes, and nothing is cut."""
    await anyio.sleep_forever()
    raise AssertionError


@asynccontextmanager
async def emulated(*, tls: bool = False, **settings: Any) -> AsyncIterator[tuple[Emulator, AsyncSession]]:
    """An emulator that works fast, and a session on it; over https with ``tls``, under the fixture ``trusted``."""
    given: dict[str, Any] = {
        "api_key": KEY,
        "generation_s": 0.02,
        "spread": 0.0,
        "max_running": None,
        "requests_per_minute": None,
    }
    async with Emulator(**(given | settings)) as emulator:
        if tls:
            await speak_https(emulator)
        async with AsyncSession(api_key=KEY, base_url=emulator.url, poll_interval=(0.01, 0.05)) as session:
            yield emulator, session


def asked_about(request: Request) -> str:
    """The task that a query is about."""
    return request.path.rpartition("/")[2]


def prompt_of(request: Request) -> str | None:
    """The prompt of a submit whose picture is a URL."""
    body = b"".join(part for part in request.body if isinstance(part, bytes))
    found: str | None = json.loads(body).get("prompt")
    return found


def body_of(request: Request) -> bytes:
    """All that is sent. Blocks."""
    return b"".join(part if isinstance(part, bytes) else b"".join(part.pieces()) for part in request.body)


async def settle() -> None:
    """Lets all that can happen without a timer, a thread or a socket happen."""
    for _ in range(50):
        await asyncio.sleep(0)


async def until(holds: Callable[[], object]) -> None:
    """Lets the loop work until ``holds()``. A test that waits in vain is stopped by its time limit."""
    with anyio.fail_after(60):
        while not holds():  # noqa: ASYNC110 (there is no event to wait for)
            await anyio.sleep(0.001)
