"""Child processes that run a batch, and are watched, stopped and killed; and a service that tells each of its steps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import attrs

from hailuo_async import emulator

from .rawserver import Exchange, RawServer, raw_server

ROOT = Path(__file__).parents[2]


@attrs.define(eq=False)
class Child:
    """A batch in a process of its own."""

    process: asyncio.subprocess.Process
    said: list[dict[str, Any]] = attrs.field(factory=list)
    _happened: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def listen(self) -> None:
        """Writes down what it says, until it says no more."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # cut short by a kill
                self.said.append(json.loads(line))
            self._happened.set()

    async def says(self, word: str, times: int = 1) -> None:
        """Returns when it has said that word so often."""
        with anyio.fail_after(120):
            while [said["word"] for said in self.said].count(word) < times:
                self._happened.clear()
                await self._happened.wait()

    def let_go(self) -> None:
        """Lets it go on to its next job."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, as soon as it has ended."""
        with anyio.fail_after(120):
            return await self.process.wait()

    def outcomes(self) -> dict[str, str]:
        """How each job ended, by its prompt."""
        return {said["prompt"]: said["word"] for said in self.said if "prompt" in said}


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Child]:
    """A child at work, killed at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.crash_batch", json.dumps(options)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MODELLIX_API_KEY": emulator.DEFAULT_API_KEY},
    )
    child = Child(process)
    listening = asyncio.create_task(child.listen())
    try:
        yield child
    finally:
        child.signal(signal.SIGKILL)
        await process.wait()
        await listening
        process._transport.close()  # type: ignore[attr-defined]


async def run(**options: Any) -> Child:
    """A child that ran to its end."""
    async with running(**options) as child:
        assert await child.ended() == 0
    return child


Hook = Callable[[str, Exchange], Awaitable[None]]


@attrs.define(eq=False)
class Stage:
    """The emulated service behind a raw server. Its steps, each told to ``hook`` before the next is taken:

    ``head``, a submit's head is read and not its body; ``posted``, its body too; ``accepted``, it is worked on and not
    answered; ``asked``, a query; ``done``, a query whose answer has the video; ``half``, half of a film is sent.
    """

    service: emulator.Service
    hook: Hook
    server: RawServer | None = None
    later_s: float = 0.0
    """How many seconds the service's clock is ahead."""

    @property
    def paid(self) -> dict[str | None, int]:
        """How many tasks were paid for, by prompt."""
        return {prompt: len(tasks) for prompt, tasks in self.service.ledger.accepted.items()}

    async def answer(self, exchange: Exchange) -> None:
        """Serves one request."""
        if exchange.method == "POST":
            await self.hook("head", exchange)
            await exchange.read_body()
            await self.hook("posted", exchange)
        request = emulator.Request.to(exchange.method, exchange.target, exchange.headers, exchange.body)
        reply = self.service.handle(request, time.time() + self.later_s)
        if exchange.method == "POST":
            await self.hook("accepted", exchange)
        elif exchange.path.startswith("/api"):
            await self.hook("done" if b'"result"' in reply.body else "asked", exchange)
        else:
            await self._send_film(exchange, reply)
            return
        await exchange.reply(reply.status, reply.body, reply.headers)

    async def _send_film(self, exchange: Exchange, reply: emulator.Reply) -> None:
        head = f"HTTP/1.1 {reply.status} Told\r\nContent-Length: {len(reply.body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items() if name != "Content-Length")
        half = len(reply.body) // 2
        await exchange.send(head.encode() + b"\r\n" + reply.body[:half])
        await self.hook("half", exchange)
        await exchange.send(reply.body[half:])


@contextlib.asynccontextmanager
async def staged(hook: Hook, **settings: Any) -> AsyncIterator[Stage]:
    """A ``Stage`` on a free port of this machine."""
    chosen = {"requests_per_minute": None, "generation_s": 0.1, "video_size": 400_000, **settings}
    stage = Stage(emulator.Service(**chosen), hook)
    async with raw_server(stage.answer) as server:
        stage.server = server
        stage.service.origin = server.url
        yield stage
