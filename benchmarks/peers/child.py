"""One client at work in a process of its own: ``python -m benchmarks.peers.child OPTIONS``. It says what it came to."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks.peers.clients import Client, Setup

_TICK_S = 0.005
"""How often the loop is asked whether it is held: a stall is known to 5 ms. Shorter ticks would cost CPU themselves."""
_TASK = re.compile(r"task-\d+")


def work(client: Callable[[Setup], Client], setup: Setup) -> dict[str, Any]:
    """All jobs at once, by one client on one loop, after another one has made one video. Measured."""
    return asyncio.run(_work(client, setup))


async def _work(client: Callable[[Setup], Client], setup: Setup) -> dict[str, Any]:
    async with client(setup) as another:
        await another.warm_up()
    _begin_a_fresh_ledger(setup.base_url)
    with _Watch() as watch:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        told = await _make_all(client(setup), setup)
        cpu_s, wall_s = time.process_time() - began_cpu_s, time.perf_counter() - began_s
    figures = {"wall_s": wall_s, "cpu_s": cpu_s, "stall_ms": watch.longest_stall_s * 1000}
    return {"measured": {**figures, "peak_rss_mb": _peak_rss_mb()}, "told": told}


def suffer(client: Callable[[Setup], Client], setup: Setup) -> dict[str, Any]:
    """All jobs at once, by one client on one loop."""
    return {"told": asyncio.run(_make_all(client(setup), setup))}


async def _make_all(client: Client, setup: Setup) -> list[list[str]]:
    async with client:
        made = await client.make_all([f"job {number}" for number in range(setup.jobs)])
    return [_told(client, each) for each in made]


def over_loops(client: Callable[[Setup], Client], setup: Setup) -> dict[str, Any]:
    """One client, and for each job a loop that is closed before the next one begins."""
    one = client(setup)

    def make(prompt: str) -> str | Exception:
        try:
            return asyncio.run(one.make_on_new_loop(prompt))
        except Exception as error:
            return error

    return {"told": [_told(one, make(f"job {number}")) for number in range(setup.jobs)]}


def _told(client: Client, made: str | BaseException) -> list[str]:
    """How a job ended (``video``, ``doubt``, ``error``), the task id that the caller was given, and what was said."""
    if isinstance(made, str):
        return ["video", _task_id(made), ""]
    word = "doubt" if isinstance(made, client.IN_DOUBT) else "error"
    return [word, getattr(made, "task_id", None) or "", f"{type(made).__name__}: {made}"]


def _task_id(video: str) -> str:
    found = _TASK.search(video)
    assert found is not None, video
    return found.group()


def _begin_a_fresh_ledger(base_url: str) -> None:
    """By hand: an HTTP client would be weighed with those that have another."""
    parts = urlsplit(base_url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(b"GET /fresh-ledger HTTP/1.1\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


class _Watch:
    """Looks in ticks how late the loop is, from when it is entered until it is left."""

    longest_stall_s = 0.0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._wait()
        return self

    def __exit__(self, *raised: object) -> None:
        self._look()
        self._handle.cancel()

    def _wait(self) -> None:
        self._handle = self._loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        self._look()
        self._wait()

    def _look(self) -> None:
        self.longest_stall_s = max(self.longest_stall_s, self._loop.time() - self._handle.when())


def _peak_rss_mb() -> float:
    """The most that this process ever held. Not ``ru_maxrss``: a fresh process inherits that from who began it."""
    return int(Path("/proc/self/status").read_text("ascii").split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # what goes wrong here is meant to
    how, where, name, setup = json.loads(sys.argv[1])
    client = getattr(import_module(f"benchmarks.peers.{where}"), name)
    print(json.dumps({"work": work, "suffer": suffer, "over_loops": over_loops}[how](client, Setup(**setup))))
