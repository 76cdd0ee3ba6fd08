"""The example's web handlers on real servers, and the visitors that come to them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import anyio
import attrs

from hailuo_async import Status
from hailuo_async.emulator import Emulator

from .running_emulator import credentials
from .service import picture

ROOT = Path(__file__).parents[2]
#: Whole programs, as a reader would copy them.
EXAMPLES = ROOT / "tests" / "examples"
OWN_ROUTES, AIOHTTP = ((EXAMPLES / f"{name}.py").read_text("utf-8") for name in ("own_routes", "aiohttp_app"))
UVICORN = ["app:app", "--timeout-graceful-shutdown", "3"]
#: ``web.run_app`` as the program calls it, but for the address, which it prints.
_RUN_AIOHTTP = """
import runpy, socket
from aiohttp import web
line, run_app = socket.create_server(("127.0.0.1", 0)), web.run_app
print(f"http://127.0.0.1:{line.getsockname()[1]}", flush=True)
web.run_app = lambda app, port, **options: run_app(app, sock=line, access_log=None, print=None, **options)
runpy.run_path("app.py", run_name="__main__")
"""
#: Each app, and what serves it: but for the port, which is a free one.
SERVERS: dict[str, tuple[str, Sequence[str]]] = {
    "fastapi": (OWN_ROUTES, ["-m", "uvicorn", *UVICORN, "--port", "0", "--no-access-log"]),
    "without a time": (OWN_ROUTES, ["-m", "uvicorn", "app:app", "--port", "0", "--no-access-log"]),
    "aiohttp": (AIOHTTP, ["-c", _RUN_AIOHTTP]),
}
PICTURE = picture()

T = TypeVar("T")


# --- Servers ----------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Server:
    """An app in a process of its own, which may be ended and started anew."""

    _command: Sequence[str]
    _folder: Path
    _environment: dict[str, str]
    _url: str = attrs.field(default="", init=False)
    _up: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _process: asyncio.subprocess.Process | None = attrs.field(default=None, init=False)
    _listening: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    async def start(self) -> str:
        """Its URL, as soon as it serves."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *self._command),
            cwd=self._folder,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._listening = asyncio.create_task(self._listen(self._process))
        return await self.url()

    async def url(self) -> str:
        """Where it serves, as soon as it does: not while it is about to end."""
        with anyio.fail_after(120):
            await self._up.wait()
        return self._url

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code, when it has ended by that signal."""
        assert self._process is not None
        assert self._listening is not None
        self._up = anyio.Event()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        with anyio.fail_after(120):
            await self._listening
            return await self._process.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            found = re.search(rb"http://127\.0\.0\.1:[0-9]+", line)
            if found and not self._up.is_set():
                self._url = found.group().decode()
                self._up.set()


@contextlib.asynccontextmanager
async def app_running(name: str, folder: Path, emulator: Emulator, **changes: str) -> AsyncIterator[Server]:
    """The app of that name, serving from ``folder``, stopped at the end. ``changes`` are to settings of the blocks."""
    app, command = SERVERS[name]
    for setting, value in changes.items():
        app, count = re.subn(rf"\b{setting}=\w+", f"{setting}={value}", app)
        assert count == 1
    await anyio.Path(folder / "app.py").write_text(app, "utf-8")
    server = Server(
        command,
        folder,
        {**os.environ, **credentials(emulator), "PYTHONPATH": f"{folder}:{ROOT}", "TMPDIR": str(folder / "tmp")},
    )
    await anyio.Path(folder / "tmp").mkdir(exist_ok=True)
    await server.start()
    try:
        yield server
    finally:
        await server.end()


# --- Visitors ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def visiting() -> AsyncIterator[aiohttp.ClientSession]:
    """As many connections as visitors need, each used once."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as client:
        yield client


def form(prompt: str, image: bytes = PICTURE) -> aiohttp.FormData:
    """A picture and its prompt, as a browser sends them."""
    data = aiohttp.FormData()
    data.add_field("image", io.BytesIO(image), filename="cat.png", content_type="image/png")
    data.add_field("prompt", prompt)
    return data


async def told_by(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Every status that the events of a job tell."""
    async for line in answer.content:
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))["status"]


async def hang_up_in_the_body(url: str) -> None:
    """Sends a half of what it has announced, and leaves."""
    place = urlsplit(url)
    _, writer = await asyncio.open_connection(place.hostname, place.port)
    head = f"POST /videos HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {2 * len(PICTURE)}\r\n"
    part = '--edge\r\nContent-Disposition: form-data; name="image"; filename="cat.png"\r\n\r\n'
    writer.write(f"{head}Content-Type: multipart/form-data; boundary=edge\r\n\r\n{part}".encode() + PICTURE)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@attrs.define(eq=False)
class Crowd:
    """Visitors who each ask for a video, and come back when the server was ended under them."""

    _server: Server
    _client: aiohttp.ClientSession
    accepted: dict[str, str] = attrs.field(factory=dict)
    """The prompt of each job that was answered with a 202, by its id."""
    delivered: dict[str, str] = attrs.field(factory=dict)
    """A digest of each video that arrived whole, by the id of its job."""
    refused: dict[str, tuple[int, str]] = attrs.field(factory=dict)
    """Status and error of each that did not end in a video."""
    _tries: Iterator[int] = attrs.field(factory=itertools.count, init=False)

    async def visit(self, number: int) -> None:
        """One visitor. Of nine, three hang up: while they send, while they wait, and while the video comes."""
        if number % 9 == 0:
            with contextlib.suppress(OSError):
                await hang_up_in_the_body(await self._server.url())
            return
        job = await self._again(self._ask)
        if number % 9 == 3:
            await self._again(self._watch, job, True)
        else:
            await self.finish(job, hangs_up=number % 9 == 6)

    async def finish(self, job: str, *, hangs_up: bool = False) -> None:
        """Waits for a job and takes its video, or a piece of it, or learns why there is none."""
        await self._again(self._watch, job, False)
        await self._again(self._fetch, job, hangs_up)

    async def _again(self, visit: Callable[..., Awaitable[T]], *arguments: object) -> T:
        while True:
            url = await self._server.url()
            with contextlib.suppress(aiohttp.ClientError, OSError):
                return await visit(url, *arguments)

    async def _ask(self, url: str) -> str:
        prompt = f"try {next(self._tries)}"
        async with self._client.post(f"{url}/videos", data=form(prompt)) as answer:
            _come_back_if_it_stops(answer)
            assert answer.status == 202, await answer.text()
            job: str = (await answer.json())["id"]
        self.accepted[job] = prompt
        return job

    async def _watch(self, url: str, job: str, hangs_up: bool) -> None:
        async with self._client.get(f"{url}/videos/{job}/events") as answer:
            _come_back_if_it_stops(answer)
            assert answer.status == 200, await answer.text()
            async for status in told_by(answer):
                if hangs_up or Status(status).is_final:
                    return
        raise aiohttp.ClientPayloadError("the events ended before the job")

    async def _fetch(self, url: str, job: str, hangs_up: bool) -> None:
        async with self._client.get(f"{url}/videos/{job}/file") as answer:
            _come_back_if_it_stops(answer)
            if hangs_up:
                await answer.content.readany()
            elif answer.status == 200:
                self.delivered[job] = hashlib.sha256(await answer.read()).hexdigest()
            else:
                self.refused[job] = answer.status, (await answer.json())["error"]


def _come_back_if_it_stops(answer: aiohttp.ClientResponse) -> None:
    if answer.status == 503:
        raise aiohttp.ClientPayloadError("the session is closed")
