"""Start: what importing the library takes, and how soon a fresh program has sent its first job."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from benchmarks.figures import Figure
from benchmarks.targets import FLOOR, LIBRARY, Target, ratios

IMPORT, FIRST_POST = "import", "from python -c to the first POST"
NEEDED = "aiohttp, attrs, cattrs, anyio"
#: As in an installation: modules are compiled once, even if the environment here forbids it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
#: A program that sends nothing in this time is broken.
PATIENCE_S = 30.0

IMPORTS = {LIBRARY: "hailuo_async", NEEDED: NEEDED, FLOOR: "aiohttp"}

_TIMED_IMPORT = """
import time
begun = time.perf_counter()
import {modules}
print(time.perf_counter() - begun)
"""

_LIBRARY_PROGRAM = """
import asyncio
from hailuo_async import AsyncSession, ImageToVideo

async def main():
    async with AsyncSession(api_key="key", base_url="{url}") as session:
        await session.generate(ImageToVideo("https://example.com/cat.jpg", prompt="a cat"))

asyncio.run(main())
"""

_FLOOR_PROGRAM = """
import asyncio
import aiohttp

async def main():
    async with aiohttp.ClientSession() as session:
        body = {{"first_frame_image": "https://example.com/cat.jpg", "prompt": "a cat"}}
        headers = {{"Authorization": "Bearer key"}}
        async with session.post("{url}/api/v1/minimax/hailuo-2.3-i2v/async", json=body, headers=headers) as response:
            await response.read()

asyncio.run(main())
"""

PROGRAMS = {LIBRARY: _LIBRARY_PROGRAM, FLOOR: _FLOOR_PROGRAM}


def measure_start(is_quick: bool) -> list[Figure]:
    """Each in fresh processes, taking turns; the median of them. The first of each is not counted: it fills caches."""
    repeats = 3 if is_quick else 15
    imported = _medians(IMPORTS, _import_ms, repeats)
    posted = _medians(PROGRAMS, _first_post_ms, repeats)
    note = f"median of {repeats} processes"
    return [
        *(Figure(subject=who, case=IMPORT, values={"took_ms": ms}, note=note) for who, ms in imported.items()),
        *(Figure(subject=who, case=FIRST_POST, values={"took_ms": ms}, note=note) for who, ms in posted.items()),
    ]


def _medians(programs: Mapping[str, str], measure: Callable[[str], float], repeats: int) -> dict[str, float]:
    rounds = [{who: measure(program) for who, program in programs.items()} for _ in range(repeats + 1)]
    return {who: statistics.median(each[who] for each in rounds[1:]) for who in programs}


def _import_ms(modules: str) -> float:
    command = [sys.executable, "-c", _TIMED_IMPORT.format(modules=modules)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return 1000 * float(done.stdout)


def _first_post_ms(program: str) -> float:
    """Milliseconds from the start of a process until the head of its POST has arrived. The process is ended then."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(PATIENCE_S)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", program.format(url=url)], env=ENVIRONMENT)
        try:
            connection, _ = server.accept()
            with connection:
                is_post = connection.recv(4) == b"POST"
                took_s = time.perf_counter() - begun
                process.kill()  # before it notices that no server answers
        finally:
            process.kill()
            process.wait()
    if not is_post:
        raise ValueError("the first request of the program is not a POST")
    return 1000 * took_s


def start_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """What an import may take at most."""
    yield from ratios(figures, (LIBRARY, IMPORT), (NEEDED, IMPORT), {"took_ms": 1.25})
