"""Jobs that another session works: how late a session that follows them hears of their ends, and what it costs.

``python -m benchmarks.following OPTIONS`` is the process that follows: it finds the jobs as soon as a line comes on its
standard input, and prints when each ended, and its CPU, as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from benchmarks.figures import Figure
from benchmarks.fleet import read_line, server_of_its_own, started
from benchmarks.targets import LIBRARY, Target
from hailuo_async import AsyncSession, Generation, ImageToVideo
from hailuo_async.emulator import DEFAULT_API_KEY, Emulator


@attrs.frozen
class Following:
    """So many jobs are followed, of which a few run at a time; ``quiet_s``: so long that none ends."""

    name: str
    jobs: int
    limit: int
    generation_s: float
    quiet_s: float | None = None


QUIET = Following("1,000 followed jobs, of which none changes", 1000, 3, 3600.0, 20.0)
BUSY = Following("120 followed jobs, 12 at a time, 3 s", 120, 12, 3.0)


def measure_following(is_quick: bool) -> list[Figure]:
    """Both, on a journal in a file and on a PostgreSQL server."""
    if is_quick:
        return [make_figure(attrs.evolve(BUSY, jobs=24), None)]
    with server_of_its_own() as new_journal:
        return [figure for each in (QUIET, BUSY) for figure in asyncio.run(_on_both(each, new_journal()))]


async def _on_both(following: Following, dsn: str) -> list[Figure]:
    return [*await asyncio.gather(_figure(following, None), _figure(following, dsn))]


def make_figure(following: Following, journal: str | None) -> Figure:
    """What the following process heard, and when."""
    return asyncio.run(_figure(following, journal))


async def _figure(following: Following, journal: str | None) -> Figure:
    with tempfile.TemporaryDirectory() as directory:
        values = await _values(following, journal or str(Path(directory, "journal.db")))
    kind = "a file" if journal is None else "PostgreSQL"
    return Figure(subject=LIBRARY, case=f"{following.name}: on {kind}", values=values)


async def _values(following: Following, journal: str) -> dict[str, float]:
    emulator = Emulator(
        max_running=following.limit,
        generation_s=following.generation_s,
        requests_per_minute=None,
        render=False,
        balance=1e9,
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(emulator)
        child = await stack.enter_async_context(
            started("benchmarks.following", (emulator.url, journal, following.jobs, following.quiet_s))
        )
        session = await stack.enter_async_context(_session(emulator.url, journal))
        await read_line(child)
        generations = [await session.submit(_job(number)) for number in range(following.jobs)]
        assert child.stdin is not None
        child.stdin.write(b"find\n")
        if following.quiet_s is None:
            ended = await _ends(generations)
        heard = json.loads(await read_line(child))
        await child.wait()
    share = {"cpu_percent": 100 * heard["cpu_s"] / heard["seconds"]}
    if following.quiet_s is not None:
        return share
    late_s = [theirs - ours for ours, theirs in zip(ended, heard["at"], strict=True)]
    return {**share, "late_s": statistics.median(late_s), "late_p95_s": statistics.quantiles(late_s, n=20)[-1]}


def following_targets(figures: Sequence[Figure]) -> Iterator[Target]:
    """News come soon, and silence costs nothing."""
    for figure in figures:
        if "late_p95_s" in figure.values:
            yield Target(f"{figure.case}: heard late, p95, s", figure.values["late_p95_s"], 0.1)
        else:
            yield Target(f"{figure.case}: percent of a core", figure.values["cpu_percent"], 1.0)


async def _ends(generations: Sequence[Generation]) -> list[float]:
    """When each ended."""

    async def end(generation: Generation) -> float:
        await generation
        return time.monotonic()

    return await asyncio.gather(*map(end, generations))


def _job(number: int) -> ImageToVideo:
    return ImageToVideo("https://example.com/cat.jpg", prompt=f"job {number}", key=f"job {number}")


@asynccontextmanager
async def _session(url: str, journal: str) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(api_key=DEFAULT_API_KEY, base_url=url, journal=journal, max_queued=2000) as session:
        yield session


# --- The process that follows ----------------------------------------------------------------------------------------


async def follow(url: str, journal: str, jobs: int, quiet_s: float | None) -> None:
    """A session that finds all jobs on a signal, and waits for them; or so long, if none ends."""
    async with _session(url, journal) as session:
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        found = [await session.find(f"job {number}") for number in range(jobs)]
        await anyio.sleep(0 if quiet_s is None else 2.0)
        cpu_s, began, at = time.process_time(), time.monotonic(), list[float]()
        if quiet_s is None:
            at = await _ends(found)
        else:
            await anyio.sleep(quiet_s)
        cpu_s, seconds = time.process_time() - cpu_s, time.monotonic() - began
        print(json.dumps({"at": at, "cpu_s": cpu_s, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    asyncio.run(follow(*json.loads(sys.argv[1])))
